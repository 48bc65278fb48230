//! The export of the world `edge-cache`: the life of a request.

mod client;
mod origin;
mod store;

use std::time::{SystemTime, UNIX_EPOCH};

use crate::control::{Said, Wanted};
use crate::fields::{Fields, set};
use crate::freshness::{Times, age};
use crate::kept::{BODY_BYTES_MAX, Kept};
use crate::policy::{self, Decision, Why};
use crate::revalidation::{
    client_has_it, conditional, freshened, is_about, not_modified, unconditional, with_date,
};

use client::Client;
use origin::{Origin, Response};
use store::Store;
use wasi::http::types::{ErrorCode, IncomingRequest, ResponseOutparam};

wit_bindgen::generate!({ path: "../wit", world: "edge-cache", generate_all });

/// The cache's name in `Cache-Status` (RFC 9211) and `Via` (RFC 9110, section 7.6.3).
const NAME: &str = "edge-cache";

struct Cache;

impl exports::wasi::http::incoming_handler::Guest for Cache {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let mut client = Client::new(request, out);
        let outcome = match Origin::configured() {
            Ok(origin) => answer(&mut client, &origin),
            Err(message) => client.problem(500, "misconfigured", &message),
        };
        // What is left to say is said to the client already, or it is gone.
        if let Err(gone) = outcome {
            eprintln!("the client's response was not finished: {gone}");
        }
    }
}

/// The client went away, or its response could not be written.
type Gone = String;

fn answer(client: &mut Client, origin: &Origin) -> Result<(), Gone> {
    if !policy::is_for_the_cache(&client.method, &client.fields) {
        return pass(client, origin);
    }
    let store = match Store::open() {
        Ok(store) => store,
        Err(message) => return client.problem(500, "misconfigured", &message),
    };
    let now = now();
    let Some(kept) = store.find(&client.target, &client.fields) else {
        return fetch(client, origin, &store);
    };
    match policy::decide(&client.fields, &kept, now) {
        Decision::Serve { ttl } => serve(client, &kept, now, &format!("hit; ttl={ttl}")),
        Decision::ServeThenAsk { ttl } => {
            let served = serve(client, &kept, now, &format!("hit; ttl={ttl}"));
            renew(client, origin, &store, kept);
            served
        }
        Decision::Ask(why) => ask(client, origin, &store, kept, why),
    }
}

/// Passes a request on that the cache has no part in.
fn pass(client: &mut Client, origin: &Origin) -> Result<(), Gone> {
    // A body is sent on where there can be one; a length that is promised has to be kept.
    let has_body = !matches!(client.method.as_str(), "GET" | "HEAD") || policy::has_body(&client.fields);
    let body = if has_body { client.take_body() } else { None };
    let (method, target) = (client.method.clone(), client.target.clone());
    match origin.send(&method, &target, client.fields.clone(), body) {
        Ok((response, _)) => {
            if policy::invalidates(&method, response.status)
                && let Ok(store) = Store::open()
            {
                store.forget(&target);
            }
            let why = if matches!(method.as_str(), "GET" | "HEAD") { "bypass" } else { "method" };
            relay(client, response, &format!("fwd={why}")).map(drop)
        }
        Err(error) => unreachable_origin(client, &error),
    }
}

/// Fetches what is not in the cache, and keeps it if it may.
fn fetch(client: &mut Client, origin: &Origin, store: &Store) -> Result<(), Gone> {
    if Wanted::of(&client.fields).only_if_cached {
        return client.problem(504, "not-cached", "the request wants nothing but what is in the cache");
    }
    let asked = unconditional(client.fields.clone());
    match origin.send(&client.method, &client.target, asked, None) {
        Ok((response, times)) => relay_and_keep(client, response, times, store, "fwd=uri-miss"),
        Err(error) => unreachable_origin(client, &error),
    }
}

/// Asks the origin whether what is kept is still good, and serves what comes of it.
fn ask(client: &mut Client, origin: &Origin, store: &Store, kept: Kept, why: Why) -> Result<(), Gone> {
    if Wanted::of(&client.fields).only_if_cached {
        return client.problem(504, "not-cached", "what is in the cache is stale");
    }
    let reason = if why == Why::Stale { "stale" } else { "request" };
    let asked = conditional(client.fields.clone(), &kept);
    let answered = origin.send("GET", &client.target, asked, None);
    let failed = match &answered {
        Ok((response, _)) => matches!(response.status, 500 | 502 | 503 | 504),
        Err(_) => true,
    };
    if failed && policy::is_good_enough(&kept, now()) {
        let status = answered.map_or(504, |(response, _)| response.status);
        let how = format!("fwd={reason}; fwd-status={status}; detail=stale-if-error");
        return serve(client, &kept, now(), &how);
    }
    match answered {
        Ok((response, times)) if response.status == 304 && is_about(&kept, &response.fields) => {
            let fresh = freshened(kept, &response.fields, times);
            store.keep(&fresh);
            serve(client, &fresh, now(), &format!("fwd={reason}; fwd-status=304; stored"))
        }
        // About another response than the one that is kept: that one is of no use.
        Ok((response, _)) if response.status == 304 => {
            store.forget(&client.target);
            fetch(client, origin, store)
        }
        Ok((response, times)) => {
            let how = format!("fwd={reason}; fwd-status={}", response.status);
            relay_and_keep(client, response, times, store, &how)
        }
        Err(error) => unreachable_origin(client, &error),
    }
}

/// Brings what is kept up to date, after the client has been served. Should it fail, the next request asks.
fn renew(client: &Client, origin: &Origin, store: &Store, kept: Kept) {
    let asked = conditional(client.fields.clone(), &kept);
    let Ok((mut response, times)) = origin.send("GET", &client.target, asked, None) else { return };
    if response.status == 304 && is_about(&kept, &response.fields) {
        store.keep(&freshened(kept, &response.fields, times));
    } else if policy::may_keep(&client.fields, response.status, &response.fields, times)
        && let Some(body) = response.whole_body(BODY_BYTES_MAX)
    {
        keep(client, store, &response, times, body);
    }
}

/// Serves what is kept.
fn serve(client: &mut Client, kept: &Kept, now: u64, how: &str) -> Result<(), Gone> {
    let mut fields = kept.fields.clone();
    // Section 5.1.
    set(&mut fields, "age", age(&kept.fields, kept.times, now).to_string());
    mark(&mut fields, how);
    if client_has_it(&client.fields, kept.status, &kept.fields) {
        return client.respond(304, &not_modified(fields), &[]);
    }
    client.respond(kept.status, &fields, &kept.body)
}

/// Hands a response on while it comes, and keeps it once it is whole.
fn relay_and_keep(
    client: &mut Client,
    mut response: Response,
    times: Times,
    store: &Store,
    how: &str,
) -> Result<(), Gone> {
    with_date(&mut response.fields, times);
    if client.method != "GET" || !policy::may_keep(&client.fields, response.status, &response.fields, times) {
        if Said::of(&response.fields).no_store {
            store.forget(&client.target);
        }
        return relay(client, response, how).map(drop);
    }
    // A client that has it gets no body; the cache does.
    if client_has_it(&client.fields, response.status, &response.fields) {
        let mut fields = response.fields.clone();
        mark(&mut fields, &format!("{how}; stored"));
        let responded = client.respond(304, &not_modified(fields), &[]);
        if let Some(body) = response.whole_body(BODY_BYTES_MAX) {
            keep(client, store, &response, times, body);
        }
        return responded;
    }
    let head = Response { status: response.status, fields: response.fields.clone(), body: None };
    if let Some(body) = relay(client, response, &format!("{how}; stored"))? {
        keep(client, store, &head, times, body);
    }
    Ok(())
}

/// Hands a response on while it comes. Gives back the body if it came whole and is not too long to be kept.
fn relay(client: &mut Client, mut response: Response, how: &str) -> Result<Option<Vec<u8>>, Gone> {
    let mut fields = response.fields.clone();
    mark(&mut fields, how);
    let mut writing = client.begin(response.status, &fields)?;
    let mut copy = Some(Vec::new());
    loop {
        match response.chunk() {
            Ok(Some(chunk)) => {
                writing.write(&chunk)?;
                copy = copy.filter(|copy| copy.len() + chunk.len() <= BODY_BYTES_MAX);
                if let Some(copy) = &mut copy {
                    copy.extend_from_slice(&chunk);
                }
            }
            Ok(None) => break,
            // Left unfinished, so that half a body is not taken for the whole.
            Err(error) => return Err(format!("the origin's body broke off: {error}")),
        }
    }
    // It came whole from the origin, whatever became of the client.
    if let Err(gone) = writing.finish()
        && client.method != "HEAD"
    {
        eprintln!("the client's response was not finished: {gone}");
    }
    Ok(copy)
}

fn keep(client: &Client, store: &Store, response: &Response, times: Times, body: Vec<u8>) {
    let Some(key) = store.key(&client.target, &client.fields, &response.fields) else { return };
    let mut fields = response.fields.clone();
    with_date(&mut fields, times);
    store.keep(&Kept { key, status: response.status, fields, times, body });
}

fn unreachable_origin(client: &mut Client, error: &ErrorCode) -> Result<(), Gone> {
    let status = match error {
        ErrorCode::ConnectionTimeout
        | ErrorCode::ConnectionReadTimeout
        | ErrorCode::ConnectionWriteTimeout
        | ErrorCode::HttpResponseTimeout
        | ErrorCode::DnsTimeout => 504,
        _ => 502,
    };
    client.problem(status, "origin-failed", &format!("the origin did not answer: {error:?}"))
}

/// Says what the cache did.
fn mark(fields: &mut Fields, how: &str) {
    fields.push(("cache-status".to_owned(), format!("{NAME}; {how}")));
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

export!(Cache);
