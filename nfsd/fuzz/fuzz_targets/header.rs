//! libFuzzer's door to [`targets::header`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| targets::header::run(input));
