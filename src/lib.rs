//! The `hanfs` binary's parts: the composition root of the product.
//!
//! `cli` is the command line, `config` the one configuration file, `init` makes a cluster's files, `tls` is
//! who may talk to whom, `events` a node's history, `daemon` the running processes, `client` a built-in NFS
//! client that retransmits as a kernel does, `exercise` a load on exports that notices pauses and errors,
//! `cluster` a whole cluster on loopback, `demo` one that loses a node, and `bench` two that are measured.

pub mod bench;
pub mod cli;
pub mod client;
pub mod cluster;
pub mod config;
pub mod daemon;
pub mod demo;
pub mod drill;
pub mod events;
pub mod exercise;
pub mod init;
pub mod tls;
