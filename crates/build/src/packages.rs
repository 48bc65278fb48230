//! The WIT packages in a file, a folder or a component, one by one: what another contract can depend on.

use std::path::Path;

use tenon_model::{Diagnostic, Location};
use wit_component::{DecodedWasm, WitPrinter};
use wit_parser::{PackageId, Resolve};

/// A file larger than this is not read.
const FILE_BYTES_MAX: u64 = 512 << 20;

/// A package of contracts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WitPackage {
    /// Its name with its version: `wasi:http@0.2.12`.
    pub name: String,
    /// All of it as text, laid out by the printer: comments that document nothing are not in it.
    pub text: String,
}

/// The packages of a WIT file, of a folder of them with its `deps`, or of what a component imports and exports; sorted by
/// name. The component's own world is not among them.
///
/// # Errors
/// When there is nothing there, or it is neither contracts nor a component.
pub fn wit_packages(path: &Path) -> Result<Vec<WitPackage>, Diagnostic> {
    let (resolve, own) = if path.extension().is_some_and(|extension| extension == "wasm") {
        decoded(path)?
    } else {
        (crate::load_wit(path)?, None)
    };
    let mut packages = Vec::new();
    for (id, package) in resolve.packages.iter().filter(|(id, _)| Some(*id) != own) {
        let mut printer = WitPrinter::default();
        printer
            .print(&resolve, id, &[])
            .map_err(|error| unreadable(path, format!("{}: {error:#}", package.name)))?;
        packages.push(WitPackage { name: package.name.to_string(), text: printer.output.to_string() });
    }
    packages.sort_by(|left, right| left.name.cmp(&right.name));
    Ok(packages)
}

fn decoded(path: &Path) -> Result<(Resolve, Option<PackageId>), Diagnostic> {
    let length = path.metadata().map_err(|error| unreadable(path, error.to_string()))?.len();
    if length > FILE_BYTES_MAX {
        return Err(unreadable(path, "it is too large".to_owned()));
    }
    let bytes = std::fs::read(path).map_err(|error| unreadable(path, error.to_string()))?;
    match wit_component::decode(&bytes).map_err(|error| unreadable(path, format!("{error:#}")))? {
        DecodedWasm::WitPackage(resolve, _) => Ok((resolve, None)),
        DecodedWasm::Component(resolve, world) => {
            let own = resolve.worlds[world].package;
            Ok((resolve, own))
        }
    }
}

fn unreadable(path: &Path, why: String) -> Diagnostic {
    Diagnostic::new("not-wit", format!("there are no contracts in `{}`", path.display()))
        .at(Location::file(path.display().to_string()))
        .note("found", why)
        .mend("name a WIT file, a folder of them, or a component")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_come_one_by_one() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("deps")).unwrap();
        std::fs::write(
            root.path().join("deps/b.wit"),
            "package a:b@1.2.0;\n/// Of points.\ninterface points { record point { x: u32 } }",
        )
        .unwrap();
        std::fs::write(
            root.path().join("c.wit"),
            "package a:c@0.1.0; interface i { use a:b/points@1.2.0.{point}; f: func() -> point; }",
        )
        .unwrap();
        let packages = wit_packages(root.path()).unwrap();
        let names: Vec<&str> = packages.iter().map(|it| it.name.as_str()).collect();
        assert_eq!(names, ["a:b@1.2.0", "a:c@0.1.0"]);
        assert!(
            packages[0].text.contains("package a:b@1.2.0;") && packages[0].text.contains("/// Of points.")
        );
        assert!(!packages[1].text.contains("record point"), "{}", packages[1].text);
        assert_eq!(wit_packages(&root.path().join("gone.wasm")).unwrap_err().code, "not-wit");
    }
}
