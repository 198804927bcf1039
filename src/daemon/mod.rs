//! The running parts: the guardian (`serve`), the server it watches, and the witness.
//!
//! `server` puts everything together: exports and their groups, the session with the peer, the hub that carries out
//! the failover policy, the front end, and the admin interface. Nothing in here decides what is true; it only connects.

mod admin;
mod checks;
mod copy;
mod current;
mod data_dir;
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
pub mod pauses;
mod reload;
mod rpcb_client;
mod rpcbind;
mod server;
mod service;
mod session;
mod status;
mod tuples;
mod verdict;
mod witness;
mod witness_link;

pub use guardian::serve;
pub use server::server;
pub use witness::witness;
