//! Correlation ids.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::trace::digits;

/// The header that carries the correlation id, both ways.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// A longer id is not taken over from a client.
const ID_BYTES_MAX: usize = 128;

/// What ties a response, its log lines and its guest's output together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId {
    text: Arc<str>,
    header: HeaderValue,
}

impl RequestId {
    /// Takes over a client's id: up to 128 letters, digits and `-._~:+/=`; anything else could forge log lines.
    pub fn parse(text: &str) -> Option<Self> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:+/=".contains(&byte);
        (1..=ID_BYTES_MAX).contains(&text.len()).then_some(())?;
        text.bytes().all(allowed).then(|| Self::of(text))
    }

    fn of(text: &str) -> Self {
        let header = HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static("invalid"));
        Self { text: text.into(), header }
    }

    /// The id as a header's value.
    pub fn header(&self) -> HeaderValue {
        self.header.clone()
    }

    /// The id, shared.
    pub fn shared(&self) -> Arc<str> {
        Arc::clone(&self.text)
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Makes ids: a random number drawn once, and a count. One for each worker, so that nothing is shared.
#[derive(Debug)]
pub struct Ids {
    prefix: u64,
    next: AtomicU64,
}

impl Ids {
    /// Draws the random part.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn new() -> Result<Self, getrandom::Error> {
        Ok(Self { prefix: getrandom::u64()?, next: AtomicU64::new(0) })
    }

    /// The request's own id where it is valid, else a new one.
    pub fn identify(&self, headers: &HeaderMap) -> RequestId {
        headers
            .get(&REQUEST_ID)
            .and_then(|value| value.to_str().ok())
            .and_then(RequestId::parse)
            .unwrap_or_else(|| self.fresh())
    }

    /// A new one, for what no client asked for.
    pub(crate) fn fresh(&self) -> RequestId {
        let count = self.next.fetch_add(1, Relaxed);
        let mut text = [0; 24];
        let (prefix, number) = text.split_at_mut(16);
        digits(prefix, self.prefix.into());
        digits(number, count.into());
        RequestId::of(str::from_utf8(&text).unwrap_or("invalid"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clients_id_is_taken_over_only_when_it_is_harmless() {
        for valid in ["a", "0f8fad5b-d9cb-469f-a165-70867728950e", "Root=1-67891233-abcdef", &"a".repeat(128)]
        {
            assert_eq!(RequestId::parse(valid).unwrap().to_string(), valid);
        }
        for invalid in ["", "a b", "a\nb", "a\"b", "é", &"a".repeat(129)] {
            assert_eq!(RequestId::parse(invalid), None, "{invalid:?}");
        }
    }

    #[test]
    fn fresh_ids_differ() {
        let ids = Ids::new().unwrap();
        let headers = HeaderMap::new();
        let (first, second) = (ids.identify(&headers).to_string(), ids.identify(&headers).to_string());
        assert_eq!((&first[..16], &first[16..]), (&second[..16], "00000000"));
        assert_eq!(&second[16..], "00000001");
    }
}
