//! Two groups' workers in one thread and simulated time: each gets its turns in a fixed order, every simulated
//! millisecond; what they send is there with the next one.

use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use proto::op::{self, Cred, OP_VERSION, Op, Reply, Sattr, op::Kind};

use super::{Group, GroupConfig, GroupEvent, Parts, Turn};
use crate::disk::SimDisk;
use crate::fs::FsOptions;
use crate::handle::NotServing;
use crate::ids::{ExportId, voter};
use crate::node::{Input, NodeConfig, Third};
use crate::planted::{Planted, plant};
use crate::wal::WalOptions;
use crate::{clock, random};

const MS: u64 = 1_000_000;
/// A wall clock that nobody's real one shows.
const WALL_NS: u64 = 1_000_000_000_000_000_000;

type Answers = Arc<Mutex<Vec<Result<Arc<Reply>, NotServing>>>>;

struct Host {
    parts: Parts,
    events: Arc<Mutex<Vec<GroupEvent>>>,
    disk: SimDisk,
}

struct Pair {
    hosts: [Host; 2],
    now: u64,
    trace: Vec<String>,
}

fn config(me: u64, boot: u64) -> GroupConfig {
    let peer = Some(if me == voter::HOME { voter::MIRROR } else { voter::HOME });
    GroupConfig {
        id: ExportId([7; 16]),
        path: "/one".into(),
        dir: PathBuf::from("/sim"),
        node_name: format!("node {me}"),
        boot_id: format!("boot {boot}"),
        node: NodeConfig { me, peer, third: Third::None, ..NodeConfig::default() },
        fs: FsOptions::default(),
        wal: WalOptions { segment_bytes: 1 << 20, ..WalOptions::default() },
        wal_bytes_max: 8 << 20,
    }
}

impl Host {
    fn start(me: u64, boot: u64, disk: SimDisk) -> Self {
        let events = Arc::<Mutex<Vec<GroupEvent>>>::default();
        let sink = events.clone();
        let opened = Parts::open(
            Arc::new(disk.clone()),
            config(me, boot),
            Arc::new(move |event| sink.lock().push(event)),
        );
        let mut parts = opened.expect("an export opens");
        parts.logger.prepare();
        Self { parts, events, disk }
    }

    fn turns(&mut self, sync: bool) {
        self.parts.driver.turn();
        self.parts.logger.append_gathered();
        if sync {
            self.parts.logger.sync_if_due();
        }
        self.parts.applier.turn(usize::MAX);
        self.parts.keeper.turn();
    }
}

impl Pair {
    fn start() -> Self {
        random::simulate(7);
        Self::on([SimDisk::new(), SimDisk::new()], MS, 1)
    }

    fn on([a, b]: [SimDisk; 2], now: u64, boot: u64) -> Self {
        clock::simulate(now, WALL_NS + now);
        let hosts = [Host::start(voter::HOME, boot, a), Host::start(voter::MIRROR, boot, b)];
        let hellos = [hosts[1].parts.group.hello(), hosts[0].parts.group.hello()];
        for (host, hello) in hosts.iter().zip(hellos) {
            host.parts.group.input(Input::PeerUp(hello));
        }
        Self { hosts, now, trace: Vec::new() }
    }

    /// The power of both goes; what was not synced survives as the seed says. Both start again.
    fn lose_power(self, seed: u64) -> Self {
        let Self { hosts, now, .. } = self;
        let disks = hosts.map(|host| {
            host.disk.crash(seed ^ host.parts.driver.node().status().me);
            host.disk
        });
        Self::on(disks, now + 1000 * MS, 2)
    }

    /// Everybody's turn, one millisecond later.
    fn step(&mut self) {
        self.step_but(None);
    }

    /// The same, but one host's log comes to no fdatasync.
    fn step_but(&mut self, held: Option<usize>) {
        self.now += MS;
        clock::simulate(self.now, WALL_NS + self.now);
        for host in 0..2 {
            self.hosts[host].turns(held != Some(host));
            self.deliver(host);
        }
    }

    fn deliver(&mut self, from: usize) {
        let events = std::mem::take(&mut *self.hosts[from].events.lock());
        for event in events {
            self.trace.push(format!("{} {from} {event:?}", self.now));
            match event {
                GroupEvent::ToPeer(frame) => {
                    self.hosts[1 - from].parts.group.input(Input::Peer(Box::new(frame)))
                }
                GroupEvent::Fatal(why) => panic!("host {from} stopped: {why}"),
                _ => {}
            }
        }
    }

    fn group(&self, host: usize) -> &Group {
        &self.hosts[host].parts.group
    }

    /// Steps until somebody serves.
    fn primary(&mut self) -> usize {
        for _ in 0..10_000 {
            self.step();
            if let Some(host) = (0..2).find(|h| self.group(*h).handle().serving()) {
                return host;
            }
        }
        panic!("nobody serves after 10 s: {:#?}", self.trace);
    }

    fn propose(&self, host: usize, kind: Kind) -> Answers {
        let op = Op {
            version: OP_VERSION,
            clock_ns: WALL_NS,
            cred: Some(Cred::default()),
            kind: Some(kind),
            ..Op::default()
        };
        let answers = Answers::default();
        let sink = answers.clone();
        self.group(host).handle().propose(op, Default::default(), Box::new(move |r| sink.lock().push(r)));
        answers
    }
}

fn make(name: &str) -> Kind {
    let dir = Some(op::Handle { file_id: crate::ids::FileId::ROOT.0, generation: 0 });
    let attr = Some(Sattr { mode: Some(0o755), ..Sattr::default() });
    Kind::Mkdir(op::Mkdir { dir, name: name.to_owned().into(), attr })
}

/// Goal: a group needs no threads and no real time. Method: elect, change, and compare the replicas, all in this thread.
#[test]
fn a_pair_runs_in_one_thread() {
    let mut pair = Pair::start();
    let primary = pair.primary();
    let answers: Vec<Answers> = (0..50).map(|n| pair.propose(primary, make(&format!("d{n}")))).collect();
    for _ in 0..200 {
        pair.step();
    }
    for answer in answers {
        let answer = answer.lock();
        assert!(matches!(&answer[..], [Ok(reply)] if reply.status == 0), "{answer:?}: {:#?}", pair.trace);
    }
    let [a, b] = [pair.group(0).progress(), pair.group(1).progress()];
    assert_eq!((a.applied, a.digest, a.files), (b.applied, b.digest, 51));
}

/// Goal: what a simulated run does follows from its seed alone. Method: twice the same, compare all that was said.
#[test]
fn the_same_run_again_says_the_same() {
    let run = || {
        let mut pair = Pair::start();
        let primary = pair.primary();
        pair.propose(primary, make("d"));
        for _ in 0..100 {
            pair.step();
        }
        pair.trace
    };
    let first = run();
    assert!(first.len() > 10);
    assert_eq!(first, run());
}

/// Goal: between the write and the fdatasync of the log nobody is told anything, and a crash can be put there.
/// Method: hold the backup's and the primary's fdatasync back, one after the other.
#[test]
fn an_operation_is_answered_only_after_both_fdatasyncs() {
    let mut pair = Pair::start();
    let primary = pair.primary();
    for held in [1 - primary, primary] {
        let answers = pair.propose(primary, make(&format!("d{held}")));
        for _ in 0..20 {
            pair.step_but(Some(held));
            let answers = answers.lock();
            assert!(answers.is_empty(), "{answers:?} while host {held} had not synced: {:#?}", pair.trace);
        }
        assert!(pair.hosts[held].parts.logger.is_unsynced());
        for _ in 0..5 {
            pair.step();
        }
        assert!(matches!(&answers.lock()[..], [Ok(_)]));
    }
}

/// Goal: a stopped group's workers say so, and the log is marked as cleanly stopped. Method: stop, give turns, look.
#[test]
fn workers_stop_when_they_are_told() {
    let mut pair = Pair::start();
    pair.primary();
    let host = &mut pair.hosts[0];
    host.parts.group.input(Input::Stop);
    for _ in 0..3 {
        host.turns(true);
    }
    assert_eq!(host.parts.driver.turn(), Turn::Stopped);
    assert_eq!(host.parts.logger.append_gathered(), Turn::Stopped);
    assert_eq!(host.parts.applier.turn(1), Turn::Stopped);
    assert_eq!(host.parts.keeper.turn(), Turn::Stopped);
}

/// Makes directories for a while, loses the power of both, and counts what was answered and is not there any more.
fn lost_after_a_power_loss(seed: u64) -> usize {
    let mut pair = Pair::start();
    let primary = pair.primary();
    let mut proposed = Vec::new();
    for n in 0..10 + seed {
        let name = format!("d{n}");
        proposed.push((pair.propose(primary, make(&name)), name));
        pair.step();
    }
    let answered = proposed.into_iter().filter(|(answers, _)| !answers.lock().is_empty());
    let answered: Vec<String> = answered.map(|(_, name)| name).collect();
    assert!(answered.len() > 3, "the test has nothing to look for");
    let mut pair = pair.lose_power(seed);
    let primary = pair.primary();
    let handle = pair.group(primary).handle();
    let fs = handle.fs();
    let is_there = |name: &String| fs.lookup(&Cred::default(), fs.root(), name.as_bytes()).is_ok();
    answered.iter().filter(|name| !is_there(name)).count()
}

/// Goal: what was answered survives the power loss of both, and a log that is not synced would be found out.
/// Method: lose the power at several instants and with several survivals, with and without the fdatasync.
#[test]
fn what_was_answered_survives_a_power_loss_of_both() {
    for seed in 0..6 {
        assert_eq!(lost_after_a_power_loss(seed), 0, "seed {seed}");
    }
    plant(Some(Planted::SkipLogSync));
    let found =
        (0..20).any(|seed| std::panic::catch_unwind(|| lost_after_a_power_loss(seed) > 0).unwrap_or(true));
    plant(None);
    assert!(found);
}

/// Goal: a leader that answers what the backup does not have is found out. Method: plant that, and hold the backup's
/// fdatasync back.
#[test]
fn an_answer_before_its_commit_would_be_seen() {
    plant(Some(Planted::ReplyBeforeCommit));
    let mut pair = Pair::start();
    let primary = pair.primary();
    let answers = pair.propose(primary, make("d"));
    for _ in 0..20 {
        pair.step_but(Some(1 - primary));
    }
    plant(None);
    assert_eq!(answers.lock().len(), 1);
}
