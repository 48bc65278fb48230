//! JSON Web Tokens (RFC 7519) in compact form with one algorithm: HMAC-SHA-256 (`HS256`, RFC 7518, section 3.2).
//!
//! No clock and no key in here, so that the tests can choose both.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;

use base64ct::{Base64UrlUnpadded, Encoding};
use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

/// The registered claims that the shop uses; `scope` is the one of RFC 8693, names between spaces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    pub sub: String,
    #[serde(default)]
    pub scope: String,
    #[serde(default)]
    pub iat: u64,
    pub exp: u64,
}

/// Why a token is not believed.
#[derive(Debug, PartialEq, Eq)]
pub enum Refusal {
    Malformed(&'static str),
    UnsupportedAlgorithm(String),
    BadSignature,
    Expired(u64),
}

#[derive(Serialize, Deserialize)]
struct Header {
    alg: String,
}

/// A token with these claims, signed with `key`.
pub fn sign(claims: &Claims, key: &[u8]) -> String {
    let header = encode(&Header { alg: "HS256".to_owned() });
    let payload = encode(claims);
    let signature = mac(key, &header, &payload).finalize().into_bytes();
    format!("{header}.{payload}.{}", Base64UrlUnpadded::encode_string(&signature))
}

/// What `token` claims, when `key` signed it and it is still valid at `now` (seconds since 1970).
pub fn verify(token: &str, key: &[u8], now: u64) -> Result<Claims, Refusal> {
    let mut parts = token.split('.');
    let (Some(header), Some(payload), Some(signature), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Refusal::Malformed("a token has three parts with dots between them"));
    };
    // The algorithm is looked at only to refuse: a token must not choose how it is checked (RFC 8725, section 3.1).
    let Header { alg } = decode(header, NOT_A_HEADER)?;
    if alg != "HS256" {
        return Err(Refusal::UnsupportedAlgorithm(alg));
    }
    let signature = Base64UrlUnpadded::decode_vec(signature)
        .map_err(|_| Refusal::Malformed("the signature is not unpadded base64url"))?;
    // `verify_slice` compares in constant time.
    mac(key, header, payload).verify_slice(&signature).map_err(|_| Refusal::BadSignature)?;
    let claims: Claims = decode(payload, NOT_CLAIMS)?;
    if now >= claims.exp {
        return Err(Refusal::Expired(claims.exp));
    }
    Ok(claims)
}

fn mac(key: &[u8], header: &str, payload: &str) -> Hmac<Sha256> {
    let mut mac = Hmac::new_from_slice(key).expect("HMAC takes a key of any length");
    mac.update(header.as_bytes());
    mac.update(b".");
    mac.update(payload.as_bytes());
    mac
}

fn encode<T: Serialize>(part: &T) -> String {
    Base64UrlUnpadded::encode_string(&serde_json::to_vec(part).expect("strings and numbers become JSON"))
}

fn decode<T: for<'a> Deserialize<'a>>(part: &str, otherwise: &'static str) -> Result<T, Refusal> {
    let json = Base64UrlUnpadded::decode_vec(part).map_err(|_| Refusal::Malformed(otherwise))?;
    serde_json::from_slice(&json).map_err(|_| Refusal::Malformed(otherwise))
}

const NOT_A_HEADER: &str = "the header is not unpadded base64url of a JSON object with `alg`";
const NOT_CLAIMS: &str = "the claims are not unpadded base64url of a JSON object with `sub` and `exp`";

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &[u8] = b"a key";
    const NOW: u64 = 1_700_000_000;

    fn claims() -> Claims {
        Claims {
            sub: "ada".to_owned(),
            scope: "orders:read orders:write".to_owned(),
            iat: NOW,
            exp: NOW + 60,
        }
    }

    fn part(text: &str) -> String {
        Base64UrlUnpadded::encode_string(text.as_bytes())
    }

    #[test]
    fn what_was_signed_is_read_back() {
        assert_eq!(verify(&sign(&claims(), KEY), KEY, NOW), Ok(claims()));
    }

    #[test]
    fn reads_the_token_of_rfc_7515_appendix_a_1() {
        let key = Base64UrlUnpadded::decode_vec(
            "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow",
        )
        .unwrap();
        let token = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.\
                     eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.\
                     dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
        // Its signature is right; it has no `sub`, which this service asks for.
        assert_eq!(verify(token, &key, 0), Err(Refusal::Malformed(NOT_CLAIMS)));
        assert_eq!(verify(token, b"another", 0), Err(Refusal::BadSignature));
    }

    #[test]
    fn a_token_is_valid_until_just_before_it_expires() {
        let token = sign(&claims(), KEY);
        assert!(verify(&token, KEY, NOW + 59).is_ok());
        assert_eq!(verify(&token, KEY, NOW + 60), Err(Refusal::Expired(NOW + 60)));
    }

    #[test]
    fn changed_claims_are_refused() {
        let token = sign(&claims(), KEY);
        let (header, rest) = token.split_once('.').unwrap();
        let (_, signature) = rest.split_once('.').unwrap();
        let forged = part(r#"{"sub":"eve","scope":"orders:write","exp":9999999999}"#);
        assert_eq!(verify(&format!("{header}.{forged}.{signature}"), KEY, NOW), Err(Refusal::BadSignature));
    }

    #[test]
    fn the_token_does_not_choose_the_algorithm() {
        let payload = part(r#"{"sub":"eve","exp":9999999999}"#);
        for alg in ["none", "HS512", "RS256", ""] {
            let token = format!("{}.{payload}.", part(&format!(r#"{{"alg":"{alg}"}}"#)));
            assert_eq!(verify(&token, KEY, NOW), Err(Refusal::UnsupportedAlgorithm(alg.to_owned())));
        }
    }

    #[test]
    fn a_shortened_signature_is_refused() {
        let token = sign(&claims(), KEY);
        for cut in [1, 2, 42, 43] {
            assert!(verify(&token[..token.len() - cut], KEY, NOW).is_err(), "{cut}");
        }
    }

    #[test]
    fn what_is_not_a_token_is_malformed() {
        for text in ["", ".", "..", "a.b", "a.b.c", "a.b.c.d", "=.=.=", "\u{e9}.b.c"] {
            assert!(matches!(verify(text, KEY, NOW), Err(Refusal::Malformed(_))), "{text}");
        }
    }
}
