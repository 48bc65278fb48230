//! The terms of a revision on the wire: what a manifest says, effective, both ways.
//!
//! What comes in was written by a stranger. [`Terms::read`] refuses what no manifest could say.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tenon_model::{Authorities, Location};
use tenon_wit::ErrorStatuses;

/// The most parts of a composition that terms may name.
const PARTS_MAX: usize = 64;
/// The most entries of one list of grants, variables or errors.
const ENTRIES_MAX: usize = 256;
/// The longest text anywhere in terms, in bytes.
const TEXT_BYTES_MAX: usize = 32 << 10;
/// The longest that a duration may be: 30 days.
const DURATION_US_MAX: u64 = 30 * 24 * 3_600 * 1_000_000;

/// What is wrong with terms, in one sentence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidTerms(pub String);

/// On which terms a component runs. What is left out has the default of a manifest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Terms {
    /// What one request may use up.
    pub limits: Limits,
    /// How often one sandbox is used.
    pub reuse: Reuse,
    /// The statuses of typed errors, by the name of the error type or function.
    pub errors: BTreeMap<String, ErrorStatus>,
    /// What a component served alone may do, and what a composition imports without saying for which part.
    pub whole: Authority,
    /// What the parts of a composition may do.
    pub parts: BTreeMap<String, Authority>,
    /// How a new revision is tried before it serves; instantiated where nothing is said.
    pub probe: Option<Probe>,
}

/// A request that a new revision has to answer before it serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Probe {
    /// What is asked for: `/health`. Any status below 500 will do, where `status` is not set.
    pub path: String,
    /// The status it has to have.
    #[serde(default)]
    pub status: Option<u16>,
}

/// What one request may use up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "each is the field of `tenon_model::Limits` with its unit")]
pub struct Limits {
    pub wall_us: u64,
    pub cpu_us: u64,
    pub memory_bytes: u64,
    pub table_elements: u64,
    pub instances: u32,
    pub stack_bytes: u64,
    pub handles: u32,
    pub host_call_bytes: u64,
    pub request_body_bytes: u64,
    pub response_body_bytes: u64,
    pub header_bytes: u64,
    pub concurrency: u32,
    pub queue: u32,
    pub queue_wait_us: u64,
    pub outside: Outside,
}

/// What one component may use up through the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "each is the field of `tenon_model::OutsideLimits`")]
pub struct Outside {
    pub outbound_requests: u32,
    pub outbound_connections: u32,
    pub open_files: u32,
    pub key_value_bytes: u64,
    pub log_bytes: u64,
}

/// How often one sandbox is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Reuse {
    /// Requests in all.
    pub requests: u32,
    /// Requests at once.
    pub concurrent: u32,
}

/// The status of a typed error: one number, or one for each case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum ErrorStatus {
    /// One for every error.
    Whole(u16),
    /// By the name of the case.
    Cases(BTreeMap<String, u16>),
}

/// What one component may do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Authority {
    /// What it may touch.
    pub grants: Grants,
    /// What it may use up through the host.
    pub outside: Outside,
    /// What its own linear memories may hold, in bytes.
    pub memory_bytes: Option<u64>,
}

/// What a component may touch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "each is the field of `tenon_model::Grants`")]
pub struct Grants {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub http: Vec<HttpGrant>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub filesystem: Vec<Directory>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sockets: Vec<Socket>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub keyvalue: Vec<Bucket>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub blobstore: Vec<Container>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub messaging: Option<Messaging>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub logging: bool,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub arguments: Vec<String>,
    /// Seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock_s: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
}

/// Reading, or reading and writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the names say it")]
pub enum Access {
    Read,
    Write,
}

/// Requests a guest may send.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpGrant {
    /// Over TLS.
    pub https: bool,
    /// A name or an address, `*.` and a name, or `*`.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The path of a request has to begin with this.
    pub path: String,
    /// Whether the host may have a private address.
    #[serde(default)]
    pub private: bool,
}

/// A directory that a guest finds opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Directory {
    /// The directory on the node, absolute.
    pub directory: String,
    /// Where the guest sees it.
    pub at: String,
    /// What it may do there.
    pub access: Access,
}

/// Sockets a guest may use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Socket {
    /// UDP, and not TCP.
    pub udp: bool,
    /// To listen, and not to connect.
    pub listen: bool,
    /// The address, network or name.
    pub host: String,
    /// The first and the last port.
    pub ports: (u16, u16),
}

/// A bucket of the key-value store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Bucket {
    /// The name the guest opens.
    pub bucket: String,
    /// The URL of a Redis server; the node's own store where there is none.
    #[serde(default)]
    pub redis: Option<String>,
    /// What the guest may do with it.
    pub access: Access,
}

/// A container of the blob store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Container {
    /// The name the guest opens.
    pub container: String,
    /// What the guest may do with it.
    pub access: Access,
}

/// Topics of the message bus.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Messaging {
    /// Topics it may publish to.
    pub publish: BTreeSet<String>,
    /// Topics whose messages it is given.
    pub subscribe: BTreeSet<String>,
}

/// Terms, as the node uses them.
#[derive(Clone, Debug)]
pub struct Read {
    /// What one request may use up.
    pub limits: tenon_model::Limits,
    /// How often one sandbox is used.
    pub reuse: tenon_model::Reuse,
    /// The statuses of typed errors.
    pub errors: ErrorStatuses,
    /// Who may do what.
    pub authorities: Authorities,
    /// How a new revision is tried.
    pub probe: Option<Probe>,
}

impl Terms {
    /// The terms that a manifest comes to.
    pub fn of(
        limits: &tenon_model::Limits,
        reuse: tenon_model::Reuse,
        errors: &ErrorStatuses,
        authorities: &Authorities,
    ) -> Self {
        let status = |status: &tenon_model::ErrorStatus| match status {
            tenon_model::ErrorStatus::Whole(status) => ErrorStatus::Whole(*status),
            tenon_model::ErrorStatus::Cases(cases) => ErrorStatus::Cases(cases.clone()),
        };
        Self {
            limits: limits.into(),
            reuse: Reuse { requests: reuse.requests, concurrent: reuse.concurrent },
            errors: errors.iter().map(|(name, (it, _))| (name.clone(), status(it))).collect(),
            whole: (&authorities.whole).into(),
            parts: authorities.parts.iter().map(|(name, it)| (name.clone(), it.into())).collect(),
            probe: None,
        }
    }

    /// As the domain has them.
    ///
    /// # Errors
    /// The first thing that no manifest could say.
    pub fn read(&self) -> Result<Read, InvalidTerms> {
        let limits = self.limits.read()?;
        bounded("parts", self.parts.len(), PARTS_MAX)?;
        bounded("errors", self.errors.len(), ENTRIES_MAX)?;
        let Reuse { requests, concurrent } = self.reuse;
        let is_reuse = (1..=tenon_model::Reuse::REQUESTS_MAX).contains(&requests)
            && (1..=tenon_model::Reuse::CONCURRENT_MAX).contains(&concurrent);
        if !is_reuse {
            return wrong("`reuse` is outside of what a manifest may say");
        }
        let mut errors = ErrorStatuses::new();
        for (name, status) in &self.errors {
            text(name)?;
            let status = match status {
                ErrorStatus::Whole(status) => tenon_model::ErrorStatus::Whole(error_status(*status)?),
                ErrorStatus::Cases(cases) => {
                    bounded("cases of an error", cases.len(), ENTRIES_MAX)?;
                    for status in cases.values() {
                        error_status(*status)?;
                    }
                    tenon_model::ErrorStatus::Cases(cases.clone())
                }
            };
            errors.insert(name.clone(), (status, Location::file("errors")));
        }
        let mut parts = BTreeMap::new();
        for (name, authority) in &self.parts {
            text(name)?;
            parts.insert(name.clone(), authority.read()?);
        }
        if let Some(Probe { path, status }) = &self.probe {
            let is_path = path.starts_with('/') && path.parse::<http::uri::PathAndQuery>().is_ok();
            if !is_path || path.len() > TEXT_BYTES_MAX {
                return wrong("`probe.path` is not a path");
            }
            if status.is_some_and(|status| !(100..=599).contains(&status)) {
                return wrong("`probe.status` is not a status");
            }
        }
        Ok(Read {
            limits,
            reuse: tenon_model::Reuse { requests, concurrent },
            errors,
            authorities: Authorities { whole: self.whole.read()?, parts },
            probe: self.probe.clone(),
        })
    }
}

fn wrong<T>(what: impl Into<String>) -> Result<T, InvalidTerms> {
    Err(InvalidTerms(what.into()))
}

fn bounded(what: &str, count: usize, max: usize) -> Result<(), InvalidTerms> {
    if count > max { wrong(format!("{count} {what}: at most {max} are taken")) } else { Ok(()) }
}

fn text(text: &str) -> Result<String, InvalidTerms> {
    if text.len() > TEXT_BYTES_MAX || text.contains('\0') {
        return wrong("a text of the terms is longer than 32 KiB, or has a zero byte");
    }
    Ok(text.to_owned())
}

fn texts(map: &BTreeMap<String, String>) -> Result<BTreeMap<String, String>, InvalidTerms> {
    bounded("values", map.len(), ENTRIES_MAX)?;
    map.iter().map(|(name, value)| Ok((text(name)?, text(value)?))).collect()
}

fn error_status(status: u16) -> Result<u16, InvalidTerms> {
    if (400..=599).contains(&status) {
        Ok(status)
    } else {
        wrong(format!("{status} is not the status of an error"))
    }
}

fn duration(name: &str, us: u64) -> Result<Duration, InvalidTerms> {
    if us > DURATION_US_MAX {
        wrong(format!("`{name}` is more than 30 days"))
    } else {
        Ok(Duration::from_micros(us))
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX).min(DURATION_US_MAX)
}

impl Limits {
    fn read(&self) -> Result<tenon_model::Limits, InvalidTerms> {
        if self.wall_us == 0 || self.cpu_us == 0 || self.concurrency == 0 || self.stack_bytes == 0 {
            return wrong("`wall_us`, `cpu_us`, `concurrency` and `stack_bytes` cannot be 0");
        }
        Ok(tenon_model::Limits {
            wall: duration("wall_us", self.wall_us)?,
            cpu: duration("cpu_us", self.cpu_us)?,
            memory_bytes: self.memory_bytes,
            table_elements: self.table_elements,
            instances: self.instances,
            stack_bytes: self.stack_bytes,
            handles: self.handles,
            host_call_bytes: self.host_call_bytes,
            request_body_bytes: self.request_body_bytes,
            response_body_bytes: self.response_body_bytes,
            header_bytes: self.header_bytes,
            concurrency: self.concurrency,
            queue: self.queue,
            queue_wait: duration("queue_wait_us", self.queue_wait_us)?,
            outside: self.outside.read(),
        })
    }
}

impl From<&tenon_model::Limits> for Limits {
    fn from(limits: &tenon_model::Limits) -> Self {
        Self {
            wall_us: micros(limits.wall),
            cpu_us: micros(limits.cpu),
            memory_bytes: limits.memory_bytes,
            table_elements: limits.table_elements,
            instances: limits.instances,
            stack_bytes: limits.stack_bytes,
            handles: limits.handles,
            host_call_bytes: limits.host_call_bytes,
            request_body_bytes: limits.request_body_bytes,
            response_body_bytes: limits.response_body_bytes,
            header_bytes: limits.header_bytes,
            concurrency: limits.concurrency,
            queue: limits.queue,
            queue_wait_us: micros(limits.queue_wait),
            outside: (&limits.outside).into(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        (&tenon_model::Limits::default()).into()
    }
}

impl Outside {
    fn read(self) -> tenon_model::OutsideLimits {
        let Self { outbound_requests, outbound_connections, open_files, key_value_bytes, log_bytes } = self;
        tenon_model::OutsideLimits {
            outbound_requests,
            outbound_connections,
            open_files,
            key_value_bytes,
            log_bytes,
        }
    }
}

impl From<&tenon_model::OutsideLimits> for Outside {
    fn from(outside: &tenon_model::OutsideLimits) -> Self {
        let tenon_model::OutsideLimits {
            outbound_requests,
            outbound_connections,
            open_files,
            key_value_bytes,
            log_bytes,
        } = *outside;
        Self { outbound_requests, outbound_connections, open_files, key_value_bytes, log_bytes }
    }
}

impl Default for Outside {
    fn default() -> Self {
        (&tenon_model::OutsideLimits::default()).into()
    }
}

impl Default for Reuse {
    fn default() -> Self {
        Self { requests: 1, concurrent: 1 }
    }
}

impl Authority {
    fn read(&self) -> Result<tenon_model::Authority, InvalidTerms> {
        Ok(tenon_model::Authority {
            grants: self.grants.read()?,
            outside: self.outside.read(),
            memory_bytes: self.memory_bytes,
        })
    }
}

impl From<&tenon_model::Authority> for Authority {
    fn from(authority: &tenon_model::Authority) -> Self {
        Self {
            grants: (&authority.grants).into(),
            outside: (&authority.outside).into(),
            memory_bytes: authority.memory_bytes,
        }
    }
}

impl From<Access> for tenon_model::Access {
    fn from(access: Access) -> Self {
        match access {
            Access::Read => Self::Read,
            Access::Write => Self::Write,
        }
    }
}

impl From<tenon_model::Access> for Access {
    fn from(access: tenon_model::Access) -> Self {
        match access {
            tenon_model::Access::Read => Self::Read,
            tenon_model::Access::Write => Self::Write,
        }
    }
}

impl Grants {
    fn read(&self) -> Result<tenon_model::Grants, InvalidTerms> {
        let counts = [
            self.http.len(),
            self.filesystem.len(),
            self.sockets.len(),
            self.keyvalue.len(),
            self.blobstore.len(),
            self.arguments.len(),
        ];
        for count in counts {
            bounded("grants of one kind", count, ENTRIES_MAX)?;
        }
        let clock = match self.clock_s {
            Some(seconds) => match UNIX_EPOCH.checked_add(Duration::from_secs(seconds)) {
                // What a guest is told has to fit its own type of a time.
                Some(time) if seconds < 1 << 40 => Some(time),
                _ => return wrong("`clock_s` is too far in the future"),
            },
            None => None,
        };
        Ok(tenon_model::Grants {
            http: self.http.iter().map(HttpGrant::read).collect::<Result<_, _>>()?,
            filesystem: self.filesystem.iter().map(Directory::read).collect::<Result<_, _>>()?,
            sockets: self.sockets.iter().map(Socket::read).collect::<Result<_, _>>()?,
            keyvalue: self.keyvalue.iter().map(Bucket::read).collect::<Result<_, _>>()?,
            blobstore: self
                .blobstore
                .iter()
                .map(|it| {
                    Ok(tenon_model::ContainerGrant {
                        container: text(&it.container)?,
                        access: it.access.into(),
                    })
                })
                .collect::<Result<_, _>>()?,
            messaging: self.messaging.as_ref().map(Messaging::read).transpose()?,
            config: self.config.as_ref().map(texts).transpose()?,
            logging: self.logging,
            environment: texts(&self.environment)?,
            arguments: self.arguments.iter().map(|it| text(it)).collect::<Result<_, _>>()?,
            clock,
            seed: self.seed,
        })
    }
}

impl From<&tenon_model::Grants> for Grants {
    fn from(grants: &tenon_model::Grants) -> Self {
        let seconds = |time: SystemTime| time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        Self {
            http: grants.http.iter().map(HttpGrant::of).collect(),
            filesystem: grants
                .filesystem
                .iter()
                .map(|it| Directory {
                    directory: it.directory.clone(),
                    at: it.at.clone(),
                    access: it.access.into(),
                })
                .collect(),
            sockets: grants
                .sockets
                .iter()
                .map(|it| Socket {
                    udp: it.protocol == tenon_model::SocketProtocol::Udp,
                    listen: it.direction == tenon_model::SocketDirection::Listen,
                    host: it.host.clone(),
                    ports: it.ports,
                })
                .collect(),
            keyvalue: grants
                .keyvalue
                .iter()
                .map(|it| Bucket {
                    bucket: it.bucket.clone(),
                    redis: match &it.store {
                        tenon_model::StoreName::Embedded => None,
                        tenon_model::StoreName::Redis(url) => Some(url.clone()),
                    },
                    access: it.access.into(),
                })
                .collect(),
            blobstore: grants
                .blobstore
                .iter()
                .map(|it| Container { container: it.container.clone(), access: it.access.into() })
                .collect(),
            messaging: grants
                .messaging
                .as_ref()
                .map(|it| Messaging { publish: it.publish.clone(), subscribe: it.subscribe.clone() }),
            config: grants.config.clone(),
            logging: grants.logging,
            environment: grants.environment.clone(),
            arguments: grants.arguments.clone(),
            clock_s: grants.clock.map(seconds),
            seed: grants.seed,
        }
    }
}

impl HttpGrant {
    fn read(&self) -> Result<tenon_model::HttpGrant, InvalidTerms> {
        use tenon_model::HostPattern;
        let host = text(&self.host)?.to_ascii_lowercase();
        if host.is_empty() || self.port == 0 || !self.path.starts_with('/') {
            return wrong("a grant of `http` needs a host, a port and a path that begins with `/`");
        }
        Ok(tenon_model::HttpGrant {
            scheme: match self.https {
                true => tenon_model::HttpScheme::Https,
                false => tenon_model::HttpScheme::Http,
            },
            host: match host.strip_prefix("*.") {
                Some(below) => HostPattern::Below(below.to_owned()),
                None if host == "*" => HostPattern::Any,
                None => HostPattern::Exactly(host),
            },
            port: self.port,
            path: text(&self.path)?,
            private: self.private,
        })
    }

    fn of(grant: &tenon_model::HttpGrant) -> Self {
        use tenon_model::HostPattern;
        Self {
            https: grant.scheme == tenon_model::HttpScheme::Https,
            host: match &grant.host {
                HostPattern::Exactly(host) => host.clone(),
                HostPattern::Below(name) => format!("*.{name}"),
                HostPattern::Any => "*".to_owned(),
            },
            port: grant.port,
            path: grant.path.clone(),
            private: grant.private,
        }
    }
}

impl Directory {
    fn read(&self) -> Result<tenon_model::DirectoryGrant, InvalidTerms> {
        if !self.directory.starts_with('/') || self.at.is_empty() {
            return wrong(
                "a granted directory is named from the root, and has a place where the guest sees it",
            );
        }
        Ok(tenon_model::DirectoryGrant {
            directory: text(&self.directory)?,
            at: text(&self.at)?,
            access: self.access.into(),
        })
    }
}

impl Socket {
    fn read(&self) -> Result<tenon_model::SocketGrant, InvalidTerms> {
        let (first, last) = self.ports;
        if self.host.is_empty() || first == 0 || first > last {
            return wrong("a grant of `sockets` needs a host, and ports from 1 on");
        }
        Ok(tenon_model::SocketGrant {
            protocol: match self.udp {
                true => tenon_model::SocketProtocol::Udp,
                false => tenon_model::SocketProtocol::Tcp,
            },
            direction: match self.listen {
                true => tenon_model::SocketDirection::Listen,
                false => tenon_model::SocketDirection::Connect,
            },
            host: text(&self.host)?,
            ports: self.ports,
        })
    }
}

impl Bucket {
    fn read(&self) -> Result<tenon_model::BucketGrant, InvalidTerms> {
        Ok(tenon_model::BucketGrant {
            bucket: text(&self.bucket)?,
            store: match &self.redis {
                None => tenon_model::StoreName::Embedded,
                Some(url) if url.starts_with("redis://") => tenon_model::StoreName::Redis(text(url)?),
                Some(_) => return wrong("a bucket is kept in the node's own store, or at a `redis://` URL"),
            },
            access: self.access.into(),
        })
    }
}

impl Messaging {
    fn read(&self) -> Result<tenon_model::MessagingGrant, InvalidTerms> {
        bounded("topics", self.publish.len().max(self.subscribe.len()), ENTRIES_MAX)?;
        let all = |topics: &BTreeSet<String>| topics.iter().map(|it| text(it)).collect::<Result<_, _>>();
        Ok(tenon_model::MessagingGrant { publish: all(&self.publish)?, subscribe: all(&self.subscribe)? })
    }
}

#[cfg(test)]
mod tests {
    use tenon_model as model;

    use super::*;

    /// Authorities in which every grant there is has something.
    fn everything() -> Authorities {
        let grants = model::Grants {
            http: vec![
                model::HttpGrant {
                    scheme: model::HttpScheme::Https,
                    host: model::HostPattern::Below("example".into()),
                    port: 443,
                    path: "/v1".into(),
                    private: true,
                },
                model::HttpGrant {
                    scheme: model::HttpScheme::Http,
                    host: model::HostPattern::Any,
                    port: 80,
                    path: "/".into(),
                    private: false,
                },
            ],
            filesystem: vec![model::DirectoryGrant {
                directory: "/srv".into(),
                at: "/data".into(),
                access: model::Access::Write,
            }],
            sockets: vec![model::SocketGrant {
                protocol: model::SocketProtocol::Udp,
                direction: model::SocketDirection::Listen,
                host: "::".into(),
                ports: (1, 9),
            }],
            keyvalue: vec![
                model::BucketGrant {
                    bucket: String::new(),
                    store: model::StoreName::Embedded,
                    access: model::Access::Read,
                },
                model::BucketGrant {
                    bucket: "b".into(),
                    store: model::StoreName::Redis("redis://h/0".into()),
                    access: model::Access::Write,
                },
            ],
            blobstore: vec![model::ContainerGrant { container: "c".into(), access: model::Access::Read }],
            messaging: Some(model::MessagingGrant {
                publish: ["a.*".to_owned()].into(),
                subscribe: ["b".to_owned()].into(),
            }),
            config: Some([("k".to_owned(), "v".to_owned())].into()),
            logging: true,
            environment: [("E".to_owned(), "e".to_owned())].into(),
            arguments: vec!["one".into()],
            clock: Some(UNIX_EPOCH + Duration::from_secs(7)),
            seed: Some(u64::MAX),
        };
        let authority = model::Authority { grants, memory_bytes: Some(1), ..model::Authority::default() };
        Authorities { whole: authority.clone(), parts: [("part".to_owned(), authority)].into() }
    }

    fn terms() -> Terms {
        let errors = [
            ("a".to_owned(), (model::ErrorStatus::Whole(418), Location::file("x"))),
            (
                "b".to_owned(),
                (model::ErrorStatus::Cases([("c".to_owned(), 409)].into()), Location::file("x")),
            ),
        ];
        let reuse = model::Reuse { requests: 9, concurrent: 1 };
        let limits = model::Limits { memory_bytes: 77, ..model::Limits::default() };
        Terms::of(&limits, reuse, &errors.into(), &everything())
    }

    #[test]
    fn what_a_manifest_says_arrives_as_it_was() {
        let text = serde_json::to_string(&terms()).unwrap();
        let read = serde_json::from_str::<Terms>(&text).unwrap().read().unwrap();
        assert_eq!(read.authorities, everything());
        assert_eq!((read.limits.memory_bytes, read.limits.wall), (77, model::Limits::default().wall));
        assert_eq!(read.reuse.requests, 9);
        assert_eq!(read.errors["a"].0, model::ErrorStatus::Whole(418));
        assert_eq!(read.errors["b"].0.of(Some("c")), 409);
    }

    #[test]
    fn what_is_left_out_is_as_in_a_manifest() {
        let read = serde_json::from_str::<Terms>("{}").unwrap().read().unwrap();
        assert_eq!((read.limits, read.authorities), (model::Limits::default(), Authorities::default()));
        assert_eq!(read.reuse, model::Reuse::default());
    }

    #[test]
    fn what_no_manifest_could_say_is_refused() {
        let refused = |change: &dyn Fn(&mut Terms)| {
            let mut terms = terms();
            change(&mut terms);
            assert!(terms.read().is_err(), "{terms:?}");
        };
        refused(&|terms| terms.limits.cpu_us = 0);
        refused(&|terms| terms.limits.wall_us = u64::MAX);
        refused(&|terms| terms.reuse.concurrent = 100_000);
        refused(&|terms| terms.errors.extend([("x".to_owned(), ErrorStatus::Whole(200))]));
        refused(&|terms| terms.whole.grants.http[0].path = "v1".into());
        refused(&|terms| terms.whole.grants.filesystem[0].directory = "srv".into());
        refused(&|terms| terms.whole.grants.sockets[0].ports = (9, 1));
        refused(&|terms| terms.whole.grants.keyvalue[0].redis = Some("file:///etc".into()));
        refused(&|terms| terms.whole.grants.clock_s = Some(u64::MAX));
        refused(&|terms| terms.whole.grants.arguments = vec![String::new(); ENTRIES_MAX + 1]);
        refused(&|terms| terms.whole.grants.environment = [("E".to_owned(), "\0".to_owned())].into());
        refused(&|terms| terms.probe = Some(Probe { path: "health".into(), status: None }));
        refused(&|terms| terms.probe = Some(Probe { path: "/".into(), status: Some(7) }));
        refused(&|terms| {
            let part = terms.whole.clone();
            terms.parts.extend((0..=PARTS_MAX).map(|number| (number.to_string(), part.clone())));
        });
    }
}
