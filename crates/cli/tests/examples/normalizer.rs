//! `examples/normalizer`: two formats in, one form out.

use serde_json::{Value, json};
use tenon_testkit::client::{Reply, call, get, post};
use tenon_testkit::differential::{Question, as_fresh};

use super::{Example, is_inert, names};

const JSON: &str = r#"{"id": "A-1", "customer": "Grüße & Söhne", "currency": "EUR",
  "lines": [{"sku": "saw", "quantity": 2, "price": 79.5}, {"sku": "glue", "quantity": 1, "price": "12.90"}]}"#;

const XML: &str = "<?xml version='1.0'?>
<order id='A-1' currency='EUR'>
  <customer>Gr&#xfc;&#223;e &amp; Söhne</customer>
  <lines>
    <line sku='saw' quantity='2'><price>79.50</price></line>
    <line sku='glue' quantity='1'><price>12.9</price></line>
  </lines>
</order>";

#[test]
fn the_normalizer_makes_one_form_of_both_formats() {
    let example = Example::build("normalizer", "tenon.toml");
    let server = example.serve();
    let send = |content_type: &str, body: &str| -> Reply {
        let mut request = post("/", body.to_owned());
        request.headers_mut().insert("content-type", content_type.parse().unwrap());
        call(server.address(), request)
    };
    let expected = json!({
        "id": "A-1", "customer": "Grüße & Söhne", "currency": "EUR",
        "lines": [
            { "sku": "saw", "quantity": 2, "price": 7950 },
            { "sku": "glue", "quantity": 1, "price": 1290 },
        ],
        "total": 17190,
    });
    for (content_type, body) in [("application/json", JSON), ("application/xml", XML), ("text/xml", XML)] {
        let reply = send(content_type, body);
        assert_eq!(reply.header("content-type"), "application/json");
        let order: Value = serde_json::from_str(&reply.expect(200)).unwrap();
        assert_eq!(order, expected, "{content_type}");
    }

    let problem = |content_type: &str, body: &str, status: u16| -> Value {
        let reply = send(content_type, body);
        assert_eq!(reply.header("content-type"), "application/problem+json");
        serde_json::from_str(&reply.expect(status)).unwrap()
    };
    let told = problem("application/xml", &XML.replace("79.50", "79,50"), 422);
    assert_eq!(
        (&told["code"], &told["path"], &told["line"]),
        (&json!("bad-number"), &json!("/order/lines/line/price"), &json!(5))
    );
    let told = problem("application/json", &JSON.replace("quantity", "qty"), 422);
    assert_eq!((&told["code"], &told["path"]), (&json!("unknown-element"), &json!("/lines/0/qty")));

    // Three lines that stand for gigabytes: refused at the first of them.
    let bomb = format!(
        "<!DOCTYPE order [<!ENTITY a 'ha'><!ENTITY b '{}'><!ENTITY c '{}'>]><order><customer>&c;</customer></order>",
        "&a;".repeat(1000),
        "&b;".repeat(1000),
    );
    assert_eq!(problem("application/xml", &bomb, 400)["code"], "entity-refused");
    assert_eq!(problem("application/xml", &"<a>".repeat(100_000), 422)["code"], "unknown-element");
    assert_eq!(
        problem("application/xml", &format!("<order>{}", "<a>".repeat(100_000)), 413)["code"],
        "too-large"
    );
    let deep = "[".repeat(100_000) + &"]".repeat(100_000);
    assert!(matches!(send("application/json", &deep).status.as_u16(), 400 | 413));

    assert_eq!(send("text/csv", JSON).header("accept"), "application/json, application/xml");
    assert_eq!(call(server.address(), get("/")).header("allow"), "POST");
    server.stop();

    let ask = |content_type: &str, body: &str| Question::post("/", content_type, body.to_owned());
    let questions = [
        ask("application/json", JSON),
        ask("text/xml", XML),
        ask("application/json", "{"),
        Question::get("/"),
    ];
    as_fresh(&example.tenon.serve(&example.folder), &questions, &[ask("application/xml", &bomb)]);
}

#[test]
fn the_normalizer_reaches_nothing_and_keeps_its_contract() {
    let example = Example::build("normalizer", "tenon.toml");
    let shown = example.inspect(&example.compose());
    assert_eq!(
        names(&shown, "exports"),
        ["demo:normalizer/handler@1.0.0", "demo:normalizer/normalize@1.0.0"]
    );
    let imports = names(&shown, "imports");
    assert!(imports.iter().all(|import| is_inert(import)), "{imports:?}");
    example.passes_its_contract_tests();
}
