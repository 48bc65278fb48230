//! The world that a component targets, read from its WIT folder.

use std::path::Path;

use tenon_model::{Diagnostic, Location};
use wit_parser::{PackageId, Resolve, WorldId, WorldItem};

/// A folder of WIT with one of its worlds chosen.
#[derive(Debug)]
pub(crate) struct Contract {
    pub(crate) resolve: Resolve,
    pub(crate) world: WorldId,
}

impl Contract {
    /// Reads `path`, a folder or a file, and chooses `world` in it; `None` will do when there is one world only.
    pub(crate) fn load(path: &Path, world: Option<&str>) -> Result<Self, Diagnostic> {
        let here = || Location::file(path.display().to_string());
        let (resolve, package) = read(path)?;
        let world = resolve.select_world(&[package], world).map_err(|_| {
            let worlds: Vec<&str> = resolve.packages[package].worlds.keys().map(String::as_str).collect();
            let found = if worlds.is_empty() { "no worlds".to_owned() } else { worlds.join(", ") };
            match world {
                Some(name) => {
                    Diagnostic::new("world-unknown", format!("the contracts have no world `{name}`"))
                        .mend("name one of them in `world`")
                }
                None => Diagnostic::new("world-unclear", "the contracts do not have exactly one world")
                    .mend("say which one the component targets, for example `world = \"auth\"`"),
            }
            .at(here())
            .note("found", found)
        })?;
        Ok(Self { resolve, world })
    }

    /// The world's name without its package.
    pub(crate) fn world_name(&self) -> &str {
        &self.resolve.worlds[self.world].name
    }

    /// The world's name with its package, as tools take it: `demo:storefront/auth@1.0.0`.
    pub(crate) fn qualified_world(&self) -> String {
        let world = &self.resolve.worlds[self.world];
        match world.package {
            Some(package) => self.resolve.packages[package].name.interface_id(&world.name),
            None => world.name.clone(),
        }
    }

    /// Whether a function of the world is asynchronous.
    pub(crate) fn has_async(&self) -> bool {
        let world = &self.resolve.worlds[self.world];
        world.imports.values().chain(world.exports.values()).any(|item| match item {
            WorldItem::Function(function) => function.kind.is_async(),
            WorldItem::Interface { id, .. } => {
                self.resolve.interfaces[*id].functions.values().any(|function| function.kind.is_async())
            }
            WorldItem::Type { .. } => false,
        })
    }

    /// Whether the world imports anything of WASI.
    pub(crate) fn imports_wasi(&self) -> bool {
        self.imports().iter().any(|import| import.starts_with("wasi:"))
    }

    /// The names of what the world imports.
    pub(crate) fn imports(&self) -> Vec<String> {
        self.resolve.worlds[self.world].imports.keys().map(|key| self.resolve.name_world_key(key)).collect()
    }

    /// The names of what the world exports.
    pub(crate) fn exports(&self) -> Vec<String> {
        self.resolve.worlds[self.world].exports.keys().map(|key| self.resolve.name_world_key(key)).collect()
    }
}

/// Reads the contracts of a folder, with what it has in `deps`, or of a file.
///
/// # Errors
/// When there are none, or they are not WIT.
pub fn load_wit(path: &Path) -> Result<Resolve, Diagnostic> {
    read(path).map(|(resolve, _)| resolve)
}

fn read(path: &Path) -> Result<(Resolve, PackageId), Diagnostic> {
    let here = || Location::file(path.display().to_string());
    if !path.exists() {
        return Err(Diagnostic::new(
            "wit-missing",
            format!("there are no contracts at `{}`", path.display()),
        )
        .at(here())
        .mend("name the folder with the `.wit` files in `wit`"));
    }
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_path(path).map_err(|error| {
        Diagnostic::new("wit-invalid", "the contracts cannot be read")
            .at(here())
            .note("found", resolve.render_error(&error))
    })?;
    Ok((resolve, package))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str, world: Option<&str>) -> Result<Contract, Diagnostic> {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("a.wit");
        std::fs::write(&file, text).unwrap();
        Contract::load(root.path(), world)
    }

    const TWO: &str =
        "package a:b@1.0.0; interface i { f: func(); } world one { export i; } world two { import i; }";

    #[test]
    fn a_world_is_chosen_by_name_or_by_being_alone() {
        let contract = load(TWO, Some("one")).unwrap();
        assert_eq!(contract.qualified_world(), "a:b/one@1.0.0");
        assert_eq!(contract.exports(), ["a:b/i@1.0.0"]);
        assert_eq!(load(TWO, Some("a:b/two@1.0.0")).unwrap().imports(), ["a:b/i@1.0.0"]);
        assert_eq!(load("package a:b; world w {}", None).unwrap().world_name(), "w");
    }

    #[test]
    fn what_cannot_be_chosen_is_a_diagnostic() {
        assert_eq!(load(TWO, None).unwrap_err().code, "world-unclear");
        assert_eq!(load(TWO, Some("three")).unwrap_err().code, "world-unknown");
        let invalid = load("package a:b;\nworld {", None).unwrap_err();
        assert_eq!(invalid.code, "wit-invalid");
        assert!(invalid.to_string().contains("a.wit:2:7"), "{invalid}");
        assert_eq!(Contract::load(Path::new("/nowhere"), None).unwrap_err().code, "wit-missing");
    }
}
