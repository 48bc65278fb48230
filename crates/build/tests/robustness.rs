//! Whatever the bytes are that are to be made a component, the answer is one or a diagnostic, never a panic.
//!
//! The mutations are seeded: a failure names the round that makes it happen again.

#![expect(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

#[path = "../../../fuzz/componentizing.rs"]
#[expect(unreachable_pub, reason = "the fuzz target uses the same file from another crate")]
mod componentizing;

#[path = "../../../fuzz/mutation.rs"]
#[expect(dead_code, reason = "each test uses a part of it")]
mod mutation;

use std::fs;
use std::path::{Path, PathBuf};

use componentizing::componentize;
use mutation::{Random, mutate};

const ROUNDS: u64 = 300;

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz")
}

/// The seeds of the fuzzer, by name: `command`, `handler`, `stranger`.
fn modules() -> Vec<Vec<u8>> {
    let entries = fs::read_dir(fuzz().join("corpus/componentize")).unwrap();
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.into_iter().map(|file| wat::parse_file(file).unwrap()).collect()
}

#[test]
fn most_seeds_become_components() {
    let contract = fuzz().join("componentizing.wit");
    let made: Vec<_> = modules().iter().map(|module| componentize(module, &contract)).collect();
    let [command, handler, stranger] = made[..] else { panic!("{made:?}") };
    assert!(command > 0 && handler > 0 && stranger == 0, "{made:?}");
}

#[test]
fn mutated_modules_never_panic() {
    let (seeds, contract) = (modules(), fuzz().join("componentizing.wit"));
    let mut made = 0;
    for round in 0..ROUNDS {
        let mut random = Random(round);
        let seed = &seeds[random.below(seeds.len())];
        let module = mutate(&mut random, seed);
        let tried = std::panic::AssertUnwindSafe(|| componentize(&module, &contract));
        made += std::panic::catch_unwind(tried).unwrap_or_else(|_| panic!("round {round} panicked"));
    }
    assert!(made > 0, "some mutations are harmless, or the test tests nothing");
}

#[test]
fn random_bytes_are_refused() {
    for round in 0..ROUNDS {
        let mut random = Random(round);
        let mut bytes: Vec<u8> = (0..random.below(200)).map(|_| random.next() as u8).collect();
        if round % 2 == 0 {
            bytes.splice(0..0, *b"\0asm\x01\0\0\0");
        }
        let _made = componentize(&bytes, &fuzz().join("componentizing.wit"));
    }
}
