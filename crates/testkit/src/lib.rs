//! What the tests of every other room stand on: guests built from source, the `tenon` process, an HTTP client.
//!
//! Nothing outside tests depends on this room. It knows no other room either: it drives `tenon` from the
//! outside and gives engine tests components to run.
//!
//! A fixture that cannot be set up is a failed test, so these functions panic with the reason instead of
//! returning errors nobody could handle.

pub mod client;
pub mod differential;
pub mod fixtures;
mod guests;
pub mod http3;
pub mod peer;
mod process;
mod redis;
pub mod tls;
mod wait;

pub use guests::Guests;
pub use process::{DEADLINE, Finished, Serve, Serving, Tenon, Watched};
pub use redis::RedisServer;
pub use wait::until;

use std::path::Path;

/// The folder of the repository.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("this crate lies two folders deep")
}
