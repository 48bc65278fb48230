//! Asserts what the documentation of each function of WASI 0.2 promises, one interface a path, and answers with one line
//! for each assertion: `ok NAME`, or `FAILED NAME: what was found`.

use faults::{Checks, Target};
use wasip2::http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};

mod clocks;
mod filesystem;
mod http;
mod keyvalue;
mod sockets;
mod surroundings;

wasip2::http::proxy::export!(Conforming);

struct Conforming;

impl wasip2::exports::http::incoming_handler::Guest for Conforming {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let target = request.path_with_query().unwrap_or_default();
        let target = Target::parse(&target);
        let mut checks = Checks::default();
        match target.path {
            "/clocks" => clocks::check(&mut checks),
            "/filesystem" => filesystem::check(&mut checks),
            "/http" => http::check(&mut checks, &request),
            "/keyvalue" => keyvalue::check(&mut checks),
            "/sockets" => sockets::check(&mut checks, target.number("udp", 0) as u16),
            "/surroundings" => surroundings::check(&mut checks),
            _ => {}
        }
        let response = OutgoingResponse::new(Fields::new());
        let body = response.body().expect("the body is taken once");
        ResponseOutparam::set(out, Ok(response));
        let stream = body.write().expect("the stream is taken once");
        for chunk in checks.told().as_bytes().chunks(4096) {
            stream.blocking_write_and_flush(chunk).expect("the client listens");
        }
        drop(stream);
        OutgoingBody::finish(body, None).expect("the body is whole");
    }
}
