//! The log's way to standard error. Requests write lines, and whoever reads standard error may stop to: so the lines pass
//! a bounded queue, and a thread of their own.

use std::fmt::Display;

use tenon_node::{LogLines, LogWriter};

use crate::error::CommandError;
use crate::terminal::Terminal;

/// The log of a command that serves. Dropping it waits, a few seconds at most, until its last lines are written.
pub(crate) struct Log {
    writer: LogWriter,
    lines: Option<LogLines>,
}

impl Log {
    /// Lines may be put into it, and wait.
    pub(crate) fn new() -> Self {
        let (writer, lines) = LogWriter::new();
        Self { writer, lines: Some(lines) }
    }

    /// Where lines are put.
    pub(crate) fn writer(&self) -> LogWriter {
        self.writer.clone()
    }

    /// Starts the thread that writes them: once the process has given up what its threads are not to have.
    pub(crate) fn begin(&mut self) -> Result<(), CommandError> {
        let Some(lines) = self.lines.take() else { return Ok(()) };
        lines
            .write_to(std::io::stderr())
            .map_err(|error| CommandError::ours("a thread could not be started", &error))
    }

    /// Says what is being done without waiting for whoever reads it.
    pub(crate) fn step(&self, terminal: &Terminal, subject: &str, what: impl Display) {
        terminal.step_into(&self.writer, subject, what);
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        if self.begin().is_ok() {
            self.writer.finish();
        }
    }
}
