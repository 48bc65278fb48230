//! Where a node's admin API is: `https://edge-1.example:8081`.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use tenon_model::Diagnostic;

/// Scheme, host and port of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) is_tls: bool,
    /// A name, or an address without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl Address {
    /// `host:port`, as in a `host` header.
    pub(crate) fn authority(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }

    /// Whether it is on loopback.
    pub(crate) fn is_this_machine(&self) -> bool {
        self.host == "localhost" || self.host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

impl FromStr for Address {
    type Err = Diagnostic;

    fn from_str(text: &str) -> Result<Self, Diagnostic> {
        let wrong = |why: &str| {
            Diagnostic::new("invalid-node", format!("`{text}` names no node: {why}"))
                .mend("write `http://HOST:PORT` or `https://HOST:PORT`, as in `http://127.0.0.1:8081`")
        };
        let uri: http::Uri = text.parse().map_err(|_| wrong("it is not a URL"))?;
        let is_tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(wrong("it begins with neither `http://` nor `https://`")),
        };
        if uri.path() != "/" || uri.query().is_some() {
            return Err(wrong("it has a path"));
        }
        let host = uri.host().unwrap_or_default();
        if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            return Err(wrong("it has a user"));
        }
        let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        Ok(Self { is_tls, host: host.trim_matches(['[', ']']).to_ascii_lowercase(), port })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http{}://{}", if self.is_tls { "s" } else { "" }, self.authority())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_they_are_printed() {
        for text in ["http://127.0.0.1:8081", "https://edge-1.example:443", "http://[::1]:9"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        assert_eq!("https://Edge".parse::<Address>().unwrap().to_string(), "https://edge:443");
        for text in ["", "edge:8081", "ftp://a", "http://a/b", "http://a?x", "http://u@a", "http://"] {
            assert_eq!(text.parse::<Address>().unwrap_err().code, "invalid-node", "{text:?}");
        }
    }

    #[test]
    fn loopback_is_this_machine() {
        let is = |text: &str| text.parse::<Address>().unwrap().is_this_machine();
        assert!(is("http://127.0.0.1:1") && is("http://[::1]:1") && is("https://localhost:1"));
        assert!(!is("http://10.0.0.1:1") && !is("http://localhost.example:1"));
    }
}
