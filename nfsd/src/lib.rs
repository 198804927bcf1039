//! The front end: ONC-RPC over TCP and UDP, rpcbind, MOUNT v3, NFS v3, NLM v4 (and v1, v3), NSM.
//!
//! It turns records from the network into calls, calls into reads of applied state or into replicated
//! operations, and their outcomes into replies. It never answers for an export without the lease, never drops
//! a request on a live connection (it answers, or closes), and bounds all that a client can make it keep.
//!
//! From the wire upwards: `xdr` (bounded decoder, encoder), `rpc` (records, headers, connections, dispatch),
//! `handle` (file handle bytes), `exports` (who may see what; `access` and `names` decide), the programs
//! `rpcbind`, `mount`, `nfs3`, `nlm` and `nsm`, `service` (what listens on one virtual IP), and `server`, the door
//! for the composition root.

pub mod access;
pub mod exports;
pub mod handle;
pub mod mount;
pub mod names;
pub mod nfs3;
pub mod nlm;
pub mod nsm;
pub mod rpc;
pub mod rpcbind;
pub mod server;
pub mod service;
pub mod xdr;
