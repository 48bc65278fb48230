//! What a component may touch outside its sandbox: nothing that is not named here.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

/// Everything one component was granted. The default is nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    /// `wasi:http`: where requests may be sent.
    pub http: Vec<HttpGrant>,
    /// `wasi:filesystem`: directories the guest finds opened.
    pub filesystem: Vec<DirectoryGrant>,
    /// `wasi:sockets`: whom it may connect to, where it may listen.
    pub sockets: Vec<SocketGrant>,
    /// `wasi:keyvalue`: buckets it may open.
    pub keyvalue: Vec<BucketGrant>,
    /// `wasi:blobstore`: containers it may open.
    pub blobstore: Vec<ContainerGrant>,
    /// `wasi:messaging`: topics.
    pub messaging: Option<MessagingGrant>,
    /// `wasi:config`: the values it may read.
    pub config: Option<BTreeMap<String, String>>,
    /// `wasi:logging`: whether it may write lines with a level to the node's log.
    pub logging: bool,
    /// `wasi:cli`: environment variables.
    pub environment: BTreeMap<String, String>,
    /// `wasi:cli`: arguments.
    pub arguments: Vec<String>,
    /// `wasi:clocks`: the wall clock stands still at this time, and the monotonic clock is moved by the guest alone; the true
    /// time where there is none.
    pub clock: Option<SystemTime>,
    /// `wasi:random`: all randomness comes from this seed; from the system where there is none.
    pub seed: Option<u64>,
}

/// Requests a guest may send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpGrant {
    /// The scheme.
    pub scheme: HttpScheme,
    /// The host: a name, `*.` and a name for all names below it, or an address.
    pub host: HostPattern,
    /// The port; the scheme's own where the manifest says nothing.
    pub port: u16,
    /// The path of a request has to begin with this, whole segments only.
    pub path: String,
    /// Whether the host may have a private, loopback or link-local address.
    pub private: bool,
}

/// How a request is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpScheme {
    /// In clear.
    Http,
    /// Over TLS with a verified certificate.
    Https,
}

/// Which hosts a grant is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostPattern {
    /// This name or address, in lower case.
    Exactly(String),
    /// Every name below this one, in lower case, without the `*.`.
    Below(String),
    /// Every host. Private addresses still need [`HttpGrant::private`].
    Any,
}

/// A directory that a guest finds opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectoryGrant {
    /// The directory on the host; relative to the manifest as written, absolute once the manifest was placed.
    pub directory: String,
    /// Where the guest sees it.
    pub at: String,
    /// What it may do there.
    pub access: Access,
}

/// Reading, or reading and writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// Reading only.
    Read,
    /// Reading and writing.
    Write,
}

/// Sockets a guest may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketGrant {
    /// TCP or UDP.
    pub protocol: SocketProtocol,
    /// To connect (and send), or to listen (and receive).
    pub direction: SocketDirection,
    /// The address, network (`10.0.0.0/8`) or name at the other end; the address to bind for listening.
    pub host: String,
    /// The first and the last port.
    pub ports: (u16, u16),
}

/// A transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketProtocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// Who begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketDirection {
    /// The guest.
    Connect,
    /// The other end.
    Listen,
}

/// A bucket of the key-value store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketGrant {
    /// The name the guest opens; the empty name is the guest's default bucket.
    pub bucket: String,
    /// Where it is kept.
    pub store: StoreName,
    /// What the guest may do with it.
    pub access: Access,
}

/// Where a bucket is kept.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StoreName {
    /// In the node's own data directory.
    Embedded,
    /// In a Redis server, by its URL.
    Redis(String),
}

/// A container of the blob store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerGrant {
    /// The name the guest opens.
    pub container: String,
    /// What the guest may do with it.
    pub access: Access,
}

/// Topics of the message bus.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MessagingGrant {
    /// Topics it may publish to; a trailing `.*` stands for everything below.
    pub publish: BTreeSet<String>,
    /// Topics whose messages it is given.
    pub subscribe: BTreeSet<String>,
}
