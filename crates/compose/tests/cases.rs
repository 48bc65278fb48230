//! Every folder in `cases` is a composition: a manifest (`composition.toml` or `composition.wac`), the components it names, and what comes of it.
//!
//! A component `NAME.wasm` is made from `NAME.wat` (WebAssembly text), `NAME.wit` (a world; the component does
//! nothing), `NAME.cut.wit` (the same, cut short) or `NAME.raw` (bytes as they are). `expected.txt` holds the
//! outline of the result, `error.txt` the diagnostics. `BLESS=1 cargo test` writes them anew.

#![expect(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

mod support;

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use tenon_compose::manifest::Dependency;
use tenon_compose::{Composed, Manifest, compose};
use tenon_model::Diagnostics;
use tenon_wit::{Inspection, inspect};

#[test]
fn cases() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let mut names: Vec<_> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert!(names.len() > 30, "the cases are there");
    let bless = std::env::var_os("BLESS").is_some();
    let failed: Vec<_> = names.iter().filter(|name| !holds(&folder.join(name), bless)).collect();
    assert!(failed.is_empty(), "cases that no longer hold: {failed:?}");
}

fn holds(case: &Path, bless: bool) -> bool {
    let (name, text) = match outcome(case) {
        Ok(composed) => ("expected.txt", outline(&composed)),
        Err(diagnostics) => ("error.txt", diagnostics),
    };
    if bless {
        for stale in ["expected.txt", "error.txt"] {
            let _ = fs::remove_file(case.join(stale));
        }
        fs::write(case.join(name), &text).unwrap();
        return true;
    }
    let wanted = fs::read_to_string(case.join(name)).unwrap_or_default();
    if wanted != text {
        eprintln!("--- {}\nwanted:\n{wanted}\nfound, for {name}:\n{text}", case.display());
    }
    wanted == text
}

fn outcome(case: &Path) -> Result<Composed, String> {
    let manifest = manifest(case).map_err(|found| found.to_string())?;
    let inputs = support::inputs(case, &manifest);
    let composed = compose(&manifest, &support::borrowed(&inputs)).map_err(|found| found.to_string())?;

    // Whatever the case is about, these hold for every composition.
    let mut shuffled = support::borrowed(&inputs);
    shuffled.reverse();
    assert_eq!(compose(&manifest, &shuffled).unwrap(), composed, "the same inputs give the same bytes");
    let inspection = inspect("composed.wasm", &composed.bytes).unwrap();
    check_parts(&inspection, &composed);
    Ok(composed)
}

/// A case has a manifest, or a WAC file whose package `demo:auth` is `auth.wasm`.
fn manifest(case: &Path) -> Result<Manifest, Diagnostics> {
    if let Ok(text) = fs::read_to_string(case.join("composition.wac")) {
        let mut locate = |dependency: &Dependency| {
            let name = dependency.name.rsplit(':').next()?;
            case.join(format!("{name}.wit")).is_file().then(|| format!("{name}.wasm"))
        };
        return Manifest::parse_wac("composition.wac", &text, &mut locate);
    }
    Manifest::parse("composition.toml", &fs::read_to_string(case.join("composition.toml")).unwrap())
}

/// Every component is in the result byte for byte, under its name.
fn check_parts(inspection: &Inspection, composed: &Composed) {
    let mut found: Vec<_> = inspection
        .component
        .components
        .iter()
        // Adapters have no code, and nobody named them.
        .filter(|nested| nested.name.is_some() || !nested.is_wrapping())
        .map(|nested| (nested.name.clone().unwrap(), nested.digest, nested.size()))
        .collect();
    found.sort();
    let wanted: Vec<_> =
        composed.parts.iter().map(|part| (part.name.clone(), part.held, part.size as u64)).collect();
    assert_eq!(found, wanted);
}

fn outline(composed: &Composed) -> String {
    let mut text = String::new();
    for (title, names) in [("imports", &composed.imports), ("exports", &composed.exports)] {
        let _ = writeln!(text, "{title}");
        for name in names {
            let _ = writeln!(text, "  {name}");
        }
    }
    let provenance = tenon_compose::provenance::read(&composed.bytes).unwrap();
    let _ = writeln!(
        text,
        "components of {}",
        provenance.name.as_deref().unwrap_or("a composition without a name")
    );
    for part in &provenance.components {
        let _ = writeln!(text, "  {}", part.name);
        for (import, source) in &part.imports {
            let _ = writeln!(text, "    {import} from {} {}", source.component, source.export);
        }
    }
    text
}
