//! The pieces that everything is read with: typed values, and what is said when they are something else.

use std::fmt::Display;
use std::ops::Range;

use tenon_model::{Diagnostic, Location};
use tenon_wit::most_similar;
use toml::de::DeValue;

use super::super::Named;
use super::{COMPONENT_LIMIT_KEYS, LIMIT_KEYS, Reader, TOP_KEYS, Table, Value, is_kebab_case, kebab_case};

impl Reader<'_> {
    pub(super) fn location(&self, span: Range<usize>) -> Location {
        Location::span(self.file, self.text, span)
    }

    pub(super) fn report(
        &mut self,
        span: Range<usize>,
        code: &'static str,
        message: impl Into<String>,
        mend: impl Into<String>,
    ) {
        let at = self.location(span);
        self.found.push(Diagnostic::new(code, message).at(at).mend(mend));
    }

    /// Reports the keys that mean nothing; `false` when there are any.
    pub(super) fn known_keys(&mut self, table: &Table<'_>, known: &[&str], place: &str) -> bool {
        let before = self.found.len();
        for (key, value) in table {
            if known.contains(&key.get_ref().as_ref()) {
                continue;
            }
            let of_request = known == COMPONENT_LIMIT_KEYS && LIMIT_KEYS.contains(&key.get_ref().as_ref());
            let mend = match (most_similar(key.get_ref(), known.iter().copied()), value.get_ref()) {
                _ if of_request => "It is a limit of the whole request: move it to [limits].".to_owned(),
                (Some(near), _) => format!("Did you mean `{near}`?"),
                (None, DeValue::Table(_)) if known == TOP_KEYS && value.get_ref().get("path").is_some() => {
                    format!("A component's table is called [component.{}].", key.get_ref())
                }
                (None, DeValue::Table(inner))
                    if known == TOP_KEYS && inner.values().any(|it| it.get_ref().is_table()) =>
                {
                    "Components are tables called [component.NAME].".to_owned()
                }
                _ => "Remove it.".to_owned(),
            };
            self.found.push(
                Diagnostic::new("unknown-key", format!("unknown key `{}` {place}", key.get_ref()))
                    .at(self.location(key.span()))
                    .note("known keys", known.join(", "))
                    .mend(mend),
            );
        }
        self.found.len() == before
    }

    pub(super) fn type_diagnostic(&self, what: &str, expected: &str, value: &Value<'_>) -> Diagnostic {
        let found = match value.get_ref() {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "a whole number",
            DeValue::Float(_) => "a number",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        let written = self.text.get(value.span()).unwrap_or_default().lines().next().unwrap_or_default();
        Diagnostic::new("manifest-type", format!("{what} has to be {expected}"))
            .at(self.location(value.span()))
            .note("found", format!("{found}: {written}"))
    }

    pub(super) fn wrong_type(&mut self, key: &str, expected: &str, value: &Value<'_>) {
        let diagnostic = self.type_diagnostic(&format!("`{key}`"), expected, value);
        self.found.push(diagnostic.mend(format!("Write {expected}.")));
    }

    pub(super) fn table<'t, 'i>(&mut self, table: &'t Table<'i>, key: &str) -> Option<&'t Table<'i>> {
        let value = table.get(key)?;
        match value.get_ref() {
            DeValue::Table(inner) => Some(inner),
            _ => {
                self.wrong_type(key, "a table", value);
                None
            }
        }
    }

    pub(super) fn string(&mut self, table: &Table<'_>, key: &str) -> Option<(String, Range<usize>)> {
        let value = table.get(key)?;
        match value.get_ref() {
            DeValue::String(text) => Some((text.to_string(), value.span())),
            _ => {
                self.wrong_type(key, "a string", value);
                None
            }
        }
    }

    pub(super) fn non_empty(&mut self, table: &Table<'_>, key: &str) -> Option<(String, Range<usize>)> {
        let (text, span) = self.string(table, key)?;
        if text.is_empty() {
            self.report(
                span,
                "manifest-value",
                format!("`{key}` is empty"),
                "Fill it in, or remove the line.",
            );
            return None;
        }
        Some((text, span))
    }

    pub(super) fn strings(&mut self, table: &Table<'_>, key: &str) -> Option<Vec<Named>> {
        let value = table.get(key)?;
        let DeValue::Array(array) = value.get_ref() else {
            self.wrong_type(key, "a list of names", value);
            return None;
        };
        let mut names = Vec::new();
        for element in array.iter() {
            match element.get_ref() {
                DeValue::String(text) => {
                    names.push(Named { name: text.to_string(), at: self.location(element.span()) });
                }
                _ => self.wrong_type(key, "a list of names", element),
            }
        }
        Some(names)
    }

    pub(super) fn bad_name(&mut self, what: &str, name: &str, span: Range<usize>) {
        let better = kebab_case(name);
        let mend = match is_kebab_case(&better) {
            true => format!("Call it `{better}`."),
            false => "Lower-case words joined by hyphens, the first starting with a letter: `order-store`."
                .to_owned(),
        };
        self.report(span, "bad-name", format!("`{name}` cannot be {what}: it has to be kebab-case"), mend);
    }

    /// A value of the right type that is not a possible one.
    pub(super) fn bad_value(
        &mut self,
        span: Range<usize>,
        message: impl Into<String>,
        mend: impl Into<String>,
    ) {
        self.report(span, "manifest-value", message, mend);
    }

    /// One of a few words; `None` when it is not said, or not one of them, which is then reported.
    pub(super) fn word<T: Copy>(&mut self, table: &Table<'_>, key: &str, choices: &[(&str, T)]) -> Option<T> {
        let (word, span) = self.string(table, key)?;
        if let Some((_, choice)) = choices.iter().find(|(name, _)| *name == word) {
            return Some(*choice);
        }
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        let mend = match most_similar(&word, names.iter().copied()) {
            Some(near) => format!("Did you mean \"{near}\"?"),
            None => format!("Write one of: {}.", quoted(&names)),
        };
        self.bad_value(span, format!("`{key}` cannot be `{word}`; it is one of {}", quoted(&names)), mend);
        None
    }

    pub(super) fn boolean(&mut self, table: &Table<'_>, key: &str) -> Option<bool> {
        let value = table.get(key)?;
        match value.get_ref() {
            DeValue::Boolean(it) => Some(*it),
            _ => {
                self.wrong_type(key, "true or false", value);
                None
            }
        }
    }

    /// A whole number between `least` and `most`.
    pub(super) fn number(&mut self, table: &Table<'_>, key: &str, least: u64, most: u64) -> Option<u64> {
        let value = table.get(key)?;
        let number = match value.get_ref() {
            DeValue::Integer(number) => u64::from_str_radix(number.as_str(), number.radix()).ok(),
            _ => None,
        };
        let number = number.filter(|number| (least..=most).contains(number));
        if number.is_none() {
            self.wrong_type(key, &whole_number(least, most), value);
        }
        number
    }

    /// Entries of a table whose values are all strings.
    pub(super) fn string_entries(
        &mut self,
        table: &Table<'_>,
        key: &str,
    ) -> Option<Vec<(String, String, Range<usize>)>> {
        let entries = self.table(table, key)?;
        let mut strings = Vec::new();
        for (name, value) in entries {
            match value.get_ref() {
                DeValue::String(text) => {
                    strings.push((name.get_ref().to_string(), text.to_string(), name.span()));
                }
                _ => self.wrong_type(name.get_ref(), "a string", value),
            }
        }
        Some(strings)
    }

    /// Reports a key that has to be there and is not.
    pub(super) fn missing_key(&mut self, span: Range<usize>, key: &str, place: impl Display, example: &str) {
        self.report(span, "missing-key", format!("{place} lacks `{key}`"), format!("Add `{example}`."));
    }
}

fn whole_number(least: u64, most: u64) -> String {
    match (least, most) {
        (0, u64::MAX) => "a whole number".to_owned(),
        (_, u64::MAX) => format!("a whole number from {least} on"),
        _ => format!("a whole number from {least} to {most}"),
    }
}

/// Words as they stand in a manifest.
pub(super) fn quoted(words: &[&str]) -> String {
    words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ")
}
