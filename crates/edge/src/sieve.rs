//! What passes of the frames of HTTP/3, before anything keeps them.
//!
//! The layer above holds a frame that is not data in memory until all of it has come, however long it says that it is, and
//! takes one piece of data while it reads two. So here frames that are too long end their stream, frames that mean nothing
//! are dropped, and each piece of data gets a frame of its own, so that what is read of a stream is what is asked for.

use std::collections::VecDeque;

use bytes::{BufMut, Bytes, BytesMut};

/// Frames that say something about the connection: no list of settings is longer.
const CONTROL_BYTES_MAX: u64 = 4 << 10;
/// The type of a frame and its length, both as long as they can be.
const FRAME_HEAD_BYTES_MAX: usize = 16;
/// The type of a stream that carries frames about the connection.
const CONTROL_STREAM: u64 = 0x00;

const DATA: u64 = 0x00;
const HEADERS: u64 = 0x01;
/// Frames that may not stand where a request stands, or may not be sent at all: what is wrong is for the layer above to say.
const KNOWN: [u64; 9] = [0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0d];
/// The beginning of a frame that does not go on. A stream that ends within a frame ends with it, or the layer above would
/// take what came so far for the whole.
const CUT_OFF: &[u8] = &[0x01, 0x01];

/// A frame is longer than it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooLong;

/// Where in its frames a stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// Before the type of a stream in one direction.
    Type,
    /// Before a frame, or in its head.
    Head,
    /// In a frame's content, with so much to come.
    Content { is: Content, left: u64 },
    /// Where nothing is looked at.
    Raw,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    Data,
    Whole,
    Dropped,
}

/// One stream.
#[derive(Debug)]
pub(crate) struct Sieve {
    at: At,
    headers_bytes_max: u64,
    /// Of a head that has not come as a whole.
    head: BytesMut,
    out: VecDeque<Bytes>,
    has_ended: bool,
}

impl Sieve {
    /// A stream with a request, whose header fields have at most so many bytes as they are sent.
    pub(crate) fn request(headers_bytes_max: u64) -> Self {
        Self::new(At::Head, headers_bytes_max)
    }

    /// A stream in one direction.
    pub(crate) fn one_way() -> Self {
        Self::new(At::Type, CONTROL_BYTES_MAX)
    }

    fn new(at: At, headers_bytes_max: u64) -> Self {
        Self { at, headers_bytes_max, head: BytesMut::new(), out: VecDeque::new(), has_ended: false }
    }

    /// The next piece that has passed.
    pub(crate) fn next(&mut self) -> Option<Bytes> {
        self.out.pop_front()
    }

    /// Whether the stream's end was put in.
    pub(crate) fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// The stream has ended.
    pub(crate) fn end(&mut self) {
        let is_whole = match self.at {
            At::Head => self.head.is_empty(),
            // Of a frame that is kept, the layer above has the beginning.
            At::Content { is: Content::Whole, .. } | At::Type | At::Raw => true,
            At::Content { .. } => false,
        };
        if !is_whole && !self.has_ended {
            self.out.push_back(Bytes::from_static(CUT_OFF));
        }
        self.has_ended = true;
    }

    /// Puts in what has come.
    pub(crate) fn put(&mut self, mut piece: Bytes) -> Result<(), TooLong> {
        while !piece.is_empty() {
            match self.at {
                At::Raw => self.out.push_back(std::mem::take(&mut piece)),
                At::Type => {
                    self.head.put_u8(piece.split_to(1)[0]);
                    if let Some((kind, _)) = number(&self.head) {
                        self.out.push_back(self.head.split().freeze());
                        self.at = if kind == CONTROL_STREAM { At::Head } else { At::Raw };
                    }
                }
                At::Head => {
                    self.head.put_u8(piece.split_to(1)[0]);
                    self.look_at_head()?;
                }
                At::Content { is, left } => {
                    let length = usize::try_from(left).unwrap_or(usize::MAX).min(piece.len());
                    let part = piece.split_to(length);
                    let left = left - length as u64;
                    match is {
                        Content::Data => {
                            self.out.push_back(data_head(length));
                            self.out.push_back(part);
                        }
                        Content::Whole => self.out.push_back(part),
                        Content::Dropped => {}
                    }
                    self.at = if left == 0 { At::Head } else { At::Content { is, left } };
                }
            }
        }
        Ok(())
    }

    /// Goes on to a frame's content, once its type and length are there.
    fn look_at_head(&mut self) -> Result<(), TooLong> {
        let Some((kind, first)) = number(&self.head) else { return Ok(()) };
        let Some((left, _)) = number(&self.head[first..]) else { return Ok(()) };
        let is = match kind {
            DATA => Content::Data,
            HEADERS if left > self.headers_bytes_max => return Err(TooLong),
            HEADERS => Content::Whole,
            _ if !KNOWN.contains(&kind) => Content::Dropped,
            _ if left > CONTROL_BYTES_MAX => return Err(TooLong),
            _ => Content::Whole,
        };
        if is == Content::Whole {
            self.out.push_back(self.head.split().freeze());
        } else {
            self.head.clear();
        }
        self.at = if left == 0 { At::Head } else { At::Content { is, left } };
        Ok(())
    }
}

/// The head of a frame of data.
fn data_head(length: usize) -> Bytes {
    let mut head = BytesMut::with_capacity(FRAME_HEAD_BYTES_MAX);
    head.put_u8(0);
    // A length of eight bytes: the two highest bits say so (RFC 9000, section 16).
    head.put_u64(0b11 << 62 | length as u64);
    head.freeze()
}

/// A number of variable length (RFC 9000, section 16), and how many bytes it has; `None` when they are not all there.
fn number(bytes: &[u8]) -> Option<(u64, usize)> {
    let first = *bytes.first()?;
    let length = 1 << (first >> 6);
    let all = bytes.get(..length)?;
    let high = u64::from(first & 0b0011_1111);
    Some((all[1..].iter().fold(high, |sum, byte| sum << 8 | u64::from(*byte)), length))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All that passes, put in in pieces of so many bytes.
    fn passed(mut sieve: Sieve, bytes: &[u8], piece: usize) -> Result<Vec<u8>, TooLong> {
        let mut out = Vec::new();
        for part in bytes.chunks(piece) {
            sieve.put(Bytes::copy_from_slice(part))?;
            while let Some(passed) = sieve.next() {
                out.extend_from_slice(&passed);
            }
        }
        sieve.end();
        while let Some(passed) = sieve.next() {
            out.extend_from_slice(&passed);
        }
        Ok(out)
    }

    fn data(bytes: &[u8]) -> Vec<u8> {
        [&data_head(bytes.len()), bytes].concat()
    }

    #[test]
    fn headers_pass_and_data_comes_in_frames_of_its_own() {
        let frames =
            [&[0x01, 3][..], b"abc", &[0x00, 0], &[0x40, 0x00, 4], b"wxyz", &[0x01, 1], b"t"].concat();
        let whole = [&[0x01, 3][..], b"abc", &data(b"wxyz"), &[0x01, 1], b"t"].concat();
        assert_eq!(passed(Sieve::request(3), &frames, 64), Ok(whole));
        let bytewise = [&[0x01, 3][..], b"abc", &data(b"w"), &data(b"x"), &data(b"y"), &data(b"z")].concat();
        let bytewise = [&bytewise, &[0x01, 1][..], b"t"].concat();
        assert_eq!(passed(Sieve::request(3), &frames, 1), Ok(bytewise));
    }

    #[test]
    fn what_means_nothing_is_dropped_however_long_it_is() {
        // 0x21 is reserved to mean nothing (RFC 9114, section 7.2.8).
        let frames = [&[0x21, 0x80, 0, 0x10, 0][..], &[7; 4_096], &[0x01, 1], b"h"].concat();
        for piece in [1, 100, 10_000] {
            assert_eq!(passed(Sieve::request(8), &frames, piece), Ok([0x01, 1, b'h'].to_vec()), "{piece}");
        }
    }

    #[test]
    fn a_frame_that_would_have_to_be_kept_has_a_bound() {
        assert_eq!(passed(Sieve::request(8), &[0x01, 9], 1), Err(TooLong));
        let huge = [0x04, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
        assert_eq!(passed(Sieve::request(8), &huge, 9), Err(TooLong));
        assert_eq!(passed(Sieve::one_way(), &[&[0x00][..], &huge].concat(), 2), Err(TooLong));
        let settings = [0x00, 0x04, 2, 0x06, 0x01];
        assert_eq!(passed(Sieve::one_way(), &settings, 1), Ok(settings.to_vec()));
        let encoder = [0x02, 0x3f, 0xff, 0xff, 0xff];
        assert_eq!(passed(Sieve::one_way(), &encoder, 2), Ok(encoder.to_vec()), "it is not made of frames");
    }

    #[test]
    fn an_end_within_a_frame_is_not_taken_for_the_end() {
        let cut = |frames: &[u8]| passed(Sieve::request(8), frames, 3).unwrap().ends_with(CUT_OFF);
        assert!(cut(&[0x00, 3, b'a']) && cut(&[0x00]) && cut(&[0x21, 2]));
        assert_eq!(passed(Sieve::request(8), &[0x01, 2, b'h'], 1), Ok([0x01, 2, b'h'].to_vec()));
        assert!(!cut(&[0x00, 1, b'a']) && !cut(&[]));
    }

    /// What the layer above makes of it: each frame that is kept, and all data between two of them together.
    fn frames(mut bytes: &[u8]) -> Vec<(u64, Vec<u8>)> {
        let mut frames: Vec<(u64, Vec<u8>)> = Vec::new();
        while let Some((kind, first)) = number(bytes)
            && let Some((length, second)) = number(&bytes[first..])
        {
            let content = &bytes[first + second..];
            let content = &content[..content.len().min(usize::try_from(length).unwrap_or(usize::MAX))];
            match frames.last_mut() {
                Some((DATA, data)) if kind == DATA => data.extend_from_slice(content),
                _ => frames.push((kind, content.to_vec())),
            }
            bytes = &bytes[first + second + content.len()..];
        }
        frames
    }

    #[test]
    fn in_which_pieces_it_comes_does_not_matter() {
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = |below: u64| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed % below
        };
        for round in 0..2_000 {
            // Mostly frames, as a client makes them; now and then what nobody would.
            let mut bytes = Vec::new();
            for _ in 0..next(6) {
                let kind = [0x00, 0x00, 0x01, 0x04, 0x21, 0x3f][usize::try_from(next(6)).unwrap()];
                let length = next(40);
                bytes.extend([kind, u8::try_from(length).unwrap()]);
                bytes.extend((0..length).map(|_| u8::try_from(next(256)).unwrap()));
            }
            if next(4) == 0 && !bytes.is_empty() {
                let at = usize::try_from(next(bytes.len() as u64)).unwrap();
                bytes[at] = u8::try_from(next(256)).unwrap();
                bytes.truncate(bytes.len() - at.min(3));
            }
            let whole = passed(Sieve::request(30), &bytes, bytes.len().max(1)).map(|bytes| frames(&bytes));
            for piece in [1, 2, 7] {
                let in_pieces = passed(Sieve::request(30), &bytes, piece).map(|bytes| frames(&bytes));
                assert_eq!(in_pieces, whole, "round {round}, by {piece}: {bytes:?}");
            }
        }
    }

    #[test]
    fn numbers_have_one_two_four_or_eight_bytes() {
        assert_eq!(number(&[0x25]), Some((37, 1)));
        assert_eq!(number(&[0x7b, 0xbd]), Some((15_293, 2)));
        assert_eq!(number(&[0x9d, 0x7f, 0x3e, 0x7d]), Some((494_878_333, 4)));
        let long = [0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c];
        assert_eq!(number(&long), Some((151_288_809_941_952_652, 8)));
        assert_eq!(number(&long[..7]), None);
        assert_eq!(number(&[]), None);
    }
}
