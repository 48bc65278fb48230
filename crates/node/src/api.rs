//! The admin API: which endpoints there are, who may use them, and what they do.

mod authorize;
mod connection;
pub mod endpoints;
mod handle;
mod logs;
mod openapi;
mod page;
mod places;
mod rate;
mod server;
mod upload;

#[cfg(test)]
mod tests;

pub(crate) use server::AdminServer;
