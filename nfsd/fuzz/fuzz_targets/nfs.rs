//! libFuzzer's door to [`targets::nfs`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| targets::nfs::run(input));
