//! The simulated world: two hosts, a witness, the network between them, and a queue of what happens when.

use std::collections::BTreeMap;

use bytes::Bytes;
use proto::peer::{GroupFrame, WitnessReply, WitnessRequest};

use super::checks::Checks;
use super::host::{Applied, Host, Log, Record};
use super::rng::Rng;
use crate::log::{Entry, LogIndex, StableState};
use crate::node::{
    Durability, GateState, Input, Node, NodeConfig, Output, OwnDisk, Role, Third, Timing, Verdict,
    VerdictKind,
};
use crate::witness::{WitnessState, WitnessVoter};

pub(super) const MS: u64 = 1_000_000;
/// The failover policy looks this often.
const POLICY_NS: u64 = 25 * MS;
/// And hands over not more often than this.
const YIELD_NS: u64 = 10_000 * MS;

/// What happens. Events of a host carry its life.
#[derive(Debug)]
enum Event {
    Wake(usize),
    Write(usize, u64),
    Sync(usize, u64, u64),
    Apply(usize, u64),
    Fetched(usize, u64, Vec<Entry>),
    Frame {
        to: usize,
        session: u64,
        frame: Box<GroupFrame>,
    },
    ToWitness(WitnessRequest),
    FromWitness(usize, u64, WitnessReply),
    Connect,
    Down(usize, u64),
    Propose,
    Copy(usize),
    Checkpoint(usize),
    Pinned(usize, u64),
    /// The failover policy of a host looks at its group.
    Policy(usize),
    /// A guardian says that the server process beside it, in that life, is dead.
    Dead(usize, u64),
}

/// What is run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setup {
    pub seed: u64,
    pub third: Third,
    pub durability: Durability,
}

/// See the module.
pub(super) struct World {
    pub setup: Setup,
    pub now: u64,
    pub rng: Rng,
    pub hosts: Vec<Host>,
    pub checks: Checks,
    queue: BTreeMap<(u64, u64), Event>,
    sequence: u64,
    /// Number of the connection; even: there is none.
    session: u64,
    /// Frames from one side arrive in order.
    arrives: [u64; 2],
    /// True time until which no connection comes about.
    pub cut_until: u64,
    /// The connection looks alive, nothing arrives.
    pub blackhole: bool,
    pub witness: Option<WitnessVoter>,
    witness_disk: Option<WitnessState>,
    witness_identity: u64,
    witness_life: u64,
    /// True time until which a host does not reach the witness.
    pub witness_cut_until: [u64; 2],
    pub propose_every: u64,
    next_op: u64,
    pub log: Vec<String>,
    /// Guardians say when the server beside them is dead.
    pub guardians: bool,
    /// Both nodes are made to go on: two leases are what was asked for.
    pub expect_split: bool,
    /// Applied incarnations, by term; true: locks may be lost.
    pub incarnations: BTreeMap<u64, bool>,
    /// How often a primary handed over because its disk hung.
    pub yields: u64,
}

impl World {
    pub fn new(setup: Setup) -> Self {
        let mut rng = Rng::new(setup.seed);
        let hosts = (1..=2).map(|id| Host {
            id,
            node: None,
            life: 0,
            boot: 1,
            log: Log::default(),
            to_write: Default::default(),
            to_apply: Default::default(),
            applied: Applied::default(),
            checkpoint: Applied::default(),
            lease_until: 0,
            paused_until: 0,
            clock_offset: rng.between(1, 1_000_000) * MS,
            clock_fast_ppm: rng.between(0, 10_000),
            proposed: Default::default(),
            wants_image: false,
            wake_at: u64::MAX,
            disk_hangs_until: 0,
            apply_hangs_until: 0,
            yields_at: 0,
            forgot_at: 0,
        });
        let hosts = hosts.collect();
        let mut world = Self {
            setup,
            now: 1,
            rng,
            hosts,
            checks: Checks::default(),
            queue: BTreeMap::new(),
            sequence: 0,
            session: 0,
            arrives: [0; 2],
            cut_until: 0,
            blackhole: false,
            witness: None,
            witness_disk: None,
            witness_identity: 77,
            witness_life: 0,
            witness_cut_until: [0; 2],
            propose_every: 10 * MS,
            next_op: 0,
            log: Vec::new(),
            guardians: true,
            expect_split: false,
            incarnations: BTreeMap::new(),
            yields: 0,
        };
        world.start_witness();
        world.start(0);
        world.start(1);
        world.at(MS, Event::Connect);
        world.at(MS, Event::Propose);
        world.at(POLICY_NS, Event::Policy(0));
        world.at(POLICY_NS, Event::Policy(1));
        world.at(300 * MS, Event::Checkpoint(0));
        world.at(350 * MS, Event::Checkpoint(1));
        world
    }

    fn at(&mut self, delay: u64, event: Event) {
        self.sequence += 1;
        self.queue.insert((self.now + delay, self.sequence), event);
    }

    pub fn note(&mut self, text: impl Into<String>) {
        let line = format!("{:>9.3} ms  {}", self.now as f64 / 1e6, text.into());
        if std::env::var_os("SIM_TRACE").is_some() {
            eprintln!("{line}");
        }
        self.log.push(line);
        if self.log.len() > 4000 {
            self.log.drain(..2000);
        }
    }

    fn config(&self, host: usize) -> NodeConfig {
        NodeConfig {
            me: host as u64 + 1,
            peer: Some(2 - host as u64),
            third: self.setup.third,
            durability: self.setup.durability,
            timing: Timing::default(),
            // Small, so that entries are fetched from the log.
            log_cache_bytes: 4 << 10,
            uncommitted_bytes_max: 64 << 10,
            ..NodeConfig::default()
        }
    }

    /// Runs up to this true time.
    pub fn run_until(&mut self, until: u64) {
        while let Some(entry) = self.queue.first_entry() {
            if entry.key().0 > until {
                break;
            }
            let ((at, _), event) = entry.remove_entry();
            self.now = at;
            self.happen(event);
        }
        self.now = until;
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Wake(h) => {
                if self.hosts[h].wake_at <= self.now {
                    self.hosts[h].wake_at = u64::MAX;
                    self.step(h, Input::Tick);
                }
            }
            Event::Write(h, life) => self.write(h, life),
            Event::Sync(h, life, seq) => self.sync(h, life, seq),
            Event::Apply(h, life) => self.apply(h, life),
            Event::Fetched(h, life, entries) if self.hosts[h].life == life => {
                self.step(h, Input::Fetched(entries))
            }
            Event::Fetched(..) => {}
            Event::Frame { to, session, frame } => {
                if session == self.session && !self.blackhole {
                    self.step(to, Input::Peer(frame));
                }
            }
            Event::ToWitness(request) => self.ask_witness(request),
            Event::FromWitness(h, life, reply) if self.hosts[h].life == life => {
                self.step(h, Input::Witness(reply))
            }
            Event::FromWitness(..) => {}
            Event::Connect => self.connect(),
            Event::Down(h, session) => {
                if self.session == session + 1 {
                    self.step(h, Input::PeerDown);
                }
            }
            Event::Propose => self.propose(),
            Event::Policy(h) => self.policy(h),
            Event::Copy(h) => self.copy(h),
            Event::Checkpoint(h) => self.checkpoint(h),
            Event::Pinned(h, life) if self.hosts[h].life == life => self.step(h, Input::Tick),
            Event::Pinned(..) => {}
            Event::Dead(h, life) => {
                // Said only where that process led: a later one's lease is not void.
                let follows =
                    self.hosts[1 - h].node.as_ref().is_some_and(|n| n.status().leader == Some(h as u64 + 1));
                if self.hosts[h].life == life && follows {
                    self.note(format!("host {} hears that host {}'s lease is void", 2 - h, h + 1));
                    self.step(1 - h, Input::Campaign { lease_void: true });
                }
            }
        }
    }

    // Hosts.

    pub fn start(&mut self, h: usize) {
        let host = &self.hosts[h];
        if host.node.is_some() {
            return;
        }
        let local = host.local(self.now);
        let node = Node::new(local, self.config(h), host.restored());
        let host = &mut self.hosts[h];
        host.life += 1;
        host.node = Some(node);
        host.lease_until = 0;
        host.paused_until = 0;
        host.wants_image = false;
        self.note(format!("host {} starts", h + 1));
        self.step(h, Input::Tick);
    }

    /// The process dies: what it wrote stays in the page cache.
    pub fn kill(&mut self, h: usize) {
        let host = &mut self.hosts[h];
        if host.node.take().is_none() {
            return;
        }
        host.life += 1;
        host.to_write.clear();
        host.to_apply.clear();
        host.proposed.clear();
        host.lease_until = 0;
        host.wake_at = u64::MAX;
        host.applied = host.checkpoint;
        let life = host.life;
        self.note(format!("host {} killed", h + 1));
        self.disconnect(false);
        if self.guardians && self.rng.one_in(2) {
            let delay = self.rng.between(1, 10) * MS;
            self.at(delay, Event::Dead(h, life));
        }
    }

    /// The machine dies.
    pub fn lose_power(&mut self, h: usize) {
        self.kill(h);
        let kept = self.rng.between(0, self.hosts[h].log.unsynced() as u64) as usize;
        let host = &mut self.hosts[h];
        host.boot += 1;
        host.log.lose_power(kept);
        host.forgot_at = self.now;
        self.note(format!("host {} loses power, {kept} unsynced records survive", h + 1));
    }

    /// The disk is replaced by an empty one.
    pub fn wipe(&mut self, h: usize) {
        self.kill(h);
        let host = &mut self.hosts[h];
        host.boot += 1;
        host.log = Log::default();
        host.applied = Applied::default();
        host.checkpoint = Applied::default();
        host.forgot_at = self.now;
        self.note(format!("host {} has a new, empty disk", h + 1));
    }

    pub fn pause(&mut self, h: usize, ns: u64) {
        let life = self.hosts[h].life;
        self.hosts[h].paused_until = self.now + ns;
        self.note(format!("host {} pauses for {} ms", h + 1, ns / MS));
        self.at(ns + 1, Event::Pinned(h, life));
    }

    pub fn input(&mut self, h: usize, input: Input) {
        self.step(h, input);
    }

    fn step(&mut self, h: usize, input: Input) {
        let host = &mut self.hosts[h];
        if host.node.is_none() {
            return;
        }
        if self.now < host.paused_until {
            // What arrives meanwhile waits in the socket.
            let (delay, life) = (host.paused_until - self.now, host.life);
            match input {
                Input::Tick => self.at(delay, Event::Pinned(h, life)),
                Input::Peer(frame) => {
                    let session = self.session;
                    self.at(delay, Event::Frame { to: h, session, frame });
                }
                Input::Witness(reply) => self.at(delay, Event::FromWitness(h, life, reply)),
                Input::Written { .. } | Input::Durable { .. } | Input::Applied { .. } => {
                    self.step_now(h, input)
                }
                Input::PeerUp(_) => self.disconnect(false),
                Input::PeerDown => {
                    let session = self.session.saturating_sub(1);
                    self.at(delay, Event::Down(h, session));
                }
                other => self.step_now(h, other),
            }
            return;
        }
        self.step_now(h, input);
    }

    fn step_now(&mut self, h: usize, input: Input) {
        let mut out = Vec::new();
        let host = &mut self.hosts[h];
        let local = host.local(self.now);
        let Some(node) = host.node.as_mut() else { return };
        node.step(local, input, &mut out);
        for output in out {
            self.output(h, output);
        }
        let host = &mut self.hosts[h];
        let Some(node) = host.node.as_ref() else { return };
        let local = host.local(self.now);
        let wait = node.deadline().saturating_sub(local).max(MS / 10);
        let wake_at = self.now.saturating_add(wait);
        if wake_at < host.wake_at && wait < 1 << 50 {
            host.wake_at = wake_at;
            self.at(wait, Event::Wake(h));
        }
        if !self.expect_split {
            self.checks.lease(self.now, &self.hosts);
        }
    }

    fn output(&mut self, h: usize, output: Output) {
        let life = self.hosts[h].life;
        match output {
            Output::Persist { seq, state, entries, sync } => {
                self.hosts[h].to_write.push_back(Record { seq, state, entries, sync });
                let delay = self.disk_delay(h, 10_000, 200_000);
                self.at(delay, Event::Write(h, life));
            }
            Output::Send(frame) => self.send(h, frame),
            Output::Witness(request) => {
                if self.now >= self.witness_cut_until[h] && !self.rng.one_in(50) {
                    let delay = self.rng.between(50_000, 3 * MS);
                    if self.rng.one_in(30) {
                        self.at(delay + 20 * MS, Event::ToWitness(request.clone()));
                    }
                    self.at(delay, Event::ToWitness(request));
                }
            }
            Output::Apply(entries) => {
                let hangs = self.hosts[h].apply_hangs_until.saturating_sub(self.now);
                let delay = self.rng.between(10_000, MS).max(hangs);
                self.hosts[h].to_apply.push_back(entries);
                self.at(delay, Event::Apply(h, life));
            }
            Output::Proposed { first, term, count } => {
                let last = first + count as u64;
                self.hosts[h].proposed.extend((first..last).map(|index| (index, term)));
            }
            Output::Refused { .. } => {}
            Output::Lease { until_ns } => {
                self.hosts[h].lease_until = self.hosts[h].lease_until.max(until_ns);
            }
            Output::LeaseRevoked => self.hosts[h].lease_until = 0,
            Output::Fetch { from, to, max_bytes } => {
                let entries = self.read(h, from, to, max_bytes);
                let delay = self.rng.between(20_000, 2 * MS);
                self.at(delay, Event::Fetched(h, life, entries));
            }
            Output::Leader { id } => self.note(format!("host {} follows {id:?}", h + 1)),
            Output::NeedIncarnation { locks_lost } => {
                let term = self.hosts[h].node.as_ref().map_or(0, |n| n.status().term);
                if !self.expect_split {
                    self.checks.elected(h, term);
                }
                let op =
                    Bytes::from(format!("incarnation {term}{}", if locks_lost { " locks lost" } else { "" }));
                self.step_now(h, Input::Propose(vec![(op, Bytes::new())]));
            }
            Output::NeedAdoption { identity } => {
                self.note(format!("host {} adopts witness {identity}", h + 1));
                let op = Bytes::from(format!("adopt {identity}"));
                self.step_now(h, Input::Propose(vec![(op, Bytes::new())]));
            }
            Output::Serving { term } => {
                self.note(format!("host {} serves term {term}", h + 1));
                if !self.expect_split {
                    self.checks.serves(h, &self.hosts[h]);
                }
            }
            Output::NotServing => {
                self.hosts[h].proposed.clear();
                self.note(format!("host {} does not serve", h + 1));
            }
            Output::NoTransfer { why } => self.note(format!("host {} does not hand over: {why}", h + 1)),
            Output::ResetPeer { why } => {
                self.note(format!("host {} resets the connection: {why}", h + 1));
                self.disconnect(false);
            }
            Output::PeerNeedsImage => self.note(format!("host {}: the peer needs an image", h + 1)),
            Output::NeedImage { why } => {
                self.note(format!("host {} needs an image: {why}", h + 1));
                self.hosts[h].wants_image = true;
                self.at(100 * MS, Event::Copy(h));
            }
            Output::AskVerdict => self.verdict(h),
            Output::Event { level, text } => {
                self.note(format!("host {} [{level}] {text}", h + 1));
                self.checks.event(level, &text);
            }
        }
    }

    /// Fencing works: a verdict is given only where the peer is off.
    fn verdict(&mut self, h: usize) {
        let peer_is_off = self.hosts[1 - h].node.is_none();
        self.note(format!("host {} asks for a verdict, peer is off: {peer_is_off}", h + 1));
        if peer_is_off {
            let history = self.rng.next() | 1;
            self.step_now(h, Input::Verdict(Verdict { kind: VerdictKind::Fence, history }));
        }
    }

    // Disks.

    fn disk_delay(&mut self, h: usize, low: u64, high: u64) -> u64 {
        self.rng.between(low, high).max(self.hosts[h].disk_hangs_until.saturating_sub(self.now))
    }

    fn write(&mut self, h: usize, life: u64) {
        if self.hosts[h].life != life {
            return;
        }
        let Some(record) = self.hosts[h].to_write.pop_front() else { return };
        let (seq, sync) = (record.seq, record.sync);
        self.hosts[h].log.write(record);
        let delay = if sync {
            self.disk_delay(h, 50_000, MS)
        } else {
            self.step(h, Input::Written { seq });
            self.disk_delay(h, 5 * MS, 40 * MS)
        };
        self.at(delay, Event::Sync(h, life, seq));
    }

    fn sync(&mut self, h: usize, life: u64, seq: u64) {
        if self.hosts[h].life != life {
            return;
        }
        self.hosts[h].log.sync();
        self.step(h, Input::Durable { seq });
    }

    fn read(&self, h: usize, from: LogIndex, to: LogIndex, bytes_max: usize) -> Vec<Entry> {
        let log = &self.hosts[h].log.cached;
        let mut bytes = 0;
        let found = (from..to).map_while(|index| log.get(index)).take_while(|entry| {
            let fits = bytes < bytes_max;
            bytes += entry.cost();
            fits
        });
        found.cloned().collect()
    }

    fn apply(&mut self, h: usize, life: u64) {
        if self.hosts[h].life != life {
            return;
        }
        let Some(entries) = self.hosts[h].to_apply.pop_front() else { return };
        for entry in &entries {
            if !self.expect_split {
                self.checks.applied(h, entry);
            }
            let host = &mut self.hosts[h];
            assert_eq!(entry.index, host.applied.index + 1, "host {} applies in order", h + 1);
            host.applied = Applied { index: entry.index, ..host.applied };
            if entry.op.starts_with(b"incarnation") {
                self.incarnations.insert(entry.term, entry.op.ends_with(b"lost"));
            }
            if let Some(identity) = entry.op.strip_prefix(b"adopt ") {
                let identity = std::str::from_utf8(identity).ok().and_then(|i| i.parse().ok());
                host.applied.witness = identity.unwrap_or_default();
            }
            while host.proposed.front().is_some_and(|(index, _)| *index < entry.index) {
                host.proposed.pop_front();
            }
            let ours = host.proposed.front() == Some(&(entry.index, entry.term));
            // Receive, evaluate, check the lease, send.
            if ours && host.holds_lease(self.now) && self.now >= host.paused_until {
                self.checks.acknowledged(self.now, h, entry, &self.hosts, self.setup.durability);
            }
        }
        let applied = self.hosts[h].applied;
        self.step(h, Input::Applied { index: applied.index, witness_identity: applied.witness });
    }

    fn checkpoint(&mut self, h: usize) {
        let delay = self.rng.between(100, 800) * MS;
        self.at(delay, Event::Checkpoint(h));
        let host = &mut self.hosts[h];
        let Some(node) = &host.node else { return };
        if host.applied.index > host.log.durable.last().0 {
            return;
        }
        host.checkpoint = host.applied;
        let needed = node.peer_needs_after().unwrap_or(LogIndex::MAX);
        let patience = host.applied.index.saturating_sub(200);
        let upto = host.checkpoint.index.min(needed.max(patience));
        if upto > host.log.cached.base.0 {
            host.log.cut(upto);
            let first = host.log.cached.base.0 + 1;
            self.step(h, Input::LogCut { first });
        }
    }

    /// A full copy from the peer, where it leads.
    fn copy(&mut self, h: usize) {
        let source = &self.hosts[1 - h];
        let connected = !self.session.is_multiple_of(2) && !self.blackhole;
        let leads = source.node.as_ref().is_some_and(|n| n.status().role == Role::Leader);
        if !self.hosts[h].wants_image {
            return;
        }
        if self.hosts[h].node.is_none() || !leads || !connected {
            self.at(100 * MS, Event::Copy(h));
            return;
        }
        let (applied, from, term) = (source.applied, source.log.cached.clone(), source.log.cached.state.term);
        if from.base.0 > applied.index || from.last().0 < applied.index {
            self.at(100 * MS, Event::Copy(h));
            return;
        }
        self.kill(h);
        let mut contents = from;
        contents.cut(applied.index);
        let old = &self.hosts[h].log.cached.state;
        let later = old.term > term;
        contents.state = StableState {
            term: old.term.max(term),
            vote: if later { old.vote } else { 2 - h as u64 },
            commit: applied.index,
            history: contents.state.history,
            ..StableState::default()
        };
        let host = &mut self.hosts[h];
        host.log = Log::of(contents);
        host.applied = applied;
        host.checkpoint = applied;
        self.note(format!("host {} is a copy as of entry {}", h + 1, applied.index));
        self.start(h);
        self.at(20 * MS, Event::Connect);
    }

    // The network.

    fn connect(&mut self) {
        self.at(40 * MS, Event::Connect);
        let up = self.hosts.iter().all(|h| h.node.is_some() && self.now >= h.paused_until);
        if !self.session.is_multiple_of(2) || !up || self.now < self.cut_until {
            return;
        }
        self.session += 1;
        self.blackhole = false;
        self.arrives = [self.now; 2];
        let hellos: Vec<_> = self.hosts.iter().map(|h| h.node.as_ref().map(Node::hello)).collect();
        for h in 0..2 {
            if let Some(hello) = hellos[1 - h].clone() {
                self.step(h, Input::PeerUp(hello));
            }
        }
    }

    /// Ends the connection. `silent`: nobody is told before it is tried anew.
    pub fn disconnect(&mut self, silent: bool) {
        if self.session.is_multiple_of(2) {
            return;
        }
        if silent {
            self.blackhole = true;
            return;
        }
        let session = self.session;
        self.session += 1;
        for h in 0..2 {
            let delay = self.rng.between(10_000, 30 * MS);
            self.at(delay, Event::Down(h, session));
        }
    }

    fn send(&mut self, h: usize, frame: GroupFrame) {
        if self.session.is_multiple_of(2) || self.blackhole {
            return;
        }
        let delay = self.rng.between(30_000, 2 * MS);
        let at = (self.now + delay).max(self.arrives[1 - h] + 1);
        self.arrives[1 - h] = at;
        let session = self.session;
        self.at(at - self.now, Event::Frame { to: 1 - h, session, frame: Box::new(frame) });
    }

    // The witness.

    pub fn start_witness(&mut self) {
        if self.witness.is_none() {
            self.witness_life += 1;
            let promise = Timing::default().promise_ns;
            self.witness =
                Some(WitnessVoter::new(self.now, self.witness_identity, promise, self.witness_disk));
            self.note("the witness starts");
        }
    }

    pub fn kill_witness(&mut self) {
        self.witness = None;
        self.note("the witness is killed");
    }

    /// A new data directory.
    pub fn replace_witness(&mut self) {
        self.kill_witness();
        self.witness_identity += 1;
        self.witness_disk = None;
        self.start_witness();
        self.note(format!("the witness is a new one, {}", self.witness_identity));
    }

    fn ask_witness(&mut self, request: WitnessRequest) {
        let h = (request.from - 1) as usize;
        let Some(witness) = self.witness.as_mut() else { return };
        let (state, reply) = witness.step(self.now, &request);
        if let Some(state) = state {
            // Durable before the answer; a crash in between only loses the answer.
            self.witness_disk = Some(state);
        }
        if self.now >= self.witness_cut_until[h] && !self.rng.one_in(50) {
            let life = self.hosts[h].life;
            let delay = self.rng.between(50_000, 3 * MS);
            self.at(delay, Event::FromWitness(h, life, reply));
        }
    }

    // Clients.

    fn propose(&mut self) {
        let delay = self.rng.between(self.propose_every / 4, self.propose_every * 2);
        self.at(delay, Event::Propose);
        for h in 0..2 {
            let host = &self.hosts[h];
            if !host.holds_lease(self.now) || self.now < host.paused_until {
                continue;
            }
            let count = self.rng.between(1, 4);
            let ops = (0..count).map(|_| {
                self.next_op += 1;
                (
                    Bytes::from(format!("op {}", self.next_op)),
                    Bytes::from(vec![7; (self.next_op % 700) as usize]),
                )
            });
            let ops = ops.collect();
            self.step(h, Input::Propose(ops));
        }
    }

    /// What the failover policy does about a primary whose disk hangs, where the other node's does not.
    fn policy(&mut self, h: usize) {
        self.at(POLICY_NS, Event::Policy(h));
        let status = |h: usize| self.hosts[h].node.as_ref().map(Node::status).unwrap_or_default();
        let (own, other) = (status(h), status(1 - h));
        let wanted = own.serving && own.in_sync && own.own_disk == OwnDisk::Hangs;
        if wanted && other.own_disk == OwnDisk::Sound && self.now >= self.hosts[h].yields_at {
            self.hosts[h].yields_at = self.now + YIELD_NS;
            self.note(format!("host {} hands over, for its disk hangs", h + 1));
            self.yields += 1;
            self.step(h, Input::Transfer);
        }
    }

    // What is asked of it at the end.

    /// An administrator: where nobody serves because one node's disk is new and empty, the other one is told to go on.
    pub fn administer(&mut self) {
        let statuses: Vec<_> = self.hosts.iter().map(|h| h.node.as_ref().map(Node::status)).collect();
        let [Some(first), Some(second)] = &statuses[..] else { return };
        if first.blank == second.blank || (0..2).any(|h| self.hosts[h].holds_lease(self.now)) {
            return;
        }
        let h = usize::from(first.blank);
        self.note(format!("an administrator tells host {} to go on", h + 1));
        let history = self.rng.next() | 1;
        self.step(h, Input::Verdict(Verdict { kind: VerdictKind::Force, history }));
    }

    /// Everything works: who serves, if all is well.
    pub fn well(&self) -> Result<usize, String> {
        let serving: Vec<usize> = (0..2).filter(|h| self.hosts[*h].holds_lease(self.now)).collect();
        let [leader] = serving[..] else { return Err(format!("{} hosts serve", serving.len())) };
        let status = self.hosts[leader].node.as_ref().map(Node::status).unwrap_or_default();
        if !status.in_sync || status.gate != GateState::Closed || status.recovering {
            return Err(format!("the leader is not in sync: {status:?}"));
        }
        let other = self.hosts[1 - leader].node.as_ref().map(Node::status).unwrap_or_default();
        if other.recovering || !other.in_sync {
            return Err(format!("the backup is not in sync: {other:?}"));
        }
        Ok(leader)
    }
}
