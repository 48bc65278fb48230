//! What goes over the admin API, as JSON. Who reads it turns it into domain types once: [`Terms::read`],
//! [`Rollout::read`], [`Quota::read`].
//!
//! Durations are numbers with their unit in the name; times are seconds since 1970; digests are `sha256:` and 64
//! hexadecimal digits; revisions are `r7`. A field that is left out has the value that its comment names.

mod problem;
mod rollout;
mod terms;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use problem::{Problem, ProblemNote};
pub use rollout::{
    Chosen, Rollout, RolloutEnd, RolloutState, RolloutStatus, Seen, Shadowed, Step, Sticky, Tolerance,
};
pub use terms::{
    Access, Authority, Bucket, Container, Directory, ErrorStatus, Grants, HttpGrant, InvalidTerms, Limits,
    Messaging, Outside, Probe, Read, Reuse, Socket, Terms,
};

/// The header field of an upload that says at which byte the body begins, and in answers, how many bytes are there.
pub const UPLOAD_OFFSET: &str = "upload-offset";
/// The header field of an upload that says how many bytes it will have in all.
pub const UPLOAD_LENGTH: &str = "upload-length";
/// The most bytes of one `PATCH` or `PUT` of a blob.
pub const UPLOAD_BYTES_MAX: u64 = 512 << 20;
/// The most bytes of any other request's body.
pub const REQUEST_BYTES_MAX: usize = 4 << 20;
/// The longest note on a deploy, in bytes.
pub const NOTE_BYTES_MAX: usize = 1 << 10;

/// `PUT /v1/tenants/{tenant}/apps/{app}`: the state that the app is to have.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Deploy {
    /// The digest of the composed component, in the attributed form. Its bytes have been uploaded as a blob.
    pub component: String,
    /// On which terms it runs.
    pub terms: Terms,
    /// Which requests are for it: `shop.example/*`. Empty: the routes stay as they are (a new app then has none, and is
    /// asked by nobody).
    #[serde(default)]
    pub routes: Vec<String>,
    /// How it takes over; at once where there is none. The first revision of an app always takes over at once.
    #[serde(default)]
    pub rollout: Option<Rollout>,
    /// Makes a new revision even if the app has this content already.
    #[serde(default)]
    pub force: bool,
    /// Why, for the history.
    #[serde(default)]
    pub note: String,
    /// The generation that the app is expected to have: another one is a conflict. Unset: whatever it has.
    #[serde(default)]
    pub generation: Option<u64>,
}

/// What a deploy did.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Deployed {
    /// The app afterwards.
    pub app: App,
    /// The revision with this content: `r7`.
    pub revision: String,
    /// False when the app had this content already, or the candidate was sent back already, and nothing was done.
    pub changed: bool,
    /// What each step took.
    pub steps: Vec<StepTaken>,
    /// What the app may touch, in the form of `tenon authority --json`, without values.
    pub authority: serde_json::Value,
    /// What it may touch that the revision before could not, each in one line.
    pub grew: Vec<String>,
}

/// One step of a deploy.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct StepTaken {
    /// `verify`, `authority`, `compile`, `probe`, `commit` or `publish`.
    pub step: String,
    /// How long it took, in microseconds.
    pub took_us: u64,
    /// What is worth knowing: `loaded`, `compiled`, the status of the probe.
    pub detail: String,
}

/// An app.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct App {
    /// Whose it is.
    pub tenant: String,
    /// What it is called.
    pub app: String,
    /// Grows with every change.
    pub generation: u64,
    /// Which requests are for it.
    pub routes: Vec<String>,
    /// The revision that serves: `r7`.
    pub stable: String,
    /// The revision that takes over, while one does.
    pub rollout: Option<RolloutStatus>,
    /// Whether it is taken out of service: requests get a 503.
    pub paused: bool,
    /// Whether the stable revision is in memory.
    pub loaded: bool,
    /// Requests that run now.
    pub running: u32,
    /// Whether its circuit breaker is open.
    pub breaker_open: bool,
}

/// A list of apps.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Apps {
    /// In order of their names.
    pub apps: Vec<App>,
}

/// A revision.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Revision {
    /// `r7`.
    pub revision: String,
    /// The one it was made from.
    pub parent: Option<String>,
    /// The one that it is equal to, if it is a revert.
    pub reverts_to: Option<String>,
    /// The digest of its component.
    pub component: String,
    /// The digest of its terms.
    pub terms: String,
    /// Which requests were for the app when it was made; `None` of one that a version made which did not keep it.
    #[serde(default)]
    pub routes: Option<Vec<String>>,
    /// When it was made.
    pub created: u64,
    /// Whose token made it; `node` where the node itself did.
    pub by: String,
    /// Why.
    pub note: String,
    /// `stable`, `candidate`, or `kept`.
    pub state: String,
    /// How its rollout ended, if it took over in steps and has ended.
    #[serde(default)]
    pub rollout: Option<RolloutEnd>,
}

/// A list of revisions.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Revisions {
    /// The newest first.
    pub revisions: Vec<Revision>,
}

/// `POST …/revert`: back to an earlier revision.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Revert {
    /// To which; the parent of the stable one where nothing is said. While a rollout runs, and nothing is said, it ends the
    /// rollout; where the newest revision was sent back already, nothing is done (`changed` is false), unless `generation` says
    /// that this is known.
    #[serde(default)]
    pub to: Option<String>,
    /// Why, for the history.
    #[serde(default)]
    pub note: String,
    /// As in [`Deploy`].
    #[serde(default)]
    pub generation: Option<u64>,
}

/// `POST …/promote`, `…/pause`, `…/resume`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// With `pause` and `resume`: the rollout, which then stays at its step, and not the app.
    #[serde(default)]
    pub rollout: bool,
    /// Why, for the history.
    #[serde(default)]
    pub note: String,
    /// As in [`Deploy`].
    #[serde(default)]
    pub generation: Option<u64>,
}

/// `GET …/rollout`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct RolloutAnswer {
    /// The one that runs, else the last one; `None` when there never was one.
    pub rollout: Option<RolloutStatus>,
}

/// What a tenant may use over time. What is left out has its default.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Quota {
    /// Requests a second, on average.
    pub requests_per_second: u32,
    /// Time on the processor a second, in microseconds, on average.
    pub cpu_us_per_second: u64,
    /// Bytes of bodies a second, on average.
    pub bytes_per_second: u64,
    /// Linear memory of all running requests, in bytes.
    pub memory_bytes: u64,
    /// Requests that may run at once.
    pub concurrency: u32,
    /// Requests that may wait.
    pub queue: u32,
    /// Sandboxes that nobody else can take.
    pub reserved_instances: u32,
    /// Apps it may have.
    pub apps: u32,
}

impl Quota {
    /// As the domain has it.
    pub fn read(self) -> tenon_model::Quota {
        let Self {
            requests_per_second,
            cpu_us_per_second,
            bytes_per_second,
            memory_bytes,
            concurrency,
            queue,
            reserved_instances,
            apps,
        } = self;
        tenon_model::Quota {
            requests_per_second,
            cpu_us_per_second,
            bytes_per_second,
            memory_bytes,
            concurrency,
            queue,
            reserved_instances,
            apps,
        }
    }
}

impl From<tenon_model::Quota> for Quota {
    fn from(quota: tenon_model::Quota) -> Self {
        let tenon_model::Quota {
            requests_per_second,
            cpu_us_per_second,
            bytes_per_second,
            memory_bytes,
            concurrency,
            queue,
            reserved_instances,
            apps,
        } = quota;
        Self {
            requests_per_second,
            cpu_us_per_second,
            bytes_per_second,
            memory_bytes,
            concurrency,
            queue,
            reserved_instances,
            apps,
        }
    }
}

impl Default for Quota {
    fn default() -> Self {
        tenon_model::Quota::default().into()
    }
}

/// `PUT /v1/tenants/{tenant}`: made where it is not there, else changed to exactly this.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PutTenant {
    /// What it may use.
    pub quota: Quota,
    /// What of the node itself its apps may be granted, each `directory:/srv/acme` (and what is below it, to read and to
    /// write), `private-addresses` (HTTP to private, loopback and link-local addresses), `sockets`, or `redis`. Empty:
    /// none of it.
    pub allow: Vec<String>,
    /// The generation that the tenant is expected to have, 0 where it is not expected to be there: another one is a conflict.
    /// Unset: whatever it has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
}

/// A tenant.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Tenant {
    /// What it is called.
    pub tenant: String,
    /// What it may use.
    pub quota: Quota,
    /// What of the node its apps may be granted.
    pub allow: Vec<String>,
    /// Grows with every change of it.
    #[serde(default)]
    pub generation: u64,
    /// When it was made.
    pub created: u64,
    /// Apps it has.
    pub apps: u32,
    /// Requests that run now.
    pub running: u32,
    /// Sandboxes that it has in reserve now: fewer than its quota says where the pool has no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reserved_instances: Option<u32>,
}

/// A list of tenants.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Tenants {
    /// In order of their names.
    pub tenants: Vec<Tenant>,
}

/// What a token allows; each includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Verb {
    /// To look.
    Read,
    /// To change apps.
    Deploy,
    /// To change who may: tenants and tokens; and to read the audit log.
    Admin,
}

/// `POST /v1/tokens`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PostToken {
    /// For which tenant; every one where it is left out.
    #[serde(default)]
    pub tenant: Option<String>,
    /// For what.
    pub verb: Verb,
    /// How long it is valid, in seconds; for ever where it is left out.
    #[serde(default)]
    pub lifetime_s: Option<u64>,
    /// What it is for.
    #[serde(default)]
    pub note: String,
}

/// `POST /v1/tokens/{token}/rotate`: a new secret for the same token.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RotateToken {
    /// How long the secret it had so far stays valid, in seconds, at most a week.
    pub grace_s: u64,
}

/// A token, without its secret.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Token {
    /// What it is known by.
    pub token: String,
    /// For which tenant; every one where it is `None`.
    pub tenant: Option<String>,
    /// For what.
    pub verb: Verb,
    /// When it was made.
    pub created: u64,
    /// When it ceases to be valid.
    pub expires: Option<u64>,
    /// What it is for.
    pub note: String,
}

/// A list of tokens.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Tokens {
    /// In order of their names.
    pub tokens: Vec<Token>,
}

/// A token that was made or rotated. Its secret is shown this once.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct NewToken {
    /// What is known of it.
    pub token: Token,
    /// What a client sends: `Authorization: Bearer …`.
    pub secret: String,
}

/// One line of the audit log.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct AuditEntry {
    /// Its place, from 1 on, without gaps.
    pub sequence: u64,
    /// What the clock said.
    pub at: u64,
    /// Whose token; `node` where the node itself acted.
    pub who: String,
    /// What was done: `deploy`, `revert`, `put-tenant`; `pause` an app, `pause-rollout` its rollout.
    pub what: String,
    /// To what: `acme/shop`, `acme`, a token.
    pub target: String,
    /// In what way; what is longer than 1 KiB is cut there.
    pub detail: String,
    /// A hash of the entry and of the hash before it.
    pub hash: String,
}

/// A page of the audit log: `GET /v1/audit?after=SEQUENCE&limit=N`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Audit {
    /// In order.
    pub entries: Vec<AuditEntry>,
    /// Whether the chain of hashes of the whole log was found unbroken at the node's start.
    pub intact: bool,
}

/// `GET /v1/status`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Status {
    /// The version of Tenon.
    pub version: String,
    /// `serving`, or `draining`.
    pub state: String,
    /// Since the node started, in seconds.
    pub uptime_s: u64,
    /// Where it listens.
    pub listen: Vec<String>,
    /// Grows with every change of anything.
    pub generation: u64,
    /// The generation that requests are served from.
    pub published: u64,
    /// Tenants that the token may see.
    pub tenants: u32,
    /// Apps that the token may see.
    pub apps: u32,
    /// Apps in memory.
    pub loaded: u32,
    /// Requests that run now.
    pub running: u32,
    /// Sandboxes of the pool.
    pub pool_instances: u32,
    /// Resident memory of the process, in bytes.
    pub resident_bytes: u64,
    /// Open files of the process.
    pub open_files: u32,
    /// What is wrong with the node, if anything is: each a code and a sentence.
    pub wrong: Vec<Problem>,
}

/// `GET /v1/top`: counters since the start, for whoever asks twice and subtracts.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Top {
    /// Since the node started, in microseconds.
    pub at_us: u64,
    /// One for each revision that was asked, in order of their names. A row ends with its revision.
    pub rows: Vec<TopRow>,
    /// One for each app that was asked, in order of their names: all that was asked of it since the node started, with what
    /// was refused, and with what revisions did that are gone.
    #[serde(default)]
    pub apps: Vec<TopApp>,
}

/// What one app has done since the node started.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct TopApp {
    /// Whose.
    pub tenant: String,
    /// Which.
    pub app: String,
    /// Requests that a guest ran for.
    pub requests: u64,
    /// Those answered with a status of 500 or more.
    pub errors: u64,
    /// Requests refused before a guest ran: by a quota, a limit, the breaker or a pause.
    pub refused: u64,
    /// By outcome, as in [`TopRow`].
    pub outcomes: BTreeMap<String, u64>,
    /// Time on the processor that guests used, in microseconds.
    pub cpu_us: u64,
    /// Linear memory times time: byte-microseconds, divided by a million.
    pub memory_byte_seconds: u64,
    /// Bytes of request bodies.
    pub bytes_in: u64,
    /// Bytes of response bodies.
    pub bytes_out: u64,
    /// Messages that it handled.
    pub messages: u64,
    /// Attempts to handle a message that failed.
    pub messages_failed: u64,
}

/// What one revision has done since the node started.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct TopRow {
    /// Whose.
    pub tenant: String,
    /// Which app.
    pub app: String,
    /// Which revision: `r7`.
    pub revision: String,
    /// Requests answered.
    pub requests: u64,
    /// Those answered with a status of 500 or more.
    pub errors: u64,
    /// By outcome: `answered`, `errored`, `trapped`, `out-of-memory`, `cpu-deadline` and so on.
    pub outcomes: BTreeMap<String, u64>,
    /// Running now.
    pub running: u32,
    /// Half of the requests were faster, in microseconds.
    pub p50_us: u64,
    /// 99 of 100 requests were faster, in microseconds.
    pub p99_us: u64,
    /// Time on the processor that guests used, in microseconds.
    pub cpu_us: u64,
    /// Linear memory times time: byte-microseconds, divided by a million.
    pub memory_byte_seconds: u64,
    /// Bytes of request bodies.
    pub bytes_in: u64,
    /// Bytes of response bodies.
    pub bytes_out: u64,
    /// Whether it is in memory.
    pub loaded: bool,
    /// Messages that it handled.
    #[serde(default)]
    pub messages: u64,
    /// Attempts to handle a message that failed.
    #[serde(default)]
    pub messages_failed: u64,
    /// Its components, in the order of the composition; none where it is a single one.
    #[serde(default)]
    pub components: Vec<TopComponent>,
}

/// What one component of a composition has used, of what its revision has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TopComponent {
    /// Its name in the composition.
    pub component: String,
    /// Time on the processor, in microseconds, estimated: guests are looked at twice a millisecond, and this is how often its
    /// code ran.
    pub cpu_us: u64,
    /// Its own linear memory at the ends of requests, times how long they took: byte-microseconds, divided by a million.
    pub memory_byte_seconds: u64,
    /// The most linear memory it had at the end of a request, in bytes.
    pub memory_bytes: u64,
}

/// `GET /v1/capacity?tenant=T&app=A`, or with `memory_bytes`, `concurrency` and `artifact_bytes` of an app that is not
/// there yet: how many more such apps fit.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Capacity {
    /// How many more fit.
    pub fits: u64,
    /// What is used up first: `sandboxes`, `memory`, `disk`, `mappings`, or one of the tenant's quotas: `apps`, `concurrency`,
    /// `tenant-memory`.
    pub bound_by: String,
    /// Each bound: what it is, what an app needs of it, what is free, how many fit.
    pub bounds: Vec<Bound>,
}

/// One bound of the capacity.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Bound {
    /// Which.
    pub bound: String,
    /// What one more app needs of it.
    pub needs: u64,
    /// What is free.
    pub free: u64,
    /// How many apps fit.
    pub fits: u64,
}

/// One line of `GET …/logs`, each a JSON object on a line of its own.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct LogLine {
    /// When, in microseconds since 1970.
    pub at_us: u64,
    /// `trace`, `debug`, `info`, `warn` or `error`.
    pub level: String,
    /// `guest` for what the app wrote, `request` for what the node says of a request, `node` for the rest.
    pub source: String,
    /// Which component wrote.
    pub component: String,
    /// For which request.
    pub request_id: String,
    /// What.
    pub message: String,
    /// Whatever else is known.
    pub fields: BTreeMap<String, String>,
}

/// In place of lines that whoever follows read too slowly for.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LostLines {
    /// So many.
    pub lost: u64,
}
