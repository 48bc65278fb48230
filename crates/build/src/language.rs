//! The languages a component may be written in, and how a folder tells.

use std::path::{Path, PathBuf};

use tenon_model::{Diagnostic, Language, Location};

/// The language that the files in `folder` are written in.
///
/// # Errors
/// When the folder is missing, has no project file of any language, or has those of several.
pub fn detect(folder: &Path) -> Result<Language, Diagnostic> {
    let here = || Location::file(folder.display().to_string());
    if !folder.is_dir() {
        return Err(Diagnostic::new("source-missing", format!("there is no folder `{}`", folder.display()))
            .at(here())
            .mend("name the folder with the component's source in `source`"));
    }
    let mut found = Vec::new();
    if folder.join("Cargo.toml").is_file() {
        found.push(("Cargo.toml", Language::Rust));
    }
    if folder.join("go.mod").is_file() {
        found.push(("go.mod", Language::Go));
    }
    if ["pyproject.toml", "app.py", "src/app.py"].iter().any(|name| folder.join(name).is_file()) {
        found.push(("pyproject.toml or app.py", Language::Python));
    }
    // An AssemblyScript project has a package.json too, for its compiler and the editor.
    if folder.join("asconfig.json").is_file() {
        found.push(("asconfig.json", Language::AssemblyScript));
    } else if folder.join("package.json").is_file() {
        let typed = matches!(script_entry(folder)?.extension(), Some(extension) if extension == "ts" || extension == "mts");
        found.push(("package.json", if typed { Language::TypeScript } else { Language::JavaScript }));
    }
    // C has no project file; and a component in another language may have some C beside it.
    if found.is_empty() {
        match (c_sources(folder, &CPP_EXTENSIONS), c_sources(folder, &["c"])) {
            (cpp, _) if !cpp.is_empty() => found.push(("C++ source", Language::Cpp)),
            (_, c) if !c.is_empty() => found.push(("C source", Language::C)),
            _ => {}
        }
    }
    match found[..] {
        [(_, language)] => Ok(language),
        [] => Err(Diagnostic::new(
            "language-unknown",
            format!("`{}` is no language's project", folder.display()),
        )
        .at(here())
        .note(
            "expected",
            "Cargo.toml (Rust), go.mod (Go), package.json (TypeScript, JavaScript), asconfig.json (AssemblyScript), \
             pyproject.toml or app.py (Python), or .c, .cc, .cpp or .cxx files here or in src (C, C++)",
        )
        .mend("add the language's project file, or name the right folder in `source`")),
        _ => Err(Diagnostic::new(
            "language-ambiguous",
            format!("`{}` has several languages", folder.display()),
        )
        .at(here())
        .note(
            "found",
            found
                .iter()
                .map(|(file, language)| format!("{file} ({language})"))
                .collect::<Vec<_>>()
                .join(", "),
        )
        .mend("say which in the manifest, for example `language = \"rust\"`")),
    }
}

/// What C++ files end in.
pub(crate) const CPP_EXTENSIONS: [&str; 3] = ["cpp", "cc", "cxx"];

/// The files with one of these extensions in `folder` and its `src`, sorted.
pub(crate) fn c_sources(folder: &Path, extensions: &[&str]) -> Vec<PathBuf> {
    let mut sources: Vec<PathBuf> = [folder.to_owned(), folder.join("src")]
        .iter()
        .filter_map(|folder| std::fs::read_dir(folder).ok())
        .flat_map(|entries| entries.flatten().map(|entry| entry.path()))
        .filter(|path| {
            path.extension().is_some_and(|extension| extensions.iter().any(|other| extension == *other))
        })
        .collect();
    sources.sort();
    sources
}

/// The file that a JavaScript or TypeScript component begins with: `main` of its `package.json`, or a usual name.
pub(crate) fn script_entry(folder: &Path) -> Result<PathBuf, Diagnostic> {
    const USUAL: [&str; 6] =
        ["src/main.ts", "src/index.ts", "main.ts", "index.ts", "src/index.js", "index.js"];
    let manifest = folder.join("package.json");
    let here = || Location::file(manifest.display().to_string());
    let text = std::fs::read_to_string(&manifest).map_err(|error| {
        Diagnostic::new("unreadable", format!("cannot read package.json: {error}")).at(here())
    })?;
    let package: serde_json::Value = serde_json::from_str(&text).map_err(|error| {
        Diagnostic::new("not-json", format!("package.json is not JSON: {error}")).at(here())
    })?;
    let entry = match package.get("main").and_then(serde_json::Value::as_str) {
        Some(main) => folder.join(main),
        None => USUAL.iter().map(|name| folder.join(name)).find(|file| file.is_file()).ok_or_else(|| {
            Diagnostic::new("entry-missing", "package.json does not say which file the component begins with")
                .at(here())
                .mend("add `\"main\": \"src/main.ts\"`")
        })?,
    };
    if entry.is_file() {
        Ok(entry)
    } else {
        Err(Diagnostic::new("entry-missing", format!("there is no file `{}`", entry.display()))
            .at(here())
            .mend("correct `main`"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        folder
    }

    #[test]
    fn the_project_file_tells_the_language() {
        for (files, language) in [
            (&[("Cargo.toml", "")][..], Language::Rust),
            (&[("go.mod", "module m")], Language::Go),
            (&[("package.json", r#"{"main":"a.ts"}"#), ("a.ts", "")], Language::TypeScript),
            (&[("package.json", "{}"), ("src/index.ts", "")], Language::TypeScript),
            (&[("package.json", r#"{"main":"a.js"}"#), ("a.js", "")], Language::JavaScript),
            (&[("app.py", "")], Language::Python),
            (&[("pyproject.toml", ""), ("src/app.py", "")], Language::Python),
            (&[("a.c", "")], Language::C),
            (&[("a.c", ""), ("src/b.cpp", "")], Language::Cpp),
            (&[("go.mod", ""), ("a.c", "")], Language::Go),
            (&[("asconfig.json", ""), ("package.json", "{}")], Language::AssemblyScript),
        ] {
            assert_eq!(detect(folder(files).path()), Ok(language));
        }
    }

    #[test]
    fn what_cannot_be_told_is_a_diagnostic() {
        for (files, code) in [
            (&[][..], "language-unknown"),
            (&[("Cargo.toml", ""), ("go.mod", "")], "language-ambiguous"),
            (&[("package.json", "{")], "not-json"),
            (&[("package.json", "{}")], "entry-missing"),
            (&[("package.json", r#"{"main":"gone.ts"}"#)], "entry-missing"),
        ] {
            assert_eq!(detect(folder(files).path()).unwrap_err().code, code);
        }
        assert_eq!(detect(Path::new("/nowhere/at/all")).unwrap_err().code, "source-missing");
    }
}
