//! Program 100000: where the other programs are. Versions 3 and 4 are called rpcbind, version 2 is the portmapper
//! (RFC 1833). The table is plain data; nobody can change it over the network.
//!
//! `program` is the program, `uaddr` how addresses are written in versions 3 and 4. Nothing in here calls
//! another server for anybody, and no answer depends on who asks.

mod program;
pub mod uaddr;

pub use program::{Mapping, PORT, PROGRAM, Protocol, Rpcbind, VERSIONS};
