//! The request path: from an accepted connection to a recorded outcome.
//!
//! [`serve_request`] is the life of a request, one line a stage; [`Deliveries`] is the same for messages. [`Server`] is what surrounds it: listeners, one
//! single-threaded runtime a core, limits on connections, and a drain that lets running requests finish.
//!
//! What is deliberately absent: no registry, no database, no compilation, no configuration files. A request reads
//! an immutable [`Site`] and touches nothing that another tenant's request could be holding.

mod admit;
mod authority;
mod deliver;
mod identify;
mod journey;
mod rescue;
mod server;
mod site;
mod wire;

pub use admit::{Admitted, Gate};
pub use deliver::{ATTEMPTS_MAX, DELIVERIES_MAX, Deliveries, Tally};
pub use identify::{Ids, RequestId};
pub use journey::{Worker, serve_request};
pub use rescue::{Refusal, TABLE, Told, respond};
pub use server::{Drained, Listening, Server, ServerError};
pub use site::{NOTICE, Notice, Site};
pub use wire::{Reply, Wire};
