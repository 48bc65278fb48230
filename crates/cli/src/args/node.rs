//! The command line of a node and of what talks to one.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use tenon_model::{
    AppId, AppName, Chosen, RevisionNumber, Route, STEPS_MAX, Sticky, TenantId, parse_bytes, parse_duration,
};

use super::{DataArgs, DependencyArgs, LogFormat};

#[derive(Clone, Debug, Args)]
pub(crate) struct NodeArgs {
    /// The address that apps are served on; port 0 picks a free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    pub(crate) listen: SocketAddr,
    /// The address that apps are served on over TLS; needs `--tls`.
    #[arg(long, value_name = "ADDR", requires = "tls")]
    pub(crate) tls_listen: Option<SocketAddr>,
    /// A certificate chain and its key, as PEM files; which one is shown, the name that a client asks for says. May be
    /// given several times. They are read again when they change.
    #[arg(long, value_names = ["CERT", "KEY"], num_args = 2, action = clap::ArgAction::Append)]
    pub(crate) tls: Vec<PathBuf>,
    /// Serve HTTP/3 too, at the port of `--tls-listen`, over UDP. Responses over TLS tell clients that it is to be had.
    #[arg(long, requires = "tls_listen")]
    pub(crate) http3: bool,
    /// The port that clients are told for HTTP/3, where it is another one outside. Default: that of `--tls-listen`.
    #[arg(long, value_name = "PORT", requires = "http3", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) http3_port: Option<u16>,
    /// The address of the admin API.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8081")]
    pub(crate) admin: SocketAddr,
    /// Serve the admin API over TLS, with this certificate chain and key. Needed where it is not on loopback.
    #[arg(long, value_names = ["CERT", "KEY"], num_args = 2)]
    pub(crate) admin_tls: Vec<PathBuf>,
    /// Serve the admin API without TLS on an address that others can reach: behind a proxy that has TLS.
    #[arg(long)]
    pub(crate) admin_insecure: bool,
    /// Threads that serve requests. Default: one for each core.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) workers: Option<u16>,
    /// Sandboxes alive at once, over all requests.
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) pool: u32,
    /// The most memory that one sandbox of any app may have.
    #[arg(long, value_name = "SIZE", default_value = "256MiB", value_parser = some_bytes)]
    pub(crate) pool_memory: u64,
    /// Apps that are kept in memory; the one that was asked longest ago goes first, and comes back when it is asked.
    #[arg(long, value_name = "N", default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) loaded: u32,
    /// Compiled code that is kept in memory, of all apps together.
    #[arg(long, value_name = "SIZE", default_value = "2GiB", value_parser = some_bytes)]
    pub(crate) loaded_bytes: u64,
    /// Connections that one address may hold open, or one network of 64 bits where addresses have 128; further ones are closed.
    /// Behind a proxy all clients have the proxy's address.
    #[arg(long, value_name = "N", default_value_t = 2_048, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) connections_per_address: u32,
    /// When the node stops or is replaced, running requests and messages may go on for so long at most. Default: as long as any
    /// of them may last.
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) drain: Option<Duration>,
    /// Send metrics and traces to this OTLP/HTTP collector: `http://127.0.0.1:4318`, `https://otel.example`.
    #[arg(long, value_name = "URL")]
    pub(crate) otlp: Option<String>,
    /// Trust collectors of this authority (PEM) instead of the system's.
    #[arg(long, value_name = "FILE", requires = "otlp")]
    pub(crate) otlp_ca: Option<PathBuf>,
    /// Of a thousand requests, those that are traced unless the client says so itself.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u16).range(0..=1_000))]
    pub(crate) trace: u16,
    /// Write a line of JSON for each request and each message into this file, which SIGHUP opens anew; `-` is standard error.
    #[arg(long, value_name = "FILE")]
    pub(crate) access_log: Option<PathBuf>,
    /// The form of the log, which goes to standard error.
    #[arg(long, value_name = "FORM", value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,
    /// Take over from the node that runs on this data directory and these addresses, without losing a connection.
    #[arg(long)]
    pub(crate) replace: bool,
    /// Return once the new node serves, and leave it running: for `systemctl reload`.
    #[arg(long, requires = "replace")]
    pub(crate) detach: bool,
    #[command(flatten)]
    pub(crate) data: DataArgs,
}

/// Which node, and as whom.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "The node")]
pub(crate) struct ClientArgs {
    /// The node's admin API. Default: `$TENON_NODE`, else `http://127.0.0.1:8081`.
    #[arg(long, value_name = "URL")]
    pub(crate) node: Option<String>,
    /// A file with the token. Default: `$TENON_TOKEN`, else, for a node on this machine, the one it made at its first
    /// start, if you may read it.
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// Trust certificates of this authority (PEM) instead of the system's.
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// Send the token in clear to a node on another machine: over a network that nobody else is in.
    #[arg(long)]
    pub(crate) plain_http: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DeployArgs {
    /// A component (`.wasm`), a manifest (TOML or WAC), or a folder with one, which is built and composed first.
    #[arg(default_value = ".")]
    pub(crate) target: PathBuf,
    #[command(flatten)]
    pub(crate) dependencies: DependencyArgs,
    /// Whose app it is. Default: `tenant` in `[deploy]`.
    #[arg(long, value_name = "NAME")]
    pub(crate) tenant: Option<TenantId>,
    /// What it is called. Default: `app` in `[deploy]`, else the manifest's name, else the file's.
    #[arg(long, value_name = "NAME")]
    pub(crate) app: Option<AppName>,
    /// Which requests are for it, as `host/path`: `shop.example/*`, `*.shop.example/api/*`, `*/health`. May be given
    /// several times. Default: `routes` in `[deploy]`, else those it has.
    #[arg(id = "route", long, value_name = "ROUTE")]
    pub(crate) routes: Vec<Route>,
    /// A path that the new revision has to answer before it gets requests. Default: `health` in `[deploy]`; without
    /// either it has to start.
    #[arg(long, value_name = "PATH")]
    pub(crate) health: Option<String>,
    /// Take over in steps, each a share of the requests in percent: `5,25,50`; after the last the new revision has all.
    #[arg(long, value_name = "SHARES", value_delimiter = ',', value_parser = clap::value_parser!(u8).range(1..=99))]
    pub(crate) canary: Vec<u8>,
    /// How long each step lasts. Default: 1min.
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) hold: Option<Duration>,
    /// What keeps a client with one revision: `address`, `cookie` or `header:NAME`.
    #[arg(long, value_name = "BY")]
    pub(crate) sticky: Option<Sticky>,
    /// Requests that get the new revision from the start: `header:NAME=VALUE` or `cookie:NAME=VALUE`.
    #[arg(long, value_name = "BY")]
    pub(crate) chosen: Option<Chosen>,
    /// Of a hundred requests, those that the new revision is given as a copy; its answers are compared and thrown away.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(0..=100))]
    pub(crate) shadow: Option<u8>,
    /// Take over at once, whatever [deploy.rollout] says.
    #[arg(long, conflicts_with_all = ["canary", "hold", "sticky", "chosen", "shadow"])]
    pub(crate) at_once: bool,
    /// Make a new revision even if the app has this content already.
    #[arg(long)]
    pub(crate) force: bool,
    /// Wait until the rollout has ended; fail when it was sent back.
    #[arg(long)]
    pub(crate) wait: bool,
    /// Why, for the history.
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(crate) note: String,
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

#[derive(Debug, Args)]
pub(crate) struct AppsArgs {
    /// Only those of this tenant.
    #[arg(long, value_name = "NAME")]
    pub(crate) tenant: Option<TenantId>,
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

/// One app of a node.
#[derive(Debug, Args)]
pub(crate) struct AppArgs {
    /// The app.
    #[arg(value_name = "TENANT/APP", value_parser = app_id)]
    pub(crate) app: AppId,
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

#[derive(Debug, Args)]
pub(crate) struct RevertArgs {
    /// The app.
    #[arg(value_name = "TENANT/APP", value_parser = app_id)]
    pub(crate) app: AppId,
    /// To this revision. Default: while a rollout runs, it ends; where the newest was sent back already, nothing is done; else
    /// to the one before.
    #[arg(long, value_name = "REVISION")]
    pub(crate) to: Option<RevisionNumber>,
    /// Why, for the history.
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(crate) note: String,
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ChangeArgs {
    /// The app.
    #[arg(value_name = "TENANT/APP", value_parser = app_id)]
    pub(crate) app: AppId,
    /// The rollout, which then stays at its step, and not the app.
    #[arg(long)]
    pub(crate) rollout: bool,
    /// Why, for the history.
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(crate) note: String,
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

#[derive(Debug, Args)]
pub(crate) struct PromoteArgs {
    /// The app.
    #[arg(value_name = "TENANT/APP", value_parser = app_id)]
    pub(crate) app: AppId,
    /// Why, for the history.
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(crate) note: String,
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

#[derive(Debug, Args)]
pub(crate) struct RolloutArgs {
    /// The app.
    #[arg(value_name = "TENANT/APP", value_parser = app_id)]
    pub(crate) app: AppId,
    /// Stay until it has ended; fail when it was sent back.
    #[arg(long)]
    pub(crate) wait: bool,
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

#[derive(Debug, Args)]
pub(crate) struct TenantArgs {
    #[command(subcommand)]
    pub(crate) command: TenantCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TenantCommand {
    /// List the tenants, and what each may use.
    List(StatusArgs),
    /// Make a tenant, or change what it may use; what is not said stays, or has its default.
    Set(TenantSetArgs),
    /// Remove a tenant that has no apps.
    Delete(TenantDeleteArgs),
}

#[derive(Debug, Args)]
pub(crate) struct TenantSetArgs {
    /// The tenant.
    #[arg(value_name = "TENANT")]
    pub(crate) tenant: TenantId,
    /// Requests a second.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) requests: Option<u32>,
    /// Processor time a second: `500ms` is half a core.
    #[arg(long, value_name = "TIME", value_parser = some_time)]
    pub(crate) cpu: Option<Duration>,
    /// Bytes of request and response bodies a second.
    #[arg(long, value_name = "SIZE", value_parser = some_bytes)]
    pub(crate) bytes: Option<u64>,
    /// Linear memory of all its running requests.
    #[arg(long, value_name = "SIZE", value_parser = some_bytes)]
    pub(crate) memory: Option<u64>,
    /// Requests that may run at once.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) concurrency: Option<u32>,
    /// Requests that may wait.
    #[arg(long, value_name = "N")]
    pub(crate) queue: Option<u32>,
    /// Sandboxes of the pool that nobody else can take.
    #[arg(long, value_name = "N")]
    pub(crate) reserved: Option<u32>,
    /// Apps it may have.
    #[arg(long, value_name = "N")]
    pub(crate) apps: Option<u32>,
    /// What of the node itself its apps may be granted: `directory:/srv/acme`, `private-addresses`, `sockets` or `redis`.
    /// May be given several times; replaces what was allowed.
    #[arg(long, value_name = "WHAT")]
    pub(crate) allow: Vec<String>,
    /// Allow nothing of the node itself any more.
    #[arg(long, conflicts_with = "allow")]
    pub(crate) allow_nothing: bool,
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

#[derive(Debug, Args)]
pub(crate) struct TenantDeleteArgs {
    /// The tenant.
    #[arg(value_name = "TENANT")]
    pub(crate) tenant: TenantId,
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

#[derive(Debug, Args)]
pub(crate) struct TokenArgs {
    #[command(subcommand)]
    pub(crate) command: TokenCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// List the tokens, without their secrets.
    List(StatusArgs),
    /// Make a token; its secret is printed this once.
    Create(TokenCreateArgs),
    /// Give a token a new secret.
    Rotate(TokenRotateArgs),
    /// Make a token invalid.
    Delete(TokenDeleteArgs),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum VerbName {
    /// To look.
    Read,
    /// And to change apps.
    Deploy,
    /// And to change tenants and tokens, and to read the audit log.
    Admin,
}

#[derive(Debug, Args)]
pub(crate) struct TokenCreateArgs {
    /// For which tenant. Default: every one.
    #[arg(long, value_name = "NAME")]
    pub(crate) tenant: Option<TenantId>,
    /// For what; each includes those before it.
    #[arg(long, value_name = "VERB", value_enum)]
    pub(crate) verb: VerbName,
    /// How many days it is valid. Default: until it is deleted.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=3_650))]
    pub(crate) days: Option<u64>,
    /// What it is for.
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(crate) note: String,
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

#[derive(Debug, Args)]
pub(crate) struct TokenRotateArgs {
    /// The token's name, as `tenon token list` shows it.
    pub(crate) token: String,
    /// How long the secret it had so far stays valid, at most a week. Default: not at all.
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = time)]
    pub(crate) grace: Duration,
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

#[derive(Debug, Args)]
pub(crate) struct TokenDeleteArgs {
    /// The token's name, as `tenon token list` shows it.
    pub(crate) token: String,
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

#[derive(Debug, Args)]
pub(crate) struct CapacityArgs {
    /// More of an app that is there.
    #[arg(value_name = "TENANT/APP", value_parser = app_id, conflicts_with_all = ["memory", "concurrency", "artifact"])]
    pub(crate) app: Option<AppId>,
    /// Or of one that is not: what a request of it may use.
    #[arg(long, value_name = "SIZE", value_parser = some_bytes)]
    pub(crate) memory: Option<u64>,
    /// Requests of it that run at once.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) concurrency: Option<u32>,
    /// Its compiled code.
    #[arg(long, value_name = "SIZE", value_parser = some_bytes)]
    pub(crate) artifact: Option<u64>,
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

#[derive(Debug, Args)]
pub(crate) struct TopArgs {
    /// Show one interval and end.
    #[arg(long)]
    pub(crate) once: bool,
    /// How long one interval is.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = some_time)]
    pub(crate) interval: Duration,
    /// Only those of this tenant.
    #[arg(long, value_name = "NAME")]
    pub(crate) tenant: Option<TenantId>,
    /// Rows that are shown.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub(crate) rows: u16,
    /// Below each composition, its components: what each used of the processor and of memory.
    #[arg(long)]
    pub(crate) components: bool,
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    /// The app.
    #[arg(value_name = "TENANT/APP", value_parser = app_id)]
    pub(crate) app: AppId,
    /// Stay, and print what comes.
    #[arg(long, short)]
    pub(crate) follow: bool,
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

#[derive(Debug, Args)]
pub(crate) struct AuditArgs {
    /// Only what came after this entry.
    #[arg(long, value_name = "SEQUENCE", default_value_t = 0)]
    pub(crate) after: u64,
    /// Entries that are shown.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) limit: u32,
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

/// The most steps on a command line are those of a rollout.
pub(crate) fn too_many_steps(count: usize) -> bool {
    count > STEPS_MAX
}

pub(crate) fn app_id(text: &str) -> Result<AppId, String> {
    let (tenant, app) = text.split_once('/').ok_or("write `TENANT/APP`: `acme/shop`")?;
    let name = |error: tenon_model::InvalidLabel| error.to_string();
    Ok(AppId { tenant: tenant.parse().map_err(name)?, app: app.parse().map_err(name)? })
}

fn time(text: &str) -> Result<Duration, String> {
    parse_duration(text).map_err(|error| error.to_string())
}

fn some_time(text: &str) -> Result<Duration, String> {
    let time = time(text)?;
    if time.is_zero() { Err(super::limits::NOTHING.into()) } else { Ok(time) }
}

fn some_bytes(text: &str) -> Result<u64, String> {
    let bytes = parse_bytes(text).map_err(|error| error.to_string())?;
    if bytes == 0 { Err(super::limits::NOTHING.into()) } else { Ok(bytes) }
}
