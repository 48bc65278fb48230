//! `[errors]`: the statuses of typed errors.

use std::collections::BTreeMap;

use tenon_model::{Diagnostic, ErrorStatus};
use tenon_wit::ErrorStatuses;
use toml::de::DeValue;

use super::{Reader, Table, Value};

/// A typed error is an answer of the function that failed: no success, no redirection, and nothing that a proxy takes
/// for a fault of the server's.
const STATUSES: std::ops::RangeInclusive<u16> = 400..=599;

impl Reader<'_> {
    pub(super) fn errors(&mut self, top: &Table<'_>) -> ErrorStatuses {
        let mut errors = ErrorStatuses::new();
        for (name, value) in self.table(top, "errors").into_iter().flatten() {
            let at = self.location(name.span());
            let status = match value.get_ref() {
                DeValue::Table(table) => {
                    let mut cases = BTreeMap::new();
                    for (case, value) in table {
                        if let Some(status) = self.status(case.get_ref(), value) {
                            cases.insert(case.get_ref().to_string(), status);
                        }
                    }
                    ErrorStatus::Cases(cases)
                }
                _ => match self.status(name.get_ref(), value) {
                    Some(status) => ErrorStatus::Whole(status),
                    None => continue,
                },
            };
            errors.insert(name.get_ref().to_string(), (status, at));
        }
        errors
    }

    fn status(&mut self, name: &str, value: &Value<'_>) -> Option<u16> {
        let DeValue::Integer(number) = value.get_ref() else {
            self.wrong_type(name, "a status, or a table with a status for each case", value);
            return None;
        };
        let status = u16::from_str_radix(number.as_str(), number.radix()).ok();
        let status = status.filter(|status| STATUSES.contains(status));
        if status.is_none() {
            self.found.push(
                Diagnostic::new(
                    "manifest-value",
                    format!("`{name}` cannot have the status {}", number.as_str()),
                )
                .at(self.location(value.span()))
                .mend("Write a status from 400 to 599."),
            );
        }
        status
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Manifest;

    fn codes(text: &str) -> Vec<&'static str> {
        Manifest::parse("tenon.toml", text).unwrap_err().iter().map(|found| found.code).collect()
    }

    #[test]
    fn a_status_is_for_a_function_or_for_cases() {
        let manifest = Manifest::parse(
            "tenon.toml",
            "[errors]\n\"a:b/c.error\" = { expired = 401, other = 400 }\n\"a:b/c.pay\" = 402\n",
        )
        .unwrap();
        let cases = BTreeMap::from([("expired".to_owned(), 401), ("other".to_owned(), 400)]);
        assert_eq!(manifest.errors["a:b/c.error"].0, ErrorStatus::Cases(cases));
        assert_eq!(manifest.errors["a:b/c.pay"].0, ErrorStatus::Whole(402));
        assert_eq!(manifest.errors["a:b/c.pay"].1.to_string(), "tenon.toml:3:1");
    }

    #[test]
    fn a_status_is_one_of_a_failure() {
        for (value, code) in [
            ("200", "manifest-value"),
            ("399", "manifest-value"),
            ("600", "manifest-value"),
            ("-1", "manifest-value"),
            ("70000", "manifest-value"),
            ("\"401\"", "manifest-type"),
            ("{ expired = true }", "manifest-type"),
            ("{ expired = 100 }", "manifest-value"),
        ] {
            assert_eq!(codes(&format!("[errors]\n\"a:b/c.error\" = {value}\n")), [code], "{value}");
        }
    }
}
