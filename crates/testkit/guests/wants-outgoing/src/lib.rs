//! A `wasi:http/incoming-handler` that would also send requests, and so imports `wasi:http/outgoing-handler`.

use wasip2::http::types::{ErrorCode, Fields, IncomingRequest, OutgoingRequest, ResponseOutparam};

wasip2::http::proxy::export!(Reaching);

struct Reaching;

impl wasip2::exports::http::incoming_handler::Guest for Reaching {
    fn handle(_request: IncomingRequest, out: ResponseOutparam) {
        let request = OutgoingRequest::new(Fields::new());
        let sent = wasip2::http::outgoing_handler::handle(request, None);
        ResponseOutparam::set(out, Err(sent.err().unwrap_or(ErrorCode::InternalError(None))));
    }
}
