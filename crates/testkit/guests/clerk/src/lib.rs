//! A `wasi:messaging/incoming-handler` that notes its messages in a bucket, and a `wasi:http/incoming-handler` beside
//! it that sends messages and reads the notes.

use faults::Target;
use wasip2::http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};

mod messaging {
    wit_bindgen::generate!({
        path: "../../../engine/wit/messaging",
        world: "wasi:messaging/messaging-request-reply",
        pub_export_macro: true,
    });
}
mod keyvalue {
    wit_bindgen::generate!({ path: "../../../engine/wit/keyvalue", world: "wasi:keyvalue/imports" });
}

use keyvalue::wasi::keyvalue::{atomics, store};
use messaging::wasi::messaging::types::{Client, Error, Message};
use messaging::wasi::messaging::{producer, request_reply};

wasip2::http::proxy::export!(Clerk);
messaging::export!(Clerk with_types_in messaging);

struct Clerk;

impl messaging::exports::wasi::messaging::incoming_handler::Guest for Clerk {
    /// What the message says is done; then it is noted, and answered if somebody waits.
    fn handle(message: Message) -> Result<(), Error> {
        let topic = message.topic().ok_or(Error::Other("a message without a topic".into()))?;
        let text = String::from_utf8_lossy(&message.data()).into_owned();
        let what = Target::parse(&text);
        let bucket = store::open("default").map_err(kept)?;
        let tried = atomics::increment(&bucket, &format!("tries {text}"), 1).map_err(kept)?;
        if what.path == "/fail" && tried <= what.number("times", 1) as i64 {
            return Err(Error::Other(format!("attempt {tried}")));
        }
        faults::maybe(&what);
        let planted = what.text("plant").map(|key| faults::secret::plant(key.parse().unwrap_or_default()));
        let found = what.text("find").map(|key| faults::secret::find(key.parse().unwrap_or_default()));
        let noted = format!("{topic} {text} {:?} {planted:?} {found:?}", message.metadata());
        bucket.set(&text, noted.as_bytes()).map_err(kept)?;
        request_reply::reply(&message, Message::new(format!("noted {text}").as_bytes()))
    }
}

fn kept(error: store::Error) -> Error {
    Error::Other(format!("{error:?}"))
}

impl wasip2::exports::http::incoming_handler::Guest for Clerk {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let target = request.path_with_query().unwrap_or_default();
        let (status, text) = match answer(&Target::parse(&target)) {
            Ok(Some(text)) => (200, text),
            Ok(None) => (404, "nothing".into()),
            Err(error) => (500, format!("{error:?}")),
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

fn answer(target: &Target) -> Result<Option<String>, Error> {
    let text = target.text("data").unwrap_or_default();
    let topic = target.text("topic").unwrap_or_default();
    match target.path {
        "/send" => {
            let message = Message::new(text.as_bytes());
            message.add_metadata("a", "1");
            producer::send(&Client::connect("default")?, &topic, message)?;
            Ok(Some("sent".into()))
        }
        "/request" => {
            let options = request_reply::RequestOptions::new();
            options.set_timeout_ms(target.number("ms", 10_000) as u32);
            let message = Message::new(text.as_bytes());
            let client = Client::connect("default")?;
            let answers = request_reply::request(&client, &topic, &message, Some(options))?;
            Ok(answers.first().map(|answer| String::from_utf8_lossy(&answer.data()).into_owned()))
        }
        "/noted" | "/tries" => {
            let bucket = store::open("default").map_err(kept)?;
            let key = if target.path == "/noted" { text } else { format!("tries {text}") };
            let noted = bucket.get(&key).map_err(kept)?;
            Ok(noted.map(|noted| String::from_utf8_lossy(&noted).into_owned()))
        }
        _ => Ok(None),
    }
}
