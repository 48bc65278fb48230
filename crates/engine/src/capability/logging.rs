//! `wasi:logging` 0.1.0-draft: lines with a level in the node's log.

use wasmtime::Result;

use crate::host::Called;

mod bindings {
    wasmtime::component::bindgen!({
        path: "wit/logging",
        world: "wasi:logging/imports",
        imports: { default: trappable },
    });
}

pub(super) use bindings::wasi::logging::logging;
use logging::Level;

/// The version of the package that is implemented.
pub(super) const VERSION: &str = "0.1.0-draft";
/// A context longer than this is cut.
const CONTEXT_BYTES_MAX: usize = 256;
/// A line longer than this is cut into several.
const LINE_BYTES_MAX: usize = 4 << 10;

impl logging::Host for Called<'_> {
    fn log(&mut self, level: Level, context: String, message: String) -> Result<()> {
        let context = &context[..context.floor_char_boundary(CONTEXT_BYTES_MAX)];
        let component = self.caller.name();
        let request_id = &*self.caller.request();
        let (tenant, app) = self.caller.tenant_and_app();
        // Line by line, as standard output: a guest must not write lines that look like the node's own.
        for mut line in message.split(['\n', '\r']).filter(|line| !line.is_empty()) {
            while !line.is_empty() {
                let (piece, rest) = line.split_at(line.floor_char_boundary(LINE_BYTES_MAX));
                line = rest;
                // The context is in each line.
                let asked = context.len() + piece.len();
                let part = |room: Option<usize>| {
                    let room = room.filter(|room| *room == asked || *room > context.len())?;
                    Some(&piece[..piece.floor_char_boundary(room - context.len())])
                };
                let Some(piece) = part(self.caller.keep_line(asked)) else { return Ok(()) };
                crate::crash::remember("log", piece);
                let Some(piece) = part(self.caller.log_line(context.len() + piece.len())) else { continue };
                macro_rules! emit {
                    ($level:ident, $name:literal) => {
                        tracing::$level!(
                            target: "tenon::guest", tenant, app, level = $name, context, component, request_id, "{piece}"
                        )
                    };
                }
                match level {
                    Level::Trace => emit!(trace, "trace"),
                    Level::Debug => emit!(debug, "debug"),
                    Level::Info => emit!(info, "info"),
                    Level::Warn => emit!(warn, "warn"),
                    Level::Error => emit!(error, "error"),
                    // The log's own levels end at `error`.
                    Level::Critical => emit!(error, "critical"),
                }
            }
        }
        Ok(())
    }
}
