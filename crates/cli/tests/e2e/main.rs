//! Tenon from the outside: the `tenon` process, real guests, a real HTTP client.
//!
//! One binary, one module a concern, so that the tests link once.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod artifacts;
mod authority;
mod calls;
mod componentize;
mod compositions;
mod conformance;
mod contracts;
mod crashes;
mod dev;
mod differential;
mod drafts;
mod failures;
mod fresh;
mod granted;
mod http;
mod input;
mod kinds;
mod limits;
mod messages;
mod optimized;
mod parts;
mod reach;
mod reuse;
mod stop;
mod stores;
mod support;
mod testing;
mod typed;
