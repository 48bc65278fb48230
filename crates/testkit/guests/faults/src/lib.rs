//! Ways for a guest to misbehave, and the query strings that choose them. Shared by every fixture guest.

use std::hint::black_box;
use std::time::{Duration, Instant};

mod checks;

pub use checks::Checks;

/// The path and the query of a request target.
pub struct Target<'a> {
    /// Everything before the `?`.
    pub path: &'a str,
    query: &'a str,
}

impl<'a> Target<'a> {
    /// Splits `path?query`.
    pub fn parse(target: &'a str) -> Self {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        Self { path, query }
    }

    /// The percent-decoded value of the first parameter called `name`.
    pub fn text(&self, name: &str) -> Option<String> {
        let raw = self.query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))?;
        let mut bytes = Vec::new();
        let mut rest = raw.as_bytes();
        while let Some((&byte, tail)) = rest.split_first() {
            let escaped = (byte == b'%').then(|| tail.get(..2)).flatten();
            let decoded = escaped.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
            match decoded {
                Some(decoded) => {
                    bytes.push(decoded);
                    rest = &tail[2..];
                }
                None => {
                    bytes.push(byte);
                    rest = tail;
                }
            }
        }
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The parameter `name` as a number, or `default` when it is absent or is none.
    pub fn number(&self, name: &str, default: u64) -> u64 {
        self.text(name).and_then(|text| text.parse().ok()).unwrap_or(default)
    }
}

/// Traps, panics, loops, exhausts memory or the stack when the path asks for it; returns otherwise.
pub fn maybe(target: &Target) {
    match target.path {
        "/trap" => trap(),
        "/panic" => panic!("the fixture panics on purpose"),
        "/loop" => spin_forever(),
        "/oom" => exhaust_memory(),
        "/stack" => {
            black_box(recurse(black_box(1)));
        }
        _ => {}
    }
}

/// The `unreachable` instruction.
#[inline(never)]
pub fn trap() -> ! {
    #[cfg(target_arch = "wasm32")]
    core::arch::wasm32::unreachable();
    #[cfg(not(target_arch = "wasm32"))]
    unreachable!()
}

#[inline(never)]
fn spin_forever() -> ! {
    let mut turns = 0_u64;
    loop {
        turns = black_box(turns.wrapping_add(1));
    }
}

#[inline(never)]
fn exhaust_memory() -> ! {
    let mut held = Vec::new();
    loop {
        held.push(black_box(vec![1_u8; 1 << 20]));
    }
}

fn recurse(depth: u64) -> u64 {
    let frame = black_box([depth; 32]);
    if black_box(depth) == 0 { 0 } else { recurse(depth.wrapping_add(1)) ^ black_box(frame)[3] }
}

/// Keeps the processor busy until the clock says so.
pub fn spin(time: Duration) {
    let start = Instant::now();
    let mut turns = 0_u64;
    while start.elapsed() < time {
        for _ in 0..10_000 {
            turns = black_box(turns.wrapping_add(1));
        }
    }
}

/// Allocates and touches `mib` MiB and gives back how many bytes that were.
pub fn allocate(mib: u64) -> usize {
    let held: Vec<Vec<u8>> = (0..mib).map(|_| black_box(vec![7_u8; 1 << 20])).collect();
    black_box(&held).iter().map(Vec::len).sum()
}

/// Planting a secret in linear memory and looking for one that an earlier request left.
///
/// The key in the query and the word in memory differ by a mask, so that a request which only looks for a
/// secret does not itself put it into memory.
pub mod secret {
    use std::hint::black_box;

    const MASK: u64 = 0x9e37_79b9_7f4a_7c15;
    const PLANTED_WORDS: usize = 128 << 10;
    const PAGE: usize = 64 << 10;

    static mut GLOBAL: [u64; PLANTED_WORDS] = [0; PLANTED_WORDS];

    /// Fills a global and a heap block (1 MiB each) and gives back how often the secret is found then.
    pub fn plant(key: u64) -> usize {
        let secret = key ^ MASK;
        let global = &raw mut GLOBAL;
        for index in 0..PLANTED_WORDS {
            // SAFETY: a guest has one thread, nothing else refers to GLOBAL, and the index is in range.
            unsafe { (*global)[index] = secret };
        }
        let heap = black_box(vec![secret; PLANTED_WORDS]);
        let found = find(key);
        black_box((heap, global));
        found
    }

    /// How many aligned words of the whole linear memory, grown by 4 MiB first, hold the secret of `key`.
    pub fn find(key: u64) -> usize {
        find_within(key, 4 << 20)
    }

    /// The same, grown by `more_bytes` first.
    pub fn find_within(key: u64, more_bytes: usize) -> usize {
        #[cfg(target_arch = "wasm32")]
        {
            // Pages that a former instance grew into are part of what must not be seen.
            core::arch::wasm32::memory_grow(0, more_bytes / PAGE);
            let words = core::arch::wasm32::memory_size(0) * PAGE / 8;
            (1..words)
                .filter(|word| {
                    // SAFETY: every aligned word below the size of the memory can be read.
                    let word = unsafe { core::ptr::read_volatile((word * 8) as *const u64) };
                    word ^ MASK == key
                })
                .count()
        }
        #[cfg(not(target_arch = "wasm32"))]
        {
            let _ = (key, more_bytes, PAGE);
            0
        }
    }
}
