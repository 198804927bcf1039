//! What is fuzzed, once for two runners: libFuzzer (`fuzz_targets/`, run by `tests/fuzz`) and an ordinary test
//! (`nfsd/tests/fuzz.rs`).
//!
//! A target takes any bytes and panics where the server breaks a promise: it never panics, holds no more memory than
//! its bounds say ([`memory`]), answers each call once, and its answers can be read by an implementation that is not
//! ours (`nfs3_types`). `record` cuts streams, `header` decodes call headers, `xdr` is the decoder itself; `nfs` and
//! `programs` send whole calls through the real dispatcher to real file systems ([`world`]). `seeds` are the inputs
//! that everything starts from.

pub mod header;
pub mod memory;
pub mod nfs;
pub mod programs;
pub mod record;
pub mod seeds;
pub mod world;
pub mod xdr;

/// A target's name, its entry, and its seeds.
pub type Target = (&'static str, fn(&[u8]), fn() -> Vec<Vec<u8>>);

/// All of them. The names are those of the directories below `corpus/`.
pub const TARGETS: [Target; 5] = [
    ("record", record::run, seeds::record),
    ("header", header::run, seeds::header),
    ("xdr", xdr::run, seeds::xdr),
    ("nfs", nfs::run, seeds::nfs),
    ("programs", programs::run, seeds::programs),
];
