//! What a person sees of a composed component.

#![expect(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

#[expect(dead_code, reason = "each test uses a part of it")]
mod support;

use tenon_compose::{Input, Manifest, compose};
use tenon_wit::{inspect, print_wit, render_json, render_text};

const MANIFEST: &str = r#"
name = "storefront"

[component.auth]
path = "auth.wasm"

[component.routing]
path = "routing.wasm"

[component.handler]
path = "handler.wasm"
[component.handler.imports]
"demo:auth/verify" = { component = "auth" }
"demo:routing/match" = { component = "routing" }
"#;

const AUTH: &str = "interface verify { verify-token: func(token: string) -> result<string, string>; }";
const ROUTING: &str =
    "interface match { match-route: func(method: string, path: string) -> option<string>; }";

fn storefront() -> Vec<u8> {
    let auth = support::from_wit(&format!("package demo:auth@0.1.0; {AUTH} world auth {{ export verify; }}"));
    let routing =
        support::from_wit(&format!("package demo:routing; {ROUTING} world routing {{ export match; }}"));
    let handler = support::from_wit(&format!(
        "package demo:app;
        package demo:auth@0.1.0 {{ {AUTH} }}
        package demo:routing {{ {ROUTING} }}
        package wasi:io@0.2.6 {{ interface poll {{ resource pollable; }} }}
        world handler {{
            import wasi:io/poll@0.2.6;
            import demo:auth/verify@0.1.0;
            import demo:routing/match;
            record request {{ path: string }}
            export handle: func(req: request) -> u16;
        }}"
    ));
    let manifest = Manifest::parse("composition.toml", MANIFEST).unwrap();
    let input = |component, bytes| Input { component, file: "file.wasm", bytes, wit: &[] };
    let inputs = [input("auth", &auth), input("routing", &routing), input("handler", &handler)];
    compose(&manifest, &inputs).unwrap().bytes
}

#[test]
fn three_components_are_shown_under_their_names() {
    let inspection = inspect("storefront.wasm", &storefront()).unwrap();
    let text = render_text(&inspection);
    for line in [
        "  handle: func(req: request) -> u16",
        "  wasi:io/poll@0.2.6",
        "    imports demo:auth/verify@0.1.0 from auth",
        "    imports demo:routing/match from routing",
        "    exports demo:auth/verify@0.1.0",
    ] {
        assert!(text.lines().any(|it| it == line), "{line:?} is missing in:\n{text}");
    }
    for name in ["auth", "handler", "routing"] {
        assert!(
            text.lines().any(|it| it.starts_with(&format!("  {name} "))),
            "{name} is missing in:\n{text}"
        );
    }
    assert!(text.starts_with("storefront.wasm: component storefront, "), "{text}");
}

#[test]
fn the_same_for_programs() {
    let bytes = storefront();
    let json = render_json(&inspect("storefront.wasm", &bytes).unwrap());
    assert_eq!(json["name"], "storefront");
    assert_eq!(json["size"], bytes.len());
    assert_eq!(json["sizes"]["total"], bytes.len());
    let names: Vec<_> =
        json["components"].as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["auth", "routing", "handler"], "in the order of the binary");
    let handler = &json["components"][2];
    let verify =
        handler["imports"].as_array().unwrap().iter().find(|it| it["name"] == "demo:auth/verify@0.1.0");
    assert_eq!(verify.unwrap()["from"]["component"], "auth");
    assert_eq!(json["exports"][0]["functions"][0], "handle: func(req: request) -> u16");
    let range = &handler["range"];
    assert_eq!(range[1].as_u64().unwrap() - range[0].as_u64().unwrap(), handler["size"].as_u64().unwrap());
}

#[test]
fn wit_holds_the_world_and_the_packages_it_needs() {
    let text = print_wit("storefront.wasm", &storefront()).unwrap();
    assert!(text.contains("export handle: func(req: request) -> u16;"), "{text}");
    assert!(text.contains("package wasi:io@0.2.6 {"), "{text}");
    let mut resolve = wit_parser::Resolve::default();
    resolve.push_str("printed.wit", &text).expect("what is printed is WIT");
}
