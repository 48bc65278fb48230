//! One module a language; each is a [`Toolchain`].
//!
//! To add a language: a variant of [`Language`], a module here that implements the trait, and a line in
//! [`toolchain_of`].

mod go;
mod javascript;
mod rust;

use std::path::{Path, PathBuf};

use crate::contract::Contract;
use crate::error::BuildError;
use crate::host::Host;
use crate::progress::Progress;
use crate::toolbox::Toolbox;
use tenon_model::Language;

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
