//! `docs/reference.md` is written by the program it describes, and `docs/diagnostics.md` has a line for every code in
//! the sources: neither can drift without the tests saying so.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::failure::{Failure, Result};
use crate::workspace::Workspace;

const REFERENCE: &str = "docs/reference.md";
const DIAGNOSTICS: &str = "docs/diagnostics.md";
/// How a diagnostic is made; the code follows, on this line or the next.
const MADE_BY: [&str; 2] = ["Diagnostic::new(", "Refused::new("];

/// Writes the reference page anew.
pub(crate) fn write(workspace: &Workspace) -> Result<()> {
    workspace.build_programs(&["tenon"])?;
    let path = workspace.root.join(REFERENCE);
    fs::write(&path, page(workspace)?).map_err(|error| Failure::file("write", &path, &error))
}

/// Whether both pages say what the program does.
pub(crate) fn check(workspace: &Workspace) -> Result<()> {
    if read(&workspace.root.join(REFERENCE))? != page(workspace)? {
        return Err(Failure::new(format!("{REFERENCE} is not what the program says"))
            .mend("cargo xtask reference, and commit what it wrote"));
    }
    let described = read(&workspace.root.join(DIAGNOSTICS))?;
    let missing: Vec<String> = codes(&workspace.root.join("crates"))?
        .into_iter()
        .filter(|code| !described.contains(&format!("| `{code}` |")))
        .collect();
    if missing.is_empty() {
        Ok(())
    } else {
        Err(Failure::new(format!("{DIAGNOSTICS} has no line for {}", missing.join(", ")))
            .mend("add one to the table: | `code` | what it means | what to do |"))
    }
}

fn page(workspace: &Workspace) -> Result<String> {
    workspace.run_tenon(["reference"]).capture()
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(|error| Failure::file("read", path, &error))
}

/// The code of every diagnostic that the sources make.
fn codes(crates: &Path) -> Result<BTreeSet<String>> {
    let failed = |error: std::io::Error| Failure::file("read", crates, &error);
    let mut found = BTreeSet::new();
    let mut folders = Vec::new();
    for room in fs::read_dir(crates).map_err(failed)? {
        folders.push(room.map_err(failed)?.path().join("src"));
    }
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for path in entries.flatten().map(|entry| entry.path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.extend(codes_in(&read(&path)?));
            }
        }
    }
    Ok(found)
}

fn codes_in(source: &str) -> impl Iterator<Item = String> {
    MADE_BY.into_iter().flat_map(|made_by| source.split(made_by).skip(1)).filter_map(|rest| {
        let code = rest.trim_start().strip_prefix('"')?.split('"').next()?;
        Some(code.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::codes_in;

    #[test]
    fn codes_are_found_on_the_same_line_and_on_the_next() {
        let source =
            "Diagnostic::new(\"one\", x); Diagnostic::new(\n    \"two\",\n y); Diagnostic::new(code, z)";
        assert_eq!(codes_in(source).collect::<Vec<_>>(), ["one", "two"]);
    }
}
