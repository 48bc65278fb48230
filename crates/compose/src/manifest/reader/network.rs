//! Hosts, ports, paths and addresses as a manifest writes them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use tenon_model::HostPattern;

use super::grants::{Refusal, refuse};

/// The longest name of a host (RFC 1035, section 2.3.4, without the final dot).
const NAME_LENGTH_MAX: usize = 253;
/// The longest word of such a name.
const LABEL_LENGTH_MAX: usize = 63;

/// `api.example.com`, `*.example.com`, `*`, `192.0.2.1`, `2001:db8::1` with or without brackets; in lower case.
pub(super) fn host_pattern(text: &str) -> Result<HostPattern, Refusal> {
    if text == "*" {
        return Ok(HostPattern::Any);
    }
    if let Some(below) = text.strip_prefix("*.") {
        return match below.parse::<IpAddr>() {
            Ok(_) => Err(refuse("nothing is below an address", "Write the address without `*.`.")),
            Err(_) => host_name(below).map(HostPattern::Below),
        };
    }
    match address(text) {
        Some(address) => Ok(HostPattern::Exactly(address.to_string())),
        None => host_name(text).map(HostPattern::Exactly),
    }
}

/// An address; one of version 6 may stand in brackets.
fn address(text: &str) -> Option<IpAddr> {
    let bracketed = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    match bracketed {
        Some(inner) => inner.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        None => text
            .parse::<Ipv4Addr>()
            .map(IpAddr::V4)
            .or_else(|_| text.parse::<Ipv6Addr>().map(IpAddr::V6))
            .ok(),
    }
}

/// A name of the domain name system, in lower case.
fn host_name(text: &str) -> Result<String, Refusal> {
    if text.is_empty() {
        return Err(refuse("it is empty", "Name the host: `host = \"api.example.com\"`."));
    }
    if let Some((scheme, rest)) = text.split_once("://") {
        let host = rest.split(['/', ':']).next().unwrap_or_default();
        return Err(refuse(
            "that is a URL",
            format!(
                "Write its parts: `scheme = \"{scheme}\", host = \"{host}\"`, and `port` and `path` where needed."
            ),
        ));
    }
    if let Some((host, path)) = text.split_once('/') {
        return Err(refuse(
            "a host has no path",
            format!("Write `host = \"{host}\", path = \"/{path}\"`; for HTTP, networks cannot be granted."),
        ));
    }
    if let Some((host, port)) = text.rsplit_once(':')
        && port.bytes().all(|byte| byte.is_ascii_digit())
    {
        return Err(refuse("a host has no port", format!("Write `host = \"{host}\", port = {port}`.")));
    }
    if !text.is_ascii() {
        return Err(refuse(
            "names of hosts are ASCII",
            "Write an international name in its ASCII form, which begins with `xn--`.",
        ));
    }
    let name = text.to_ascii_lowercase();
    if let Some(without) = name.strip_suffix('.') {
        return Err(refuse("it ends with a dot", format!("Write `{without}`.")));
    }
    let good = |label: &str| {
        !label.is_empty()
            && label.len() <= LABEL_LENGTH_MAX
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    if name.len() > NAME_LENGTH_MAX || !name.split('.').all(good) {
        return Err(refuse(
            "it is neither a name nor an address",
            "A name, `*.` and a name for every name below it, `*` for every host, or an address.",
        ));
    }
    // Some resolvers read `127.1` and `0x7f000001` as addresses: what looks like one has to be one.
    let last = name.rsplit('.').next().unwrap_or_default();
    if last.bytes().all(|byte| byte.is_ascii_digit()) || last.starts_with("0x") {
        return Err(refuse("it looks like an address and is none", "Write all four numbers: `127.0.0.1`."));
    }
    Ok(name)
}

/// The beginning of a path: `/`, `/v1/`, `/v1/items`.
pub(super) fn path_prefix(text: &str) -> Result<String, Refusal> {
    if !text.starts_with('/') {
        return Err(refuse("a path begins with `/`", format!("Write `/{text}`.")));
    }
    if text.contains('%') {
        return Err(refuse(
            "it has `%` in it, and the same path can be encoded in several ways",
            "End the prefix before the part that needs encoding.",
        ));
    }
    if text.contains(['?', '#']) {
        return Err(refuse("it is more than a path", "Leave out what begins with `?` or `#`."));
    }
    if text.split('/').any(|segment| matches!(segment, "." | "..")) {
        return Err(refuse("it has `.` or `..` in it", "Write the path in full."));
    }
    if !text.bytes().all(|byte| byte.is_ascii_graphic())
        || text.contains(['\\', '"', '<', '>', '`', '{', '}'])
    {
        return Err(refuse("it has a character that cannot stand in a path", "End the prefix before it."));
    }
    // Two slashes in a row are one: servers differ over them.
    let mut path = String::with_capacity(text.len());
    for character in text.chars() {
        if character != '/' || !path.ends_with('/') {
            path.push(character);
        }
    }
    Ok(path)
}

/// `"1000-2000"`, or one port in quotes.
pub(super) fn port_range(text: &str) -> Result<(u16, u16), Refusal> {
    let port = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse::<u16>().ok()).flatten().filter(|port| *port > 0)
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (port(first.trim()), port(last.trim())) {
        (Some(first), Some(last)) if first <= last => Ok((first, last)),
        (Some(first), Some(last)) => {
            Err(refuse("the first port is above the last", format!("Write \"{last}-{first}\".")))
        }
        _ => Err(refuse(
            "it is neither a port nor a range of ports",
            "A number from 1 to 65535, or the first and the last port: \"1000-2000\".",
        )),
    }
}

/// An address, a network (`10.0.0.0/8`) or a name; for listening an address.
pub(super) fn socket_host(text: &str, listens: bool) -> Result<String, Refusal> {
    if let Some(address) = address(text) {
        return Ok(address.to_string());
    }
    if listens {
        return Err(refuse(
            "a listening socket is bound to an address",
            "Write one: \"127.0.0.1\" for this machine, \"0.0.0.0\" for everybody.",
        ));
    }
    if text == "*" {
        return Err(refuse(
            "sockets are granted to addresses, networks and names",
            "Every address is two networks: \"0.0.0.0/0\" and \"::/0\".",
        ));
    }
    if text.contains('/') {
        let network: IpNet = text.parse().map_err(|_| {
            refuse(
                "it is not a network",
                "Write the first address and how many of its bits are fixed: \"10.0.0.0/8\".",
            )
        })?;
        return match network.trunc() == network {
            true => Ok(network.to_string()),
            false => Err(refuse(
                "the address has bits beyond the network's",
                format!("Write \"{}\".", network.trunc()),
            )),
        };
    }
    host_name(text)
}

/// `redis://[user[:password]@]host[:port][/database]`.
pub(super) fn redis_url(text: &str) -> Result<String, Refusal> {
    let form = "`store = \"embedded\"`, or `store = \"redis://127.0.0.1:6379/0\"`.";
    let Some(rest) = text.strip_prefix("redis://") else {
        return Err(refuse("it is no store that Tenon has", form));
    };
    let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
    let place = authority.rsplit_once('@').map_or(authority, |(_, place)| place);
    let (host, port) = match place.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port),
        _ => (place, "6379"),
    };
    let numeric = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let good = (address(host).is_some() || host_name(host).is_ok())
        && port_range(port).is_ok_and(|(first, last)| first == last)
        && numeric(database)
        && !text.chars().any(|character| character.is_control() || character.is_whitespace());
    if good { Ok(text.to_owned()) } else { Err(refuse("it is not the URL of a Redis database", form)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        let exactly = |text: &str| HostPattern::Exactly(text.to_owned());
        for (text, wanted) in [
            ("API.Example.com", exactly("api.example.com")),
            ("localhost", exactly("localhost")),
            ("my_host.internal", exactly("my_host.internal")),
            ("*.Example.com", HostPattern::Below("example.com".into())),
            ("*", HostPattern::Any),
            ("192.0.2.1", exactly("192.0.2.1")),
            ("2001:DB8:0::1", exactly("2001:db8::1")),
            ("[2001:db8::1]", exactly("2001:db8::1")),
        ] {
            assert_eq!(host_pattern(text), Ok(wanted), "{text}");
        }
        for text in [
            "",
            ".",
            "a..b",
            "-a.com",
            "a-.com",
            "a.com.",
            "*.",
            "**",
            "*.*.com",
            "a.*.com",
            "*.10.0.0.1",
            "127.1",
            "0x7f000001",
            "256.0.0.1",
            "https://a.com",
            "a.com/v1",
            "a.com:8080",
            "bücher.de",
            "a b",
            "user@a.com",
            "[::1",
            "::1]",
            "[127.0.0.1]",
            "fe80::1%eth0",
        ] {
            assert!(host_pattern(text).is_err(), "{text}");
        }
    }

    #[test]
    fn paths() {
        for (text, path) in [("/", "/"), ("/v1/", "/v1/"), ("//v1///x", "/v1/x"), ("/a.b/..c", "/a.b/..c")] {
            assert_eq!(path_prefix(text).as_deref(), Ok(path));
        }
        for text in ["", "v1", "/../x", "/a/..", "/a/./b", "/%2e%2e", "/a?b", "/a#b", "/a b", "/ö", "/a\\b"]
        {
            assert!(path_prefix(text).is_err(), "{text}");
        }
    }

    #[test]
    fn ports() {
        assert_eq!(port_range("1000-2000"), Ok((1000, 2000)));
        assert_eq!(port_range("8080"), Ok((8080, 8080)));
        assert_eq!(port_range("1 - 65535"), Ok((1, 65_535)));
        for text in ["", "-", "0", "0-1", "65536", "2000-1000", "+1", "1-2-3", "any"] {
            assert!(port_range(text).is_err(), "{text}");
        }
    }

    #[test]
    fn socket_hosts() {
        for (text, host) in [
            ("127.0.0.1", "127.0.0.1"),
            ("[::1]", "::1"),
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("2001:DB8::/32", "2001:db8::/32"),
            ("DB.internal", "db.internal"),
        ] {
            assert_eq!(socket_host(text, false).as_deref(), Ok(host));
        }
        for text in ["", "*", "10.0.0.1/8", "10.0.0.0/33", "a/8", "127.1"] {
            assert!(socket_host(text, false).is_err(), "{text}");
        }
        assert_eq!(socket_host("0.0.0.0", true).as_deref(), Ok("0.0.0.0"));
        assert!(socket_host("localhost", true).is_err());
        assert!(socket_host("10.0.0.0/8", true).is_err());
    }

    #[test]
    fn redis_urls() {
        for text in [
            "redis://127.0.0.1:6379/0",
            "redis://localhost",
            "redis://[::1]:6380/1",
            "redis://[::1]",
            "redis://user:secret@cache.internal:6379/",
        ] {
            assert_eq!(redis_url(text).as_deref(), Ok(text));
        }
        for text in
            ["", "redis", "http://a", "redis://", "redis://a:0", "redis://a:x", "redis://a/b", "redis://a b"]
        {
            assert!(redis_url(text).is_err(), "{text}");
        }
    }
}
