//! WIT as it is usually laid out: the whitespace changes, and nothing else does.
//!
//! Works on tokens, so that every comment stays where its author put it: a printer of parsed packages knows of documentation
//! only. What comes out is compared with what went in, token by token, before it is given back.

use tenon_model::{Diagnostic, Location};
use wit_parser::{SourceMap, UnresolvedPackageGroup};

/// A statement that is longer is broken at its commas.
const WIDTH: usize = 100;
const INDENT: &str = "    ";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A name, a keyword, a piece of a version.
    Word,
    /// Punctuation; the arrow is one.
    Sign,
    /// From `//` to the end of the line.
    Line,
    /// From `/*` to `*/`.
    Block,
}

#[derive(Clone, Copy, Debug)]
struct Token<'a> {
    kind: Kind,
    text: &'a str,
    /// Line ends between the token before and this one.
    breaks: usize,
    start: usize,
}

impl Token<'_> {
    fn is(&self, sign: &str) -> bool {
        self.kind == Kind::Sign && self.text == sign
    }

    fn is_comment(&self) -> bool {
        matches!(self.kind, Kind::Line | Kind::Block)
    }
}

/// Lays out the WIT `text`, which is the content of `file`. `beside` are the names and texts of the files in its folder,
/// itself perhaps among them: a package may have several files, of which one names it.
///
/// # Errors
/// When it is not WIT, neither alone nor together with those.
pub fn format_wit(file: &str, text: &str, beside: &[(String, String)]) -> Result<String, Diagnostic> {
    let found = tokens(text);
    let names_package =
        found.iter().flatten().find(|it| !it.is_comment()).is_some_and(|it| it.text == "package");
    is_wit(file, text, beside, names_package).map_err(|found| {
        Diagnostic::new("wit-invalid", "the file is not WIT")
            .at(Location::file(file))
            .note("found", found)
            .mend("correct the place that is shown")
    })?;
    let unchanged =
        || Diagnostic::new("internal", "laying out the file would have changed it").at(Location::file(file));
    let tokens = found.ok_or_else(unchanged)?;
    let laid_out = Layout::new(text, &tokens).run();
    let again = self::tokens(&laid_out).ok_or_else(unchanged)?;
    let same = |one: &Token<'_>, other: &Token<'_>| {
        one.kind == other.kind
            && if one.is_comment() { lines(one.text).eq(lines(other.text)) } else { one.text == other.text }
    };
    if tokens.len() != again.len() || !tokens.iter().zip(&again).all(|(one, other)| same(one, other)) {
        return Err(unchanged());
    }
    Ok(laid_out)
}

/// Whether a file can be read, alone or with the others of its package; else the place where it cannot.
fn is_wit(file: &str, text: &str, beside: &[(String, String)], names_package: bool) -> Result<(), String> {
    let Err((alone, error)) = UnresolvedPackageGroup::parse(file, text) else { return Ok(()) };
    let error = error.render(&alone);
    if beside.iter().all(|(name, _)| name == file) {
        return Err(error);
    }
    let mut map = SourceMap::default();
    map.push_str(file, text);
    for (name, text) in beside.iter().filter(|(name, _)| name != file) {
        map.push_str(name, text.as_str());
    }
    match map.parse() {
        Ok(_) => Ok(()),
        // What lies beside a file that names its package may be another package.
        Err(_) if names_package => Err(error),
        Err((map, error)) => Err(error.render(&map)),
    }
}

/// The lines of a comment without their indentation.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim)
}

fn tokens(text: &str) -> Option<Vec<Token<'_>>> {
    let mut found = Vec::new();
    let (mut at, mut breaks) = (0, 0);
    while let Some(first) = text[at..].chars().next() {
        let rest = &text[at..];
        if first.is_whitespace() {
            breaks += usize::from(first == '\n');
            at += first.len_utf8();
            continue;
        }
        let (kind, length) = if rest.starts_with("//") {
            (Kind::Line, rest.find('\n').unwrap_or(rest.len()))
        } else if rest.starts_with("/*") {
            (Kind::Block, block_comment(rest)?)
        } else if rest.starts_with("->") {
            (Kind::Sign, 2)
        } else if is_word(first) {
            let end = rest
                .char_indices()
                .find(|(index, character)| !is_word(*character) || rest[*index..].starts_with("->"));
            (Kind::Word, end.map_or(rest.len(), |(index, _)| index))
        } else {
            (Kind::Sign, first.len_utf8())
        };
        let token = rest[..length].trim_end();
        found.push(Token { kind, text: token, breaks, start: at });
        (at, breaks) = (at + length, 0);
    }
    Some(found)
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || matches!(character, '-' | '_' | '%' | '+')
}

/// The length of a comment that may have others in it.
fn block_comment(text: &str) -> Option<usize> {
    let (mut at, mut depth) = (0, 0_usize);
    loop {
        let rest = &text[at..];
        if rest.starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if rest.starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return Some(at);
            }
        } else {
            at += rest.chars().next()?.len_utf8();
        }
    }
}

/// What the commas of an open brace do.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scope {
    /// Items end with semicolons or braces of their own.
    Statements,
    /// Items end with commas.
    Items,
}

struct Layout<'a> {
    text: &'a str,
    tokens: &'a [Token<'a>],
    out: String,
    scopes: Vec<Scope>,
    /// Whether a line was opened by a brace, or nothing was written.
    fresh: bool,
}

impl<'a> Layout<'a> {
    fn new(text: &'a str, tokens: &'a [Token<'a>]) -> Self {
        Self { text, tokens, out: String::new(), scopes: Vec::new(), fresh: true }
    }

    fn run(mut self) -> String {
        let mut at = 0;
        while let Some(first) = self.tokens.get(at) {
            let end = at + self.statement(at);
            let closes = first.is("}");
            if closes {
                self.scopes.pop();
            }
            if first.breaks > 1 && !self.fresh && !closes {
                self.out.push('\n');
            }
            self.write(&self.tokens[at..end]);
            self.fresh = false;
            let statement = &self.tokens[at..end];
            if let Some(last) = statement.iter().rfind(|token| !token.is_comment())
                && last.is("{")
            {
                let items = statement.iter().any(|token| {
                    token.kind == Kind::Word && matches!(token.text, "record" | "variant" | "enum" | "flags")
                });
                self.scopes.push(if items { Scope::Items } else { Scope::Statements });
                self.fresh = true;
            }
            at = end;
        }
        self.out
    }

    /// How many tokens are a line of their own, with a comment that stands behind them.
    fn statement(&self, at: usize) -> usize {
        let rest = &self.tokens[at..];
        let scope = self.scopes.last().copied().unwrap_or(Scope::Statements);
        let mut depth = 0_usize;
        let mut length = 0;
        for (index, token) in rest.iter().enumerate() {
            length = index + 1;
            if index == 0 && token.is_comment() {
                // A block comment may stand before something on its line.
                break;
            }
            let next = rest.get(index + 1);
            let previous = index.checked_sub(1).and_then(|index| rest.get(index));
            match token.text {
                _ if token.is_comment() => {}
                "(" | "<" => depth += 1,
                ")" | ">" => depth = depth.saturating_sub(1),
                "{" if depth > 0 || previous.is_some_and(|it| it.is(".") || it.text == "with") => depth += 1,
                "{" => {
                    // Nothing in it: both braces on one line.
                    if next.is_some_and(|next| next.is("}")) {
                        length += 1;
                    }
                    break;
                }
                "}" if depth > 0 => {
                    depth -= 1;
                    // `include a with { b as c }` has no semicolon.
                    if depth == 0 && rest[0].text == "include" {
                        break;
                    }
                }
                "}" => break,
                ";" if depth == 0 => break,
                "," if depth == 0 && scope == Scope::Items => break,
                _ => {}
            }
            // The last item of a list may have no comma, and an attribute has nothing behind it.
            if depth == 0 && next.is_some_and(|next| next.is("}")) && !token.is("{") {
                break;
            }
            if rest[0].is("@") && depth == 0 && index > 0 && !next.is_some_and(|next| next.is("(")) {
                break;
            }
        }
        while rest.get(length).is_some_and(|next| next.is_comment() && next.breaks == 0) {
            length += 1;
        }
        length
    }

    fn indent(&mut self, more: usize) {
        for _ in 0..self.scopes.len() + more {
            self.out.push_str(INDENT);
        }
    }

    fn write(&mut self, statement: &[Token<'a>]) {
        let code = statement.iter().rposition(|token| !token.is_comment()).map_or(0, |last| last + 1);
        let (code, behind) = statement.split_at(code);
        if code.iter().any(Token::is_comment) {
            self.as_it_stands(code);
        } else if !code.is_empty() {
            let line = joined(code);
            self.indent(0);
            let indent = INDENT.len() * self.scopes.len();
            if indent + line.chars().count() > WIDTH
                && code.iter().any(|token| token.is("(") || token.is("{"))
            {
                self.broken(code);
            } else {
                self.out.push_str(&line);
            }
        } else {
            self.indent(0);
        }
        for (index, comment) in behind.iter().enumerate() {
            if index > 0 || !code.is_empty() {
                self.out.push(' ');
            }
            self.comment(comment.text);
        }
        self.out.push('\n');
    }

    /// A comment, every line of it with this indentation; what a block comment indents beyond stays.
    fn comment(&mut self, text: &str) {
        for (index, line) in text.lines().enumerate() {
            if index > 0 {
                self.out.push('\n');
                self.indent(0);
                let line = line.trim();
                if line.starts_with('*') {
                    self.out.push(' ');
                }
                self.out.push_str(line);
            } else {
                self.out.push_str(line.trim_end());
            }
        }
    }

    /// A statement with comments within: only its indentation changes.
    fn as_it_stands(&mut self, code: &[Token<'a>]) {
        let (Some(first), Some(last)) = (code.first(), code.last()) else { return };
        let text = &self.text[first.start..last.start + last.text.len()];
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if index > 0 {
                self.out.push('\n');
            }
            if !line.is_empty() {
                self.indent(usize::from(index > 0 && !line.starts_with([')', '}'])));
                self.out.push_str(line);
            }
        }
    }

    /// A statement that is too long for a line: what is in its outermost parentheses or braces goes to lines of its own.
    fn broken(&mut self, code: &[Token<'a>]) {
        let mut depth = 0_usize;
        let mut line: Vec<Token<'a>> = Vec::new();
        let mut opened = false;
        for (index, token) in code.iter().enumerate() {
            let opens = (token.is("(") || token.is("{")) && depth == 0 && index + 1 < code.len();
            let closes = (token.is(")") || token.is("}")) && depth == 1;
            if token.is("(") || token.is("{") || token.is("<") {
                depth += 1;
            }
            if token.is(")") || token.is("}") || token.is(">") {
                depth = depth.saturating_sub(1);
            }
            if closes && opened {
                if !line.is_empty() {
                    self.out.push_str(&joined(&line));
                    self.out.push('\n');
                    self.indent(0);
                } else {
                    // After a comma at the end, the indentation of the next item is there already.
                    let kept = self.out.trim_end_matches(' ').len();
                    self.out.truncate(kept);
                    self.indent(0);
                }
                line.clear();
                opened = false;
            }
            line.push(*token);
            if opens && !opened {
                self.out.push_str(&joined(&line));
                self.out.push('\n');
                self.indent(1);
                line.clear();
                opened = true;
            } else if opened && depth == 1 && token.is(",") {
                self.out.push_str(&joined(&line));
                self.out.push('\n');
                self.indent(1);
                line.clear();
            }
        }
        self.out.push_str(&joined(&line));
    }
}

/// The tokens on one line.
fn joined(tokens: &[Token<'_>]) -> String {
    let mut line = String::new();
    let package = tokens.first().is_some_and(|first| first.text == "package");
    for (index, token) in tokens.iter().enumerate() {
        let previous = index.checked_sub(1).map(|index| &tokens[index]);
        if let Some(previous) = previous
            && is_apart(tokens, index - 1, previous, token, package)
        {
            line.push(' ');
        }
        line.push_str(token.text);
    }
    line
}

fn is_apart(
    tokens: &[Token<'_>],
    index: usize,
    previous: &Token<'_>,
    next: &Token<'_>,
    package: bool,
) -> bool {
    if next.kind == Kind::Sign
        && matches!(next.text, "," | ";" | ":" | "." | ")" | ">" | "/" | "(" | "<" | "@")
    {
        return matches!(previous.text, "->" | "=") && previous.kind == Kind::Sign && next.text == "(";
    }
    if previous.kind == Kind::Sign {
        return match previous.text {
            "(" | "<" | "." | "/" | "@" => false,
            ":" => !package && !is_path(tokens, index),
            // `use a.{b}` has its names close, `with { a as b }` has not.
            "{" => !is_use(tokens, index) && !next.is("}"),
            _ => !(next.is("}") && closes_use(tokens, index + 1)),
        };
    }
    !(next.is("}") && closes_use(tokens, index + 1))
}

/// Whether the colon at `index` is one of a name, as in `wasi:http/types`.
fn is_path(tokens: &[Token<'_>], mut index: usize) -> bool {
    loop {
        match (tokens.get(index + 1).map(|it| it.kind), tokens.get(index + 2)) {
            (Some(Kind::Word), Some(after)) if after.is("/") => return true,
            (Some(Kind::Word), Some(after)) if after.is(":") => index += 2,
            _ => return false,
        }
    }
}

/// Whether the brace at `index` opens the names of a `use`.
fn is_use(tokens: &[Token<'_>], index: usize) -> bool {
    index > 0 && tokens[index - 1].is(".")
}

/// Whether the brace at `index` closes the names of a `use`, or the brace before it.
fn closes_use(tokens: &[Token<'_>], index: usize) -> bool {
    let opened = tokens[..index].iter().rposition(|token| token.is("{"));
    opened.is_some_and(|opened| is_use(tokens, opened) || opened + 1 == index)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format(text: &str) -> String {
        let once = format_wit("t.wit", text, &[]).unwrap();
        assert_eq!(format_wit("t.wit", &once, &[]).unwrap(), once, "it is laid out already");
        once
    }

    #[test]
    fn whitespace_changes_and_comments_stay() {
        let text = "// The licence.\n/// The package.\npackage   a:b@1.2.3-rc.1 ;\n\n\n\ninterface i{  // behind\n\
            @since(version=1.2.0)\n use c.{ d,e as f } ;\nrecord r{a:u32,/* in */b:list< tuple<u8,string>>,\n\n// before\nc:result<_,string>}\n\
            variant v{ x , y(r) } g:func( a:u32 , b:borrow<h> )->result<u32>; // last\n\
            resource h{constructor(a:u32);m:static async func();}\n// the end\n}\n\
            interface c { type d=u8; type e = d; }\n\
            world w { include x with {a as b , i as j} import wasi:clocks/wall-clock@0.2.6; import p:func(); export i; }\nworld x { import a: func(); import i: func(); }\ninterface none{}\n";
        let expected = "// The licence.
/// The package.
package a:b@1.2.3-rc.1;

interface i { // behind
    @since(version = 1.2.0)
    use c.{d, e as f};
    record r {
        a: u32, /* in */
        b: list<tuple<u8, string>>,

        // before
        c: result<_, string>
    }
    variant v {
        x,
        y(r)
    }
    g: func(a: u32, b: borrow<h>) -> result<u32>; // last
    resource h {
        constructor(a: u32);
        m: static async func();
    }
    // the end
}
interface c {
    type d = u8;
    type e = d;
}
world w {
    include x with { a as b, i as j }
    import wasi:clocks/wall-clock@0.2.6;
    import p: func();
    export i;
}
world x {
    import a: func();
    import i: func();
}
interface none {}
";
        assert_eq!(format(text), expected);
    }

    #[test]
    fn what_is_long_is_broken_at_its_commas() {
        let long = |count: usize| {
            (0..count).map(|index| format!("parameter-number-{index}: string")).collect::<Vec<_>>().join(", ")
        };
        let text = format!("package a:b;\ninterface i {{ f: func({}) -> (string); }}\n", "x: u8");
        assert!(format(&text.replace("-> (string)", "-> string")).contains("f: func(x: u8) -> string;"));
        let text = format!("package a:b;\ninterface i {{ f: func({}) -> tuple<u8, u8>; }}\n", long(4));
        let laid_out = format(&text);
        assert!(laid_out.contains("    f: func(\n        parameter-number-0: string,\n"), "{laid_out}");
        assert!(laid_out.contains("number-3: string\n    ) -> tuple<u8, u8>;\n"), "{laid_out}");
    }

    #[test]
    fn a_comment_within_a_statement_keeps_its_lines() {
        let text = "package a:b;\ninterface i {\nf: func(\na: u8, // the first\nb: u8 ) -> u8;\n}\n";
        let laid_out = format(text);
        assert!(
            laid_out.contains("    f: func(\n        a: u8, // the first\n        b: u8 ) -> u8;\n"),
            "{laid_out}"
        );
    }

    #[test]
    fn what_is_not_wit_is_refused() {
        let refused = format_wit("t.wit", "package a:b;\ninterface {", &[]).unwrap_err();
        assert_eq!(refused.code, "wit-invalid");
    }

    #[test]
    fn a_file_of_a_package_is_read_with_the_others() {
        let types = ("types.wit".to_owned(), "package a:b;\ninterface types{type id=u32;}\n".to_owned());
        let world = "// no header\nworld w{use types.{id};import f:func(id:id);}\n";
        let laid_out = "// no header\nworld w {\n    use types.{id};\n    import f: func(id: id);\n}\n";
        let itself = ("world.wit".to_owned(), world.to_owned());
        assert_eq!(format_wit("world.wit", world, &[types.clone(), itself.clone()]).unwrap(), laid_out);
        assert!(format_wit("types.wit", &types.1, &[itself]).unwrap().contains("type id = u32;"));

        let found = |text: &str, beside: &[(String, String)]| {
            format_wit("world.wit", text, beside).unwrap_err().notes[0].text.clone()
        };
        assert!(found(world, &[]).contains("no `package` header"), "{}", found(world, &[]));
        let misnamed = found(&world.replace("types.", "tipes."), std::slice::from_ref(&types));
        assert!(misnamed.contains("world.wit:2"), "{misnamed}");
        // Another package lies beside it: what is wrong is its own.
        let own = found("package c:d;\ninterface {", &[types]);
        assert!(own.contains("world.wit:2:11"), "{own}");
    }
}
