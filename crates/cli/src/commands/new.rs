//! `tenon new`: a folder that builds and serves at once.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;
use tenon_build::Language;
use tenon_model::{Diagnostic, Location};

use crate::args::NewArgs;
use crate::error::CommandError;
use crate::project;
use crate::terminal::Terminal;

/// A file of a template: where it goes, and its text.
type File = (&'static str, &'static str);

/// What every project has.
const SHARED: [File; 3] = [
    ("tenon.toml", include_str!("../../../../templates/tenon.toml")),
    (".gitignore", include_str!("../../../../templates/gitignore")),
    ("wit/app.wit", include_str!("../../../../templates/wit/app.wit")),
];

/// The source that answers the requests, in each language.
fn source(language: Language) -> &'static [File] {
    match language {
        Language::Rust => &[
            ("Cargo.toml", include_str!("../../../../templates/rust/Cargo.toml.in")),
            ("src/lib.rs", include_str!("../../../../templates/rust/src/lib.rs")),
        ],
        Language::Go => &[
            ("go.mod", include_str!("../../../../templates/go/go.mod.in")),
            ("handler/handler.go", include_str!("../../../../templates/go/handler/handler.go")),
        ],
        Language::TypeScript => &[
            ("package.json", include_str!("../../../../templates/typescript/package.json")),
            ("src/main.ts", include_str!("../../../../templates/typescript/src/main.ts")),
        ],
        Language::JavaScript => &[
            ("package.json", include_str!("../../../../templates/javascript/package.json")),
            ("src/main.js", include_str!("../../../../templates/javascript/src/main.js")),
        ],
        Language::Python => &[("app.py", include_str!("../../../../templates/python/app.py"))],
        Language::C => &[
            ("app.c", include_str!("../../../../templates/c/app.c")),
            ("compile_flags.txt", include_str!("../../../../templates/c/compile_flags.txt")),
        ],
        Language::Cpp => &[
            ("app.cpp", include_str!("../../../../templates/cpp/app.cpp")),
            ("compile_flags.txt", include_str!("../../../../templates/cpp/compile_flags.txt")),
        ],
        Language::AssemblyScript => &[
            ("asconfig.json", include_str!("../../../../templates/assemblyscript/asconfig.json")),
            ("assembly/handler.ts", include_str!("../../../../templates/assemblyscript/assembly/handler.ts")),
        ],
    }
}

pub(crate) fn run(args: &NewArgs, terminal: &Terminal) -> Result<(), CommandError> {
    let folder = &args.folder;
    let name = name_of(folder)?;
    require_empty(folder)?;
    let language = Language::from(args.lang);
    let mut written: Vec<PathBuf> = Vec::new();
    for (path, text) in SHARED.iter().chain(source(language)) {
        let text = text.replace("{{name}}", &name).replace("{{language}}", language.name());
        let file = folder.join(path);
        project::write(&file, text.as_bytes())?;
        terminal.step("wrote", file.display());
        written.push(file);
    }
    let shown = folder.display();
    let next = [format!("tenon build {shown}"), format!("tenon serve {shown}")];
    terminal.result(format_args!("next:\n  {}\n  {}", next[0], next[1]), || {
        json!({
            "name": name,
            "language": language.name(),
            "folder": shown.to_string(),
            "files": written.iter().map(|file| file.display().to_string()).collect::<Vec<_>>(),
            "next": next,
        })
    });
    Ok(())
}

/// The component's name, which is the folder's: a name in WIT and of files, crates and modules too.
fn name_of(folder: &Path) -> Result<String, Diagnostic> {
    let name = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let is_word = |word: &str| {
        word.starts_with(|c: char| c.is_ascii_lowercase())
            && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
    };
    if name.split('-').all(is_word) {
        return Ok(name);
    }
    Err(Diagnostic::new("project-name", format!("`{name}` cannot be the name of a component"))
        .at(Location::file(folder.display().to_string()))
        .mend("use lower-case words of letters and digits with dashes between them, for example `my-app`"))
}

/// What is there is somebody's work.
fn require_empty(folder: &Path) -> Result<(), Diagnostic> {
    let there = |what: String| {
        Diagnostic::new("folder-taken", what)
            .at(Location::file(folder.display().to_string()))
            .mend("choose another name, or empty the folder")
    };
    match fs::read_dir(folder) {
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(_) => Err(there(format!("`{}` is there, and not empty", folder.display()))),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(there(format!("`{}` cannot be a project's folder: {error}", folder.display()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_words_with_dashes() {
        for name in ["app", "my-app2", "some/where/a-b"] {
            assert!(name_of(Path::new(name)).is_ok(), "{name}");
        }
        for name in ["App", "my_app", "2app", "a--b", "-a", "a-", "a-2", "ä", "..", "/"] {
            assert_eq!(name_of(Path::new(name)).unwrap_err().code, "project-name", "{name}");
        }
    }

    #[test]
    fn a_template_tells_its_own_language() {
        for language in Language::ALL {
            let folder = tempfile::tempdir().unwrap();
            for (path, text) in source(language) {
                project::write(&folder.path().join(path), text.as_bytes()).unwrap();
            }
            assert_eq!(tenon_build::detect(folder.path()), Ok(language));
        }
    }
}
