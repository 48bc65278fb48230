//! How many tests passed, failed and were skipped, and why, read from what the test programs print.

use std::fmt;
use std::ops::{Add, AddAssign};

/// Tests by what came of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Passed.
    pub(crate) passed: u64,
    /// Failed.
    pub(crate) failed: u64,
    /// Not run: ignored ones.
    pub(crate) skipped: u64,
}

impl Counts {
    /// Reads the closing line of one Rust test program: `test result: ok. 3 passed; 0 failed; 1 ignored; …`.
    pub(crate) fn of_rust(line: &str) -> Option<Self> {
        let (_, numbers) = line.strip_prefix("test result: ")?.split_once(". ")?;
        let mut counts = Self::default();
        for part in numbers.split("; ") {
            let Some((number, what)) = part.split_once(' ') else { continue };
            let field = match what {
                "passed" => &mut counts.passed,
                "failed" => &mut counts.failed,
                "ignored" => &mut counts.skipped,
                _ => continue,
            };
            *field = number.parse().ok()?;
        }
        Some(counts)
    }

    /// Reads one line of `go test -v`: `--- PASS: TestName (0.00s)`. Subtests are indented and belong to theirs.
    pub(crate) fn of_go(line: &str) -> Option<Self> {
        let (outcome, _) = line.strip_prefix("--- ")?.split_once(": ")?;
        let one = Self::default();
        match outcome {
            "PASS" => Some(Self { passed: 1, ..one }),
            "FAIL" => Some(Self { failed: 1, ..one }),
            "SKIP" => Some(Self { skipped: 1, ..one }),
            _ => None,
        }
    }
}

impl Add for Counts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            passed: self.passed + other.passed,
            failed: self.failed + other.failed,
            skipped: self.skipped + other.skipped,
        }
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)?;
        if self.skipped > 0 { write!(f, ", {} skipped", self.skipped) } else { Ok(()) }
    }
}

/// What the tests that failed said, to be told again where the reader looks: at the end.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    lines: Vec<String>,
    telling: bool,
}

/// Lines that are told again at most.
const TOLD_LINES_MAX: usize = 400;

impl Told {
    /// Takes one line of what Rust's test programs print: what stands between `failures:` and the closing line.
    pub(crate) fn take(&mut self, line: &str) {
        match line {
            "failures:" => self.telling = true,
            _ if Counts::of_rust(line).is_some() => self.telling = false,
            _ if self.telling && self.lines.len() < TOLD_LINES_MAX => self.lines.push(line.to_owned()),
            _ => {}
        }
    }

    /// Adds what another run told.
    pub(crate) fn add(&mut self, other: Self) {
        let room = TOLD_LINES_MAX - self.lines.len();
        self.lines.extend(other.lines.into_iter().take(room));
    }

    /// The lines, if there are any.
    pub(crate) fn text(&self) -> Option<String> {
        (!self.lines.is_empty()).then(|| self.lines.join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_failed_tests_said_is_told_again() {
        let mut told = Told::default();
        for line in
            ["test a ... FAILED", "", "failures:", "---- a stdout ----", "no luck", "failures:", "    a"]
        {
            told.take(line);
        }
        told.take("test result: FAILED. 0 passed; 1 failed; 0 ignored");
        told.take("noise");
        assert_eq!(told.text().as_deref(), Some("---- a stdout ----\nno luck\n    a"));
        assert_eq!(Told::default().text(), None);
    }

    #[test]
    fn results_of_test_programs_are_read() {
        let line = "test result: FAILED. 12 passed; 2 failed; 3 ignored; 0 measured; 7 filtered out; finished in 0.01s";
        assert_eq!(Counts::of_rust(line), Some(Counts { passed: 12, failed: 2, skipped: 3 }));
        assert_eq!(Counts::of_rust("test parse::ok ... ok"), None);
        assert_eq!(
            Counts::of_go("--- FAIL: TestMatch (0.00s)"),
            Some(Counts { failed: 1, ..Counts::default() })
        );
        assert_eq!(Counts::of_go("    --- PASS: TestMatch/params (0.00s)"), None);
    }

    #[test]
    fn the_last_line_has_one_form() {
        assert_eq!(Counts { passed: 2, failed: 0, skipped: 0 }.to_string(), "2 passed, 0 failed");
        assert_eq!(Counts { passed: 2, failed: 1, skipped: 4 }.to_string(), "2 passed, 1 failed, 4 skipped");
    }
}
