//! The load generator, and what it reports.

use std::net::SocketAddr;

use serde_json::Value;

use super::machine::on_core;
use crate::failure::{Failure, Result};
use crate::tools;
use crate::workspace::Workspace;

/// One load.
pub(super) struct Load {
    /// Keep-alive connections, each with one request under way.
    pub(super) connections: usize,
    /// How long.
    pub(super) seconds: u64,
    /// Requests a second, over all connections; as many as are answered where there is none.
    pub(super) rate: Option<u32>,
    /// Whom to ask.
    pub(super) address: SocketAddr,
    /// What to ask for.
    pub(super) path: &'static str,
    /// Where the generator runs.
    pub(super) core: usize,
}

/// What came of it.
#[derive(Debug, PartialEq)]
pub(super) struct Loaded {
    /// Answers with status 200.
    pub(super) answered: u64,
    /// Other answers, and requests without one.
    pub(super) failed: u64,
    /// How long it really was.
    pub(super) seconds: f64,
    /// Half of the answers took at most this.
    pub(super) p50_us: f64,
    /// 99 of 100 answers took at most this.
    pub(super) p99_us: f64,
}

impl Load {
    /// Puts the load on.
    pub(super) fn run(&self, workspace: &Workspace) -> Result<Loaded> {
        let rate = self.rate.map(|rate| ["-q".to_owned(), rate.to_string()]);
        let generator = tools::OHA
            .command(workspace)
            .args(rate.iter().flatten())
            .args(["--no-tui", "--no-color", "--output-format", "json", "-w", "-z"])
            .arg(format!("{}s", self.seconds))
            .arg("-c")
            .arg(self.connections.to_string())
            .arg(format!("http://{}{}", self.address, self.path));
        let text = on_core(self.core, || generator.capture())?;
        let report: Value = serde_json::from_str(&text)
            .map_err(|error| Failure::new(format!("the load generator did not print JSON: {error}")))?;
        Loaded::read(&report)
            .ok_or_else(|| Failure::new(format!("the load generator reports otherwise now: {report}")))
    }
}

impl Loaded {
    fn read(report: &Value) -> Option<Self> {
        let statuses = report["statusCodeDistribution"].as_object()?;
        let sum =
            |values: &serde_json::Map<String, Value>| values.values().filter_map(Value::as_u64).sum::<u64>();
        let answered = statuses.get("200").and_then(Value::as_u64).unwrap_or(0);
        let errors = report["errorDistribution"].as_object().map_or(0, sum);
        let percentile =
            |name: &str| report["latencyPercentiles"][name].as_f64().map(|seconds| seconds * 1e6);
        Some(Self {
            answered,
            failed: sum(statuses) - answered + errors,
            seconds: report["summary"]["total"].as_f64()?,
            // There are none when nothing was answered.
            p50_us: percentile("p50").unwrap_or(f64::NAN),
            p99_us: percentile("p99").unwrap_or(f64::NAN),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_answers_with_200_count_as_answered() {
        let report = json!({
            "summary": { "total": 2.5 },
            "latencyPercentiles": { "p50": 0.001, "p99": 0.004 },
            "statusCodeDistribution": { "200": 90, "503": 8 },
            "errorDistribution": { "connection closed": 2 },
        });
        let expected = Loaded { answered: 90, failed: 10, seconds: 2.5, p50_us: 1000.0, p99_us: 4000.0 };
        assert_eq!(Loaded::read(&report), Some(expected));
        assert_eq!(Loaded::read(&json!({})), None);
    }
}
