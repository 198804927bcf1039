//! Goal: a crash at any point of a copy leaves the old copy or the whole new one, and a whole one opens as what was sent.
//! Method: a group alone on a simulated disk is the source; the receiver's power is lost at each change of its disk in turn.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use proto::op::{self, Cred, OP_VERSION, Op, Sattr, op::Kind};
use proto::peer::ImagePart;

use super::*;
use crate::disk::SimDisk;
use crate::fs::{Fs, FsOptions};
use crate::group::{GroupConfig, Parts};
use crate::ids::{ExportId, FileId};
use crate::node::NodeConfig;
use crate::{clock, random};

const MS: u64 = 1_000_000;
const NAME: &str = "one";
/// What only the old copy has.
const OLD: &str = "one/old";

fn wal() -> WalOptions {
    WalOptions { segment_bytes: 64 << 10, spare_segments: 0 }
}

fn config() -> GroupConfig {
    GroupConfig {
        id: ExportId([7; 16]),
        path: "/one".into(),
        dir: PathBuf::from("/sim"),
        node_name: "a".into(),
        boot_id: "boot".into(),
        node: NodeConfig::default(),
        fs: FsOptions::default(),
        wal: wal(),
        wal_bytes_max: 8 << 20,
    }
}

fn turns(parts: &mut Parts, now: &mut u64) {
    *now += MS;
    clock::simulate(*now, *now);
    parts.driver.turn();
    parts.logger.append_gathered();
    parts.logger.sync_if_due();
    parts.applier.turn(usize::MAX);
    parts.keeper.turn();
}

fn directory(name: &str) -> Op {
    let dir = Some(op::Handle { file_id: FileId::ROOT.0, generation: 0 });
    let attr = Some(Sattr { mode: Some(0o755), ..Sattr::default() });
    let kind = Kind::Mkdir(op::Mkdir { dir, name: name.to_owned().into(), attr });
    Op { version: OP_VERSION, cred: Some(Cred::default()), kind: Some(kind), ..Op::default() }
}

/// A copy of an export with some directories, part by part, and the index at which it ends.
fn copy() -> (Vec<ImagePart>, u64) {
    let mut now = MS;
    clock::simulate(now, now);
    random::simulate(3);
    let disk = Arc::new(SimDisk::new());
    let mut parts = Parts::open(disk, config(), Arc::new(|_| {})).expect("a new export opens");
    for n in 0..30 {
        turns(&mut parts, &mut now);
        parts.group.handle().propose(directory(&format!("d{n}")), Default::default(), Box::new(|_| {}));
        if n == 20 {
            parts.group.handle().fs().checkpoint().expect("checkpoint");
        }
    }
    for _ in 0..100 {
        turns(&mut parts, &mut now);
    }
    let mut sending = Sending::begin(parts.group.source()).expect("begin");
    let mut sent = Vec::new();
    loop {
        match sending.next_part().expect("the next part") {
            Sent::Part(part) => sent.push(part),
            Sent::Wait => panic!("all of it is applied"),
            Sent::Done(end, _) => return (sent, end),
        }
    }
}

fn receive(place: &Place, parts: &[ImagePart]) -> Result<(), ImageError> {
    install(place)?;
    let old = old_vote(place);
    let (start, rest) = parts.split_first().expect("a start");
    let mut receiver = Receiver::begin(place, &old, start.clone())?;
    for part in rest {
        if receiver.part(part.clone())? {
            install(place)?;
        }
    }
    Ok(())
}

/// A disk on which an old copy is.
fn with_old_copy() -> SimDisk {
    let disk = SimDisk::new();
    disk.create_dir(Path::new(NAME)).expect("make the old directory");
    disk.open(Path::new(OLD), true).expect("make a file in it");
    disk.sync_dir(Path::new(NAME)).expect("sync");
    disk
}

fn names(disk: &SimDisk) -> Vec<PathBuf> {
    disk.list(Path::new("")).expect("list")
}

#[test]
fn a_copy_is_the_old_one_or_the_whole_new_one() {
    let (parts, end) = copy();
    let (mut kept, mut replaced) = (0, 0);
    for changes in 0.. {
        let disk = with_old_copy();
        let place = Place::new(Arc::new(disk.clone()), NAME, wal());
        disk.halt_after(changes);
        let whole = receive(&place, &parts).is_ok();
        disk.crash(changes);
        install(&place).expect("a start puts in order what a crash left");
        assert_eq!(names(&disk), [Path::new(NAME)], "after {changes} changes");
        if disk.open(Path::new(OLD), false).is_ok() {
            kept += 1;
        } else {
            replaced += 1;
            let parts = Parts::open(disk.below(Path::new(NAME)), config(), Arc::new(|_| {}));
            let parts = parts.unwrap_or_else(|error| panic!("after {changes} changes: {error}"));
            assert_eq!(parts.group.log_range().1, end);
        }
        if whole {
            break;
        }
    }
    assert!(kept > 20 && replaced > 2, "{kept} kept, {replaced} replaced");
}

#[test]
fn a_copy_holds_what_was_sent() {
    let (parts, _) = copy();
    let disk = SimDisk::new();
    let place = Place::new(Arc::new(disk.clone()), NAME, wal());
    receive(&place, &parts).expect("a whole copy");
    let mut now = 1000 * MS;
    clock::simulate(now, now);
    let export = disk.below(Path::new(NAME));
    let mut group = Parts::open(export, config(), Arc::new(|_| {})).expect("it opens");
    for _ in 0..100 {
        turns(&mut group, &mut now);
    }
    let handle = group.group.handle();
    let fs: &Fs = handle.fs();
    for n in 0..30 {
        assert!(fs.lookup(&Cred::default(), fs.root(), format!("d{n}").as_bytes()).is_ok(), "d{n}");
    }
}
