//! The export of the world `gateway`: the life of a request.

use alloc::borrow::ToOwned as _;
use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec;
use alloc::vec::Vec;

use demo::gateway::{auth, identity, limiter, quotes, validator};
use exports::demo::gateway::handler::{Guest, Request, Response};
use serde_json::Value;

use crate::operation::{NoOperation, Operation, key};

wit_bindgen::generate!({ path: "../wit", world: "gateway", generate_all });

struct Gateway;

impl Guest for Gateway {
    fn handle(req: Request) -> Response {
        answer(&req).unwrap_or_else(|refused| refused)
    }
}

/// Which operation → who asks → how often → with what → the answer. Each step may refuse.
fn answer(req: &Request) -> Result<Response, Response> {
    let operation = Operation::of(&req.method, &req.path).map_err(not_an_operation)?;
    let Some(scope) = operation.scope() else {
        return Ok(json(200, &format!("{{\"customer\":{}}}", quoted(&identity::name()))));
    };
    let caller = auth::identify(key(&req.headers), scope).map_err(not_let_in)?;
    let standing = limiter::take(&caller.key).map_err(too_many)?;
    let body = req.body.as_deref().unwrap_or_default();
    let mut response = match operation {
        Operation::Health | Operation::Zones => json(200, &zones(&quotes::zones())),
        Operation::Quote => {
            validator::validate(operation.name(), body).map_err(|found| violations(&found))?;
            let quote = quotes::price(body).map_err(|why| problem(422, "no-quote", &why))?;
            let zone = quoted(&quote.zone);
            json(200, &format!("{{\"zone\":{zone},\"cents\":{},\"days\":{}}}", quote.cents, quote.days))
        }
    };
    response.headers.push(("x-ratelimit-remaining".to_owned(), standing.left.to_string()));
    response.headers.push(("x-ratelimit-reset".to_owned(), standing.reset_seconds.to_string()));
    Ok(response)
}

fn not_an_operation(why: NoOperation) -> Response {
    match why {
        NoOperation::NoSuchPath => {
            problem(404, "not-found", "there are GET /health, GET /zones and POST /quotes")
        }
        NoOperation::OtherMethod(method) => {
            let mut response = problem(405, "method-not-allowed", &format!("this takes {method}"));
            response.headers.push(("allow".to_owned(), method.to_owned()));
            response
        }
    }
}

fn not_let_in(refusal: auth::Refusal) -> Response {
    let mut response = match refusal {
        auth::Refusal::NoKey => {
            problem(401, "no-key", "this needs a key: `authorization: Bearer KEY` or `x-api-key: KEY`")
        }
        auth::Refusal::UnknownKey => problem(401, "unknown-key", "nobody was given this key"),
        auth::Refusal::MissingScope(scope) => {
            return problem(403, "missing-scope", &format!("this key is not for `{scope}`"));
        }
    };
    response.headers.push(("www-authenticate".to_owned(), "Bearer".to_owned()));
    response
}

fn too_many(refusal: limiter::Refusal) -> Response {
    match refusal {
        limiter::Refusal::Exhausted(seconds) => {
            let mut response =
                problem(429, "rate-limited", &format!("the next window begins in {seconds} s"));
            response.headers.push(("retry-after".to_owned(), seconds.to_string()));
            response
        }
        limiter::Refusal::Unavailable(_) => problem(503, "not-counted", "requests cannot be counted now"),
    }
}

fn violations(found: &[validator::Violation]) -> Response {
    let one = |it: &validator::Violation| {
        format!("{{\"at\":{},\"message\":{}}}", quoted(&it.at), quoted(&it.message))
    };
    let list = found.iter().map(one).collect::<Vec<_>>().join(",");
    json(422, &format!("{{\"error\":\"invalid-body\",\"violations\":[{list}]}}"))
}

fn zones(zones: &[quotes::Zone]) -> String {
    let one = |zone: &quotes::Zone| {
        let countries = zone.countries.iter().map(|it| quoted(it)).collect::<Vec<_>>().join(",");
        format!(
            "{{\"name\":{},\"countries\":[{countries}],\"base-cents\":{},\"kilogram-cents\":{},\"days\":{}}}",
            quoted(&zone.name),
            zone.base_cents,
            zone.kilogram_cents,
            zone.days
        )
    };
    format!("{{\"zones\":[{}]}}", zones.iter().map(one).collect::<Vec<_>>().join(","))
}

fn problem(status: u16, error: &str, message: &str) -> Response {
    json(status, &format!("{{\"error\":{},\"message\":{}}}", quoted(error), quoted(message)))
}

fn json(status: u16, body: &str) -> Response {
    let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
    Response { status, headers, body: body.as_bytes().to_vec() }
}

/// As a JSON string.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

export!(Gateway);
