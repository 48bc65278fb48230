//! The exports of the world `auth`, on top of `token`.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;

use crate::token::{self, Claims, Refusal};
use demo::auth::types;
use exports::demo::auth::{issue, verify};
use wasi::clocks::wall_clock;

wit_bindgen::generate!({ path: "../wit", world: "auth", generate_all });

/// The key is compiled in, so that the example needs no configuration. Whoever has this file can sign tokens:
/// a real service keeps its key out of the repository.
const KEY: &[u8] = include_bytes!("../development.key").trim_ascii();

struct Auth;

impl verify::Guest for Auth {
    fn verify_token(token: String) -> Result<types::Claims, types::AuthError> {
        let claims = token::verify(&token, KEY, wall_clock::now().seconds)?;
        Ok(types::Claims {
            subject: claims.sub,
            scopes: claims.scope.split_ascii_whitespace().map(str::to_owned).collect(),
            issued_at: claims.iat,
            expires_at: claims.exp,
        })
    }
}

impl issue::Guest for Auth {
    fn issue_token(subject: String, scopes: Vec<String>, ttl_seconds: u32) -> String {
        let now = wall_clock::now().seconds;
        let claims =
            Claims { sub: subject, scope: scopes.join(" "), iat: now, exp: now + u64::from(ttl_seconds) };
        token::sign(&claims, KEY)
    }
}

impl From<Refusal> for types::AuthError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Malformed(what) => Self::Malformed(what.to_owned()),
            Refusal::UnsupportedAlgorithm(name) => Self::UnsupportedAlgorithm(name),
            Refusal::BadSignature => Self::BadSignature,
            Refusal::Expired(at) => Self::Expired(at),
        }
    }
}

export!(Auth);
