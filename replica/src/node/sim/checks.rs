//! What must hold at every instant of a run.

use std::collections::BTreeMap;

use super::host::Host;
use crate::log::{Entry, LogIndex, Term};
use crate::node::{Durability, GateState};

/// What is known of the run so far.
#[derive(Debug, Default)]
pub(super) struct Checks {
    leaders: BTreeMap<Term, usize>,
    /// Applied by anybody.
    committed: BTreeMap<LogIndex, Entry>,
    acknowledged: BTreeMap<LogIndex, Term>,
    pub acknowledgements: u64,
    pub solo_acknowledgements: u64,
    /// Texts of events that ask for a person.
    pub errors: Vec<String>,
}

impl Checks {
    /// Election safety: one leader a term.
    pub fn elected(&mut self, h: usize, term: Term) {
        let first = *self.leaders.entry(term).or_insert(h);
        assert_eq!(first, h, "two leaders in term {term}");
    }

    /// State machine safety, and with it log matching of what is committed.
    pub fn applied(&mut self, h: usize, entry: &Entry) {
        let first = self.committed.entry(entry.index).or_insert_with(|| entry.clone());
        assert_eq!(first, entry, "host {} applies another entry at {}", h + 1, entry.index);
    }

    /// An operation's client is told. While the gate is closed, the backup has it persisted.
    pub fn acknowledged(
        &mut self,
        now: u64,
        h: usize,
        entry: &Entry,
        hosts: &[Host],
        durability: Durability,
    ) {
        self.acknowledged.insert(entry.index, entry.term);
        self.acknowledgements += 1;
        let (leader, backup) = (&hosts[h], &hosts[1 - h]);
        let gate = leader.node.as_ref().map_or(GateState::Closed, |n| n.status().gate);
        if gate != GateState::Closed {
            self.solo_acknowledgements += 1;
            if gate == GateState::Open {
                let durable = leader.log.durable.last().0;
                assert!(
                    entry.index <= durable,
                    "solo, entry {} is acknowledged and not durable",
                    entry.index
                );
            }
            return;
        }
        let log = match durability {
            Durability::Disk => &backup.log.durable,
            Durability::Memory => &backup.log.cached,
        };
        let there = entry.index <= log.base.0 || log.get(entry.index).is_some_and(|e| e.term == entry.term);
        // What it acknowledged before this node's own disk (which may hang for seconds) did is gone by now.
        let forgot = now < backup.forgot_at + 3_000_000_000;
        assert!(
            there || forgot || backup.wants_image,
            "entry {} is acknowledged with a single copy",
            entry.index
        );
    }

    /// Leader completeness: who serves has everything that was acknowledged.
    pub fn serves(&self, h: usize, host: &Host) {
        let log = &host.log.cached;
        for (index, term) in self.acknowledged.range(log.base.0 + 1..) {
            let there = log.get(*index).is_some_and(|e| e.term == *term);
            assert!(there, "host {} serves without entry {index}, which was acknowledged", h + 1);
        }
    }

    /// At most one valid lease at any instant.
    pub fn lease(&self, now: u64, hosts: &[Host]) {
        assert!(!hosts.iter().all(|h| h.holds_lease(now)), "hosts 1 and 2 both may answer");
    }

    pub fn event(&mut self, level: tracing::Level, text: &str) {
        if level == tracing::Level::ERROR {
            self.errors.push(text.to_owned());
        }
    }

    /// At the end: the state machine of a host went through everything that was acknowledged.
    pub fn nothing_is_lost(&self, applied: LogIndex) {
        for (index, term) in &self.acknowledged {
            assert!(*index <= applied, "entry {index} was acknowledged and is not applied");
            assert_eq!(
                self.committed.get(index).map(|e| e.term),
                Some(*term),
                "entry {index} was acknowledged"
            );
        }
    }
}
