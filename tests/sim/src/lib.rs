//! The whole pair in one thread, from one seed: two boxes with the product's own groups, stores and policy, a witness, the
//! network, and clients that issue encoded NFS calls as Linux does.
//!
//! `run` is one run; `swarm` says what a seed chooses; `world` holds everything there is, `queue` what happens when. `host` is
//! a box: `host::server` gives the product's workers their turns, `host::hub` carries out its policy, `host::guardian` is a
//! model of what outlives the server. `net` is sessions and TCP, `client` is Linux's NFS client, `ops` the calls. `checks` has
//! one file per property. `trouble` breaks things, `trace` proves that nothing but the seed decided.

pub mod checks;
pub mod cli;
mod client;
pub mod enumerate;
mod host;
mod net;
pub mod ops;
mod queue;
mod rng;
pub mod run;
mod strike;
pub mod swarm;
mod trace;
mod trouble;
pub mod world;
