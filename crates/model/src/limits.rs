//! What one request may use up.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::{Diagnostic, Grants, format_bytes, format_duration};

/// Linear memories that one sandbox has room for: one for each component with code, three for one on QuickJS. A pool
/// plans for a quarter of it, as it does for core instances, so that few large compositions cannot take what many small
/// ones need; each reserves 4 GiB of address space, of which a process has 128 TiB.
pub const MEMORIES_MAX: u32 = 32;
/// Tables that one sandbox has room for.
pub const TABLES_MAX: u32 = 64;
/// What the engine may keep of the instances of one sandbox, beside their memories and tables, in bytes: 32 for each
/// function that may be called through a table, most of all. It is taken from the heap as it is needed, while the sandbox
/// lives, and counts to no other limit; a sandbox of two language runtimes needs more than one MiB.
pub const INSTANCE_DATA_BYTES_MAX: u64 = 4 << 20;

/// The most that the header fields of a request may take, in bytes, whatever an app's limit says: a connection has room for
/// as much before it is known whom its request is for.
pub const HEADER_BYTES_MAX: u64 = 1 << 20;
/// The longest that a request may last on a node, whatever an app's limit says. A connection may be silent for as long while
/// a request is open, and a node that ends waits for as long.
pub const WALL_MAX: Duration = Duration::from_secs(3_600);

/// The limits of one invocation. Each is enforced; none is advice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Time from the moment the request is admitted to the end of its response body.
    pub wall: Duration,
    /// Time the guest may spend on the processor; waiting is free.
    pub cpu: Duration,
    /// All linear memories of the request together, in bytes.
    pub memory_bytes: u64,
    /// Elements of all tables of the request together.
    pub table_elements: u64,
    /// Core instances that a request's components may consist of.
    pub instances: u32,
    /// Stack of the guest, in bytes.
    pub stack_bytes: u64,
    /// Resources (streams, files, connections, handles between components) held at once.
    pub handles: u32,
    /// What one call between the guest and the host may copy, in bytes.
    pub host_call_bytes: u64,
    /// A request's body, in bytes.
    pub request_body_bytes: u64,
    /// A response's body, in bytes.
    pub response_body_bytes: u64,
    /// The header fields of a request, and those of a response, in bytes.
    pub header_bytes: u64,
    /// Requests of one app that may run at once.
    pub concurrency: u32,
    /// Requests of one app that may wait for their turn; what comes on top is refused.
    pub queue: u32,
    /// How long a request waits for its turn before it is refused.
    pub queue_wait: Duration,
    /// What each component may use up through the host.
    pub outside: OutsideLimits,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            wall: Duration::from_secs(30),
            cpu: Duration::from_secs(5),
            memory_bytes: 128 << 20,
            table_elements: 200_000,
            instances: 96,
            stack_bytes: 512 << 10,
            handles: 10_000,
            host_call_bytes: 64 << 20,
            request_body_bytes: 8 << 20,
            response_body_bytes: 64 << 20,
            header_bytes: 48 << 10,
            concurrency: 512,
            queue: 512,
            queue_wait: Duration::from_secs(1),
            outside: OutsideLimits::default(),
        }
    }
}

impl Limits {
    /// Whether the header fields are within what any server takes.
    ///
    /// # Errors
    /// `exceeds-limits`, with the limit and its value.
    pub fn check_header_bytes(&self) -> Result<(), Diagnostic> {
        if self.header_bytes <= HEADER_BYTES_MAX {
            return Ok(());
        }
        let most = format_bytes(HEADER_BYTES_MAX);
        let said = format!(
            "`header-bytes` is {}, and a server takes at most {most}",
            format_bytes(self.header_bytes)
        );
        Err(Diagnostic::new("exceeds-limits", said)
            .note("why", "each connection has room for as much before it is known whom its request is for")
            .mend(format!("lower `header-bytes` in [limits] to {most} or less")))
    }

    /// Whether a request may last as long on a node that others use too.
    ///
    /// # Errors
    /// `exceeds-limits`, with the limit and its value.
    pub fn check_wall(&self) -> Result<(), Diagnostic> {
        if self.wall <= WALL_MAX {
            return Ok(());
        }
        let most = format_duration(WALL_MAX);
        let said =
            format!("`wall` is {}, and a node gives a request at most {most}", format_duration(self.wall));
        Err(Diagnostic::new("exceeds-limits", said)
            .note("why", "a node that ends waits for the longest request that any of its apps may have")
            .mend(format!("lower `wall` in [limits] to {most} or less")))
    }
}

/// What a component may use up through the host, a request: each part of a composition has its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutsideLimits {
    /// HTTP requests it may send.
    pub outbound_requests: u32,
    /// HTTP connections it may hold at once, and sockets it may open in a request, together.
    pub outbound_connections: u32,
    /// Files and directories it may hold open at once.
    pub open_files: u32,
    /// Bytes of keys and values it may read and write.
    pub key_value_bytes: u64,
    /// Bytes it may write to the log in a second: standard output, standard error and `wasi:logging` together.
    pub log_bytes: u64,
}

impl Default for OutsideLimits {
    fn default() -> Self {
        Self {
            outbound_requests: 64,
            outbound_connections: 16,
            open_files: 64,
            key_value_bytes: 64 << 20,
            log_bytes: 256 << 10,
        }
    }
}

/// What one component may do: its grants, and its limits where they differ from the request's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Authority {
    /// What it may touch.
    pub grants: Grants,
    /// What it may use up through the host.
    pub outside: OutsideLimits,
    /// What its own linear memories may hold, in bytes; the request's memory limit where there is none.
    pub memory_bytes: Option<u64>,
}

/// Who may do what: the component served, and each part of a composition by its name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Authorities {
    /// A component served alone, and what a composition imports without saying for which part.
    pub whole: Authority,
    /// The parts of a composition.
    pub parts: BTreeMap<String, Authority>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_that_all_share_has_a_most_and_is_named_with_its_value() {
        let most = Limits { header_bytes: HEADER_BYTES_MAX, wall: WALL_MAX, ..Limits::default() };
        most.check_header_bytes().unwrap();
        most.check_wall().unwrap();
        let more =
            Limits { header_bytes: 100 << 30, wall: Duration::from_secs(24 * 3_600), ..Limits::default() };
        for (refused, named) in [
            (more.check_header_bytes().unwrap_err(), ["`header-bytes` is 100GiB", "1MiB"]),
            (more.check_wall().unwrap_err(), ["`wall` is", "at most"]),
        ] {
            assert_eq!(refused.code, "exceeds-limits");
            assert!(named.iter().all(|text| refused.message.contains(text)), "{}", refused.message);
        }
    }
}
