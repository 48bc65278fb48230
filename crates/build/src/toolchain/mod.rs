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
use crate::job::Link;
use crate::progress::Progress;
use crate::skeleton::Plan;
use crate::snapshot::Initialize;
use crate::toolbox::Toolbox;
use tenon_model::{Diagnostic, Language, Location};
use wit_parser::{Function, LiveTypes, Resolve, TypeDefKind, WorldItem};

/// Where a toolchain works, and with what.
pub(crate) struct Site<'a> {
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
    /// Starts a core module at build time; without it, none is to be.
    pub initialize: Option<Initialize<'a>>,
    /// Links core modules; see [`crate::Setting::link`].
    pub link: Option<Link<'a>>,
}

/// What a toolchain made.
#[derive(Debug)]
pub(crate) struct Product {
    /// The component.
    pub bytes: Vec<u8>,
    /// Files outside the source and contract folders that went into it.
    pub also: Vec<PathBuf>,
    /// Programs and libraries that made it and do not name themselves in it, each with its version.
    pub tools: Vec<(&'static str, String)>,
}

/// What builds the components of a language.
pub(crate) trait Toolchain: Sync {
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

    /// The files that a component begins with: every export of the world, with a body that a person fills in.
    ///
    /// # Errors
    /// When the language lacks what the world has.
    fn skeleton(&self, plan: &Plan<'_>) -> Result<Vec<(String, String)>, Diagnostic>;

    /// What is generated for the world, each file with its name and content.
    ///
    /// # Errors
    /// When the language lacks what the world has, or its generator cannot be run.
    fn bindings(&self, site: &Site<'_>) -> Result<Vec<(String, Vec<u8>)>, BuildError>;

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

/// What a language cannot carry, of what is in a world: generators leave such functions out in silence, or fail in words
/// of their own.
#[derive(Clone, Copy, Default)]
pub(crate) struct Lacks {
    /// Async functions that the component exports.
    pub(crate) async_exports: bool,
    /// Async functions that it imports.
    pub(crate) async_imports: bool,
    /// Streams and futures.
    pub(crate) streams: bool,
    /// Resources that the component itself defines.
    pub(crate) exported_resources: bool,
    /// Resources of others.
    pub(crate) resources: bool,
}

/// Which way a function of a world goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Imported,
    Exported,
}

impl Lacks {
    /// Refuses a world that the language cannot carry, and names the first function because of which it cannot.
    pub(crate) fn refuse(self, language: Language, contract: &Contract) -> Result<(), Diagnostic> {
        let resolve = &contract.resolve;
        let world = &resolve.worlds[contract.world];
        let imports = world.imports.iter().map(|item| (Way::Imported, item));
        let exports = world.exports.iter().map(|item| (Way::Exported, item));
        for (way, (key, item)) in imports.chain(exports) {
            let functions: Vec<&Function> = match item {
                WorldItem::Function(function) => vec![function],
                WorldItem::Interface { id, .. } => resolve.interfaces[*id].functions.values().collect(),
                WorldItem::Type { .. } => continue,
            };
            for function in functions {
                if let Some((what, mend)) = self.lacking(resolve, way, function) {
                    let name = match item {
                        WorldItem::Interface { .. } => {
                            format!("{}.{}", resolve.name_world_key(key), function.name)
                        }
                        _ => function.name.clone(),
                    };
                    let world = contract.qualified_world();
                    return Err(Diagnostic::new(
                        "language-lacks",
                        format!(
                            "`{name}` of the world `{world}` {what}, and a component in {language} cannot"
                        ),
                    )
                    .mend(mend));
                }
            }
            let defines = |id| {
                resolve.interfaces[id]
                    .types
                    .values()
                    .any(|ty| matches!(resolve.types[*ty].kind, TypeDefKind::Resource))
            };
            if let WorldItem::Interface { id, .. } = item
                && (self.resources || (self.exported_resources && way == Way::Exported))
                && defines(*id)
            {
                let (name, world) = (resolve.name_world_key(key), contract.qualified_world());
                return Err(Diagnostic::new(
                    "language-lacks",
                    format!(
                        "`{name}` of the world `{world}` has resources, and a component in {language} cannot"
                    ),
                )
                .mend("write this one in Rust, Go, C or C++, or change the contract"));
            }
        }
        Ok(())
    }

    /// What of a function the language lacks, and what to do then.
    fn lacking(
        self,
        resolve: &Resolve,
        way: Way,
        function: &Function,
    ) -> Option<(&'static str, &'static str)> {
        if function.kind.is_async() {
            match way {
                Way::Exported if self.async_exports => {
                    return Some((
                        "is an async function that is exported",
                        "write this one in Rust, Go, Python, JavaScript, TypeScript or C, or declare a `func`: what calls \
                         it then waits for it",
                    ));
                }
                Way::Imported if self.async_imports => {
                    return Some((
                        "is an async function that is imported",
                        "write this one in Rust, Go, Python or C, or declare a `func`: what calls it then waits for it",
                    ));
                }
                _ => {}
            }
        }
        let mut types = LiveTypes::default();
        types.add_func(resolve, function);
        let is_stream =
            |id| matches!(resolve.types[id].kind, TypeDefKind::Stream(_) | TypeDefKind::Future(_));
        (self.streams && types.iter().any(is_stream))
            .then_some(("has streams or futures", "write this one in Rust, Go, Python or C, or pass a list"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_language_lacks_is_named_with_the_function() {
        let refused = |lacks: Lacks, text: &str| {
            let root = tempfile::tempdir().unwrap();
            std::fs::write(root.path().join("a.wit"), format!("package a:b@1.0.0; {text}")).unwrap();
            let contract = Contract::load(root.path(), None).unwrap();
            lacks.refuse(Language::Cpp, &contract).err().map(|found| found.message)
        };
        let exports = Lacks { async_exports: true, ..Lacks::default() };
        let imports = Lacks { async_imports: true, ..Lacks::default() };
        let streams = Lacks { streams: true, ..Lacks::default() };
        let resources = Lacks { exported_resources: true, ..Lacks::default() };
        let exported = "interface i { g: func(); f: async func(); } world w { export i; }";
        let said = refused(exports, exported).unwrap();
        assert!(said.contains("`a:b/i@1.0.0.f`") && said.contains("in C++ cannot"), "{said}");
        assert_eq!(refused(imports, exported), None);
        assert!(refused(imports, "world w { import f: async func(); }").unwrap().starts_with("`f` of"));
        let streamed = "interface i { f: func() -> stream<u8>; } world w { import i; }";
        assert!(refused(streams, streamed).unwrap().contains("streams or futures"));
        assert_eq!(refused(imports, streamed), None);
        let resource = "interface i { resource r { m: func(); } }";
        assert!(
            refused(resources, &format!("{resource} world w {{ export i; }}")).unwrap().contains("resources")
        );
        assert_eq!(refused(resources, &format!("{resource} world w {{ import i; }}")), None);
        assert_eq!(refused(Lacks::default(), exported), None);
    }

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
