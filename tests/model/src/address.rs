//! Time and addresses: leases and promises run out, and the guardian's deadline with them.

use crate::config::{Config, Rule};
use crate::message::{Message, NO_PONG, Reply, Request};
use crate::state::{Guardian, State};

/// A dead server's address stays for so many leases, while the peer can order it down: twice the time that a
/// hand-over may take.
const PARK_LEASES: u8 = 3;

impl State {
    /// Time passes, for all at once. (Clocks that drift apart are the difference between lease and promise.)
    pub(crate) fn tick(&mut self, cfg: &Config) {
        let both = self.nodes.iter().all(|n| n.guardian.up);
        self.seen.both_up = if both { (self.seen.both_up + 1).min(cfg.lease + 1) } else { 0 };
        // Who raised the address ordered it down there before; on a stream that lives that arrives within a tick.
        let ordered_down =
            [1, 0].map(|peer: usize| self.link && self.nodes[peer].serves() && self.nodes[peer].guardian.up);
        for id in 0..self.nodes.len() {
            if let Some(tenure) = self.nodes[id].tenure_mut() {
                tenure.lease = tenure.lease.saturating_sub(1);
            }
            if let Some(process) = &mut self.nodes[id].process {
                process.promise = process.promise.saturating_sub(1);
            }
        }
        if cfg.addresses {
            for (id, ordered_down) in ordered_down.into_iter().enumerate() {
                self.guardian_tick(cfg, id, ordered_down);
            }
        }
        self.witness.promise = self.witness.promise.saturating_sub(1);
        self.age(cfg.lease);
    }

    /// What is on its way gets older; older than a lease is all the same.
    fn age(&mut self, max: u8) {
        let older = |age: &mut u8| {
            if *age != NO_PONG {
                *age = (*age + 1).min(max);
            }
        };
        for message in self.queues.iter_mut().flat_map(|q| q.iter_mut()) {
            if let Message::Append { age, .. } | Message::Ack { age, .. } = message {
                older(age);
            }
        }
        for (_, request) in &mut self.requests {
            if let Request::Ping { age, .. } = request {
                older(age);
            }
        }
        for (_, _, reply) in &mut self.replies {
            if let Reply::Pong { age, .. } = reply {
                older(age);
            }
        }
        // A ping that old could only make the witness promise what is of no use: it counts as lost.
        self.requests.retain(|(_, request)| !matches!(request, Request::Ping { age, .. } if *age >= max));
        self.requests.sort_unstable();
        self.replies.sort_unstable();
        self.replies.dedup();
    }

    fn guardian_tick(&mut self, cfg: &Config, id: usize, ordered_down: bool) {
        if ordered_down {
            self.lower(id);
        }
        let guardian = &mut self.nodes[id].guardian;
        guardian.lease = guardian.lease.saturating_sub(1);
        guardian.parked = guardian.parked.saturating_sub(1);
        if guardian.lease == 0 && guardian.parked == 0 && cfg.holds(Rule::AddressGoesWithLease) {
            *guardian = Guardian::default();
        }
    }

    /// Nobody can order a parked address down any more: it goes, or goes with the lease.
    pub(crate) fn break_link(&mut self, cfg: &Config) {
        self.link = false;
        if !cfg.holds(Rule::ParkOnlyWhileConnected) {
            return;
        }
        for node in &mut self.nodes {
            node.guardian.parked = 0;
            if node.guardian.lease == 0 {
                node.guardian = Guardian::default();
            }
        }
    }

    /// The server says until when it has a lease.
    pub(crate) fn report_leases(&mut self) {
        for node in &mut self.nodes {
            let lease = if node.serves() { node.tenure().map_or(0, |t| t.lease) } else { 0 };
            if node.guardian.up && lease > 0 {
                node.guardian.lease = node.guardian.lease.max(lease);
                node.guardian.parked = 0;
            }
        }
    }

    /// The server was killed; its host lives.
    pub(crate) fn park(&mut self, id: usize, cfg: &Config) {
        let guardian = &mut self.nodes[id].guardian;
        let connected = self.link || !cfg.holds(Rule::ParkOnlyWhileConnected);
        guardian.parked = if guardian.up && connected { PARK_LEASES * cfg.lease } else { 0 };
    }

    pub(crate) fn raise(&mut self, id: usize) {
        self.nodes[id].guardian.up = true;
        self.report_leases();
    }

    pub(crate) fn lower(&mut self, id: usize) {
        self.nodes[id].guardian = Guardian::default();
    }
}
