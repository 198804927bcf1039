//! libFuzzer's door to [`targets::programs`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| targets::programs::run(input));
