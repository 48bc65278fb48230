//! Results for people, for programs, and for what reads JUnit's XML.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};
use tenon_model::{Diagnostic, format_duration};

use crate::terminal::to_json;

/// How one test ended.
pub(super) struct Outcome {
    /// The test file.
    pub(super) file: String,
    /// The implementation, where there are several.
    pub(super) subject: Option<String>,
    pub(super) name: String,
    pub(super) took: Duration,
    /// Why it failed, if it did.
    pub(super) failure: Option<Diagnostic>,
}

impl Outcome {
    fn suite(&self) -> String {
        match &self.subject {
            Some(subject) => format!("{} ({subject})", self.file),
            None => self.file.clone(),
        }
    }
}

/// A line a test, under the name of its file.
pub(super) fn text(outcomes: &[Outcome]) -> String {
    let mut text = String::new();
    for suite in suites(outcomes) {
        let _ = writeln!(text, "{}", suite[0].suite());
        for outcome in suite {
            let state = if outcome.failure.is_some() { "FAILED" } else { "ok" };
            let _ = writeln!(text, "  {state:6}  {}  {}", outcome.name, format_duration(outcome.took));
        }
    }
    let failed = failures(outcomes);
    let _ = write!(text, "{} passed, {failed} failed", outcomes.len() - failed);
    text
}

pub(super) fn value(outcomes: &[Outcome]) -> Value {
    let failed = failures(outcomes);
    json!({
        "passed": outcomes.len() - failed,
        "failed": failed,
        "tests": outcomes.iter().map(|outcome| json!({
            "file": outcome.file,
            "implementation": outcome.subject,
            "name": outcome.name,
            "passed": outcome.failure.is_none(),
            "took_us": u64::try_from(outcome.took.as_micros()).unwrap_or(u64::MAX),
            "failure": outcome.failure.as_ref().map(to_json),
        })).collect::<Vec<_>>(),
    })
}

/// The results in the form that JUnit writes, which continuous-integration services read.
pub(super) fn junit(outcomes: &[Outcome]) -> String {
    let seconds =
        |outcomes: &[Outcome]| outcomes.iter().map(|outcome| outcome.took).sum::<Duration>().as_secs_f64();
    let counted = |name: &str, outcomes: &[Outcome]| {
        format!(
            "name=\"{}\" tests=\"{}\" failures=\"{}\" errors=\"0\" time=\"{:.6}\"",
            escape(name),
            outcomes.len(),
            failures(outcomes),
            seconds(outcomes)
        )
    };
    let mut xml =
        format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites {}>\n", counted("tenon", outcomes));
    for suite in suites(outcomes) {
        let name = suite[0].suite();
        let _ = writeln!(xml, "  <testsuite {}>", counted(&name, suite));
        for outcome in suite {
            let time = outcome.took.as_secs_f64();
            let head = format!(
                "    <testcase name=\"{}\" classname=\"{}\" time=\"{time:.6}\"",
                escape(&outcome.name),
                escape(&name)
            );
            let _ = match &outcome.failure {
                None => writeln!(xml, "{head}/>"),
                Some(failure) => writeln!(
                    xml,
                    "{head}>\n      <failure type=\"{}\" message=\"{}\">{}</failure>\n    </testcase>",
                    escape(failure.code),
                    escape(&failure.message),
                    escape(&failure.to_string())
                ),
            };
        }
        xml.push_str("  </testsuite>\n");
    }
    xml + "</testsuites>\n"
}

fn failures(outcomes: &[Outcome]) -> usize {
    outcomes.iter().filter(|outcome| outcome.failure.is_some()).count()
}

/// Outcomes that belong together: those of one file and implementation come after each other.
fn suites(outcomes: &[Outcome]) -> impl Iterator<Item = &[Outcome]> {
    outcomes.chunk_by(|one, other| (&one.file, &one.subject) == (&other.file, &other.subject))
}

/// Text for XML 1.0, which has no place for most control characters.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\n' | '\t' => {
                let _ = write!(escaped, "&#{};", character as u32);
            }
            '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            control if control.is_control() => escaped.push('\u{fffd}'),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn junit_has_every_test_and_no_markup_of_theirs() {
        let outcome = |name: &str, failure: Option<Diagnostic>| Outcome {
            file: "a.toml".into(),
            subject: None,
            name: name.into(),
            took: Duration::from_millis(2),
            failure,
        };
        let failure = Diagnostic::new("test-failed", "<no> & \u{0}");
        let xml = junit(&[outcome("a \"b\"", None), outcome("c", Some(failure))]);
        assert!(xml.contains("tests=\"2\" failures=\"1\""), "{xml}");
        assert!(
            xml.contains("name=\"a &quot;b&quot;\"") && xml.contains("&lt;no&gt; &amp; \u{fffd}"),
            "{xml}"
        );
    }
}
