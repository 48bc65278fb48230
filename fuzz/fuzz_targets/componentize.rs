#![no_main]

#[path = "../componentizing.rs"]
mod componentizing;

use std::path::Path;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    // The seeds are text, and so may be what comes of them.
    let Ok(bytes) = wat::parse_bytes(bytes) else { return };
    let contract = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/componentizing.wit"));
    let _made = componentizing::componentize(&bytes, contract);
});
