//! Entries and durable Raft state, as every part of this crate passes them on.

use bytes::Bytes;

/// Index of an entry, from 1.
pub type LogIndex = u64;
/// A Raft term, from 1.
pub type Term = u64;

/// One entry of an export's log. Cloning it copies no data.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Entry {
    /// Its place.
    pub index: LogIndex,
    /// The term of the leader that made it.
    pub term: Term,
    /// An encoded [`proto::op::Op`]; empty on the entry that raft-rs itself appends at an election.
    pub op: Bytes,
    /// WRITE's data.
    pub payload: Bytes,
}

impl Entry {
    /// Bytes that count against limits: data plus a fixed overhead.
    pub fn cost(&self) -> usize {
        self.op.len() + self.payload.len() + 64
    }
}

/// What a voter must never forget (Raft thesis section 3.8), and what this node must know about itself after
/// a restart. It is written to the log with the entries, and always fdatasync'ed before anything follows.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct StableState {
    /// Current term.
    pub term: Term,
    /// Whom this node voted for in it; 0: nobody.
    pub vote: u64,
    /// Highest index known to be committed. May lag; never ahead of what is durable here.
    pub commit: LogIndex,
    /// The group's history; a verdict of the arbiter starts a new one. 0: never set.
    pub history: u64,
    /// This node is (or was, when it died) the only one that goes on: nothing it has may be taken for lost.
    pub solo: bool,
    /// Memory durability only: the tail may have been lost at a machine crash and is not caught up yet.
    pub recovering: bool,
    /// Boot id of the host whose page cache held the unsynced tail; empty after a clean stop.
    pub dirty_boot: String,
    /// Identity of the adopted witness, as last applied; 0: none.
    pub witness: u64,
    /// The history that the last verdict ended; 0: none. A peer that still has it is the one to be rebuilt.
    pub parent_history: u64,
    /// This log's last entry when the last verdict ended [`Self::parent_history`]: (index, term). What a peer of that
    /// history has beyond it, only the peer has. (0, 0): no verdict, or an empty log.
    pub parent_end: (LogIndex, Term),
    /// By a verdict of the arbiter this node plays the third vote itself.
    pub stand_in: bool,
    /// Began with nothing, as in a new group or on a replaced disk, and was never complete since.
    pub blank: bool,
    /// What was acknowledged may be missing here, and no incarnation of this node has said so to the state machine yet:
    /// locks may have gone with it.
    pub locks_lost: bool,
}
