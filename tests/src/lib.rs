//! What the tests share: the real program started as real processes, on loopback or in the lab.

pub mod binary;
pub mod lab;
pub mod native;
pub mod pair;
pub mod probe;
pub mod raw;
