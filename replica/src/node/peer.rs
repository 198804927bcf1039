//! The other data node: its connection, what it says, and whether it makes progress.
//!
//! raft-rs assumes a peer that keeps what it acknowledged and sends nothing absurd; a peer whose page cache went with
//! its power, or whose log is of another history, would make it panic. So what comes from the peer is checked here first.
//! Silence counts only while this node's own loop ran without a gap.

use proto::peer::{GroupFrame, GroupHello, RaftMessage};
use raft::StateRole;
use raft::eraftpb::{Message, MessageType};

use super::election::is_vote_request;
use super::io::Output;
use super::voter::Node;
use super::wire;
use crate::log::LogIndex;
use crate::planted::{Planted, planted};

/// See the module.
#[derive(Debug)]
pub(super) struct Peer {
    pub connected: bool,
    /// Connected, of the same history, and whole: Raft messages are exchanged.
    pub talking: bool,
    pub needs_image: bool,
    pub recovering: bool,
    /// As it said last on this connection.
    pub disk_hangs: bool,
    pub applied: LogIndex,
    /// As leader: what it has acknowledged, on this connection.
    pub matched: LogIndex,
    /// As leader: what it had acknowledged at best. Less is no progress, however often it reconnects.
    best: LogIndex,
    /// As leader: since when the oldest entry that it was given waits for it.
    waits_since: Option<u64>,
    /// Last sign of life: a pong, or any frame where this node does not lead.
    pub heard_at: u64,
    /// When this node was elected, the peer had been silent for a promise: whatever the connection says, it is not there.
    /// Not so any more once it is heard.
    silent_when_elected: bool,
    elected_at: u64,
    down_since: u64,
    /// This process had everything committed and so had the peer: from then on nothing was committed without both. Who
    /// follows knows that only from the leader: one that has the third vote itself may go on, and does so again after a restart.
    pub was_in_sync: bool,
    image_said: bool,
}

impl Peer {
    pub fn new(now: u64) -> Self {
        Self {
            connected: false,
            talking: false,
            needs_image: false,
            recovering: false,
            disk_hangs: false,
            applied: 0,
            matched: 0,
            best: 0,
            waits_since: None,
            heard_at: now,
            silent_when_elected: false,
            elected_at: 0,
            down_since: now,
            was_in_sync: false,
            image_said: false,
        }
    }

    pub fn new_tenure(&mut self, now: u64, promise_ns: u64) {
        self.silent_when_elected = now.saturating_sub(self.heard_at) >= promise_ns;
        self.elected_at = now;
        self.matched = 0;
        self.best = 0;
        self.waits_since = None;
        self.heard_at = now;
        self.image_said = false;
    }

    pub fn was_away(&mut self, now: u64) {
        self.waits_since = self.waits_since.map(|_| now);
        self.heard_at = now;
        self.down_since = now;
    }

    pub fn ends_talk(&mut self, now: u64) {
        if self.talking {
            self.down_since = now;
        }
        self.talking = false;
    }

    /// It has not been heard since before this node's election.
    pub fn is_silent(&self) -> bool {
        !self.talking || (self.silent_when_elected && self.heard_at == self.elected_at)
    }

    pub fn silent_since(&self) -> u64 {
        if self.talking { self.heard_at } else { self.down_since }
    }

    /// Since when there was no progress.
    fn stuck_since(&self) -> u64 {
        self.silent_since().min(self.waits_since.unwrap_or(u64::MAX))
    }
}

impl Node {
    pub(super) fn peer_up(&mut self, hello: GroupHello, out: &mut Vec<Output>) {
        if self.unreplicated() {
            return;
        }
        self.peer_down();
        self.peer.connected = true;
        self.peer.heard_at = self.now;
        self.peer.image_said = false;
        self.catch_up.forget_leader();
        self.peer_said(&hello, out);
        if hello.blank && !self.stable.blank && !self.is_leader() {
            let text = "the peer began with an empty disk: until it is a complete copy it does not help to elect this \
                        node; without the third vote, it takes `hanfs takeover --force`";
            self.event(out, tracing::Level::WARN, text);
        }
        if self.peer.talking && self.is_leader() {
            self.probe_peer(&hello, out);
        }
    }

    pub(super) fn peer_down(&mut self) {
        if !self.peer.connected {
            return;
        }
        self.forget_frame();
        self.peer.connected = false;
        self.peer.ends_talk(self.now);
        self.peer.needs_image = false;
        self.peer.disk_hangs = false;
        self.raw.mut_store().forget_read_ahead();
        if let Some(peer) = self.cfg.peer {
            self.raw.report_unreachable(peer);
        }
    }

    /// A handshake, or a change of what was said in it.
    fn peer_said(&mut self, hello: &GroupHello, out: &mut Vec<Output>) {
        self.peer.recovering = hello.recovering;
        self.peer.applied = self.peer.applied.max(hello.applied_index);
        self.peer.needs_image = hello.needs_image;
        let talking = self.same_history(hello, out) && !hello.needs_image && !self.mute;
        if !talking {
            self.peer.ends_talk(self.now);
            return;
        }
        self.peer.talking = true;
        let last = self.last_index();
        if hello.you_need_image || hello.first_index > last.saturating_add(1) {
            let first = hello.first_index;
            self.need_image(out, format!("the peer's log begins at entry {first}, this one ends at {last}"));
        }
    }

    /// This copy is to be replaced by the peer's. Where it is only behind, it goes on voting and acknowledging leases
    /// as any voter with an old log does: the peer may need that to lead.
    pub(super) fn need_image(&mut self, out: &mut Vec<Output>, why: String) {
        if self.needs_image {
            return;
        }
        self.needs_image = true;
        out.push(Output::NeedImage { why });
    }

    /// raft-rs must not take for granted what an earlier connection acknowledged: begin anew, at the peer's end.
    fn probe_peer(&mut self, hello: &GroupHello, out: &mut Vec<Output>) {
        // Planted: what it acknowledged before is taken for granted.
        if planted(Planted::CountOldAcknowledgements) {
            return;
        }
        let Some(peer) = self.cfg.peer else { return };
        let last = self.last_index();
        let Some(progress) = self.raw.raft.mut_prs().get_mut(peer) else { return };
        let lost = progress.matched.saturating_sub(hello.last_index);
        progress.matched = 0;
        progress.become_probe();
        progress.next_idx = hello.last_index.min(last) + 1;
        progress.pending_request_snapshot = raft::INVALID_INDEX;
        self.peer.matched = 0;
        self.peer.best = self.peer.best.min(hello.last_index);
        if lost > 0 {
            let text = format!("the peer lost {lost} entries that it had acknowledged: it gets them again");
            let level = if hello.recovering { tracing::Level::WARN } else { tracing::Level::ERROR };
            self.event(out, level, text);
        }
        self.raw.raft.send_append(peer);
        self.pump(out);
    }

    pub(super) fn peer_frame(&mut self, frame: GroupFrame, out: &mut Vec<Output>) {
        if !self.peer.connected {
            return;
        }
        if let Some(hello) = &frame.hello {
            self.peer_said(hello, out);
        }
        if !self.peer.talking {
            return;
        }
        if !self.is_leader() {
            self.peer.heard_at = self.now;
        }
        for message in frame.messages {
            self.message_from_peer(message, out);
            if !self.peer.talking {
                return;
            }
            self.pump(out);
        }
        if let Some(ping) = &frame.ping {
            self.ping_from_peer(ping);
        }
        if let Some(pong) = &frame.pong {
            self.pong_from_peer(pong);
        }
    }

    fn message_from_peer(&mut self, message: RaftMessage, out: &mut Vec<Output>) {
        let (lease_void, blank) = (message.lease_void, message.blank);
        let mine = message.to == self.cfg.me && Some(message.from) == self.cfg.peer;
        let Some(message) = wire::from_wire(message).filter(|_| mine) else {
            self.reset_peer(out, "it sent a message that cannot be".to_owned());
            return;
        };
        if is_vote_request(&message) {
            if self.may_vote(&message, lease_void, blank) {
                self.step_raft(message);
            }
            return;
        }
        if message.term >= self.term() && !self.is_sound(&message, out) {
            return;
        }
        let from_leader = matches!(message.msg_type, MessageType::MsgAppend | MessageType::MsgHeartbeat);
        if from_leader && message.term >= self.term() {
            let yields = self.lets_peer_go_first();
            self.election.heard_leader(self.now, self.term(), &self.cfg, yields);
        }
        self.step_raft(message);
    }

    /// Would raft-rs survive it? (It takes a peer's word for what its own log holds.)
    fn is_sound(&mut self, m: &Message, out: &mut Vec<Output>) -> bool {
        let last = self.last_index();
        match m.msg_type {
            MessageType::MsgHeartbeat if m.commit > last => {
                self.reset_peer(out, format!("it counts on entry {}, this log ends at {last}", m.commit));
                false
            }
            MessageType::MsgAppendResponse if !m.reject && m.index > last => {
                self.reset_peer(out, format!("it acknowledged entry {}, this log ends at {last}", m.index));
                false
            }
            MessageType::MsgAppend if m.index > last && m.log_term == 0 => {
                self.reset_peer(out, "it sent an append after an entry of term 0".to_owned());
                false
            }
            MessageType::MsgAppend => self.agrees_on_committed(m, out),
            MessageType::MsgTimeoutNow => {
                let from_leader = self.raw.raft.leader_id == m.from && m.term == self.term();
                from_leader && self.all_persisted() && self.raw.raft.state == StateRole::Follower
            }
            _ => true,
        }
    }

    /// An entry that both hold committed and that differs is beyond what replication can mend.
    fn agrees_on_committed(&mut self, m: &Message, out: &mut Vec<Output>) -> bool {
        let commit = self.commit();
        let before = std::iter::once((m.index, m.log_term));
        let differs = before
            .chain(m.entries.iter().map(|e| (e.index, e.term)))
            .find(|(index, term)| *index <= commit && self.term_at(*index).is_some_and(|here| here != *term));
        let Some((index, term)) = differs else { return true };
        self.divergent = true;
        self.peer.ends_talk(self.now);
        let text = format!(
            "entry {index} is committed here and the peer holds another one of term {term} in its place: an \
             administrator must choose the copy that stays"
        );
        self.event(out, tracing::Level::ERROR, text);
        false
    }

    fn reset_peer(&mut self, out: &mut Vec<Output>, why: String) {
        self.peer.ends_talk(self.now);
        out.push(Output::ResetPeer { why });
    }

    /// As leader: follows the peer's progress.
    pub(super) fn observe_peer(&mut self, out: &mut Vec<Output>) {
        let (Some(peer), true) = (self.cfg.peer, self.is_leader()) else { return };
        let last = self.last_index();
        let Some(progress) = self.raw.raft.prs().get(peer) else { return };
        let (matched, next) = (progress.matched, progress.next_idx);
        if matched >= last {
            self.peer.waits_since = None;
        } else if self.peer.waits_since.is_none() || matched > self.peer.best {
            self.peer.waits_since = Some(self.now);
        }
        self.peer.matched = matched;
        self.peer.best = self.peer.best.max(matched);
        if let Some(tenure) = &self.tenure
            && self.peer.talking
            && matched >= tenure.first
        {
            self.peer.was_in_sync = true;
        }
        let first = self.raw.store().first();
        if self.peer.talking && next < first && !self.peer.image_said {
            self.peer.image_said = true;
            self.peer.needs_image = true;
            self.send_hello();
            out.push(Output::PeerNeedsImage);
        }
    }

    /// As leader: the peer is there, keeps up, and nothing is committed without it.
    pub(super) fn in_sync(&self) -> bool {
        let Some(tenure) = &self.tenure else { return self.follows_in_sync() };
        self.peer.talking
            && self.peer.matched >= tenure.first
            && self.gate.is_closed()
            && !self.peer_is_lost()
    }

    fn follows_in_sync(&self) -> bool {
        self.peer.talking && self.catch_up.has_what_is_committed(self.term())
    }

    /// No progress for the detection time: nothing acknowledged of what it was given, no pong, or no connection.
    pub(super) fn peer_is_lost(&self) -> bool {
        self.cfg.peer.is_some() && self.now >= self.lost_at()
    }

    pub(super) fn lost_at(&self) -> u64 {
        self.peer.stuck_since().saturating_add(self.cfg.timing.detect_ns)
    }

    /// The peer still needs every entry after this one from the log. None: it needs none, or a copy.
    pub fn peer_needs_after(&self) -> Option<LogIndex> {
        let leads = self.is_leader() && self.cfg.peer.is_some();
        (leads && !self.peer.needs_image).then_some(self.peer.matched)
    }
}
