//! What a voter says of itself.

use super::voter::Node;
use crate::log::{LogIndex, Term};

/// What a voter is, in its term.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Role {
    /// It follows, or waits for a leader.
    #[default]
    Follower,
    /// It asks whether it could win an election, or for votes.
    Candidate,
    /// It leads.
    Leader,
}

/// Where the witness stands in for the backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum GateState {
    /// Every commit needs both nodes.
    #[default]
    Closed,
    /// It is about to open: this node marks itself durably first.
    Opening,
    /// Solo: the third vote vouches for what this node has.
    Open,
    /// Nothing more is vouched for; the backup is about to have everything that was.
    Closing,
    /// The mark is about to be removed, durably.
    Unmarking,
}

/// How this node's own disk does, judged by what waits for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OwnDisk {
    /// It keeps up.
    #[default]
    Sound,
    /// It answered late not long ago.
    Slow,
    /// Nothing that waits for it has moved for the stall time.
    Hangs,
}

/// Where a voter stands.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct NodeStatus {
    /// What it is.
    pub role: Role,
    /// Its term.
    pub term: Term,
    /// Raft id of the leader, where one is known.
    pub leader: Option<u64>,
    /// Raft id of this node.
    pub me: u64,
    /// First entry of the log.
    pub first: LogIndex,
    /// Last entry.
    pub last: LogIndex,
    /// Known to be committed.
    pub commit: LogIndex,
    /// Applied.
    pub applied: LogIndex,
    /// Counted as persisted here.
    pub persisted: LogIndex,
    /// fdatasync'ed here.
    pub durable: LogIndex,
    /// A connection with the peer stands and both are of one history.
    pub peer_connected: bool,
    /// As leader: the peer has persisted everything up to here. As follower: 0.
    pub peer_match: LogIndex,
    /// As leader: the peer is connected, keeps up, and every commit waits for it. As follower: the leader is
    /// heard and this node has what is committed.
    pub in_sync: bool,
    /// The peer must be copied anew.
    pub peer_needs_image: bool,
    /// This node must be copied anew.
    pub needs_image: bool,
    /// Both nodes went on without each other: an administrator must choose which one yields.
    pub divergent: bool,
    /// This node is the only copy since then, on the clock that `step` is given.
    pub solo_since_ns: Option<u64>,
    /// See there.
    pub gate: GateState,
    /// The tail of the log may have been lost at a machine crash and is not caught up yet.
    pub recovering: bool,
    /// It began with nothing, as on a replaced disk, and was never complete since: it cannot help its peer into office.
    pub blank: bool,
    /// May answer until then; 0: may not.
    pub lease_until_ns: u64,
    /// It serves, in this term.
    pub serving: bool,
    /// The group's history.
    pub history: u64,
    /// The one that the last verdict ended, 0: none; and this log's last entry then.
    pub parent: (u64, (LogIndex, Term)),
    /// This node plays the third vote itself.
    pub stand_in: bool,
    /// The witness answered lately.
    pub witness_connected: bool,
    /// Identity of the adopted witness; 0: none.
    pub witness: u64,
    /// The witness process that answers is the adopted one and has this group's state.
    pub witness_ready: bool,
    /// This node's own disk.
    pub own_disk: OwnDisk,
    /// Something waits for it, and nothing has moved since then, on the clock that `step` is given.
    pub disk_waits_since_ns: Option<u64>,
    /// Bytes proposed and not committed.
    pub uncommitted_bytes: u64,
}

impl Node {
    /// Where it stands.
    pub fn status(&self) -> NodeStatus {
        let log = &self.raw.raft.raft_log;
        NodeStatus {
            role: self.role(),
            term: self.term(),
            leader: self.leader_said,
            me: self.cfg.me,
            first: self.raw.store().first(),
            last: log.last_index(),
            commit: log.committed,
            applied: self.applying.applied,
            persisted: log.persisted,
            durable: self.persistence.durable_index(),
            peer_connected: self.peer.talking,
            peer_match: if self.is_leader() { self.peer.matched } else { 0 },
            in_sync: self.in_sync(),
            peer_needs_image: self.peer.needs_image,
            needs_image: self.needs_image,
            divergent: self.divergent,
            solo_since_ns: self.gate.since,
            gate: self.gate.state,
            recovering: self.stable.recovering,
            blank: self.stable.blank,
            lease_until_ns: self.lease.until,
            serving: self.lease.serving && self.now < self.lease.until,
            history: self.stable.history,
            parent: (self.stable.parent_history, self.stable.parent_end),
            stand_in: self.stable.stand_in,
            witness_connected: self.witness_is_heard(),
            witness: self.stable.witness,
            witness_ready: self.witness_counts(),
            own_disk: self.own_disk(),
            disk_waits_since_ns: self.disk.waits_since(),
            uncommitted_bytes: self.uncommitted.bytes(),
        }
    }
}
