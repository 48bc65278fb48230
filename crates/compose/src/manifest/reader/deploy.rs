//! `[deploy]` and `[deploy.rollout]`.

use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use tenon_model::{ROUTES_MAX, RolloutPlan, STEPS_MAX, Step};
use toml::de::DeValue;

use super::super::Deploy;
use super::{Reader, Table};

pub(in super::super) const DEPLOY_KEYS: [&str; 5] = ["tenant", "app", "routes", "health", "rollout"];
pub(in super::super) const ROLLOUT_KEYS: [&str; 9] =
    ["steps", "hold", "sticky", "chosen", "shadow", "errors", "p99", "samples", "crashes"];

/// How long a step lasts where nothing is said.
const HOLD: Duration = Duration::from_secs(60);
/// The longest path of a health probe, in bytes.
const HEALTH_BYTES_MAX: usize = 1_024;

impl Reader<'_> {
    pub(super) fn deploy(&mut self, top: &Table<'_>) -> Deploy {
        let Some(table) = self.table(top, "deploy") else { return Deploy::default() };
        self.known_keys(table, &DEPLOY_KEYS, "in [deploy]");
        Deploy {
            tenant: self.parsed(table, "tenant"),
            app: self.parsed(table, "app"),
            routes: self.routes(table),
            health: self.health(table),
            rollout: self.rollout(table),
        }
    }

    /// A text that becomes a value of its own, or a finding.
    fn parsed<T: FromStr<Err: Display>>(&mut self, table: &Table<'_>, key: &str) -> Option<T> {
        let (text, span) = self.string(table, key)?;
        match text.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                self.bad_value(span, format!("`{key}` cannot be `{text}`"), format!("{error}."));
                None
            }
        }
    }

    fn routes(&mut self, table: &Table<'_>) -> Vec<tenon_model::Route> {
        let written = self.strings(table, "routes").unwrap_or_default();
        if written.len() > ROUTES_MAX {
            let span = table.get("routes").map_or(0..0, toml::Spanned::span);
            self.bad_value(
                span,
                format!("an app has at most {ROUTES_MAX} routes; these are {}", written.len()),
                "Join some with `/*`, or `*.` before a host.",
            );
        }
        let mut routes = Vec::new();
        for (index, route) in written.into_iter().enumerate() {
            match route.name.parse() {
                Ok(parsed) => routes.push(parsed),
                Err(error) => {
                    let span = table
                        .get("routes")
                        .and_then(|routes| routes.get_ref().get(index))
                        .map_or(0..0, toml::Spanned::span);
                    self.bad_value(
                        span,
                        format!("`{}` is not a route: {error}", route.name),
                        "Write `host/path`: \"shop.example/*\", \"*.shop.example/api/*\", \"*/health\".",
                    );
                }
            }
        }
        routes
    }

    fn health(&mut self, table: &Table<'_>) -> Option<String> {
        let (path, span) = self.string(table, "health")?;
        let is_path = path.starts_with('/') && path.len() <= HEALTH_BYTES_MAX;
        if !is_path || !path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
            self.bad_value(
                span,
                format!("`health` cannot be `{path}`"),
                "Write a path that begins with `/`: \"/health\".",
            );
            return None;
        }
        Some(path)
    }

    fn rollout(&mut self, deploy: &Table<'_>) -> Option<RolloutPlan> {
        let table = self.table(deploy, "rollout")?;
        self.known_keys(table, &ROLLOUT_KEYS, "in [deploy.rollout]");
        let mut plan = RolloutPlan::at_once();
        let mut hold = HOLD;
        self.time(table, "hold", "1min", 0, &mut hold);
        plan.steps = self.steps(table, hold);
        if let Some(sticky) = self.parsed(table, "sticky") {
            plan.sticky = sticky;
        }
        plan.chosen = self.parsed(table, "chosen");
        if let Some(shadow) = self.number(table, "shadow", 0, 100) {
            plan.shadow_percent = u8::try_from(shadow).unwrap_or(100);
        }
        let tolerance = &mut plan.tolerance;
        self.count(table, "errors", 0, &mut tolerance.errors_per_mille);
        self.count(table, "p99", 0, &mut tolerance.p99_percent);
        self.count(table, "samples", 1, &mut tolerance.samples);
        self.count(table, "crashes", 0, &mut tolerance.crashes);
        Some(plan)
    }

    /// Shares that grow, each from 1 to 99.
    fn steps(&mut self, table: &Table<'_>, hold: Duration) -> Vec<Step> {
        let Some(value) = table.get("steps") else { return Vec::new() };
        let percent = |value: &toml::Spanned<DeValue<'_>>| match value.get_ref() {
            DeValue::Integer(number) => u8::from_str_radix(number.as_str(), number.radix()).ok(),
            _ => None,
        };
        let shares: Option<Vec<u8>> =
            value.get_ref().as_array().and_then(|array| array.iter().map(percent).collect());
        let fits = |shares: &Vec<u8>| {
            shares.len() <= STEPS_MAX
                && shares.iter().all(|share| (1..=99).contains(share))
                && shares.is_sorted_by(|left, right| left < right)
        };
        match shares.filter(fits) {
            Some(shares) => shares.into_iter().map(|percent| Step { percent, hold }).collect(),
            None => {
                let expected = format!("at most {STEPS_MAX} growing shares from 1 to 99, as in [5, 25, 50]");
                self.wrong_type("steps", &expected, value);
                Vec::new()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tenon_model::Sticky;

    use super::*;
    use crate::Manifest;

    #[test]
    fn reads_where_and_how_an_app_is_deployed() {
        let manifest = Manifest::parse(
            "tenon.toml",
            "[deploy]\ntenant = \"acme\"\napp = \"shop\"\nroutes = [\"shop.example\", \"*/health\"]\nhealth = \"/up\"\n\
             [deploy.rollout]\nsteps = [5, 50]\nhold = \"30s\"\nsticky = \"header:x-user\"\nchosen = \"cookie:canary=1\"\n\
             shadow = 10\nerrors = 5\np99 = 150\nsamples = 20\ncrashes = 3\n",
        )
        .unwrap();
        let deploy = manifest.deploy;
        assert_eq!(deploy.tenant.unwrap().as_str(), "acme");
        assert_eq!(deploy.app.unwrap().as_str(), "shop");
        let routes: Vec<_> = deploy.routes.iter().map(ToString::to_string).collect();
        assert_eq!(routes, ["shop.example/*", "*/health"]);
        assert_eq!(deploy.health.as_deref(), Some("/up"));
        let plan = deploy.rollout.unwrap();
        let step = |percent| Step { percent, hold: Duration::from_secs(30) };
        assert_eq!(plan.steps, [step(5), step(50)]);
        assert_eq!(plan.sticky, Sticky::Header("x-user".into()));
        assert_eq!(plan.chosen.unwrap().to_string(), "cookie:canary=1");
        let tolerance = plan.tolerance;
        assert_eq!((plan.shadow_percent, tolerance.errors_per_mille, tolerance.p99_percent), (10, 5, 150));
        assert_eq!((tolerance.samples, tolerance.crashes), (20, 3));
    }

    #[test]
    fn without_the_table_nothing_is_said() {
        assert_eq!(Manifest::parse("tenon.toml", "").unwrap().deploy, Deploy::default());
        let manifest = Manifest::parse("tenon.toml", "[deploy]\n[deploy.rollout]\n").unwrap();
        assert!(manifest.deploy.rollout.unwrap().is_at_once());
    }

    #[test]
    fn what_cannot_be_meant_is_found_with_its_place() {
        for (text, place) in [
            ("tenant = \"A\"", 10),
            ("app = \"a/b\"", 7),
            ("routes = [\"a.b\", \"/x\"]", 18),
            ("health = \"up\"", 10),
            ("rollout = { steps = [50, 5] }", 21),
            ("rollout = { steps = [0] }", 21),
            ("rollout = { sticky = \"ip\" }", 22),
            ("rollout = { chosen = \"x\" }", 22),
            ("rollout = { shadow = 101 }", 22),
        ] {
            let found = Manifest::parse("tenon.toml", &format!("[deploy]\n{text}\n")).unwrap_err();
            let found: Vec<_> = found.iter().collect();
            let at = found[0].at.as_ref().and_then(|at| at.position).map(|at| (at.line, at.column));
            assert_eq!((found.len(), at), (1, Some((2, place))), "{text}: {found:?}");
        }
    }
}
