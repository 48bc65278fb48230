//! The exports of the world `routing`, on top of `router`.

use alloc::borrow::ToOwned as _;
use alloc::string::String;
use alloc::vec::Vec;

use exports::demo::routing::match_::{Guest, Route};

use crate::router::{self, Pattern, pattern};

wit_bindgen::generate!({ path: "../../storefront/wit", world: "routing", generate_all });

/// The routes of the storefront.
const ROUTES: [Pattern; 8] = [
    pattern("GET", "/", "index"),
    pattern("POST", "/login", "login"),
    pattern("GET", "/products", "products"),
    pattern("GET", "/products/cheapest", "cheapest-product"),
    pattern("GET", "/products/{id}", "product"),
    pattern("GET", "/orders", "orders"),
    pattern("POST", "/orders", "create-order"),
    pattern("GET", "/orders/{id}", "order"),
];

struct Routing;

impl Guest for Routing {
    fn match_route(method: String, path: String) -> Option<Route> {
        let found = router::find(&ROUTES, &method, &path)?;
        Some(Route {
            name: found.pattern.name.to_owned(),
            pattern: found.pattern.path.to_owned(),
            params: found.params.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        })
    }

    fn allowed_methods(path: String) -> Vec<String> {
        router::methods(&ROUTES, &path).into_iter().map(str::to_owned).collect()
    }
}

export!(Routing);
