//! NLM and NSM over sockets, against the real state machine. The client is written for these tests and shares nothing
//! with the server: its own XDR, its own portmapper, its own lock manager that is called back.

mod asynchronous;
mod bad_input;
mod blocking;
mod client;
mod harness;
mod procedures;
mod status_monitor;
mod xdr;
