//! C and C++ to begin with, from the declarations in the generated header.

use std::fmt::Write as _;

use wit_bindgen_core::Files;

use super::classes::is_class;

/// The body of a function that nobody has written yet: it ends the sandbox, and compiles whatever it returns.
const BODY: &str = " {\n    __builtin_trap(); // to be written\n}\n";

fn text_of(files: &Files, name: &str) -> String {
    let file = files.iter().find(|(file, _)| *file == name);
    file.map(|(_, text)| String::from_utf8_lossy(text).into_owned()).unwrap_or_default()
}

/// Definitions for every function that the header declares for the author to write.
pub(super) fn c(files: &Files, header: &str) -> String {
    let mut text = format!("#include \"{header}\"\n");
    let mut is_exported = false;
    for line in text_of(files, header).lines() {
        if line.starts_with("// Exported Functions from") {
            is_exported = true;
            let _ = write!(text, "\n{}\n", line.replace("Exported Functions from", "What is exported as"));
        } else if line.starts_with("// Helper Functions") || line.starts_with("// Imported Functions") {
            is_exported = false;
        } else if let Some(declared) = line.strip_suffix(");") {
            let is_destructor = declared.starts_with("void exports_") && declared.contains("_destructor(");
            if (is_exported || is_destructor) && !declared.starts_with("extern") {
                let _ = write!(text, "{declared}){BODY}");
            }
        }
    }
    text
}

/// The same for C++: its functions are in namespaces below `exports`, its resources are classes in headers of their own.
pub(super) fn cpp(files: &Files, header: &str) -> String {
    let mut text = format!("#include \"{header}\"\n");
    let classes = files.iter().map(|(name, _)| name.to_owned()).filter(|name| is_class(name));
    for file in classes.chain([header.to_owned()]) {
        namespaces(&text_of(files, &file), &mut text);
    }
    text
}

/// The headers of the classes of exported resources, which an author adds members to.
pub(super) fn classes(files: &Files) -> impl Iterator<Item = (String, String)> {
    files.iter().filter(|(name, _)| is_class(name)).map(|(name, _)| {
        let text = text_of(files, name);
        // The generator's own remark is about files that are not there.
        let (before, after) = text.split_once("/*").and_then(|(before, rest)| Some((before, rest.split_once("*/\n")?.1))).unwrap_or(("", &text));
        let remark = format!("// A class is yours to add members to. What the contract asks of it is in `bindings/{name}.template`.\n");
        (name.to_owned(), format!("{before}{remark}{}\n", after.trim_end()))
    })
}

/// What a brace was opened by.
enum Block {
    Namespace(String),
    Class(String),
    Other,
}

fn namespaces(header: &str, text: &mut String) {
    let mut open: Vec<Block> = Vec::new();
    let mut written = Vec::new();
    for line in header.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("namespace ").and_then(|it| it.strip_suffix(" {")) {
            open.push(Block::Namespace(name.to_owned()));
        } else if let Some(declared) = line.strip_suffix(");") {
            if let Some(definition) = definition(&open, declared) {
                let _ = write!(text, "{}", namespace(&open, &mut written));
                let _ = write!(text, "{definition}{BODY}");
            }
        } else if line.ends_with('{') {
            let class = line.strip_prefix("class ").and_then(|it| it.split([':', ' ']).next());
            open.push(class.map_or(Block::Other, |name| Block::Class(name.to_owned())));
        } else if line == "}" || line == "};" {
            open.pop();
        }
    }
    if !written.is_empty() {
        let _ = writeln!(text, "\n}} // namespace {}", written.join("::"));
    }
}

/// Ends one namespace and begins another where the declaration stands in another than the last.
fn namespace(open: &[Block], written: &mut Vec<String>) -> String {
    let here: Vec<String> = open
        .iter()
        .filter_map(|block| match block {
            Block::Namespace(name) => Some(name.clone()),
            _ => None,
        })
        .collect();
    if here == *written {
        return String::new();
    }
    let mut text = String::new();
    if !written.is_empty() {
        let _ = writeln!(text, "\n}} // namespace {}", written.join("::"));
    }
    let _ = write!(text, "\nnamespace {} {{\n\n", here.join("::"));
    *written = here;
    text
}

/// The head of a definition; none for what the author does not write.
fn definition(open: &[Block], declared: &str) -> Option<String> {
    let is_exported = matches!(open.first(), Some(Block::Namespace(name)) if name == "exports");
    match open.last()? {
        Block::Namespace(_) if is_exported && !declared.starts_with("using ") => Some(format!("{declared})")),
        Block::Class(class) if is_exported => {
            let generated = ["ResourceNew(", "ResourceRep(", "ResourceDrop("];
            if generated.iter().any(|name| declared.contains(name)) {
                return None;
            }
            let declared = declared.strip_prefix("static ").unwrap_or(declared);
            let (head, parameters) = declared.split_once('(')?;
            let (result, name) = head.rsplit_once(' ').unwrap_or(("", head));
            let space = if result.is_empty() { "" } else { " " };
            Some(format!("{result}{space}{class}::{name}({parameters})"))
        }
        _ => None,
    }
}
