//! `[grants]`, and `[component.NAME.grants]`: one key for each WASI package, whatever its version.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use tenon_model::{
    Access, BucketGrant, Capability, ContainerGrant, Diagnostic, DirectoryGrant, Grants, HttpGrant,
    HttpScheme, MessagingGrant, SocketDirection, SocketGrant, SocketProtocol, StoreName, parse_time,
};
use tenon_wit::most_similar;
use toml::de::DeValue;

use super::network::{host_pattern, path_prefix, port_range, redis_url, socket_host};
use super::{Reader, Table};

pub(in super::super) const HTTP_KEYS: [&str; 5] = ["host", "scheme", "port", "path", "private"];
pub(in super::super) const FILESYSTEM_KEYS: [&str; 3] = ["directory", "at", "access"];
pub(in super::super) const SOCKET_KEYS: [&str; 4] = ["protocol", "direction", "host", "port"];
pub(in super::super) const KEYVALUE_KEYS: [&str; 3] = ["bucket", "access", "store"];
pub(in super::super) const BLOBSTORE_KEYS: [&str; 2] = ["container", "access"];
pub(in super::super) const MESSAGING_KEYS: [&str; 2] = ["publish", "subscribe"];
pub(in super::super) const CLI_KEYS: [&str; 2] = ["environment", "arguments"];
pub(in super::super) const CLOCK_KEYS: [&str; 1] = ["now"];
pub(in super::super) const RANDOM_KEYS: [&str; 1] = ["seed"];

/// The most entries one list of grants, variables, arguments or topics may have.
const ENTRIES_MAX: usize = 1_000;

const ACCESS: [(&str, Access); 2] = [("read", Access::Read), ("write", Access::Write)];

/// Where a grant is read: what is said of it names both.
struct Place<'p> {
    capability: Capability,
    /// `[component.auth.grants]`.
    table: &'p str,
}

impl std::fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "\"{}\" in {}", self.capability, self.table)
    }
}

impl Reader<'_> {
    /// The grants in the table `grants` of `parent`, which is called `title`.
    pub(super) fn grants(&mut self, parent: &Table<'_>, title: &str) -> Grants {
        let mut grants = Grants::default();
        let Some(table) = self.table(parent, "grants") else { return grants };
        for (key, value) in table {
            let Some(capability) = Capability::of_package(key.get_ref()) else {
                self.unknown_grant(key.get_ref(), key.span(), title);
                continue;
            };
            let place = Place { capability, table: title };
            let before = self.found.len();
            match capability {
                Capability::Http => grants.http = self.list(table, &place, &HTTP_KEYS, Self::http),
                Capability::Filesystem => {
                    grants.filesystem = self.list(table, &place, &FILESYSTEM_KEYS, Self::directory);
                }
                Capability::Sockets => grants.sockets = self.list(table, &place, &SOCKET_KEYS, Self::socket),
                Capability::Keyvalue => {
                    grants.keyvalue = self.list(table, &place, &KEYVALUE_KEYS, Self::bucket);
                }
                Capability::Blobstore => {
                    grants.blobstore = self.list(table, &place, &BLOBSTORE_KEYS, Self::container);
                }
                Capability::Messaging => grants.messaging = self.messaging(table, &place),
                Capability::Config => grants.config = self.config(table),
                Capability::Logging => {
                    grants.logging = self.boolean(table, capability.key()).unwrap_or(false);
                }
                Capability::Cli => (grants.environment, grants.arguments) = self.cli(table, &place),
                Capability::Clocks => grants.clock = self.clock(table, &place),
                Capability::Random => grants.seed = self.seed(table, &place),
            }
            let said_no = matches!(value.get_ref(), DeValue::Boolean(false));
            if self.found.len() == before && !grants.has(capability) && !said_no {
                self.bad_value(
                    value.span(),
                    format!("{place} grants nothing"),
                    format!("Remove the line, or say what is granted:\n{}", capability.example()),
                );
            }
        }
        grants
    }

    fn unknown_grant(&mut self, key: &str, span: Range<usize>, title: &str) {
        let known = Capability::ALL.map(Capability::key);
        let package = key.split(['/', '@']).next().unwrap_or(key);
        let word = |key: &str| key.strip_prefix("wasi:").unwrap_or(key).to_owned();
        let words = known.map(word);
        let near =
            most_similar(&word(key), words.iter().map(String::as_str)).map(|near| format!("wasi:{near}"));
        let mend = match (Capability::of_package(package), near) {
            (Some(capability), _) => format!(
                "Write \"{capability}\": a grant covers every interface of the package, in every version."
            ),
            (None, Some(near)) => format!("Did you mean \"{near}\"?"),
            (None, None) => "Remove it: the host does not offer it.".to_owned(),
        };
        self.found.push(
            Diagnostic::new("unknown-key", format!("`{key}` in {title} is nothing that can be granted"))
                .at(self.location(span))
                .note("known keys", known.join(", "))
                .mend(mend),
        );
    }

    /// A list of tables, each one grant; two of the same are one too many.
    fn list<T: PartialEq>(
        &mut self,
        table: &Table<'_>,
        place: &Place<'_>,
        keys: &[&str],
        read: impl Fn(&mut Self, &Table<'_>, Range<usize>, &Place<'_>) -> Option<Entry<T>>,
    ) -> Vec<T> {
        let key = place.capability.key();
        let Some(value) = table.get(key) else { return Vec::new() };
        let wrong = |reader: &mut Self, value| {
            let diagnostic = reader.type_diagnostic(&place.to_string(), "a list of tables", value);
            reader.found.push(diagnostic.mend(place.capability.example()));
        };
        let DeValue::Array(array) = value.get_ref() else {
            wrong(self, value);
            return Vec::new();
        };
        if array.len() > ENTRIES_MAX {
            self.bad_value(
                value.span(),
                format!("{place} has {} entries; {ENTRIES_MAX} are allowed", array.len()),
                "Grant less, or with wider patterns.",
            );
            return Vec::new();
        }
        let (mut grants, mut named) = (Vec::new(), BTreeSet::new());
        for element in array.iter() {
            let DeValue::Table(entry) = element.get_ref() else {
                wrong(self, element);
                continue;
            };
            self.known_keys(entry, keys, &format!("in {place}"));
            let Some(Entry { name, grant }) = read(self, entry, element.span(), place) else { continue };
            if named.insert(name.clone()) {
                grants.push(grant);
            } else {
                self.report(
                    element.span(),
                    "duplicate-grant",
                    format!("{place} names {name} twice"),
                    "Remove one of the two.",
                );
            }
        }
        grants
    }

    fn http(&mut self, entry: &Table<'_>, span: Range<usize>, place: &Place<'_>) -> Option<Entry<HttpGrant>> {
        let scheme = match entry.contains_key("scheme") {
            true => self.word(entry, "scheme", &[("https", HttpScheme::Https), ("http", HttpScheme::Http)]),
            false => Some(HttpScheme::Https),
        };
        let own_port = if scheme == Some(HttpScheme::Http) { 80 } else { 443 };
        let port = match entry.contains_key("port") {
            true => self.number(entry, "port", 1, 65_535).and_then(|port| u16::try_from(port).ok()),
            false => Some(own_port),
        };
        let path = match entry.contains_key("path") {
            true => self.checked(entry, "path", path_prefix),
            false => Some("/".to_owned()),
        };
        let private = match entry.contains_key("private") {
            true => self.boolean(entry, "private"),
            false => Some(false),
        };
        let host = self.needed(entry, span, "host", place, "host = \"api.example.com\"", host_pattern);
        let (scheme, host, port, path) = (scheme?, host?, port?, path?);
        let written = entry.get("host").and_then(|host| host.get_ref().as_str()).unwrap_or_default();
        let scheme_word = if scheme == HttpScheme::Http { "http" } else { "https" };
        let name = format!("`{scheme_word}://{}:{port}{path}`", written.to_ascii_lowercase());
        Some(Entry { name, grant: HttpGrant { scheme, host, port, path, private: private? } })
    }

    fn directory(
        &mut self,
        entry: &Table<'_>,
        span: Range<usize>,
        place: &Place<'_>,
    ) -> Option<Entry<DirectoryGrant>> {
        let directory =
            self.needed(entry, span.clone(), "directory", place, "directory = \"data\"", host_directory);
        let at = self.needed(entry, span, "at", place, "at = \"/data\"", guest_directory);
        let access = self.access(entry);
        let (directory, at, access) = (directory?, at?, access?);
        Some(Entry { name: format!("`{at}`"), grant: DirectoryGrant { directory, at, access } })
    }

    fn socket(
        &mut self,
        entry: &Table<'_>,
        span: Range<usize>,
        place: &Place<'_>,
    ) -> Option<Entry<SocketGrant>> {
        for (key, example) in [
            ("protocol", "protocol = \"tcp\""),
            ("direction", "direction = \"connect\""),
            ("port", "port = 5432"),
        ] {
            if !entry.contains_key(key) {
                self.missing_key(span.clone(), key, place, example);
            }
        }
        let protocol =
            self.word(entry, "protocol", &[("tcp", SocketProtocol::Tcp), ("udp", SocketProtocol::Udp)]);
        let direction = self.word(
            entry,
            "direction",
            &[("connect", SocketDirection::Connect), ("listen", SocketDirection::Listen)],
        );
        let listens = direction == Some(SocketDirection::Listen);
        let host = self
            .needed(entry, span, "host", place, "host = \"127.0.0.1\"", |text| socket_host(text, listens));
        let ports = match entry.get("port").map(toml::Spanned::get_ref) {
            Some(DeValue::Integer(_)) => {
                let port = self.number(entry, "port", 1, 65_535).and_then(|port| u16::try_from(port).ok());
                port.map(|port| (port, port))
            }
            _ => self.checked(entry, "port", port_range),
        };
        let (protocol, direction, host, ports) = (protocol?, direction?, host?, ports?);
        let written = |key: &str| entry.get(key).and_then(|it| it.get_ref().as_str()).unwrap_or_default();
        let (protocol_word, direction_word) = (written("protocol"), written("direction"));
        let name = format!("{protocol_word} {direction_word} `{host}`, ports {} to {},", ports.0, ports.1);
        Some(Entry { name, grant: SocketGrant { protocol, direction, host, ports } })
    }

    fn bucket(
        &mut self,
        entry: &Table<'_>,
        span: Range<usize>,
        place: &Place<'_>,
    ) -> Option<Entry<BucketGrant>> {
        // The empty name is the guest's default bucket.
        let bucket = self.needed(entry, span, "bucket", place, "bucket = \"default\"", |text| {
            no_control("a bucket", text).map(|()| text.to_owned())
        });
        let access = self.access(entry);
        let store = match entry.get("store").map(|store| store.get_ref().as_str()) {
            None | Some(Some("embedded")) => Some(StoreName::Embedded),
            _ => self.checked(entry, "store", redis_url).map(StoreName::Redis),
        };
        let (bucket, store, access) = (bucket?, store?, access?);
        Some(Entry { name: format!("the bucket `{bucket}`"), grant: BucketGrant { bucket, store, access } })
    }

    fn container(
        &mut self,
        entry: &Table<'_>,
        span: Range<usize>,
        place: &Place<'_>,
    ) -> Option<Entry<ContainerGrant>> {
        let container = self.needed(entry, span, "container", place, "container = \"images\"", |text| {
            if text.is_empty() {
                return Err(refuse("a container has a name", "Name it as the component does."));
            }
            no_control("a container", text).map(|()| text.to_owned())
        });
        let access = self.access(entry);
        let (container, access) = (container?, access?);
        Some(Entry {
            name: format!("the container `{container}`"),
            grant: ContainerGrant { container, access },
        })
    }

    fn messaging(&mut self, table: &Table<'_>, place: &Place<'_>) -> Option<MessagingGrant> {
        let entry = self.single(table, place, &MESSAGING_KEYS)?;
        let grant = MessagingGrant {
            publish: self.topics(entry, "publish"),
            subscribe: self.topics(entry, "subscribe"),
        };
        (grant != MessagingGrant::default()).then_some(grant)
    }

    fn topics(&mut self, entry: &Table<'_>, key: &str) -> BTreeSet<String> {
        let mut topics = BTreeSet::new();
        for named in self.strings(entry, key).unwrap_or_default() {
            if !is_topic(&named.name) {
                self.found.push(
                    Diagnostic::new("manifest-value", format!("`{}` is not a topic", named.name))
                        .at(named.at)
                        .mend(
                            "Words joined by `.`; the last may be `*`, for everything below: \"orders.*\".",
                        ),
                );
            } else if !topics.insert(named.name.clone()) {
                self.found.push(
                    Diagnostic::new("duplicate-grant", format!("`{key}` names `{}` twice", named.name))
                        .at(named.at)
                        .mend("Remove one of the two."),
                );
            }
        }
        topics
    }

    fn config(&mut self, table: &Table<'_>) -> Option<BTreeMap<String, String>> {
        let entries = self.string_entries(table, Capability::Config.key())?;
        Some(entries.into_iter().map(|(name, value, _)| (name, value)).collect())
    }

    fn cli(&mut self, table: &Table<'_>, place: &Place<'_>) -> (BTreeMap<String, String>, Vec<String>) {
        let Some(entry) = self.single(table, place, &CLI_KEYS) else { return Default::default() };
        let mut environment = BTreeMap::new();
        for (name, value, span) in self.string_entries(entry, "environment").unwrap_or_default() {
            if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
                self.bad_value(
                    span,
                    format!(
                        "`{name}` cannot be a variable: its name is empty or has `=` in it, or there is a NUL"
                    ),
                    "Give it another name.",
                );
            }
            environment.insert(name, value);
        }
        let arguments = self.strings(entry, "arguments").unwrap_or_default();
        (environment, arguments.into_iter().map(|named| named.name).collect())
    }

    fn clock(&mut self, table: &Table<'_>, place: &Place<'_>) -> Option<std::time::SystemTime> {
        let entry = self.single(table, place, &CLOCK_KEYS)?;
        // TOML has times of its own, which people write without quotes.
        let text = match entry.get("now")?.get_ref() {
            DeValue::Datetime(time) => time.to_string(),
            _ => self.string(entry, "now")?.0,
        };
        let span = entry.get("now")?.span();
        parse_time(&text)
            .map_err(|error| {
                self.bad_value(
                    span,
                    format!("`now`: {error}"),
                    "For example `now = \"2026-01-01T00:00:00Z\"`.",
                );
            })
            .ok()
    }

    fn seed(&mut self, table: &Table<'_>, place: &Place<'_>) -> Option<u64> {
        let entry = self.single(table, place, &RANDOM_KEYS)?;
        self.number(entry, "seed", 0, u64::MAX)
    }

    /// A grant that is one table.
    fn single<'t, 'i>(
        &mut self,
        table: &'t Table<'i>,
        place: &Place<'_>,
        keys: &[&str],
    ) -> Option<&'t Table<'i>> {
        let value = table.get(place.capability.key())?;
        let DeValue::Table(entry) = value.get_ref() else {
            let diagnostic = self.type_diagnostic(&place.to_string(), "a table", value);
            self.found.push(diagnostic.mend(place.capability.example()));
            return None;
        };
        self.known_keys(entry, keys, &format!("in {place}"));
        Some(entry)
    }

    /// Reading is what is granted where nothing is said.
    fn access(&mut self, entry: &Table<'_>) -> Option<Access> {
        match entry.contains_key("access") {
            true => self.word(entry, "access", &ACCESS),
            false => Some(Access::Read),
        }
    }

    fn needed<T>(
        &mut self,
        entry: &Table<'_>,
        span: Range<usize>,
        key: &str,
        place: &Place<'_>,
        example: &str,
        check: impl Fn(&str) -> Result<T, Refusal>,
    ) -> Option<T> {
        if !entry.contains_key(key) {
            self.missing_key(span, key, place, example);
            return None;
        }
        self.checked(entry, key, check)
    }

    /// A string that `check` turns into what it means.
    fn checked<T>(
        &mut self,
        entry: &Table<'_>,
        key: &str,
        check: impl Fn(&str) -> Result<T, Refusal>,
    ) -> Option<T> {
        let (text, span) = self.string(entry, key)?;
        match check(&text) {
            Ok(value) => Some(value),
            Err(Refusal { why, mend }) => {
                self.bad_value(span, format!("`{key}` cannot be `{text}`: {why}"), mend);
                None
            }
        }
    }
}

/// A grant, and what of it must not be there twice.
struct Entry<T> {
    name: String,
    grant: T,
}

/// Why a text is not what it has to be.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) why: String,
    pub(super) mend: String,
}

pub(super) fn refuse(why: impl Into<String>, mend: impl Into<String>) -> Refusal {
    Refusal { why: why.into(), mend: mend.into() }
}

fn no_control(what: &str, text: &str) -> Result<(), Refusal> {
    match text.chars().any(char::is_control) {
        true => Err(refuse(
            format!("{what} has no control characters in its name"),
            "Name it as the component does.",
        )),
        false => Ok(()),
    }
}

fn host_directory(text: &str) -> Result<String, Refusal> {
    if text.is_empty() || text.contains('\0') {
        return Err(refuse(
            "it names no directory",
            "Name one, relative to the manifest: `directory = \"data\"`.",
        ));
    }
    if text == "~" || text.starts_with("~/") {
        return Err(refuse(
            "`~` is not the home directory here",
            "Write the whole path, or one relative to the manifest.",
        ));
    }
    Ok(text.to_owned())
}

/// Where the guest sees a directory: `/data`; `/` alone, and `.`, which some guests look for first.
fn guest_directory(text: &str) -> Result<String, Refusal> {
    let mend = || format!("For example `at = \"/{}\"`.", text.trim_matches(['/', '.']));
    if text == "." || text == "/" {
        return Ok(text.to_owned());
    }
    let Some(rest) = text.strip_prefix('/') else {
        return Err(refuse("the guest's paths begin with `/`", mend()));
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.split('/').any(|segment| matches!(segment, "" | "." | "..")) || rest.contains('\0') {
        return Err(refuse(
            "it has to be a path without `.`, `..` and empty parts",
            "Write the path in full.",
        ));
    }
    Ok(format!("/{rest}"))
}

/// Words joined by dots; the last may be `*` when it is not the only one.
fn is_topic(text: &str) -> bool {
    let named = text.strip_suffix(".*").unwrap_or(text);
    let good = |c: char| c.is_ascii_graphic() && !matches!(c, '*' | '>');
    named.split('.').all(|word| !word.is_empty() && word.chars().all(good))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_words_and_one_star_at_the_end() {
        for text in ["orders", "orders.new", "orders.*", "a.b.*"] {
            assert!(is_topic(text), "{text}");
        }
        for text in ["", "*", ".*", "orders.", ".new", "orders.*.new", "a..b", "a b", "orders.>", "ö"] {
            assert!(!is_topic(text), "{text}");
        }
    }

    #[test]
    fn guests_see_directories_at_clean_paths() {
        for (text, at) in [("/data", "/data"), ("/a/b/", "/a/b"), ("/", "/"), (".", ".")] {
            assert_eq!(guest_directory(text).as_deref(), Ok(at));
        }
        for text in ["", "data", "/a/../b", "/a//b", "/./a", "..", "//"] {
            assert!(guest_directory(text).is_err(), "{text}");
        }
    }
}
