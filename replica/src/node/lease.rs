//! The leader's lease, and the promise that it rests on.
//!
//! A leader pings its voters. It may serve until (send time of a ping that a quorum acknowledged) + lease. A voter that
//! acknowledges promises to vote for nobody for a promise after it heard the ping (see `election`), which is longer than
//! the lease even where clocks drift; and no new leader is elected without one of that quorum. The leader itself drops
//! vote requests while it has a lease. raft-rs's check_quorum and LeaseBased are not used.

use super::config::promise_covers;
use proto::peer::{Ping, Pong, WitnessRequest, witness_request};

use super::io::Output;
use super::tenure::Incarnation;
use super::voter::Node;
use crate::planted::{Planted, planted};

/// See the module. All times are this node's own.
#[derive(Debug, Default)]
pub(super) struct Lease {
    pub next_ping: u64,
    /// Send time of the last ping that the peer acknowledged.
    peer_ack: u64,
    /// Likewise the witness.
    witness_ack: u64,
    /// As said; 0: none.
    pub until: u64,
    pub serving: bool,
}

impl Lease {
    /// None yet; the first ping is due.
    pub fn begin(now: u64) -> Self {
        Self { next_ping: now, ..Self::default() }
    }
}

impl Node {
    /// Pings, where they are due.
    pub(super) fn tick_pings(&mut self) {
        if !self.is_leader() || self.now < self.lease.next_ping {
            return;
        }
        self.lease.next_ping = self.now.saturating_add(self.cfg.timing.ping_ns);
        if self.unreplicated() {
            return;
        }
        // Level with this leader is who also has its incarnation, the entry after its first: it may say that locks are lost.
        let owed = self.tenure.as_ref().map_or(0, |tenure| tenure.first.saturating_add(1));
        let ping = Ping {
            term: self.term(),
            sent_ns: self.now,
            commit: self.commit(),
            last_index: self.last_index().max(owed),
            lease_ns: self.cfg.timing.lease_ns,
            disk_hangs: self.disk_hangs(),
            needs_both: self.needs_both(),
        };
        // raft-rs's heartbeat resumes a peer that is being probed, and brings the commit index.
        self.raw.ping();
        self.send_ping(ping);
        if self.has_witness() {
            self.ask_witness(witness_request::Kind::Ping(ping));
        }
    }

    /// From the leader: this voter votes for nobody for a promise.
    pub(super) fn ping_from_peer(&mut self, ping: &Ping) {
        if ping.term != self.term() || self.raw.raft.state != raft::StateRole::Follower {
            return;
        }
        if !promise_covers(self.cfg.timing.promise_ns, ping.lease_ns) {
            return;
        }
        let yields = self.lets_peer_go_first();
        self.election.heard_leader(self.now, self.term(), &self.cfg, yields);
        self.election.promise(self.now, &self.cfg);
        self.peer.disk_hangs = ping.disk_hangs;
        self.catch_up.heard_leader(ping);
        // What that leader commits alone from now on, this node need not have.
        self.peer.was_in_sync &= ping.needs_both || planted(Planted::AskBehindOpenGate);
        self.send_pong(Pong {
            term: ping.term,
            sent_ns: ping.sent_ns,
            applied_index: self.applied_to_say(),
            recovering: self.stable.recovering,
            disk_hangs: self.disk_hangs(),
        });
    }

    pub(super) fn pong_from_peer(&mut self, pong: &Pong) {
        self.peer.applied = self.peer.applied.max(pong.applied_index);
        self.peer.recovering = pong.recovering;
        self.peer.disk_hangs = pong.disk_hangs;
        if self.is_our_ping(pong) {
            self.peer.heard_at = self.now;
            self.lease.peer_ack = self.lease.peer_ack.max(self.lease_from(pong));
        }
    }

    pub(super) fn pong_from_witness(&mut self, pong: &Pong) {
        if self.is_our_ping(pong) {
            self.lease.witness_ack = self.lease.witness_ack.max(self.lease_from(pong));
        }
    }

    fn lease_from(&self, pong: &Pong) -> u64 {
        // Planted: the promise is taken to have begun when its answer came.
        if planted(Planted::LeaseFromReceiveTime) { self.now } else { pong.sent_ns }
    }

    fn is_our_ping(&self, pong: &Pong) -> bool {
        self.is_leader() && pong.term == self.term() && pong.sent_ns <= self.now
    }

    /// The third vote is this node's own: no other quorum can be, so none need acknowledge.
    fn is_quorum_alone(&self) -> bool {
        self.unreplicated() || self.stable.stand_in
    }

    pub(super) fn extend_lease(&mut self, out: &mut Vec<Output>) {
        let Some(tenure) = self.tenure.as_ref().filter(|t| !t.void) else { return };
        let Incarnation::At(incarnation) = tenure.incarnation else { return };
        // Planted: it need not be applied.
        if self.applying.applied < incarnation && !planted(Planted::ServeBeforeApplied) {
            return;
        }
        let term = tenure.term;
        let base =
            if self.is_quorum_alone() { self.now } else { self.lease.peer_ack.max(self.lease.witness_ack) };
        if base == 0 {
            return;
        }
        let until = base.saturating_add(self.cfg.timing.lease_ns);
        // Alone, it is extended with each ping interval rather than with each step.
        let step = if self.is_quorum_alone() { self.cfg.timing.ping_ns } else { 1 };
        if until <= self.now || until < self.lease.until.saturating_add(step) {
            return;
        }
        self.lease.until = until;
        out.push(Output::Lease { until_ns: until });
        if !self.lease.serving {
            self.lease.serving = true;
            out.push(Output::Serving { term });
        }
    }

    /// A lease that ran out is over, for whoever waits to be told. (Replies need no telling: they look at the clock.)
    pub(super) fn expire_lease(&mut self, out: &mut Vec<Output>) {
        if self.lease.serving && self.now >= self.lease.until {
            self.revoke_lease(out);
        }
    }

    pub(super) fn revoke_lease(&mut self, out: &mut Vec<Output>) {
        if self.lease.until > 0 {
            out.push(Output::LeaseRevoked);
        }
        if self.lease.serving {
            out.push(Output::NotServing);
        }
        self.lease.until = 0;
        self.lease.serving = false;
    }

    /// Does this node serve, or may a reply of its still be on its way out?
    pub(super) fn holds_lease(&self) -> bool {
        self.is_leader() && self.now < self.lease.until
    }

    pub(super) fn ask_witness(&mut self, kind: witness_request::Kind) {
        self.witness.requests.push(WitnessRequest {
            cluster: self.cfg.cluster.clone(),
            export: self.cfg.export.clone(),
            from: self.cfg.me,
            kind: Some(kind),
        });
    }
}
