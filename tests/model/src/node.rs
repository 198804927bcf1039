//! A data node as voter and follower: what it does with a message, and when it stands for election.

use crate::config::{Config, Durability, Rule};
use crate::log::TERM_MAX;
use crate::message::{Candidacy, Message, NO_PONG, Reply, Request};
use crate::state::{NEW_WITNESS, Process, Role, State, Tenure, other};

impl State {
    /// A later term: whatever this node was, it follows now.
    pub(crate) fn see_term(&mut self, cfg: &Config, id: usize, term: u8) {
        let node = &mut self.nodes[id];
        if term <= node.disk.term {
            return;
        }
        node.disk.term = term;
        node.disk.vote = 0;
        if let Some(process) = &mut node.process {
            process.role = Role::Follower;
            process.void = false;
            process.forget_leader();
        }
        self.sync_vote(cfg, id);
    }

    fn sync_vote(&mut self, cfg: &Config, id: usize) {
        let disk = &mut self.nodes[id].disk;
        if cfg.holds(Rule::VotesSynced) {
            disk.synced_vote = (disk.term, disk.vote);
        }
    }

    /// Everything that it has is persisted, nobody was promised a lease, or that lease is void.
    pub(crate) fn may_stand(&self, cfg: &Config, id: usize) -> bool {
        let node = &self.nodes[id];
        let Some(process) = &node.process else { return false };
        !matches!(process.role, Role::Leader(_))
            && node.disk.term < cfg.terms.min(TERM_MAX)
            && node.persisted(cfg) == node.disk.log.len()
            && (process.void || process.promise == 0)
    }

    /// Stands for election in the next term.
    pub(crate) fn stand(&mut self, cfg: &Config, id: usize, transfer: bool) {
        let Some(process) = self.nodes[id].process else { return };
        let lease_void = process.void;
        let term = self.nodes[id].disk.term + 1;
        self.see_term(cfg, id, term);
        let disk = &mut self.nodes[id].disk;
        disk.vote = id as u8 + 1;
        let candidacy = Candidacy {
            term,
            end: disk.log.end(),
            recovering: disk.recovering,
            blank: disk.blank,
            lease_void,
            transfer,
        };
        let adopted = disk.witness;
        self.sync_vote(cfg, id);
        if let Some(process) = &mut self.nodes[id].process {
            process.role = Role::Candidate;
        }
        self.send(cfg, id, Message::Stand(candidacy));
        if adopted != 0 {
            self.ask(id, Request::Stand(candidacy));
        }
    }

    /// The oldest message of the session to this node.
    pub(crate) fn hear(&mut self, cfg: &Config, id: usize) {
        let Some(message) = self.queues[id].pop() else { return };
        match message {
            Message::Stand(candidacy) => self.vote(cfg, id, &candidacy),
            Message::Vote { term } => self.elected(id, term),
            Message::Append { .. } => self.append(cfg, id, message),
            Message::Ack { .. } => self.acknowledged(cfg, id, message),
            Message::Later { term } => self.see_term(cfg, id, term),
            Message::TimeoutNow { term } => self.appointed(cfg, id, term),
        }
    }

    fn vote(&mut self, cfg: &Config, id: usize, candidacy: &Candidacy) {
        let node = &self.nodes[id];
        let Some(process) = &node.process else { return };
        let holds_lease = node.tenure().is_some_and(|t| t.lease > 0);
        let remembers = !node.disk.blank
            || candidacy.blank
            || candidacy.transfer
            || !cfg.holds(Rule::BlankVotesForNobody);
        let free = candidacy.lease_void || candidacy.transfer || process.promise == 0;
        if holds_lease || !remembers || !free {
            return;
        }
        self.see_term(cfg, id, candidacy.term);
        let disk = &mut self.nodes[id].disk;
        let mine = candidacy.term == disk.term && [0, other(id) as u8 + 1].contains(&disk.vote);
        if mine && candidacy.end >= disk.log.end() {
            disk.vote = other(id) as u8 + 1;
            self.sync_vote(cfg, id);
            self.send(cfg, id, Message::Vote { term: candidacy.term });
        }
    }

    /// One more vote is a majority.
    pub(crate) fn elected(&mut self, id: usize, term: u8) {
        let node = &mut self.nodes[id];
        let Some(process) = &mut node.process else { return };
        if process.role != Role::Candidate || node.disk.term != term {
            return;
        }
        node.disk.log.push(term, false);
        process.role = Role::Leader(Tenure::new(node.disk.log.len(), 0));
        process.forget_leader();
        let leader = &mut self.seen.leaders[usize::from(term)];
        self.seen.two_leaders |= ![0, id as u8 + 1].contains(leader);
        *leader = id as u8 + 1;
    }

    fn appointed(&mut self, cfg: &Config, id: usize, term: u8) {
        let node = &self.nodes[id];
        let follows = node.process.is_some_and(|p| p.follows && p.role == Role::Follower);
        let persisted = node.persisted(cfg) == node.disk.log.len();
        if follows && node.disk.term == term && persisted && term < cfg.terms.min(TERM_MAX) {
            self.stand(cfg, id, true);
        }
    }

    fn append(&mut self, cfg: &Config, id: usize, message: Message) {
        let Message::Append { term, log, last, commit, age } = message else { return };
        if term < self.nodes[id].disk.term {
            let term = self.nodes[id].disk.term;
            self.send(cfg, id, Message::Later { term });
            return;
        }
        self.see_term(cfg, id, term);
        let node = &mut self.nodes[id];
        let Some(process) = node.process.as_mut().filter(|p| !matches!(p.role, Role::Leader(_))) else {
            return;
        };
        process.role = Role::Follower;
        process.follows = true;
        process.promise = cfg.promise;
        process.verified = process.verified.max(log.len());
        process.target.get_or_insert(if cfg.holds(Rule::RecoveringToTheLastEntry) { last } else { commit });
        let verified = process.verified;
        let disk = &mut node.disk;
        if !disk.log.starts_with(log) {
            // What differs is cut off, durably, before its place is written again.
            disk.durable = disk.durable.min(disk.log.common(log).len());
            disk.log = log;
            // It accepts what another leader has: it is not the only copy any more.
            disk.solo = false;
        }
        if cfg.adopts() {
            self.commit(id, commit.min(verified));
        }
        self.acknowledge(cfg, id, age);
    }

    /// Says what is persisted here of the leader's log; by that, a copy may be complete again.
    pub(crate) fn acknowledge(&mut self, cfg: &Config, id: usize, age: u8) {
        let persisted = self.nodes[id].persisted(cfg);
        let node = &mut self.nodes[id];
        let Some(process) = node.process.as_mut().filter(|p| p.follows) else { return };
        let matched = persisted.min(process.verified);
        if process.target.is_some_and(|target| matched >= target) {
            node.disk.recovering = false;
            node.disk.blank = false;
        }
        let (term, adopted, recovering) = (node.disk.term, node.disk.witness, node.disk.recovering);
        self.send(cfg, id, Message::Ack { term, matched, age, adopted, recovering });
    }

    /// Applies what is committed: the adoption of a witness is durable before it is said to be applied.
    pub(crate) fn commit(&mut self, id: usize, index: u8) {
        let node = &mut self.nodes[id];
        let Some(process) = &mut node.process else { return };
        process.commit = process.commit.max(index.min(node.disk.log.len()));
        if node.disk.log.adopts_up_to(process.commit) {
            node.disk.witness = NEW_WITNESS;
        }
    }

    /// What was written is fdatasync'ed.
    pub(crate) fn sync(&mut self, cfg: &Config, id: usize) {
        let disk = &mut self.nodes[id].disk;
        disk.durable = disk.log.len();
        disk.synced_vote = (disk.term, disk.vote);
        if cfg.durability == Durability::Disk {
            self.acknowledge(cfg, id, NO_PONG);
        }
        self.count(cfg, id);
    }

    /// The adopted witness's answer. Others' are nobody's.
    pub(crate) fn hear_witness(&mut self, cfg: &Config, id: usize, identity: u8, reply: Reply) {
        if identity != self.nodes[id].disk.witness {
            return;
        }
        match reply {
            Reply::Vote { term } => self.elected(id, term),
            Reply::Later { term } => self.see_term(cfg, id, term),
            Reply::Pong { .. } | Reply::Vouched { .. } => self.leader_hears_witness(cfg, id, reply),
        }
    }
}

impl Process {
    /// The lease of the leader that it follows is known to be void: the leader's process is dead.
    pub fn hear_gone(&mut self) {
        self.gone = false;
        if self.follows && self.role == Role::Follower {
            self.void = true;
            self.follows = false;
        }
    }
}
