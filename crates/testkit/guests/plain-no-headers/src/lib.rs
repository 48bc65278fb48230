//! A plain handler neither of whose records has headers.

wit_bindgen::generate!({
    inline: "
        package fixture:bare;

        interface http {
            record request {
                method: string,
                path: string,
                body: option<list<u8>>,
            }
            record response {
                status: u16,
                body: list<u8>,
            }
            handle: func(req: request) -> response;
        }

        world bare {
            export http;
        }
    ",
});

use exports::fixture::bare::http::{Guest, Request, Response};

struct Bare;

impl Guest for Bare {
    fn handle(req: Request) -> Response {
        let length = req.body.map_or(0, |body| body.len());
        Response {
            status: 202,
            body: format!("plain-no-headers {} {} {length}\n", req.method, req.path).into_bytes(),
        }
    }
}

export!(Bare);
