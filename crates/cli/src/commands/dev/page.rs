//! What a browser shows while the app cannot be built.

use std::fmt::Write as _;

use http::HeaderValue;
use tenon_edge::Notice;
use tenon_model::{Diagnostic, Digest, Location, Position};

/// Lines of source shown before and after the one that is meant.
const CONTEXT_LINES: usize = 2;
/// Diagnostics on one page.
const SHOWN_MAX: usize = 50;
/// A note longer than this is cut: a compiler may have said a lot.
const NOTE_BYTES_MAX: usize = 64 << 10;

const STYLE: &str = "
:root { color-scheme: light dark; --text: #1d2430; --dim: #5b6676; --back: #f7f8fa; --card: #fff; --line: #d9dee6; --red: #b3261e; --green: #14683a; --mark: #fde7e5 }
@media (prefers-color-scheme: dark) { :root { --text: #e3e7ee; --dim: #97a2b3; --back: #14171c; --card: #1b2027; --line: #313945; --red: #ff8a80; --green: #7fd8a4; --mark: #4a2323 } }
body { margin: 0; padding: 2rem 1rem; background: var(--back); color: var(--text); font: 16px/1.5 system-ui, sans-serif }
main { max-width: 60rem; margin: auto }
h1 { font-size: 1.25rem; margin: 0 } p { margin: .3rem 0 }
header p, dt, .at { color: var(--dim) } 
article { background: var(--card); border: 1px solid var(--line); border-left: 4px solid var(--red); border-radius: 6px; padding: 1rem 1.25rem; margin: 1rem 0 }
h2 { font-size: 1rem; margin: 0; overflow-wrap: anywhere } code, pre { font: 13px/1.5 ui-monospace, monospace }
.code { color: var(--red) } .at { font: 13px ui-monospace, monospace }
pre { overflow-x: auto; margin: .4rem 0; padding: .6rem .8rem; border: 1px solid var(--line); border-radius: 4px; white-space: pre }
mark { background: var(--mark); color: inherit; display: inline-block; min-width: 100% }
dt { margin-top: .6rem; font-size: .875rem } dd { margin: 0 } .mend { border-color: var(--green); color: var(--green) }
";

/// Looks twice a second whether there is something else to show, without running the app: `HEAD` with `accept:
/// text/html` gets the notice while there is one.
const SCRIPT: &str = "
const look = async () => {
  try {
    const seen = await fetch(location.href, { method: 'HEAD', headers: { accept: 'text/html' }, cache: 'no-store' });
    if (!seen.headers.has('x-tenon-notice') || seen.headers.get('etag') !== TAG) return location.replace(location.href);
  } catch {}
  setTimeout(look, 500);
};
setTimeout(look, 500);
";

/// The notice of what is wrong with `app`. `serving`: the last good state answers other requests.
pub(super) fn notice(app: &str, diagnostics: &[&Diagnostic], serving: bool) -> Notice {
    let mut body = String::new();
    for diagnostic in diagnostics.iter().take(SHOWN_MAX) {
        article(&mut body, diagnostic);
    }
    let more = diagnostics.len().saturating_sub(SHOWN_MAX);
    if more > 0 {
        let _ = write!(body, "<p>and {more} more</p>");
    }
    let state = if serving {
        "The last state that could be built still answers requests that do not ask for a page."
    } else {
        "There is no state yet that could be built."
    };
    let digest = Digest::of(body.as_bytes());
    let nonce = digest.hex();
    let tag = format!("\"{}\"", &nonce[..16]);
    let app = escape(app);
    let script = SCRIPT.replace("TAG", &format!("'{tag}'"));
    let page = format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>{app}: not built</title><style nonce=\"{nonce}\">{STYLE}</style>\
         <noscript><meta http-equiv=\"refresh\" content=\"2\"></noscript>\
         <main><header><h1>{app} could not be built</h1><p>{state} This page goes away when it is mended.</p></header>{body}</main>\
         <script nonce=\"{nonce}\">{script}</script></html>\n"
    );
    let policy = format!(
        "default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; connect-src 'self'; frame-ancestors 'none'"
    );
    let header = |text: &str| HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static("unknown"));
    Notice {
        code: header(diagnostics.first().map_or("unknown", |first| first.code)),
        page: page.into(),
        content_security_policy: header(&policy),
        tag: header(&tag),
    }
}

fn article(body: &mut String, diagnostic: &Diagnostic) {
    let Diagnostic { code, message, at, notes, mend } = diagnostic;
    let _ =
        write!(body, "<article><h2><span class=\"code\">{}</span>: {}</h2>", escape(code), escape(message));
    if let Some(at) = at {
        let _ = write!(body, "<p class=\"at\">{}</p>{}", escape(&at.to_string()), excerpt(at));
    }
    body.push_str("<dl>");
    for note in notes {
        let at = note.at.as_ref().map(|at| format!(" ({at})")).unwrap_or_default();
        let text = cut(&note.text);
        let _ = write!(
            body,
            "<dt>{}{}</dt><dd><pre>{}</pre></dd>",
            escape(&note.label),
            escape(&at),
            escape(text)
        );
    }
    if let Some(mend) = mend {
        let _ = write!(body, "<dt>mend</dt><dd><pre class=\"mend\">{}</pre></dd>", escape(mend));
    }
    body.push_str("</dl></article>");
}

/// The end of a long text: a compiler says last what counts.
fn cut(text: &str) -> &str {
    let mut start = text.len().saturating_sub(NOTE_BYTES_MAX);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    &text[start..]
}

/// The lines around the place, the one that is meant marked.
fn excerpt(at: &Location) -> String {
    let Some(Position { line, .. }) = at.position else { return String::new() };
    let Ok(text) = std::fs::read_to_string(&at.file) else { return String::new() };
    let meant = (line as usize).saturating_sub(1);
    let first = meant.saturating_sub(CONTEXT_LINES);
    let mut shown = String::from("<pre>");
    for (index, source) in text.lines().enumerate().skip(first).take(meant + CONTEXT_LINES + 1 - first) {
        let line = format!("{:>5} | {}", index + 1, escape(source));
        let _ = if index == meant { write!(shown, "<mark>{line}</mark>") } else { write!(shown, "{line}") };
        shown.push('\n');
    }
    shown + "</pre>"
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            _ => escaped.push(character),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_compiler_says_cannot_become_markup() {
        let diagnostic =
            Diagnostic::new("build-failed", "<b>").note("output", "</pre><script>alert(1)</script>");
        let notice = notice("a<b", &[&diagnostic], false);
        let page = String::from_utf8(notice.page.to_vec()).unwrap();
        assert_eq!(page.matches("<script").count(), 1, "{page}");
        assert!(page.contains("&lt;/pre&gt;&lt;script&gt;") && page.contains("a&lt;b"), "{page}");
        assert_eq!(notice.code, "build-failed");
    }

    #[test]
    fn another_fault_has_another_tag() {
        let tag = |message: &str| notice("app", &[&Diagnostic::new("build-failed", message)], true).tag;
        assert_ne!(tag("one"), tag("other"));
        assert_eq!(tag("one"), tag("one"));
    }
}
