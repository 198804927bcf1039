//! Taking operations into the log, as long as there is room.

use std::collections::VecDeque;

use bytes::Bytes;
use raft::eraftpb::{Message, MessageType};

use super::io::Output;
use super::tenure::Incarnation;
use super::voter::Node;
use super::wire;
use crate::log::{Entry, LogIndex};

/// Proposed here and not committed, in bytes.
#[derive(Debug, Default)]
pub(super) struct Uncommitted {
    batches: VecDeque<(LogIndex, u64)>,
    bytes: u64,
}

impl Uncommitted {
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub fn clear(&mut self) {
        *self = Self::default();
    }

    pub fn committed(&mut self, index: LogIndex) {
        while let Some((last, bytes)) = self.batches.front().copied()
            && last <= index
        {
            self.batches.pop_front();
            self.bytes -= bytes;
        }
    }

    fn add(&mut self, last: LogIndex, bytes: u64) {
        self.batches.push_back((last, bytes));
        self.bytes += bytes;
    }
}

impl Node {
    /// All of them get a place in the log, or none. One batch is always taken, however large, where nothing waits.
    pub(super) fn propose(&mut self, ops: Vec<(Bytes, Bytes)>, out: &mut Vec<Output>) {
        let Some(tenure) = self.tenure.as_ref().filter(|t| !t.void) else {
            out.push(Output::Refused { leader: false });
            return;
        };
        let (term, incarnation) = (tenure.term, tenure.incarnation);
        let first = self.last_index() + 1;
        let count = ops.len();
        let mut bytes = 0;
        let entries = ops.into_iter().map(|(op, payload)| {
            let entry = Entry { op, payload, ..Entry::default() };
            bytes += entry.cost() as u64;
            wire::to_raft_entry(entry)
        });
        let message = Message {
            msg_type: MessageType::MsgPropose,
            from: self.cfg.me,
            entries: entries.collect(),
            ..Message::default()
        };
        if count == 0 {
            return;
        }
        let held = self.uncommitted.bytes();
        if held > 0 && held.saturating_add(bytes) > self.cfg.uncommitted_bytes_max {
            out.push(Output::Refused { leader: true });
            return;
        }
        if self.raw.raft.step(message).is_err() {
            out.push(Output::Refused { leader: false });
            return;
        }
        self.uncommitted.add(self.last_index(), bytes);
        if let (Incarnation::Asked, Some(tenure)) = (incarnation, self.tenure.as_mut()) {
            tenure.incarnation = Incarnation::At(first);
        }
        out.push(Output::Proposed { first, term, count });
    }
}
