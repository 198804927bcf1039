//! What is wrong with this node, as it counts: at once when it gets worse, late when it gets better.
//!
//! What is seen may change with every look; what others are told, and what is decided on, must not. A lost client network is
//! better late in two steps: after a short while others may hand over to it, after the long one it is forgotten.

use super::types::{Fault, PolicyTiming};

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Health {
    seen: Option<Fault>,
    /// Since when that is seen.
    since_ns: u64,
    /// Since when what is seen is less than what counts.
    better_since_ns: Option<u64>,
    counts: Option<Fault>,
    /// Hand-overs since this node was last sound.
    yields: u32,
    may_yield_ns: u64,
}

impl Health {
    /// This is what is wrong now.
    pub fn seen(&mut self, now_ns: u64, fault: Option<Fault>) {
        if self.seen != fault {
            self.seen = fault;
            self.since_ns = now_ns;
        }
        self.better_since_ns = (fault < self.counts).then(|| self.better_since_ns.unwrap_or(now_ns));
    }

    /// What is wrong with this node, as it counts.
    pub fn counts(&self) -> Option<Fault> {
        self.counts
    }

    /// What is wrong with this node at this moment.
    pub fn acute(&self) -> Option<Fault> {
        self.seen
    }

    /// For how long that has been seen.
    pub fn seen_for_ns(&self, now_ns: u64) -> u64 {
        now_ns.saturating_sub(self.since_ns)
    }

    /// When what is seen counts; `None`: it does already.
    pub fn deadline(&self, timing: &PolicyTiming) -> Option<u64> {
        let network = self.counts == Some(Fault::NoClientNetwork);
        let wait_ns = if network { timing.network_sound_ns } else { timing.sound_after_ns };
        let better = self.better_since_ns.map(|at| at.saturating_add(wait_ns));
        better.or((self.seen > self.counts).then_some(self.since_ns))
    }

    /// Time has passed; true: something else counts now.
    pub fn settle(&mut self, now_ns: u64, timing: &PolicyTiming) -> bool {
        let due = self.deadline(timing).is_some_and(|at| at <= now_ns);
        if due && self.counts == Some(Fault::NoClientNetwork) && self.seen < Some(Fault::NetworkBack) {
            // It goes on being better.
            self.counts = Some(Fault::NetworkBack);
        } else if due {
            if self.seen.is_none() {
                self.yields = 0;
                self.may_yield_ns = 0;
            }
            self.counts = self.seen;
            self.better_since_ns = None;
        }
        due
    }

    /// No hand-over for what is seen before this.
    pub fn may_yield_ns(&self, timing: &PolicyTiming) -> u64 {
        let wait_ns = if self.seen == Some(Fault::NoClientNetwork) { timing.network_wait_ns } else { 0 };
        self.may_yield_ns.max(self.since_ns.saturating_add(wait_ns))
    }

    /// A hand-over for a fault was begun since this node was last sound.
    pub fn has_yielded(&self) -> bool {
        self.yields > 0
    }

    /// A hand-over begins. If it comes to nothing, the next one is later.
    pub fn yielded(&mut self, now_ns: u64, timing: &PolicyTiming) {
        let doublings = self.yields.min(PolicyTiming::YIELD_DOUBLINGS_MAX);
        self.yields = self.yields.saturating_add(1);
        self.may_yield_ns = now_ns.saturating_add(timing.yield_again_ns << doublings);
    }
}
