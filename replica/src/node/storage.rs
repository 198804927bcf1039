//! The log as raft-rs sees it: the terms of all entries, the data of recent ones.
//!
//! It never reads a disk. Entries for the peer that have left memory are fetched (raft-rs's asynchronous fetch).
//! Entries that raft-rs wants for itself are stubs without data: it needs their index and term alone, and what is to
//! be applied is taken from here, or fetched, by `applying`.
//!
//! Invariants: `runs` covers every index from `base + 1` to `last`; `recent` ends at `last`; raft-rs's own snapshots
//! are never made.

use std::cell::RefCell;
use std::collections::VecDeque;

use raft::eraftpb::{ConfState, HardState, Snapshot};
use raft::{Error, GetEntriesContext, RaftState, Storage, StorageError};

use super::wire;
use crate::log::{Entry, LogIndex, Term};

/// Fetched entries kept for the peer at once, bytes.
pub(super) const READ_AHEAD_BYTES: usize = 8 << 20;

/// Entries by index without a hole, the last ones in memory.
#[derive(Debug, Default)]
struct Recent {
    entries: VecDeque<Entry>,
    bytes: usize,
}

impl Recent {
    fn first(&self) -> Option<LogIndex> {
        self.entries.front().map(|e| e.index)
    }

    fn push(&mut self, entry: Entry) {
        self.bytes += entry.cost();
        self.entries.push_back(entry);
    }

    fn truncate_from(&mut self, index: LogIndex) {
        while self.entries.back().is_some_and(|e| e.index >= index) {
            self.bytes -= self.entries.pop_back().map_or(0, |e| e.cost());
        }
    }

    fn pop_front(&mut self) {
        self.bytes -= self.entries.pop_front().map_or(0, |e| e.cost());
    }

    /// From `low` on, before `high`, as many as fit (at least one). None where `low` is not here.
    fn range(&self, low: LogIndex, high: LogIndex, bytes_max: u64) -> Option<Vec<Entry>> {
        let offset = usize::try_from(low.checked_sub(self.first()?)?).ok()?;
        let mut bytes = 0;
        let mut found = Vec::new();
        for entry in self.entries.iter().skip(offset).take_while(|e| e.index < high) {
            bytes += entry.cost() as u64;
            if !found.is_empty() && bytes > bytes_max {
                break;
            }
            found.push(entry.clone());
        }
        (!found.is_empty()).then_some(found)
    }
}

/// What raft-rs asked for and did not get.
#[derive(Debug)]
pub(super) struct Wanted {
    pub from: LogIndex,
    pub contexts: Vec<GetEntriesContext>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct LogStore {
    hard_state: HardState,
    voters: Vec<u64>,
    base: (LogIndex, Term),
    runs: VecDeque<(LogIndex, Term)>,
    last: LogIndex,
    recent: Recent,
    recent_bytes_max: usize,
    read_ahead: Recent,
    wanted: RefCell<Option<Wanted>>,
}

impl LogStore {
    pub fn new(
        voters: Vec<u64>,
        hard_state: HardState,
        base: (LogIndex, Term),
        last: LogIndex,
        runs: Vec<(LogIndex, Term)>,
        recent_bytes_max: usize,
    ) -> Self {
        Self {
            hard_state,
            voters,
            base,
            runs: runs.into(),
            last,
            recent: Recent::default(),
            recent_bytes_max,
            read_ahead: Recent::default(),
            wanted: RefCell::new(None),
        }
    }

    pub fn first(&self) -> LogIndex {
        self.base.0 + 1
    }

    pub fn last(&self) -> LogIndex {
        self.last
    }

    /// The term of an entry; None outside `base..=last`.
    pub fn term_of(&self, index: LogIndex) -> Option<Term> {
        if index == self.base.0 {
            return Some(self.base.1);
        }
        if index < self.base.0 || index > self.last {
            return None;
        }
        let after = self.runs.partition_point(|(start, _)| *start <= index);
        self.runs.get(after.checked_sub(1)?).map(|(_, term)| *term)
    }

    /// Appends; what is there from the first one's index on goes.
    pub fn append(&mut self, entries: &[Entry]) {
        let Some(first) = entries.first() else { return };
        assert!(first.index > self.base.0 && first.index <= self.last + 1, "append leaves no hole");
        if first.index <= self.last {
            self.runs.retain(|(start, _)| *start < first.index);
            self.recent.truncate_from(first.index);
            self.read_ahead = Recent::default();
            self.last = first.index - 1;
        }
        for entry in entries {
            if self.term_of(self.last) != Some(entry.term) || self.runs.is_empty() {
                self.runs.push_back((entry.index, entry.term));
            }
            self.last = entry.index;
            self.recent.push(entry.clone());
        }
    }

    /// Lets go of old entries past the cache's limit: never of one that is not in the log file yet (`written`), and
    /// reluctantly of one that is still to be applied (`unapplied`).
    pub fn evict(&mut self, written: LogIndex, unapplied: LogIndex) {
        while self.recent.bytes > self.recent_bytes_max
            && let Some(entry) = self.recent.entries.front()
            && entry.index <= written
            && (entry.index < unapplied || self.recent.bytes > self.recent_bytes_max * 2)
        {
            self.recent.pop_front();
        }
    }

    /// The log file begins with this entry now.
    pub fn cut(&mut self, first: LogIndex) {
        let index = first.saturating_sub(1);
        let Some(term) = self.term_of(index).filter(|_| index > self.base.0) else { return };
        self.base = (index, term);
        while self.runs.get(1).is_some_and(|(start, _)| *start <= first) {
            self.runs.pop_front();
        }
        if self.last == index {
            self.runs.clear();
        }
        while self.recent.first().is_some_and(|first| first <= index) {
            self.recent.pop_front();
        }
    }

    /// In memory, from `low` on, before `high`.
    pub fn in_memory(&self, low: LogIndex, high: LogIndex, bytes_max: usize) -> Option<Vec<Entry>> {
        self.recent.range(low, high, bytes_max as u64)
    }

    /// Entries for the peer, read back from the log.
    pub fn read_ahead(&mut self, entries: Vec<Entry>) {
        self.read_ahead = Recent::default();
        for entry in entries {
            self.read_ahead.push(entry);
        }
    }

    /// What is to be fetched for the peer.
    pub fn wanted_from(&self) -> Option<LogIndex> {
        self.wanted.borrow().as_ref().map(|w| w.from)
    }

    pub fn take_wanted(&mut self) -> Option<Wanted> {
        self.wanted.take()
    }

    /// Nobody waits for fetched entries any more.
    pub fn forget_read_ahead(&mut self) {
        self.read_ahead = Recent::default();
        self.wanted.take();
    }

    fn stubs(&self, low: LogIndex, high: LogIndex) -> Vec<raft::eraftpb::Entry> {
        (low..high)
            .map(|index| {
                let term = self.term_of(index).unwrap_or_default();
                raft::eraftpb::Entry { index, term, ..Default::default() }
            })
            .collect()
    }
}

impl Storage for LogStore {
    fn initial_state(&self) -> raft::Result<RaftState> {
        let conf = ConfState { voters: self.voters.clone(), ..ConfState::default() };
        Ok(RaftState::new(self.hard_state.clone(), conf))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        context: GetEntriesContext,
    ) -> raft::Result<Vec<raft::eraftpb::Entry>> {
        if low <= self.base.0 {
            return Err(Error::Store(StorageError::Compacted));
        }
        if !context.can_async() {
            return Ok(self.stubs(low, high));
        }
        let bytes_max = max_size.into().unwrap_or(u64::MAX);
        let here = self.recent.range(low, high, bytes_max);
        if let Some(entries) = here.or_else(|| self.read_ahead.range(low, high, bytes_max)) {
            return Ok(entries.into_iter().map(wire::to_raft_entry).collect());
        }
        let mut wanted = self.wanted.borrow_mut();
        match wanted.as_mut() {
            // A resend every ping must not make the list grow: two contexts (aggressive or not) say it all.
            Some(wanted) => {
                wanted.from = low;
                wanted.contexts.truncate(1);
                wanted.contexts.push(context);
            }
            None => *wanted = Some(Wanted { from: low, contexts: vec![context] }),
        }
        Err(Error::Store(StorageError::LogTemporarilyUnavailable))
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        self.term_of(index).ok_or(Error::Store(if index < self.base.0 {
            StorageError::Compacted
        } else {
            StorageError::Unavailable
        }))
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.first())
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last)
    }

    fn snapshot(&self, _request_index: u64, _to: u64) -> raft::Result<Snapshot> {
        Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable))
    }
}
