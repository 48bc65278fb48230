//! What the toolchain of a language makes of a world, to be looked at.

use std::path::Path;

use tenon_model::Language;

use crate::contract::Contract;
use crate::doctor::missing_for_build;
use crate::error::BuildError;
use crate::job::Setting;
use crate::toolchain::{Site, toolchain_of};

/// Folders within folders that generated files are looked for in.
const DEPTH_MAX: usize = 8;

/// The generated files for `world` of the contracts at `wit`, each with its name and content, sorted; without a name, for
/// the only world.
///
/// # Errors
/// When the contracts cannot be read, the language lacks what the world has, or its toolchain is missing.
pub fn bindings(
    language: Language,
    wit: &Path,
    world: Option<&str>,
    setting: Setting<'_>,
) -> Result<Vec<(String, Vec<u8>)>, BuildError> {
    let contract = Contract::load(wit, world)?;
    let wit = wit.canonicalize().map_err(BuildError::io("find", wit))?;
    // For the others the generators are within.
    if matches!(language, Language::JavaScript | Language::TypeScript | Language::Python) {
        let checks = missing_for_build(setting.toolbox, setting.host, language);
        if !checks.is_empty() {
            return Err(BuildError::Toolchain { component: "bindings".to_owned(), language, checks });
        }
    }
    let temporary = std::env::temp_dir();
    let folder = tempfile::tempdir().map_err(BuildError::io("make a folder in", &temporary))?;
    let mut files = toolchain_of(language).bindings(&Site {
        component: "bindings",
        language,
        source: folder.path(),
        wit: &wit,
        contract: &contract,
        work: folder.path(),
        toolbox: setting.toolbox,
        host: setting.host,
        progress: setting.progress,
        initialize: None,
        link: None,
    })?;
    files.sort();
    Ok(files)
}

/// The files below a folder, by their paths in it.
pub(crate) fn files_below(folder: &Path) -> Result<Vec<(String, Vec<u8>)>, BuildError> {
    let mut files = Vec::new();
    collect(folder, folder, 0, &mut files)?;
    Ok(files)
}

fn collect(
    root: &Path,
    folder: &Path,
    depth: usize,
    files: &mut Vec<(String, Vec<u8>)>,
) -> Result<(), BuildError> {
    for entry in std::fs::read_dir(folder).map_err(BuildError::io("read", folder))?.flatten() {
        let path = entry.path();
        if path.is_dir() && depth < DEPTH_MAX {
            collect(root, &path, depth + 1, files)?;
        } else if path.is_file() {
            let name = path.strip_prefix(root).unwrap_or(&path).display().to_string().replace('\\', "/");
            files.push((name, std::fs::read(&path).map_err(BuildError::io("read", &path))?));
        }
    }
    Ok(())
}
