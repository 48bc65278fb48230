//! Whatever the bytes are, the answer is a value or a diagnostic, never a panic.
//!
//! The mutations are seeded: a failure names the seed and the round that make it happen again.

#![expect(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

#[expect(dead_code, reason = "each test uses a part of it")]
mod support;

#[path = "../../../fuzz/bodies.rs"]
#[expect(unreachable_pub, reason = "the fuzz targets use the same file from another crate")]
mod bodies;

#[path = "../../../fuzz/mutation.rs"]
mod mutation;

use std::fs;
use std::path::Path;

use tenon_compose::Manifest;
use tenon_compose::manifest::Dependency;

use mutation::{Random, mutate, mutate_text};

const ROUNDS: u64 = 150;
/// Reading a manifest takes microseconds.
const MANIFEST_ROUNDS: u64 = 3_000;

fn components() -> [Vec<u8>; 2] {
    let verify = "interface verify {
        record claims { subject: string, expires: u64 }
        resource session { constructor(token: string); claims: func() -> claims; }
        verify-token: func(token: string) -> result<claims, string>;
    }";
    [
        support::from_wit(&format!("package demo:auth; {verify} world w {{ export verify; }}")),
        support::from_wit(&format!(
            "package demo:app; package demo:auth {{ {verify} }}
             world w {{ import demo:auth/verify; record request {{ path: string }} export handle: func(r: request) -> u16; }}"
        )),
    ]
}

#[test]
fn random_bytes_are_refused() {
    for round in 0..ROUNDS {
        let mut random = Random(round);
        let length = random.below(200);
        let mut bytes: Vec<u8> = (0..length).map(|_| random.next() as u8).collect();
        if round % 2 == 0 {
            bytes.splice(0..0, *b"\0asm\x0d\0\x01\0");
        }
        bodies::component(&bytes);
        bodies::manifest(&bytes);
    }
}

#[test]
fn mutated_components_never_panic() {
    let [auth, handler] = components();
    let mut composed = 0;
    for round in 0..ROUNDS {
        let mut random = Random(round);
        let (mut auth, mut handler) = (auth.clone(), handler.clone());
        match random.below(2) {
            0 => auth = mutate(&mut random, &auth),
            _ => handler = mutate(&mut random, &handler),
        }
        replayable(round, || {
            bodies::component(&auth);
            bodies::component(&handler);
            composed += u32::from(bodies::join(&auth, &handler));
        });
    }
    assert!(composed > 0, "some mutations are harmless, or the test tests nothing");
}

#[test]
fn a_component_that_is_both_sides_never_panics() {
    for component in components() {
        bodies::composition(&component);
    }
}

/// Says which round it was when `body` panics.
fn replayable(round: u64, body: impl FnOnce()) {
    if std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)).is_err() {
        panic!("round {round} panicked");
    }
}

fn manifests() -> Vec<String> {
    seeds("manifest")
}

/// The seeds of the fuzzer for this target, by name.
fn seeds(target: &str) -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.into_iter().map(|file| fs::read_to_string(file).unwrap()).collect()
}

/// Text that means something in a manifest, or nearly.
const WORDS: [&str; 24] = [
    "\"",
    "'",
    "[",
    "]",
    "{",
    "}",
    "=",
    ".",
    ",",
    "\n",
    "#",
    "*",
    "true",
    "-1",
    "1e999",
    "18446744073709551616",
    "0x7fffffffffffffff",
    "1979-05-27T07:32:00Z",
    "nan",
    "\"99999999999999999999GiB\"",
    "\"\\u0000\"",
    "[limits]",
    "\u{1f980}",
    "\"a:b/c@0.0.0-x\"",
];

#[test]
fn most_seeds_are_manifests() {
    let seeds = manifests();
    let good = seeds.iter().filter(|seed| Manifest::parse("tenon.toml", seed).is_ok()).count();
    assert!(good >= 3 && good < seeds.len(), "{good} of {}", seeds.len());
}

#[test]
fn mutated_manifests_never_panic() {
    let seeds = manifests();
    for round in 0..MANIFEST_ROUNDS {
        let mut random = Random(round);
        let seed = &seeds[random.below(seeds.len())];
        let mutated = if round % 2 == 0 {
            mutate(&mut random, seed.as_bytes())
        } else {
            mutate_text(&mut random, seed, &WORDS).into_bytes()
        };
        replayable(round, || bodies::manifest(&mutated));
    }
}

/// Text that means something in a WAC file, or nearly.
const WAC_WORDS: [&str; 20] = [
    "{",
    "}",
    "(",
    ")",
    "[",
    "]",
    ";",
    ":",
    "...",
    ".",
    "\"",
    "new ",
    "let ",
    "export ",
    "import ",
    "package ",
    "demo:missing",
    "@1.0.0",
    "as ",
    "\u{1f980}",
];

#[test]
fn most_wac_seeds_are_compositions() {
    let mut locate = |package: &Dependency| Some(format!("{}.wasm", package.name.rsplit(':').next()?));
    let seeds = seeds("wac");
    let good = seeds.iter().filter(|seed| Manifest::parse_wac("a.wac", seed, &mut locate).is_ok()).count();
    assert!(good >= 3 && good < seeds.len(), "{good} of {}", seeds.len());
}

#[test]
fn mutated_wac_files_never_panic() {
    let seeds = seeds("wac");
    for round in 0..MANIFEST_ROUNDS {
        let mut random = Random(round);
        let seed = &seeds[random.below(seeds.len())];
        let mutated = if round % 2 == 0 {
            mutate(&mut random, seed.as_bytes())
        } else {
            mutate_text(&mut random, seed, &WAC_WORDS).into_bytes()
        };
        replayable(round, || bodies::wac(&mutated));
    }
}

#[test]
fn mutated_debug_information_never_panics() {
    let seeds: Vec<_> = seeds("symbols").iter().map(|seed| wat::parse_str(seed).unwrap()).collect();
    let [lines, moved, stripped] = &seeds[..] else { panic!("lines, moved, stripped") };
    // As they are, both side files tell lines of the code that is left.
    assert!(bodies::side_file(stripped, lines) && bodies::side_file(stripped, moved));
    let mut told = 0;
    for round in 0..MANIFEST_ROUNDS {
        let mut random = Random(round);
        let seed = if random.below(2) == 0 { lines } else { moved };
        let side = mutate(&mut random, seed);
        replayable(round, || {
            bodies::symbols(&side);
            told += u32::from(bodies::side_file(stripped, &side));
        });
    }
    assert!(told > 0, "some mutations are harmless, or the test tests nothing");
}
