//! `tenon wit`: contracts as files.

mod deps;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::json;
use tenon_model::{Diagnostic, Diagnostics, Location};

use tenon_build::{Host, Language, Setting, Toolbox};

use crate::args::{WitArgs, WitBindgenArgs, WitCommand, WitDocsArgs, WitFmtArgs};
use crate::commands::build::Shown;
use crate::error::CommandError;
use crate::project::{self, read};
use crate::settings::Settings;
use crate::terminal::Terminal;

/// A file of contracts that is larger is not one.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// Files below one folder.
const FILES_MAX: usize = 10_000;
/// Folders within folders.
const DEPTH_MAX: usize = 16;
/// On top of each page of documentation, in both forms; a page without it is somebody's.
const PAGE_MARK: &str = "<!-- Written by `tenon wit docs`. -->\n";

pub(crate) fn run(args: &WitArgs, settings: &Settings, terminal: &Terminal) -> Result<(), CommandError> {
    match &args.command {
        WitCommand::Fmt(args) => fmt(args, terminal),
        WitCommand::Docs(args) => docs(args, terminal),
        WitCommand::Deps(args) => deps::run(args, terminal),
        WitCommand::Bindgen(args) => bindgen(args, settings, terminal),
    }
}

fn fmt(args: &WitFmtArgs, terminal: &Terminal) -> Result<(), CommandError> {
    let mut files = Vec::new();
    for path in &args.paths {
        if path.is_dir() {
            contracts(path, 0, &mut files)?;
        } else {
            files.push(path.clone());
        }
    }
    let mut wrong = Vec::new();
    let mut changed = Vec::new();
    let mut folders = BTreeMap::new();
    for file in &files {
        let shown = file.display().to_string();
        let folder = file.parent().unwrap_or(Path::new(""));
        let beside = folders.entry(folder).or_insert_with(|| texts(folder));
        let laid_out = text(file).and_then(|text| Ok((tenon_wit::format_wit(&shown, &text, beside)?, text)));
        match laid_out {
            Ok((laid_out, text)) if laid_out != text => changed.push((file, shown, laid_out)),
            Ok(_) => {}
            Err(diagnostic) => wrong.push(diagnostic),
        }
    }
    for (file, shown, laid_out) in &changed {
        if args.check {
            wrong.push(
                Diagnostic::new("not-formatted", "the file is laid out in another way")
                    .at(Location::file(shown.clone()))
                    .mend(format!("tenon wit fmt {shown}")),
            );
        } else {
            project::write(file, laid_out.as_bytes())?;
            terminal.step("formatted", shown);
        }
    }
    let names: Vec<&String> = changed.iter().map(|(_, shown, _)| shown).collect();
    if terminal.json {
        terminal.result("", || json!({ "files": files.len(), "changed": names }));
    }
    Ok(Diagnostics::check(wrong)?)
}

/// The files of contracts in a folder, in the order of their names; not those of dependencies.
fn contracts(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<(), Diagnostic> {
    let unreadable = |error: std::io::Error| {
        Diagnostic::new("cannot-read", format!("`{}` cannot be read: {error}", folder.display()))
            .at(Location::file(folder.display().to_string()))
    };
    let mut entries =
        std::fs::read_dir(folder).and_then(Iterator::collect::<Result<Vec<_>, _>>).map_err(unreadable)?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let (path, name) = (entry.path(), entry.file_name());
        let kind = entry.file_type().map_err(unreadable)?;
        if kind.is_dir() {
            let left_out =
                name == "deps" || tenon_build::PRODUCT_FOLDERS.iter().any(|product| name == *product);
            if left_out {
                continue;
            }
            if depth == DEPTH_MAX {
                return Err(too_large(&path, format!("folders are nested deeper than {DEPTH_MAX}")));
            }
            contracts(&path, depth + 1, files)?;
        } else if is_wit(&path) {
            if files.len() == FILES_MAX {
                return Err(too_large(&path, format!("there are more than {FILES_MAX} WIT files")));
            }
            files.push(path);
        }
    }
    Ok(())
}

/// The files of contracts in a folder, with those of dependencies.
pub(crate) fn contracts_with_deps(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), Diagnostic> {
    contracts(folder, 0, files)?;
    let deps = folder.join("deps");
    if deps.is_dir() {
        contracts(&deps, 0, files)?;
    }
    Ok(())
}

fn is_wit(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "wit")
}

fn too_large(at: &Path, what: String) -> Diagnostic {
    Diagnostic::new("folder-too-large", what)
        .at(Location::file(at.display().to_string()))
        .mend("name the folders of the contracts one by one")
}

/// The names and texts of the WIT files in a folder; what cannot be read is told of where it is meant itself.
fn texts(folder: &Path) -> Vec<(String, String)> {
    let place = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let names = std::fs::read_dir(place).into_iter().flatten().flatten().map(|entry| entry.file_name());
    names
        .map(|name| folder.join(name))
        .filter(|path| is_wit(path))
        .take(FILES_MAX)
        .filter_map(|path| Some((path.display().to_string(), text(&path).ok()?)))
        .collect()
}

fn text(file: &Path) -> Result<String, Diagnostic> {
    String::from_utf8(read(file, FILE_BYTES_MAX)?).map_err(|_| {
        Diagnostic::new("wit-invalid", "the file is not UTF-8 text")
            .at(Location::file(file.display().to_string()))
    })
}

fn docs(args: &WitDocsArgs, terminal: &Terminal) -> Result<(), CommandError> {
    let resolve = tenon_build::load_wit(&args.dir)?;
    let pages = tenon_wit::document(&resolve);
    let taken = pages.iter().map(|page| args.output.join(&page.file)).filter(|file| is_anothers(file));
    Diagnostics::check(
        taken
            .map(|file| {
                Diagnostic::new(
                    "docs-page-taken",
                    "a page would go where a file is that `tenon wit docs` did not write",
                )
                .at(Location::file(file.display().to_string()))
                .mend("choose another folder with `-o`, or move the file")
            })
            .collect(),
    )?;
    for page in &pages {
        project::write(&args.output.join(&page.file), format!("{PAGE_MARK}{}", page.text).as_bytes())?;
    }
    let names: Vec<_> = pages.iter().map(|page| page.file.clone()).collect();
    terminal.result(
        format_args!("{}: {} pages", args.output.display(), pages.len()),
        || json!({ "folder": args.output.display().to_string(), "pages": names }),
    );
    Ok(())
}

/// What the toolchain of a language makes of a world.
fn bindgen(args: &WitBindgenArgs, settings: &Settings, terminal: &Terminal) -> Result<(), CommandError> {
    let toolbox = Toolbox::new(&settings.tools);
    let host = Host::new(settings.environment.clone());
    let setting =
        Setting { toolbox: &toolbox, host: &host, progress: &Shown(terminal), initialize: None, link: None };
    let language = Language::from(args.lang);
    let files = tenon_build::bindings(language, &args.dir, args.world.as_deref(), setting)
        .map_err(|error| CommandError::from(error.diagnostics()))?;
    let names: Vec<&String> = files.iter().map(|(name, _)| name).collect();
    if let Some(out) = &args.out {
        for (name, text) in &files {
            project::write(&out.join(name), text)?;
        }
        terminal.result(
            format_args!("{}: {} files", out.display(), files.len()),
            || json!({ "folder": out.display().to_string(), "files": names }),
        );
        return Ok(());
    }
    let texts =
        files.iter().map(|(name, text)| format!("==> {name} <==\n{}\n", String::from_utf8_lossy(text)));
    terminal.result(texts.collect::<String>().trim_end(), || {
        let text = |text: &[u8]| String::from_utf8_lossy(text).into_owned();
        json!({ "files": files.iter().map(|(name, it)| json!({ "name": name, "text": text(it) })).collect::<Vec<_>>() })
    });
    Ok(())
}

/// Whether there is a file that is no page of ours.
fn is_anothers(file: &Path) -> bool {
    match std::fs::read(file) {
        Ok(there) => !there.starts_with(PAGE_MARK.as_bytes()),
        Err(error) => error.kind() != std::io::ErrorKind::NotFound,
    }
}
