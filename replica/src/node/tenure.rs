//! One node's time as leader of one term: from the election to the step down, or to a transfer.

use super::gate::Gate;
use super::io::Output;
use super::lease::Lease;
use super::voter::Node;
use crate::log::{LogIndex, Term};

/// The first entry of the front end's own in a new term. A primary serves only after it has applied it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Incarnation {
    /// The next proposal is it.
    Asked,
    /// It has this place in the log.
    At(LogIndex),
}

/// See the module.
#[derive(Debug)]
pub(super) struct Tenure {
    pub term: Term,
    /// The term's first entry (raft-rs's own, empty).
    pub first: LogIndex,
    pub incarnation: Incarnation,
    /// The leadership was given away: this term never serves again, whatever comes of the transfer.
    pub void: bool,
    pub transfer_until: Option<u64>,
    /// It was elected with a copy that may lack the last that was acknowledged: the lock table is not provably complete.
    pub locks_lost: bool,
    /// The last time that the adoption of a witness was asked for.
    pub adoption_asked_at: Option<u64>,
}

impl Node {
    pub(super) fn begin_tenure(&mut self, out: &mut Vec<Output>) {
        let term = self.term();
        let locks_lost = self.stable.locks_lost || self.stable.recovering;
        self.tenure = Some(Tenure {
            term,
            first: self.last_index(),
            incarnation: Incarnation::Asked,
            void: false,
            transfer_until: None,
            locks_lost,
            adoption_asked_at: None,
        });
        self.lease = Lease::begin(self.now);
        self.gate = Gate::default();
        self.peer.new_tenure(self.now, self.cfg.timing.promise_ns);
        let yields = self.lets_peer_go_first();
        self.election.heard_leader(self.now, self.term(), &self.cfg, yields);
        self.uncommitted.clear();
        self.raw.mut_store().forget_read_ahead();
        self.event(out, tracing::Level::INFO, format!("leads term {term}"));
        self.asks.push(Output::NeedIncarnation { locks_lost });
    }

    pub(super) fn end_tenure(&mut self, out: &mut Vec<Output>) {
        self.revoke_lease(out);
        self.tenure = None;
        self.lease = Lease::default();
        self.gate = Gate::default();
        self.uncommitted.clear();
        self.raw.mut_store().forget_read_ahead();
        let yields = self.lets_peer_go_first();
        self.election.heard_leader(self.now, self.term(), &self.cfg, yields);
    }

    /// Hands the leadership to the peer. The lease goes first: from here on this term serves nobody.
    pub(super) fn transfer(&mut self, out: &mut Vec<Output>) {
        let Some(peer) = self.cfg.peer else { return };
        let obstacle = self.transfer_obstacle();
        let until = self.now.saturating_add(self.cfg.timing.transfer_ns);
        let Some(tenure) = self.tenure.as_mut() else { return };
        if let Some(why) = obstacle {
            self.event(out, tracing::Level::WARN, format!("no transfer: {why}"));
            out.push(Output::NoTransfer { why });
            return;
        }
        if tenure.void {
            return;
        }
        tenure.void = true;
        tenure.transfer_until = Some(until);
        self.revoke_lease(out);
        self.raw.transfer_leader(peer);
    }

    fn transfer_obstacle(&self) -> Option<&'static str> {
        if !self.in_sync() || self.peer.recovering {
            return Some("the other node is not in sync");
        }
        if self.peer.disk_hangs {
            return Some("the other node's disk hangs");
        }
        // This node's vote would wait for its disk, so the peer needs the third one.
        let third = self.has_witness() && self.witness_counts();
        (self.disk_hangs() && !third)
            .then_some("this node's disk hangs, and without a witness it cannot elect the other")
    }

    /// A transfer that came to nothing: step down, and stand for election in a new term. The lease of this term is
    /// void and the voters are told so.
    pub(super) fn tick_transfer(&mut self, out: &mut Vec<Output>) {
        let term = self.term();
        let Some(until) = self.tenure.as_ref().and_then(|t| t.transfer_until) else { return };
        if self.now < until {
            return;
        }
        self.event(out, tracing::Level::WARN, format!("the transfer of term {term} failed: a new election"));
        self.raw.raft.abort_leader_transfer();
        self.raw.raft.become_follower(term, raft::INVALID_ID);
        self.end_tenure(out);
        self.election.lease_is_void(term, self.now);
    }
}
