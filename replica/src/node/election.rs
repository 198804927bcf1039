//! When to stand for election, and when not to vote.
//!
//! raft-rs decides by logs and terms; here real time is looked after. A node stands where no leader was heard for the
//! detection time; its next attempts come at times that differ between the two nodes. It neither stands nor votes
//! within a promise of the last ping of a leader, nor within one promise of its own start (it may have promised and
//! forgotten), except where the lease is known to be void: the leader's process is dead, or it gave the lease up. A
//! leader with a lease votes for nobody.

use raft::eraftpb::{Message, MessageType};

use super::config::NodeConfig;
use super::voter::Node;
use super::wire::Candidacy;
use crate::ids::voter;
use crate::log::Term;
use crate::planted::{Planted, planted};

/// raft-rs's mark on a vote request of a candidate that the leader itself appointed.
pub(super) const CAMPAIGN_TRANSFER: &[u8] = b"CampaignTransfer";

/// See the module. All times are this node's own.
#[derive(Debug)]
pub(super) struct Election {
    /// No vote before this: what was promised before a restart is not known.
    hold_until: u64,
    promised_until: u64,
    /// When to stand.
    due: u64,
    attempt: u64,
    /// The lease of this term's leader is known to be void.
    void_term: Option<Term>,
    /// The third voter voted for this node in this term.
    pub third_voted: Option<Term>,
}

impl Election {
    pub fn new(now: u64, cfg: &NodeConfig, recovering: bool) -> Self {
        // Planted: nothing was promised before the start.
        let may_have_promised = cfg.peer.is_some() && !planted(Planted::ForgetPromise);
        let hold_until = if may_have_promised { now.saturating_add(cfg.timing.promise_ns) } else { now };
        // A pair that starts cold comes up with each export at home.
        let grace = if cfg.me == voter::HOME { 0 } else { cfg.timing.detect_ns.saturating_mul(2) };
        let due = hold_until.saturating_add(stagger_ns(cfg, recovering)).saturating_add(grace);
        Self { hold_until, promised_until: 0, due, attempt: 0, void_term: None, third_voted: None }
    }

    /// What a leader said that is dead by now, arriving late, changes nothing.
    pub fn heard_leader(&mut self, now: u64, term: Term, cfg: &NodeConfig, recovering: bool) {
        if self.void_term == Some(term) {
            return;
        }
        self.due = now.saturating_add(cfg.timing.detect_ns).saturating_add(stagger_ns(cfg, recovering));
        self.attempt = 0;
        self.void_term = None;
    }

    pub fn promise(&mut self, now: u64, cfg: &NodeConfig) {
        self.promised_until = now.saturating_add(cfg.timing.promise_ns);
    }

    pub fn lease_is_void(&mut self, term: Term, now: u64) {
        self.void_term = Some(term);
        self.due = now;
    }

    /// Stand as soon as nothing speaks against it.
    pub fn hurry(&mut self, now: u64) {
        self.due = self.due.min(now.max(self.free_at()));
    }

    fn free_at(&self) -> u64 {
        self.hold_until.max(self.promised_until)
    }
}

/// The home node goes first: two nodes that lost their leader at one instant must not split the votes.
fn stagger_ns(cfg: &NodeConfig, recovering: bool) -> u64 {
    let own = if cfg.me == voter::HOME { 0 } else { cfg.timing.ping_ns };
    own + if recovering { cfg.timing.recovering_ns } else { 0 }
}

/// Between attempts: from 1 to 3 times `retry_ns`, never the same for both nodes in the same attempt.
fn retry_ns(cfg: &NodeConfig, attempt: u64) -> u64 {
    let phase = (attempt.wrapping_mul(3).wrapping_add(cfg.me.wrapping_mul(2))) % 5;
    cfg.timing.retry_ns.saturating_mul(2 + phase) / 2
}

impl Node {
    pub(super) fn election_deadline(&self) -> u64 {
        if self.is_leader() || self.needs_image { u64::MAX } else { self.election.due }
    }

    pub(super) fn campaign_asked(&mut self, lease_void: bool) {
        if self.is_leader() {
            return;
        }
        if lease_void {
            self.election.lease_is_void(self.term(), self.now);
        } else {
            self.election.hurry(self.now);
        }
        self.tick_election();
    }

    pub(super) fn tick_election(&mut self) {
        if self.now < self.election_deadline() {
            return;
        }
        let again = retry_ns(&self.cfg, self.election.attempt);
        self.election.due = self.now.saturating_add(again);
        let void = self.lease_void_for(self.term() + 1);
        if !void && self.now < self.election.free_at() {
            self.election.due = self.election.free_at();
            return;
        }
        if self.all_persisted() {
            self.election.attempt += 1;
            // An error says that raft-rs did not want to; the next attempt is due anyway.
            let _ = self.raw.campaign();
        }
    }

    fn lease_void_for(&self, term: Term) -> bool {
        self.election.void_term.is_some_and(|void| void + 1 == term)
    }

    /// What a vote request of this node says of it.
    pub(super) fn candidacy(&self, message: &Message) -> Candidacy {
        if !is_vote_request(message) {
            return Candidacy::default();
        }
        Candidacy {
            recovering: self.stable.recovering,
            lease_void: self.lease_void_for(message.term),
            blank: self.stable.blank,
        }
    }

    /// May a vote request be heard at all? (Then raft-rs decides.)
    pub(super) fn may_vote(&self, message: &Message, lease_void: bool, blank: bool) -> bool {
        let appointed = &message.context[..] == CAMPAIGN_TRANSFER;
        // A node that began with nothing cannot tell what its disk held before: it helps to found a group, and otherwise
        // votes only as a leader bids it.
        let remembers = !self.stable.blank || blank || appointed;
        if self.holds_lease() || self.mute || !remembers {
            return false;
        }
        // Planted: a promise does not hold.
        lease_void || appointed || planted(Planted::VoteWithinPromise) || self.now >= self.election.free_at()
    }

    /// An intact peer goes first. Where nothing was ever here, there may be none.
    pub(super) fn lets_peer_go_first(&self) -> bool {
        self.stable.recovering && !self.stable.blank
    }
}

pub(super) fn is_vote_request(message: &Message) -> bool {
    matches!(message.msg_type, MessageType::MsgRequestVote | MessageType::MsgRequestPreVote)
}
