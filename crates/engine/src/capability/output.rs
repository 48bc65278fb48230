//! A guest's standard output and error: each line becomes a line of the node's log.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

use super::Caller;

/// A line longer than this is cut into several.
const LINE_BYTES_MAX: usize = 4 << 10;

/// A standard stream of one component; its lines carry the component's name and the request's id.
pub(crate) struct Stdio {
    stream: &'static str,
    caller: Arc<Caller>,
}

impl Stdio {
    pub(crate) fn new(stream: &'static str, caller: &Arc<Caller>) -> Self {
        Self { stream, caller: Arc::clone(caller) }
    }

    fn lines(&self) -> Lines {
        Lines { stream: self.stream, caller: Arc::clone(&self.caller), partial: Vec::new() }
    }
}

impl IsTerminal for Stdio {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Stdio {
    fn async_stream(&self) -> Box<dyn tokio::io::AsyncWrite + Send + Sync> {
        Box::new(self.lines())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.lines())
    }
}

struct Lines {
    stream: &'static str,
    caller: Arc<Caller>,
    partial: Vec<u8>,
}

impl Lines {
    fn take(&mut self, bytes: &[u8]) {
        let kept = self.caller.take_log_bytes(bytes.len());
        for piece in bytes[..kept].split_inclusive(|byte| *byte == b'\n') {
            self.partial.extend_from_slice(piece);
            if piece.ends_with(b"\n") || self.partial.len() >= LINE_BYTES_MAX {
                self.emit();
            }
        }
    }

    fn emit(&mut self) {
        let line = String::from_utf8_lossy(&self.partial);
        let component = self.caller.name();
        let request_id = &*self.caller.request();
        crate::crash::remember(self.stream, line.trim_end());
        let (tenant, app) = self.caller.tenant_and_app();
        tracing::info!(target: "tenon::guest", tenant, app, stream = self.stream, component, request_id, "{}", line.trim_end());
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
        Ok(LINE_BYTES_MAX)
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
