//! The two forms that documentation is written in.

use std::fmt::{self, Write as _};

use super::Link;

const STYLE: &str = "
:root { color-scheme: light dark; --text: #1d2430; --dim: #5b6676; --back: #fff; --card: #f4f6f9; --line: #d9dee6; --link: #0b5cad }
@media (prefers-color-scheme: dark) { :root { --text: #e3e7ee; --dim: #97a2b3; --back: #14171c; --card: #1b2027; --line: #313945; --link: #7ab8ff } }
body { margin: 0; padding: 2rem 1rem 6rem; background: var(--back); color: var(--text); font: 16px/1.6 system-ui, sans-serif }
main { max-width: 52rem; margin: auto } nav { color: var(--dim) }
h1 { font-size: 1.6rem } h2 { margin-top: 3rem; padding-top: 1rem; border-top: 1px solid var(--line) } h3 { margin: 2rem 0 .5rem } h4 { margin: 1.5rem 0 .5rem }
h1, h2, h3, h4 { overflow-wrap: anywhere; scroll-margin-top: 1rem }
h1 a, h2 a, h3 a, h4 a { color: inherit; text-decoration: none } a { color: var(--link) } :target { background: var(--card) }
pre, code { font: 14px/1.5 ui-monospace, monospace } pre { background: var(--card); border: 1px solid var(--line); border-radius: 6px; padding: .7rem 1rem; overflow-x: auto }
";

/// A form of documentation.
pub(super) trait Form {
    fn extension(&self) -> &'static str;
    fn page(&self, title: &str, body: &str) -> String;
    fn heading(&self, text: &mut String, level: usize, id: &str, title: &str);
    fn docs(&self, text: &mut String, docs: &str);
    fn code(&self, text: &mut String, code: &str, links: &[Link]);
    fn entry(&self, text: &mut String, name: &str, file: &str, about: &str) -> fmt::Result;
}

pub(super) struct Html;

impl Form for Html {
    fn extension(&self) -> &'static str {
        "html"
    }

    fn page(&self, title: &str, body: &str) -> String {
        let title = escape(title);
        format!(
            "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width\">\n\
             <title>{title}</title>\n<style>{STYLE}</style>\n<main>\n<nav><a href=\"index.html\">Packages</a></nav>\n{body}</main>\n</html>\n"
        )
    }

    fn heading(&self, text: &mut String, level: usize, id: &str, title: &str) {
        let (id, title) = (escape(id), escape(title));
        let _ = writeln!(text, "<h{level} id=\"{id}\"><a href=\"#{id}\">{title}</a></h{level}>");
    }

    fn docs(&self, text: &mut String, docs: &str) {
        let (mut list, mut fence) = (false, false);
        let mut paragraph = String::new();
        let end = |text: &mut String, paragraph: &mut String, tag: &str| {
            if !paragraph.is_empty() {
                let _ = writeln!(text, "<{tag}>{}</{tag}>", spans(paragraph));
                paragraph.clear();
            }
        };
        for line in docs.lines().chain([""]) {
            if line.trim_start().starts_with("```") {
                end(text, &mut paragraph, if list { "li" } else { "p" });
                text.push_str(if fence { "</pre>\n" } else { "<pre>" });
                fence = !fence;
                continue;
            }
            if fence {
                text.push_str(&escape(line));
                text.push('\n');
                continue;
            }
            let item = line.trim_start().strip_prefix("- ").or_else(|| line.trim_start().strip_prefix("* "));
            if item.is_some() || line.trim().is_empty() {
                end(text, &mut paragraph, if list { "li" } else { "p" });
            }
            if list != item.is_some() && (item.is_some() || line.trim().is_empty()) {
                text.push_str(if list { "</ul>\n" } else { "<ul>\n" });
                list = !list;
            }
            if !paragraph.is_empty() {
                paragraph.push(' ');
            }
            paragraph.push_str(item.unwrap_or(line).trim());
        }
        if fence {
            text.push_str("</pre>\n");
        }
    }

    fn code(&self, text: &mut String, code: &str, links: &[Link]) {
        text.push_str("<pre>");
        for line in code.lines() {
            linked(text, line, links);
            text.push('\n');
        }
        text.push_str("</pre>\n");
    }

    fn entry(&self, text: &mut String, name: &str, file: &str, about: &str) -> fmt::Result {
        writeln!(text, "<p><a href=\"{}\">{}</a><br>{}</p>", escape(file), escape(name), spans(about))
    }
}

pub(super) struct Markdown;

impl Form for Markdown {
    fn extension(&self) -> &'static str {
        "md"
    }

    fn page(&self, _: &str, body: &str) -> String {
        format!("{}\n", body.trim_end())
    }

    fn heading(&self, text: &mut String, level: usize, id: &str, title: &str) {
        let signs = "#".repeat(level);
        let _ = match level {
            1 => writeln!(text, "{signs} {title}\n"),
            _ => writeln!(text, "<a id=\"{id}\"></a>\n{signs} `{title}`\n"),
        };
    }

    fn docs(&self, text: &mut String, docs: &str) {
        if !docs.is_empty() {
            let _ = writeln!(text, "{docs}\n");
        }
    }

    fn code(&self, text: &mut String, code: &str, links: &[Link]) {
        let _ = writeln!(text, "```wit\n{code}\n```\n");
        let links: Vec<String> = links.iter().map(|link| format!("[`{}`]({})", link.name, link.to)).collect();
        if !links.is_empty() {
            let _ = writeln!(text, "{}\n", links.join(", "));
        }
    }

    fn entry(&self, text: &mut String, name: &str, file: &str, about: &str) -> fmt::Result {
        let about = about.replace('\n', " ");
        match about.is_empty() {
            true => writeln!(text, "- [{name}]({file})"),
            false => writeln!(text, "- [{name}]({file}): {about}"),
        }
    }
}

/// A line of a declaration with the names of types linked. A field or parameter may be called as a type is: it has a
/// colon behind it; and so may a case: it stands first on its line.
fn linked(text: &mut String, line: &str, links: &[Link]) {
    let is_name = |character: char| character.is_alphanumeric() || matches!(character, '-' | '_' | '%');
    let comment = line.trim_start().starts_with("//");
    let mut rest = line;
    let mut first = true;
    while let Some(start) = rest.find(is_name).filter(|_| !comment) {
        text.push_str(&escape(&rest[..start]));
        rest = &rest[start..];
        // An interface's whole name has signs in it that no type's has.
        let whole = links.iter().find(|link| link.name.contains(':') && rest.starts_with(&link.name));
        let length = match whole {
            Some(link) => link.name.len(),
            None => rest.find(|character| !is_name(character)).unwrap_or(rest.len()),
        };
        let (name, behind) = rest.split_at(length);
        let link = whole.or_else(|| links.iter().find(|link| link.name == name));
        match link.filter(|_| !behind.starts_with(':') && (!first || whole.is_some())) {
            Some(link) => {
                let _ = write!(text, "<a href=\"{}\">{}</a>", escape(&link.to), escape(name));
            }
            None => text.push_str(&escape(name)),
        }
        first = false;
        rest = behind;
    }
    text.push_str(&escape(rest));
}

/// Text with `code` in it.
fn spans(text: &str) -> String {
    let mut html = String::new();
    let pieces: Vec<&str> = text.split('`').collect();
    for (index, piece) in pieces.iter().enumerate() {
        let closed = index % 2 == 1 && index + 1 < pieces.len();
        let _ = match (closed, index % 2) {
            (true, _) => write!(html, "<code>{}</code>", escape(piece)),
            (false, 1) => write!(html, "`{}", escape(piece)),
            (false, _) => write!(html, "{}", escape(piece)),
        };
    }
    html
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
