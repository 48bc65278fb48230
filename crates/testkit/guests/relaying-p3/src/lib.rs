//! A middleware of WASI 0.3: each request goes on to the handler that it imports, and each response comes back with one
//! more field. Without a component behind it, that is the host of the request's authority.

use wasip3::http::types::{ErrorCode, Fields, Request, Response};
use wasip3::wit_future;

wit_bindgen::generate!({
    path: "wit",
    world: "relaying",
    with: { "wasi:http/handler@0.3.2": generate, "wasi:http/types@0.3.2": wasip3::http::types },
});

wasip3::http::service::export!(Relaying);

struct Relaying;

impl wasip3::exports::http::handler::Guest for Relaying {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let response = wasi::http::handler::handle(request).await?;
        let status = response.get_status_code();
        let fields = Fields::from_list(&response.get_headers().copy_all())
            .map_err(|error| ErrorCode::InternalError(Some(format!("{error:?}"))))?;
        let _ = fields.append("x-relayed", b"yes");
        let (_, done) = wit_future::new(|| Ok(()));
        let (content, trailers) = Response::consume_body(response, done);
        let (relayed, _sent) = Response::new(fields, Some(content), trailers);
        relayed.set_status_code(status).map_err(|()| ErrorCode::InternalError(None))?;
        Ok(relayed)
    }
}
