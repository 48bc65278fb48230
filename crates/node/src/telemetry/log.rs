//! The way of the log's lines to where they are written. Requests write lines (what a guest says, why one failed), and
//! must not wait for whoever reads them.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

use super::queue::{Inlet, Outlet, queue};

/// How long the last lines may take to be written.
const LAST_LINES_WAIT: Duration = Duration::from_secs(5);

/// Where the log puts its lines: into a bounded queue that drops and counts.
#[derive(Clone, Debug)]
pub struct LogWriter(Arc<Inlet>);

/// The lines on their way. They wait until it is said where they are written.
#[derive(Debug)]
pub struct LogLines(Outlet);

impl LogWriter {
    /// A queue of lines, and its other end.
    pub fn new() -> (Self, LogLines) {
        let (inlet, outlet) = queue();
        (Self(Arc::new(inlet)), LogLines(outlet))
    }

    /// Lines that were not written.
    pub fn dropped(&self) -> u64 {
        self.0.dropped()
    }

    /// Waits until all lines are written; where nobody takes them, a few seconds. Whether they are.
    pub fn finish(&self) -> bool {
        self.0.is_done_within(LAST_LINES_WAIT)
    }
}

impl LogLines {
    /// Writes them there, from a thread of its own.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn write_to(self, mut to: impl Write + Send + 'static) -> io::Result<()> {
        let Self(lines) = self;
        let writer = std::thread::Builder::new().name("tenon-log".into());
        let written = writer.spawn(move || {
            while let Some(line) = lines.next() {
                lines.write(&line, &mut to);
            }
        });
        written.map(drop)
    }
}

/// Each write is a whole line, or several.
impl Write for &LogWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if !line.is_empty() {
            self.0.put(line.to_vec());
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LogWriter {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::super::queue::BYTES_MAX;
    use super::*;

    /// Whoever reads it takes nothing until they are told to.
    struct Stalled {
        go_on: Receiver<()>,
        written: Sender<Vec<u8>>,
    }

    impl Write for Stalled {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.go_on.recv();
            let _ = self.written.send(bytes.to_vec());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_log_that_nobody_reads_drops_lines_and_has_nobody_wait() {
        let (go_on, stalled) = channel();
        let (written, lines) = channel();
        let (writer, queued) = LogWriter::new();
        let log = tracing_subscriber::fmt().with_writer(writer.clone()).with_ansi(false).finish();
        let long = "x".repeat(BYTES_MAX / 8);
        tracing::subscriber::with_default(log, || {
            tracing::info!("the first");
            queued.write_to(Stalled { go_on: stalled, written }).unwrap();
            for _ in 0..10 {
                tracing::info!("{long}");
            }
        });
        assert!(writer.dropped() >= 3, "{}", writer.dropped());
        // From here on somebody reads.
        drop(go_on);
        assert!(writer.finish());
        let first = lines.recv().unwrap();
        assert!(first.ends_with(b"the first\n"), "a whole line at once");
        assert_eq!(lines.try_iter().count() as u64 + writer.dropped(), 10);
    }
}
