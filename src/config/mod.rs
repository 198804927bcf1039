//! The cluster's one configuration file: the same on both nodes and on the witness.
//!
//! `raw` is the file as TOML and serde see it; `check` turns it into the `model` and refuses what cannot
//! work (`clients`: access lists); `diff` says what differs between two of them and what of that can change while a node
//! runs; `edit` changes the text and keeps everything else of it; `locate` finds the line of a key, so that every error
//! names file, line, key and what was expected. Nothing here opens a socket or a data directory.

mod check;
mod clients;
pub mod diff;
pub mod edit;
mod error;
mod locate;
pub mod model;
mod raw;
#[cfg(test)]
mod tests;

pub use error::{ConfigError, Issue};
pub use model::{
    Access, Arbiter, ArbiterKind, Client, Config, Driver, Durability, Export, Limits, Metrics, Network, Node,
    Squash, Timing, Tls, Vip, Witness,
};
