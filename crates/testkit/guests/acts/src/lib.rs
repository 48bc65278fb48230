//! What a part of a composition does when it is told to, with whatever it was granted itself. What it opens stays open
//! as long as its sandbox lives.

use std::any::Any;
use std::cell::RefCell;
use std::fmt::Debug;
use std::fs::{self, File};
use std::net::TcpStream;

use faults::Target;

mod keyvalue {
    wit_bindgen::generate!({ path: "../../../engine/wit/keyvalue", world: "wasi:keyvalue/imports" });
}
mod config {
    wit_bindgen::generate!({ path: "../../../engine/wit/config", world: "wasi:config/imports" });
}
mod messaging {
    wit_bindgen::generate!({ path: "../../../engine/wit/messaging", world: "wasi:messaging/imports" });
}

use config::wasi::config::store as configuration;
use keyvalue::wasi::keyvalue::store;
use messaging::wasi::messaging::producer;
use messaging::wasi::messaging::types::{Client, Error, Message};

thread_local! {
    static HELD: RefCell<Vec<Box<dyn Any>>> = const { RefCell::new(Vec::new()) };
}

/// Does what the path of `target` says, and says how that went.
pub fn act(target: &str) -> String {
    let target = Target::parse(target);
    faults::maybe(&target);
    let text = |name: &str| target.text(name).unwrap_or_default();
    match target.path {
        "/read" => shown(fs::read_to_string(text("path"))),
        "/open-many" => many(&target, || File::open(text("path")).map(hold)),
        "/connect" => shown(TcpStream::connect(text("to")).map(|_| "connected")),
        "/connect-many" => many(&target, || TcpStream::connect(text("to")).map(hold)),
        "/fetch" => fetching::shown(&fetching::Ask { url: text("url"), ..Default::default() }),
        "/fetch-many" => many(&target, || {
            let response = fetching::fetch(&fetching::Ask { url: text("url"), ..Default::default() })?;
            fetching::read(&response)
        }),
        "/variable" => shown(std::env::var(text("name"))),
        "/print" => {
            for _ in 0..target.number("n", 1) {
                println!("{}", text("text"));
            }
            "ok: printed".to_owned()
        }
        "/config" => {
            shown(configuration::get(&text("key")).map_err(Some).and_then(|value| value.ok_or(None)))
        }
        "/set" => shown(set(&text("bucket"), &text("key"), b"a value").map(|()| "set")),
        "/set-many" => {
            let value = vec![b'x'; 1 << 10];
            many(&target, || set(&text("bucket"), "many", &value))
        }
        "/send" => shown(send(&text("topic")).map(|()| "sent")),
        _ => "no such path".to_owned(),
    }
}

fn shown<T: AsRef<str>, E: Debug>(result: Result<T, E>) -> String {
    match result {
        Ok(text) => format!("ok: {}", text.as_ref()),
        Err(error) => format!("refused: {error:?}"),
    }
}

/// How many of `n` attempts went well.
fn many<T, E>(target: &Target, mut attempt: impl FnMut() -> Result<T, E>) -> String {
    (0..target.number("n", 1)).filter(|_| attempt().is_ok()).count().to_string()
}

fn hold(what: impl Any) {
    HELD.with_borrow_mut(|held| held.push(Box::new(what)));
}

fn set(bucket: &str, key: &str, value: &[u8]) -> Result<(), store::Error> {
    store::open(bucket)?.set(key, value)
}

fn send(topic: &str) -> Result<(), Error> {
    producer::send(&Client::connect("default")?, topic, Message::new(b"a message"))
}
