//! libFuzzer's door to [`targets::record`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| targets::record::run(input));
