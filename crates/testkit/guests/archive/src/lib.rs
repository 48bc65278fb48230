//! A `wasi:http/incoming-handler` that keeps objects and sends messages: the path says what to do.

use faults::Target;
use wasip2::http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};

mod blobs {
    wit_bindgen::generate!({
        path: "../../../engine/wit/blobstore",
        world: "wasi:blobstore/imports",
        with: {
            "wasi:io/error@0.2.1": wasip2::io::error,
            "wasi:io/poll@0.2.1": wasip2::io::poll,
            "wasi:io/streams@0.2.1": wasip2::io::streams,
        },
    });
}

use blobs::wasi::blobstore::blobstore;
use blobs::wasi::blobstore::types::{IncomingValue, ObjectId, OutgoingValue};

wasip2::http::proxy::export!(Archive);

struct Archive;

impl wasip2::exports::http::incoming_handler::Guest for Archive {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let target = request.path_with_query().unwrap_or_default();
        match archive(&Target::parse(&target)) {
            Ok(text) => answer(out, 200, &text),
            Err(error) => answer(out, 500, &error),
        }
    }
}

fn archive(target: &Target) -> Result<String, String> {
    let parameter = |name: &str| target.text(name).unwrap_or_default();
    let (container, object) = (target.text("container").unwrap_or("images".into()), parameter("object"));
    match target.path {
        "/create" => blobstore::create_container(&container).map(|_| "created".into()),
        "/exists" => blobstore::container_exists(&container).map(|exists| exists.to_string()),
        "/remove" => blobstore::delete_container(&container).map(|()| "removed".into()),
        "/write" => {
            let opened = blobstore::get_container(&container)?;
            let value = OutgoingValue::new_outgoing_value();
            opened.write_data(&object, &value)?;
            let stream = value.outgoing_value_write_body().map_err(|()| "no stream".to_owned())?;
            let (mut left, mut turn) = (target.number("bytes", 10), 0_u8);
            while left > 0 {
                let length = left.min(4096);
                stream
                    .blocking_write_and_flush(&vec![turn; length as usize])
                    .map_err(|error| format!("{error:?}"))?;
                (left, turn) = (left - length, turn.wrapping_add(1));
            }
            drop(stream);
            if target.number("finish", 1) == 1 {
                OutgoingValue::finish(value)?;
            }
            Ok("written".into())
        }
        "/read" => {
            let opened = blobstore::get_container(&container)?;
            let value =
                opened.get_data(&object, target.number("start", 0), target.number("end", u64::MAX))?;
            let size = value.size();
            let bytes = if target.number("stream", 0) == 1 {
                let stream = IncomingValue::incoming_value_consume_async(value)?;
                let mut bytes = Vec::new();
                while let Ok(more) = stream.blocking_read(10_000) {
                    bytes.extend(more);
                }
                bytes
            } else {
                IncomingValue::incoming_value_consume_sync(value)?
            };
            let sum: u64 = bytes.iter().map(|byte| u64::from(*byte)).sum();
            Ok(format!("{size} {} {sum}", bytes.len()))
        }
        "/list" => {
            let (names, end) =
                blobstore::get_container(&container)?.list_objects()?.read_stream_object_names(100)?;
            Ok(format!("{} {end}", names.join(",")))
        }
        "/copy" => {
            let from = ObjectId { container: container.clone(), object };
            let to = ObjectId { container, object: parameter("to") };
            blobstore::copy_object(&from, &to).map(|()| "copied".into())
        }
        "/delete" => blobstore::get_container(&container)?.delete_object(&object).map(|()| "deleted".into()),
        _ => Err("nothing of that name".into()),
    }
}

fn answer(out: ResponseOutparam, status: u16, text: &str) {
    let response = OutgoingResponse::new(Fields::new());
    response.set_status_code(status).expect("a status");
    let body = response.body().expect("the body is taken once");
    ResponseOutparam::set(out, Ok(response));
    let stream = body.write().expect("the stream is taken once");
    stream.blocking_write_and_flush(text.as_bytes()).expect("the client listens");
    drop(stream);
    OutgoingBody::finish(body, None).expect("the body is whole");
}
