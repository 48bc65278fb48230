//! A plain handler whose package, interface and function are called nothing that a host could expect.

wit_bindgen::generate!({
    inline: "
        package acme:web@1.2.0;

        interface api {
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
            respond: func(req: request) -> response;
        }

        world site {
            export api;
        }
    ",
});

use exports::acme::web::api::{Guest, Request, Response};

struct Site;

impl Guest for Site {
    fn respond(req: Request) -> Response {
        Response {
            status: 201,
            headers: vec![("x-served-by".to_owned(), "acme".to_owned())],
            body: format!("plain-iface {} {}\n", req.method, req.path).into_bytes(),
        }
    }
}

export!(Site);
