//! The running parts: the guardian (`serve`), the server it watches, and the witness.
//!
//! `server` puts everything together: exports and their groups, the session with the peer, the hub that carries out
//! the failover policy, the front end, and the admin interface. Nothing in here decides what is true; it only connects.

mod admin;
mod checks;
mod client_network;
mod copy;
mod current;
mod data_dir;
mod divergent;
mod drain;
mod drained;
mod export;
mod front;
mod guardian;
mod hub;
mod identity;
mod locks;
mod metrics;
mod names;
mod op_text;
pub mod pauses;
mod priority;
mod reload;
mod rpcb_client;
mod rpcbind;
mod saved;
mod server;
mod service;
mod session;
mod status;
mod tuples;
mod verdict;
mod witness;
mod witness_link;

pub use guardian::{sentinel, serve};
pub use server::server;
pub use witness::witness;
