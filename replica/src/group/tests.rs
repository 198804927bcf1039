//! Two groups' workers in one thread and simulated time: each gets its turns in a fixed order, every simulated
//! millisecond; what they send is there with the next one.

use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use proto::op::{self, Cred, OP_VERSION, Op, Reply, Sattr, op::Kind};
use tempfile::TempDir;

use super::{Group, GroupConfig, GroupEvent, Parts, Turn};
use crate::disk::RealDisk;
use crate::fs::FsOptions;
use crate::handle::NotServing;
use crate::ids::{ExportId, voter};
use crate::node::{Input, NodeConfig, Third};
use crate::wal::WalOptions;
use crate::{clock, random};

const MS: u64 = 1_000_000;
/// A wall clock that nobody's real one shows.
const WALL_NS: u64 = 1_000_000_000_000_000_000;

type Answers = Arc<Mutex<Vec<Result<Arc<Reply>, NotServing>>>>;

struct Host {
    parts: Parts,
    events: Arc<Mutex<Vec<GroupEvent>>>,
    dir: TempDir,
}

struct Pair {
    hosts: [Host; 2],
    now: u64,
    trace: Vec<String>,
}

fn config(me: u64, dir: PathBuf) -> GroupConfig {
    let peer = Some(if me == voter::HOME { voter::MIRROR } else { voter::HOME });
    GroupConfig {
        id: ExportId([7; 16]),
        path: "/one".into(),
        dir,
        node_name: format!("node {me}"),
        boot_id: "boot".into(),
        node: NodeConfig { me, peer, third: Third::None, ..NodeConfig::default() },
        fs: FsOptions::default(),
        wal: WalOptions { segment_bytes: 1 << 20, ..WalOptions::default() },
        wal_bytes_max: 8 << 20,
    }
}

impl Host {
    fn start(me: u64) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let events = Arc::<Mutex<Vec<GroupEvent>>>::default();
        let sink = events.clone();
        let disk = Arc::new(RealDisk::new(dir.path()));
        let config = config(me, dir.path().to_owned());
        let parts = Parts::open(disk, config, Arc::new(move |event| sink.lock().push(event)));
        Self { parts: parts.expect("a new export opens"), events, dir }
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
        clock::simulate(MS, WALL_NS);
        random::simulate(7);
        let mut hosts = [Host::start(voter::HOME), Host::start(voter::MIRROR)];
        for host in &mut hosts {
            host.parts.logger.prepare();
        }
        let hellos = [hosts[1].parts.group.hello(), hosts[0].parts.group.hello()];
        for (host, hello) in hosts.iter().zip(hellos) {
            host.parts.group.input(Input::PeerUp(hello));
        }
        Self { hosts, now: MS, trace: Vec::new() }
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
                GroupEvent::ToPeer(frame) => self.hosts[1 - from].parts.group.input(Input::Peer(frame)),
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
    assert!(pair.hosts[0].dir.path().join("wal").is_dir());
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
