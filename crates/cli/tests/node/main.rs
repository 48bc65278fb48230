//! A node from outside: the `tenon` process, many tenants, real guests, real clients.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod accounting;
mod admin_bounds;
mod admin_tls;
mod audit;
mod authorization;
mod busy;
mod day;
mod deploy;
mod disk;
mod durable;
mod examples;
mod gateway;
mod http3;
mod idle;
mod isolation;
mod load;
mod manager;
mod marks;
mod memory;
mod messages;
mod page;
mod privileges;
mod quotas;
mod replace;
mod rest;
mod rollout;
mod routes;
mod shadow;
mod support;
mod swap;
mod telemetry;
mod tls;
mod units;
