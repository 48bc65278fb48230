//! A `wasi:http/incoming-handler` that leaves a secret wherever it can (memory, a bucket, a file), and looks for one in the
//! same places.

use faults::Target;
use wasip2::http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};

wit_bindgen::generate!({ path: "../../../engine/wit/keyvalue", world: "wasi:keyvalue/imports" });

use wasi::keyvalue::store;

wasip2::http::proxy::export!(Secretive);

struct Secretive;

const BUCKET: &str = "notes";
const FILE: &str = "/data/secret";

impl wasip2::exports::http::incoming_handler::Guest for Secretive {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let target = request.path_with_query().unwrap_or_default();
        let target = Target::parse(&target);
        let key = target.number("key", 1);
        let text = match target.path {
            "/plant" => {
                store::open(BUCKET)
                    .expect("granted")
                    .set("secret", key.to_string().as_bytes())
                    .expect("kept");
                // In one step, for others may be reading it.
                let written = format!("{FILE}-{key}");
                std::fs::write(&written, key.to_string()).expect("written");
                std::fs::rename(written, FILE).expect("renamed");
                faults::secret::plant(key).to_string()
            }
            "/look" => {
                let words = faults::secret::find_within(key, 1 << 20);
                let kept = store::open(BUCKET).expect("granted").get("secret").expect("read");
                let kept = kept.map(|kept| String::from_utf8_lossy(&kept).into_owned());
                let file = std::fs::read_to_string(FILE).ok();
                format!("{words} words, bucket {kept:?}, file {file:?}")
            }
            _ => "ok".to_owned(),
        };
        let response = OutgoingResponse::new(Fields::new());
        let body = response.body().expect("the body is taken once");
        ResponseOutparam::set(out, Ok(response));
        let stream = body.write().expect("the stream is taken once");
        stream.blocking_write_and_flush(text.as_bytes()).expect("the client listens");
        drop(stream);
        OutgoingBody::finish(body, None).expect("the body is whole");
    }
}
