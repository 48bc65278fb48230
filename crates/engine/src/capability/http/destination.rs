//! Where a request goes, and whether it was granted.

use http::Uri;
use http::uri::PathAndQuery;
use tenon_model::{HostPattern, HttpGrant, HttpScheme};

/// How often a path is decoded in search of what it hides: a server may decode it more than once.
const DECODINGS_MAX: usize = 4;

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Destination {
    pub(crate) scheme: HttpScheme,
    /// In lower case, without a final dot, without the brackets of an IPv6 address.
    pub(crate) host: String,
    pub(crate) port: u16,
    path: String,
}

impl Destination {
    /// Reads the URI of a request; `None` when it does not say where to go, or says more than that: a user's name.
    pub(crate) fn of(uri: &Uri) -> Option<Self> {
        let scheme = match uri.scheme_str() {
            Some("http") => HttpScheme::Http,
            Some("https") => HttpScheme::Https,
            _ => return None,
        };
        let authority = uri.authority()?;
        if authority.as_str().contains('@') {
            return None;
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        let host = host.strip_suffix('.').unwrap_or(&host).to_owned();
        // A name is letters, digits, hyphens and dots (RFC 9110, section 4.2; underscores are seen); an IPv6 address
        // has colons. What else a resolver would make of it is not found out.
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':');
        if host.is_empty() || !host.bytes().all(plain) {
            return None;
        }
        let port = match authority.port() {
            Some(port) => port.as_str().parse().ok().filter(|port| *port != 0)?,
            // `example.com:` has a colon and no port.
            None => default_port(scheme),
        };
        let path = uri.path_and_query().map_or("/", PathAndQuery::path);
        Some(Self { scheme, host, port, path: if path.is_empty() { "/".into() } else { path.into() } })
    }

    /// The `host` header: the port is left out where it is the scheme's own.
    pub(crate) fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.port == default_port(self.scheme) { host } else { format!("{host}:{}", self.port) }
    }

    /// Scheme, host and port, as the log shows them: a path may hold secrets.
    pub(crate) fn origin(&self) -> String {
        format!("{}://{}", scheme_name(self.scheme), self.authority())
    }

    /// Whether some grant covers it; `Some(true)` when its host may have a private address.
    pub(crate) fn granted(&self, grants: &[HttpGrant]) -> Option<bool> {
        grants.iter().filter(|grant| self.is_covered(grant)).map(|grant| grant.private).reduce(|a, b| a || b)
    }

    fn is_covered(&self, grant: &HttpGrant) -> bool {
        let host = match &grant.host {
            HostPattern::Any => true,
            HostPattern::Exactly(name) => *name == self.host,
            HostPattern::Below(name) => self
                .host
                .strip_suffix(name.as_str())
                .is_some_and(|rest| rest.len() > 1 && rest.ends_with('.')),
        };
        host && grant.scheme == self.scheme && grant.port == self.port && begins_with(&self.path, &grant.path)
    }

    /// The line of a manifest that would grant it.
    pub(crate) fn line(&self, private: bool) -> String {
        let Self { scheme, host, port, path } = self;
        let mut line = format!(r#""wasi:http" = [{{ host = "{host}""#);
        if *scheme == HttpScheme::Http {
            line.push_str(r#", scheme = "http""#);
        }
        if *port != default_port(*scheme) {
            line.push_str(&format!(", port = {port}"));
        }
        // The first segment is enough to go on, and no place for a secret.
        if let Some((first, _)) = path[1..].split_once('/').filter(|_| !is_deceptive(path)) {
            line.push_str(&format!(r#", path = "/{}/""#, first.escape_default()));
        }
        if private {
            line.push_str(", private = true");
        }
        line + " }]"
    }
}

fn default_port(scheme: HttpScheme) -> u16 {
    match scheme {
        HttpScheme::Http => 80,
        HttpScheme::Https => 443,
    }
}

fn scheme_name(scheme: HttpScheme) -> &'static str {
    match scheme {
        HttpScheme::Http => "http",
        HttpScheme::Https => "https",
    }
}

/// Whether a path lies under a prefix, whole segments only. A path that a server could understand otherwise lies under
/// no prefix but `/`.
fn begins_with(path: &str, prefix: &str) -> bool {
    let stem = prefix.trim_end_matches('/');
    if stem.is_empty() {
        return true;
    }
    let under = match path.strip_prefix(stem) {
        Some("") => !prefix.ends_with('/'),
        Some(rest) => rest.starts_with('/'),
        None => false,
    };
    under && !is_deceptive(path)
}

/// Whether a path has segments that lead elsewhere (`.`, `..`), plainly or encoded, or an encoded separator.
fn is_deceptive(path: &str) -> bool {
    let mut decoded = path.as_bytes().to_vec();
    let separators = |path: &[u8]| path.iter().filter(|byte| **byte == b'/').count();
    let expected = separators(&decoded);
    for _ in 0..DECODINGS_MAX {
        let dotted = decoded.split(|byte| *byte == b'/').any(|segment| {
            // `..;x` is `..` with a parameter to some servers.
            let name = segment.split(|byte| *byte == b';').next().unwrap_or_default();
            matches!(name, b"." | b"..")
        });
        if dotted || decoded.contains(&b'\\') || decoded.contains(&0) || separators(&decoded) != expected {
            return true;
        }
        let next = percent_decoded(&decoded);
        if next == decoded {
            return false;
        }
        decoded = next;
    }
    true
}

fn percent_decoded(path: &[u8]) -> Vec<u8> {
    let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let mut decoded = Vec::with_capacity(path.len());
    let mut at = 0;
    while let Some(byte) = path.get(at) {
        match (byte, digit(path.get(at + 1)), digit(path.get(at + 2))) {
            (b'%', Some(high), Some(low)) => {
                decoded.push(u8::try_from(high * 16 + low).unwrap_or_default());
                at += 3;
            }
            _ => {
                decoded.push(*byte);
                at += 1;
            }
        }
    }
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(host: HostPattern, path: &str) -> HttpGrant {
        HttpGrant { scheme: HttpScheme::Https, host, port: 443, path: path.into(), private: false }
    }

    fn to(uri: &str) -> Destination {
        Destination::of(&uri.parse().unwrap()).unwrap()
    }

    fn allows(grant: &HttpGrant, uri: &str) -> bool {
        to(uri).granted(std::slice::from_ref(grant)).is_some()
    }

    #[test]
    fn a_host_is_matched_whole() {
        let exactly = grant(HostPattern::Exactly("api.example.com".into()), "/");
        for uri in
            ["https://api.example.com/", "https://API.example.COM./x?y", "https://api.example.com:443/a/../b"]
        {
            assert!(allows(&exactly, uri), "{uri}");
        }
        for uri in [
            "http://api.example.com/",
            "https://api.example.com:8443/",
            "https://example.com/",
            "https://api.example.com.evil.test/",
            "https://xapi.example.com/",
            "https://x.api.example.com/",
        ] {
            assert!(!allows(&exactly, uri), "{uri}");
        }
        let below = grant(HostPattern::Below("example.com".into()), "/");
        for uri in ["https://a.example.com/", "https://a.b.example.com/"] {
            assert!(allows(&below, uri), "{uri}");
        }
        for uri in ["https://example.com/", "https://.example.com/", "https://evilexample.com/"] {
            assert!(!allows(&below, uri), "{uri}");
        }
        assert!(allows(&grant(HostPattern::Any, "/"), "https://anything.test/"));
    }

    #[test]
    fn a_path_lies_under_whole_segments_only() {
        let api = grant(HostPattern::Any, "/v1/");
        for path in ["/v1/", "/v1/users", "/v1/users%20of", "/v1/a.b/..c/...", "/v1/100%25"] {
            assert!(allows(&api, &format!("https://h{path}")), "{path}");
        }
        for path in [
            "/",
            "",
            "/v1",
            "/v10/",
            "/V1/",
            "/v2/v1/",
            "/v1/../v2",
            "/v1/./x",
            "/v1/%2e%2e/v2",
            "/v1/.%2E/v2",
            "/v1/%252e%252e/v2",
            "/v1/..%2fv2",
            "/v1/a%2fb",
            "/v1/a%5c..%5cb",
            "/v1/..;x=1/v2",
            "/v1/%00",
            "/v1/%2525252525252e",
        ] {
            assert!(!allows(&api, &format!("https://h{path}")), "{path}");
        }
        assert!(allows(&grant(HostPattern::Any, "/v1"), "https://h/v1"));
        assert!(!allows(&grant(HostPattern::Any, "/v1"), "https://h/v1x"));
    }

    #[test]
    fn a_uri_that_hides_its_host_goes_nowhere() {
        for uri in
            ["https://user@host/", "https://user:pw@host/", "/only-a-path", "ftp://host/", "https://a%2eb/"]
        {
            let uri: Result<Uri, _> = uri.parse();
            assert_eq!(uri.ok().and_then(|uri| Destination::of(&uri)), None);
        }
        assert_eq!(to("http://[::1]:8080/x").authority(), "[::1]:8080");
        assert_eq!(to("http://[::1]/x").host, "::1");
    }

    #[test]
    fn the_line_grants_what_was_refused() {
        assert_eq!(to("https://h.test/").line(false), r#""wasi:http" = [{ host = "h.test" }]"#);
        assert_eq!(
            to("http://127.0.0.1:81/v1/x?secret").line(true),
            r#""wasi:http" = [{ host = "127.0.0.1", scheme = "http", port = 81, path = "/v1/", private = true }]"#
        );
        assert_eq!(to("https://h.test:8443/v1/x?secret").origin(), "https://h.test:8443");
    }
}
