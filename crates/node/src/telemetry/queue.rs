//! A queue of what goes out: bounded in number and in bytes. What does not fit is dropped and counted; whoever puts
//! something in never waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

/// Pieces that may wait in one queue.
const PIECES_MAX: usize = 16_384;
/// Bytes of them: far fewer pieces fit where a client asks for long paths, or a guest writes long lines.
pub(super) const BYTES_MAX: usize = 8 << 20;
/// How often it is looked whether all is written.
const LOOK: Duration = Duration::from_millis(5);

/// The end that pieces are put in.
#[derive(Debug)]
pub(super) struct Inlet {
    pieces: SyncSender<Vec<u8>>,
    shared: Arc<Shared>,
}

/// The end that one thread takes them out of.
#[derive(Debug)]
pub(super) struct Outlet {
    pieces: Receiver<Vec<u8>>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Bytes that were put in, and that nobody is done with.
    waiting_bytes: AtomicUsize,
    dropped: AtomicU64,
    /// Nobody takes anything out any more.
    ended: AtomicBool,
}

/// Nothing will be put in any more, and nothing is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ended;

/// A queue.
pub(super) fn queue() -> (Inlet, Outlet) {
    let (sender, receiver) = sync_channel(PIECES_MAX);
    let shared = Arc::<Shared>::default();
    (Inlet { pieces: sender, shared: Arc::clone(&shared) }, Outlet { pieces: receiver, shared })
}

impl Inlet {
    /// Puts a piece in, or drops it and counts that.
    pub(super) fn put(&self, piece: Vec<u8>) {
        let bytes = piece.len();
        let before = self.shared.waiting_bytes.fetch_add(bytes, Relaxed);
        if before.saturating_add(bytes) > BYTES_MAX || self.pieces.try_send(piece).is_err() {
            self.shared.waiting_bytes.fetch_sub(bytes, Relaxed);
            self.shared.dropped.fetch_add(1, Relaxed);
        }
    }

    /// Wakes whoever takes pieces out, with an empty one. A full queue needs no waking.
    pub(super) fn wake(&self) {
        let _ = self.pieces.try_send(Vec::new());
    }

    /// Pieces that were dropped, here or by whoever took them out.
    pub(super) fn dropped(&self) -> u64 {
        self.shared.dropped.load(Relaxed)
    }

    /// Waits until all that was put in is done with, so long at most; whether it is.
    pub(super) fn is_done_within(&self, wait: Duration) -> bool {
        let began = Instant::now();
        loop {
            if self.shared.waiting_bytes.load(Relaxed) == 0 {
                return true;
            }
            if self.shared.ended.load(Relaxed) || began.elapsed() >= wait {
                return false;
            }
            std::thread::sleep(LOOK);
        }
    }
}

impl Outlet {
    /// The next piece, as soon as there is one; `None` when none will come any more.
    pub(super) fn next(&self) -> Option<Vec<u8>> {
        self.pieces.recv().ok()
    }

    /// The next piece; `None` when none came in time.
    pub(super) fn next_within(&self, wait: Duration) -> Result<Option<Vec<u8>>, Ended> {
        match self.pieces.recv_timeout(wait) {
            Ok(piece) => Ok(Some(piece)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(Ended),
        }
    }

    /// Those that wait now.
    pub(super) fn waiting(&self) -> impl Iterator<Item = Vec<u8>> {
        self.pieces.try_iter()
    }

    /// A piece that was taken out is where it belongs: there is room for others.
    pub(super) fn done(&self, bytes: usize) {
        self.shared.waiting_bytes.fetch_sub(bytes, Relaxed);
    }

    /// Writes a piece as it is; one that cannot be written counts as dropped.
    pub(super) fn write(&self, piece: &[u8], to: &mut dyn std::io::Write) {
        if !piece.is_empty() && to.write_all(piece).and_then(|()| to.flush()).is_err() {
            self.shared.dropped.fetch_add(1, Relaxed);
        }
        self.done(piece.len());
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        self.shared.ended.store(true, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_dropped_and_counted() {
        let (inlet, outlet) = queue();
        for _ in 0..PIECES_MAX + 3 {
            inlet.put(vec![1]);
        }
        assert_eq!(inlet.dropped(), 3);
        assert_eq!(outlet.waiting().map(|piece| outlet.done(piece.len())).count(), PIECES_MAX);
        // However few pieces they are.
        for _ in 0..5 {
            inlet.put(vec![0; BYTES_MAX / 4]);
        }
        assert_eq!(inlet.dropped(), 4);
        let taken = outlet.next().unwrap();
        inlet.put(vec![1]);
        assert_eq!(inlet.dropped(), 5, "what is being written has not gone yet");
        outlet.done(taken.len());
        inlet.put(vec![1]);
        assert_eq!(inlet.dropped(), 5);
    }

    #[test]
    fn it_is_waited_for_what_was_put_in_and_not_for_ever() {
        let (inlet, outlet) = queue();
        assert!(inlet.is_done_within(Duration::ZERO), "nothing was");
        inlet.put(b"a line\n".to_vec());
        assert!(!inlet.is_done_within(LOOK));
        let writer = std::thread::spawn(move || {
            let mut written = Vec::new();
            let piece = outlet.next().unwrap();
            outlet.write(&piece, &mut written);
            (written, outlet)
        });
        assert!(inlet.is_done_within(Duration::from_secs(60)));
        let (written, outlet) = writer.join().unwrap();
        assert_eq!(written, b"a line\n");
        inlet.put(vec![1]);
        drop(outlet);
        assert!(!inlet.is_done_within(Duration::from_secs(60)), "nobody takes anything out any more");
        inlet.put(vec![1]);
        assert_eq!(inlet.dropped(), 1);
    }
}
