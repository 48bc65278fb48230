//! The page for people: what there is, in WIT, and a form to try each function.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};
use wit_parser::{Resolve, Type, TypeDefKind};

use super::functions::{Exported, Form, children, form, kind, ok_and_err, parameter_form, resolved};
use super::schema::{Schemas, text};
use super::{NDJSON, OCTETS};
use crate::render::{function_text, type_name, type_text};

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// A page that needs nothing but itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The document.
    pub html: String,
    /// The `Content-Security-Policy` it is to be sent with: its own style and script, by their digests, calls to the
    /// server it came from, and nothing else.
    pub content_security_policy: String,
}

pub(super) fn render(
    name: &str,
    resolve: &Resolve,
    functions: &[Exported<'_>],
    schemas: &Schemas<'_>,
) -> Page {
    let digest = |text: &str| format!("'sha256-{}'", STANDARD.encode(Sha256::digest(text)));
    let content_security_policy = format!(
        "default-src 'none'; style-src {}; script-src {}; connect-src 'self'; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'",
        digest(STYLE),
        digest(SCRIPT)
    );
    Page { html: document(name, resolve, functions, schemas), content_security_policy }
}

fn document(name: &str, resolve: &Resolve, functions: &[Exported<'_>], schemas: &Schemas<'_>) -> String {
    let title = escape(name);
    let mut html = String::new();
    let out = &mut html;
    let _ = write!(
        out,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n\
         <body>\n<header>\n<h1>{title}</h1>\n<p>{} over HTTP. <a href=\"openapi.json\">OpenAPI document</a></p>\n</header>\n",
        counted(functions.iter().filter(|exported| exported.skipped.is_none()).count())
    );
    contents(out, functions);
    out.push_str("<main>\n");
    let mut interface = None;
    for exported in functions.iter().filter(|exported| exported.skipped.is_none()) {
        if interface != Some(&exported.name.interface) {
            interface = Some(&exported.name.interface);
            if let Some(name) = &exported.name.interface {
                let _ = writeln!(out, "<h2>{}</h2>", escape(name));
            }
            if let Some(docs) = text(exported.interface_docs) {
                let _ = writeln!(out, "<p class=\"docs\">{}</p>", escape(docs));
            }
        }
        function(out, resolve, exported);
    }
    types(out, resolve, schemas);
    skipped(out, resolve, functions);
    let _ = write!(out, "</main>\n<script>{SCRIPT}</script>\n</body>\n</html>\n");
    html
}

fn counted(functions: usize) -> String {
    match functions {
        1 => "One function".to_owned(),
        count => format!("{count} functions"),
    }
}

fn contents(out: &mut String, functions: &[Exported<'_>]) {
    out.push_str("<nav aria-label=\"Functions\">\n<ul>\n");
    for exported in functions.iter().filter(|exported| exported.skipped.is_none()) {
        let Some(path) = exported.paths.first() else { continue };
        let path = escape(path);
        let _ = writeln!(out, "<li><a href=\"#{path}\">{path}</a></li>");
    }
    out.push_str("</ul>\n</nav>\n");
}

fn function(out: &mut String, resolve: &Resolve, exported: &Exported<'_>) {
    let function = exported.function;
    let Some(path) = exported.paths.first() else { return };
    let path = escape(path);
    let _ = write!(
        out,
        "<article id=\"{path}\">\n<h3><span class=\"method\">POST</span> <a href=\"#{path}\">{path}</a></h3>\n\
         <pre class=\"wit\">{}</pre>\n",
        escape(&function_text(resolve, function))
    );
    if let Some(docs) = text(&function.docs) {
        let _ = writeln!(out, "<p class=\"docs\">{}</p>", escape(docs));
    }
    let good = function.result.as_ref().and_then(|result| ok_and_err(resolve, result).0);
    let accept = match good.map_or(Form::Json, |ty| form(resolve, &ty)) {
        Form::Json => "application/json".to_owned(),
        Form::Octets | Form::OctetStream => format!("{OCTETS}, application/json;q=0.5"),
        Form::Lines => format!("{NDJSON}, application/json;q=0.5"),
    };
    let _ = writeln!(out, "<form data-path=\"{path}\" data-accept=\"{accept}\">");
    for parameter in &function.params {
        field(out, resolve, &parameter.name, &parameter.ty);
    }
    let file = match parameter_form(resolve, function) {
        Form::Json => None,
        Form::Octets | Form::OctetStream => Some((OCTETS, "or a file, as it is")),
        Form::Lines => Some((NDJSON, "or a file of JSON values, one a line")),
    };
    if let Some((media_type, label)) = file {
        let _ = writeln!(
            out,
            "<label class=\"field\"><span class=\"name\">{label}</span><input type=\"file\" name=\"raw\" data-type=\"{media_type}\"></label>"
        );
    }
    out.push_str(
        "<div class=\"actions\"><button>Call</button> <output class=\"status\"></output></div>\n\
         <pre class=\"answer\" hidden tabindex=\"0\"></pre>\n\
         <details class=\"curl\" hidden><summary>The same with curl</summary><pre></pre></details>\n\
         </form>\n</article>\n",
    );
}

/// The input for one parameter. `data-kind` tells the script how to make JSON of what is typed.
fn field(out: &mut String, resolve: &Resolve, name: &str, ty: &Type) {
    let name = escape(name);
    let _ = write!(
        out,
        "<label class=\"field\"><span class=\"name\">{name} <code>{}</code></span>",
        escape(&type_name(resolve, ty))
    );
    let input = |kind: &str, value: &str| {
        format!(
            "<input name=\"{name}\" data-kind=\"{kind}\" value=\"{value}\" autocomplete=\"off\" spellcheck=\"false\">"
        )
    };
    out.push_str(&match (resolved(resolve, ty), kind(resolve, ty)) {
        (Type::Bool, _) => select(&name, &["false", "true"], "json"),
        (Type::String, _) => {
            format!("<textarea name=\"{name}\" data-kind=\"text\" rows=\"1\" spellcheck=\"false\"></textarea>")
        }
        (Type::Char, _) => input("text", "a"),
        (Type::S64 | Type::U64, _) => input("text", "0"),
        (Type::F32 | Type::F64, _) => input("float", "0"),
        (Type::U8 | Type::S8 | Type::U16 | Type::S16 | Type::U32 | Type::S32, _) => input("json", "0"),
        (_, Some(TypeDefKind::Enum(cases))) => {
            let names: Vec<_> = cases.cases.iter().map(|case| case.name.as_str()).collect();
            select(&name, &names, "text")
        }
        _ if form(resolve, ty).is_octets() => {
            format!("<textarea name=\"{name}\" data-kind=\"bytes\" rows=\"1\" placeholder=\"text; sent in base64\"></textarea>")
        }
        _ => {
            let example = example(resolve, ty, 0);
            let rows = example.lines().count().clamp(1, 12);
            format!(
                "<textarea name=\"{name}\" data-kind=\"json\" rows=\"{rows}\" spellcheck=\"false\">\n{}</textarea>",
                escape(&example)
            )
        }
    });
    out.push_str("</label>\n");
}

fn select(name: &str, options: &[&str], kind: &str) -> String {
    let options: String =
        options.iter().map(|option| format!("<option>{}</option>", escape(option))).collect();
    format!("<select name=\"{name}\" data-kind=\"{kind}\">{options}</select>")
}

/// What is nested deeper in an example is left to the person: types can share parts, so that a small one can have an
/// example that fills the memory.
const EXAMPLE_DEPTH_MAX: usize = 4;
/// Fields, elements or members of an example, at each depth.
const EXAMPLE_ITEMS_MAX: usize = 12;

/// A value of the type, as JSON that a person can change.
fn example(resolve: &Resolve, ty: &Type, indent: usize) -> String {
    if indent == EXAMPLE_DEPTH_MAX {
        return "null".into();
    }
    let inner = |ty: &Type| example(resolve, ty, indent + 1);
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let Some(kind) = kind(resolve, ty) else {
        return match resolved(resolve, ty) {
            Type::Bool => "false".into(),
            Type::S64 | Type::U64 => "\"0\"".into(),
            Type::Char => "\"a\"".into(),
            Type::String => "\"\"".into(),
            _ => "0".into(),
        };
    };
    match kind {
        TypeDefKind::Record(record) => {
            let pad = "  ".repeat(indent + 1);
            let fields: Vec<_> = record
                .fields
                .iter()
                .take(EXAMPLE_ITEMS_MAX)
                .map(|field| format!("{pad}{}: {}", quoted(&field.name), inner(&field.ty)))
                .collect();
            format!("{{\n{}\n{}}}", fields.join(",\n"), "  ".repeat(indent))
        }
        TypeDefKind::Variant(variant) => match variant.cases.first() {
            Some(case) => match &case.ty {
                None => quoted(&case.name),
                Some(ty) => format!("{{ {}: {} }}", quoted(&case.name), inner(ty)),
            },
            None => "null".into(),
        },
        TypeDefKind::Enum(cases) => cases.cases.first().map_or("null".into(), |case| quoted(&case.name)),
        TypeDefKind::Flags(flags) => {
            let names: Vec<_> = flags.flags.iter().take(1).map(|flag| quoted(&flag.name)).collect();
            format!("[{}]", names.join(", "))
        }
        TypeDefKind::Option(_) => "null".into(),
        TypeDefKind::Result(result) => {
            format!("{{ \"ok\": {} }}", result.ok.as_ref().map_or("null".into(), inner))
        }
        TypeDefKind::List(element) | TypeDefKind::Stream(Some(element)) => match resolved(resolve, element) {
            Type::U8 => "\"\"".into(),
            _ => format!("[{}]", inner(element)),
        },
        TypeDefKind::Stream(None) => "[null]".into(),
        TypeDefKind::Future(Some(ty)) => inner(ty),
        TypeDefKind::FixedLengthList(element, length) => {
            format!(
                "[{}]",
                vec![inner(element); usize::try_from(*length).unwrap_or(0).min(EXAMPLE_ITEMS_MAX)].join(", ")
            )
        }
        TypeDefKind::Tuple(_) => {
            format!(
                "[{}]",
                children(kind).iter().take(EXAMPLE_ITEMS_MAX).map(inner).collect::<Vec<_>>().join(", ")
            )
        }
        TypeDefKind::Map(key, value) => format!("[[{}, {}]]", inner(key), inner(value)),
        _ => "null".into(),
    }
}

fn types(out: &mut String, resolve: &Resolve, schemas: &Schemas<'_>) {
    let mut named: Vec<_> = schemas.named().collect();
    if named.is_empty() {
        return;
    }
    named.sort_by_key(|(_, name)| *name);
    out.push_str("<h2>Types</h2>\n");
    for (id, name) in named {
        let _ = writeln!(
            out,
            "<pre class=\"wit\" id=\"type-{}\">{}</pre>",
            escape(name),
            escape(&type_text(resolve, id))
        );
    }
}

fn skipped(out: &mut String, resolve: &Resolve, functions: &[Exported<'_>]) {
    if functions.iter().all(|exported| exported.skipped.is_none()) {
        return;
    }
    out.push_str("<h2>Not over HTTP</h2>\n<ul class=\"skipped\">\n");
    for exported in functions {
        let Some(reason) = &exported.skipped else { continue };
        let _ = writeln!(
            out,
            "<li><code>{}</code>: {}</li>",
            escape(&function_text(resolve, exported.function)),
            escape(reason)
        );
    }
    out.push_str("</ul>\n");
}

/// Text for HTML, in elements and in quoted attributes.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}
