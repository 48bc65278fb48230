//! `wasi:http` client: requests to the hosts that a component was granted.

use std::sync::Arc;

use wasmtime_wasi_http::{Error, RequestOptions, WasiBody};

use super::{Caller, Sent};

/// Whose signature on a server's certificate is believed.
#[derive(Debug, Default)]
pub enum Roots {
    /// Those that the system trusts.
    #[default]
    System,
}

/// Sends a request for a component.
pub(crate) async fn send(
    caller: Arc<Caller>,
    request: http::Request<WasiBody>,
    _options: RequestOptions,
) -> Result<Sent, Error> {
    caller.refused("wasi:http", &request.uri().to_string(), tenon_model::Capability::Http.example());
    Err(Error::HttpRequestDenied)
}
