//! Goal: an export never grows past its quota, whoever is full can always make room, and both replicas count alike.
//! Method: a scene per rule; random operations under random quotas whose totals are counted anew from the tree.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::harness::{
    Export, create, link, mkdir, mknod, mode, remove, rename, rmdir, root, set_quota, setattr, size, status,
    symlink, write,
};
use crate::fs::{FsOptions, Quota, Status, Usage, ftype};

const BLOCK: u64 = 4096;

/// What the tree says: every inode once, whole blocks of regular files.
fn counted(export: &Export) -> Usage {
    let inodes: BTreeMap<u64, u64> = export
        .tree()
        .into_iter()
        .map(|(_, attr, _, _)| (attr.file_id, if attr.file_type == ftype::REG { attr.used } else { 0 }))
        .collect();
    Usage { bytes: inodes.values().sum(), inodes: inodes.len() as u64 }
}

#[test]
fn bytes_are_limited() {
    let mut export = Export::new();
    let dir = export.root();
    assert_eq!(export.status(set_quota(2 * BLOCK, 0)), Status::Ok);
    assert_eq!(export.fs.quota(), Quota { bytes: 2 * BLOCK, inodes: 0 });
    let file = export.make(create(dir, "f", None));
    assert_eq!(status(&export.write(file, 0, &[1; 8192])), Status::Ok, "up to the limit");
    let before = (export.attr(file), export.fs.progress().bytes_used, export.read_all(file));
    let refused = export.write(file, 8192, b"x");
    assert_eq!((status(&refused), refused.count), (Status::DQuot, 0));
    let wcc = refused.wcc.unwrap();
    assert_eq!(wcc.after.unwrap(), before.0, "attributes as they were");
    assert_eq!((export.attr(file), export.fs.progress().bytes_used, export.read_all(file)), before);
    assert_eq!(status(&export.write(file, 4000, &[2; 4192])), Status::Ok, "over what is there");
    assert_eq!(export.status(setattr(file, size(1 << 40))), Status::Ok, "a hole takes nothing");
    assert_eq!(status(&export.write(file, 1 << 30, b"x")), Status::DQuot);
    assert_eq!(export.status(setattr(file, size(4096))), Status::Ok);
    assert_eq!(status(&export.write(file, 4096, b"x")), Status::Ok, "there is room again");
    assert_eq!(export.fs.usage(), counted(&export));
}

#[test]
fn inodes_are_limited() {
    let mut export = Export::new();
    let dir = export.root();
    export.run(set_quota(0, 3));
    let sub = export.make(mkdir(dir, "d", 0o755));
    let file = export.make(create(dir, "f", None));
    let before = (export.tree(), export.fs.usage());
    for kind in [
        create(sub, "x", None),
        mkdir(sub, "x", 0o755),
        symlink(sub, "x", "to"),
        mknod(sub, "x", ftype::FIFO),
    ] {
        assert_eq!(export.status(kind.clone()), Status::DQuot, "{kind:?}");
    }
    assert_eq!((export.tree(), export.fs.usage()), before);
    assert_eq!(export.status(create(dir, "f", size(0))), Status::Ok, "it is there");
    assert_eq!(export.status(create(dir, "d", None)), Status::Exist, "the reason that stays");
    assert_eq!(export.status(link(file, sub, "l")), Status::Ok, "a name is no inode");
    assert_eq!(export.status(remove(dir, "f")), Status::Ok);
    assert_eq!(export.status(create(dir, "g", None)), Status::DQuot, "it has another name");
    assert_eq!(export.status(remove(sub, "l")), Status::Ok);
    assert_eq!(export.status(create(dir, "g", None)), Status::Ok);
}

#[test]
fn who_is_over_can_make_room() {
    let mut export = Export::new();
    let dir = export.root();
    let sub = export.make(mkdir(dir, "d", 0o755));
    for name in ["a", "b", "c"] {
        let file = export.make(create(dir, name, None));
        export.write(file, 0, &[1; 8192]);
    }
    assert_eq!(export.status(set_quota(BLOCK, 2)), Status::Ok, "below what is there");
    let a = export.lookup(dir, "a").unwrap();
    let held = export.fs.usage();
    for (kind, expected) in [
        (rename(dir, "a", sub, "a"), Status::Ok),
        (setattr(a, mode(0o600)), Status::Ok),
        (link(a, dir, "l"), Status::Ok),
        (write(a, 0), Status::Ok),
        (create(dir, "new", None), Status::DQuot),
        (setattr(a, size(5000)), Status::Ok),
        (rename(dir, "b", dir, "c"), Status::Ok),
        (create(dir, "c", size(0)), Status::Ok),
        (remove(dir, "c"), Status::Ok),
        (remove(dir, "l"), Status::Ok),
        (remove(sub, "a"), Status::Ok),
        (rmdir(dir, "d"), Status::Ok),
        (create(dir, "new", None), Status::Ok),
    ] {
        let reply = export.run_as(root(), kind.clone(), &[9; 4096]);
        assert_eq!(status(&reply), expected, "{kind:?}");
        assert!(export.fs.usage().bytes <= held.bytes && export.fs.usage().inodes <= held.inodes);
    }
    assert_eq!(export.fs.usage(), Usage { bytes: 0, inodes: 2 });
    assert_eq!(export.status(set_quota(0, 0)), Status::Ok);
    assert_eq!(export.status(mkdir(dir, "free", 0o755)), Status::Ok);
}

#[test]
fn fsstat_shows_the_quota() {
    let mut export = Export::new();
    let host = export.fs.fsstat().unwrap();
    let file = export.make(create(export.root(), "f", None));
    export.write(file, 0, &[1; 4096]);
    export.run(set_quota(10 * BLOCK, 10));
    let stat = export.fs.fsstat().unwrap();
    assert_eq!((stat.total_bytes, stat.free_bytes), (10 * BLOCK, 9 * BLOCK));
    assert_eq!((stat.total_files, stat.free_files), (10, 8));
    export.run(set_quota(1, 1));
    let stat = export.fs.fsstat().unwrap();
    assert_eq!((stat.total_bytes, stat.free_bytes, stat.total_files, stat.free_files), (1, 0, 1, 0));
    export.run(set_quota(u64::MAX, u64::MAX));
    let stat = export.fs.fsstat().unwrap();
    assert_eq!(stat.total_bytes, host.total_bytes, "never more than the host has");
    assert!(stat.free_bytes <= stat.total_bytes && stat.free_files <= stat.total_files);
}

#[test]
fn no_room_on_the_host_refuses_what_grows_only() {
    let mut export = Export::new();
    let dir = export.root();
    let file = export.make(create(dir, "f", None));
    export.write(file, 0, b"data");
    for (kind, expected) in [
        (write(file, 0), Status::NoSpc),
        (create(dir, "new", None), Status::NoSpc),
        (link(file, dir, "l"), Status::NoSpc),
        (create(dir, "f", size(0)), Status::Ok),
        (rename(dir, "f", dir, "g"), Status::Ok),
        (remove(dir, "nothing"), Status::NoEnt),
        (remove(dir, "g"), Status::Ok),
    ] {
        let op = export.op(root(), kind.clone());
        let reply = export.apply_op(proto::op::Op { no_room: true, ..op }, b"x");
        assert_eq!(status(&reply), expected, "{kind:?}");
    }
}

#[test]
fn quota_and_totals_are_state() {
    let mut export = Export::new();
    let digest = export.fs.progress().digest;
    let mut other = Export::new();
    export.run(set_quota(100 * BLOCK, 7));
    other.run(set_quota(100 * BLOCK, 8));
    assert_ne!(export.fs.progress().digest, digest);
    assert_ne!(export.fs.progress().digest, other.fs.progress().digest, "replicas that differ are found out");
    let file = export.make(create(export.root(), "f", None));
    export.write(file, 0, &[1; 10_000]);
    let (quota, usage) = (export.fs.quota(), export.fs.usage());
    let export = export.crash();
    assert_eq!((export.fs.quota(), export.fs.usage()), (quota, usage), "after replay");
    export.rows();
    let export = export.crash();
    assert_eq!((export.fs.quota(), export.fs.usage()), (quota, usage), "from a checkpoint");
}

/// What to do, to which of a few names, how much.
fn steps() -> impl Strategy<Value = Vec<(u8, usize, u64)>> {
    proptest::collection::vec((0u8..8, 0usize..5, 0u64..20_000), 1..60)
}

fn check(steps: &[(u8, usize, u64)]) {
    const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];
    let mut plain = Export::new();
    let mut shaken = Export::with(FsOptions { apply_before_durable: true, ..FsOptions::default() });
    let dir = plain.root();
    for (what, name, amount) in steps {
        let (name, next) = (NAMES[*name], NAMES[(*name + 1) % NAMES.len()]);
        let there = plain.lookup(dir, name).ok();
        let kind = match (what, there) {
            (0, _) => set_quota(*amount * 2, 0),
            (1, _) => set_quota(0, amount % 8),
            (2, _) => remove(dir, name),
            (3, _) => rename(dir, name, dir, next),
            (4, Some(file)) => setattr(file, size(*amount)),
            (5, Some(file)) => link(file, dir, next),
            (6, Some(file)) => write(file, *amount),
            _ => create(dir, name, None),
        };
        let (before, held) = (plain.tree(), plain.fs.usage());
        let op = plain.op(root(), kind);
        let payload = vec![7; (*amount as usize / 3) + 1];
        let reply = plain.apply_op(op.clone(), &payload);
        assert_eq!(reply, shaken.apply_op(op, &payload));
        let (quota, now) = (plain.fs.quota(), plain.fs.usage());
        assert_eq!(now, counted(&plain), "the totals are the tree's");
        let kept = |limit, before, now| limit == 0 || now <= before || now <= limit;
        assert!(kept(quota.bytes, held.bytes, now.bytes) && kept(quota.inodes, held.inodes, now.inodes));
        if status(&reply) == Status::DQuot {
            assert_eq!(plain.tree(), before, "a refusal has no effect");
        }
    }
    let shaken = shaken.crash();
    assert_eq!(shaken.fs.progress().digest, plain.fs.progress().digest);
    assert_eq!((shaken.fs.quota(), shaken.fs.usage()), (plain.fs.quota(), plain.fs.usage()));
    assert_eq!(shaken.rows(), plain.rows());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn never_past_the_quota(steps in steps()) {
        check(&steps);
    }
}
