//! The wire and log formats of hanfs, generated from `hanfs/*.proto`.
//!
//! `op` is what the replicated log says, `peer` what nodes, guardians and the witness say to each other,
//! `admin` the control interface. Formats are versioned; what each field means is said in the .proto files.
#![allow(missing_docs, reason = "generated; the .proto files are the documentation")]
#![allow(clippy::all)]

/// Replicated operations and their replies.
pub mod op {
    tonic::include_proto!("hanfs.op.v1");

    /// Version of `Op` that this build writes; it reads this one and every older one.
    pub const OP_VERSION: u32 = 1;
}

/// Between nodes, guardians and the witness.
pub mod peer {
    tonic::include_proto!("hanfs.peer.v1");

    /// Version of the peers' protocol that this build speaks.
    pub const PEER_VERSION: u32 = 1;
}

/// The control interface.
pub mod admin {
    tonic::include_proto!("hanfs.admin.v1");
}
