//! Goal: retransmissions, limits, bad arguments, permissions, starvation. Method: one case each; what a client would
//! lose is asserted, not how it is kept.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use proto::op::op::Kind;
use proto::op::{self, CallKey, Lock, Op};

use super::harness::{Export, call, mkdir, mode, setattr, user};
use super::locks::{anyone, cancel, file, lock, owner, stat, unlock};
use crate::disk::RealDisk;
use crate::fs::kv::KvWriter;
use crate::fs::locks::{
    HELD_PER_CLIENT_MAX, HOSTS_MAX, LockStatus, OH_MAX, OVERTAKEN_MAX, Owner, WAITERS_PER_CLIENT_MAX,
};
use crate::fs::{Fs, FsOptions};
use crate::ids::Handle;

fn take(export: &mut Export, file: Handle, who: &str, at: u64, exclusive: bool, block: bool) -> LockStatus {
    stat(export, Kind::Lock(lock(file, who, (at, 1), exclusive, block)))
}

fn with_call(op: Op, xid: u32) -> Op {
    Op { call: Some(CallKey { program: 100_021, ..call(xid) }), ..op }
}

#[test]
fn retransmissions_are_answered_as_the_first_time() {
    for crash in [false, true] {
        let mut export = Export::new();
        let f = file(&mut export, "f");
        let share = op::Share {
            file: Some(f.into()),
            owner: Some(owner("a")),
            mode: 2,
            access: 1,
            ..op::Share::default()
        };
        let operations = [
            Kind::Lock(lock(f, "a", (0, 10), true, false)),
            Kind::Lock(lock(f, "b", (0, 10), true, false)),
            Kind::Lock(lock(f, "b", (0, 10), true, true)),
            Kind::Lock(lock(f, "c", (0, 10), true, true)),
            cancel(f, "c", (0, 10), true),
            unlock(f, "a", (0, 10)),
            Kind::Share(share),
            Kind::Unshare(op::Unshare { file: Some(f.into()), owner: Some(owner("a")) }),
            Kind::FreeAll(op::FreeAll { client: owner("b").client, nsm_state: 3 }),
            Kind::ReleaseClient(op::ReleaseClient { client: owner("b").client }),
        ];
        let mut answered = Vec::new();
        for (n, kind) in operations.into_iter().enumerate() {
            let op = export.op(anyone(), kind);
            let op = with_call(op, n as u32);
            let reply = export.apply_op(op.clone(), b"");
            let after = export.fs.locks();
            assert_eq!(export.apply_op(op.clone(), b""), reply);
            assert_eq!(export.fs.locks(), after, "no second effect");
            answered.push((op, reply));
        }
        if crash {
            export.fs.checkpoint().unwrap();
            export = export.crash();
        }
        let after = export.fs.locks();
        for (op, reply) in answered {
            assert_eq!(export.apply_op(op, b""), reply);
        }
        assert_eq!(export.fs.locks(), after);
    }
}

#[test]
fn arguments_that_cannot_be() {
    let mut export = Export::new();
    let f = file(&mut export, "f");
    let dir = export.make(mkdir(export.root(), "d", 0o777));
    let good = lock(f, "a", (0, 1), false, false);
    let of = |change: &dyn Fn(&mut op::LockOwner)| {
        let mut owner = owner("a");
        change(&mut owner);
        Lock { owner: Some(owner), ..good.clone() }
    };
    let gone = Handle { generation: f.generation + 1, ..f };
    let table = [
        (Lock { owner: None, ..good.clone() }, LockStatus::Failed),
        (of(&|owner| owner.client = Bytes::from_static(b"12345")), LockStatus::Failed),
        (of(&|owner| owner.oh = vec![0; OH_MAX + 1].into()), LockStatus::Failed),
        (Lock { cookie: vec![0; 33].into(), ..good.clone() }, LockStatus::Failed),
        (Lock { nlm_version: 2, ..good.clone() }, LockStatus::Failed),
        (Lock { nlm_version: 260, ..good.clone() }, LockStatus::Failed),
        (Lock { offset: u64::MAX, length: 2, ..good.clone() }, LockStatus::TooBig),
        (Lock { file: Some(dir.into()), ..good.clone() }, LockStatus::Failed),
        (Lock { file: Some(gone.into()), ..good.clone() }, LockStatus::Stale),
        (Lock { file: None, ..good.clone() }, LockStatus::Stale),
    ];
    for (bad, status) in table {
        assert_eq!(stat(&mut export, Kind::Lock(bad.clone())), status, "{bad:?}");
    }
    let share = op::Share { file: Some(f.into()), owner: Some(owner("a")), mode: 4, ..op::Share::default() };
    assert_eq!(stat(&mut export, Kind::Share(share)), LockStatus::Failed);
    assert_eq!(export.fs.locks(), Default::default(), "nothing came of any of it");
    let long = of(&|owner| owner.caller_name = vec![b'n'; 1000].into());
    assert_eq!(stat(&mut export, Kind::Lock(long)), LockStatus::Granted);
    assert_eq!(export.fs.locks().held[0].caller_name.len(), 255);
}

#[test]
fn who_may_lock() {
    let mut export = Export::new();
    let f = file(&mut export, "f");
    let mut as_user = |uid: u32, bits: u32, exclusive: bool| {
        export.run(setattr(f, mode(bits)));
        let kind = Kind::Lock(lock(f, "a", (0, 1), exclusive, false));
        let reply = export.run_as(user(uid), kind, b"");
        LockStatus::from_u32(reply.lock.as_ref().unwrap().stat).unwrap()
    };
    for (bits, shared, exclusive) in [
        (0o604, LockStatus::Granted, LockStatus::Granted),
        (0o602, LockStatus::Failed, LockStatus::Granted),
        (0o600, LockStatus::Failed, LockStatus::Failed),
    ] {
        assert_eq!((as_user(7, bits, false), as_user(7, bits, true)), (shared, exclusive), "{bits:o}");
    }
    assert_eq!(as_user(0, 0o600, true), LockStatus::Granted);
    let o = Owner { client: owner("b").client, svid: 0, oh: Bytes::new() };
    assert_eq!(export.fs.test_lock(&user(7), f, &o, true, 0, 1), Err(LockStatus::Failed));
    export.run(setattr(f, mode(0o604)));
    assert!(export.fs.test_lock(&user(7), f, &o, false, 0, 1).unwrap().is_some());
}

#[test]
fn full_tables_say_so() {
    let mut export = Export::new();
    let f = file(&mut export, "f");
    let many: Vec<Handle> = (0..64).map(|n| file(&mut export, &n.to_string())).collect();
    for n in 0..WAITERS_PER_CLIENT_MAX {
        let at = (many[n as usize % 64], n / 64 * 2);
        assert_eq!(take(&mut export, at.0, "b", at.1, false, false), LockStatus::Granted);
        assert_eq!(take(&mut export, at.0, &format!("a{n}"), at.1, true, true), LockStatus::Blocked);
    }
    assert_eq!(take(&mut export, many[0], "a", 0, true, true), LockStatus::NoLocks);
    assert_eq!(take(&mut export, many[0], "c", 0, true, true), LockStatus::Blocked, "others may still wait");
    for n in WAITERS_PER_CLIENT_MAX..HELD_PER_CLIENT_MAX {
        let at = (many[n as usize % 64], n / 64 * 2);
        assert_eq!(take(&mut export, at.0, "b", at.1, false, false), LockStatus::Granted);
    }
    assert_eq!(take(&mut export, f, "b", 0, false, false), LockStatus::NoLocks);
    let last = HELD_PER_CLIENT_MAX / 64 * 2 - 2;
    assert_eq!(take(&mut export, many[0], "b", last + 1, false, false), LockStatus::Granted, "it joins");
    let split = unlock(many[0], "b", (last, 1));
    assert_eq!(stat(&mut export, split), LockStatus::Granted);
    assert_eq!(take(&mut export, f, "c", 0, false, false), LockStatus::Granted, "others may still lock");
    let all = export.fs.locks();
    let mut export = export.crash();
    assert!(export.fs.locks() == all);
    assert_eq!(stat(&mut export, unlock(many[1], "b", (0, 0))), LockStatus::Granted);
    assert_eq!(take(&mut export, f, "b", 0, false, false), LockStatus::Granted);
}

#[test]
fn idle_clients_make_room() {
    let mut export = Export::new();
    let f = file(&mut export, "f");
    assert_eq!(take(&mut export, f, "b", 9, true, false), LockStatus::Granted);
    let mut from = |n: usize, locks: bool| {
        let mut who = owner("a");
        who.client = Bytes::copy_from_slice(&(n as u128).to_be_bytes());
        let good = lock(f, "a", (0, 1), false, false);
        let got = stat(&mut export, Kind::Lock(Lock { owner: Some(who.clone()), ..good }));
        if got == LockStatus::Granted && !locks {
            let (file, owner) = (Some(f.into()), Some(who));
            stat(&mut export, Kind::Unlock(op::Unlock { file, owner, offset: 0, length: 1 }));
        }
        (got, export.fs.lock_hosts())
    };
    for n in 0..HOSTS_MAX {
        assert_eq!(from(n, false).0, LockStatus::Granted);
    }
    let hosts = from(HOSTS_MAX, true).1;
    assert_eq!(hosts.len(), HOSTS_MAX);
    assert!(hosts.iter().any(|host| host.client == owner("b").client), "who holds something stays");
    assert!(!hosts.iter().any(|host| host.client[..] == 0_u128.to_be_bytes()), "the oldest idle one went");
    assert!(hosts.iter().any(|host| host.client[..] == 5_u128.to_be_bytes()));
}

#[test]
fn a_writer_is_not_overtaken_for_ever() {
    let mut export = Export::new();
    let f = file(&mut export, "f");
    assert_eq!(take(&mut export, f, "a", 0, false, false), LockStatus::Granted);
    assert_eq!(take(&mut export, f, "w", 0, true, true), LockStatus::Blocked);
    let mut overtaken = 0;
    while take(&mut export, f, "b", 0, false, false) == LockStatus::Granted {
        assert_eq!(stat(&mut export, unlock(f, "b", (0, 1))), LockStatus::Granted);
        overtaken += 1;
        assert!(overtaken <= u32::from(OVERTAKEN_MAX), "the writer starves");
    }
    assert_eq!(overtaken, u32::from(OVERTAKEN_MAX));
    let o = Owner { client: owner("b").client, svid: 0, oh: owner("b").oh };
    let test = export.fs.test_lock(&anyone(), f, &o, false, 0, 1).unwrap().expect("TEST says the same");
    assert_eq!(test.owner.client, owner("w").client);
    assert_eq!(take(&mut export, f, "b", 0, false, true), LockStatus::Blocked, "it waits behind the writer");
    assert_eq!(take(&mut export, f, "a", 0, false, false), LockStatus::Granted, "it has it already");
    let mut export = export.crash();
    assert_eq!(take(&mut export, f, "c", 0, false, false), LockStatus::Denied);
    assert_eq!(stat(&mut export, unlock(f, "a", (0, 1))), LockStatus::Granted);
    assert_eq!(export.fs.pending_grants().len(), 1, "the writer, not the reader behind it");
    assert_eq!(stat(&mut export, unlock(f, "w", (0, 1))), LockStatus::Granted);
    assert_eq!(export.fs.pending_grants()[0].lock.owner.client, owner("b").client);
}

/// A writer that bars readers waits for `a`, who waits for `b`: when `b` then wants to read, it must not wait for the
/// writer, or nobody ever goes on.
#[test]
fn a_bar_gives_way_to_whom_the_writer_waits_for() {
    let mut export = Export::new();
    let (f, g) = (file(&mut export, "f"), file(&mut export, "g"));
    take(&mut export, f, "a", 0, false, false);
    take(&mut export, g, "b", 0, true, false);
    assert_eq!(take(&mut export, f, "w", 0, true, true), LockStatus::Blocked);
    for _ in 0..OVERTAKEN_MAX {
        take(&mut export, f, "c", 0, false, false);
        stat(&mut export, unlock(f, "c", (0, 1)));
    }
    assert_eq!(take(&mut export, f, "b", 0, false, true), LockStatus::Blocked, "barred");
    assert_eq!(take(&mut export, g, "a", 0, true, true), LockStatus::Blocked, "a ring, but no deadlock");
    let grants = export.fs.pending_grants();
    assert_eq!(grants.len(), 1, "the ring opens");
    assert_eq!((grants[0].lock.owner.client.clone(), grants[0].lock.file), (owner("b").client, f));
}

/// What a copy of an export brings: rows, no memory of who wrote them.
#[test]
fn a_copy_has_all_of_it() {
    let mut export = Export::new();
    let f = file(&mut export, "f");
    take(&mut export, f, "a", 0, true, false);
    take(&mut export, f, "b", 0, true, true);
    take(&mut export, f, "c", 0, true, true);
    stat(&mut export, unlock(f, "a", (0, 1)));
    let share = op::Share { file: Some(f.into()), owner: Some(owner("d")), mode: 3, ..op::Share::default() };
    assert_eq!(stat(&mut export, Kind::Share(share)), LockStatus::Granted);
    stat(&mut export, Kind::FreeAll(op::FreeAll { client: owner("a").client, nsm_state: 3 }));
    let dir = tempfile::tempdir().unwrap();
    let mut copy = KvWriter::create(Arc::new(RealDisk::new(dir.path())), Path::new("meta.redb")).unwrap();
    export.rows().iter().for_each(|(key, value)| copy.put(key, value).unwrap());
    copy.finish(export.fs.progress().applied, 1).unwrap();
    let copy = Fs::open(dir.path(), FsOptions::default()).unwrap();
    assert_eq!(copy.locks(), export.fs.locks());
    let called =
        |fs: &Fs| fs.pending_grants().into_iter().map(|grant| (grant.id, grant.lock)).collect::<Vec<_>>();
    assert_eq!(called(&copy), called(&export.fs));
    assert!(!copy.pending_grants()[0].fresh, "who knows who has called already");
    let kind = unlock(f, "b", (0, 1));
    let op = export.op(anyone(), kind);
    export.apply_op(op.clone(), b"");
    copy.apply(export.fs.progress().applied, 1, Some(&op), &Bytes::new()).unwrap();
    assert_eq!(copy.locks(), export.fs.locks());
    assert_eq!(copy.progress().digest, export.fs.progress().digest);
}

/// One lock without its client, or a row of nobody's: the disk's fault, said at open.
#[test]
fn damaged_rows_are_an_error() {
    let mut export = Export::new();
    let f = file(&mut export, "f");
    take(&mut export, f, "a", 0, true, false);
    take(&mut export, f, "b", 0, true, true);
    for spoil in [b'H', b'L', b'W'] {
        let dir = tempfile::tempdir().unwrap();
        let mut copy = KvWriter::create(Arc::new(RealDisk::new(dir.path())), Path::new("meta.redb")).unwrap();
        for (key, value) in export.rows() {
            let short = value.slice(..value.len() / 2);
            let value = if key.first() == Some(&spoil) { short } else { value };
            copy.put(&key, &value).unwrap();
        }
        copy.finish(export.fs.progress().applied, 1).unwrap();
        let Err(error) = Fs::open(dir.path(), FsOptions::default()) else { panic!("opened") };
        assert!(error.to_string().contains("meta.redb"), "{error}");
    }
}

#[test]
fn the_front_end_is_woken_once_per_entry_that_grants() {
    let mut export = Export::new();
    let f = file(&mut export, "f");
    let woken = Arc::new(AtomicU64::new(0));
    let count = woken.clone();
    export.fs.wake_on_grant(Some(Arc::new(move || {
        count.fetch_add(1, Ordering::Relaxed);
    })));
    take(&mut export, f, "a", 0, true, false);
    take(&mut export, f, "b", 0, false, true);
    take(&mut export, f, "c", 0, false, true);
    assert_eq!((woken.load(Ordering::Relaxed), export.fs.locks_changed()), (0, 0));
    stat(&mut export, unlock(f, "a", (0, 1)));
    assert_eq!((woken.load(Ordering::Relaxed), export.fs.locks_changed()), (1, 1));
    assert_eq!(export.fs.pending_grants().len(), 2);
    export.fs.wake_on_grant(None);
}
