//! A `wasi:http/incoming-handler` that keeps keys and values, reads its configuration and writes log lines: the path
//! says what to do, and the answer what came of it.

use faults::Target;
use wasip2::clocks::monotonic_clock::subscribe_duration;
use wasip2::http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};

mod keyvalue {
    wit_bindgen::generate!({ path: "../../../engine/wit/keyvalue", world: "wasi:keyvalue/imports" });
}
mod config {
    wit_bindgen::generate!({ path: "../../../engine/wit/config", world: "wasi:config/imports" });
}
mod logging {
    wit_bindgen::generate!({ path: "../../../engine/wit/logging", world: "wasi:logging/imports" });
}

use config::wasi::config::store as configuration;
use keyvalue::wasi::keyvalue::store::{self, Bucket, Error};
use keyvalue::wasi::keyvalue::{atomics, batch};
use logging::wasi::logging::logging as log;

wasip2::http::proxy::export!(Keeper);

struct Keeper;

impl wasip2::exports::http::incoming_handler::Guest for Keeper {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let target = request.path_with_query().unwrap_or_default();
        let target = Target::parse(&target);
        let (status, text) = match target.path {
            // Whatever stands before it, so that requests for many paths tell which app they came to.
            path if path.ends_with("/config") => match configuration::get(&parameter(&target, "key")) {
                Ok(Some(value)) => (200, value),
                Ok(None) => (404, "none".into()),
                Err(error) => (500, format!("{error:?}")),
            },
            "/config/twice" => (200, twice(&target)),
            "/config/all" => (200, format!("{:?}", configuration::get_all())),
            "/log" => {
                let level = match parameter(&target, "level").as_str() {
                    "trace" => log::Level::Trace,
                    "debug" => log::Level::Debug,
                    "warn" => log::Level::Warn,
                    "error" => log::Level::Error,
                    "critical" => log::Level::Critical,
                    _ => log::Level::Info,
                };
                let message = parameter(&target, "message");
                for _ in 0..target.number("times", 1) {
                    log::log(level, &parameter(&target, "context"), &message);
                }
                (200, "logged".into())
            }
            _ => match keep(&target) {
                Ok(Some(text)) => (200, text),
                Ok(None) => (404, "none".into()),
                Err(Error::AccessDenied) => (403, "access-denied".into()),
                Err(Error::NoSuchStore) => (404, "no-such-store".into()),
                Err(Error::Other(cause)) => (500, cause),
            },
        };
        answer(out, status, &text);
    }
}

fn parameter(target: &Target, name: &str) -> String {
    target.text(name).unwrap_or_default()
}

/// What a key of the configuration is, and what it is after a while. `say` is logged in between: it has begun.
fn twice(target: &Target) -> String {
    let read = || configuration::get(&parameter(target, "key")).ok().flatten().unwrap_or_default();
    let before = read();
    if let Some(text) = target.text("say") {
        log::log(log::Level::Info, "", &text);
    }
    subscribe_duration(target.number("ms", 30) * 1_000_000).block();
    format!("{before} {}", read())
}

/// What is done with the bucket; `None` when the path is none, or there is no value.
fn keep(target: &Target) -> Result<Option<String>, Error> {
    let bucket = store::open(&target.text("bucket").unwrap_or("default".into()))?;
    let key = parameter(target, "key");
    let value = parameter(target, "value").into_bytes();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    match target.path {
        "/open" => Ok(Some("opened".into())),
        "/get" => Ok(bucket.get(&key)?.map(text)),
        "/set" => bucket.set(&key, &value).map(|()| Some("set".into())),
        "/delete" => bucket.delete(&key).map(|()| Some("deleted".into())),
        "/exists" => Ok(Some(bucket.exists(&key)?.to_string())),
        "/list" => {
            let page = bucket.list_keys(target.text("cursor").as_deref())?;
            Ok(Some(format!("{} {:?}", page.keys.join(","), page.cursor)))
        }
        "/add" => {
            let delta = parameter(target, "delta").parse().unwrap_or(1);
            Ok(Some(atomics::increment(&bucket, &key, delta)?.to_string()))
        }
        "/swap" => swap(target, &bucket, &key, &value),
        "/many" => {
            let pairs = [("m1".into(), b"one".to_vec()), ("m2".into(), b"two".to_vec())];
            batch::set_many(&bucket, &pairs)?;
            let found = batch::get_many(&bucket, &["m2".into(), "none".into(), "m1".into()])?;
            batch::delete_many(&bucket, &["m1".into(), "none".into()])?;
            let left = bucket.list_keys(None)?.keys;
            let found: Vec<_> =
                found.into_iter().map(|pair| pair.map(|(key, value)| (key, text(value)))).collect();
            Ok(Some(format!("{found:?} {left:?}")))
        }
        "/fill" => {
            let chunk = vec![b'x'; 1 << 20];
            for number in 0..target.number("mib", 1) {
                bucket.set(&format!("fill-{number}"), &chunk)?;
            }
            Ok(Some("filled".into()))
        }
        _ => Ok(None),
    }
}

/// Takes a handle, lets somebody else write in between when asked to, and swaps.
fn swap(target: &Target, bucket: &Bucket, key: &str, value: &[u8]) -> Result<Option<String>, Error> {
    let handle = atomics::Cas::new(bucket, key)?;
    let seen = handle.current()?.map(|seen| String::from_utf8_lossy(&seen).into_owned());
    if let Some(between) = target.text("between") {
        bucket.set(key, between.as_bytes())?;
    }
    match atomics::swap(handle, value) {
        Ok(()) => Ok(Some(format!("swapped {seen:?}"))),
        Err(atomics::CasError::CasFailed(handle)) => {
            let now = handle.current()?.map(|now| String::from_utf8_lossy(&now).into_owned());
            Ok(Some(format!("changed {seen:?} to {now:?}")))
        }
        Err(atomics::CasError::StoreError(error)) => Err(error),
    }
}

fn answer(out: ResponseOutparam, status: u16, text: &str) {
    let response = OutgoingResponse::new(Fields::new());
    response.set_status_code(status).expect("a status");
    let body = response.body().expect("the body is taken once");
    ResponseOutparam::set(out, Ok(response));
    let stream = body.write().expect("the stream is taken once");
    for chunk in text.as_bytes().chunks(4096) {
        stream.blocking_write_and_flush(chunk).expect("the client listens");
    }
    drop(stream);
    OutgoingBody::finish(body, None).expect("the body is whole");
}
