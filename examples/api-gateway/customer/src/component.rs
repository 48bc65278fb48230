//! The exports of the world `customer`, on top of `policy`.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;
use core::hint::black_box;

use exports::demo::gateway::{identity, keys, rate, schemas};

use crate::policy;

wit_bindgen::generate!({ path: "../wit", world: "customer", generate_all });

/// Here `fleet` writes what was agreed with another customer.
static PLACE: [u8; policy::PLACE_BYTES] = policy::place(include_str!("../policy.txt"));

/// The compiler must not know what is in the place: it may be something else by the time this runs.
fn text() -> &'static str {
    policy::text(black_box(&PLACE))
}

struct Customer;

impl identity::Guest for Customer {
    fn name() -> String {
        policy::name(text()).to_owned()
    }
}

impl keys::Guest for Customer {
    fn all() -> Vec<keys::Key> {
        policy::keys(text())
            .into_iter()
            .map(|key| keys::Key {
                name: key.name.to_owned(),
                sha256: key.sha256.to_vec(),
                scopes: key.scopes.into_iter().map(str::to_owned).collect(),
            })
            .collect()
    }
}

impl rate::Guest for Customer {
    fn agreed() -> rate::Allowance {
        let (requests, seconds) = policy::rate(text());
        rate::Allowance { requests, seconds }
    }
}

impl schemas::Guest for Customer {
    fn for_operation(operation: String) -> Option<String> {
        policy::schema(text(), &operation).map(str::to_owned)
    }
}

export!(Customer);
