//! raft-rs's messages and entries, and ours. Nothing is copied: data stays where it is.

use proto::peer::RaftMessage;
use raft::eraftpb::{self, Message, MessageType};

use crate::log::Entry;

/// Terms and indexes beyond this are a bug or a lie: nothing that counts up by one gets there, and arithmetic
/// below it cannot overflow.
pub(super) const COUNTER_MAX: u64 = 1 << 62;

pub(super) fn to_raft_entry(entry: Entry) -> eraftpb::Entry {
    eraftpb::Entry {
        index: entry.index,
        term: entry.term,
        context: entry.op,
        data: entry.payload,
        ..eraftpb::Entry::default()
    }
}

pub(super) fn from_raft_entry(e: eraftpb::Entry) -> Entry {
    Entry { index: e.index, term: e.term, op: e.context, payload: e.data }
}

/// What a vote request says beside what raft-rs knows.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Candidacy {
    pub recovering: bool,
    pub lease_void: bool,
    pub blank: bool,
}

/// Bytes of an entry on the wire, nearly.
pub(super) fn cost(entry: &proto::peer::Entry) -> usize {
    entry.op.len() + entry.payload.len() + 64
}

/// An append as several of about `bytes_max` each (one entry at least). raft-rs joins appends that it has not handed out yet and
/// then minds no limit: to a backup that catches up, tens of MiB become one message.
pub(super) fn split_append(mut message: RaftMessage, bytes_max: usize) -> Vec<RaftMessage> {
    let mut parts = Vec::with_capacity(1);
    loop {
        let mut bytes = 0;
        let whole = |entry: &proto::peer::Entry| {
            bytes += cost(entry);
            bytes >= bytes_max
        };
        let end = message.entries.iter().position(whole).map_or(message.entries.len(), |last| last + 1);
        if message.msg_type != MessageType::MsgAppend as i32 || end == message.entries.len() {
            parts.push(message);
            return parts;
        }
        let rest = message.entries.split_off(end);
        let (index, log_term) =
            message.entries.last().map_or((message.index, message.log_term), |e| (e.index, e.term));
        let next = RaftMessage { entries: rest, index, log_term, ..head(&message) };
        parts.push(std::mem::replace(&mut message, next));
    }
}

/// All of a message but its entries.
fn head(m: &RaftMessage) -> RaftMessage {
    RaftMessage { entries: Vec::new(), context: m.context.clone(), ..*m }
}

pub(super) fn to_wire(m: Message, candidacy: Candidacy) -> RaftMessage {
    let entries = m
        .entries
        .into_vec()
        .into_iter()
        .map(|e| proto::peer::Entry {
            entry_type: 0,
            term: e.term,
            index: e.index,
            op: e.context,
            payload: e.data,
        })
        .collect();
    RaftMessage {
        msg_type: m.msg_type as i32,
        to: m.to,
        from: m.from,
        term: m.term,
        log_term: m.log_term,
        index: m.index,
        entries,
        commit: m.commit,
        commit_term: m.commit_term,
        request_snapshot: 0,
        reject: m.reject,
        reject_hint: m.reject_hint,
        context: m.context,
        priority: 0,
        recovering: candidacy.recovering,
        lease_void: candidacy.lease_void,
        blank: candidacy.blank,
    }
}

/// None: not a message that a peer may send, or its numbers cannot be.
pub(super) fn from_wire(m: RaftMessage) -> Option<Message> {
    let msg_type = match m.msg_type {
        t if t == MessageType::MsgAppend as i32 => MessageType::MsgAppend,
        t if t == MessageType::MsgAppendResponse as i32 => MessageType::MsgAppendResponse,
        t if t == MessageType::MsgRequestVote as i32 => MessageType::MsgRequestVote,
        t if t == MessageType::MsgRequestVoteResponse as i32 => MessageType::MsgRequestVoteResponse,
        t if t == MessageType::MsgRequestPreVote as i32 => MessageType::MsgRequestPreVote,
        t if t == MessageType::MsgRequestPreVoteResponse as i32 => MessageType::MsgRequestPreVoteResponse,
        t if t == MessageType::MsgHeartbeat as i32 => MessageType::MsgHeartbeat,
        t if t == MessageType::MsgHeartbeatResponse as i32 => MessageType::MsgHeartbeatResponse,
        t if t == MessageType::MsgTimeoutNow as i32 => MessageType::MsgTimeoutNow,
        _ => return None,
    };
    let counters = [m.term, m.log_term, m.index, m.commit, m.commit_term, m.reject_hint];
    // Term 0 would make it a local message to raft-rs.
    if m.term == 0 || counters.iter().any(|c| *c > COUNTER_MAX) || m.request_snapshot != 0 {
        return None;
    }
    let mut expected = m.index;
    let mut term = m.log_term;
    for entry in &m.entries {
        expected += 1;
        if entry.index != expected || entry.term < term || entry.term > m.term {
            return None;
        }
        term = entry.term;
    }
    let entries = m
        .entries
        .into_iter()
        .map(|e| to_raft_entry(Entry { index: e.index, term: e.term, op: e.op, payload: e.payload }));
    Some(Message {
        msg_type,
        to: m.to,
        from: m.from,
        term: m.term,
        log_term: m.log_term,
        index: m.index,
        entries: entries.collect(),
        commit: m.commit,
        commit_term: m.commit_term,
        reject: m.reject,
        reject_hint: m.reject_hint,
        context: m.context,
        ..Message::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: however far a backup is behind, no message is larger than the stream takes, and none of it is lost. Method: an append
    /// of many entries, split, and each part's place in the log.
    #[test]
    fn a_large_append_becomes_several_that_follow_one_another() {
        let entries = (11..=50).map(|index| proto::peer::Entry {
            index,
            term: 2 + index / 20,
            payload: vec![0; 1000].into(),
            ..Default::default()
        });
        let append = RaftMessage {
            msg_type: MessageType::MsgAppend as i32,
            index: 10,
            log_term: 2,
            commit: 45,
            entries: entries.collect(),
            ..RaftMessage::default()
        };
        let parts = split_append(append.clone(), 5_000);
        assert!(parts.len() > 5 && parts.iter().all(|p| p.entries.iter().map(cost).sum::<usize>() < 7_000));
        let mut before = (append.index, append.log_term);
        for part in &parts {
            assert_eq!((part.index, part.log_term, part.commit), (before.0, before.1, 45));
            before = part.entries.last().map(|e| (e.index, e.term)).unwrap();
        }
        let all: Vec<_> = parts.into_iter().flat_map(|p| p.entries).collect();
        assert_eq!(all, append.entries);
        assert_eq!(split_append(append, usize::MAX).len(), 1);
    }
}
