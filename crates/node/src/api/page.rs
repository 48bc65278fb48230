//! The page for people at `/`: what each app, and each of its components, uses. It is the same for everybody and has
//! nothing of the node in it: its script asks `/v1/top`, with the token that a person gave it.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use sha2::{Digest as _, Sha256};

use super::server::Reply;
use crate::refused::{Answer, Refused};

const PAGE: &str = include_str!("page.html");

/// What a browser is held to; see [`policy`].
static POLICY: LazyLock<Option<HeaderValue>> = LazyLock::new(|| policy(PAGE));

/// The page. Without its policy it is not sent.
pub(super) fn reply() -> Answer<Reply> {
    let policy = POLICY.clone();
    policy.map(|policy| Reply::page(PAGE, policy)).ok_or_else(|| {
        Refused::new("internal", "the page has no policy to send it with", "use `tenon top`, and report it")
    })
}

/// The `Content-Security-Policy` of a page: its own style and script, by their digests, calls to the server it came from,
/// and nothing else.
fn policy(page: &str) -> Option<HeaderValue> {
    let digest = |tag: &str| {
        let (_, rest) = page.split_once(&format!("<{tag}>"))?;
        let (text, _) = rest.split_once(&format!("</{tag}>"))?;
        Some(format!("'sha256-{}'", STANDARD.encode(Sha256::digest(text))))
    };
    let policy = format!(
        "default-src 'none'; style-src {}; script-src {}; connect-src 'self'; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'",
        digest("style")?,
        digest("script")?
    );
    policy.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_names_what_stands_in_the_page() {
        // The digest of nothing, and that of `abc` (FIPS 180-2, appendix B.1).
        let nothing = "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='";
        let abc = "'sha256-ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0='";
        let policy_of = |page: &str| policy(page).map(|policy| policy.to_str().unwrap().to_owned());
        let said = policy_of("<style>abc</style><p><script></script>").unwrap();
        assert!(
            said.starts_with(&format!("default-src 'none'; style-src {abc}; script-src {nothing};")),
            "{said}"
        );
        assert_eq!(policy_of("<style>abc</style>"), None);
    }

    #[test]
    fn the_page_needs_nothing_but_itself_and_makes_no_markup_of_what_it_is_told() {
        assert!(policy(PAGE).is_some());
        assert_eq!((PAGE.matches("<style").count(), PAGE.matches("<script").count()), (1, 1));
        // No other file, nothing that its policy would stop, no way from a name to markup, and no place where a token stays.
        for word in [
            "://",
            " src=",
            " href=",
            " style=",
            " onclick=",
            "url(",
            "@import",
            "innerHTML",
            "outerHTML",
            "insertAdjacent",
            "document.write",
            "eval(",
            "localStorage",
            "cookie",
        ] {
            assert!(!PAGE.contains(word), "{word}");
        }
    }
}
