//! Assertions of a guest about its host, told as text.

use std::fmt::Debug;

/// What was asserted so far: one line for each assertion, `ok NAME`, or `FAILED NAME: what was found`.
#[derive(Default)]
pub struct Checks(String);

impl Checks {
    /// `found` is what it has to be.
    pub fn same<T: PartialEq + Debug>(&mut self, name: &str, found: T, expected: T) {
        let detail = format!("{found:?}, not {expected:?}");
        self.holds(name, found == expected, &detail);
    }

    /// `found` shows as this text, without the names of the enumerations of errors: for what cannot be compared.
    pub fn shows<T: Debug>(&mut self, name: &str, found: T, expected: &str) {
        let found = format!("{found:?}");
        let found = ["ErrorCode::", "HeaderError::", "RequestOptionsError::", "DescriptorType::"]
            .iter()
            .fold(found, |text, prefix| text.replace(prefix, ""));
        self.holds(name, found == expected, &format!("{found}, not {expected}"));
    }

    /// The call ends in this error.
    pub fn fails<T, E: PartialEq + Debug>(&mut self, name: &str, found: Result<T, E>, expected: E) {
        let found = found.map(|_| ()).err();
        let detail = format!("{found:?}, not {expected:?}");
        self.holds(name, found == Some(expected), &detail);
    }

    /// It holds; `detail` is what is told when it does not.
    pub fn holds(&mut self, name: &str, holds: bool, detail: &str) {
        match holds {
            true => self.0 += &format!("ok {name}\n"),
            false => self.0 += &format!("FAILED {name}: {}\n", detail.replace('\n', " ")),
        }
    }

    /// All of it.
    pub fn told(&self) -> &str {
        &self.0
    }
}
