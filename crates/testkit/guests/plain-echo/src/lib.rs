//! A plain handler that says what it was given: method, path, headers and body, a line each.

wit_bindgen::generate!({
    inline: "
        package fixture:echo;

        interface handler {
            record request {
                method: string,
                path: string,
                headers: list<tuple<string, string>>,
                body: option<list<u8>>,
            }
            record response {
                status: u16,
                headers: list<tuple<string, string>>,
                body: list<u8>,
            }
            handle: func(req: request) -> response;
        }

        world echo {
            export handler;
        }
    ",
});

use exports::fixture::echo::handler::{Guest, Request, Response};

struct Echo;

impl Guest for Echo {
    fn handle(req: Request) -> Response {
        let mut body = format!("method: {}\npath: {}\n", req.method, req.path);
        for (name, value) in &req.headers {
            body.push_str(&format!("header {name}: {value}\n"));
        }
        match &req.body {
            None => body.push_str("body: none\n"),
            Some(bytes) => body.push_str(&format!("body: {}\n", bytes.len())),
        }
        let mut body = body.into_bytes();
        body.extend(req.body.unwrap_or_default());
        Response {
            status: 200,
            headers: vec![
                ("content-type".to_owned(), "text/plain".to_owned()),
                ("x-twice".to_owned(), "one".to_owned()),
                ("x-twice".to_owned(), "two".to_owned()),
            ],
            body,
        }
    }
}

export!(Echo);
