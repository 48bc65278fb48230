//! A `wasi:http/incoming-handler` that would also open a socket, and so imports `wasi:sockets`.

use wasip2::http::types::{ErrorCode, IncomingRequest, ResponseOutparam};

wasip2::http::proxy::export!(Reaching);

struct Reaching;

impl wasip2::exports::http::incoming_handler::Guest for Reaching {
    fn handle(_request: IncomingRequest, out: ResponseOutparam) {
        let verdict = match std::net::TcpStream::connect("127.0.0.1:9") {
            Ok(_) => "connected".to_owned(),
            Err(error) => error.to_string(),
        };
        ResponseOutparam::set(out, Err(ErrorCode::InternalError(Some(verdict))));
    }
}
