//! libFuzzer's door to [`targets::xdr`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| targets::xdr::run(input));
