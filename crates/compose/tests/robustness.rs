//! Whatever the bytes are, the answer is a value or a diagnostic, never a panic.
//!
//! The mutations are seeded: a failure names the seed and the round that make it happen again.

#![expect(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

#[expect(dead_code, reason = "each test uses a part of it")]
mod support;

use tenon_compose::{Input, Manifest, compose, provenance};
use tenon_wit::{classify, inspect, print_wit, require_component};

const ROUNDS: u64 = 150;
const MANIFEST: &str = r#"
[component.auth]
path = "auth.wasm"
[component.handler]
path = "handler.wasm"
[component.handler.imports]
"demo:auth/verify" = { component = "auth" }
"#;

/// A small generator (SplitMix64): the same numbers everywhere, from its seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }
}

fn mutate(random: &mut Random, bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..=random.below(3) {
        let at = random.below(bytes.len());
        match random.below(5) {
            0 => bytes[at] = random.next() as u8,
            1 => bytes[at] ^= 1 << random.below(8),
            2 => bytes.insert(at, random.next() as u8),
            3 if bytes.len() > 8 => {
                bytes.remove(at);
            }
            _ => {
                let from = random.below(bytes.len());
                let length = random.below(16).min(bytes.len() - at).min(bytes.len() - from);
                let piece = bytes[from..from + length].to_vec();
                bytes[at..at + length].copy_from_slice(&piece);
            }
        }
    }
    bytes
}

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

fn input<'a>(component: &'a str, bytes: &'a [u8]) -> Input<'a> {
    Input { component, file: "file.wasm", bytes }
}

fn look_at(bytes: &[u8]) {
    let _ = classify(bytes);
    let _ = require_component("a.wasm", bytes);
    let _ = inspect("a.wasm", bytes).map(|it| (tenon_wit::render_text(&it), tenon_wit::render_json(&it)));
    let _ = print_wit("a.wasm", bytes);
    let _ = provenance::read(bytes);
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
        look_at(&bytes);
    }
}

#[test]
fn mutated_components_never_panic() {
    let manifest = Manifest::parse("composition.toml", MANIFEST).unwrap();
    let [auth, handler] = components();
    let mut composed = 0;
    for round in 0..ROUNDS {
        let mut random = Random(round);
        let (mut auth, mut handler) = (auth.clone(), handler.clone());
        match random.below(2) {
            0 => auth = mutate(&mut random, &auth),
            _ => handler = mutate(&mut random, &handler),
        }
        let outcome = std::panic::catch_unwind(|| {
            look_at(&auth);
            look_at(&handler);
            compose(&manifest, &[input("auth", &auth), input("handler", &handler)])
        });
        match outcome {
            Ok(Ok(result)) => {
                composed += 1;
                assert!(inspect("composed.wasm", &result.bytes).is_ok(), "round {round}");
            }
            Ok(Err(found)) => assert!(found.iter().all(|it| it.code != "internal"), "round {round}: {found}"),
            Err(_) => panic!("round {round} panicked"),
        }
    }
    assert!(composed > 0, "some mutations are harmless, or the test tests nothing");
}

#[test]
fn mutated_manifests_never_panic() {
    for round in 0..ROUNDS * 4 {
        let mut random = Random(round);
        let mutated = mutate(&mut random, MANIFEST.as_bytes());
        let _ = Manifest::parse("composition.toml", &String::from_utf8_lossy(&mutated));
    }
}
