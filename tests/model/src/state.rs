//! What a state consists of: two data nodes, the witness, what is on its way, and what the checker remembers.

use crate::config::{Budget, Config, Durability, Rule};
use crate::log::{Log, TERM_MAX};
use crate::message::{Message, Queue, Reply, Request};

/// The witness of a run's beginning, and the one that an entry adopts.
pub const OLD_WITNESS: u8 = 1;
pub const NEW_WITNESS: u8 = 2;

/// The other data node.
pub const fn other(node: usize) -> usize {
    1 - node
}

/// What a data node never forgets, except as its fields say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Disk {
    pub term: u8,
    /// Voted for in this term: node + 1; 0: nobody.
    pub vote: u8,
    /// Term and vote as fdatasync'ed. The same unless [`crate::Rule::VotesSynced`] is broken.
    pub synced_vote: (u8, u8),
    /// As written: some of it perhaps only in the page cache.
    pub log: Log,
    /// So much of the log is fdatasync'ed.
    pub durable: u8,
    /// This copy goes on alone.
    pub solo: bool,
    pub recovering: bool,
    /// It began with nothing.
    pub blank: bool,
    /// The adopted witness; 0: none.
    pub witness: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Gate {
    #[default]
    Closed,
    Open,
    /// Vouching has stopped.
    Closing,
}

/// A leader's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tenure {
    /// The term's first entry. (It stands for raft-rs's own and the incarnation.)
    pub first: u8,
    /// The leadership was given away: this term never serves again.
    pub void: bool,
    /// Ticks left of it.
    pub lease: u8,
    /// What the peer has acknowledged.
    pub matched: u8,
    /// The witness that the peer says is adopted.
    pub peer_adopted: u8,
    pub peer_recovering: bool,
    pub gate: Gate,
    /// Highest index ever sent to the witness.
    pub sent: u8,
    /// Highest that it vouched for.
    pub vouched: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    Follower,
    Candidate,
    Leader(Tenure),
}

/// What a running server has in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Process {
    pub role: Role,
    pub commit: u8,
    /// No vote for so many ticks: promised to a leader, or for the start.
    pub promise: u8,
    /// The peer leads this term.
    pub follows: bool,
    /// The lease of this term's leader is known to be void.
    pub void: bool,
    /// The peer's guardian said that its server is gone; not heard yet.
    pub gone: bool,
    /// As follower: so much is the same as the leader's.
    pub verified: u8,
    /// As follower: the leader's last entry at the first ping of the connection.
    pub target: Option<u8>,
}

impl Process {
    pub fn started(promise: u8) -> Self {
        Self {
            role: Role::Follower,
            commit: 0,
            promise,
            follows: false,
            void: false,
            gone: false,
            verified: 0,
            target: None,
        }
    }

    pub fn forget_leader(&mut self) {
        self.verified = 0;
        self.target = None;
        self.follows = false;
    }
}

/// What outlives the server process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Guardian {
    /// The address is on this host.
    pub up: bool,
    /// Ticks left of the lease that the server last reported.
    pub lease: u8,
    /// Ticks that a dead server's address may still stay.
    pub parked: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Node {
    pub disk: Disk,
    pub process: Option<Process>,
    pub guardian: Guardian,
}

impl Node {
    pub fn tenure(&self) -> Option<&Tenure> {
        match &self.process {
            Some(Process { role: Role::Leader(tenure), .. }) => Some(tenure),
            _ => None,
        }
    }

    pub fn tenure_mut(&mut self) -> Option<&mut Tenure> {
        match &mut self.process {
            Some(Process { role: Role::Leader(tenure), .. }) => Some(tenure),
            _ => None,
        }
    }

    /// It leads, has committed its own first entry, and holds a lease.
    pub fn serves(&self) -> bool {
        let commit = self.process.map_or(0, |p| p.commit);
        self.tenure().is_some_and(|t| !t.void && t.lease > 0 && commit >= t.first)
    }

    /// So much of the log counts as persisted.
    pub fn persisted(&self, cfg: &Config) -> u8 {
        let gate_moves = self.tenure().is_some_and(|t| t.gate != Gate::Closed);
        let alone = self.disk.solo && cfg.holds(Rule::MarkGoesBeforeGateCloses);
        if cfg.durability == Durability::Disk || alone || gate_moves {
            self.disk.durable
        } else {
            self.disk.log.len()
        }
    }
}

/// What the witness never forgets of the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Vouched {
    pub term: u8,
    /// node + 1; 0: nobody.
    pub vote: u8,
    /// (term, index) of the last entry that it vouches for.
    pub pair: (u8, u8),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Witness {
    /// Born with its directory.
    pub identity: u8,
    /// None: it knows no such group.
    pub state: Option<Vouched>,
    pub promise: u8,
}

/// What the checker remembers of the way, to tell right from wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Seen {
    /// Who led which term: node + 1.
    pub leaders: [u8; TERM_MAX as usize + 1],
    pub two_leaders: bool,
    /// What a leader has committed: what may have been answered.
    pub committed: Log,
    /// Another leader committed something else.
    pub two_histories: bool,
    /// The latest (term, index) that a witness vouched for.
    pub vouched: (u8, u8),
    /// So many ticks in a row found the address on both hosts.
    pub both_up: u8,
}

/// One state of the model: see the module.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    pub(crate) nodes: [Node; 2],
    pub(crate) witness: Witness,
    /// The session is up. `queues` are by receiver.
    pub(crate) session: bool,
    pub(crate) queues: [Queue; 2],
    /// Calls to the witness, and its answers with its identity, by data node. Sorted, none twice.
    pub(crate) requests: Vec<(u8, Request)>,
    pub(crate) replies: Vec<(u8, u8, Reply)>,
    /// Each guardian and the other node's server are connected.
    pub(crate) link: bool,
    pub(crate) left: Budget,
    pub(crate) seen: Seen,
}

impl State {
    /// As the run begins.
    pub(crate) fn first(cfg: &Config) -> Self {
        let mut state = Self {
            nodes: [Node::default(); 2],
            witness: Witness {
                identity: if cfg.cold { NEW_WITNESS } else { OLD_WITNESS },
                ..Witness::default()
            },
            session: true,
            queues: [Queue::default(); 2],
            requests: Vec::new(),
            replies: Vec::new(),
            link: true,
            left: cfg.budget,
            seen: Seen::default(),
        };
        for node in &mut state.nodes {
            node.process = Some(Process::started(0));
            node.disk.blank = cfg.cold;
            node.disk.recovering = cfg.cold;
        }
        if !cfg.cold {
            state.settle_in(cfg);
        }
        state
    }

    /// Node 0 leads term 1, its first entry is everywhere, and the witness knows of it.
    fn settle_in(&mut self, cfg: &Config) {
        for (id, node) in self.nodes.iter_mut().enumerate() {
            node.disk.log.push(1, false);
            (node.disk.term, node.disk.vote, node.disk.synced_vote) = (1, 1, (1, 1));
            (node.disk.durable, node.disk.witness) = (1, OLD_WITNESS);
            let Some(process) = &mut node.process else { continue };
            process.commit = 1;
            (process.follows, process.verified, process.target) = (id == 1, id as u8, (id == 1).then_some(1));
        }
        let tenure = Tenure { matched: 1, peer_adopted: OLD_WITNESS, ..Tenure::new(1, cfg.lease) };
        if let Some(process) = &mut self.nodes[0].process {
            process.role = Role::Leader(tenure);
        }
        if let Some(process) = &mut self.nodes[1].process {
            process.promise = cfg.promise;
        }
        self.nodes[0].guardian = Guardian { up: cfg.addresses, lease: cfg.lease, parked: 0 };
        self.witness.state = Some(Vouched { term: 1, vote: 1, pair: (0, 0) });
        self.seen.leaders[1] = 1;
        self.seen.committed = self.nodes[0].disk.log;
    }

    /// To the other node, if the session is up.
    pub(crate) fn send(&mut self, cfg: &Config, from: usize, message: Message) {
        if self.session {
            self.queues[other(from)].push(message, cfg.queue);
        }
    }

    pub(crate) fn ask(&mut self, from: usize, request: Request) {
        let request = (from as u8, request);
        if let Err(at) = self.requests.binary_search(&request) {
            self.requests.insert(at, request);
        }
    }

    pub(crate) fn answer(&mut self, to: u8, reply: Reply) {
        let reply = (to, self.witness.identity, reply);
        if let Err(at) = self.replies.binary_search(&reply) {
            self.replies.insert(at, reply);
        }
    }
}

impl Tenure {
    pub fn new(first: u8, lease: u8) -> Self {
        Self {
            first,
            void: false,
            lease,
            matched: 0,
            peer_adopted: 0,
            peer_recovering: false,
            gate: Gate::Closed,
            sent: 0,
            vouched: 0,
        }
    }
}
