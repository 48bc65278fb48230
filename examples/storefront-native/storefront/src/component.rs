//! The exports of the world `storefront`.

use alloc::borrow::{Cow, ToOwned as _};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use demo::auth::types::{AuthError, Claims};
use demo::auth::{issue, verify};
use demo::routing::match_::{Route, allowed_methods, match_route};
use exports::demo::storefront::handler::{Guest, Request, Response};
use serde::Serialize;

use crate::answer::{Answer, json_body, shown, whole};
use crate::shop::{Order, PEOPLE, PRODUCTS, Product, checked_lines, orders_of, priced};
use crate::time::iso;

wit_bindgen::generate!({ path: "../../storefront/wit", world: "storefront", generate_all });

const TOKEN_SECONDS_MAX: u32 = 3600;

struct Storefront;

impl Guest for Storefront {
    fn handle(req: Request) -> Response {
        let Answer { status, headers, body } =
            route_of(&req).and_then(|route| answer(&req, &route)).unwrap_or_else(|refused| refused);
        Response { status, headers, body }
    }
}

/// Routes by the name that `routing` gives them.
fn answer(request: &Request, route: &Route) -> Result<Answer, Answer> {
    let id = route.params.first().map_or("", |(_, value)| value.as_str());
    match route.name.as_str() {
        "index" => Ok(index()),
        "login" => login(request),
        "products" => Ok(products()),
        "cheapest-product" => Ok(Answer::json(200, &PRODUCTS.iter().min_by_key(|product| product.cents))),
        "product" => known(PRODUCTS.iter().find(|product| product.id == id), id, "product"),
        "orders" => orders(request),
        "order" => {
            let orders = orders_of(&bearer(request, "orders:read")?.subject);
            known(orders.iter().find(|order| order.id == id), id, "order")
        }
        "create-order" => create_order(request),
        // `routing` has a route that nothing here answers.
        _ => core::arch::wasm32::unreachable(),
    }
}

fn index() -> Answer {
    #[derive(Serialize)]
    struct Index {
        service: &'static str,
        products: &'static str,
        login: &'static str,
        orders: &'static str,
    }
    let index = Index { service: "storefront", products: "/products", login: "/login", orders: "/orders" };
    Answer::json(200, &index)
}

fn products() -> Answer {
    #[derive(Serialize)]
    struct Products {
        products: &'static [Product],
    }
    Answer::json(200, &Products { products: &PRODUCTS })
}

/// The example has no passwords: whoever names somebody gets their token.
fn login(request: &Request) -> Result<Answer, Answer> {
    #[derive(Serialize)]
    struct Granted {
        token: String,
        token_type: &'static str,
        expires_in: u32,
        scope: String,
    }
    let body = json_body(body(request))?;
    let seconds = match body.get("seconds") {
        None => Some(TOKEN_SECONDS_MAX),
        given => whole(given, 1, TOKEN_SECONDS_MAX),
    };
    let seconds = seconds.ok_or_else(|| {
        let message = format!("`seconds` must be a whole number from 1 to {TOKEN_SECONDS_MAX}");
        Answer::problem(422, "invalid-seconds", &message)
    })?;
    let user = body.get("user");
    let (name, scopes) = PEOPLE
        .iter()
        .find(|(name, _)| user.and_then(|user| user.as_str()) == Some(*name))
        .ok_or_else(|| {
        let message = format!("nobody here is called {}", shown(user));
        Answer::problem(401, "unknown-user", &message)
    })?;
    let scopes: Vec<String> = scopes.iter().map(|&scope| scope.to_owned()).collect();
    let token = issue::issue_token(name, &scopes, seconds);
    let granted = Granted { token, token_type: "Bearer", expires_in: seconds, scope: scopes.join(" ") };
    Ok(Answer::json(200, &granted))
}

fn orders(request: &Request) -> Result<Answer, Answer> {
    #[derive(Serialize)]
    struct Orders {
        orders: Vec<Order>,
    }
    let orders = orders_of(&bearer(request, "orders:read")?.subject);
    Ok(Answer::json(200, &Orders { orders }))
}

fn create_order(request: &Request) -> Result<Answer, Answer> {
    let customer = bearer(request, "orders:write")?.subject;
    let body = json_body(body(request))?;
    let order = priced("1004", &customer, Cow::Owned(checked_lines(body.get("lines"))?));
    Ok(Answer::json(201, &order).with("location", format!("/orders/{}", order.id)))
}

fn route_of(request: &Request) -> Result<Route, Answer> {
    let path = &request.path;
    match_route(&request.method, path).ok_or_else(|| {
        let allowed = allowed_methods(path).join(", ");
        if allowed.is_empty() {
            return Answer::problem(404, "not-found", &format!("there is nothing at {path}"));
        }
        Answer::problem(405, "method-not-allowed", &format!("{path} takes {allowed}")).with("allow", allowed)
    })
}

/// What the request's token says, if it is valid and has `scope`.
fn bearer(request: &Request, scope: &str) -> Result<Claims, Answer> {
    // RFC 6750, section 3.
    const CHALLENGE: &str = "www-authenticate";
    let header = request.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("authorization"));
    let mut words = header.map_or("", |(_, value)| value.as_str()).split(' ');
    let (scheme, token) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    if !scheme.eq_ignore_ascii_case("bearer") || token.is_empty() {
        let message = "this needs a token: `authorization: Bearer TOKEN`";
        return Err(Answer::problem(401, "no-token", message).with(CHALLENGE, "Bearer"));
    }
    let claims = verify::verify_token(token)
        .map_err(|refusal| because(refusal).with(CHALLENGE, "Bearer error=\"invalid_token\""))?;
    if !claims.scopes.iter().any(|has| has == scope) {
        let message = format!("{} may not do this: the token lacks {scope}", claims.subject);
        return Err(Answer::problem(403, "missing-scope", &message));
    }
    Ok(claims)
}

fn because(refusal: AuthError) -> Answer {
    let (error, message) = match refusal {
        AuthError::Malformed(what) => ("malformed", format!("this is not a token: {what}")),
        AuthError::UnsupportedAlgorithm(name) => {
            ("unsupported-algorithm", format!("the token must be signed with HS256, not {name}"))
        }
        AuthError::BadSignature => {
            ("bad-signature", "the token was not signed here, or was changed since".to_owned())
        }
        AuthError::Expired(at) => ("expired", format!("the token expired at {}", iso(at))),
    };
    Answer::problem(401, error, &message)
}

fn known(found: Option<&impl Serialize>, id: &str, what: &str) -> Result<Answer, Answer> {
    found.map(|found| Answer::json(200, found)).ok_or_else(|| {
        let quoted = shown(Some(&id.into()));
        Answer::problem(404, &format!("no-such-{what}"), &format!("there is no {what} {quoted}"))
    })
}

fn body(request: &Request) -> &[u8] {
    request.body.as_deref().unwrap_or_default()
}

export!(Storefront);
