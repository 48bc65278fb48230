//! `tenon.lock`: what a composition was made from, by digest, so that the next one can be held to it.
//!
//! ```toml
//! version = 1
//! tenon = "0.1.0"
//! composed = "sha256:…"
//! exports = ["handle = handler handle"]
//!
//! [[component]]
//! name = "handler"
//! digest = "sha256:…"
//! imports = ["demo:auth/verify@0.1.0 = auth demo:auth/verify@0.1.0"]
//! ```
//!
//! Nothing in it depends on the machine: no path, no time.

use std::fmt::Write as _;

use tenon_model::{Diagnostic, Diagnostics, Digest, Location};
use tenon_wit::provenance::{self, Provenance, Source};
use toml::de::{DeTable, DeValue};

use crate::compose::Composed;

/// The version of the file's form.
const VERSION: u32 = 1;

/// What a lock file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lock {
    /// The version of Tenon that composed.
    tenon: String,
    /// The digest of the composed component.
    composed: String,
    /// Who exports what.
    exports: Vec<String>,
    components: Vec<Locked>,
}

/// One component of it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Locked {
    name: String,
    digest: String,
    imports: Vec<String>,
}

impl Lock {
    /// The lock of what was just composed.
    pub fn of(composed: &Composed) -> Self {
        let Provenance { components, exports, .. } = provenance::read(&composed.bytes).unwrap_or_default();
        let line =
            |(name, source): (&String, &Source)| format!("{name} = {} {}", source.component, source.export);
        Self {
            tenon: env!("CARGO_PKG_VERSION").to_owned(),
            composed: Digest::of(&composed.bytes).to_string(),
            exports: exports.iter().map(line).collect(),
            components: components
                .iter()
                .map(|part| Locked {
                    name: part.name.clone(),
                    digest: part.digest.to_string(),
                    imports: part.imports.iter().map(line).collect(),
                })
                .collect(),
        }
    }

    /// The file's text.
    pub fn render(&self) -> String {
        // TOML's basic strings are JSON's.
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        let list = |lines: &[String]| match lines {
            [] => "[]".to_owned(),
            lines => {
                let lines: String = lines.iter().map(|line| format!("  {},\n", quoted(line))).collect();
                format!("[\n{lines}]")
            }
        };
        let mut text = String::from(
            "# Written by `tenon compose`; `tenon compose --locked` fails when anything here has changed.\n",
        );
        let _ = writeln!(text, "version = {VERSION}");
        let _ = writeln!(text, "tenon = {}", quoted(&self.tenon));
        let _ = writeln!(text, "composed = {}", quoted(&self.composed));
        let _ = writeln!(text, "exports = {}", list(&self.exports));
        for component in &self.components {
            let _ = writeln!(text, "\n[[component]]");
            let _ = writeln!(text, "name = {}", quoted(&component.name));
            let _ = writeln!(text, "digest = {}", quoted(&component.digest));
            let _ = writeln!(text, "imports = {}", list(&component.imports));
        }
        text
    }

    /// Reads the lock file `text`, which is the content of `file`.
    ///
    /// # Errors
    /// One diagnostic with the code `lock-invalid`.
    pub fn parse(file: &str, text: &str) -> Result<Self, Diagnostic> {
        let invalid = |why: &str| {
            Diagnostic::new("lock-invalid", format!("`{file}` is not a lock file: {why}"))
                .at(Location::file(file))
                .mend("Write it anew: `tenon compose` without `--locked`.")
        };
        let table = DeTable::parse(text).map_err(|error| invalid(error.message()))?;
        let table = table.get_ref();
        if table.get("version").and_then(|it| it.get_ref().as_integer().map(|it| it.as_str().to_owned()))
            != Some(VERSION.to_string())
        {
            return Err(invalid(&format!("its version is not {VERSION}")));
        }
        let read = |table: &DeTable<'_>| {
            let text = |key: &str| table.get(key)?.get_ref().as_str().map(str::to_owned);
            let list = |key: &str| strings(table.get(key)?.get_ref());
            (text("name"), text("digest"), list("imports"), text("tenon"), text("composed"), list("exports"))
        };
        let (_, _, _, tenon, composed, exports) = read(table);
        let components = match table.get("component").map(toml::Spanned::get_ref) {
            None => Some(Vec::new()),
            Some(DeValue::Array(components)) => components
                .iter()
                .map(|component| {
                    let (name, digest, imports, ..) = read(component.get_ref().as_table()?);
                    Some(Locked { name: name?, digest: digest?, imports: imports? })
                })
                .collect(),
            Some(_) => None,
        };
        match (tenon, composed, exports, components) {
            (Some(tenon), Some(composed), Some(exports), Some(components)) => {
                Ok(Self { tenon, composed, exports, components })
            }
            _ => Err(invalid("something is missing in it")),
        }
    }

    /// Whether `now` is what this lock, which is the content of `file`, says.
    ///
    /// # Errors
    /// Everything that has changed, each with the code `lock-outdated`.
    pub fn check(&self, file: &str, now: &Self) -> Result<(), Diagnostics> {
        let mut found = Vec::new();
        let outdated = |message: String| Diagnostic::new("lock-outdated", message).at(Location::file(file));
        let mend = "When that is meant, write the lock anew: `tenon compose` without `--locked`.";
        for component in &now.components {
            let name = &component.name;
            match self.components.iter().find(|it| it.name == *name) {
                None => found.push(outdated(format!("the component `{name}` is not in the lock")).mend(mend)),
                Some(locked) => {
                    if locked.digest != component.digest {
                        found.push(
                            outdated(format!("the component `{name}` has changed"))
                                .note("locked", &locked.digest)
                                .note("found", &component.digest)
                                .mend(format!("Use the component that was locked. {mend}")),
                        );
                    }
                    if locked.imports != component.imports {
                        found.push(
                            changed(
                                outdated(format!("the imports of `{name}` are joined otherwise")),
                                &locked.imports,
                                &component.imports,
                            )
                            .mend(mend),
                        );
                    }
                }
            }
        }
        for locked in &self.components {
            if !now.components.iter().any(|it| it.name == locked.name) {
                found
                    .push(outdated(format!("the component `{}` is no longer there", locked.name)).mend(mend));
            }
        }
        if self.exports != now.exports {
            found.push(
                changed(
                    outdated("the composition exports something else".to_owned()),
                    &self.exports,
                    &now.exports,
                )
                .mend(mend),
            );
        }
        if found.is_empty() && self.composed != now.composed {
            let why = match self.tenon == now.tenon {
                true => "a limit of a component, `optimize` or the name has changed".to_owned(),
                false => format!("it was composed by Tenon {}, and this is {}", self.tenon, now.tenon),
            };
            found.push(
                outdated("the same components make another component now".to_owned())
                    .note("probably", why)
                    .note("locked", &self.composed)
                    .note("found", &now.composed)
                    .mend(mend),
            );
        }
        Diagnostics::check(found)
    }
}

/// The lines that differ, on both sides.
fn changed(diagnostic: Diagnostic, locked: &[String], now: &[String]) -> Diagnostic {
    let only = |these: &[String], others: &[String]| {
        let lines: Vec<_> = these.iter().filter(|line| !others.contains(line)).map(String::as_str).collect();
        if lines.is_empty() { "nothing more".to_owned() } else { lines.join("\n") }
    };
    diagnostic.note("locked", only(locked, now)).note("found", only(now, locked))
}

fn strings(value: &DeValue<'_>) -> Option<Vec<String>> {
    let DeValue::Array(array) = value else { return None };
    array.iter().map(|it| it.get_ref().as_str().map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock() -> Lock {
        let component = |name: &str| Locked {
            name: name.to_owned(),
            digest: Digest::of(name.as_bytes()).to_string(),
            imports: vec![format!("demo:{name}/\"x\" = other y")],
        };
        Lock {
            tenon: "1".into(),
            composed: Digest::of(b"c").to_string(),
            exports: vec!["handle = handler handle".into(), "x = y z".into()],
            components: vec![component("auth"), component("handler")],
        }
    }

    fn said(now: &Lock) -> Vec<String> {
        let found = lock().check("tenon.lock", now).unwrap_err();
        assert!(found.iter().all(|it| it.code == "lock-outdated" && it.mend.is_some()));
        found.iter().map(|it| it.message.clone()).collect()
    }

    #[test]
    fn reads_back_what_it_writes() {
        assert_eq!(Lock::parse("tenon.lock", &lock().render()), Ok(lock()));
        let empty = Lock { exports: vec![], components: vec![], ..lock() };
        assert_eq!(Lock::parse("tenon.lock", &empty.render()), Ok(empty));
        for text in ["", "version = 2", "version = 1", "version = 1\ntenon = 1", "{", "version = 1.0"] {
            assert_eq!(Lock::parse("tenon.lock", text).unwrap_err().code, "lock-invalid", "{text}");
        }
    }

    #[test]
    fn everything_that_changed_is_named() {
        assert_eq!(lock().check("tenon.lock", &lock()), Ok(()));
        let mut now = lock();
        now.components[0].digest = Digest::of(b"new").to_string();
        now.components[1].name = "hand".into();
        now.exports.pop();
        assert_eq!(
            said(&now),
            [
                "the component `auth` has changed",
                "the component `hand` is not in the lock",
                "the component `handler` is no longer there",
                "the composition exports something else",
            ]
        );
        let mut now = lock();
        now.components[1].imports[0].push('z');
        assert_eq!(said(&now), ["the imports of `handler` are joined otherwise"]);
        let now = Lock { composed: Digest::of(b"d").to_string(), ..lock() };
        assert_eq!(said(&now), ["the same components make another component now"]);
    }
}
