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
        Lines {
            stream: self.stream,
            caller: Arc::clone(&self.caller),
            partial: Vec::new(),
            after_return: false,
        }
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
    /// Whether the byte before was a carriage return.
    after_return: bool,
}

impl Lines {
    /// Line by line. A carriage return ends one too: on a terminal, what follows it would take the place of what the node
    /// itself has written into the line.
    fn take(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while let Some(first) = rest.first() {
            if std::mem::take(&mut self.after_return) && *first == b'\n' {
                rest = &rest[1..];
                continue;
            }
            let room = LINE_BYTES_MAX.saturating_sub(self.partial.len());
            let end = rest.iter().take(room).position(|byte| matches!(byte, b'\n' | b'\r'));
            let (text, after) = rest.split_at(end.unwrap_or(room.min(rest.len())));
            self.partial.extend_from_slice(text);
            self.after_return = end.is_some() && after.first() == Some(&b'\r');
            rest = if end.is_some() { &after[1..] } else { after };
            let is_whole = end.is_some() || self.partial.len() >= LINE_BYTES_MAX;
            if is_whole && !self.emit() {
                // Nor is there room for what is behind it, however many lines that is.
                if !rest.is_empty() {
                    self.caller.drop_line(rest.len());
                }
                return;
            }
        }
    }

    /// Writes what there is of a line; `false` when there is no room for it.
    fn emit(&mut self) -> bool {
        let line = String::from_utf8_lossy(&self.partial);
        let line = line.trim_end();
        let kept = self.caller.keep_line(line.len());
        if let Some(kept) = kept {
            let line = &line[..line.floor_char_boundary(kept)];
            crate::crash::remember(self.stream, line);
            if let Some(logged) = self.caller.log_line(line.len()) {
                let line = &line[..line.floor_char_boundary(logged)];
                let component = self.caller.name();
                let request_id = &*self.caller.request();
                let (tenant, app) = self.caller.tenant_and_app();
                tracing::info!(target: "tenon::guest", tenant, app, stream = self.stream, component, request_id, "{line}");
            }
        }
        self.partial.clear();
        kept.is_some()
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

#[cfg(test)]
mod tests {
    use tenon_model::{Authority, Limits, OutsideLimits};

    use super::*;
    use crate::capability::{Backends, Principals};
    use crate::crash::{Trail, enter};

    /// The lines that are made of what is written in these pieces.
    fn lines(log_bytes: u64, pieces: &[&[u8]]) -> Vec<String> {
        let outside = OutsideLimits { log_bytes, ..OutsideLimits::default() };
        let whole = Authority { outside, ..Authority::default() };
        let principals = Principals::new("app", &whole, &Limits::default(), &Backends::default());
        let caller = Caller::new(Arc::new(principals), 0, "id".into());
        let trail = Arc::new(Trail::default());
        let mut slot = Some(Arc::clone(&trail));
        enter(&mut slot);
        let mut lines = Stdio::new("stdout", &caller).lines();
        pieces.iter().for_each(|piece| lines.take(piece));
        drop(lines);
        enter(&mut slot);
        trail.take_lines().into_iter().map(|line| line.text).collect()
    }

    #[test]
    fn every_end_of_a_line_ends_one() {
        let most = 1 << 20;
        assert_eq!(
            lines(most, &[b"one\ntwo\r\nthree\r", b"\nfo", b"ur\rfive"]),
            ["one", "two", "three", "four", "five"]
        );
        assert_eq!(lines(most, &[b"\n\n\r\r\n\nx"]), ["", "", "", "", "", "x"]);
        let long = vec![b'x'; 2 * LINE_BYTES_MAX + 1];
        assert_eq!(lines(most, &[&long]).len(), 3);
    }

    #[test]
    fn there_are_only_so_many_lines_however_short_they_are() {
        assert_eq!(lines(1 << 10, &[&[b'\n'; 100_000]]).len(), 8);
        assert_eq!(lines(1 << 10, &[&[b'x'; 100_000]]).len(), 1, "and no more of a long one");
    }
}
