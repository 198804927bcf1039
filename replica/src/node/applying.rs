//! What is committed, on its way to the state machine: from memory, or read back from the log.

use std::collections::VecDeque;

use super::io::Output;
use super::storage::READ_AHEAD_BYTES;
use super::voter::Node;
use crate::log::{Entry, LogIndex};

/// Handed to the state machine and not applied, at most, bytes.
const UNDER_WAY_BYTES_MAX: usize = 64 << 20;
/// Handed over at once, about, bytes.
const CHUNK_BYTES: usize = 8 << 20;

/// Who waits for fetched entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum For {
    StateMachine,
    Peer,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Applying {
    /// Next to be handed over.
    next: LogIndex,
    /// Committed and persisted here.
    committed: LogIndex,
    pub applied: LogIndex,
    under_way: VecDeque<(LogIndex, usize)>,
    under_way_bytes: usize,
    fetching: Option<(For, LogIndex)>,
    /// Applied, but not to be said to the peer before this Persist: it changed what must never be forgotten.
    applied_after: Option<(LogIndex, u64)>,
}

impl Applying {
    pub fn new(applied: LogIndex, committed: LogIndex) -> Self {
        Self {
            next: applied + 1,
            committed,
            applied,
            under_way: VecDeque::new(),
            under_way_bytes: 0,
            fetching: None,
            applied_after: None,
        }
    }

    pub fn next(&self) -> LogIndex {
        self.next
    }

    /// What the state machine was given first of what it has not applied: its last entry.
    pub fn oldest(&self) -> Option<LogIndex> {
        self.under_way.front().map(|(last, _)| *last)
    }

    pub fn committed(&mut self, index: LogIndex) {
        self.committed = self.committed.max(index);
    }

    fn hand_over(&mut self, entries: Vec<Entry>, out: &mut Vec<Output>) {
        let Some(last) = entries.last().map(|e| e.index) else { return };
        let bytes = entries.iter().map(Entry::cost).sum();
        self.next = last + 1;
        self.under_way.push_back((last, bytes));
        self.under_way_bytes += bytes;
        out.push(Output::Apply(entries));
    }
}

impl Node {
    /// Hands over what is committed, as far as there is room, and fetches what is not in memory.
    pub(super) fn feed(&mut self, out: &mut Vec<Output>) {
        if self.needs_image {
            return;
        }
        while self.applying.next <= self.applying.committed
            && self.applying.under_way_bytes < UNDER_WAY_BYTES_MAX
        {
            let (from, to) = (self.applying.next, self.applying.committed + 1);
            match self.raw.store().in_memory(from, to, CHUNK_BYTES) {
                Some(entries) => self.applying.hand_over(entries, out),
                None => {
                    self.fetch(For::StateMachine, from, to, out);
                    break;
                }
            }
        }
        if let Some(from) = self.raw.store().wanted_from() {
            let to = self.raw.store().last() + 1;
            self.fetch(For::Peer, from, to, out);
        }
    }

    fn fetch(&mut self, purpose: For, from: LogIndex, to: LogIndex, out: &mut Vec<Output>) {
        if self.applying.fetching.is_none() && from < to {
            self.applying.fetching = Some((purpose, from));
            out.push(Output::Fetch { from, to, max_bytes: READ_AHEAD_BYTES });
        }
    }

    pub(super) fn fetched(&mut self, entries: Vec<Entry>, out: &mut Vec<Output>) {
        let Some((purpose, from)) = self.applying.fetching.take() else { return };
        let fits =
            (from..).zip(&entries).all(|(index, e)| e.index == index && self.term_at(index) == Some(e.term));
        let usable = fits && !entries.is_empty();
        match purpose {
            For::StateMachine if usable => {
                let committed = self.applying.committed;
                let wanted = from == self.applying.next;
                let entries = entries.into_iter().take_while(|e| wanted && e.index <= committed).collect();
                self.applying.hand_over(entries, out);
            }
            For::StateMachine => {
                self.be_mute();
                self.need_image(out, format!("entry {from} is to be applied and is not in the log any more"));
            }
            For::Peer if usable => {
                self.raw.mut_store().read_ahead(entries);
                self.resume_peer();
            }
            // The log was cut meanwhile, or overwritten: asked for again with the next ping, if it is still wanted.
            For::Peer => {
                self.raw.mut_store().forget_read_ahead();
            }
        }
    }

    fn resume_peer(&mut self) {
        let Some(wanted) = self.raw.mut_store().take_wanted() else { return };
        for context in wanted.contexts {
            self.raw.on_entries_fetched(context);
        }
    }

    /// The state machine stands there, and knows this witness.
    pub(super) fn applied(&mut self, index: LogIndex, witness: u64, out: &mut Vec<Output>) {
        let a = &mut self.applying;
        while let Some((last, bytes)) = a.under_way.front().copied()
            && last <= index
        {
            a.under_way.pop_front();
            a.under_way_bytes -= bytes;
        }
        let index = index.min(a.next.saturating_sub(1));
        // Before that entry the state machine only replays what this node already knew.
        if witness != self.stable.witness && index >= self.witness.adoption_index {
            self.adopted(witness, index);
            let seq = self.persist_state(true, out);
            self.applying.applied_after = Some((index, seq));
        }
        self.applying.applied = self.applying.applied.max(index);
    }

    /// What the peer may know to be applied here.
    pub(super) fn applied_to_say(&self) -> LogIndex {
        match self.applying.applied_after {
            Some((index, seq)) if !self.persistence.is_durable(seq) => {
                self.applying.applied.min(index.saturating_sub(1))
            }
            _ => self.applying.applied,
        }
    }
}
