//! The price of language runtimes where four languages are one file: `examples/edge-shop`, a fresh sandbox for each request
//! beside one that is used again, as its manifest has it.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::cost_of;
use crate::bench::figures::Spread;
use crate::failure::Result;
use crate::workspace::Workspace;

/// The example, and what `--language` calls it.
pub(super) const NAME: &str = "edge-shop";
/// What is asked: it is read from the store, through all four components where the sandbox is fresh.
const PATH: &str = "/products/saw";
/// How much longer a request may take in a fresh sandbox.
const TIMES_MAX: f64 = 3.0;
/// What the server is told where each request is to have a sandbox of its own: the manifest says that a sandbox is used again.
const FRESH: [&str; 2] = ["--reuse-requests", "1"];

/// Processor time of the server for a request, in microseconds, of each round.
#[derive(Default)]
pub(super) struct Composed {
    fresh: Vec<f64>,
    again: Vec<f64>,
    /// Why there is nothing, if there is nothing.
    pub(super) missing: Option<String>,
}

impl Composed {
    /// Builds and composes it, and measures both.
    pub(super) fn round(&mut self, workspace: &Workspace, results: &Path) -> Result<()> {
        let example = workspace.root.join("examples").join(NAME);
        let log = results.join("logs/edge-shop.log");
        workspace.run_tenon(["build", "--quiet"]).arg(&example).log_to(&log).capture()?;
        // Nobody has ordered anything.
        let data: PathBuf = workspace.target.join("bench/edge-shop");
        let _nothing_there = fs::remove_dir_all(&data);
        let serve = workspace
            .run_tenon(["serve", "--workers", "1"])
            .arg(&example)
            .env("TENON_DATA", &data)
            .log_to(&log);
        let fresh = cost_of(serve.clone().args(FRESH), &log, PATH);
        let again = cost_of(serve, &log, PATH);
        let _gone = fs::remove_dir_all(&data);
        self.fresh.push(fresh?);
        self.again.push(again?);
        Ok(())
    }

    /// How many times longer a fresh sandbox takes, of the middles of all rounds.
    fn times(&self) -> Option<f64> {
        let middle = |of: &[f64]| Spread::of(of.iter().copied()).map(|spread| spread.median);
        Some(middle(&self.fresh)? / middle(&self.again)?)
    }

    fn verdict(&self) -> &'static str {
        match self.times() {
            None => "not measured",
            Some(times) if times <= TIMES_MAX => "hit",
            Some(_) => "miss",
        }
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        let mut text = format!("examples/{NAME}, four languages in one file, GET {PATH}: ");
        let spread = |of: &[f64]| Spread::of(of.iter().copied());
        let _infallible = match (&self.missing, spread(&self.fresh), spread(&self.again), self.times()) {
            (None, Some(fresh), Some(again), Some(times)) => writeln!(
                text,
                "{:.0} µs fresh, {:.0} again, {times:.1} times; aim: at most {TIMES_MAX:.1}, {}",
                fresh.median,
                again.median,
                self.verdict()
            ),
            (why, ..) => writeln!(text, "not measured: {}", why.as_deref().unwrap_or("nobody asked for it")),
        };
        text
    }

    /// For programs.
    pub(super) fn json(&self) -> Value {
        let spread = |of: &[f64]| Spread::of(of.iter().copied()).map(|spread| spread.json());
        json!({
            "example": NAME, "path": PATH, "fresh_us": spread(&self.fresh), "again_us": spread(&self.again),
            "times": self.times().map(|times| (times * 1e3).round() / 1e3), "times_max": TIMES_MAX,
            "verdict": self.verdict(), "missing": self.missing,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(fresh: &[f64], again: &[f64]) -> Composed {
        Composed { fresh: fresh.to_vec(), again: again.to_vec(), missing: None }
    }

    #[test]
    fn the_aim_is_hit_missed_or_not_measured() {
        let hit = of(&[900.0, 600.0, 580.0], &[200.0, 190.0, 240.0]);
        assert!(
            hit.text().ends_with("600 µs fresh, 200 again, 3.0 times; aim: at most 3.0, hit\n"),
            "{}",
            hit.text()
        );
        assert_eq!((&hit.json()["times"], &hit.json()["verdict"]), (&json!(3.0), &json!("hit")));
        let miss = of(&[601.0], &[200.0]);
        assert!(miss.text().ends_with("at most 3.0, miss\n"), "{}", miss.text());
        assert_eq!(miss.json()["fresh_us"]["median"], 601.0);
        let nothing = Composed { missing: Some("no compiler".into()), ..Composed::default() };
        assert!(nothing.text().ends_with("not measured: no compiler\n"), "{}", nothing.text());
        assert_eq!(
            (&nothing.json()["times"], &nothing.json()["verdict"]),
            (&Value::Null, &json!("not measured"))
        );
    }

    #[test]
    fn the_example_reuses_its_sandboxes_unless_it_is_told_not_to() {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(NAME);
        let manifest = fs::read_to_string(manifest.join("composition.toml")).unwrap();
        assert!(manifest.contains("\nreuse = { requests = "), "{manifest}");
    }
}
