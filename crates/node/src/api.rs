//! The admin API.

pub mod endpoints;
