//! What raft-rs takes for its third voter: a witness process, or this node itself after a verdict.
//!
//! raft-rs's appends to it go nowhere; its votes are asked for in the witness's own words (`WitnessVote`), and what it
//! vouches for is the gate's business. Its answers count only if it is the adopted witness: identities are random and
//! born with the witness's data directory, so one that lost its memory is another one, and votes for nobody before it has
//! been adopted. A witness is adopted while the peer is in sync: through the log first, then, once *both* nodes know it
//! durably, by a vouch that gives birth to the group's state there.

use proto::peer::{VoteReply, WitnessReply, WitnessRequest, WitnessVote, witness_reply, witness_request};
use raft::eraftpb::{Message, MessageType};

use super::election::{CAMPAIGN_TRANSFER, is_vote_request};
use super::io::Output;
use super::status::GateState;
use super::voter::Node;
use super::wire::COUNTER_MAX;
use crate::ids::voter;
use crate::log::LogIndex;

/// An adoption that did not come about is asked for again after this many ping intervals.
const ADOPTION_RETRY_PINGS: u64 = 20;
/// A witness that did not answer for this many ping intervals is not connected.
const SILENT_PINGS: u64 = 10;

/// See the module.
#[derive(Debug)]
pub(super) struct WitnessEdge {
    pub heard_at: Option<u64>,
    /// Of the process that answers.
    identity: u64,
    /// It has no state of this group.
    unknown: bool,
    /// Who has applied this entry knows of the adoption.
    pub adoption_index: LogIndex,
    pub requests: Vec<WitnessRequest>,
}

impl WitnessEdge {
    /// Whatever was adopted before this start is in the log.
    pub fn new(last: LogIndex) -> Self {
        Self { heard_at: None, identity: 0, unknown: false, adoption_index: last, requests: Vec::new() }
    }
}

impl Node {
    /// A message of raft-rs for the third voter.
    pub(super) fn ask_third(&mut self, message: &Message, out: &mut Vec<Output>) {
        self.send_witness_requests(out);
        if !is_vote_request(message) {
            return;
        }
        if self.stable.stand_in {
            self.third_votes(message.msg_type == MessageType::MsgRequestPreVote, message.term, true);
            return;
        }
        if !self.has_witness() || self.stable.witness == 0 {
            return;
        }
        let candidacy = self.candidacy(message);
        self.ask_witness(witness_request::Kind::Vote(WitnessVote {
            term: message.term,
            last_index: message.index,
            last_term: message.log_term,
            pre_vote: message.msg_type == MessageType::MsgRequestPreVote,
            recovering: candidacy.recovering,
            lease_void: candidacy.lease_void,
            transfer: &message.context[..] == CAMPAIGN_TRANSFER,
        }));
        self.send_witness_requests(out);
    }

    pub(super) fn send_witness_requests(&mut self, out: &mut Vec<Output>) {
        out.extend(self.witness.requests.drain(..).map(Output::Witness));
    }

    fn third_votes(&mut self, pre_vote: bool, term: u64, granted: bool) {
        let msg_type = if pre_vote {
            MessageType::MsgRequestPreVoteResponse
        } else {
            MessageType::MsgRequestVoteResponse
        };
        // raft-rs: a rejected pre-vote carries the voter's term, which must not look like news here.
        let said_in = if pre_vote && !granted { self.term() } else { term };
        let message =
            self.third_says(Message { msg_type, term: said_in, reject: !granted, ..Message::default() });
        if granted && !pre_vote && term == self.term() {
            self.election.third_voted = Some(term);
        }
        self.step_raft(message);
    }

    fn third_says(&self, message: Message) -> Message {
        Message { from: voter::WITNESS, to: self.cfg.me, ..message }
    }

    pub(super) fn witness_reply(&mut self, reply: &WitnessReply) {
        if !self.has_witness() || reply.term > COUNTER_MAX {
            return;
        }
        self.witness.heard_at = Some(self.now);
        self.witness.identity = reply.identity;
        self.witness.unknown = reply.unknown_group;
        if self.stable.stand_in || reply.unknown_group || reply.identity != self.stable.witness {
            return;
        }
        if reply.term > self.term() {
            self.third_knows_later(reply.term);
            return;
        }
        match &reply.kind {
            Some(witness_reply::Kind::Vote(vote)) => self.witness_voted(vote),
            Some(witness_reply::Kind::Pong(pong)) => self.pong_from_witness(pong),
            Some(witness_reply::Kind::Vouch(vouch)) => self.vouch_reply(vouch),
            None => {}
        }
    }

    fn witness_voted(&mut self, vote: &VoteReply) {
        let asked = if vote.pre_vote { self.term() + 1 } else { self.term() };
        if vote.term == asked {
            self.third_votes(vote.pre_vote, vote.term, vote.granted);
        }
    }

    /// The witness heard of a later term: whoever leads an earlier one steps down.
    fn third_knows_later(&mut self, term: u64) {
        let msg_type = MessageType::MsgHeartbeatResponse;
        let message = self.third_says(Message { msg_type, term, ..Message::default() });
        self.step_raft(message);
    }

    /// The process that answers is the adopted one, and it has this group's state.
    pub(super) fn witness_counts(&self) -> bool {
        let is_adopted = self.stable.witness != 0 && self.witness.identity == self.stable.witness;
        self.has_witness() && self.witness_is_heard() && is_adopted && !self.witness.unknown
    }

    pub(super) fn witness_is_heard(&self) -> bool {
        let silent = SILENT_PINGS.saturating_mul(self.cfg.timing.ping_ns);
        self.witness.heard_at.is_some_and(|at| self.now < at.saturating_add(silent))
    }

    /// As leader: sees to it that the process that answers is, or becomes, the group's witness.
    pub(super) fn adopt(&mut self, out: &mut Vec<Output>) {
        self.seek_adoption();
        self.send_witness_requests(out);
    }

    fn seek_adoption(&mut self) {
        if !self.has_witness() || !self.lease.serving {
            return;
        }
        let retry = ADOPTION_RETRY_PINGS.saturating_mul(self.cfg.timing.ping_ns);
        let asked = self.tenure.as_ref().and_then(|t| t.adoption_asked_at);
        if asked.is_some_and(|at| self.now < at.saturating_add(retry)) {
            return;
        }
        let (identity, adopted) = (self.witness.identity, self.stable.witness);
        let heard = self.witness_is_heard() && identity != 0;
        if self.stable.stand_in {
            // Forced to go on without a witness that may still answer the peer: it is not adopted any more.
            if adopted != 0 && self.gate.state == GateState::Open {
                self.adoption_asked();
                self.asks.push(Output::NeedAdoption { identity: 0 });
            }
        } else if heard && self.in_sync() && identity != adopted {
            self.adoption_asked();
            self.asks.push(Output::NeedAdoption { identity });
        } else if heard
            && self.in_sync()
            && self.witness.unknown
            && self.peer.applied >= self.witness.adoption_index
        {
            self.send_birth();
        }
    }

    /// Gives the group's state on the witness its birth. It vouches for nothing that the peer may lack: that would make
    /// it a copy while the gate is closed.
    fn send_birth(&mut self) {
        let index = self.commit().min(self.persistence.durable_index());
        if self.tenure.as_ref().is_some_and(|t| index >= t.first) {
            self.adoption_asked();
            self.send_vouch(index, true);
        }
    }

    fn adoption_asked(&mut self) {
        let now = self.now;
        if let Some(tenure) = self.tenure.as_mut() {
            tenure.adoption_asked_at = Some(now);
        }
    }

    /// The state machine knows another witness: this node does so durably before it says that it applied that.
    pub(super) fn adopted(&mut self, identity: u64, index: LogIndex) {
        self.stable.witness = identity;
        self.witness.adoption_index = index;
        self.witness.unknown = false;
        if let Some(tenure) = self.tenure.as_mut() {
            tenure.adoption_asked_at = None;
        }
    }
}
