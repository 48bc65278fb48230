//! A handler with a neighbour that fetches: the path says who of the two is to do it.

use std::io::Write as _;

use faults::Target;
use wasip2::http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};

wit_bindgen::generate!({
    inline: "
        package fixture:reach;

        interface fetcher {
            fetch: func(url: string) -> string;
        }

        world front {
            import fetcher;
        }
    ",
});

wasip2::http::proxy::export!(Front);

struct Front;

impl wasip2::exports::http::incoming_handler::Guest for Front {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let target = request.path_with_query().unwrap_or_default();
        let target = Target::parse(&target);
        let url = target.text("url").unwrap_or_default();
        let answer = match target.path {
            "/own" => fetching::shown(&fetching::Ask { url, ..Default::default() }),
            _ => fixture::reach::fetcher::fetch(&url),
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
