//! What goes into a [`super::Node`] and what comes out of it.

use bytes::Bytes;
use proto::peer::{GroupFrame, GroupHello, WitnessReply, WitnessRequest};

use crate::log::{Entry, LogIndex, StableState, Term};

/// What a node knows when it starts: what its log and its state machine hold.
#[derive(Clone, Debug, Default)]
pub struct Restored {
    /// As last persisted.
    pub state: StableState,
    /// The entry before the log's first; (0, 0) where nothing was ever cut.
    pub base: (LogIndex, Term),
    /// The log's last entry; `base` where it is empty.
    pub last: (LogIndex, Term),
    /// Where each term begins, by rising index: the first entry at or after which every entry has this term, up
    /// to the next. Covers everything from the entry after `base` to `last`.
    pub terms: Vec<(LogIndex, Term)>,
    /// What the state machine's checkpoint covers. The node sends everything after it that is committed as
    /// [`Output::Apply`].
    pub applied: LogIndex,
    /// The host's boot id, now.
    pub boot_id: String,
}

/// Why a node may go on without its peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VerdictKind {
    /// A fencing command succeeded: the peer is off.
    Fence,
    /// Every path to the peer was dead for the whole timeout.
    FailStop,
    /// An administrator said so, and what it would discard was named: no conditions.
    Force,
}

/// The arbiter's word: this node is the one that goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Where it comes from.
    pub kind: VerdictKind,
    /// Random, not 0: the history that begins here.
    pub history: u64,
}

/// What a node is told. Give everything that has been received before a [`Input::Tick`]: only a tick looks for
/// what did *not* come.
#[derive(Clone, Debug)]
pub enum Input {
    /// [`super::Node::deadline`] has passed, or all other inputs have been given.
    Tick,
    /// Append these (encoded Op, payload) to the log. The first after [`Output::NeedIncarnation`] is that
    /// incarnation.
    Propose(Vec<(Bytes, Bytes)>),
    /// A connection with the peer stands, both ways; what it said of this group. No frame of an earlier
    /// connection may be given after this.
    PeerUp(GroupHello),
    /// The connection with the peer ended.
    PeerDown,
    /// From the peer, in order.
    Peer(Box<GroupFrame>),
    /// The witness's answer to a request, in any order, or not at all.
    Witness(WitnessReply),
    /// The witness cannot be reached.
    WitnessDown,
    /// Every [`Output::Persist`] up to this one has been written to the log file.
    Written {
        /// See there.
        seq: u64,
    },
    /// Every [`Output::Persist`] up to this one has been fdatasync'ed (and written).
    Durable {
        /// See there.
        seq: u64,
    },
    /// The state machine has applied everything up to this entry.
    Applied {
        /// That entry.
        index: LogIndex,
        /// Identity of the adopted witness in that state; 0: none.
        witness_identity: u64,
    },
    /// The answer to [`Output::Fetch`]: entries from its `from` on, at least one; none where the log no longer
    /// has them.
    Fetched(Vec<Entry>),
    /// The log file begins with this entry now.
    LogCut {
        /// Its index.
        first: LogIndex,
    },
    /// A checkpoint covers everything up to this entry. News for the loop around the node, not for the node.
    Checkpointed {
        /// That entry.
        index: LogIndex,
    },
    /// Stand for election now.
    Campaign {
        /// The leader's lease is known to be void: the process that leads the term that this node knows is dead. Who
        /// says so must mean that process, and no later one on the same host.
        lease_void: bool,
    },
    /// Hand the leadership to the peer.
    Transfer,
    /// The arbiter's word.
    Verdict(Verdict),
    /// Clean stop: nothing follows but the durability of what is under way.
    Stop,
}

/// What a node wants done. Do it in this order. What is to be answered by another input (NeedIncarnation,
/// NeedAdoption, AskVerdict) comes last, so the answer may be given at once.
#[derive(Clone, Debug)]
pub enum Output {
    /// Append to the log, the state first, then the entries; the first entry's index may be below the log's
    /// end: what is there from it on is truncated first, durably, before its place is overwritten.
    Persist {
        /// Counts up from 1. Said back by [`Input::Written`] and [`Input::Durable`].
        seq: u64,
        /// What must never be forgotten, where it changed.
        state: Option<StableState>,
        /// By rising index, without a hole.
        entries: Vec<Entry>,
        /// It counts only once it is fdatasync'ed: do that soon. Else [`Input::Written`] is enough.
        sync: bool,
    },
    /// To the peer, in order.
    Send(GroupFrame),
    /// To the witness. Requests need not wait for one another; a lost one is repeated by the node.
    Witness(WitnessRequest),
    /// Committed: apply these, in order.
    Apply(Vec<Entry>),
    /// The last [`Input::Propose`] has its place in the log. Whether it will be committed is not known yet.
    Proposed {
        /// Index of the first of them.
        first: LogIndex,
        /// Their term.
        term: Term,
        /// How many.
        count: usize,
    },
    /// The last [`Input::Propose`] was not taken, none of it.
    Refused {
        /// True: only for want of room, try again later. False: this node does not (or no longer) lead.
        leader: bool,
    },
    /// This node may answer until then.
    Lease {
        /// On the clock that [`super::Node::step`] is given.
        until_ns: u64,
    },
    /// It may not, as of now.
    LeaseRevoked,
    /// Read entries back from the log. One at a time is asked for.
    Fetch {
        /// The first.
        from: LogIndex,
        /// The one after the last.
        to: LogIndex,
        /// Stop at this many bytes, but give at least one.
        max_bytes: usize,
    },
    /// Who leads, as far as known here.
    Leader {
        /// A raft id.
        id: Option<u64>,
    },
    /// This node leads a new term: propose an Incarnation, at once.
    NeedIncarnation {
        /// Locks may be missing in this copy.
        locks_lost: bool,
    },
    /// Propose an AdoptWitness with this identity.
    NeedAdoption {
        /// The witness's, 0: none from here on.
        identity: u64,
    },
    /// This node leads, has applied its own incarnation and has a lease: it serves.
    Serving {
        /// In this term.
        term: Term,
    },
    /// It does not serve any more.
    NotServing,
    /// The last [`Input::Transfer`] is refused; nothing has changed.
    NoTransfer {
        /// For whoever asked.
        why: &'static str,
    },
    /// Close the connection with the peer and shake hands anew.
    ResetPeer {
        /// For the log.
        why: String,
    },
    /// The log no longer reaches back to where the peer is: it must be copied.
    PeerNeedsImage,
    /// This node must be copied anew from its peer.
    NeedImage {
        /// For the log.
        why: String,
    },
    /// The peer is lost, and this node may go on if the arbiter says so.
    AskVerdict,
    /// For the event history.
    Event {
        /// ERROR: a person must act.
        level: tracing::Level,
        /// One sentence.
        text: String,
    },
}
