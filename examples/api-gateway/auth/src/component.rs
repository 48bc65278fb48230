//! The export of the world `authenticator`, on top of `credentials`.

use alloc::borrow::ToOwned;
use alloc::string::String;

use demo::gateway::keys;
use exports::demo::gateway::auth;

use crate::credentials::{self, Known};

wit_bindgen::generate!({ path: "../wit", world: "authenticator", generate_all });

struct Auth;

impl auth::Guest for Auth {
    fn identify(key: Option<String>, scope: String) -> Result<auth::Caller, auth::Refusal> {
        let keys = keys::all();
        let known = keys.iter().map(|key| Known {
            name: &key.name,
            sha256: &key.sha256,
            may: key.scopes.contains(&scope),
        });
        match credentials::identify(key.as_deref(), known) {
            Ok(name) => Ok(auth::Caller { key: name.to_owned() }),
            Err(credentials::Refusal::NoKey) => Err(auth::Refusal::NoKey),
            Err(credentials::Refusal::UnknownKey) => Err(auth::Refusal::UnknownKey),
            Err(credentials::Refusal::MissingScope) => Err(auth::Refusal::MissingScope(scope)),
        }
    }
}

export!(Auth);
