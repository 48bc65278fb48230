#![no_main]

use tenon_engine::fuzzing;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    fuzzing::json(bytes);
});
