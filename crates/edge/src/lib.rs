//! The request path: from an accepted connection to a recorded outcome.
//!
//! [`serve_request`] is the life of a request, one line a stage; [`Deliveries`] is the same for messages. [`Server`] is what surrounds it: listeners, one
//! single-threaded runtime a core, limits on connections, and a drain that lets running requests finish.
//!
//! What is deliberately absent: no registry, no database, no compilation, no configuration files. A request reads
//! an immutable [`Site`] and touches nothing that another tenant's request could be holding.

mod admit;
mod app;
mod authority;
mod breaker;
mod bucket;
mod canary;
mod clock;
mod connections;
mod count;
mod deliver;
mod handover;
mod http3;
mod identify;
mod journey;
mod observe;
mod quic;
mod rescue;
mod server;
mod shadow;
mod sieve;
mod site;
mod slot;
mod table;
mod tenant;
mod ticket;
mod tls;
mod trace;
mod transport;
mod turns;
mod wire;

#[cfg(test)]
mod trial;

pub use app::App;
pub use canary::Candidate;
pub use clock::since_start;
pub use connections::{Addresses, ConnectionLimits, Held, counted_as};
pub use count::{BUCKETS, CounterSnapshot, Counters, Latencies, Outcome};
pub use deliver::{ATTEMPTS_MAX, DELIVERIES_MAX, Deliveries, Tally};
pub use handover::HandOver;
pub use identify::{Ids, RequestId};
pub use journey::{Worker, serve_request};
pub use observe::{Ended, MessageHead, Observations, Observed, Observer, RequestHead, What};
pub use quic::{Http3, Http3Key};
pub use rescue::{Refusal, TABLE, Told, respond};
pub use server::{Bound, Drained, Listen, Listening, Server, ServerError, listen_alone};
pub use site::{NOTICE, Notice, Site};
pub use slot::{LoadError, LoadTurn, LoadTurns, Loader, Loading, RevisionKey, Slot};
pub use table::{Entry, Table};
pub use tenant::{OverQuota, QuotaName, Shares, Tenant, TenantUsage, Token};
pub use tls::{CERTIFICATES_MAX, Certificate, CertificateError, Certificates};
pub use trace::TraceContext;
pub use wire::{Reply, Wire};
