//! The sandbox: compile a component, link what it was granted, run one request in a fresh instance.
//!
//! This is the only room that knows the WebAssembly engine. Its vocabulary for everybody else is small:
//! an [`Engine`] holds the pools, an [`Artifacts`] store holds compiled code, a [`Service`] is a component
//! that is ready to serve, and serving one request ends in a response or a [`Failure`].
//!
//! What is deliberately absent: no configuration files, no environment, no routing, no terminal. Nothing on the
//! request path compiles, reads a file or takes a lock that two requests share, apart from the pool's own, and when that
//! is full, the list of those who may make room.

mod account;
mod artifact;
mod aside;
pub mod call;
mod canonical;
mod capability;
mod crash;
mod crowd;
mod deliver;
mod engine;
mod failure;
mod functions;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod gateway;
mod host;
mod initialize;
mod link;
mod meter;
mod plain;
mod pool;
mod received;
mod respond;
mod reuse;
mod room;
mod running;
mod schedule;
mod service;
mod shape;
mod shares;
mod stop;
mod store;
mod tick;
mod transmit;
pub mod value;

/// What Rust types need to stand for those of a contract: derive them, or take the tuples and primitives that have
/// them already. The derives name the crate `wasmtime`, which therefore has to be a dependency of the same version.
pub mod typed {
    pub use wasmtime::component::{ComponentNamedList, ComponentType, Lift, Lower};
}

/// A future whose code is compiled here. An `async` function is compiled once more by every crate that waits for it, with all
/// that it waits for: of what runs guests that would be most of the engine.
pub type Running<'a, T> = std::pin::Pin<Box<dyn Future<Output = T> + Send + 'a>>;

pub use account::Account;
pub use artifact::{Artifacts, ArtifactsError, Origin, Stored};
pub use capability::Backends;
pub use capability::http::Roots;
pub use capability::stores::Stores;
pub use crash::{
    CrashField, CrashFolder, CrashFrame, CrashLine, CrashOutcome, CrashPolicy, CrashReport, CrashRequest,
    CrashSpan, CrashUse, CrashUsed, Crashes, CrashesError,
};
pub use deliver::Post;
pub use engine::{Engine, EngineError, Guard, Part, Source, Tuning};
pub use failure::{Failure, Limit, Place};
pub use functions::HostFunctions;
pub use gateway::{Description, ErrorCode, PROBLEMS};
pub use http::{Request, Response};
pub use initialize::initialize;
pub use link::Terms;
pub use pool::{PageScan, Pool, PoolReport};
pub use received::{Broken, Received, ReceivedError, Tap};
pub use respond::{Bill, Body, BodyError, Record, Recorder};
pub use room::{Claim, Claimed};
pub use schedule::{give_way, serve_promptly};
pub use service::{Incoming, Service, head_bytes};
pub use shape::{PlainHandler, Shape};
pub use shares::{ComponentUse, Shares};
pub use tick::Interrupts;
