//! Asserts what the documentation of each function of WASI 0.2 promises, one interface a path, and answers with one line
//! for each assertion: `ok NAME`, or `FAILED NAME: what was found`.

use faults::Target;
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
        for chunk in checks.0.as_bytes().chunks(4096) {
            stream.blocking_write_and_flush(chunk).expect("the client listens");
        }
        drop(stream);
        OutgoingBody::finish(body, None).expect("the body is whole");
    }
}

/// What was asserted so far.
#[derive(Default)]
struct Checks(String);

impl Checks {
    /// `found` is what it has to be.
    fn same<T: PartialEq + std::fmt::Debug>(&mut self, name: &str, found: T, expected: T) {
        let detail = format!("{found:?}, not {expected:?}");
        self.holds(name, found == expected, &detail);
    }

    /// The call ends in this error.
    fn fails<T, E: PartialEq + std::fmt::Debug>(&mut self, name: &str, found: Result<T, E>, expected: E) {
        let found = found.map(|_| ()).err();
        let detail = format!("{found:?}, not {expected:?}");
        self.holds(name, found == Some(expected), &detail);
    }

    fn holds(&mut self, name: &str, holds: bool, detail: &str) {
        match holds {
            true => self.0 += &format!("ok {name}\n"),
            false => self.0 += &format!("FAILED {name}: {}\n", detail.replace('\n', " ")),
        }
    }
}
