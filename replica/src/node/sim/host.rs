//! A simulated host: a clock of its own, a log that forgets what was not synced, a state machine, and a node.

use std::collections::VecDeque;

use crate::log::{Entry, LogIndex, StableState, Term};
use crate::node::{Node, Restored};

/// What an [`crate::node::Output::Persist`] says.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub seq: u64,
    pub state: Option<StableState>,
    pub entries: Vec<Entry>,
    pub sync: bool,
}

/// A log's contents.
#[derive(Clone, Debug, Default)]
pub(super) struct Contents {
    pub state: StableState,
    pub base: (LogIndex, Term),
    pub entries: VecDeque<Entry>,
}

impl Contents {
    fn add(&mut self, record: &Record) {
        if let Some(state) = &record.state {
            self.state = state.clone();
        }
        for entry in &record.entries {
            while self.entries.back().is_some_and(|e| e.index >= entry.index) {
                self.entries.pop_back();
            }
            if entry.index > self.base.0 {
                assert_eq!(entry.index, self.last().0 + 1, "the log has a hole");
                self.entries.push_back(entry.clone());
            }
        }
    }

    pub fn last(&self) -> (LogIndex, Term) {
        self.entries.back().map_or(self.base, |e| (e.index, e.term))
    }

    pub fn get(&self, index: LogIndex) -> Option<&Entry> {
        let offset = index.checked_sub(self.base.0 + 1)?;
        self.entries.get(usize::try_from(offset).ok()?)
    }

    pub fn cut(&mut self, upto: LogIndex) {
        while let Some(front) = self.entries.front()
            && front.index <= upto
        {
            self.base = (front.index, front.term);
            self.entries.pop_front();
        }
    }
}

/// A log file: written to the page cache, later synced.
#[derive(Debug, Default)]
pub(super) struct Log {
    pub durable: Contents,
    /// What the running system sees.
    pub cached: Contents,
    /// Written, not synced.
    unsynced: VecDeque<Record>,
}

impl Log {
    /// All of it synced.
    pub fn of(contents: Contents) -> Self {
        Self { durable: contents.clone(), cached: contents, unsynced: VecDeque::new() }
    }

    pub fn write(&mut self, record: Record) {
        self.cached.add(&record);
        self.unsynced.push_back(record);
    }

    pub fn sync(&mut self) {
        for record in self.unsynced.drain(..) {
            self.durable.add(&record);
        }
    }

    pub fn cut(&mut self, upto: LogIndex) {
        self.sync();
        self.durable.cut(upto);
        self.cached.cut(upto);
    }

    /// Power fails: of what was not synced, the first `kept` records survive.
    pub fn lose_power(&mut self, kept: usize) {
        for record in self.unsynced.drain(..).take(kept) {
            self.durable.add(&record);
        }
        self.cached = self.durable.clone();
    }

    pub fn unsynced(&self) -> usize {
        self.unsynced.len()
    }
}

/// The state machine: who was adopted, and how far it is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Applied {
    pub index: LogIndex,
    pub witness: u64,
}

/// A host.
pub(super) struct Host {
    pub id: u64,
    pub node: Option<Node>,
    /// Counts starts: what was under way in an earlier life is gone.
    pub life: u64,
    pub boot: u64,
    pub log: Log,
    /// Not written yet, in order.
    pub to_write: VecDeque<Record>,
    /// Committed, not applied yet, in order.
    pub to_apply: VecDeque<Vec<Entry>>,
    pub applied: Applied,
    pub checkpoint: Applied,
    /// On this host's clock.
    pub lease_until: u64,
    /// True time.
    pub paused_until: u64,
    pub clock_offset: u64,
    /// Parts per million by which its clock is fast.
    pub clock_fast_ppm: u64,
    pub proposed: VecDeque<(LogIndex, Term)>,
    /// Copied anew as soon as there is a leader to copy from.
    pub wants_image: bool,
    pub wake_at: u64,
    /// True time until which its disk hangs.
    pub disk_hangs_until: u64,
    /// True time until which its state machine hangs.
    pub apply_hangs_until: u64,
    /// True time before which the failover policy does not hand over from here again.
    pub yields_at: u64,
    /// True time of its last loss of what it had persisted.
    pub forgot_at: u64,
}

impl Host {
    pub fn local(&self, now: u64) -> u64 {
        self.clock_offset + now + now / 1_000_000 * self.clock_fast_ppm
    }

    pub fn restored(&self) -> Restored {
        let log = &self.log.cached;
        let mut terms: Vec<(LogIndex, Term)> = Vec::new();
        for entry in &log.entries {
            if terms.last().is_none_or(|(_, term)| *term != entry.term) {
                terms.push((entry.index, entry.term));
            }
        }
        Restored {
            state: log.state.clone(),
            base: log.base,
            last: log.last(),
            terms,
            applied: self.applied.index,
            boot_id: format!("boot {} of {}", self.boot, self.id),
        }
    }

    pub fn holds_lease(&self, now: u64) -> bool {
        self.node.is_some() && self.local(now) < self.lease_until
    }
}
