//! A `wasi:http/incoming-handler` that keeps keys and values by the older draft of `wasi:keyvalue` (`0.2.0-draft`, with
//! cursors and sums of `u64`): the path says what to do, and the answer what came of it.

use faults::Target;
use wasip2::http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};

wit_bindgen::generate!({ path: "../../../engine/wit/keyvalue-draft", world: "wasi:keyvalue/imports" });

use wasi::keyvalue::store::{self, Error};
use wasi::keyvalue::{atomics, batch};

wasip2::http::proxy::export!(Drafted);

struct Drafted;

impl wasip2::exports::http::incoming_handler::Guest for Drafted {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let target = request.path_with_query().unwrap_or_default();
        let text = match keep(&Target::parse(&target)) {
            Ok(text) => text,
            Err(error) => format!("refused: {error:?}"),
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

fn keep(target: &Target) -> Result<String, Error> {
    let parameter = |name: &str| target.text(name).unwrap_or_default();
    let bucket = store::open(&target.text("bucket").unwrap_or("default".into()))?;
    let key = parameter("key");
    let shown = |value: Option<Vec<u8>>| {
        format!("{:?}", value.map(|value| String::from_utf8_lossy(&value).into_owned()))
    };
    match target.path {
        "/get" => Ok(shown(bucket.get(&key)?)),
        "/set" => bucket.set(&key, parameter("value").as_bytes()).map(|()| "set".into()),
        "/delete" => bucket.delete(&key).map(|()| "deleted".into()),
        "/exists" => Ok(bucket.exists(&key)?.to_string()),
        "/add" => Ok(atomics::increment(&bucket, &key, target.number("delta", 1))?.to_string()),
        "/set-many" => {
            let pairs: Vec<_> = (0..target.number("n", 1))
                .map(|n| (format!("many-{n:05}"), n.to_string().into_bytes()))
                .collect();
            // As many as one call may have.
            pairs.chunks(1_000).try_for_each(|some| batch::set_many(&bucket, some)).map(|()| "set".into())
        }
        "/get-many" => {
            let found = batch::get_many(&bucket, &["many-00001".into(), "none".into()])?;
            let found: Vec<_> =
                found.into_iter().map(|pair| pair.map(|(key, value)| (key, shown(Some(value))))).collect();
            Ok(format!("{found:?}"))
        }
        "/delete-many" => batch::delete_many(&bucket, &["many-00001".into()]).map(|()| "deleted".into()),
        "/list" => list(&bucket),
        _ => Ok("no such path".into()),
    }
}

/// How many pages there are, how many keys are in them, and whether each came once and in order.
fn list(bucket: &store::Bucket) -> Result<String, Error> {
    let (mut pages, mut keys, mut cursor) = (0, Vec::new(), None);
    loop {
        let page = bucket.list_keys(cursor)?;
        pages += 1;
        keys.extend(page.keys);
        cursor = page.cursor;
        if cursor.is_none() {
            break;
        }
    }
    let sorted = keys.is_sorted_by(|one, next| one < next);
    Ok(format!("{pages} pages, {} keys, sorted: {sorted}", keys.len()))
}
