//! Uploads: what is there is not sent again, and what broke off goes on where it was.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, StatusCode};
use tenon_model::{Diagnostic, Digest, format_bytes};
use tenon_node::wire::{UPLOAD_LENGTH, UPLOAD_OFFSET};

use super::{Admin, Answer};
use crate::error::CommandError;
use crate::terminal::Terminal;

/// What is sent in one request: little is lost when a connection breaks.
const CHUNK_BYTES: usize = 8 << 20;
/// How often it is begun again before it is given up.
const BREAKS_MAX: u32 = 5;
/// How often it is looked whether whoever uploads the same is done, and for how long: as long as a client that has vanished
/// can hold it up, and then some.
const BUSY_LOOK: Duration = Duration::from_millis(500);
const BUSY_MAX: Duration = Duration::from_secs(600);

/// What is said where somebody else uploads the same, or has got further meanwhile.
const OF_ANOTHER: [&str; 2] = ["upload-busy", "upload-offset"];

impl Admin {
    /// Makes sure that the node has these bytes, and says under which digest.
    pub(crate) fn upload(&self, bytes: &Bytes, terminal: &Terminal) -> Result<Digest, CommandError> {
        let digest = Digest::of(bytes);
        let path = format!("/v1/blobs/{digest}");
        let began = Instant::now();
        let (mut breaks, mut is_waiting) = (0, false);
        loop {
            // Each time the node is asked how far it got.
            let why = match self.advance(&path, bytes, terminal) {
                Ok(true) => return Ok(digest),
                Ok(false) => "the node has not all of it",
                Err(error) if error.is_any(&OF_ANOTHER) && began.elapsed() < BUSY_MAX => {
                    if !std::mem::replace(&mut is_waiting, true) {
                        terminal.step("waiting", "the same is being uploaded by somebody else");
                    }
                    std::thread::sleep(BUSY_LOOK);
                    continue;
                }
                Err(error) if error.is_any(&["node-connection"]) && breaks < BREAKS_MAX => {
                    "the connection broke"
                }
                // What an earlier upload left was damaged, and the node has thrown it away.
                Err(error) if error.is_any(&["upload-digest"]) && breaks < BREAKS_MAX => {
                    "what was there of it was damaged"
                }
                Err(error) => return Err(error),
            };
            if breaks == BREAKS_MAX {
                return Err(incomplete().into());
            }
            breaks += 1;
            terminal.step("again", why);
        }
    }

    /// Asks how much is there and sends the next piece; says whether all of it is there.
    fn advance(&self, path: &str, bytes: &Bytes, terminal: &Terminal) -> Result<bool, CommandError> {
        let there = self.exchange(Method::HEAD, path, Bytes::new(), &[])?;
        let mut offset = match there.status {
            StatusCode::NOT_FOUND => offset(&there).unwrap_or(0).min(bytes.len()),
            _ => return self.accepted(path, there).map(|_| true),
        };
        // Where all bytes are there and the node has not accepted them (it was killed between the two), a piece without
        // bytes asks it to.
        loop {
            let piece = bytes.slice(offset..bytes.len().min(offset + CHUNK_BYTES));
            let sent = piece.len();
            let headers = [
                ("content-type", "application/octet-stream".to_owned()),
                (UPLOAD_OFFSET, offset.to_string()),
                (UPLOAD_LENGTH, bytes.len().to_string()),
            ];
            let answer = self.exchange(Method::PATCH, path, piece, &headers)?;
            let answer = self.accepted(path, answer)?;
            offset = self::offset(&answer).unwrap_or(offset + sent);
            let total = format_bytes(bytes.len() as u64);
            terminal.step("uploaded", format_args!("{} of {total}", format_bytes(offset as u64)));
            if offset >= bytes.len() {
                break;
            }
        }
        // Told by the node, and not by what was sent.
        Ok(self.exchange(Method::HEAD, path, Bytes::new(), &[])?.status.is_success())
    }
}

fn offset(answer: &Answer) -> Option<usize> {
    answer.headers.get(UPLOAD_OFFSET)?.to_str().ok()?.parse().ok()
}

fn incomplete() -> Diagnostic {
    Diagnostic::new("not-uploaded", "the node took all bytes of the component, and has not all of them")
        .mend("look into the node's log; then deploy again")
}
