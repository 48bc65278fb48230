//! What every module here starts from.

use std::fmt::Write as _;
use std::path::Path;

use tenon_testkit::{Guests, Serve, Tenon};

/// The binary under test, with a data directory of its own.
pub(crate) fn tenon() -> Tenon {
    Tenon::new(env!("CARGO_BIN_EXE_tenon"))
}

/// `tenon serve` of a fixture guest.
pub(crate) fn serve(guest: &str) -> Serve {
    tenon().serve(Guests::get(guest))
}

/// Writes `folder/composition.toml` with these components (name, file) and wires (consumer, import, provider).
pub(crate) fn composition(folder: &Path, components: &[(&str, &str)], wires: &[(&str, &str, &str)]) {
    let mut manifest = String::new();
    for (name, file) in components {
        writeln!(manifest, "[component.{name}]\npath = \"{file}\"").unwrap();
        let wires: Vec<_> = wires.iter().filter(|(consumer, ..)| consumer == name).collect();
        if !wires.is_empty() {
            writeln!(manifest, "[component.{name}.imports]").unwrap();
        }
        for (_, import, provider) in wires {
            writeln!(manifest, "\"{import}\" = {{ component = \"{provider}\" }}").unwrap();
        }
    }
    std::fs::write(folder.join("composition.toml"), manifest).unwrap();
}
