//! From TOML text to a [`Manifest`], collecting everything that is wrong on the way.

mod deploy;
mod errors;
mod grants;
mod limits;
mod network;
mod pieces;

use std::ops::Range;

use tenon_model::{Authorities, Authority, Diagnostic, Diagnostics, Goal, InterfaceName, Language, Limits};
use tenon_wit::most_similar;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Component, Exports, Manifest, Named, OpenPattern, Wire};

/// The most components a composition may have.
pub(super) const COMPONENTS_MAX: usize = 1_000;

pub(super) const TOP_KEYS: [&str; 10] =
    ["name", "open", "component", "exports", "optimize", "grants", "limits", "reuse", "errors", "deploy"];
pub(super) const COMPONENT_KEYS: [&str; 11] = [
    "path", "source", "wit", "world", "language", "snapshot", "optimize", "export", "imports", "grants",
    "limits",
];
pub(super) const WIRE_KEYS: [&str; 2] = ["component", "export"];
#[cfg(test)]
pub(super) use deploy::{DEPLOY_KEYS, ROLLOUT_KEYS};
#[cfg(test)]
pub(super) use grants::{
    BLOBSTORE_KEYS, CLI_KEYS, CLOCK_KEYS, FILESYSTEM_KEYS, HTTP_KEYS, KEYVALUE_KEYS, MESSAGING_KEYS,
    RANDOM_KEYS, SOCKET_KEYS,
};
#[cfg(test)]
pub(super) use limits::REUSE_KEYS;
pub(super) use limits::{COMPONENT_LIMIT_KEYS, LIMIT_KEYS};

pub(super) fn read(file: &str, text: &str) -> Result<Manifest, Diagnostics> {
    let (document, syntax) = DeTable::parse_recoverable(text);
    let mut reader = Reader { file, text, found: Vec::new() };
    let mut line = None;
    for error in &syntax {
        let span = error.span().unwrap_or(0..0);
        let position = reader.location(span.clone()).position;
        // One fault often makes the parser stumble several times over the same line.
        if line.is_some() && line == position.map(|position| position.line) {
            continue;
        }
        line = position.map(|position| position.line);
        reader.found.push(
            Diagnostic::new("manifest-syntax", format!("this cannot be read as TOML: {}", error.message()))
                .at(reader.location(span.clone()))
                .mend(reader.syntax_mend(&span)),
        );
    }
    // What the parser recovered may be half of what was meant: more findings would mislead.
    Diagnostics::check(std::mem::take(&mut reader.found))?;

    let manifest = reader.manifest(document.get_ref());
    reader.found.sort_by_key(|diagnostic| {
        diagnostic.at.as_ref().and_then(|at| at.position).map(|position| (position.line, position.column))
    });
    Diagnostics::check(reader.found)?;
    Ok(manifest)
}

struct Reader<'a> {
    file: &'a str,
    text: &'a str,
    found: Vec<Diagnostic>,
}

type Table<'a> = DeTable<'a>;
type Value<'a> = Spanned<DeValue<'a>>;

impl Reader<'_> {
    fn manifest(&mut self, top: &Table<'_>) -> Manifest {
        self.known_keys(top, &TOP_KEYS, "at the top of the manifest");
        let limits = self.limits(top);
        let mut authorities = Authorities {
            whole: Authority { outside: limits.outside, ..Authority::default() },
            ..Authorities::default()
        };
        let mut components = Vec::new();
        for (name, value) in self.table(top, "component").into_iter().flatten() {
            let component = self.component(name.get_ref(), name.span(), value);
            let authority = self.authority(&component.name, value.get_ref(), &limits);
            authorities.parts.insert(component.name.clone(), authority);
            components.push(component);
        }
        self.whole_grants(top, &mut authorities);
        if components.len() > COMPONENTS_MAX {
            self.report(
                0..0,
                "too-many-components",
                format!("the composition has {} components; {COMPONENTS_MAX} are allowed", components.len()),
                "Compose a part of them first, and use the result as one component.",
            );
        }
        components.sort_by(|left, right| left.name.cmp(&right.name));
        let reexports = self.reexports(top);
        let wires = components.iter().flat_map(|component| &component.wires).chain(&reexports);
        self.known_components(&components, wires.map(|wire| &wire.component));
        Manifest {
            file: self.file.to_owned(),
            name: self.name(top),
            open: self.open(top),
            components,
            reexports,
            limits,
            reuse: self.reuse(top),
            optimize: self.boolean(top, "optimize").unwrap_or(false),
            authorities,
            errors: self.errors(top),
            deploy: self.deploy(top),
        }
    }

    fn name(&mut self, top: &Table<'_>) -> Option<String> {
        let (name, span) = self.string(top, "name")?;
        if !is_kebab_case(&name) {
            self.bad_name("the name of a composition", &name, span);
        }
        Some(name)
    }

    fn open(&mut self, top: &Table<'_>) -> Vec<OpenPattern> {
        let mut patterns = Vec::new();
        for Named { name: text, at } in self.strings(top, "open").unwrap_or_default() {
            let is_package = |package: &str| {
                InterfaceName::parse(&format!("{package}/i")).is_some_and(|it| it.version.is_none())
            };
            let valid = match (text.strip_suffix("/*"), text.strip_suffix(":*")) {
                (Some(package), _) => is_package(package),
                (None, Some(namespace)) => !namespace.contains(':') && is_package(&format!("{namespace}:p")),
                (None, None) => match InterfaceName::parse(&text) {
                    Some(interface) => interface.version.is_none(),
                    None => is_kebab_case(&text),
                },
            };
            if !valid {
                self.found.push(
                    Diagnostic::new("manifest-value", format!("`{text}` does not name an import"))
                        .at(at.clone())
                        .note("expected", "\"namespace:package/interface\" without a version, \"namespace:package/*\", \"namespace:*\", or a plain name")
                        .mend(match text.split_once('@') {
                            Some((name, version)) => {
                                let rest = version.find('/').map_or("", |at| &version[at..]);
                                format!("Leave the version out: \"{name}{rest}\" means every version.")
                            }
                            None => "Write the name as the component imports it; `tenon inspect FILE` shows it.".to_owned(),
                        }),
                );
            }
            patterns.push(OpenPattern { text, at });
        }
        patterns
    }

    fn component(&mut self, name: &str, span: Range<usize>, value: &Value<'_>) -> Component {
        let at = self.location(span.clone());
        if !is_kebab_case(name) {
            self.bad_name("the name of a component", name, span.clone());
        }
        let mut component = Component {
            name: name.to_owned(),
            at,
            path: format!(".tenon/{name}.wasm"),
            path_at: None,
            source: None,
            wit: None,
            world: None,
            language: None,
            snapshot: true,
            optimize: None,
            exports: Exports::Unsaid,
            wires: Vec::new(),
            spreads: Vec::new(),
            open: false,
            memory_at: None,
        };
        let DeValue::Table(table) = value.get_ref() else {
            self.wrong_type(&format!("component.{name}"), "a table", value);
            return component;
        };
        let all_known = self.known_keys(table, &COMPONENT_KEYS, &format!("in [component.{name}]"));
        if let Some((path, span)) = self.non_empty(table, "path") {
            if let Some(range) = tenon_wit::registry_reference(&path) {
                self.registry_path(&path, range, span.clone());
            }
            component.path = path;
            component.path_at = Some(self.location(span));
        }
        component.source = self.non_empty(table, "source").map(|it| it.0);
        component.wit = self.non_empty(table, "wit").map(|it| it.0);
        component.world = self.non_empty(table, "world").map(|it| it.0);
        component.language = self.language(table);
        component.snapshot = self.boolean(table, "snapshot").unwrap_or(true);
        component.optimize = self.goal(table);
        component.exports = self.exports(table);
        component.wires = self.wires(name, table);
        component.memory_at = table
            .get("limits")
            .and_then(|limits| limits.get_ref().get("memory"))
            .map(|memory| self.location(memory.span()));
        // An unknown key may be a misspelt `path`; one finding for one fault.
        if all_known && !table.contains_key("path") && !table.contains_key("source") {
            self.report(
                span,
                "missing-path",
                format!("[component.{name}] says neither where the component is nor where its source is"),
                format!("Add `path = \"{name}.wasm\"` for a built component, or `source = \"{name}\"` to build it."),
            );
        }
        component
    }

    /// A path that names a package of a registry.
    fn registry_path(&mut self, path: &str, range: Result<(), String>, span: Range<usize>) {
        let package = path.split('@').next().unwrap_or_default();
        let file = package.rsplit([':', '/']).next().unwrap_or_default();
        let diagnostic = match range {
            Ok(()) => Diagnostic::new(
                "registry-path",
                format!("`{path}` would come from a registry of components, and there is none to ask yet"),
            )
            .mend(format!("Download the component, and name its file: `path = \"vendor/{file}.wasm\"`.")),
            Err(why) => {
                Diagnostic::new("manifest-value", format!("`{path}` names no range of versions: {why}"))
                    .mend(format!("For example \"{package}@1.2\", which is every 1.x from 1.2.0 on."))
            }
        };
        let at = self.location(span);
        self.found.push(diagnostic.at(at));
    }

    /// What the component `name` was granted, and its own limits.
    fn authority(&mut self, name: &str, component: &DeValue<'_>, limits: &Limits) -> Authority {
        let DeValue::Table(table) = component else { return Authority::default() };
        let grants = self.grants(table, &format!("[component.{name}.grants]"));
        let mut authority = Authority { grants, outside: limits.outside, memory_bytes: None };
        self.component_limits(name, table, limits, &mut authority);
        authority
    }

    /// `[grants]` is for a component served alone: among several, a grant to all would be one that nobody decided
    /// on.
    fn whole_grants(&mut self, top: &Table<'_>, authorities: &mut Authorities) {
        let grants = self.grants(top, "[grants]");
        let Some((key, _)) = top.get_key_value("grants") else { return };
        let granted: Vec<&str> = authorities.parts.keys().map(String::as_str).collect();
        match granted.as_slice() {
            [] => authorities.whole.grants = grants,
            [one] => {
                let one = (*one).to_owned();
                let own = authorities.parts.entry(one.clone()).or_default();
                if own.grants == tenon_model::Grants::default() {
                    own.grants = grants;
                } else {
                    self.report(
                        key.span(),
                        "grants-unclear",
                        format!("`{one}` has grants in [grants] and in [component.{one}.grants]"),
                        format!("Move them all to [component.{one}.grants]."),
                    );
                }
            }
            [first, ..] => {
                let mend = format!("Grant to the component that needs it: [component.{first}.grants].");
                self.report(
                    key.span(),
                    "grants-unclear",
                    "[grants] does not say which of the components it is for",
                    mend,
                );
            }
        }
    }

    fn language(&mut self, table: &Table<'_>) -> Option<Language> {
        let (word, span) = self.string(table, "language")?;
        let found = Language::named(&word);
        if found.is_none() {
            let names = Language::ALL.map(Language::name);
            let mend = match most_similar(&word, names) {
                Some(near) => format!("Did you mean `{near}`?"),
                None => "Leave `language` out to have it told from the files, or give `path` to a component built elsewhere.".to_owned(),
            };
            self.found.push(
                Diagnostic::new("manifest-value", format!("`{word}` is not a language that Tenon builds"))
                    .at(self.location(span))
                    .note("expected", names.join(", "))
                    .mend(mend),
            );
        }
        found
    }

    fn goal(&mut self, table: &Table<'_>) -> Option<Goal> {
        let (word, span) = self.string(table, "optimize")?;
        let found = Goal::named(&word);
        if found.is_none() {
            let names = Goal::ALL.map(Goal::name).join("\" or \"");
            self.report(
                span,
                "manifest-value",
                format!("`{word}` is nothing that a component can be optimised for"),
                format!("Write \"{names}\"."),
            );
        }
        found
    }

    fn exports(&mut self, table: &Table<'_>) -> Exports {
        match table.get("export").map(|value| (value, value.get_ref())) {
            None => Exports::Unsaid,
            Some((_, DeValue::Boolean(true))) => Exports::All,
            Some((_, DeValue::Boolean(false))) => Exports::None,
            Some((_, DeValue::Array(_))) => Exports::Named(self.strings(table, "export").unwrap_or_default()),
            Some((value, _)) => {
                self.wrong_type("export", "true, false or a list of names", value);
                Exports::Unsaid
            }
        }
    }

    fn wires(&mut self, name: &str, table: &Table<'_>) -> Vec<Wire> {
        let Some(imports) = self.table(table, "imports") else {
            return Vec::new();
        };
        self.wires_of(imports, "import", &format!(" of `{name}`"), "which component satisfies it")
    }

    /// `[exports]`: what the composition exports under other names than its components do.
    fn reexports(&mut self, top: &Table<'_>) -> Vec<Wire> {
        let Some(exports) = self.table(top, "exports") else {
            return Vec::new();
        };
        let wires = self.wires_of(exports, "export", "", "which component has it");
        for wire in &wires {
            let name = &wire.import;
            let is_interface = InterfaceName::parse(&name.name).is_some();
            if !is_interface && !is_kebab_case(&name.name) {
                self.found.push(
                    Diagnostic::new(
                        "manifest-value",
                        format!("`{}` cannot be the name of an export", name.name),
                    )
                    .at(name.at.clone())
                    .note("expected", "\"namespace:package/interface\", or a plain name for a function")
                    .mend("Write the name as whoever calls it shall see it."),
                );
            }
        }
        wires
    }

    fn wires_of(&mut self, entries: &Table<'_>, what: &str, of: &str, which: &str) -> Vec<Wire> {
        let mut wires = Vec::new();
        for (import, value) in entries {
            let key = import.get_ref();
            let DeValue::Table(wire) = value.get_ref() else {
                let mut diagnostic = self.type_diagnostic(&format!("the {what} `{key}`"), "a table", value);
                let component = value.get_ref().as_str().unwrap_or("NAME");
                diagnostic = diagnostic.mend(format!("\"{key}\" = {{ component = \"{component}\" }}"));
                self.found.push(diagnostic);
                continue;
            };
            let all_known = self.known_keys(wire, &WIRE_KEYS, &format!("in the {what} `{key}`{of}"));
            let export =
                self.non_empty(wire, "export").map(|(name, span)| Named { name, at: self.location(span) });
            match self.non_empty(wire, "component") {
                Some((component, span)) => wires.push(Wire {
                    import: Named { name: key.to_string(), at: self.location(import.span()) },
                    component: Named { name: component, at: self.location(span) },
                    export,
                }),
                None if !all_known || wire.contains_key("component") => {} // already reported
                None => self.report(
                    value.span(),
                    "missing-component",
                    format!("the {what} `{key}`{of} does not say {which}"),
                    format!("\"{key}\" = {{ component = \"NAME\" }}"),
                ),
            }
        }
        wires
    }

    fn known_components<'w>(&mut self, components: &[Component], wanted: impl Iterator<Item = &'w Named>) {
        for wanted in wanted {
            if components.iter().any(|component| component.name == wanted.name) {
                continue;
            }
            let names: Vec<_> = components.iter().map(|component| component.name.as_str()).collect();
            let mend = match most_similar(&wanted.name, names.iter().copied()) {
                Some(near) => format!("Did you mean `{near}`?"),
                None => {
                    format!("Add a table [component.{}], or name one of the components above.", wanted.name)
                }
            };
            self.found.push(
                Diagnostic::new("unknown-component", format!("there is no component `{}`", wanted.name))
                    .at(wanted.at.clone())
                    .note("components of this manifest", names.join(", "))
                    .mend(mend),
            );
        }
    }

    /// The mend for a line that is not TOML: most often an interface name without quotes, or a table that is
    /// there twice.
    fn syntax_mend(&self, span: &Range<usize>) -> String {
        let before = self.text.get(..span.start).unwrap_or_default();
        let start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = self.text.get(start..).and_then(|rest| rest.lines().next()).unwrap_or_default();
        let earlier = before.get(..start).unwrap_or_default().lines().position(|it| it.trim() == line.trim());
        if let (Some(first), true) = (earlier, line.trim_start().starts_with('[')) {
            return format!(
                "{} stands in line {} already: join the two, or call one of them something else.",
                line.trim(),
                first + 1
            );
        }
        match line.split_once('=').map(|(key, _)| key.trim()) {
            Some(key) if key.contains([':', '/']) && !key.contains(['"', '\'']) => {
                format!("A name with `:` or `/` has to stand in quotes: \"{key}\" = …")
            }
            _ => "See https://toml.io for the syntax.".to_owned(),
        }
    }
}

/// Lower-case words of letters and digits joined by single hyphens, the first starting with a letter.
pub(super) fn is_kebab_case(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.split('-').all(|word| {
            !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        })
}

fn kebab_case(name: &str) -> String {
    let mut words = String::new();
    for letter in name.chars() {
        match letter {
            'A'..='Z' => {
                if !words.is_empty() && !words.ends_with('-') {
                    words.push('-');
                }
                words.push(letter.to_ascii_lowercase());
            }
            '_' | ' ' | '.' => words.push('-'),
            other => words.push(other),
        }
    }
    words
}
