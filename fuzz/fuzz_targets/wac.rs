#![no_main]

#[path = "../bodies.rs"]
#[expect(dead_code, reason = "each target uses a part of it")]
mod bodies;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bodies::wac(bytes));
