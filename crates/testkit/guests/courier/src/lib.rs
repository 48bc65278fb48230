//! A `wasi:http/incoming-handler` that sends messages: the query says what and where.

use faults::Target;
use wasip2::http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};

mod messaging {
    wit_bindgen::generate!({ path: "../../../engine/wit/messaging", world: "wasi:messaging/imports-request-reply" });
}

use messaging::wasi::messaging::types::{Client, Error, Message};
use messaging::wasi::messaging::{producer, request_reply};

wasip2::http::proxy::export!(Courier);

struct Courier;

impl wasip2::exports::http::incoming_handler::Guest for Courier {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let target = request.path_with_query().unwrap_or_default();
        let (status, text) = match send(&Target::parse(&target)) {
            Ok(text) => (200, text),
            Err(Error::PermissionDenied(what)) => (403, what),
            Err(Error::Timeout) => (504, "timeout".into()),
            Err(Error::Connection(what) | Error::Other(what)) => (500, what),
        };
        let response = OutgoingResponse::new(Fields::new());
        response.set_status_code(status).expect("a status");
        let body = response.body().expect("the body is taken once");
        ResponseOutparam::set(out, Ok(response));
        let stream = body.write().expect("the stream is taken once");
        stream.blocking_write_and_flush(text.as_bytes()).expect("the client listens");
        drop(stream);
        OutgoingBody::finish(body, None).expect("the body is whole");
    }
}

fn send(target: &Target) -> Result<String, Error> {
    let topic = target.text("topic").unwrap_or_default();
    let client = Client::connect("default")?;
    let message = Message::new(target.text("data").unwrap_or_default().as_bytes());
    message.set_content_type("text/plain");
    message.add_metadata("a", "1");
    message.add_metadata("a", "2");
    match target.path {
        "/send" => {
            let noted = format!("{:?} {:?}", message.metadata(), message.topic());
            producer::send(&client, &topic, message)?;
            Ok(noted)
        }
        "/request" => {
            let options = request_reply::RequestOptions::new();
            options.set_timeout_ms(target.number("ms", 200) as u32);
            let _held: Vec<_> = (0..target.number("hold", 0)).map(|_| Message::new(b"held")).collect();
            let answers = request_reply::request(&client, &topic, &message, Some(options))?;
            Ok(format!("{} answers", answers.len()))
        }
        "/hold" => {
            let held: Vec<_> = (0..target.number("count", 1)).map(|_| Message::new(b"held")).collect();
            Ok(format!("{} held", held.len()))
        }
        _ => Err(Error::Other("nothing of that name".into())),
    }
}
