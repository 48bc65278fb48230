//! `wasi:sockets`: whom a component may connect to, and where it may listen.

use std::sync::Arc;

use wasmtime_wasi::WasiCtx;
use wasmtime_wasi::sockets::WasiSocketsCtx;

use super::Caller;

/// Nothing, except what the component was granted.
pub(crate) fn context(_caller: &Arc<Caller>) -> WasiSocketsCtx {
    std::mem::take(
        WasiCtx::builder().allow_tcp(false).allow_udp(false).allow_ip_name_lookup(false).build().sockets(),
    )
}
