//! What one request's guest can reach: its own resource table, inert WASI, and nothing else.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll};

use bytes::Bytes;
use tenon_model::Limits;
use wasmtime::component::ResourceTable;
use wasmtime::{ResourceLimiter, Result};
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{
    Error as HttpError, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView,
};

use crate::meter::Meter;

/// Resources (streams, bodies, header maps, pollables) one request may hold at once.
const RESOURCES_MAX: usize = 2_000;
/// Elements all tables of one request may hold together.
const TABLE_ELEMENTS_MAX: usize = 200_000;
/// Core instances, memories and tables one request may create: more than any pooled component can have.
const CORE_ITEMS_MAX: usize = 1_000;
/// Random bytes one call may ask for.
const RANDOM_BYTES_MAX: u64 = 1 << 20;
/// Bytes one set of header fields may take in memory, as the engine counts them.
const FIELDS_BYTES_MAX: usize = 48 << 10;
/// Bytes of a response body that the host takes from the guest in one write.
const BODY_CHUNK_BYTES: usize = 64 << 10;
/// Bytes of standard output and error that one request may put into the log; the rest is dropped and counted.
const STDIO_BYTES_MAX: usize = 16 << 10;
/// A line longer than this is cut into several.
const STDIO_LINE_BYTES_MAX: usize = 4 << 10;

/// The data of one request's store.
pub(crate) struct Host {
    pub(crate) table: ResourceTable,
    /// Made when the guest first asks for it: a handler that touches no WASI does not pay for random seeds.
    wasi: Option<WasiCtx>,
    http: WasiHttpCtx,
    hooks: Hooks,
    pub(crate) allowance: Allowance,
    output: Arc<Output>,
}

impl Host {
    pub(crate) fn new(limits: &Limits, meter: Arc<Meter>, request: Arc<str>) -> Self {
        let mut table = ResourceTable::new();
        table.set_max_capacity(RESOURCES_MAX);
        let mut http = WasiHttpCtx::new();
        http.set_field_size_limit(FIELDS_BYTES_MAX);
        Self {
            table,
            wasi: None,
            http,
            hooks: Hooks,
            allowance: Allowance {
                memory_bytes_max: limits.memory_bytes,
                memory_bytes: 0,
                table_elements: 0,
                meter,
            },
            output: Arc::new(Output { request, left: STDIO_BYTES_MAX.into(), dropped: 0.into() }),
        }
    }
}

fn inert_wasi(output: &Arc<Output>) -> WasiCtx {
    let mut builder = WasiCtx::builder();
    builder
        .stdout(Stdio { stream: "stdout", output: Arc::clone(output) })
        .stderr(Stdio { stream: "stderr", output: Arc::clone(output) })
        .max_random_size(RANDOM_BYTES_MAX)
        .allow_tcp(false)
        .allow_udp(false)
        .allow_ip_name_lookup(false);
    builder.build()
}

impl WasiView for Host {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: self.wasi.get_or_insert_with(|| inert_wasi(&self.output)), table: &mut self.table }
    }
}

impl WasiHttpView for Host {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { ctx: &mut self.http, table: &mut self.table, hooks: &mut self.hooks }
    }
}

/// HTTP without the client side: the interface that sends requests is not linked, and if it were, it would refuse.
struct Hooks;

type Sent = (http::Response<WasiBody>, Box<dyn Future<Output = Result<(), HttpError>> + Send>);

impl WasiHttpHooks for Hooks {
    fn send_request(
        &mut self,
        _request: http::Request<WasiBody>,
        _options: Option<RequestOptions>,
        _sent: Box<dyn Future<Output = Result<(), HttpError>> + Send>,
    ) -> Box<dyn Future<Output = Result<Sent, HttpError>> + Send> {
        Box::new(std::future::ready(Err(HttpError::HttpRequestDenied)))
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        BODY_CHUNK_BYTES
    }

    fn p3_outgoing_body_chunk_size(&mut self) -> usize {
        BODY_CHUNK_BYTES
    }
}

/// What is left of a request's memory.
pub(crate) struct Allowance {
    memory_bytes_max: u64,
    memory_bytes: u64,
    table_elements: usize,
    meter: Arc<Meter>,
}

impl Allowance {
    /// Goes on under another meter, with the memory that is in use already.
    pub(crate) fn renew(&mut self, meter: Arc<Meter>) {
        meter.memory_used(self.memory_bytes);
        self.meter = meter;
    }
}

impl ResourceLimiter for Allowance {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            // Past what the guest itself declared: it fails, and costs it nothing.
            return Ok(false);
        }
        let asked = self.memory_bytes.saturating_add(desired.saturating_sub(current) as u64);
        if asked > self.memory_bytes_max {
            self.meter.memory_denied(asked);
            return Ok(false);
        }
        self.memory_bytes = asked;
        self.meter.memory_used(asked);
        // A guest that was refused and then made do with less did not run out of memory.
        self.meter.memory_denied(0);
        Ok(true)
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        let asked = self.table_elements.saturating_add(desired.saturating_sub(current));
        if asked > TABLE_ELEMENTS_MAX {
            return Ok(false);
        }
        self.table_elements = asked;
        Ok(true)
    }

    fn instances(&self) -> usize {
        CORE_ITEMS_MAX
    }

    fn tables(&self) -> usize {
        CORE_ITEMS_MAX
    }

    fn memories(&self) -> usize {
        CORE_ITEMS_MAX
    }
}

/// What all of one request's output streams share.
struct Output {
    request: Arc<str>,
    /// Bytes the request may still log.
    left: AtomicUsize,
    dropped: AtomicUsize,
}

impl Drop for Output {
    fn drop(&mut self) {
        let dropped = self.dropped.load(Relaxed);
        if dropped > 0 {
            tracing::warn!(
                target: "tenon::guest",
                request_id = &*self.request,
                limit = STDIO_BYTES_MAX,
                dropped,
                "the guest wrote more than a request may log"
            );
        }
    }
}

/// A guest's standard output or error: each line becomes a line of the node's log that carries the request's id.
struct Stdio {
    stream: &'static str,
    output: Arc<Output>,
}

impl IsTerminal for Stdio {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Stdio {
    fn async_stream(&self) -> Box<dyn tokio::io::AsyncWrite + Send + Sync> {
        Box::new(Lines::new(self.stream, Arc::clone(&self.output)))
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(Lines::new(self.stream, Arc::clone(&self.output)))
    }
}

struct Lines {
    stream: &'static str,
    output: Arc<Output>,
    partial: Vec<u8>,
}

impl Lines {
    fn new(stream: &'static str, output: Arc<Output>) -> Self {
        Self { stream, output, partial: Vec::new() }
    }

    fn take(&mut self, bytes: &[u8]) {
        let spend = |left: usize| Some(left.saturating_sub(bytes.len()));
        let left = self.output.left.fetch_update(Relaxed, Relaxed, spend).unwrap_or(0);
        let kept = bytes.len().min(left);
        self.output.dropped.fetch_add(bytes.len() - kept, Relaxed);
        for piece in bytes[..kept].split_inclusive(|byte| *byte == b'\n') {
            self.partial.extend_from_slice(piece);
            if piece.ends_with(b"\n") || self.partial.len() >= STDIO_LINE_BYTES_MAX {
                self.emit();
            }
        }
    }

    fn emit(&mut self) {
        let line = String::from_utf8_lossy(&self.partial);
        let request_id = &*self.output.request;
        tracing::info!(target: "tenon::guest", stream = self.stream, request_id, "{}", line.trim_end());
        self.partial.clear();
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        if !self.partial.is_empty() {
            self.emit();
        }
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Lines {
    async fn ready(&mut self) {}
}

impl OutputStream for Lines {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.take(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(STDIO_LINE_BYTES_MAX)
    }
}

impl tokio::io::AsyncWrite for Lines {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.take(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
