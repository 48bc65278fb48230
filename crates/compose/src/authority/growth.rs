//! What a new version may touch that the one before could not.

use std::net::IpAddr;

use ipnet::IpNet;
use tenon_model::{
    Access, BucketGrant, Capability, ContainerGrant, Diagnostic, DirectoryGrant, Grants, HostPattern,
    HttpGrant, InterfaceName, Location, SocketGrant,
};

use super::{Basis, Import, PartReport, Report, described, store};

/// What `new` asks for beyond `base`, one diagnostic for each: a new import that is not inert, and a grant that no
/// single grant of the base covers. A component that the base does not have is compared with nothing. Inert imports
/// and limits are no growth: they reach nothing outside.
pub fn growth(base: &Report, new: &Report) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for part in &new.parts {
        let before = match (base.parts.as_slice(), new.parts.as_slice()) {
            // One component each: the file may be called something else.
            ([only], [_]) => Some(only),
            _ => base.parts.iter().find(|it| it.name == part.name),
        };
        for import in part.imports.iter().filter(|it| it.basis != Basis::Inert) {
            if !before.is_some_and(|before| imports(before, import)) {
                found.push(
                    Diagnostic::new(
                        "authority-grew",
                        format!("`{}` imports `{}`, which it did not before", part.name, import.name),
                    )
                    .at(Location::file(&new.file))
                    .mend(MEND),
                );
            }
        }
        let nothing = Grants::default();
        let had = before.map_or(&nothing, |before| &before.authority.grants);
        found.extend(wider(had, &part.authority.grants).into_iter().map(|(capability, line)| {
            let before = described(had).into_iter().filter(|(it, _)| *it == capability).map(|(_, line)| line);
            let before: Vec<String> = before.collect();
            Diagnostic::new(
                "authority-grew",
                format!("`{}` may touch more through `{capability}`", part.name),
            )
            .at(Location::file(&new.file))
            .note("now", line)
            .note("before", if before.is_empty() { "nothing".to_owned() } else { before.join("\n") })
            .mend(MEND)
        }));
    }
    found
}

const MEND: &str = "Build or grant less; or, when it is meant, compare with a report of this version from now on: \
                    `tenon authority … --json`.";

/// Whether the import was there before, in whatever version, with the same or less in its way.
fn imports(before: &PartReport, import: &Import) -> bool {
    let unversioned =
        |name: &str| InterfaceName::parse(name).map_or_else(|| name.to_owned(), |it| it.unversioned());
    let name = unversioned(&import.name);
    // An inert interface that a grant now fills was imported before; the grant itself is compared below.
    before.imports.iter().any(|it| unversioned(&it.name) == name)
        || matches!(import.basis, Basis::Granted(_))
            && tenon_model::standing(&import.name) == tenon_model::Standing::Inert
}

/// Every grant of `new` that no grant of `base` covers, in one line.
fn wider(base: &Grants, new: &Grants) -> Vec<(Capability, String)> {
    // Each grant alone, so that it has a line of its own.
    let alone = |grants: Grants| described(&grants);
    let nothing = Grants::default;
    let mut found = Vec::new();
    for it in new.http.iter().filter(|new| !base.http.iter().any(|base| http(base, new))) {
        found.extend(alone(Grants { http: vec![it.clone()], ..nothing() }));
    }
    for it in new.filesystem.iter().filter(|new| !base.filesystem.iter().any(|base| directory(base, new))) {
        found.extend(alone(Grants { filesystem: vec![it.clone()], ..nothing() }));
    }
    for it in new.sockets.iter().filter(|new| !base.sockets.iter().any(|base| socket(base, new))) {
        found.extend(alone(Grants { sockets: vec![it.clone()], ..nothing() }));
    }
    for it in new.keyvalue.iter().filter(|new| !base.keyvalue.iter().any(|base| bucket(base, new))) {
        found.extend(alone(Grants { keyvalue: vec![it.clone()], ..nothing() }));
    }
    for it in new.blobstore.iter().filter(|new| !base.blobstore.iter().any(|base| container(base, new))) {
        found.extend(alone(Grants { blobstore: vec![it.clone()], ..nothing() }));
    }
    let (had, has) = (base.messaging.clone().unwrap_or_default(), new.messaging.clone().unwrap_or_default());
    for (verb, had, has) in
        [("publish", had.publish, has.publish), ("subscribe", had.subscribe, has.subscribe)]
    {
        for it in has.iter().filter(|new| !had.iter().any(|base| topic(base, new))) {
            found.push((Capability::Messaging, format!("{verb} {it}")));
        }
    }
    for it in new.config.iter().flatten().map(|(name, _)| name) {
        if !base.config.as_ref().is_some_and(|base| base.contains_key(it)) {
            found.push((Capability::Config, format!("value {it}")));
        }
    }
    if new.logging && !base.logging {
        found.extend(alone(Grants { logging: true, ..nothing() }));
    }
    for it in new.environment.keys().filter(|name| !base.environment.contains_key(*name)) {
        found.push((Capability::Cli, format!("variable {it}")));
    }
    if base.clock.is_some() && new.clock.is_none() {
        found.push((Capability::Clocks, "the true time".to_owned()));
    }
    if base.seed.is_some() && new.seed.is_none() {
        found.push((Capability::Random, "the system's randomness".to_owned()));
    }
    found
}

fn http(base: &HttpGrant, new: &HttpGrant) -> bool {
    base.scheme == new.scheme
        && base.port == new.port
        && (base.private || !new.private)
        && host(&base.host, &new.host)
        && path(&base.path, &new.path)
}

fn host(base: &HostPattern, new: &HostPattern) -> bool {
    let below = |name: &str, parent: &str| name.strip_suffix(parent).is_some_and(|rest| rest.ends_with('.'));
    match (base, new) {
        (HostPattern::Any, _) => true,
        (HostPattern::Exactly(base), HostPattern::Exactly(new)) => base == new,
        (HostPattern::Below(base), HostPattern::Exactly(new)) => below(new, base),
        (HostPattern::Below(base), HostPattern::Below(new)) => new == base || below(new, base),
        (HostPattern::Exactly(_) | HostPattern::Below(_), _) => false,
    }
}

/// Whole segments only: `/v1` covers `/v1/items` and not `/v10`.
fn path(base: &str, new: &str) -> bool {
    match new.strip_prefix(base) {
        Some(rest) => rest.is_empty() || base.ends_with('/') || rest.starts_with('/'),
        None => false,
    }
}

fn access(base: Access, new: Access) -> bool {
    base >= new
}

fn directory(base: &DirectoryGrant, new: &DirectoryGrant) -> bool {
    let (base_path, new_path) = (segments(&base.directory), segments(&new.directory));
    access(base.access, new.access)
        && new_path.starts_with(&base_path)
        && !climbs(&new_path[base_path.len()..])
}

/// The parts of a path, `.` and `name/..` left out. That a symbolic link may lead elsewhere is the host's to see.
fn segments(path: &str) -> Vec<&str> {
    let mut segments = if path.starts_with('/') { vec!["/"] } else { Vec::new() };
    for segment in path.split('/').filter(|segment| !matches!(*segment, "" | ".")) {
        match segments.last() {
            Some(&last) if segment == ".." && last == "/" => {}
            Some(&last) if segment == ".." && last != ".." => {
                segments.pop();
            }
            _ => segments.push(segment),
        }
    }
    segments
}

fn climbs(rest: &[&str]) -> bool {
    rest.contains(&"..")
}

fn socket(base: &SocketGrant, new: &SocketGrant) -> bool {
    let network = |host: &str| match host.parse::<IpAddr>() {
        // Listening there is listening everywhere.
        Ok(address) if address.is_unspecified() => IpNet::new(address, 0).ok(),
        Ok(address) => Some(IpNet::from(address)),
        Err(_) => host.parse::<IpNet>().ok(),
    };
    let host = match (network(&base.host), network(&new.host)) {
        (Some(base), Some(new)) => base.contains(&new),
        _ => base.host == new.host,
    };
    host && base.protocol == new.protocol
        && base.direction == new.direction
        && base.ports.0 <= new.ports.0
        && new.ports.1 <= base.ports.1
}

fn bucket(base: &BucketGrant, new: &BucketGrant) -> bool {
    base.bucket == new.bucket && store(&base.store) == store(&new.store) && access(base.access, new.access)
}

fn container(base: &ContainerGrant, new: &ContainerGrant) -> bool {
    base.container == new.container && access(base.access, new.access)
}

fn topic(base: &str, new: &str) -> bool {
    match base.strip_suffix(".*") {
        Some(parent) => new.strip_prefix(parent).is_some_and(|rest| rest.starts_with('.')),
        None => base == new,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{from_json, to_json};
    use super::*;
    use crate::manifest::Manifest;

    fn report(grants: &str) -> Report {
        let text = format!("[component.shop]\npath = \"shop.wasm\"\n[component.shop.grants]\n{grants}");
        let manifest = Manifest::parse("tenon.toml", &text).unwrap();
        let part = PartReport {
            name: "shop".into(),
            imports: Vec::new(),
            authority: manifest.authorities.parts["shop"].clone(),
        };
        Report { file: "tenon.toml".into(), parts: vec![part] }
    }

    fn grew(base: &str, new: &str) -> usize {
        let (base, new) = (report(base), report(new));
        let found = growth(&base, &new);
        assert!(found.iter().all(|it| it.code == "authority-grew"));
        // The printed report compares like the manifest it is of.
        let printed = from_json("base.json", &to_json(&base).to_string()).unwrap();
        assert_eq!(growth(&printed, &new), found);
        found.len()
    }

    #[test]
    fn the_same_or_less_is_no_growth() {
        for (base, new) in [
            (
                r#""wasi:http" = [{ host = "*.a.com", path = "/v1" }]"#,
                r#""wasi:http" = [{ host = "x.a.com", path = "/v1/y" }]"#,
            ),
            (r#""wasi:http" = [{ host = "*", private = true }]"#, r#""wasi:http" = [{ host = "*.a.com" }]"#),
            (r#""wasi:http" = [{ host = "::1", private = true }]"#, r#""wasi:http" = [{ host = "[::1]" }]"#),
            (
                r#""wasi:filesystem" = [{ directory = "data", at = "/data", access = "write" }]"#,
                r#""wasi:filesystem" = [{ directory = "./data/x/../y", at = "/y" }]"#,
            ),
            (
                r#""wasi:sockets" = [{ protocol = "tcp", direction = "connect", host = "10.0.0.0/8", port = "1-9" }]"#,
                r#""wasi:sockets" = [{ protocol = "tcp", direction = "connect", host = "10.1.0.0/16", port = 5 }]"#,
            ),
            (
                r#""wasi:keyvalue" = [{ bucket = "a", store = "redis://u:p@h/0" }]"#,
                r#""wasi:keyvalue" = [{ bucket = "a", store = "redis://u:q@h/0" }]"#,
            ),
            (
                r#""wasi:messaging" = { publish = ["a.*"] }"#,
                r#""wasi:messaging" = { publish = ["a.b", "a.c.*"] }"#,
            ),
            (
                r#""wasi:cli" = { environment = { A = "1", B = "2" } }"#,
                r#""wasi:cli" = { environment = { A = "3" } }"#,
            ),
            (r#""wasi:config" = { a = "1" }"#, r#""wasi:config" = { a = "2" }"#),
            ("", r#""wasi:random" = { seed = 1 }"#),
            (r#""wasi:logging" = true"#, ""),
        ] {
            assert_eq!(grew(base, new), 0, "{base}\n{new}");
            assert_eq!(grew(base, base), 0, "{base}");
        }
    }

    #[test]
    fn whatever_is_wider_is_growth() {
        for (base, new) in [
            ("", r#""wasi:http" = [{ host = "a.com" }]"#),
            (r#""wasi:http" = [{ host = "a.com" }]"#, r#""wasi:http" = [{ host = "b.com" }]"#),
            (r#""wasi:http" = [{ host = "a.com" }]"#, r#""wasi:http" = [{ host = "*.a.com" }]"#),
            (r#""wasi:http" = [{ host = "*.a.com" }]"#, r#""wasi:http" = [{ host = "a.com" }]"#),
            (r#""wasi:http" = [{ host = "*.a.com" }]"#, r#""wasi:http" = [{ host = "ba.com" }]"#),
            (r#""wasi:http" = [{ host = "a.com" }]"#, r#""wasi:http" = [{ host = "a.com", port = 8443 }]"#),
            (
                r#""wasi:http" = [{ host = "a.com" }]"#,
                r#""wasi:http" = [{ host = "a.com", scheme = "http" }]"#,
            ),
            (
                r#""wasi:http" = [{ host = "a.com" }]"#,
                r#""wasi:http" = [{ host = "a.com", private = true }]"#,
            ),
            (
                r#""wasi:http" = [{ host = "a.com", path = "/v1" }]"#,
                r#""wasi:http" = [{ host = "a.com", path = "/v10" }]"#,
            ),
            (
                r#""wasi:filesystem" = [{ directory = "data", at = "/data" }]"#,
                r#""wasi:filesystem" = [{ directory = "data", at = "/data", access = "write" }]"#,
            ),
            (
                r#""wasi:filesystem" = [{ directory = "data", at = "/data" }]"#,
                r#""wasi:filesystem" = [{ directory = "data/../..", at = "/data" }]"#,
            ),
            (
                r#""wasi:filesystem" = [{ directory = ".", at = "/data" }]"#,
                r#""wasi:filesystem" = [{ directory = "..", at = "/data" }]"#,
            ),
            (
                r#""wasi:filesystem" = [{ directory = "data", at = "/data" }]"#,
                r#""wasi:filesystem" = [{ directory = "database", at = "/data" }]"#,
            ),
            (
                r#""wasi:sockets" = [{ protocol = "tcp", direction = "connect", host = "10.0.0.1", port = "1-9" }]"#,
                r#""wasi:sockets" = [{ protocol = "tcp", direction = "connect", host = "10.0.0.1", port = "1-10" }]"#,
            ),
            (
                r#""wasi:sockets" = [{ protocol = "tcp", direction = "listen", host = "127.0.0.1", port = 1 }]"#,
                r#""wasi:sockets" = [{ protocol = "tcp", direction = "listen", host = "0.0.0.0", port = 1 }]"#,
            ),
            (r#""wasi:keyvalue" = [{ bucket = "a" }]"#, r#""wasi:keyvalue" = [{ bucket = "b" }]"#),
            (
                r#""wasi:keyvalue" = [{ bucket = "a" }]"#,
                r#""wasi:keyvalue" = [{ bucket = "a", access = "write" }]"#,
            ),
            (
                r#""wasi:keyvalue" = [{ bucket = "a" }]"#,
                r#""wasi:keyvalue" = [{ bucket = "a", store = "redis://h" }]"#,
            ),
            (r#""wasi:blobstore" = [{ container = "a" }]"#, r#""wasi:blobstore" = [{ container = "b" }]"#),
            (r#""wasi:messaging" = { publish = ["a.b"] }"#, r#""wasi:messaging" = { publish = ["a.*"] }"#),
            (r#""wasi:messaging" = { publish = ["a"] }"#, r#""wasi:messaging" = { subscribe = ["a"] }"#),
            (r#""wasi:config" = {}"#, r#""wasi:config" = { a = "1" }"#),
            (
                r#""wasi:cli" = { environment = { A = "1" } }"#,
                r#""wasi:cli" = { environment = { B = "1" } }"#,
            ),
            ("", r#""wasi:logging" = true"#),
            (r#""wasi:random" = { seed = 1 }"#, ""),
            (r#""wasi:clocks" = { now = "2026-01-01T00:00:00Z" }"#, ""),
        ] {
            assert_eq!(grew(base, new), 1, "{base}\n{new}");
        }
    }

    #[test]
    fn imports_count_whatever_their_version_unless_they_are_inert() {
        let with = |name: &str, imports: &[&str]| {
            let mut report = report("");
            report.parts[0].name = name.into();
            report.parts[0].imports = imports
                .iter()
                .map(|name| Import {
                    name: (*name).into(),
                    basis: Basis::of(name, &Grants::default(), false),
                })
                .collect();
            report
        };
        let base = with("shop", &["wasi:http/outgoing-handler@0.2.3"]);
        assert_eq!(
            growth(&base, &with("shop-2", &["wasi:http/outgoing-handler@0.2.6", "wasi:io/poll@0.2.6"])),
            []
        );
        assert_eq!(growth(&base, &with("shop", &["wasi:sockets/tcp@0.2.6"])).len(), 1);
        assert_eq!(growth(&base, &with("shop", &["acme:log/write"])).len(), 1);
        let mut two = base.clone();
        two.parts.push(PartReport { name: "new".into(), ..base.parts[0].clone() });
        assert_eq!(growth(&base, &two).len(), 1, "a component that was not there had nothing");
        assert_eq!(growth(&two, &base), []);
    }

    #[test]
    fn another_file_is_no_report() {
        for text in ["", "{}", "[]", r#"{"version":2,"parts":[]}"#, r#"{"version":1,"parts":[{}]}"#] {
            assert_eq!(from_json("base.json", text).unwrap_err().code, "not-a-report", "{text}");
        }
        let hostile = r#"{"version":1,"parts":[{"name":"a","imports":[],"grants":{"x\"]\n[grants]":true}}]}"#;
        assert_eq!(from_json("base.json", hostile).unwrap_err().code, "not-a-report");
    }
}
