//! NFS v3 over a socket, against the real state machine: what each procedure does, what bad input gets, what a
//! retransmission gets, and when nothing may be said at all.

mod access;
mod bad_input;
#[allow(dead_code, reason = "shared with the interop tests")]
mod harness;
mod procedures;
mod retransmission;
mod serving;
