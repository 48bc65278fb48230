//! `tenon wit`: contracts as files.

use std::path::{Path, PathBuf};

use serde_json::json;
use tenon_model::{Diagnostic, Diagnostics, Location};

use crate::args::{WitArgs, WitCommand, WitDocsArgs, WitFmtArgs};
use crate::error::CommandError;
use crate::project::{self, read};
use crate::terminal::Terminal;

/// A file of contracts that is larger is not one.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// Files below one folder.
const FILES_MAX: usize = 10_000;
/// Folders within folders.
const DEPTH_MAX: usize = 16;

pub(crate) fn run(args: &WitArgs, terminal: &Terminal) -> Result<(), CommandError> {
    match &args.command {
        WitCommand::Fmt(args) => fmt(args, terminal),
        WitCommand::Docs(args) => docs(args, terminal),
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
    for file in &files {
        let shown = file.display().to_string();
        let laid_out = text(file).and_then(|text| Ok((tenon_wit::format_wit(&shown, &text)?, text)));
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
            if !left_out && depth < DEPTH_MAX {
                contracts(&path, depth + 1, files)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "wit") && files.len() < FILES_MAX {
            files.push(path);
        }
    }
    Ok(())
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
    for page in &pages {
        project::write(&args.output.join(&page.file), page.text.as_bytes())?;
    }
    let names: Vec<_> = pages.iter().map(|page| page.file.clone()).collect();
    terminal.result(
        format_args!("{}: {} pages", args.output.display(), pages.len()),
        || json!({ "folder": args.output.display().to_string(), "pages": names }),
    );
    Ok(())
}
