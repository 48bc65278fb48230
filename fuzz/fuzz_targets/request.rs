#![no_main]

use tenon_engine::fuzzing;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _is_call = fuzzing::request(bytes);
});
