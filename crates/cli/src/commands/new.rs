//! `tenon new`: a folder that builds and serves at once.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;
use tenon_build::Language;
use tenon_model::{Diagnostic, Location};

use crate::args::NewArgs;
use crate::commands::wit;
use crate::error::CommandError;
use crate::project;
use crate::terminal::Terminal;

/// A file of a template: where it goes, and its text.
type File = (&'static str, &'static str);

/// What every project has.
const SHARED: [File; 2] = [
    ("tenon.toml", include_str!("../../../../templates/tenon.toml")),
    (".gitignore", include_str!("../../../../templates/gitignore")),
];

/// The contract of a component that answers requests.
const CONTRACT: File = ("wit/app.wit", include_str!("../../../../templates/wit/app.wit"));

/// The parts of a template that are not source: a project file, and what an editor reads.
const PROJECT_FILES: [&str; 5] =
    ["Cargo.toml", "go.mod", "package.json", "compile_flags.txt", "asconfig.json"];

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
    let begun = match &args.world {
        None => Begun::with_handler(language),
        Some(world) => Begun::of_world(language, &name, world)?,
    };
    for (path, text) in &begun.files {
        let text = text
            .replace("{{name}}", &name)
            .replace("{{language}}", language.name())
            .replace("{{world}}", &begun.world);
        let file = folder.join(path);
        project::write(&file, text.as_bytes())?;
        terminal.step("wrote", file.display());
        written.push(file);
    }
    let shown = folder.display();
    let use_it = if begun.serves { "serve" } else { "call" };
    let next = [format!("tenon build {shown}"), format!("tenon {use_it} {shown}")];
    terminal.result(format_args!("next:\n  {}\n  {}", next[0], next[1]), || {
        json!({
            "name": name,
            "language": language.name(),
            "world": begun.world,
            "folder": shown.to_string(),
            "files": written.iter().map(|file| file.display().to_string()).collect::<Vec<_>>(),
            "next": next,
        })
    });
    Ok(())
}

/// What a folder begins with.
struct Begun {
    world: String,
    files: Vec<(String, String)>,
    /// Whether it answers HTTP requests.
    serves: bool,
}

impl Begun {
    /// The template whose handler answers with a greeting.
    fn with_handler(language: Language) -> Self {
        let files = SHARED.iter().chain([&CONTRACT]).chain(source(language));
        let files = files.map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
        Self { world: "app".to_owned(), files, serves: true }
    }

    /// A world of somebody's, or one that is known by its name: the contract in place, and every export with a body to be
    /// written.
    fn of_world(language: Language, name: &str, world: &str) -> Result<Self, CommandError> {
        let (contracts, chosen) = match known_world(language, name, world) {
            Some(contracts) => (contracts, None),
            None => {
                let (path, chosen) = split_world(world);
                (contracts_at(path, world)?, chosen)
            }
        };
        // Generators read folders.
        let folder = tempfile::tempdir().map_err(|error| {
            Diagnostic::new("cannot-write", format!("no temporary folder can be made: {error}"))
        })?;
        for (path, text) in &contracts {
            project::write(&folder.path().join(path), text.as_bytes())?;
        }
        let wit = folder.path().join("wit");
        let skeleton = tenon_build::skeleton(language, name, &wit, chosen)
            .map_err(|found| relocated(found, &wit, world))?;
        let is_project_file = |path: &str| PROJECT_FILES.contains(&path);
        let mut files: Vec<(String, String)> = SHARED
            .iter()
            .chain(source(language).iter().filter(|(path, _)| is_project_file(path)))
            .map(|(path, text)| ((*path).to_owned(), (*text).to_owned()))
            .collect();
        if skeleton.is_async {
            for (_, text) in files.iter_mut().filter(|(path, _)| path == "Cargo.toml") {
                *text = text.replace("\"realloc\", \"std\"]", "\"realloc\", \"std\", \"async\"]");
            }
        }
        files.extend(contracts);
        files.extend(skeleton.files);
        Ok(Self { world: skeleton.world, files, serves: skeleton.serves })
    }
}

/// `contracts/shop.wit#shop` as the path and the world.
fn split_world(text: &str) -> (&Path, Option<&str>) {
    match text.rsplit_once('#') {
        Some((path, world)) => (Path::new(path), Some(world)),
        None => (Path::new(text), None),
    }
}

/// The WIT of a world that is known by its name, with the release of WASI beside it.
fn known_world(language: Language, name: &str, world: &str) -> Option<Vec<(String, String)>> {
    // The engine that serves it in JavaScript does not find the handler of a newer release.
    let is_script = matches!(language, Language::JavaScript | Language::TypeScript);
    let (release, items) = match world {
        "wasi:http/proxy" => {
            let release = if is_script { "0.2.10" } else { "0.2.12" };
            (
                release,
                format!(
                    "import wasi:http/types@{release};\n    export wasi:http/incoming-handler@{release};"
                ),
            )
        }
        "wasi:http/service" => {
            ("0.3.0", "import wasi:http/types@0.3.0;\n    export wasi:http/handler@0.3.0;".to_owned())
        }
        "wasi:cli/command" => ("0.2.12", "export wasi:cli/run@0.2.12;".to_owned()),
        _ => return None,
    };
    let text = format!("package local:{name};\n\nworld {name} {{\n    {items}\n}}\n");
    let mut contracts = vec![(format!("wit/{name}.wit"), text)];
    let package = if world == "wasi:cli/command" { "wasi:cli" } else { "wasi:http" };
    for (package, text) in tenon_build::wasi_interfaces(release, package)? {
        contracts.push((format!("wit/deps/{}.wit", package.replace(':', "-")), text));
    }
    Some(contracts)
}

/// The contracts in a file or folder, with the paths that they get in a component's folder.
fn contracts_at(path: &Path, world: &str) -> Result<Vec<(String, String)>, Diagnostic> {
    let unreadable = |error: std::io::Error| {
        Diagnostic::new("cannot-read", format!("`{}` cannot be read: {error}", path.display()))
            .at(Location::file(path.display().to_string()))
    };
    let mut files = Vec::new();
    if path.is_dir() {
        wit::contracts_with_deps(path, &mut files)?;
    } else if path.is_file() {
        files.push(path.to_owned());
    } else {
        let known = "wasi:http/proxy, wasi:http/service, wasi:cli/command";
        return Err(Diagnostic::new(
            "world-unknown",
            format!("`{world}` is neither a file, nor a folder, nor a world that is known"),
        )
        .note("known", known)
        .mend("name a WIT file, a folder with contracts, or one of these"));
    }
    let base = if path.is_dir() { path } else { path.parent().unwrap_or(Path::new("")) };
    files
        .into_iter()
        .map(|file| {
            let text = fs::read_to_string(&file).map_err(unreadable)?;
            let below = file.strip_prefix(base).unwrap_or(&file).display().to_string();
            Ok((format!("wit/{below}"), text))
        })
        .collect()
}

/// The finding with the person's own name for the contracts, not that of the copy.
fn relocated(mut found: Diagnostic, copy: &Path, world: &str) -> Diagnostic {
    let shown = split_world(world).0.display().to_string();
    let copy = copy.display().to_string();
    if let Some(at) = &mut found.at {
        at.file = at.file.replace(&copy, &shown);
    }
    for note in &mut found.notes {
        note.text = note.text.replace(&copy, &shown);
    }
    found
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
