//! What raft-rs has ready: what must be persisted, and what may be said only after that.
//!
//! Persistence is asynchronous and in order: each [`Output::Persist`] has a number, and what waits for it (raft-rs's
//! own progress, votes, append responses) waits in one queue. Invariants: a vote or a term leaves only after its
//! fdatasync; an append response only after its entries count as persisted; `durable_index` never exceeds what an
//! fdatasync of this node's own log covers.

use std::collections::VecDeque;

use raft::StateRole;
use raft::eraftpb::Message;

use super::config::Durability;
use super::io::Output;
use super::status::GateState;
use super::voter::Node;
use super::wire;
use crate::ids::voter;
use crate::log::{Entry, LogIndex, StableState};
use crate::planted::{Planted, planted};

/// The commit index is written down this long after it moved, if nothing else was written: bounds how much of the
/// log a restarted node cannot apply by itself.
const COMMIT_LAG_NS: u64 = 1_000_000_000;

/// Waits for a Persist.
#[derive(Debug)]
struct Waiting {
    seq: u64,
    sync: bool,
    /// raft-rs's number of the Ready.
    ready: Option<u64>,
    messages: Vec<Message>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Persistence {
    /// Last number given out.
    seq: u64,
    written: u64,
    durable: u64,
    queue: VecDeque<Waiting>,
    /// (number, last entry) of what is not fdatasync'ed.
    tails: VecDeque<(u64, LogIndex)>,
    durable_index: LogIndex,
    /// As given out last.
    said: StableState,
    commit_moved_at: Option<u64>,
}

impl Persistence {
    pub fn new(said: StableState, last: LogIndex) -> Self {
        Self {
            seq: 0,
            written: 0,
            durable: 0,
            queue: VecDeque::new(),
            tails: VecDeque::new(),
            durable_index: last,
            said,
            commit_moved_at: None,
        }
    }

    /// Everything up to this entry is fdatasync'ed here.
    pub fn durable_index(&self) -> LogIndex {
        self.durable_index
    }

    pub fn is_durable(&self, seq: u64) -> bool {
        self.durable >= seq
    }

    pub fn commit_due(&self) -> u64 {
        self.commit_moved_at.map_or(u64::MAX, |at| at.saturating_add(COMMIT_LAG_NS))
    }

    fn front_is_done(&self) -> bool {
        // Planted: nothing waits to be persisted.
        let at_once = planted(Planted::AcknowledgeBeforeWritten);
        let is_done = |w: &Waiting| self.written >= w.seq && (!w.sync || self.durable >= w.seq);
        self.queue.front().is_some_and(|w| at_once || is_done(w))
    }

    fn truncated_from(&mut self, first: LogIndex) {
        let below = first.saturating_sub(1);
        self.durable_index = self.durable_index.min(below);
        for (_, last) in &mut self.tails {
            *last = (*last).min(below);
        }
    }
}

impl Node {
    /// Carries out what raft-rs has ready, until it has nothing more.
    pub(super) fn pump(&mut self, out: &mut Vec<Output>) {
        loop {
            self.notice_role(out);
            if self.raw.has_ready() {
                self.one_ready(out);
            } else if !self.release(out) {
                break;
            }
        }
        let written = self.raw.raft.raft_log.persisted;
        let unapplied = self.applying.next();
        self.raw.mut_store().evict(written, unapplied);
    }

    fn one_ready(&mut self, out: &mut Vec<Output>) {
        let mut ready = self.raw.ready();
        let number = ready.number();
        let mut must_sync = false;
        if let Some(hs) = ready.hs() {
            must_sync = hs.term != self.stable.term || hs.vote != self.stable.vote;
            self.stable.term = hs.term;
            self.stable.vote = hs.vote;
            if hs.commit != self.stable.commit {
                self.stable.commit = hs.commit;
                self.persistence.commit_moved_at.get_or_insert(self.now);
            }
        }
        let entries: Vec<Entry> = ready.take_entries().into_iter().map(wire::from_raft_entry).collect();
        let now_messages = ready.take_messages();
        let later_messages = ready.take_persisted_messages();
        if let Some(last) = ready.take_committed_entries().last() {
            self.applying.committed(last.index);
            self.uncommitted.committed(last.index);
        }
        if let Some(first) = entries.first() {
            self.persistence.truncated_from(first.index);
            self.raw.mut_store().append(&entries);
        }
        // Planted: what the leader has counts as committed.
        if planted(Planted::ReplyBeforeCommit) && self.is_leader() {
            self.applying.committed(self.raw.store().last());
        }
        self.raw.advance_append_async(ready);
        // Nothing hangs on raft-rs's own applied index: there are no configuration changes.
        self.raw.advance_apply();
        self.persist_ready(number, must_sync, entries, later_messages, out);
        self.deliver(now_messages, out);
    }

    fn persist_ready(
        &mut self,
        number: u64,
        must_sync: bool,
        entries: Vec<Entry>,
        messages: Vec<Message>,
        out: &mut Vec<Output>,
    ) {
        // Planted: the vote does not wait for its fdatasync.
        let mut sync = must_sync && !planted(Planted::VoteBeforeSync);
        if !entries.is_empty() {
            sync |= self.entries_must_sync();
            if self.stable.solo && !self.is_leader() {
                // It accepts what another leader has: it is not the only copy any more. The state goes first.
                self.stable.solo = false;
                self.stable.stand_in = false;
                sync = true;
            }
        }
        if must_sync || !entries.is_empty() {
            let seq = self.emit_persist(entries, sync, out);
            self.persistence.queue.push_back(Waiting { seq, sync, ready: Some(number), messages });
        } else {
            // Nothing to persist, but not before what came earlier.
            let seq = self.persistence.seq;
            self.persistence.queue.push_back(Waiting { seq, sync: false, ready: Some(number), messages });
        }
    }

    /// In `"memory"`, where this node's page cache would hold the only copy, nothing counts unsynced.
    fn entries_must_sync(&self) -> bool {
        self.cfg.durability == Durability::Disk
            || self.unreplicated()
            || self.stable.solo
            || self.gate.state != GateState::Closed
    }

    fn emit_persist(&mut self, entries: Vec<Entry>, sync: bool, out: &mut Vec<Output>) -> u64 {
        let p = &mut self.persistence;
        p.seq += 1;
        if let Some(last) = entries.last() {
            p.tails.push_back((p.seq, last.index));
        }
        let state = (self.stable != p.said).then(|| self.stable.clone());
        p.said = self.stable.clone();
        p.commit_moved_at = None;
        out.push(Output::Persist { seq: p.seq, state, entries, sync });
        p.seq
    }

    /// Persists what must never be forgotten, as it is now. Returns the number to wait for.
    pub(super) fn persist_state(&mut self, sync: bool, out: &mut Vec<Output>) -> u64 {
        let seq = self.emit_persist(Vec::new(), sync, out);
        self.persistence.queue.push_back(Waiting { seq, sync, ready: None, messages: Vec::new() });
        seq
    }

    /// Makes what changed since the last Persist durable, if anything but the commit index did.
    pub(super) fn persist_changes(&mut self, out: &mut Vec<Output>) {
        let said = &self.persistence.said;
        if self.stable != (StableState { commit: self.stable.commit, ..said.clone() }) {
            self.persist_state(true, out);
        }
    }

    pub(super) fn tick_commit(&mut self, out: &mut Vec<Output>) {
        if self.now >= self.persistence.commit_due() {
            self.persist_state(false, out);
        }
    }

    pub(super) fn written(&mut self, seq: u64) {
        self.persistence.written = self.persistence.written.max(seq.min(self.persistence.seq));
    }

    pub(super) fn made_durable(&mut self, seq: u64) {
        self.written(seq);
        let p = &mut self.persistence;
        p.durable = p.durable.max(seq.min(p.seq));
        while let Some((_, last)) = p.tails.pop_front_where(|(seq, _)| *seq <= p.durable) {
            p.durable_index = last;
        }
    }

    /// Lets go of what waited for a Persist that counts now. True: something did.
    fn release(&mut self, out: &mut Vec<Output>) -> bool {
        if !self.persistence.front_is_done() {
            return false;
        }
        let Some(done) = self.persistence.queue.pop_front() else { return false };
        if let Some(number) = done.ready {
            self.raw.on_persist_ready(number);
        }
        self.deliver(done.messages, out);
        true
    }

    /// raft-rs's messages, to whom they are for.
    fn deliver(&mut self, messages: Vec<Message>, out: &mut Vec<Output>) {
        for message in messages {
            if message.to == voter::WITNESS {
                self.ask_third(&message, out);
            } else if Some(message.to) == self.cfg.peer {
                self.note_acknowledged(&message);
                let candidacy = self.candidacy(&message);
                self.send_message(wire::to_wire(message, candidacy), out);
            }
        }
    }

    /// Takes note of a change of role before anything else follows from it.
    fn notice_role(&mut self, out: &mut Vec<Output>) {
        let term = self.term();
        let leads = self.raw.raft.state == StateRole::Leader;
        if self.tenure.as_ref().is_some_and(|t| !leads || t.term != term) {
            self.end_tenure(out);
        }
        if leads && self.tenure.is_none() {
            self.begin_tenure(out);
        }
        let leader = Some(self.raw.raft.leader_id).filter(|id| *id != raft::INVALID_ID);
        if leader != self.leader_said {
            self.leader_said = leader;
            self.catch_up.forget_leader();
            out.push(Output::Leader { id: leader });
        }
    }
}

/// [`VecDeque`] has no such method yet in the oldest Rust that is supported.
trait PopFrontWhere<T> {
    fn pop_front_where(&mut self, condition: impl FnOnce(&T) -> bool) -> Option<T>;
}

impl<T> PopFrontWhere<T> for VecDeque<T> {
    fn pop_front_where(&mut self, condition: impl FnOnce(&T) -> bool) -> Option<T> {
        if condition(self.front()?) { self.pop_front() } else { None }
    }
}
