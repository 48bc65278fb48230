//! One module a language; each is a [`Toolchain`].
//!
//! To add a language: a variant of [`Language`], a module here that implements the trait, and a line in
//! [`toolchain_of`].

mod assemblyscript;
mod c;
mod core;
mod go;
mod javascript;
mod python;
mod rust;

use std::path::{Path, PathBuf};

use crate::contract::Contract;
use crate::error::BuildError;
use crate::host::Host;
use crate::progress::Progress;
use crate::toolbox::Toolbox;
use tenon_model::{Diagnostic, Language, Location};
use wit_parser::{LiveTypes, TypeDefKind, WorldItem};

/// Where a toolchain works, and with what.
pub struct Site<'a> {
    /// The component's name, for what a person is shown.
    pub component: &'a str,
    /// The component's language.
    pub language: Language,
    /// The folder of the source, absolute.
    pub source: &'a Path,
    /// The folder of the contracts, absolute.
    pub wit: &'a Path,
    /// The world to target.
    pub contract: &'a Contract,
    /// The project's folder for build products, absolute and there.
    pub work: &'a Path,
    /// The guest toolchains.
    pub toolbox: &'a Toolbox,
    /// The machine.
    pub host: &'a Host,
    /// Told what is going on.
    pub progress: &'a dyn Progress,
}

/// What a toolchain made.
#[derive(Debug)]
pub struct Product {
    /// The component.
    pub bytes: Vec<u8>,
    /// Files outside the source and contract folders that went into it.
    pub also: Vec<PathBuf>,
}

/// What builds the components of a language.
pub trait Toolchain: Sync {
    /// Whether the toolchain itself writes `path`, relative to the source folder; such files are no input.
    fn generates(&self) -> fn(&Path) -> bool;

    /// A file of the source folder that the toolchain writes when it is not there, and that is an input from then on: a
    /// lock file.
    fn writes_once(&self) -> Option<&'static str> {
        None
    }

    /// What the result depends on beside the source and the contract: pinned versions, and a number that changes
    /// when this module does something differently.
    fn recipe(&self) -> String;

    /// Builds the component.
    ///
    /// # Errors
    /// When the compiler refuses the source, or it cannot be run.
    fn build(&self, site: &Site<'_>) -> Result<Product, BuildError>;
}

/// The toolchain of `language`.
pub(crate) fn toolchain_of(language: Language) -> &'static dyn Toolchain {
    match language {
        Language::Rust => &rust::Rust,
        Language::Go => &go::Go,
        Language::TypeScript | Language::JavaScript => &javascript::JavaScript,
        Language::Python => &python::Python,
        Language::C => &c::C,
        Language::Cpp => &c::Cpp,
        Language::AssemblyScript => &assemblyscript::AssemblyScript,
    }
}

impl Site<'_> {
    /// Wraps what a program said into the error of this component.
    pub(crate) fn compile_error(
        &self,
        mend: Option<String>,
    ) -> impl FnOnce(crate::CommandError) -> BuildError {
        let (component, language) = (self.component.to_owned(), self.language);
        move |source| BuildError::Compile { component, language, source, mend }
    }
}

/// Writes `text` to `path` unless it is there already: an unchanged file keeps its time, and caches keep their value.
pub(crate) fn write_if_changed(path: &Path, text: &[u8]) -> Result<(), BuildError> {
    if std::fs::read(path).is_ok_and(|there| there == text) {
        return Ok(());
    }
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(BuildError::io("make the folder", folder))?;
    }
    std::fs::write(path, text).map_err(BuildError::io("write", path))
}

/// The first line of the `.gitignore` in a folder that is ours; no other folder is emptied.
const MARK: &str = "# Written by `tenon build`.\n";

/// Empties `folder` of the component's `source` for what is generated. A folder without our mark is somebody's: it stays
/// as it is, and `taken` is the code of the refusal.
pub(crate) fn clear_generated(source: &Path, folder: &str, taken: &'static str) -> Result<(), BuildError> {
    let place = source.join(folder);
    let mark = place.join(".gitignore");
    if place.exists() {
        if !std::fs::read(&mark).is_ok_and(|text| text.starts_with(MARK.as_bytes())) {
            let what = format!("`{folder}` is where the bindings go, and something else is there");
            return Err(Diagnostic::new(taken, what)
                .at(Location::file(place.display().to_string()))
                .mend("move what is there to another folder")
                .into());
        }
        std::fs::remove_dir_all(&place).map_err(BuildError::io("remove", &place))?;
    }
    write_if_changed(&mark, format!("{MARK}*\n").as_bytes())
}

/// Writes generated files into `folder` of the component's source.
pub(crate) fn write_generated<'a>(
    site: &Site<'_>,
    folder: &str,
    files: impl IntoIterator<Item = (&'a str, &'a [u8])>,
) -> Result<(), BuildError> {
    clear_generated(site.source, folder, "bindings-folder-taken")?;
    let place = site.source.join(folder);
    for (path, text) in files {
        write_if_changed(&place.join(path), text)?;
    }
    Ok(())
}

/// What a language cannot carry, of what is in a world.
#[derive(Clone, Copy)]
pub(crate) struct Lacks {
    /// The language as people write it.
    pub(crate) language: &'static str,
    /// Resources that the component itself defines.
    pub(crate) exported_resources: bool,
    /// Resources of others.
    pub(crate) resources: bool,
}

impl Lacks {
    /// Refuses a world with async functions, streams or futures, or with the resources that the language lacks:
    /// generators leave such functions out in silence, or fail in words of their own.
    pub(crate) fn refuse(self, contract: &Contract) -> Result<(), Diagnostic> {
        let resolve = &contract.resolve;
        let world = &resolve.worlds[contract.world];
        let is_async = world.imports.values().chain(world.exports.values()).any(|item| match item {
            WorldItem::Function(function) => function.kind.is_async(),
            WorldItem::Interface { id, .. } => {
                resolve.interfaces[*id].functions.values().any(|function| function.kind.is_async())
            }
            WorldItem::Type { .. } => false,
        });
        let mut types = LiveTypes::default();
        types.add_world(resolve, contract.world);
        let has = |wanted: fn(&TypeDefKind) -> bool| types.iter().any(|id| wanted(&resolve.types[id].kind));
        let streams = has(|kind| matches!(kind, TypeDefKind::Stream(_) | TypeDefKind::Future(_)));
        let resources = has(|kind| matches!(kind, TypeDefKind::Resource));
        let exported = world.exports.values().any(|item| match item {
            WorldItem::Interface { id, .. } => resolve.interfaces[*id]
                .types
                .values()
                .any(|id| matches!(resolve.types[*id].kind, TypeDefKind::Resource)),
            _ => false,
        });
        let lacking = if is_async || streams {
            "async functions, streams or futures"
        } else if self.resources && resources {
            "resources"
        } else if self.exported_resources && exported {
            "resources of its own"
        } else {
            return Ok(());
        };
        Err(Diagnostic::new(
            "language-lacks",
            format!("the world `{}` has {lacking}", contract.qualified_world()),
        )
        .mend(format!(
            "a component in {} cannot have them: write this one in Rust, or change the contract",
            self.language
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_emptied_only_when_it_is_ours() {
        let root = tempfile::tempdir().unwrap();
        let place = root.path().join("internal/wit");
        let clear = |taken| clear_generated(root.path(), "internal/wit", taken);
        clear("go-folder-taken").unwrap();
        assert_eq!(std::fs::read_to_string(place.join(".gitignore")).unwrap(), format!("{MARK}*\n"));
        std::fs::write(place.join("old.go"), "old").unwrap();
        clear("go-folder-taken").unwrap();
        assert!(!place.join("old.go").exists(), "what was generated goes");

        std::fs::write(place.join("mine.go"), "mine").unwrap();
        for foreign in ["*.o\n", "", "*\n# Written by `tenon build`.\n"] {
            std::fs::write(place.join(".gitignore"), foreign).unwrap();
            for code in ["bindings-folder-taken", "go-folder-taken"] {
                match clear(code) {
                    Err(BuildError::Refused(found)) => assert_eq!(found.iter().next().unwrap().code, code),
                    other => panic!("{foreign:?}: {other:?}"),
                }
            }
        }
        assert_eq!(std::fs::read_to_string(place.join("mine.go")).unwrap(), "mine", "the author's stays");
    }
}
