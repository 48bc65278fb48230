//! A WAC file is a second form of the same: each folder in `cases` that WAC can say is written in it, and comes to the
//! same component or to the same findings.

#![expect(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

mod support;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use tenon_compose::manifest::{Component, Dependency, Exports};
use tenon_compose::{Composed, Manifest, compose};
use tenon_model::Diagnostics;

/// What the composition is called: WAC always says so.
const NAME: &str = "composition";

#[test]
fn what_toml_says_wac_says_too() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let (mut compared, mut joined) = (BTreeSet::new(), 0);
    for entry in fs::read_dir(&folder).unwrap() {
        let case = entry.unwrap().path();
        let name = case.file_name().unwrap().to_string_lossy().into_owned();
        let Ok(text) = fs::read_to_string(case.join("composition.toml")) else { continue };
        let Ok(manifest) = Manifest::parse("composition.toml", &text) else { continue };
        let manifest = Manifest { name: Some(NAME.to_owned()), ..manifest };
        let Some(wac) = in_wac(&manifest) else { continue };
        let mut locate = |dependency: &Dependency| {
            let component = dependency.name.rsplit(':').next()?;
            manifest.component(component).map(|it| it.path.clone())
        };
        let other = Manifest::parse_wac("composition.wac", &wac, &mut locate)
            .unwrap_or_else(|found| panic!("{name}\n{wac}\n{found}"));
        let (one, other) = (outcome(&case, &manifest), outcome(&case, &other));
        joined += u32::from(one.is_ok());
        match (&one, &other) {
            (Ok(one), Ok(other)) => assert_eq!(one.bytes, other.bytes, "{name}\n{wac}"),
            (Err(one), Err(other)) => assert_eq!(said(one), said(other), "{name}\n{wac}\n{one}\n{other}"),
            (Ok(_), Err(found)) => panic!("{name} fits in TOML alone\n{wac}\n{found}"),
            (Err(found), Ok(_)) => panic!("{name} fits in WAC alone\n{wac}\n{found}"),
        }
        compared.insert(name);
    }
    assert!(compared.len() > 40 && joined > 12, "{joined} of {}: {compared:?}", compared.len());
    for must in ["version-mismatch", "unsatisfied-import", "functions-regrouped", "reexports", "open-import"]
    {
        assert!(compared.contains(must), "{must} is not among {compared:?}");
    }
}

/// What was found, without the places, which are in another file, and without versions: TOML takes the import's where none
/// is written, and WAC always names an export.
fn said(found: &Diagnostics) -> BTreeSet<(&'static str, String)> {
    let unversioned = |message: &str| {
        let mut pieces = message.split('@');
        let first = pieces.next().unwrap_or_default().to_owned();
        pieces.fold(first, |text, piece| text + &piece[piece.find('`').unwrap_or(piece.len())..])
    };
    found.iter().map(|it| (it.code, unversioned(&it.message))).collect()
}

/// The same in WAC; `None` where WAC has no word for it: grants and limits, all of a package left open, components that
/// import from one another in a circle.
fn in_wac(manifest: &Manifest) -> Option<String> {
    let plain = Manifest::parse("composition.toml", "").ok()?;
    let no_authority = plain.authorities.whole;
    let all_plain = manifest.authorities.parts.values().all(|authority| *authority == no_authority);
    if !all_plain || manifest.limits != plain.limits || manifest.optimize {
        return None;
    }
    let mut text = format!("package test:{NAME};\n");
    for (index, pattern) in manifest.open.iter().enumerate() {
        if !pattern.text.contains('/') || pattern.text.ends_with("/*") {
            return None;
        }
        let _ = writeln!(text, "import open{index}: {};", pattern.text);
    }
    // A name has to be defined before it is used.
    let mut waiting: Vec<&Component> = manifest.components.iter().collect();
    let mut made: BTreeSet<&str> = BTreeSet::new();
    while let Some(next) =
        waiting.iter().position(|it| it.wires.iter().all(|wire| made.contains(wire.component.name.as_str())))
    {
        let component = waiting.remove(next);
        made.insert(&component.name);
        let _ = write!(text, "let {0} = new test:{0} {{", component.name);
        for wire in &component.wires {
            let export = wire.export.as_ref().unwrap_or(&wire.import);
            let value = access(&wire.component.name, &export.name);
            let _ = write!(text, " \"{}\": {value},", wire.import.name);
        }
        text.push_str(" };\n");
    }
    if !waiting.is_empty() {
        return None;
    }
    for component in &manifest.components {
        let mut wires = manifest.components.iter().flat_map(|it| &it.wires);
        let is_imported = wires.any(|wire| wire.component.name == component.name);
        match &component.exports {
            Exports::None => {}
            Exports::Unsaid if is_imported => {}
            Exports::All | Exports::Unsaid => {
                let _ = writeln!(text, "export {}...;", component.name);
            }
            Exports::Named(names) => {
                for name in names {
                    let _ = writeln!(text, "export {};", access(&component.name, &name.name));
                }
            }
        }
    }
    for reexport in &manifest.reexports {
        let export = reexport.export.as_ref().unwrap_or(&reexport.import);
        let value = access(&reexport.component.name, &export.name);
        let _ = writeln!(text, "export {value} as \"{}\";", reexport.import.name);
    }
    Some(text)
}

/// What comes of the components in the folder `case`.
fn outcome(case: &Path, manifest: &Manifest) -> Result<Composed, Diagnostics> {
    compose(manifest, &support::borrowed(&support::inputs(case, manifest)))
}

/// An export of a component, or a function of one of its interfaces.
fn access(component: &str, export: &str) -> String {
    match export.rsplit_once('.') {
        Some((interface, function)) if interface.contains('/') && !function.contains(['/', '@']) => {
            format!("{component}[\"{interface}\"][\"{function}\"]")
        }
        _ => format!("{component}[\"{export}\"]"),
    }
}
