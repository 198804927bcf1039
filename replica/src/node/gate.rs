//! The gate: when the third vote stands in for the backup.
//!
//! Closed, the third voter is told of nothing, so every commit needs both nodes. Where the backup made no progress for the
//! detection time, this node marks itself durably (with that, everything it has is durable), opens the gate, and vouches
//! for what is durable here: solo. Once the backup is nearly level, vouching stops; when the backup has persisted an entry of
//! this term at or past the highest index ever sent to the third voter, the mark is removed, durably, and the gate is
//! closed. So a backup that missed something can never be elected, and one that missed nothing always can.
//!
//! Invariant: what is vouched for is durable here and of this term.

use proto::peer::{Vouch, VouchReply, witness_request};

use super::config::Third;
use super::io::Output;
use super::status::GateState;
use super::voter::Node;
use crate::ids::voter;
use crate::log::LogIndex;
use crate::planted::{Planted, planted};

/// A vouch request that was not answered this long is sent again, in ping intervals.
const VOUCH_RETRY_PINGS: u64 = 4;

/// See the module. It is the leader's; each term begins with it closed.
#[derive(Debug, Default)]
pub(super) struct Gate {
    pub state: GateState,
    /// The Persist that the state waits for.
    seq: u64,
    pub since: Option<u64>,
    /// Highest index ever sent to the third voter in this term.
    sent: LogIndex,
    /// What it has vouched for.
    vouched: LogIndex,
    asked_at: Option<u64>,
    /// A round of catching up: this far the log went when it began.
    round: Option<(LogIndex, u64)>,
    /// The last time that something was said about a peer that is lost.
    said_at: Option<u64>,
}

impl Gate {
    pub fn is_closed(&self) -> bool {
        self.state == GateState::Closed
    }
}

impl Node {
    /// As leader: every commit waits for the peer, also after a restart of this node.
    pub(super) fn needs_both(&self) -> bool {
        self.gate.is_closed() && !self.stable.solo && !self.stable.stand_in
    }

    pub(super) fn detection_deadline(&self) -> u64 {
        let watches = matches!(self.gate.state, GateState::Closed | GateState::Closing);
        if !watches || self.unreplicated() || self.peer_is_lost() || !self.is_leader() {
            return u64::MAX;
        }
        self.lost_at()
    }

    /// Silence counts only here: everything that was received has been heard.
    pub(super) fn tick_detection(&mut self, out: &mut Vec<Output>) {
        self.ask_verdict();
        if !self.peer_is_lost() || !self.may_go_solo() {
            return;
        }
        match self.gate.state {
            GateState::Closing => self.gate.state = GateState::Open,
            GateState::Closed => self.open_gate(out),
            GateState::Opening | GateState::Open | GateState::Unmarking => {}
        }
    }

    fn may_go_solo(&self) -> bool {
        let leads = self.tenure.as_ref().is_some_and(|t| !t.void);
        leads && !self.stable.recovering && (self.stable.stand_in || self.witness_counts())
    }

    /// Marks this node durably: it is the only one that goes on. What it has is durable with the mark.
    pub(super) fn open_gate(&mut self, out: &mut Vec<Output>) {
        self.stable.solo = true;
        let since = self.gate.since.unwrap_or(self.now);
        self.gate =
            Gate { state: GateState::Opening, since: Some(since), sent: self.gate.sent, ..Gate::default() };
        self.gate.seq = self.persist_state(true, out);
    }

    /// What follows for the gate from everything else.
    pub(super) fn drive_gate(&mut self, out: &mut Vec<Output>) {
        if !self.is_leader() || self.unreplicated() {
            return;
        }
        let state = self.gate.state;
        match state {
            GateState::Closed => self.open_at_once(out),
            GateState::Opening if self.persistence.is_durable(self.gate.seq) => {
                self.gate.state = GateState::Open;
                self.event(out, tracing::Level::WARN, "the peer is lost: this node goes on alone");
            }
            GateState::Open if self.peer_is_nearly_level() => {
                self.gate.state = GateState::Closing;
                // Planted: the mark goes with the first sign of the peer.
                self.stable.solo &= !planted(Planted::UnmarkSoloEarly);
            }
            GateState::Closing if self.peer_has_everything() && self.third_may_sleep() => {
                self.stable.solo = false;
                self.stable.stand_in = false;
                self.gate.seq = self.persist_state(true, out);
                self.gate.state = GateState::Unmarking;
            }
            GateState::Unmarking if self.persistence.is_durable(self.gate.seq) => {
                self.gate = Gate { sent: self.gate.sent, ..Gate::default() };
                // The peer is to know soon that it may ask for a verdict.
                self.lease.next_ping = self.now;
                self.event(out, tracing::Level::INFO, "the peer is in sync again");
            }
            _ => {}
        }
    }

    /// A primary that was solo before its restart, that has the third vote itself, or that was elected with the third
    /// vote while its peer is not there, or says that its disk hangs, need not detect anything.
    fn open_at_once(&mut self, out: &mut Vec<Output>) {
        let absent = self.peer.is_silent() || self.peer.disk_hangs;
        let by_third = self.election.third_voted == Some(self.term()) && absent;
        if (self.stable.solo || self.stable.stand_in || by_third) && self.may_go_solo() {
            self.open_gate(out);
        }
    }

    /// Rounds of catching up (Raft thesis section 4.2.1): what was the log's end a moment ago, the peer has now.
    fn peer_is_nearly_level(&mut self) -> bool {
        if !self.peer.talking {
            self.gate.round = None;
            return false;
        }
        let last = self.last_index();
        let (target, began) = *self.gate.round.get_or_insert((last, self.now));
        if self.peer.matched < target {
            return false;
        }
        self.gate.round = None;
        self.now.saturating_sub(began) <= self.cfg.timing.ping_ns
    }

    fn peer_has_everything(&self) -> bool {
        // Planted: nearly everything is enough.
        if planted(Planted::CloseGateEarly) {
            return true;
        }
        let Some(tenure) = &self.tenure else { return false };
        self.peer.talking && self.peer.matched >= self.gate.sent && self.peer.matched >= tenure.first
    }

    /// The stand-in hands the third vote back: where there is a witness process, both nodes must know first that it is
    /// not adopted any more.
    fn third_may_sleep(&self) -> bool {
        !(self.has_witness() && self.stable.stand_in)
            || (self.stable.witness == 0 && self.peer.applied >= self.witness.adoption_index)
    }

    /// Tells the third voter what is durable here, one request at a time.
    pub(super) fn vouch(&mut self) {
        let Some(first) = self.tenure.as_ref().map(|t| t.first) else { return };
        // Planted: what is not durable is vouched for.
        let undurable = planted(Planted::VouchBeforeDurable);
        let index = if undurable { self.last_index() } else { self.persistence.durable_index() };
        // Planted: the gate does not matter.
        let is_open = self.gate.state == GateState::Open || planted(Planted::WitnessCountsAsCopy);
        if !is_open || index < first || index <= self.gate.vouched {
            return;
        }
        if self.stable.stand_in {
            self.gate.sent = self.gate.sent.max(index);
            self.third_has(index);
            return;
        }
        let retry = VOUCH_RETRY_PINGS.saturating_mul(self.cfg.timing.ping_ns);
        if !self.witness_counts() || self.gate.asked_at.is_some_and(|at| self.now < at.saturating_add(retry))
        {
            return;
        }
        self.gate.asked_at = Some(self.now);
        self.send_vouch(index, false);
    }

    pub(super) fn send_vouch(&mut self, index: LogIndex, adopt: bool) {
        let Some(entry_term) = self.term_at(index) else { return };
        self.gate.sent = self.gate.sent.max(index);
        self.ask_witness(witness_request::Kind::Vouch(Vouch { term: self.term(), index, entry_term, adopt }));
    }

    /// The witness vouches for a pair, durably.
    pub(super) fn vouch_reply(&mut self, reply: &VouchReply) {
        if !self.is_leader() {
            return;
        }
        self.gate.asked_at = None;
        let sent = self.gate.sent;
        if reply.entry_term == self.term() && reply.index <= sent {
            self.third_has(reply.index);
        }
    }

    /// For raft-rs this is an append response of the third voter. (It is never sent an append: its progress stays
    /// paused.)
    fn third_has(&mut self, index: LogIndex) {
        self.gate.vouched = self.gate.vouched.max(index);
        if let Some(progress) = self.raw.raft.mut_prs().get_mut(voter::WITNESS) {
            progress.maybe_update(index);
            progress.pause();
        }
        if self.raw.raft.maybe_commit() && self.raw.raft.should_bcast_commit() {
            self.raw.raft.bcast_append();
        }
    }

    /// The peer is lost and no third voter is there: only the arbiter can let this node go on.
    fn ask_verdict(&mut self) {
        let again = self.gate.said_at.map_or(0, |at| at.saturating_add(self.cfg.timing.detect_ns));
        if self.cfg.third == Third::StandIn && self.now >= again && self.may_ask_verdict() {
            self.gate.said_at = Some(self.now);
            self.asks.push(Output::AskVerdict);
        }
    }
}
