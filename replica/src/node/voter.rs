//! The voter itself: what it consists of, and what one step is.
//!
//! Each part of its state has a file of its own that says what it is for; here they are put together. A step is:
//! hear the input, carry out what raft-rs has ready, look after what the leader owes (leases, gate, witness), send.

use proto::peer::{GroupFrame, GroupHello, Ping, Pong, RaftMessage};
use raft::eraftpb::{HardState, Message};
use raft::{Config, RawNode, StateRole};

use super::applying::Applying;
use super::config::{NodeConfig, Third};
use super::election::Election;
use super::gate::Gate;
use super::io::{Input, Output, Restored};
use super::lease::Lease;
use super::own_disk::Watch;
use super::peer::Peer;
use super::proposals::Uncommitted;
use super::ready::Persistence;
use super::recovering::CatchUp;
use super::status::Role;
use super::storage::LogStore;
use super::tenure::Tenure;
use super::witness_edge::WitnessEdge;
use crate::ids::voter;
use crate::log::{LogIndex, StableState, Term};

/// Longest append to the peer, bytes: what a frame of the stream carries well.
const APPEND_BYTES_MAX: u64 = 1 << 20;
/// Appends to the peer under way at once. With the limit on uncommitted proposals it bounds what a slow peer
/// holds in memory.
const APPENDS_IN_FLIGHT_MAX: usize = 128;
/// Messages to the peer are gathered into frames of about this many bytes.
const FRAME_BYTES: usize = 1 << 20;
/// Ticks of raft-rs, which are never given.
const NEVER_TICKS: usize = 1 << 30;

/// One voter of one export's group. One owner, one loop; it reads no clock and touches no disk.
pub struct Node {
    pub(super) cfg: NodeConfig,
    pub(super) raw: RawNode<LogStore>,
    pub(super) now: u64,
    /// [`Self::deadline`], as of the last step.
    pub(super) due: u64,
    /// What must never be forgotten, as of the next [`Output::Persist`].
    pub(super) stable: StableState,
    pub(super) persistence: Persistence,
    pub(super) peer: Peer,
    pub(super) witness: WitnessEdge,
    pub(super) election: Election,
    pub(super) lease: Lease,
    pub(super) gate: Gate,
    pub(super) disk: Watch,
    pub(super) catch_up: CatchUp,
    pub(super) applying: Applying,
    pub(super) uncommitted: Uncommitted,
    /// This node's time as leader of one term.
    pub(super) tenure: Option<Tenure>,
    pub(super) leader_said: Option<u64>,
    pub(super) needs_image: bool,
    /// What this copy holds is not to be counted: it has a hole, or belongs to a history that was left.
    pub(super) mute: bool,
    pub(super) divergent: bool,
    pub(super) stopped: bool,
    /// Last in a step's outputs: each may be answered by a step of its own.
    pub(super) asks: Vec<Output>,
    frame: GroupFrame,
    frame_bytes: usize,
    /// For the first step.
    greetings: Option<Vec<Output>>,
}

impl Node {
    /// A voter as it was when it stopped. Until its first step it says nothing.
    pub fn new(now: u64, config: NodeConfig, restored: Restored) -> Self {
        let mut greetings = Vec::new();
        let blank = super::recovering::is_blank(&config, &restored);
        let Restored { state, base, last, terms, applied, boot_id } = restored;
        let needs_image = applied > last.0 || applied < base.0;
        if needs_image {
            let (applied, first, last) = (applied, base.0 + 1, last.0);
            let why = format!("the state ends at entry {applied} and the log holds {first} to {last}");
            greetings.push(Output::NeedImage { why });
        }
        // A log that lost its tail may know of commits that it no longer holds; raft-rs would panic.
        let commit = state.commit.max(applied).clamp(base.0, last.0);
        let hard_state = HardState { term: state.term, vote: state.vote, commit, ..HardState::default() };
        let voters = match config.peer {
            Some(peer) => vec![config.me, peer, voter::WITNESS],
            None => vec![config.me],
        };
        let store = LogStore::new(voters, hard_state, base, last.0, terms, config.log_cache_bytes);
        let raw = RawNode::new(
            &raft_config(&config, commit),
            store,
            &slog::Logger::root(slog::Discard, slog::o!()),
        );
        let raw = raw.unwrap_or_else(|e| panic!("raft-rs rejects a configuration that is ours: {e}"));

        let mut stable = StableState { commit, ..state.clone() };
        let lost_tail = super::recovering::at_start(&config, &state, &boot_id) && !blank;
        stable.recovering = lost_tail || blank;
        stable.blank = blank;
        stable.dirty_boot = super::recovering::dirty_boot(&config, boot_id);
        let mut node = Self {
            election: Election::new(now, &config, lost_tail),
            lease: Lease::default(),
            gate: Gate::default(),
            disk: Watch::default(),
            peer: Peer::new(now),
            witness: WitnessEdge::new(last.0),
            catch_up: CatchUp::default(),
            applying: Applying::new(applied, commit),
            uncommitted: Uncommitted::default(),
            persistence: Persistence::new(state, last.0),
            tenure: None,
            leader_said: None,
            needs_image,
            mute: needs_image,
            divergent: false,
            stopped: false,
            asks: Vec::new(),
            frame: GroupFrame::default(),
            frame_bytes: 0,
            greetings: None,
            due: now,
            now,
            stable,
            raw,
            cfg: config,
        };
        if lost_tail {
            greetings.push(Output::Event {
                level: tracing::Level::WARN,
                text: "the last moments of this copy may be lost: it waits for its peer before it counts"
                    .to_owned(),
            });
        }
        node.greetings = Some(greetings);
        node
    }

    /// One input, and everything that follows from it, in the order in which it is to be done. `now` is
    /// monotonic, ns.
    pub fn step(&mut self, now: u64, input: Input, out: &mut Vec<Output>) {
        if self.stopped {
            return;
        }
        self.now = self.now.max(now);
        if let Some(greetings) = self.greetings.take() {
            out.extend(greetings);
            self.persist_changes(out);
        }
        if self.now > self.due.saturating_add(self.cfg.timing.gap_ns) {
            self.was_away();
        }
        self.hear(input, out);
        self.pump(out);
        self.settle(out);
        self.flush(out);
        out.append(&mut self.asks);
        self.due = self.next_deadline();
    }

    /// When [`Input::Tick`] is due next, on the clock that [`Self::step`] is given.
    pub fn deadline(&self) -> u64 {
        self.due
    }

    fn hear(&mut self, input: Input, out: &mut Vec<Output>) {
        match input {
            Input::Tick => self.tick(out),
            Input::Propose(ops) => self.propose(ops, out),
            Input::PeerUp(hello) => self.peer_up(hello, out),
            Input::PeerDown => self.peer_down(),
            Input::Peer(frame) => self.peer_frame(*frame, out),
            Input::Witness(reply) => self.witness_reply(&reply),
            Input::WitnessDown => self.witness.heard_at = None,
            Input::Written { seq } => self.written(seq),
            Input::Durable { seq } => self.made_durable(seq),
            Input::Applied { index, witness_identity } => self.applied(index, witness_identity, out),
            Input::Fetched(entries) => self.fetched(entries, out),
            Input::LogCut { first } => self.raw.mut_store().cut(first),
            Input::Checkpointed { .. } => {}
            Input::Campaign { lease_void } => self.campaign_asked(lease_void),
            Input::Transfer => self.transfer(out),
            Input::Verdict(verdict) => self.verdict(verdict, out),
            Input::Stop => self.stop(out),
        }
    }

    /// What time brings: only here does silence count.
    fn tick(&mut self, out: &mut Vec<Output>) {
        self.expire_lease(out);
        self.tick_transfer(out);
        self.tick_detection(out);
        self.tick_disk(out);
        self.tick_election();
        self.tick_commit(out);
    }

    /// What follows from the new state, until nothing more does.
    fn settle(&mut self, out: &mut Vec<Output>) {
        self.observe_peer(out);
        self.tick_pings();
        self.drive_gate(out);
        self.vouch();
        self.adopt(out);
        self.end_recovering(out);
        self.pump(out);
        self.extend_lease(out);
        self.feed(out);
        self.observe_disk();
    }

    /// The loop was away: what was not heard meanwhile says nothing about the peer.
    fn was_away(&mut self) {
        self.peer.was_away(self.now);
        self.disk.was_away(self.now);
    }

    fn next_deadline(&self) -> u64 {
        let mut due = self.election_deadline().min(self.persistence.commit_due());
        if self.is_leader() {
            due = due.min(self.lease.next_ping);
            if self.lease.serving {
                due = due.min(self.lease.until);
            }
            if let Some(at) = self.tenure.as_ref().and_then(|t| t.transfer_until) {
                due = due.min(at);
            }
        }
        due.min(self.detection_deadline()).min(self.disk_deadline())
    }

    // Short ways to what is asked often.

    pub(super) fn role(&self) -> Role {
        match self.raw.raft.state {
            StateRole::Leader => Role::Leader,
            StateRole::Follower => Role::Follower,
            StateRole::Candidate | StateRole::PreCandidate => Role::Candidate,
        }
    }

    pub(super) fn is_leader(&self) -> bool {
        self.raw.raft.state == StateRole::Leader
    }

    pub(super) fn term(&self) -> Term {
        self.raw.raft.term
    }

    pub(super) fn last_index(&self) -> LogIndex {
        self.raw.raft.raft_log.last_index()
    }

    pub(super) fn commit(&self) -> LogIndex {
        self.raw.raft.raft_log.committed
    }

    pub(super) fn term_at(&self, index: LogIndex) -> Option<Term> {
        self.raw.store().term_of(index)
    }

    /// Is there no other copy by configuration?
    pub(super) fn unreplicated(&self) -> bool {
        self.cfg.peer.is_none()
    }

    pub(super) fn has_witness(&self) -> bool {
        self.cfg.third == Third::Witness && self.cfg.peer.is_some()
    }

    /// Everything here is persisted, as raft-rs counts it: it may stand for election.
    pub(super) fn all_persisted(&self) -> bool {
        let log = &self.raw.raft.raft_log;
        log.unstable_entries().is_empty() && log.persisted == log.last_index()
    }

    pub(super) fn be_mute(&mut self) {
        self.mute = true;
        self.peer.ends_talk(self.now);
    }

    /// Gives raft-rs a message. It drops what it cannot use; an error says that it did.
    pub(super) fn step_raft(&mut self, message: Message) {
        let _ = self.raw.raft.step(message);
    }

    pub(super) fn event(&self, out: &mut Vec<Output>, level: tracing::Level, text: impl Into<String>) {
        out.push(Output::Event { level, text: text.into() });
    }

    // The frame that is being gathered for the peer.

    pub(super) fn send_message(&mut self, message: RaftMessage, out: &mut Vec<Output>) {
        if !self.peer.talking {
            return;
        }
        for message in super::wire::split_append(message, FRAME_BYTES) {
            self.frame_bytes += message.entries.iter().map(super::wire::cost).sum::<usize>();
            self.frame.messages.push(message);
            if self.frame_bytes >= FRAME_BYTES {
                self.flush(out);
            }
        }
    }

    pub(super) fn send_ping(&mut self, ping: Ping) {
        if self.peer.talking {
            self.frame.ping = Some(ping);
        }
    }

    pub(super) fn send_pong(&mut self, pong: Pong) {
        if self.peer.talking {
            self.frame.pong = Some(pong);
        }
    }

    pub(super) fn send_hello(&mut self) {
        if self.peer.connected {
            let you_need_image = self.is_leader() && self.peer.needs_image;
            self.frame.hello = Some(GroupHello { you_need_image, ..self.hello() });
        }
    }

    /// What was gathered for an earlier connection is for nobody.
    pub(super) fn forget_frame(&mut self) {
        self.frame = GroupFrame::default();
        self.frame_bytes = 0;
    }

    fn flush(&mut self, out: &mut Vec<Output>) {
        if self.frame == GroupFrame::default() {
            return;
        }
        let mut frame = std::mem::take(&mut self.frame);
        self.frame_bytes = 0;
        frame.export = self.cfg.export.clone();
        out.push(Output::Send(frame));
    }

    /// What to say of this group in a handshake with the peer.
    pub fn hello(&self) -> GroupHello {
        GroupHello {
            export: self.cfg.export.clone(),
            history: self.stable.history,
            first_index: self.raw.store().first(),
            last_index: self.last_index(),
            last_term: self.raw.raft.raft_log.last_term(),
            applied_index: self.applied_to_say(),
            recovering: self.stable.recovering,
            needs_image: self.mute,
            parent_history: self.stable.parent_history,
            you_need_image: false,
            blank: self.stable.blank,
        }
    }

    /// Clean stop. Whatever comes now is for the next start.
    fn stop(&mut self, out: &mut Vec<Output>) {
        self.revoke_lease(out);
        self.stable.dirty_boot.clear();
        self.persist_state(true, out);
        self.stopped = true;
    }
}

fn raft_config(config: &NodeConfig, commit: LogIndex) -> Config {
    Config {
        id: config.me,
        // No ticks are given: elections and heartbeats are driven by deadlines in real time.
        election_tick: NEVER_TICKS,
        heartbeat_tick: 1,
        min_election_tick: NEVER_TICKS,
        max_election_tick: NEVER_TICKS + 1,
        // What is committed at the start is fed to the state machine by `applying`, not by raft-rs.
        applied: commit,
        max_size_per_msg: APPEND_BYTES_MAX,
        max_inflight_msgs: APPENDS_IN_FLIGHT_MAX,
        check_quorum: false,
        pre_vote: true,
        batch_append: true,
        // raft-rs counts committed data that it would have to hold; `proposals` counts instead.
        max_uncommitted_size: raft::NO_LIMIT,
        ..Config::default()
    }
}
