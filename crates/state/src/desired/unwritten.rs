//! A database whose file is only read: what is written to it stays in memory. So a file that cannot be written, or that may be
//! damaged, is looked at as it is, also where it has to be recovered after a crash.

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::io;
use std::ops::Bound;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use redb::{BackendError, StorageBackend};

/// Bytes that are kept together.
const PIECE_BYTES: usize = 4 << 10;
/// Pieces that are kept: 256 MiB. What is written is what a recovery and a new version of the tables need.
const PIECES_MAX: usize = 64 << 10;

/// The file, and what would have been written to it.
#[derive(Debug)]
pub(super) struct Unwritten {
    file: File,
    kept: Mutex<Kept>,
}

#[derive(Debug)]
struct Kept {
    length: u64,
    /// Of the file, so many bytes count: it was made shorter, and then perhaps longer again.
    of_file: u64,
    /// By their number.
    pieces: BTreeMap<u64, Box<[u8; PIECE_BYTES]>>,
}

impl Unwritten {
    /// # Errors
    /// When the file cannot be read, or is empty: that is no database, and none is to be made of it.
    pub(super) fn open(file: &Path) -> io::Result<Self> {
        let file = File::open(file)?;
        let length = file.metadata()?.len();
        if length == 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it is empty"));
        }
        let kept = Kept { length, of_file: length, pieces: BTreeMap::new() };
        Ok(Self { file, kept: Mutex::new(kept) })
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    /// Reads the file from `offset` on; what does not count of it is zero.
    fn read_file(&self, file: &File, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let there = usize::try_from(self.of_file.saturating_sub(offset)).unwrap_or(usize::MAX);
        let (of_file, beyond) = out.split_at_mut(there.min(out.len()));
        beyond.fill(0);
        file.read_exact_at(of_file, offset)
    }

    fn check(&self, offset: u64, bytes: usize) -> io::Result<()> {
        match offset.checked_add(bytes as u64) {
            Some(end) if end <= self.length => Ok(()),
            _ => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "beyond the end of the file")),
        }
    }
}

/// Where a range lies: for each piece its number, the first byte in it, and how many.
fn pieces(mut offset: u64, bytes: usize) -> impl Iterator<Item = (u64, usize, usize)> {
    let mut left = bytes;
    std::iter::from_fn(move || {
        if left == 0 {
            return None;
        }
        let (number, first) = (offset / PIECE_BYTES as u64, (offset % PIECE_BYTES as u64) as usize);
        let length = left.min(PIECE_BYTES - first);
        offset += length as u64;
        left -= length;
        Some((number, first, length))
    })
}

impl StorageBackend for Unwritten {
    fn len(&self) -> Result<u64, io::Error> {
        Ok(self.lock().length)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        let kept = self.lock();
        kept.check(offset, out.len())?;
        let mut rest = out;
        for (number, first, length) in pieces(offset, rest.len()) {
            let (out, after) = rest.split_at_mut(length);
            rest = after;
            match kept.pieces.get(&number) {
                Some(piece) => out.copy_from_slice(&piece[first..first + length]),
                None => kept.read_file(&self.file, number * PIECE_BYTES as u64 + first as u64, out)?,
            }
        }
        Ok(())
    }

    fn set_len(&self, length: u64) -> Result<(), io::Error> {
        let mut kept = self.lock();
        if length < kept.length {
            kept.of_file = kept.of_file.min(length);
            // What comes back when it is made longer again is zero.
            let (last, end) = (length / PIECE_BYTES as u64, (length % PIECE_BYTES as u64) as usize);
            kept.pieces.retain(|number, _| *number <= last);
            if let Some(piece) = kept.pieces.get_mut(&last) {
                piece[end..].fill(0);
            }
        }
        kept.length = length;
        Ok(())
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        let mut kept = self.lock();
        kept.check(offset, data.len())?;
        let mut rest = data;
        for (number, first, length) in pieces(offset, data.len()) {
            let (data, after) = rest.split_at(length);
            rest = after;
            if !kept.pieces.contains_key(&number) {
                if kept.pieces.len() >= PIECES_MAX {
                    return Err(io::Error::other("more would be written than is kept in memory"));
                }
                let mut piece = Box::new([0; PIECE_BYTES]);
                kept.read_file(&self.file, number * PIECE_BYTES as u64, &mut piece[..])?;
                kept.pieces.insert(number, piece);
            }
            if let Some(piece) = kept.pieces.get_mut(&number) {
                piece[first..first + length].copy_from_slice(data);
            }
        }
        Ok(())
    }

    /// Of the whole file, and shared: whoever may write has it alone.
    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        if !is_whole(start, end) {
            return Err(BackendError::Unsupported);
        }
        match self.file.try_lock_shared() {
            Ok(()) => Ok(true),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(error)) => Err(error.into()),
        }
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        if !is_whole(start, end) {
            return Err(BackendError::Unsupported);
        }
        self.file.unlock().map_err(BackendError::from)
    }

    fn close(&self) -> Result<(), io::Error> {
        self.file.unlock()
    }
}

fn is_whole(start: Bound<u64>, end: Bound<u64>) -> bool {
    matches!(start, Bound::Unbounded | Bound::Included(0)) && end == Bound::Unbounded
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// What a file would be like if the same were done to it.
    #[test]
    fn it_reads_like_a_file_that_was_written_and_the_file_stays() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("file");
        let before: Vec<u8> = (0..20_000_u32).map(|at| (at % 251) as u8).collect();
        fs::write(&place, &before).unwrap();
        let unwritten = Unwritten::open(&place).unwrap();
        let mut model = before.clone();
        // A fixed sequence: the same in every run.
        let mut random = 7_u64;
        let mut draw = |below: usize| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) as usize % below
        };
        for round in 0..500 {
            if round % 10 == 0 {
                let length = 1 + draw(40_000);
                model.resize(length, 0);
                unwritten.set_len(length as u64).unwrap();
            }
            let at = draw(model.len());
            let bytes = draw(model.len() - at + 1).min(9_000);
            if round % 3 == 0 {
                let data = vec![round as u8; bytes];
                model[at..at + bytes].copy_from_slice(&data);
                unwritten.write(at as u64, &data).unwrap();
            }
            let mut out = vec![0; bytes];
            unwritten.read(at as u64, &mut out).unwrap();
            assert!(out == model[at..at + bytes], "round {round}");
            assert_eq!(unwritten.len().unwrap(), model.len() as u64);
        }
        assert!(unwritten.read(model.len() as u64, &mut [0]).is_err());
        assert!(unwritten.write(model.len() as u64, &[0]).is_err());
        assert_eq!(fs::read(&place).unwrap(), before);
        fs::write(&place, []).unwrap();
        assert_eq!(Unwritten::open(&place).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
