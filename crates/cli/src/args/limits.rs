//! The limits of a request on the command line: each stands over the manifest's, which stands over the default.

use std::time::Duration;

use clap::Args;
use tenon_model::{Diagnostic, Limits, OutsideLimits, Reuse, parse_bytes, parse_duration};

#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Limits, each over the manifest's, which is over the default")]
pub(crate) struct LimitArgs {
    /// Time a request may take, from admission to the end of its response. Default: 30s.
    #[arg(long, value_name = "TIME", value_parser = some_time)]
    pub(crate) wall: Option<Duration>,
    /// Processor time a request may use. Default: 5s.
    #[arg(long, value_name = "TIME", value_parser = some_time)]
    pub(crate) cpu: Option<Duration>,
    /// Linear memory a request may use, all its components together. Default: 128MiB.
    #[arg(long, value_name = "SIZE", value_parser = some_bytes)]
    pub(crate) memory: Option<u64>,
    /// Elements of all tables of a request together; one table has at most 20000. Default: 200000.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) table_elements: Option<u64>,
    /// Core instances a request's components may consist of. Default: 96.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) instances: Option<u32>,
    /// Stack of a guest. Default: 512KiB.
    #[arg(long, value_name = "SIZE", value_parser = some_bytes)]
    pub(crate) stack: Option<u64>,
    /// Resources (streams, files, connections, handles between components) held at once. Default: 10000.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) handles: Option<u32>,
    /// What one call between guest and host may copy. Default: 64MiB.
    #[arg(long, value_name = "SIZE", value_parser = some_bytes)]
    pub(crate) host_call_bytes: Option<u64>,
    /// The largest request body. Default: 8MiB.
    #[arg(long, value_name = "SIZE", value_parser = some_bytes)]
    pub(crate) request_body: Option<u64>,
    /// The largest response body. Default: 64MiB.
    #[arg(long, value_name = "SIZE", value_parser = some_bytes)]
    pub(crate) response_body: Option<u64>,
    /// Header fields of a request, and those of a response. Default: 48KiB.
    #[arg(long, value_name = "SIZE", value_parser = some_bytes)]
    pub(crate) header_bytes: Option<u64>,
    /// Requests that may run at once. Default: 512.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) concurrency: Option<u32>,
    /// Requests that may wait for their turn; one more is refused. Default: 512.
    #[arg(long, value_name = "N")]
    pub(crate) queue: Option<u32>,
    /// How long a request waits for its turn. Default: 1s.
    #[arg(long, value_name = "TIME", value_parser = some_time)]
    pub(crate) queue_wait: Option<Duration>,
    /// HTTP requests a component may send in a request. Default: 64.
    #[arg(long, value_name = "N")]
    pub(crate) outbound_requests: Option<u32>,
    /// HTTP connections a component may hold at once, and sockets it may open in a request. Default: 16.
    #[arg(long, value_name = "N")]
    pub(crate) outbound_connections: Option<u32>,
    /// Files and directories a component may hold open at once. Default: 64.
    #[arg(long, value_name = "N")]
    pub(crate) open_files: Option<u32>,
    /// Bytes of keys and values a component may read and write in a request. Default: 64MiB.
    #[arg(long, value_name = "SIZE", value_parser = some_bytes)]
    pub(crate) key_value_bytes: Option<u64>,
    /// Bytes a component may write to the log in a second, in all its requests together. Default: 256KiB.
    #[arg(long, value_name = "SIZE", value_parser = some_bytes)]
    pub(crate) log_bytes: Option<u64>,
}

/// How often one sandbox is used.
#[derive(Debug, Args)]
#[command(
    next_help_heading = "Reuse of sandboxes, over the manifest's; without it, each request has a fresh one"
)]
pub(crate) struct ReuseArgs {
    /// Requests that a sandbox answers before it is thrown away: one can see what an earlier one left. Default: 1.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(Reuse::REQUESTS_MAX)))]
    pub(crate) reuse_requests: Option<u32>,
    /// How many of them at once, for a handler of wasi:http 0.3. Default: 1.
    #[arg(long, value_name = "M", value_parser = clap::value_parser!(u32).range(1..=i64::from(Reuse::CONCURRENT_MAX)))]
    pub(crate) reuse_concurrent: Option<u32>,
}

impl ReuseArgs {
    /// What the manifest says, and over it the command line.
    pub(crate) fn over(&self, manifest: Reuse) -> Result<Reuse, Diagnostic> {
        let reuse = Reuse {
            requests: self.reuse_requests.unwrap_or(manifest.requests),
            concurrent: self.reuse_concurrent.unwrap_or(manifest.concurrent),
        };
        if self.reuse_concurrent.is_some_and(|concurrent| concurrent > 1) && !reuse.is_on() {
            return Err(Diagnostic::new(
                "reuse-requests",
                "`--reuse-concurrent` says how many requests share a sandbox, and none is used for more than one",
            )
            .mend("add `--reuse-requests N`: how many requests a sandbox answers in all"));
        }
        Ok(reuse)
    }
}

impl LimitArgs {
    /// The manifest's limits, and over them what the command line says.
    pub(crate) fn over(&self, manifest: Limits) -> Limits {
        Limits {
            wall: self.wall.unwrap_or(manifest.wall),
            cpu: self.cpu.unwrap_or(manifest.cpu),
            memory_bytes: self.memory.unwrap_or(manifest.memory_bytes),
            table_elements: self.table_elements.unwrap_or(manifest.table_elements),
            instances: self.instances.unwrap_or(manifest.instances),
            stack_bytes: self.stack.unwrap_or(manifest.stack_bytes),
            handles: self.handles.unwrap_or(manifest.handles),
            host_call_bytes: self.host_call_bytes.unwrap_or(manifest.host_call_bytes),
            request_body_bytes: self.request_body.unwrap_or(manifest.request_body_bytes),
            response_body_bytes: self.response_body.unwrap_or(manifest.response_body_bytes),
            header_bytes: self.header_bytes.unwrap_or(manifest.header_bytes),
            concurrency: self.concurrency.unwrap_or(manifest.concurrency),
            queue: self.queue.unwrap_or(manifest.queue),
            queue_wait: self.queue_wait.unwrap_or(manifest.queue_wait),
            outside: self.over_outside(manifest.outside),
        }
    }

    /// What a component may use up through the host, and over it what the command line says.
    pub(crate) fn over_outside(&self, manifest: OutsideLimits) -> OutsideLimits {
        OutsideLimits {
            outbound_requests: self.outbound_requests.unwrap_or(manifest.outbound_requests),
            outbound_connections: self.outbound_connections.unwrap_or(manifest.outbound_connections),
            open_files: self.open_files.unwrap_or(manifest.open_files),
            key_value_bytes: self.key_value_bytes.unwrap_or(manifest.key_value_bytes),
            log_bytes: self.log_bytes.unwrap_or(manifest.log_bytes),
        }
    }
}

/// A limit of nothing would refuse every request.
pub(super) const NOTHING: &str = "must be more than nothing";

fn some_time(text: &str) -> Result<Duration, String> {
    let time = parse_duration(text).map_err(|error| error.to_string())?;
    if time.is_zero() { Err(NOTHING.into()) } else { Ok(time) }
}

fn some_bytes(text: &str) -> Result<u64, String> {
    let bytes = parse_bytes(text).map_err(|error| error.to_string())?;
    if bytes == 0 { Err(NOTHING.into()) } else { Ok(bytes) }
}
