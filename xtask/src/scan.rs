//! What no room of this workspace may ever use of the standard library and the language. `cargo metadata` cannot
//! see it, so the sources are read: comments, texts and test modules aside, the words of every path are looked at,
//! those of grouped imports too. A renamed import of a parent (`use std as s`) is not followed: review does that.

use std::fs;
use std::path::{Path, PathBuf};

use crate::failure::{Failure, Result};
use crate::workspace::Workspace;

/// The rooms a ban is about, by folder under `crates/`.
enum Rooms {
    /// These.
    These(&'static [&'static str]),
    /// All but these.
    AllBut(&'static [&'static str]),
}

/// Words of the sources that must not be there.
struct Ban {
    who: Rooms,
    paths: &'static [&'static str],
    why: &'static str,
}

/// The list. A path stands for everything below it too; a single word, with `!` for a macro, for itself.
const BANS: &[Ban] = &[
    Ban {
        who: Rooms::These(&["model", "wit", "compose"]),
        paths: &[
            "std::fs",
            // Addresses are values; these reach the network.
            "std::net::TcpStream",
            "std::net::TcpListener",
            "std::net::UdpSocket",
            "std::net::ToSocketAddrs",
            "std::env",
            "std::process",
            "std::thread",
            "std::os",
            "std::time::Instant",
            // A time is a value; asking for it is not.
            "std::time::SystemTime::now",
            "SystemTime::now",
            "std::io::stdin",
            "std::io::stdout",
            "std::io::stderr",
        ],
        why: "model, wit and compose touch no file system, network, environment or clock",
    },
    Ban {
        who: Rooms::AllBut(&["cli", "testkit"]),
        paths: &[
            "std::env::var",
            "std::env::var_os",
            "std::env::vars",
            "std::env::vars_os",
            "std::env::args",
            "std::env::args_os",
            "std::env::home_dir",
            "std::env::set_current_dir",
            "std::process::exit",
            "std::io::stdin",
            "std::io::stdout",
            "std::io::stderr",
            "print!",
            "println!",
            "eprint!",
            "eprintln!",
            "dbg!",
        ],
        why: "only cli touches the terminal, the environment and the home directory",
    },
    Ban { who: Rooms::AllBut(&["engine"]), paths: &["unsafe"], why: "only engine may be unsafe" },
];

/// Reads every source of every room; says how many.
pub(crate) fn check(workspace: &Workspace) -> Result<String> {
    let crates = workspace.root.join("crates");
    let mut found = Vec::new();
    let mut files = 0;
    for room in entries(&crates)? {
        let Some(name) = room.file_name().and_then(|name| name.to_str()) else { continue };
        for file in rust_files(&room.join("src"))? {
            let text = fs::read_to_string(&file).map_err(|error| Failure::file("read", &file, &error))?;
            let shown = file.strip_prefix(&workspace.root).unwrap_or(&file);
            found.extend(
                violations(name, &text)
                    .into_iter()
                    .map(|(line, what)| format!("{}:{line}: {what}", shown.display())),
            );
            files += 1;
        }
    }
    if found.is_empty() {
        return Ok(format!("{files} source files"));
    }
    Err(Failure::new(format!("what must never be:\n    {}", found.join("\n    "))).mend(
        "hand the value in from the cli, or move the code to the room that may do this (ARCHITECTURE.md)",
    ))
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let failed = |error: &dyn std::fmt::Display| Failure::file("read", folder, error);
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(|error| failed(&error))? {
        paths.push(entry.map_err(|error| failed(&error))?.path());
    }
    paths.sort();
    Ok(paths)
}

fn rust_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    if folder.is_dir() {
        for path in entries(folder)? {
            if path.is_dir() {
                files.extend(rust_files(&path)?);
            } else if path.extension().is_some_and(|extension| extension == "rs") && !is_test_file(&path) {
                files.push(path);
            }
        }
    }
    Ok(files)
}

/// `tests.rs` is where a module's tests go when they outgrow it; it is declared under `#[cfg(test)]`.
fn is_test_file(path: &Path) -> bool {
    path.file_stem().is_some_and(|stem| stem == "tests")
}

fn violations(room: &str, text: &str) -> Vec<(usize, String)> {
    let words = outside_tests(words(text));
    let used = used_paths(&words);
    let mut found = Vec::new();
    for ban in BANS {
        let concerned = match ban.who {
            Rooms::These(rooms) => rooms.contains(&room),
            Rooms::AllBut(rooms) => !rooms.contains(&room),
        };
        if !concerned {
            continue;
        }
        for (line, path) in &used {
            let hit = ban.paths.iter().any(|banned| {
                path.strip_prefix(banned).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
            });
            if hit {
                found.push((*line, format!("{path}  ({})", ban.why)));
            }
        }
    }
    found.sort();
    found.dedup();
    found
}

/// A word or a sign of the source, and the line it is on.
#[derive(Clone, Debug, PartialEq)]
struct Word<'a> {
    line: usize,
    text: &'a str,
}

/// The words of a source without comments and literals. `::` is one word.
fn words(text: &str) -> Vec<Word<'_>> {
    let bytes = text.as_bytes();
    let mut words = Vec::new();
    let mut line = 1;
    let mut at = 0;
    while at < bytes.len() {
        let rest = &text[at..];
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if let Some(length) = literal(rest) {
            length
        } else if is_word(bytes[at]) {
            let length = rest.bytes().take_while(|byte| is_word(*byte)).count();
            words.push(Word { line, text: &rest[..length] });
            length
        } else if rest.starts_with("::") {
            words.push(Word { line, text: "::" });
            2
        } else {
            let length = rest.chars().next().map_or(1, char::len_utf8);
            if !bytes[at].is_ascii_whitespace() {
                words.push(Word { line, text: &rest[..length] });
            }
            length
        };
        line += rest[..length].matches('\n').count();
        at += length;
    }
    words
}

fn is_word(byte: u8) -> bool {
    byte == b'_' || byte.is_ascii_alphanumeric()
}

/// The length of the nested block comment at the start of `text`.
fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0usize, 0);
    while at < text.len() {
        if text[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if text[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                break;
            }
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    at
}

/// The length of the text, byte or character literal at the start of `text`, if there is one.
fn literal(text: &str) -> Option<usize> {
    let prefix = ["br", "cr", "r", "b", "c", ""].into_iter().find(|prefix| {
        text.strip_prefix(prefix).is_some_and(|rest| {
            rest.starts_with('"') || prefix.ends_with('r') && rest.trim_start_matches('#').starts_with('"')
        })
    });
    if let Some(prefix) = prefix {
        let rest = &text[prefix.len()..];
        let start = rest.find('"')? + 1;
        let end = if prefix.ends_with('r') {
            let close = format!("\"{}", &rest[..start - 1]);
            rest[start..].find(&close).map(|found| found + close.len())
        } else {
            unescaped(&rest[start..], '"')
        };
        return Some(end.map_or(text.len(), |end| prefix.len() + start + end));
    }
    // A character; a quote that no other quote follows at once starts a lifetime.
    let quote = text.strip_prefix('b').unwrap_or(text).strip_prefix('\'')?;
    let start = text.len() - quote.len();
    if quote.starts_with('\\') {
        return unescaped(quote, '\'').map(|end| start + end);
    }
    let character = quote.chars().next()?;
    quote[character.len_utf8()..].starts_with('\'').then(|| start + character.len_utf8() + 1)
}

/// The length up to and including the first `close` that no backslash precedes.
fn unescaped(text: &str, close: char) -> Option<usize> {
    let mut escaped = false;
    for (at, character) in text.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == close => return Some(at + close.len_utf8()),
            _ => {}
        }
    }
    None
}

/// The words without the items that are marked `#[cfg(test)]`.
fn outside_tests(words: Vec<Word<'_>>) -> Vec<Word<'_>> {
    const MARK: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut kept = Vec::with_capacity(words.len());
    let mut at = 0;
    while at < words.len() {
        let marked = words[at..].iter().map(|word| word.text).take(MARK.len()).eq(MARK);
        if marked {
            at = end_of_item(&words, at + MARK.len());
        } else {
            kept.push(words[at].clone());
            at += 1;
        }
    }
    kept
}

/// The place after the item at `at`: after its braces, or after its semicolon if that comes first.
fn end_of_item(words: &[Word<'_>], at: usize) -> usize {
    let mut depth = 0usize;
    for (offset, word) in words[at..].iter().enumerate() {
        match word.text {
            "{" | "(" | "[" => depth += 1,
            "}" | ")" | "]" => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 && matches!(word.text, "}" | ";") {
            return at + offset + 1;
        }
    }
    words.len()
}

/// Every path, the branches of grouped imports spelled out; every single word; every macro with its `!`.
fn used_paths(words: &[Word<'_>]) -> Vec<(usize, String)> {
    let mut paths = Vec::new();
    let mut at = 0;
    while at < words.len() {
        at = path(words, at, "", &mut paths);
    }
    paths
}

/// Words that may stand right before a path which starts with `::`, and are not its start.
const BEFORE_A_PATH: [&str; 14] = [
    "use", "as", "in", "for", "dyn", "impl", "mut", "return", "break", "if", "match", "else", "where", "move",
];

/// Reads one path at `at`, below `parent`; returns the place after it.
fn path(words: &[Word<'_>], mut at: usize, parent: &str, paths: &mut Vec<(usize, String)>) -> usize {
    let line = words[at].line;
    let mut name = parent.to_owned();
    loop {
        match words.get(at).map(|word| word.text) {
            Some("{") if name.ends_with("::") => {
                at += 1;
                while words.get(at).is_some_and(|word| word.text != "}") {
                    at = if words[at].text == "," { at + 1 } else { path(words, at, &name, paths) };
                }
                return at + 1;
            }
            Some(word) if word.bytes().all(is_word) => {
                // `fs::{self, File}` is `fs` itself.
                if word == "self" && name.ends_with("::") {
                    name.truncate(name.len() - 2);
                } else {
                    name.push_str(word);
                }
                at += 1;
                let goes_on = words.get(at).is_some_and(|word| word.text == "::");
                if goes_on && !name.is_empty() && !BEFORE_A_PATH.contains(&word) {
                    name.push_str("::");
                    at += 1;
                } else {
                    break;
                }
            }
            _ => {
                at += 1;
                break;
            }
        }
    }
    if words.get(at).is_some_and(|word| word.text == "!") {
        name.push('!');
    }
    if !name.is_empty() {
        paths.push((line, name.trim_end_matches("::").to_owned()));
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(room: &str, text: &str) -> Vec<usize> {
        violations(room, text).into_iter().map(|(line, _)| line).collect()
    }

    #[test]
    fn every_ban_can_fail() {
        for (room, text) in [
            ("model", "fn now() -> u64 { std::time::Instant::now() }"),
            ("wit", "use std::{fmt, fs::{self, File}};"),
            ("wit", "use std::{\n    io::{Read, stdin},\n};"),
            ("compose", "use ::std::net::TcpStream;"),
            ("model", "use std::time::SystemTime;\nfn now() -> SystemTime { SystemTime::now() }"),
            ("edge", "fn f() { let _ = std::env::var_os(\"X\"); }"),
            ("build", "use std::process::{Command, exit};"),
            ("engine", "fn f() { println!(\"x\"); }"),
            ("cli", "fn f() { unsafe { g() } }"),
            ("model", "#[cfg(not(test))]\nmod x { use std::fs; }"),
        ] {
            assert!(!lines(room, text).is_empty(), "{room}: {text}");
        }
    }

    #[test]
    fn what_is_allowed_passes() {
        for (room, text) in [
            ("model", "use std::{fmt, time::Duration, io::Read};"),
            ("model", "use std::net::IpAddr;\nuse std::time::{SystemTime, UNIX_EPOCH};"),
            ("model", "// std::fs\n/* std::env /* unsafe */ */ const A: &str = \"std::net\\\" println!\";"),
            ("model", "const A: &str = r#\"use \"std::fs\" unsafe\"#; const B: [char; 2] = ['\"', '\\''];"),
            ("model", "fn f<'a>(x: &'a str) -> &'a str { x } // unsafe"),
            ("model", "#[cfg(test)]\nmod tests { use std::fs; fn f() { unsafe { println!() } } }"),
            ("model", "#[cfg(test)]\nuse std::fs;\nfn f() {}"),
            ("model", "fn f() { my_std::fs::x(); let fs = 1; #[expect(unsafe_code)] g(); }"),
            ("engine", "fn f() { unsafe { g() } let d = std::env::temp_dir(); std::fs::read(d); }"),
            ("cli", "fn main() { println!(\"{:?}\", std::env::args()); }"),
        ] {
            assert_eq!(violations(room, text), [], "{room}: {text}");
        }
    }

    #[test]
    fn a_violation_has_its_line_and_is_found_after_tests_too() {
        let text = "//! Doc\n\n#[cfg(test)]\nmod tests {\n    fn f() { '}'; \"}\"; }\n}\n\nuse std::fs;\n";
        assert_eq!(lines("model", text), [8]);
    }
}
