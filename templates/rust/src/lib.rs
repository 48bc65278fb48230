wit_bindgen::generate!({ path: "wit", world: "app" });

use exports::local::app::handler::{Guest, Request, Response};

struct App;

impl Guest for App {
    fn handle(req: Request) -> Response {
        Response {
            status: 200,
            headers: vec![("content-type".to_owned(), "text/plain; charset=utf-8".to_owned())],
            body: greeting(&req.path).into_bytes(),
        }
    }
}

fn greeting(path: &str) -> String {
    format!("Hello from Rust at {path}\n")
}

export!(App);

#[cfg(test)]
mod tests {
    #[test]
    fn the_path_is_named() {
        assert_eq!(super::greeting("/a"), "Hello from Rust at /a\n");
    }
}
