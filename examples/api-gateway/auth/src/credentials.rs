//! Which key was presented, and what it may do.

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// A key that was given out.
pub struct Known<'a> {
    pub name: &'a str,
    pub sha256: &'a [u8],
    pub may: bool,
}

/// Why a caller is not let in.
#[derive(Debug, PartialEq, Eq)]
pub enum Refusal {
    NoKey,
    UnknownKey,
    MissingScope,
}

/// Whose key `presented` is. All keys are compared, each in constant time: how long it takes says nothing.
pub fn identify<'a>(
    presented: Option<&str>,
    known: impl Iterator<Item = Known<'a>>,
) -> Result<&'a str, Refusal> {
    let presented = presented.filter(|key| !key.is_empty()).ok_or(Refusal::NoKey)?;
    let hash = Sha256::digest(presented.as_bytes());
    let mut found = None;
    for key in known {
        if bool::from(hash.as_slice().ct_eq(key.sha256)) {
            found = Some(key);
        }
    }
    match found {
        None => Err(Refusal::UnknownKey),
        Some(key) if !key.may => Err(Refusal::MissingScope),
        Some(key) => Ok(key.name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_known_key_with_the_scope_is_let_in() {
        let (shop, report) = (Sha256::digest("shop"), Sha256::digest("report"));
        let known = || {
            [Known { name: "a", sha256: &shop, may: true }, Known { name: "b", sha256: &report, may: false }]
                .into_iter()
        };
        assert_eq!(identify(Some("shop"), known()), Ok("a"));
        assert_eq!(identify(Some("report"), known()), Err(Refusal::MissingScope));
        assert_eq!(identify(Some("shop "), known()), Err(Refusal::UnknownKey));
        assert_eq!(identify(Some(""), known()), Err(Refusal::NoKey));
        assert_eq!(identify(None, known()), Err(Refusal::NoKey));
    }

    #[test]
    fn a_hash_of_another_length_is_nobodys() {
        let known = [Known { name: "a", sha256: &[], may: true }].into_iter();
        assert_eq!(identify(Some("x"), known), Err(Refusal::UnknownKey));
    }
}
