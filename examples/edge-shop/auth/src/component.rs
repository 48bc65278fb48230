//! The exports of the world `auth-world`, on top of `people` and `token`.

use alloc::borrow::ToOwned;
use alloc::string::String;

use crate::people;
use crate::token::{self, Claims, Refusal};
use exports::demo::shop::auth::{self, SignInError, SignedIn, TokenError};
use wasi::clocks::wall_clock;
use wasi::config::store;

wit_bindgen::generate!({ path: "../wit", world: "auth-world", generate_all });

/// The longest that a token is valid.
const TOKEN_SECONDS_MAX: u32 = 3600;

/// Shorter keys can be guessed: a key has the length of the digest at least (RFC 7518, section 3.2).
const KEY_BYTES_MIN: usize = 32;

struct Auth;

impl auth::Guest for Auth {
    fn sign_in(user: String, password: String, seconds: u32) -> Result<SignedIn, SignInError> {
        let person = people::with_password(&user, &password).ok_or(SignInError::WrongPassword)?;
        let key = key().map_err(SignInError::NoKey)?;
        let now = wall_clock::now().seconds;
        let expires_at = now + u64::from(seconds.min(TOKEN_SECONDS_MAX));
        let claims =
            Claims { sub: person.name.to_owned(), scope: person.scopes.join(" "), iat: now, exp: expires_at };
        Ok(SignedIn {
            token: token::sign(&claims, key.as_bytes()),
            scopes: person.scopes.iter().map(|&scope| scope.to_owned()).collect(),
            expires_at,
        })
    }

    fn verify(token: String) -> Result<auth::Claims, TokenError> {
        let key = key().map_err(TokenError::NoKey)?;
        let claims = token::verify(&token, key.as_bytes(), wall_clock::now().seconds)?;
        Ok(auth::Claims {
            subject: claims.sub,
            scopes: claims.scope.split_ascii_whitespace().map(str::to_owned).collect(),
            expires_at: claims.exp,
        })
    }
}

/// The signing key, which the manifest grants to this component alone; or what is wrong with it.
fn key() -> Result<String, String> {
    match store::get("signing-key") {
        Ok(Some(key)) if key.len() >= KEY_BYTES_MIN => Ok(key),
        Ok(Some(_)) => Err("`signing-key` is shorter than 32 bytes".to_owned()),
        Ok(None) => Err("the configuration of `auth` has no `signing-key`".to_owned()),
        Err(store::Error::Upstream(cause) | store::Error::Io(cause)) => Err(cause),
    }
}

impl From<Refusal> for TokenError {
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
