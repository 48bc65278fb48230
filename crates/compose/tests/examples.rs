//! Every example, wired wrongly in every way that somebody may who is new here: what they are told names the line, the
//! component, the interface and the mend.
//!
//! The components are stand-ins that have the true types: made from the worlds of the examples' contracts, and doing nothing.

#![expect(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use tenon_compose::manifest::{Component, Wire};
use tenon_compose::{Input, Manifest, compose};
use tenon_model::{Diagnostic, Diagnostics, Location};
use wit_component::{ComponentEncoder, StringEncoding, dummy_module, embed_component_metadata};
use wit_parser::{LiftLowerAbi, ManglingAndAbi, Resolve, UnresolvedPackageGroup};

/// An example, and a component for each that its manifest names.
struct Example {
    file: String,
    folder: PathBuf,
    text: String,
    manifest: Manifest,
    components: BTreeMap<String, Vec<u8>>,
}

/// All folders of `examples` that have a manifest.
fn examples() -> Vec<Example> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let mut found = Vec::new();
    for entry in fs::read_dir(&folder).unwrap() {
        let folder = entry.unwrap().path();
        let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
        for file in ["tenon.toml", "composition.toml"] {
            if let Ok(text) = fs::read_to_string(folder.join(file)) {
                let file = format!("examples/{name}/{file}");
                let manifest = Manifest::parse(&file, &text).unwrap();
                let component = |it: &Component| (it.name.clone(), stand_in(&folder, it, |_, text| text));
                let components = manifest.components.iter().map(component).collect();
                found.push(Example { file, folder: folder.clone(), text, manifest, components });
            }
        }
    }
    found.sort_by(|a, b| a.file.cmp(&b.file));
    found
}

/// A component that has the imports and exports of the world that `component` is built for; `edited` is what its contracts say,
/// by their files' paths.
fn stand_in(folder: &Path, component: &Component, edited: impl Fn(&Path, String) -> String) -> Vec<u8> {
    let wit = folder.join(component.wit.as_deref().unwrap_or("wit"));
    let packages = |folder: &Path| {
        let mut group: Option<UnresolvedPackageGroup> = None;
        for file in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if file.extension().is_some_and(|extension| extension == "wit") {
                assert!(group.is_none(), "a package of several files is not read here: {}", folder.display());
                let text = edited(&file, fs::read_to_string(&file).unwrap());
                group = Some(UnresolvedPackageGroup::parse(&file, &text).unwrap());
            }
        }
        group.unwrap()
    };
    let mut deps = Vec::new();
    if let Ok(listing) = fs::read_dir(wit.join("deps")) {
        deps.extend(listing.map(|entry| packages(&entry.unwrap().path())));
    }
    let mut resolve = Resolve::default();
    let package = resolve.push_groups(packages(&wit), deps).unwrap();
    let world = resolve.select_world(&[package], component.world.as_deref()).unwrap();
    let mut module = dummy_module(&resolve, world, ManglingAndAbi::Legacy(LiftLowerAbi::Sync));
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8, false).unwrap();
    ComponentEncoder::default().module(&module).unwrap().validate(true).encode().unwrap()
}

impl Example {
    /// What comes of `text` as the manifest, with `changed` in the place of what is there; `None` is a file that is missing.
    fn outcome(&self, text: &str, changed: &BTreeMap<String, Option<Vec<u8>>>) -> Result<(), Diagnostics> {
        let manifest = Manifest::parse(&self.file, text)?;
        let mut bytes: BTreeMap<String, Option<Vec<u8>>> =
            self.components.iter().map(|(name, bytes)| (name.clone(), Some(bytes.clone()))).collect();
        bytes.extend(changed.clone());
        let files: Vec<_> = manifest
            .components
            .iter()
            .filter_map(|it| Some((&it.name, &it.path, bytes.get(&it.name)?.as_ref()?)))
            .collect();
        let inputs: Vec<_> =
            files.iter().map(|(component, file, bytes)| Input { component, file, bytes, wit: &[] }).collect();
        compose(&manifest, &inputs).map(drop)
    }

    /// The line, counted from one, at which `component` says what satisfies `wire`.
    fn line_of(&self, component: &Component, wire: &Wire) -> usize {
        let table = format!("[component.{}.imports]", component.name);
        let begin = self.text.lines().position(|line| line == table).unwrap();
        let key = format!("\"{}\" = ", wire.import.name);
        begin + self.text.lines().skip(begin).position(|line| line.starts_with(&key)).unwrap() + 1
    }

    /// The line at which the table of `component` begins.
    fn table_of(&self, component: &Component) -> usize {
        let table = format!("[component.{}]", component.name);
        self.text.lines().position(|line| line == table).unwrap() + 1
    }

    /// The manifest with another line at `line`; without it, where there is none.
    fn with_line(&self, line: usize, with: Option<&str>) -> String {
        let lines = self.text.lines().enumerate();
        let edited = lines.filter_map(|(at, text)| if at + 1 == line { with } else { Some(text) });
        edited.fold(String::new(), |text, line| text + line + "\n")
    }
}

/// A name that was typed in haste: its last two letters that differ have changed places.
fn misspelt(name: &str) -> String {
    let mut letters: Vec<char> = name.chars().collect();
    let at = (1..letters.len()).rev().find(|at| letters[at - 1] != letters[*at]).unwrap();
    letters.swap(at - 1, at);
    letters.into_iter().collect()
}

/// One way to go wrong, and what has to be said of it.
struct Wrong {
    what: &'static str,
    text: String,
    changed: BTreeMap<String, Option<Vec<u8>>>,
    code: &'static str,
    line: usize,
    /// What the message names.
    names: Vec<String>,
    /// What stands in the notes: what there is instead.
    shows: Vec<String>,
    /// What stands in the mend.
    mends: Vec<String>,
}

/// All ways to wire one import of an example wrongly.
fn wrong_wires(example: &Example, component: &Component, wire: &Wire) -> Vec<Wrong> {
    let (name, import, provider) = (&component.name, &wire.import.name, &wire.component.name);
    let line = example.line_of(component, wire);
    let written = format!("\"{import}\" = {{ component = \"{provider}\" }}");
    let at_line = |what, code, with: String| Wrong {
        what,
        text: example.with_line(line, Some(&with)),
        changed: BTreeMap::new(),
        code,
        line,
        names: Vec::new(),
        shows: Vec::new(),
        mends: Vec::new(),
    };
    let version = "1.0.0";
    let mut wrong = vec![
        Wrong {
            text: example.with_line(line, None),
            line: example.table_of(component),
            names: vec![format!("`{name}` imports `{import}@{version}`")],
            shows: vec![format!("imported by {name}"), format!("exports `{import}@{version}`, which fits")],
            mends: vec![format!("[component.{name}.imports]"), written.clone()],
            ..at_line("an import is left out", "unsatisfied-import", String::new())
        },
        Wrong {
            names: vec![format!("`{name}` does not import `{}`", misspelt(import))],
            shows: vec![format!("imports of {name} ({})", component.path), import.clone()],
            mends: vec![format!("Did you mean `{import}")],
            ..at_line(
                "the interface is misspelt",
                "unknown-import",
                written.replacen(import, &misspelt(import), 1),
            )
        },
        Wrong {
            names: vec![format!("no component `{}`", misspelt(provider))],
            shows: vec![provider.clone()],
            mends: vec![format!("Did you mean `{provider}`?")],
            ..at_line(
                "the component is misspelt",
                "unknown-component",
                format!("\"{import}\" = {{ component = \"{}\" }}", misspelt(provider)),
            )
        },
        Wrong {
            names: vec![format!("`{provider}` does not export `demo:nobody/nothing`")],
            shows: vec![format!("exports of {provider}"), format!("{import}@{version}")],
            mends: vec!["export = ".to_owned()],
            ..at_line(
                "the export is not there",
                "unknown-export",
                format!("\"{import}\" = {{ component = \"{provider}\", export = \"demo:nobody/nothing\" }}"),
            )
        },
        Wrong {
            names: vec![format!("the import `{import}` of `{name}` does not say which component")],
            mends: vec![format!("\"{import}\" = {{ component = ")],
            ..at_line("the component is not said", "missing-component", format!("\"{import}\" = {{}}"))
        },
        Wrong {
            names: vec![import.clone()],
            mends: vec![written.clone()],
            ..at_line("the table is left out", "manifest-type", format!("\"{import}\" = \"{provider}\""))
        },
    ];
    let mut others = example.manifest.components.iter().filter(|it| it.name != *name && it.name != *provider);
    let exports_it = |other: &Component| {
        let bytes = &example.components[&other.name];
        tenon_wit::inspect(&other.path, bytes)
            .unwrap()
            .component
            .exports
            .iter()
            .any(|it| it.starts_with(import))
    };
    if let Some(other) = others.find(|other| !exports_it(other)) {
        wrong.push(Wrong {
            names: vec![format!("`{}` does not export `{import}", other.name)],
            shows: vec![format!("exports of {} ({})", other.name, other.path), provider.clone()],
            mends: vec![format!("Did you mean `{provider}`? {written}")],
            ..at_line(
                "another component is named",
                "unknown-export",
                written.replacen(
                    &format!("component = \"{provider}\""),
                    &format!("component = \"{}\"", other.name),
                    1,
                ),
            )
        });
    }
    // The provider was built against the next version of the contract.
    let package = import.split('/').next().unwrap();
    let provider_component = example.manifest.components.iter().find(|it| it.name == *provider).unwrap();
    let newer = stand_in(&example.folder, provider_component, |_, text| {
        let text = text.replace(&format!("package {package}@{version}"), &format!("package {package}@2.0.0"));
        text.lines()
            .map(|line| {
                if line.contains(&format!("{package}/")) {
                    line.replace(&format!("@{version}"), "@2.0.0")
                } else {
                    line.to_owned()
                }
            })
            .fold(String::new(), |text, line| text + &line + "\n")
    });
    wrong.push(Wrong {
        text: example.text.clone(),
        changed: BTreeMap::from([(provider.clone(), Some(newer))]),
        names: vec![format!("`{name}` imports `{import}@{version}`"), format!("`{provider}` exports it")],
        shows: vec![format!("{import}@{version}"), format!("{import}@2.0.0")],
        mends: vec![format!("`{name}` is behind"), format!("`{provider}`")],
        ..at_line("another version", "version-mismatch", String::new())
    });
    wrong
}

/// All ways in which one component of an example may be wrong.
fn wrong_components(example: &Example, component: &Component) -> Vec<Wrong> {
    let (name, path) = (&component.name, &component.path);
    let table = example.table_of(component);
    let path_line = component.path_at.as_ref().unwrap().position.unwrap().line as usize;
    let imports = format!("[component.{name}.imports]");
    let stray = "\"demo:nobody/nothing\" = { component = \"NAME\" }".replace("NAME", name);
    let (text, line) = match example.text.lines().position(|line| line == imports) {
        Some(at) => (example.with_line(at + 1, Some(&format!("{imports}\n{stray}"))), at + 2),
        None => {
            let lines = example.text.lines().count();
            (format!("{}\n{imports}\n{stray}\n", example.text.trim_end()), lines + 2)
        }
    };
    let here = |what, code, text: String, line| Wrong {
        what,
        text,
        changed: BTreeMap::new(),
        code,
        line,
        names: vec![name.clone()],
        shows: Vec::new(),
        mends: Vec::new(),
    };
    vec![
        Wrong {
            changed: BTreeMap::from([(name.clone(), None)]),
            mends: vec![path.clone()],
            ..here("the file is missing", "missing-input", example.text.clone(), path_line)
        },
        Wrong {
            changed: BTreeMap::from([(name.clone(), Some(b"not a component\n".to_vec()))]),
            names: vec![path.clone()],
            ..here("the file is something else", "not-wasm", example.text.clone(), path_line)
        },
        Wrong {
            names: vec![format!("`{name}` does not import `demo:nobody/nothing`")],
            shows: vec![format!("imports of {name} ({path})")],
            mends: vec!["Remove the line".to_owned()],
            ..here("what is not imported is wired", "unknown-import", text, line)
        },
        Wrong {
            names: vec!["`paht`".to_owned()],
            mends: vec!["Did you mean `path`?".to_owned()],
            ..here(
                "a key is misspelt",
                "unknown-key",
                example.with_line(path_line, Some(&format!("paht = \"{path}\""))),
                path_line,
            )
        },
        Wrong {
            names: vec!["componet".to_owned()],
            mends: vec!["Did you mean `component`?".to_owned()],
            ..here(
                "the table is misspelt",
                "unknown-key",
                example.with_line(table, Some(&format!("[componet.{name}]"))),
                table,
            )
        },
    ]
}

/// Says what is wrong with how `wrong` is told; nothing, where nothing is.
fn complaint(example: &Example, wrong: &Wrong) -> Option<String> {
    let found = match example.outcome(&wrong.text, &wrong.changed) {
        Ok(()) => return Some("nothing is said".to_owned()),
        Err(found) => found,
    };
    let is_there = |at: &Location| {
        at.file == example.file && at.position.is_some_and(|at| at.line as usize == wrong.line)
    };
    // What is wrong with a file is said of the file, and of who named it.
    let fits = |it: &&Diagnostic| {
        let places = it.at.iter().chain(it.notes.iter().filter_map(|note| note.at.as_ref()));
        it.code == wrong.code && places.into_iter().any(is_there)
    };
    let Some(said) = found.iter().find(fits) else {
        return Some(format!("no {} at line {}:\n{found}", wrong.code, wrong.line));
    };
    let notes: String = said.notes.iter().map(|note| format!("{}\n{}\n", note.label, note.text)).collect();
    let mend = said.mend.clone().unwrap_or_default();
    let lacks = |what: &str, text: &str, wanted: &[String]| {
        let missing = wanted.iter().find(|it| !text.contains(it.as_str()))?;
        Some(format!("the {what} lacks {missing:?}:\n{said}"))
    };
    if mend.trim().is_empty() {
        return Some(format!("there is no mend:\n{said}"));
    }
    lacks("message", &said.message, &wrong.names)
        .or_else(|| lacks("notes", &notes, &wrong.shows))
        .or_else(|| lacks("mend", &mend, &wrong.mends))
}

#[test]
fn wrong_wiring_of_any_example_is_told_with_its_mend() {
    let examples = examples();
    assert!(examples.len() >= 10, "the examples are there");
    let (mut tried, mut wires, mut complaints) = (0, 0, Vec::new());
    for example in &examples {
        example
            .outcome(&example.text, &BTreeMap::new())
            .unwrap_or_else(|found| panic!("{}\n{found}", example.file));
        let mut wrong = Vec::new();
        for component in &example.manifest.components {
            wrong.extend(wrong_components(example, component));
            for wire in &component.wires {
                wrong.extend(wrong_wires(example, component, wire));
                wires += 1;
            }
        }
        tried += wrong.len();
        for one in &wrong {
            let told = complaint(example, one);
            complaints.extend(told.map(|told| format!("{}: {}: {told}", example.file, one.what)));
        }
    }
    assert!(wires >= 20 && tried >= 250, "{wires} imports, {tried} ways");
    assert!(complaints.is_empty(), "{} of {tried}:\n\n{}", complaints.len(), complaints.join("\n"));
}
