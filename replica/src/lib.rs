//! One Raft group per export: its log, its state machine, its stores, and how nodes keep them equal.
//!
//! `handle` is the door for the front end (`nfsd`): read applied state, propose an operation, check the
//! lease. `group` is the door for the composition root: it owns the threads. In between, from the log down:
//! `node` (sans-IO Raft), `witness` (sans-IO third voter), `wal`, `fs` (the state machine and its stores),
//! `image` (a full copy for an empty or far-behind node), `disk` (the edge to the host's files).

pub mod clock;
pub mod disk;
pub mod fs;
pub mod group;
pub mod handle;
pub mod ids;
pub mod image;
pub mod log;
pub mod node;
pub mod planted;
pub mod random;
pub mod wal;
pub mod witness;
