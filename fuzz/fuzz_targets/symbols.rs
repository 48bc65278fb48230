#![no_main]

#[path = "../bodies.rs"]
#[expect(dead_code, reason = "each target uses a part of it")]
mod bodies;

use std::sync::LazyLock;

/// What the bytes are a side file of.
static STRIPPED: LazyLock<Vec<u8>> = LazyLock::new(|| {
    wat::parse_str(include_str!("../corpus/symbols/stripped.wat")).expect("the seed is WebAssembly")
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    // The seeds are text, and so may be what comes of them.
    let Ok(bytes) = wat::parse_bytes(bytes) else { return };
    bodies::symbols(&bytes);
    let _told = bodies::side_file(&STRIPPED, &bytes);
});
