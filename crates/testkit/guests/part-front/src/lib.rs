//! A handler with a neighbour that can do what it can: the path says who of the two is to do `do`, and in which order
//! both.

use std::io::Write as _;

use faults::Target;
use wasip2::http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};

wit_bindgen::generate!({
    inline: "
        package fixture:parts;

        interface neighbour {
            act: func(target: string) -> string;
        }

        world front {
            import neighbour;
        }
    ",
});

use fixture::parts::neighbour;

wasip2::http::proxy::export!(Front);

struct Front;

impl wasip2::exports::http::incoming_handler::Guest for Front {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let target = request.path_with_query().unwrap_or_default();
        let target = Target::parse(&target);
        let what = target.text("do").unwrap_or_default();
        let answer = match target.path {
            "/own" => acts::act(&what),
            "/theirs" => neighbour::act(&what),
            "/own-first" => format!("{} {}", acts::act(&what), neighbour::act(&what)),
            "/theirs-first" => format!("{} {}", neighbour::act(&what), acts::act(&what)),
            _ => "no such path".to_owned(),
        };
        let response = OutgoingResponse::new(Fields::new());
        let body = response.body().expect("the body is taken once");
        ResponseOutparam::set(out, Ok(response));
        let mut stream = body.write().expect("the stream is taken once");
        stream.write_all(answer.as_bytes()).expect("the answer is written");
        drop(stream);
        let _ = OutgoingBody::finish(body, None);
    }
}
