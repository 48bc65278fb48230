//! `examples/storefront-page`: a page made at the edge.

use std::fs;
use std::sync::OnceLock;

use serde_json::Value;
use tenon_testkit::client::{Body, Reply, call, get, request};
use tenon_testkit::differential::{Question, as_fresh};
use tenon_testkit::{Serving, Tenon};

use super::{Example, is_inert, names};

fn page() -> &'static Example {
    static PAGE: OnceLock<Example> = OnceLock::new();
    PAGE.get_or_init(|| Example::build("storefront-page", "composition.toml"))
}

fn ask(server: &Serving, target: &str, fields: &[(&'static str, &str)]) -> Reply {
    call(server.address(), with(get(target), fields))
}

fn with(mut request: http::Request<Body>, fields: &[(&'static str, &str)]) -> http::Request<Body> {
    for (name, value) in fields {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    request
}

#[test]
fn the_page_is_made_of_what_the_catalogue_says() {
    let server = page().serve();
    let reply = ask(&server, "/", &[("accept", "text/html,application/xhtml+xml,*/*;q=0.8")]);
    assert_eq!(reply.header("content-type"), "text/html; charset=utf-8");
    assert!(reply.header("content-security-policy").starts_with("default-src 'none'"));
    let html = reply.expect(200);
    // The names have quotes, apostrophes and markup in them.
    assert!(html.contains("Joiner&#39;s mallet &quot;Nº 2&quot;"), "{html}");
    assert!(html.contains("€12.90") && html.contains("only 3 left") && html.contains("sold out"), "{html}");
    let html = ask(&server, "/products/glue", &[("accept-language", "en")]).expect(200);
    assert!(html.contains("&lt;em&gt;want&lt;/em&gt;") && !html.contains("<em>"), "{html}");

    let german = ask(&server, "/products/saw", &[("accept-language", "fr, de-CH;q=0.8")]);
    assert_eq!(german.header("content-language"), "de");
    let html = german.expect(200);
    assert!(html.contains("<h1>Zinkensäge</h1>") && html.contains("79,00 €"), "{html}");

    let reply = ask(&server, "/products/saw", &[("accept", "application/json")]);
    assert_eq!(reply.header("vary"), "accept, accept-language");
    let product: Value = serde_json::from_str(&reply.expect(200)).unwrap();
    assert_eq!((&product["name"], &product["cents"]), (&"Dovetail saw".into(), &7900.into()));

    ask(&server, "/", &[("accept", "image/png")]).expect(406);
    assert!(ask(&server, "/products/anvil", &[]).expect(404).contains("There is nothing here"));
    assert_eq!(ask(&server, "/style.css", &[]).header("content-type"), "text/css; charset=utf-8");
    assert_eq!(call(server.address(), request("POST", "/", tenon_testkit::client::empty())).status, 405);
    server.stop();

    let questions = [
        Question::get("/").with("accept", "text/html"),
        Question::get("/products/saw").with("accept-language", "de").with("accept", "text/html"),
        Question::get("/products/anvil"),
    ];
    as_fresh(&page().tenon.serve(&page().folder), &questions, &[]);
}

#[test]
fn what_a_client_has_is_not_sent_again_until_it_changes() {
    let example = page();
    let tenon = Tenon::new(env!("CARGO_BIN_EXE_tenon"));
    let data = tenon.data().join("products");
    fs::create_dir_all(&data).unwrap();
    let file = data.join("products.json");
    let products = fs::read_to_string(example.folder.join("data/products.json")).unwrap();
    fs::write(&file, &products).unwrap();
    let manifest = example.with_manifest(&tenon, |text| {
        text.replace(&example.folder.join("data").display().to_string(), &data.display().to_string())
    });
    let server = tenon.serve(&manifest).start();
    let tag = |reply: &Reply| reply.header("etag").to_owned();
    let first = tag(&ask(&server, "/", &[]));
    let again = ask(&server, "/", &[("if-none-match", &format!("\"other\", W/{first}"))]);
    assert_eq!((again.status.as_u16(), again.body.len(), tag(&again)), (304, 0, first.clone()));
    let german = ask(&server, "/", &[("if-none-match", &first), ("accept-language", "de")]);
    assert_eq!(german.status, 200, "another language is another representation");
    let head = call(server.address(), with(request("HEAD", "/", tenon_testkit::client::empty()), &[]));
    assert_eq!((head.status.as_u16(), tag(&head)), (200, first.clone()));

    // The next request reads the file anew: it is served from a fresh sandbox.
    fs::write(&file, products.replace("\"stock\": 3", "\"stock\": 2")).unwrap();
    let changed = ask(&server, "/", &[("if-none-match", &first)]);
    assert_ne!(tag(&changed), first);
    assert!(changed.expect(200).contains("only 2 left"));

    fs::write(&file, "[{}]").unwrap();
    let closed = ask(&server, "/", &[]);
    assert_eq!(closed.header("cache-control"), "no-store");
    let html = closed.expect(503);
    assert!(html.contains("closed") && !html.contains("missing field"), "{html}");
    server.logged(&["/data/products.json", "missing field `id`"]);
    server.stop();

    // The twin without the grant: there is no directory to read from.
    let manifest = example.with_manifest(&tenon, |text| {
        text.lines()
            .filter(|line| !line.contains("wasi:filesystem"))
            .map(|line| format!("{line}\n"))
            .collect()
    });
    let server = tenon.serve(&manifest).start();
    let closed = ask(&server, "/", &[("accept", "application/json")]).expect(503);
    assert!(closed.contains("catalogue-unreadable"), "{closed}");
    server.stop();
}

#[test]
fn the_page_itself_reaches_the_catalogue_and_nothing_else() {
    let example = page();
    let shown = example.inspect(&example.folder.join(".tenon/page.wasm"));
    assert_eq!(names(&shown, "imports"), ["demo:page/catalogue@1.0.0"]);
    let shown = example.inspect(&example.compose());
    let imports = names(&shown, "imports");
    let reaches = |import: &String| !is_inert(import) && !import.starts_with("wasi:filesystem/");
    assert!(!imports.iter().any(reaches), "{imports:?}");
    example.passes_its_contract_tests();
}
