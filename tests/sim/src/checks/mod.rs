//! What must hold: during a run at every step, and at its end.
//!
//! `private` and `objects` look at what clients were told; `raft`, `serving` and `replicas` look into the nodes. A check
//! that fails says so with `World::fail`, which ends the run with the line that reruns it.

pub mod linear;
pub mod objects;
pub mod private;
pub mod raft;
pub mod replicas;
pub mod serving;

/// What is known of the run so far.
#[derive(Default)]
pub struct Checks {
    /// See there.
    pub raft: raft::Raft,
    /// See there.
    pub replicas: replicas::Replicas,
    /// True time until which two addresses may be up: by export.
    pub two_addresses_since: Vec<Option<u64>>,
    /// A disk failed on purpose, by host: the product may give up there.
    pub disk_failed: [bool; 2],
    /// An export could not be opened after that: the process ends.
    pub doomed: [bool; 2],
}
