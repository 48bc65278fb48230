//! Documents in both formats, and everything that can be wrong with them.

use crate::Format::{Json, Xml};
use crate::problem::{Cause, Problem};
use crate::tree::{DEPTH_MAX, NODES_MAX};
use crate::{Format, normalize};

const JSON: &str = r#"{
  "id": "A-17",
  "customer": "Grüße & Söhne",
  "currency": "EUR",
  "lines": [
    {"sku": "saw", "quantity": 2, "price": 79},
    {"sku": "glue", "quantity": 1, "price": "12.90", "note": "der „Kölner“ <Leim>"}
  ]
}"#;

const XML: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<!-- as the old system sends it -->
<order id="A-17" currency="EUR">
  <customer>Gr&#xFC;&#223;e &amp; Söhne</customer>
  <lines>
    <line sku="saw" quantity="2"><price>79.00</price></line>
    <line>
      <sku>glue</sku>
      <quantity> 1 </quantity>
      <price>12.9</price>
      <note><![CDATA[der „Kölner“ <Leim>]]></note>
    </line>
  </lines>
</order>
"#;

fn problem(document: &str, format: Format) -> Problem {
    normalize(document, format).expect_err("the document is not taken")
}

/// Cause, path, line and column.
fn fault(document: &str, format: Format) -> (Cause, String, u32, u32) {
    let Problem { cause, path, line, column, .. } = problem(document, format);
    (cause, path, line, column)
}

fn at(cause: Cause, path: &str, line: u32, column: u32) -> (Cause, String, u32, u32) {
    (cause, path.to_owned(), line, column)
}

#[test]
fn both_formats_become_one_form() {
    let order = normalize(JSON, Json).unwrap();
    assert_eq!(order.id, "A-17");
    assert_eq!(order.customer, "Grüße & Söhne");
    assert_eq!(order.total, 2 * 7900 + 1290);
    assert_eq!(order.lines[1].note.as_deref(), Some("der „Kölner“ <Leim>"));
    assert_eq!(normalize(XML, Xml).unwrap(), order);
    assert_eq!(serde_json::to_string(&order.lines[0]).unwrap(), r#"{"sku":"saw","quantity":2,"price":7900}"#);
}

#[test]
fn a_name_that_the_form_does_not_know_is_said_with_its_place() {
    let unknown = |name: &str| Cause::UnknownElement(name.to_owned());
    let json = JSON.replace("\"note\"", "\"nota\"");
    assert_eq!(fault(&json, Json), at(unknown("nota"), "/lines/1/nota", 7, 62));
    let xml = XML.replace("note>", "nota>");
    assert_eq!(fault(&xml, Xml), at(unknown("nota"), "/order/lines/line[2]/nota", 11, 7));
    let xml = XML.replace("currency=", "waehrung=");
    assert_eq!(fault(&xml, Xml), at(unknown("waehrung"), "/order/@waehrung", 3, 18));
    let xml = XML.replace("lines>", "items>");
    assert_eq!(fault(&xml, Xml), at(unknown("items"), "/order/items", 5, 3));
    assert_eq!(fault("<invoice/>", Xml), at(unknown("invoice"), "/invoice", 1, 1));
    let stranger = XML.replace("<lines>", "<lines><discount/>");
    assert_eq!(fault(&stranger, Xml), at(unknown("discount"), "/order/lines/discount", 5, 10));
}

#[test]
fn what_is_missing_is_said_with_where_it_should_be() {
    let missing = |name: &str| Cause::MissingField(name.to_owned());
    let json = JSON.replace("\"price\": 79", "\"note\": \"x\"");
    assert_eq!(fault(&json, Json), at(missing("price"), "/lines/0", 6, 5));
    let xml = XML.replace("<price>12.9</price>", "");
    assert_eq!(fault(&xml, Xml), at(missing("price"), "/order/lines/line[2]", 7, 5));
    assert_eq!(fault("{}", Json), at(missing("id"), "", 1, 1));
    assert_eq!(fault("<order/>", Xml), at(missing("id"), "/order", 1, 1));
}

#[test]
fn a_bad_number_is_said_with_its_digits() {
    let bad = |text: &str| Cause::BadNumber(text.to_owned());
    for (digits, shown) in [("\"seventy\"", "seventy"), ("79.001", "79.001"), ("-79", "-79"), ("7e1", "7e1")]
    {
        let json = JSON.replace("\"price\": 79", &format!("\"price\": {digits}"));
        assert_eq!(fault(&json, Json), at(bad(shown), "/lines/0/price", 6, 44));
    }
    let json = JSON.replace("\"quantity\": 2", "\"quantity\": true");
    assert_eq!(fault(&json, Json), at(bad("true"), "/lines/0/quantity", 6, 32));
    let xml = XML.replace("79.00", "79,00");
    assert_eq!(fault(&xml, Xml), at(bad("79,00"), "/order/lines/line/price", 6, 34));
    let xml = XML.replace("quantity=\"2\"", "quantity=\"0\"");
    assert_eq!(fault(&xml, Xml), at(bad("0"), "/order/lines/line/@quantity", 6, 21));
    let large = JSON.replace("79", "184467440737095516.15").replace("\"quantity\": 2", "\"quantity\": 1");
    assert_eq!(fault(&large, Json), at(bad("total"), "/lines/1", 7, 5));
}

#[test]
fn nothing_may_be_said_twice() {
    let twice = |name: &str| Cause::DuplicateField(name.to_owned());
    let json = JSON.replace("\"price\": 79", "\"price\": 79, \"sku\": \"axe\"");
    assert_eq!(fault(&json, Json), at(twice("sku"), "/lines/0/sku", 6, 55));
    let xml = XML.replace("<sku>glue</sku>", "<sku>glue</sku><sku>axe</sku>");
    assert_eq!(fault(&xml, Xml), at(twice("sku"), "/order/lines/line[2]/sku[2]", 8, 22));
    let xml = XML.replace("<customer>", "<id>B</id><customer>");
    assert_eq!(fault(&xml, Xml), at(twice("id"), "/order/id", 4, 3));
}

#[test]
fn a_value_has_its_kind() {
    for (from, to, path) in [
        ("\"A-17\"", "17", "/id"),
        ("\"EUR\"", "\"XAU\"", "/currency"),
        ("\"saw\"", "\" \"", "/lines/0/sku"),
        ("\"saw\"", "null", "/lines/0/sku"),
        ("\"saw\"", "[\"saw\"]", "/lines/0/sku"),
    ] {
        let (cause, found, ..) = fault(&JSON.replace(from, to), Json);
        assert!(matches!(cause, Cause::BadValue(_)), "{to}: {cause:?}");
        assert_eq!(found, path);
    }
    for document in [r#"[]"#, r#"null"#, r#"{"id":"1","customer":"a","currency":"EUR","lines":{}}"#] {
        assert!(matches!(problem(document, Json).cause, Cause::BadValue(_)), "{document}");
    }
    let empty = XML.replace("79.00", "");
    assert!(matches!(problem(&empty, Xml).cause, Cause::BadNumber(_)));
    let mixed = XML.replace("<price>79.00</price>", "at <price>79.00</price>");
    assert!(matches!(problem(&mixed, Xml).cause, Cause::BadValue(_)));
}

#[test]
fn what_is_not_json_or_xml_is_said_with_the_line() {
    assert_eq!(fault("{\n  \"id\": }", Json), at(Cause::Syntax, "", 2, 9));
    assert_eq!(fault("", Json).0, Cause::Syntax);
    assert_eq!(fault("{} {}", Json).0, Cause::Syntax);
    assert_eq!(fault(r#"{"id": "\ud800"}"#, Json).0, Cause::Syntax);
    for document in [
        "",
        "text",
        "<order>",
        "<order></orders>",
        "<order/><order/>",
        "<order a=1/>",
        "<order a='1' a='2'/>",
    ] {
        assert_eq!(fault(document, Xml).0, Cause::Syntax, "{document}");
    }
    let (_, _, line, _) = fault("<order>\n  <customer>\n</order>", Xml);
    assert_eq!(line, 3);
    let latin = XML.replace("UTF-8", "ISO-8859-1");
    assert_eq!(fault(&latin, Xml).0, Cause::Syntax);
}

/// The bomb that every XML parser is tried with: a few lines that stand for gigabytes.
#[test]
fn an_entity_bomb_is_refused_before_anything_expands() {
    let mut bomb = String::from("<?xml version=\"1.0\"?>\n<!DOCTYPE order [\n<!ENTITY a0 \"ha\">\n");
    for level in 1..30 {
        let before = format!("&a{};", level - 1).repeat(10);
        bomb.push_str(&format!("<!ENTITY a{level} \"{before}\">\n"));
    }
    bomb.push_str("]>\n<order id=\"1\" currency=\"EUR\"><customer>&a29;</customer></order>");
    assert_eq!(fault(&bomb, Xml), at(Cause::EntityRefused, "", 2, 1));
    let external = "<!DOCTYPE order SYSTEM \"file:///etc/passwd\"><order/>";
    assert_eq!(fault(external, Xml).0, Cause::EntityRefused);
    let undeclared = XML.replace("&amp;", "&company;");
    assert_eq!(fault(&undeclared, Xml), at(Cause::EntityRefused, "/order/customer", 4, 29));
    let attribute = XML.replace("id=\"A-17\"", "id=\"&company;\"");
    assert_eq!(fault(&attribute, Xml).0, Cause::EntityRefused);
}

#[test]
fn depth_and_size_are_bounded() {
    let deep = "<order>".to_owned() + &"<a>".repeat(DEPTH_MAX);
    assert_eq!(fault(&deep, Xml).0, Cause::TooLarge);
    let deep = "[".repeat(DEPTH_MAX + 1) + &"]".repeat(DEPTH_MAX + 1);
    assert_eq!(fault(&deep, Json).0, Cause::TooLarge);
    let deep = "[".repeat(100_000) + &"]".repeat(100_000);
    assert!(matches!(fault(&deep, Json).0, Cause::TooLarge | Cause::Syntax));
    let wide = format!("<order>{}</order>", "<a/>".repeat(NODES_MAX));
    assert_eq!(fault(&wide, Xml).0, Cause::TooLarge);
    let wide = format!("[{}1]", "1,".repeat(NODES_MAX));
    assert_eq!(fault(&wide, Json).0, Cause::TooLarge);
}

/// Whatever comes, there is an answer.
#[test]
fn every_cut_and_every_changed_byte_has_an_answer() {
    for (document, format) in [(JSON, Json), (XML, Xml)] {
        for at in (0..document.len()).filter(|at| document.is_char_boundary(*at)) {
            let _ = normalize(&document[..at], format);
            for with in ['<', '>', '&', '"', '{', ']', '\u{0}', 'é'] {
                let rest = &document[at..];
                let after = rest.chars().next().map_or("", |first| &rest[first.len_utf8()..]);
                let _ = normalize(&format!("{}{with}{after}", &document[..at]), format);
            }
        }
    }
}
