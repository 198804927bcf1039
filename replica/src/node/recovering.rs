//! A copy that may lack what it had acknowledged: its tail went with the page cache (`durability = "memory"`), its disk was
//! replaced by an empty one, or it was copied from elsewhere.
//!
//! Such a node is recovering: it says so as a candidate (the witness does not vote for it), leaves an intact peer the time
//! to go first, and never takes a verdict. It ends when this node holds everything up to the leader's last entry at the
//! handshake, or when it commits an entry of its own term as leader. A process restart does not end it; being the only one
//! that went on (the solo mark) prevents it. A node that began with nothing forgot its votes, too: until it is complete it
//! votes only for another such node (that founds a new group), or for whom a leader appoints.

use proto::peer::Ping;
use raft::eraftpb::{Message, MessageType};

use super::config::{Durability, NodeConfig};
use super::io::{Output, Restored};
use super::tenure::{Incarnation, Tenure};
use super::voter::Node;
use crate::log::{LogIndex, StableState, Term};
use crate::planted::{Planted, planted};

/// A directory without any state: a new group, or a disk that was replaced. It cannot be told apart here, so what is gone
/// is taken for lost: see `blank` in [`StableState`].
pub(super) fn is_blank(config: &NodeConfig, restored: &Restored) -> bool {
    let nothing =
        restored.state == StableState::default() && restored.last == (0, 0) && restored.applied == 0;
    config.peer.is_some() && (nothing || restored.state.blank)
}

pub(super) fn at_start(config: &NodeConfig, state: &StableState, boot_id: &str) -> bool {
    // Planted: nothing is ever lost.
    if config.peer.is_none() || state.solo || planted(Planted::IgnoreRecovering) {
        return false;
    }
    state.recovering || (!state.dirty_boot.is_empty() && state.dirty_boot != boot_id)
}

/// Whose page cache will hold what is acknowledged: said durably before the first acknowledgement.
pub(super) fn dirty_boot(config: &NodeConfig, boot_id: String) -> String {
    match config.durability {
        Durability::Memory if config.peer.is_some() => boot_id,
        Durability::Memory | Durability::Disk => String::new(),
    }
}

/// As follower: how far this log is known to be the leader's.
#[derive(Debug, Default)]
pub(super) struct CatchUp {
    /// (term, last entry acknowledged to that term's leader).
    acknowledged: (Term, LogIndex),
    /// The leader's last entry at the first ping on this connection.
    target: Option<LogIndex>,
    /// What the leader last said to be committed.
    committed: LogIndex,
    /// It last said that nothing is committed without this node.
    needs_both: bool,
}

impl CatchUp {
    /// Another leader, or another connection.
    pub fn forget_leader(&mut self) {
        *self = Self::default();
    }

    pub fn heard_leader(&mut self, ping: &Ping) {
        self.target.get_or_insert(ping.last_index);
        self.committed = ping.commit;
        // Planted: what a leader commits alone does not matter.
        self.needs_both = ping.needs_both || planted(Planted::AskBehindOpenGate);
    }

    fn is_level(&self, term: Term) -> bool {
        self.acknowledged.0 == term && self.target.is_some_and(|target| self.acknowledged.1 >= target)
    }

    pub fn has_what_is_committed(&self, term: Term) -> bool {
        self.acknowledged.0 == term && self.target.is_some() && self.acknowledged.1 >= self.committed
    }
}

impl Node {
    /// An append response leaves: what it says is persisted here.
    pub(super) fn note_acknowledged(&mut self, message: &Message) {
        if message.msg_type == MessageType::MsgAppendResponse
            && !message.reject
            && message.term == self.term()
        {
            let (term, index) = self.catch_up.acknowledged;
            let index = if term == message.term { index.max(message.index) } else { message.index };
            self.catch_up.acknowledged = (message.term, index);
        }
    }

    pub(super) fn end_recovering(&mut self, out: &mut Vec<Output>) {
        let term = self.term();
        if !self.is_leader() && !self.stable.recovering && self.catch_up.has_what_is_committed(term) {
            self.peer.was_in_sync |= self.peer.talking && self.catch_up.needs_both;
        }
        if !self.stable.recovering {
            self.end_locks_lost(out);
            return;
        }
        let over = match &self.tenure {
            Some(tenure) => self.commit() >= tenure.first,
            None => self.catch_up.is_level(term),
        };
        if over {
            // Elected so, it has yet to tell its state machine; complete through a leader's entries, nothing is missing.
            self.stable.locks_lost = self.tenure.as_ref().is_some_and(|tenure| tenure.locks_lost);
            self.stable.recovering = false;
            self.stable.blank = false;
            self.persist_state(true, out);
            self.send_hello();
            self.event(out, tracing::Level::INFO, "this copy is complete again");
        }
    }

    /// The incarnation that says so is committed, or another leader's copy took this one's place.
    fn end_locks_lost(&mut self, out: &mut Vec<Output>) {
        if !self.stable.locks_lost {
            return;
        }
        let said = match &self.tenure {
            Some(Tenure { incarnation: Incarnation::At(index), .. }) => self.commit() >= *index,
            Some(_) => false,
            None => self.catch_up.is_level(self.term()),
        };
        if said {
            self.stable.locks_lost = false;
            self.persist_state(true, out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a copy that lost its tail counts only once it holds everything that the leader had at the handshake, committed or
    /// not: what it had acknowledged before may not be known to be committed yet. Method: acknowledge up to each of both.
    #[test]
    fn the_leaders_last_entry_at_the_handshake_is_the_end() {
        let mut catch_up = CatchUp::default();
        catch_up.heard_leader(&Ping { term: 3, commit: 10, last_index: 14, ..Ping::default() });
        catch_up.heard_leader(&Ping { term: 3, commit: 20, last_index: 30, ..Ping::default() });
        catch_up.acknowledged = (3, 13);
        assert!(!catch_up.is_level(3));
        catch_up.acknowledged = (3, 14);
        assert!(catch_up.is_level(3));
        assert!(!catch_up.is_level(4), "what was acknowledged to another leader says nothing");
        catch_up.forget_leader();
        assert!(!catch_up.is_level(3));
    }

    /// Goal: who may have lost its tail knows it, and nobody else. Method: all ways to come back.
    #[test]
    fn only_a_machine_crash_of_the_last_moments_holder_makes_it_recovering() {
        let pair = NodeConfig { peer: Some(2), durability: Durability::Memory, ..NodeConfig::default() };
        let dirty = StableState { dirty_boot: "a".to_owned(), ..StableState::default() };
        assert!(at_start(&pair, &dirty, "b"));
        assert!(!at_start(&pair, &dirty, "a"), "the page cache outlived the process");
        assert!(!at_start(&pair, &StableState::default(), "b"), "a clean stop, or disk durability");
        assert!(
            !at_start(&pair, &StableState { solo: true, ..dirty.clone() }, "b"),
            "all it had was durable"
        );
        assert!(
            at_start(&pair, &StableState { recovering: true, ..dirty.clone() }, "a"),
            "a process restart ends nothing"
        );
        assert!(
            !at_start(&NodeConfig { peer: None, ..pair }, &dirty, "b"),
            "there is nobody to recover from"
        );
    }
}
