//! What an app keeps between two requests: keys and values, objects, messages.
//!
//! [`Embedded`] keeps all three in the node's own data directory; [`Redis`] keeps keys and values in a Redis server.
//! Both implement the traits of [`tenon_model::store`], and one suite of tests holds for both. No other room knows a
//! database.
//!
//! [`Desired`] is the other half: what a node is to serve, and who said so; [`BlobFolder`] has the components.

pub mod desired;
mod embedded;
mod redis;

pub use desired::{BlobFolder, Desired};
pub use embedded::{Embedded, Quota};
pub use redis::{InvalidRedisUrl, Redis};
