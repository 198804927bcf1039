//! A data node as leader: replication, commits, lease, gate and transfer.

use crate::config::{Config, Rule};
use crate::message::{Message, NO_PONG, Reply, Request};
use crate::state::{Gate, NEW_WITNESS, Role, State, Tenure, other};

impl State {
    /// Entries up to `upto`, and a ping.
    pub(crate) fn send_append(&mut self, cfg: &Config, id: usize, upto: u8) {
        let node = &self.nodes[id];
        let Some(process) = node.process else { return };
        let (term, log, last) = (node.disk.term, node.disk.log.prefix(upto), node.disk.log.len());
        self.send(cfg, id, Message::Append { term, log, last, commit: process.commit, age: 0 });
    }

    pub(crate) fn acknowledged(&mut self, cfg: &Config, id: usize, message: Message) {
        let Message::Ack { term, matched, age, adopted, recovering } = message else { return };
        self.see_term(cfg, id, term);
        if term < self.nodes[id].disk.term {
            return;
        }
        let Some(tenure) = self.nodes[id].tenure_mut() else { return };
        tenure.matched = tenure.matched.max(matched);
        tenure.peer_adopted = adopted;
        tenure.peer_recovering = recovering;
        if age != NO_PONG {
            tenure.extend_lease(cfg, age);
        }
        self.count(cfg, id);
    }

    /// The witness acknowledges a ping, or vouches.
    pub(crate) fn leader_hears_witness(&mut self, cfg: &Config, id: usize, reply: Reply) {
        let own_term = self.nodes[id].disk.term;
        let Some(tenure) = self.nodes[id].tenure_mut() else { return };
        match reply {
            Reply::Pong { term, age } if term == own_term => tenure.extend_lease(cfg, age),
            // The witness names the pair that it holds now: any up to what this leader sent of its own term counts.
            Reply::Vouched { term, pair: (entry_term, index) }
                if term == own_term && entry_term == own_term && index <= tenure.sent =>
            {
                tenure.vouched = tenure.vouched.max(index);
            }
            _ => {}
        }
        self.count(cfg, id);
    }

    /// An entry of this term that two of the three voters have is committed.
    pub(crate) fn count(&mut self, cfg: &Config, id: usize) {
        let node = &self.nodes[id];
        let Some(tenure) = node.tenure() else { return };
        let own =
            if cfg.holds(Rule::DurableBeforeWitness) { node.persisted(cfg) } else { node.disk.log.len() };
        let mut has = [own, tenure.matched, tenure.vouched];
        has.sort_unstable();
        let [_, majority, _] = has;
        if majority < tenure.first {
            return;
        }
        self.commit(id, majority);
        self.nodes[id].disk.recovering = false;
        self.nodes[id].disk.blank = false;
        self.remember_commit(id);
    }

    fn remember_commit(&mut self, id: usize) {
        let node = &self.nodes[id];
        let commit = node.process.map_or(0, |p| p.commit);
        let mine = node.disk.log.prefix(commit);
        if mine.starts_with(self.seen.committed) {
            self.seen.committed = mine;
        } else if !self.seen.committed.starts_with(mine) {
            self.seen.two_histories = true;
        }
    }

    /// Marks this copy solo, and everything it has is durable with the mark.
    pub(crate) fn open_gate(&mut self, id: usize) {
        let disk = &mut self.nodes[id].disk;
        disk.solo = true;
        disk.durable = disk.log.len();
        disk.synced_vote = (disk.term, disk.vote);
        let Some(tenure) = self.nodes[id].tenure_mut() else { return };
        tenure.gate = Gate::Open;
    }

    /// What the witness can be told of next: the end of what is durable here.
    pub(crate) fn to_vouch(&self, cfg: &Config, id: usize) -> Option<u8> {
        let node = &self.nodes[id];
        let tenure = node.tenure()?;
        let index =
            if cfg.holds(Rule::DurableBeforeWitness) { node.disk.durable } else { node.disk.log.len() };
        (tenure.gate == Gate::Open && index >= tenure.first && index > tenure.vouched).then_some(index)
    }

    pub(crate) fn send_vouch(&mut self, id: usize, index: u8, adopt: bool) {
        let node = &mut self.nodes[id];
        let (term, entry_term) = (node.disk.term, node.disk.log.term(index).unwrap_or(0));
        let Some(tenure) = node.tenure_mut() else { return };
        tenure.sent = tenure.sent.max(index);
        self.ask(id, Request::Vouch { term, pair: (entry_term, index), adopt });
    }

    /// The backup has this term's first entry and everything that was ever sent to the witness.
    pub(crate) fn may_close(&self, cfg: &Config, id: usize) -> bool {
        let Some(tenure) = self.nodes[id].tenure() else { return false };
        let needed = if cfg.holds(Rule::GateClosesAboveSent) { tenure.sent } else { tenure.vouched };
        self.session && tenure.gate == Gate::Closing && tenure.matched >= tenure.first.max(needed)
    }

    /// The mark goes, durably; then the gate is closed.
    pub(crate) fn close_gate(&mut self, cfg: &Config, id: usize) {
        let disk = &mut self.nodes[id].disk;
        disk.solo = !cfg.holds(Rule::MarkGoesBeforeGateCloses);
        disk.durable = disk.log.len();
        if let Some(tenure) = self.nodes[id].tenure_mut() {
            tenure.gate = Gate::Closed;
        }
        self.count(cfg, id);
    }

    /// The peer is there, keeps up, and nothing is committed without it.
    pub(crate) fn in_sync(&self, id: usize) -> bool {
        self.session
            && self.nodes[id].tenure().is_some_and(|t| t.gate == Gate::Closed && t.matched >= t.first)
    }

    /// The lease goes first; then the peer is told to stand.
    pub(crate) fn transfer(&mut self, cfg: &Config, id: usize) {
        let term = self.nodes[id].disk.term;
        let Some(tenure) = self.nodes[id].tenure_mut() else { return };
        if cfg.holds(Rule::TransferGivesLeaseUp) {
            tenure.void = true;
            tenure.lease = 0;
        }
        self.send(cfg, id, Message::TimeoutNow { term });
    }

    /// A transfer that came to nothing: this node stands in a new term, and says that its lease is void.
    pub(crate) fn give_up(&mut self, id: usize) {
        if let Some(process) = &mut self.nodes[id].process {
            process.role = Role::Follower;
            process.void = true;
        }
    }

    /// Logs that the witness which answers is to be the group's.
    pub(crate) fn adopt(&mut self, cfg: &Config, id: usize) {
        let disk = &mut self.nodes[id].disk;
        disk.log.push(disk.term, true);
        self.count(cfg, id);
    }

    /// Both nodes know durably which process the witness is, and it knows nothing of the group yet.
    pub(crate) fn to_birth(&self, id: usize) -> Option<u8> {
        let node = &self.nodes[id];
        let (tenure, commit) = (node.tenure()?, node.process?.commit);
        let known = node.disk.witness == NEW_WITNESS && tenure.peer_adopted == NEW_WITNESS;
        let index = commit.min(node.disk.durable);
        let unborn = self.witness.identity == NEW_WITNESS && self.witness.state.is_none();
        (known && unborn && node.serves() && self.in_sync(id) && index >= tenure.first).then_some(index)
    }

    /// Has the other node less than this leader, or does it not know how far that is committed?
    pub(crate) fn peer_lacks(&self, cfg: &Config, id: usize) -> bool {
        let (Some(mine), Some(peer)) = (&self.nodes[id].process, &self.nodes[other(id)].process) else {
            return false;
        };
        let matched = self.nodes[id].tenure().map_or(0, |t| t.matched);
        matched < self.nodes[id].disk.log.len() || (cfg.adopts() && peer.commit < mine.commit)
    }
}

impl Tenure {
    fn extend_lease(&mut self, cfg: &Config, age: u8) {
        if self.void {
            return;
        }
        let left = if cfg.holds(Rule::LeaseFromSendTime) { cfg.lease.saturating_sub(age) } else { cfg.lease };
        self.lease = self.lease.max(left);
    }
}
