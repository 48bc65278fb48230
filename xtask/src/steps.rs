//! Numbered steps, how long each took, and a table of them at the end.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use crate::counts::{Counts, Told};
use crate::failure::{Failure, Result};

/// What came of a step that did not fail outright.
pub(crate) enum Outcome {
    /// Done.
    Done,
    /// Done, with something to say about it.
    Said(String),
    /// Not run, and why.
    Skipped(String),
    /// Tests were run, and what those said that failed.
    Counted(Counts, Told),
}

struct Row {
    name: &'static str,
    result: &'static str,
    note: String,
    counts: Option<Counts>,
    took: Duration,
}

/// The steps of one task.
pub(crate) struct Steps {
    total: usize,
    number: usize,
    only: Option<String>,
    started: Instant,
    rows: Vec<Row>,
    told: Told,
}

impl Steps {
    /// A task of `total` steps.
    pub(crate) fn new(total: usize) -> Self {
        Self {
            total,
            number: 0,
            only: None,
            started: Instant::now(),
            rows: Vec::new(),
            told: Told::default(),
        }
    }

    /// Runs only the steps with `name` in their names, and passes over the others in silence.
    #[must_use]
    pub(crate) fn only(mut self, name: Option<&str>) -> Self {
        self.only = name.map(str::to_owned);
        self
    }

    /// Whether no step was run at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Runs a step that is no part of the whole, where it was asked for by its name.
    pub(crate) fn run_if_asked(
        &mut self,
        name: &'static str,
        step: impl FnOnce() -> Result<Outcome>,
    ) -> Result<()> {
        match self.only.as_deref() {
            Some(only) if only == name => {
                self.total += 1;
                self.run(name, step)
            }
            _ => Ok(()),
        }
    }

    /// Runs one step, says so, and remembers what came of it. The failure is also returned, so that a task which
    /// cannot go on may stop.
    pub(crate) fn run(&mut self, name: &'static str, step: impl FnOnce() -> Result<Outcome>) -> Result<()> {
        self.number += 1;
        if self.only.as_ref().is_some_and(|only| !name.contains(only)) {
            return Ok(());
        }
        let number = self.number;
        println!("\n[{number}/{}] {name}", self.total);
        let started = Instant::now();
        let outcome = step();
        let took = started.elapsed();
        let (result, note, counts) = match &outcome {
            Ok(Outcome::Done) => ("ok", String::new(), None),
            Ok(Outcome::Said(note)) => ("ok", note.clone(), None),
            Ok(Outcome::Skipped(why)) => ("skipped", why.clone(), None),
            Ok(Outcome::Counted(counts, _)) => {
                (if counts.failed == 0 { "ok" } else { "FAILED" }, counts.to_string(), Some(*counts))
            }
            Err(_) => ("FAILED", "see above".to_owned(), None),
        };
        if let Err(failure) = &outcome {
            println!("{failure}");
        }
        println!("[{number}/{}] {name}: {result} in {}{}", self.total, seconds(took), after_dash(&note));
        self.rows.push(Row { name, result, note, counts, took });
        if let Outcome::Counted(_, told) = outcome? {
            self.told.add(told);
        }
        Ok(())
    }

    /// The sum of all counts; a step that is not itself a test run counts as one check, passed or failed.
    pub(crate) fn counts(&self) -> Counts {
        self.rows.iter().fold(Counts::default(), |sum, row| {
            sum + row.counts.unwrap_or(match row.result {
                "ok" => Counts { passed: 1, ..Counts::default() },
                "skipped" => Counts { skipped: 1, ..Counts::default() },
                _ => Counts { failed: 1, ..Counts::default() },
            })
        })
    }

    /// The table: a line for each step and one for the whole.
    pub(crate) fn table(&self) -> String {
        let width = self.rows.iter().map(|row| row.name.len()).max().unwrap_or(0).max("total".len());
        let mut table = String::new();
        for row in &self.rows {
            let took = seconds(row.took);
            let dash = after_dash(&row.note);
            let _infallible = writeln!(table, "  {:width$}  {:7}  {took:>8}{dash}", row.name, row.result);
        }
        let took = seconds(self.started.elapsed());
        let _infallible = writeln!(table, "  {:width$}  {:7}  {took:>8}", "total", "");
        table
    }

    /// Prints what failed tests said, and the table, with a line above that says what it is.
    pub(crate) fn print_table(&self, title: &str) {
        if let Some(told) = self.told.text() {
            println!("\nWhat failed, once more:\n{told}");
        }
        println!("\n{title}\n{}", self.table().trim_end());
    }

    /// An error when a step has failed.
    pub(crate) fn expect_all(&self) -> Result<()> {
        let failed: Vec<_> =
            self.rows.iter().filter(|row| row.result == "FAILED").map(|row| row.name).collect();
        if failed.is_empty() { Ok(()) } else { Err(Failure::new(format!("failed: {}", failed.join(", ")))) }
    }
}

fn after_dash(note: &str) -> String {
    if note.is_empty() { String::new() } else { format!("  ({note})") }
}

/// A duration as a person reads it: milliseconds, seconds, or minutes and seconds.
pub(crate) fn seconds(took: Duration) -> String {
    match took.as_secs_f64() {
        s if s < 0.1 => format!("{:.1} ms", s * 1e3),
        s if s < 100.0 => format!("{s:.1} s"),
        s => format!("{:.0} m {:02.0} s", (s / 60.0).floor(), s % 60.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_is_counted_and_listed() {
        let mut steps = Steps::new(4);
        steps.run("format", || Ok(Outcome::Done)).unwrap();
        steps.run("advisories", || Ok(Outcome::Skipped("no database".into()))).unwrap();
        let counted = Counts { passed: 5, failed: 1, skipped: 2 };
        steps.run("tests", || Ok(Outcome::Counted(counted, Told::default()))).unwrap();
        assert!(steps.run("lint", || Err(Failure::new("a warning"))).is_err());

        assert_eq!(steps.counts(), Counts { passed: 6, failed: 2, skipped: 3 });
        let table = steps.table();
        assert!(
            table.contains("format") && table.contains("(no database)") && table.contains("total"),
            "{table}"
        );
        assert_eq!(steps.expect_all().unwrap_err().to_string(), "error: failed: tests, lint");
    }

    #[test]
    fn one_step_can_be_run_alone() {
        let mut steps = Steps::new(2).only(Some("form"));
        steps.run("lint", || Err(Failure::new("is not run"))).unwrap();
        assert!(steps.is_empty());
        steps.run("format", || Ok(Outcome::Done)).unwrap();
        assert_eq!(steps.counts(), Counts { passed: 1, ..Counts::default() });
    }

    #[test]
    fn a_step_beyond_the_whole_is_run_by_its_name_alone() {
        for (only, is_run) in [(None, false), (Some("kill"), false), (Some("kills"), true)] {
            let mut steps = Steps::new(1).only(only);
            steps.run_if_asked("kills", || Ok(Outcome::Done)).unwrap();
            assert_eq!(!steps.is_empty(), is_run, "{only:?}");
        }
    }

    #[test]
    fn durations_read_well() {
        let of = |s: f64| seconds(Duration::from_secs_f64(s));
        assert_eq!([of(0.0123), of(4.26), of(125.0)], ["12.3 ms", "4.3 s", "2 m 05 s"]);
    }
}
