//! A plain handler at the root of its world, with its records there too.

wit_bindgen::generate!({
    inline: "
        package fixture:root;

        world plain-root {
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
            export handle: func(req: request) -> response;
        }
    ",
});

struct Root;

impl Guest for Root {
    fn handle(req: Request) -> Response {
        Response {
            status: 200,
            headers: vec![("content-type".to_owned(), "text/plain".to_owned())],
            body: format!("plain-root {} {}\n", req.method, req.path).into_bytes(),
        }
    }
}

export!(Root);
