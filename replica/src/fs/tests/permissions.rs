//! Goal: nobody does through NFS what the mode bits forbid on a local file system, and what a Linux client
//! checked at open(2) goes on working. Method: a table of scenes; each names caller, operation and outcome.

use proto::op::op::Kind;
use proto::op::{Cred, Sattr, SetTime};

use super::harness::{
    Export, create, link, mkdir, mknod, mode, remove, rename, root, setattr, size, status, symlink, user,
    write,
};
use crate::fs::{Status, access, ftype};
use crate::ids::Handle;

const OWNER: u32 = 100;
const GROUP: u32 = 200;
const OTHER: u32 = 300;

fn owner() -> Cred {
    Cred { uid: OWNER, gid: OWNER, gids: vec![GROUP] }
}

fn member() -> Cred {
    Cred { uid: 101, gid: 101, gids: vec![7, GROUP] }
}

/// An object of OWNER and GROUP with this mode.
fn owned(export: &mut Export, make: Kind, m: u32) -> Handle {
    let object = export.make(make);
    let attr = Sattr { uid: Some(OWNER), gid: Some(GROUP), ..Sattr::default() };
    assert_eq!(export.status(setattr(object, Some(attr))), Status::Ok);
    assert_eq!(export.status(setattr(object, mode(m))), Status::Ok);
    object
}

fn run(export: &mut Export, cred: Cred, kind: Kind) -> Status {
    status(&export.run_as(cred, kind, b"x"))
}

#[test]
fn access_bits() {
    use access::{DELETE, EXECUTE, EXTEND, LOOKUP, MODIFY, READ};
    let change = MODIFY | EXTEND;
    let mut export = Export::new();
    let table = [
        (0o640, owner(), READ | change),
        (0o640, member(), READ),
        (0o640, user(OTHER), 0),
        (0o640, root(), READ | change),
        (0o751, owner(), READ | change | EXECUTE),
        (0o751, user(OTHER), EXECUTE),
        (0o001, root(), READ | change | EXECUTE),
        (0o077, owner(), 0),
        (0o707, member(), 0),
    ];
    for (n, (m, cred, granted)) in table.into_iter().enumerate() {
        let make = create(export.root(), &format!("f{n}"), None);
        let file = owned(&mut export, make, m);
        let all = READ | LOOKUP | MODIFY | EXTEND | DELETE | EXECUTE;
        assert_eq!(export.fs.access(&cred, file, all).unwrap().0, granted, "{m:o} {cred:?}");
        assert_eq!(export.fs.access(&cred, file, READ).unwrap().0, granted & READ);
    }
    let table = [
        (0o750, owner(), READ | LOOKUP | change | DELETE),
        (0o750, member(), READ | LOOKUP),
        (0o772, user(OTHER), 0),
        (0o773, user(OTHER), LOOKUP | change | DELETE),
        (0o000, root(), READ | LOOKUP | change | DELETE),
    ];
    for (n, (m, cred, granted)) in table.into_iter().enumerate() {
        let make = mkdir(export.root(), &format!("d{n}"), 0);
        let dir = owned(&mut export, make, m);
        assert_eq!(export.fs.access(&cred, dir, 0x3f).unwrap().0, granted, "{m:o} {cred:?}");
    }
}

#[test]
fn reading_and_writing_content() {
    let mut export = Export::new();
    let table = [
        (0o000, owner(), Ok(()), Status::Ok),
        (0o000, member(), Err(Status::Acces), Status::Acces),
        (0o040, member(), Ok(()), Status::Acces),
        (0o010, member(), Ok(()), Status::Acces),
        (0o020, member(), Err(Status::Acces), Status::Ok),
        (0o660, user(OTHER), Err(Status::Acces), Status::Acces),
        (0o000, root(), Ok(()), Status::Ok),
    ];
    for (n, (m, cred, read, written)) in table.into_iter().enumerate() {
        let make = create(export.root(), &format!("f{n}"), None);
        let file = owned(&mut export, make, m);
        let got = export.fs.read(&cred, file, 0, 10).map(|_| ()).map_err(|failed| failed.status);
        assert_eq!(got, read, "{m:o} {cred:?}");
        assert_eq!(run(&mut export, cred.clone(), write(file, 0)), written, "{m:o} {cred:?}");
        assert_eq!(run(&mut export, cred.clone(), setattr(file, size(5))), written, "{m:o} {cred:?}");
        let again = create(export.root(), &format!("f{n}"), size(0));
        let opened = run(&mut export, cred, again);
        assert_eq!(opened, written);
    }
}

#[test]
fn changing_names_needs_the_directory() {
    let mut export = Export::new();
    let make = mkdir(export.root(), "d", 0);
    let dir = owned(&mut export, make, 0o775);
    let file = export.make(create(dir, "f", mode(0o666)));
    let outsider = || user(OTHER);
    for kind in [
        create(dir, "x", None),
        mkdir(dir, "x", 0o755),
        symlink(dir, "x", "t"),
        mknod(dir, "x", ftype::FIFO),
        link(file, dir, "x"),
        remove(dir, "f"),
        rename(dir, "f", dir, "x"),
    ] {
        assert_eq!(run(&mut export, outsider(), kind.clone()), Status::Acces, "{kind:?}");
    }
    assert_eq!(run(&mut export, member(), create(dir, "x", None)), Status::Ok);
    assert_eq!(run(&mut export, outsider(), create(dir, "f", None)), Status::Ok, "it is there");
    export.run(setattr(dir, mode(0o770)));
    assert_eq!(run(&mut export, outsider(), create(dir, "f", None)), Status::Acces);
    let looked = export.fs.lookup(&outsider(), dir, b"f").unwrap_err();
    assert_eq!((looked.status, looked.attr), (Status::Acces, Some(export.attr(dir))));
    for device in [ftype::CHR, ftype::BLK] {
        assert_eq!(run(&mut export, member(), mknod(dir, "dev", device)), Status::Perm);
    }
}

#[test]
fn sticky_directories() {
    let mut export = Export::new();
    let tmp = export.make(mkdir(export.root(), "tmp", 0o1777));
    for (name, cred) in [("o", owner()), ("m", member())] {
        assert_eq!(run(&mut export, cred, create(tmp, name, mode(0o666))), Status::Ok);
    }
    assert_eq!(run(&mut export, member(), remove(tmp, "o")), Status::Perm);
    assert_eq!(run(&mut export, member(), rename(tmp, "o", tmp, "x")), Status::Perm);
    assert_eq!(run(&mut export, member(), rename(tmp, "m", tmp, "o")), Status::Perm);
    assert_eq!(run(&mut export, owner(), rename(tmp, "o", tmp, "x")), Status::Ok);
    assert_eq!(run(&mut export, root(), remove(tmp, "x")), Status::Ok);
    export.run(setattr(tmp, Some(Sattr { uid: Some(OWNER), ..Sattr::default() })));
    assert_eq!(run(&mut export, owner(), remove(tmp, "m")), Status::Ok, "the directory's owner");
}

#[test]
fn moving_a_directory_writes_its_parent_link() {
    let mut export = Export::new();
    let tmp = export.make(mkdir(export.root(), "tmp", 0o777));
    let to = export.make(mkdir(export.root(), "to", 0o777));
    export.make(mkdir(tmp, "d", 0o755));
    assert_eq!(run(&mut export, owner(), rename(tmp, "d", to, "d")), Status::Acces);
    assert_eq!(run(&mut export, owner(), rename(tmp, "d", tmp, "e")), Status::Ok);
}

#[test]
fn owners_and_groups() {
    let attr = |uid: Option<u32>, gid: Option<u32>| Some(Sattr { uid, gid, ..Sattr::default() });
    let table = [
        (owner(), attr(Some(OTHER), None), Status::Perm),
        (owner(), attr(Some(OWNER), None), Status::Ok),
        (owner(), attr(None, Some(OWNER)), Status::Ok),
        (owner(), attr(None, Some(GROUP)), Status::Ok),
        (owner(), attr(None, Some(OTHER)), Status::Perm),
        (member(), attr(None, Some(GROUP)), Status::Perm),
        (member(), mode(0o777), Status::Perm),
        (owner(), mode(0o700), Status::Ok),
        (root(), attr(Some(1), Some(2)), Status::Ok),
    ];
    for (cred, attr, expected) in table {
        let mut export = Export::new();
        let make = create(export.root(), "f", None);
        let file = owned(&mut export, make, 0o666);
        assert_eq!(run(&mut export, cred.clone(), setattr(file, attr)), expected, "{cred:?} {attr:?}");
    }
}

#[test]
fn times() {
    let at = |ns| Some(Sattr { mtime: Some(SetTime { ns }), ..Sattr::default() });
    let table = [
        (0o600, owner(), Some(5), Status::Ok),
        (0o000, owner(), None, Status::Ok),
        (0o660, member(), Some(5), Status::Perm),
        (0o660, member(), None, Status::Ok),
        (0o640, member(), None, Status::Acces),
        (0o000, root(), Some(5), Status::Ok),
    ];
    for (m, cred, ns, expected) in table {
        let mut export = Export::new();
        let make = create(export.root(), "f", None);
        let file = owned(&mut export, make, m);
        assert_eq!(run(&mut export, cred.clone(), setattr(file, at(ns))), expected, "{m:o} {cred:?} {ns:?}");
    }
}

#[test]
fn set_id_bits() {
    let table = [
        (0o6777, owner(), 0o777),
        (0o6767, owner(), 0o2767),
        (0o6767, user(OTHER), 0o767),
        (0o6777, root(), 0o6777),
    ];
    for (m, cred, expected) in table {
        let mut export = Export::new();
        let make = create(export.root(), "f", None);
        let file = owned(&mut export, make, m);
        assert_eq!(run(&mut export, cred.clone(), write(file, 0)), Status::Ok);
        assert_eq!(export.attr(file).mode, expected, "{m:o} {cred:?}");
    }
    let mut export = Export::new();
    let make = create(export.root(), "f", None);
    let file = owned(&mut export, make, 0o6777);
    export.run(setattr(file, Some(Sattr { gid: Some(5), ..Sattr::default() })));
    assert_eq!(export.attr(file).mode, 0o777, "also where the superuser gives it away");
    run(&mut export, owner(), setattr(file, mode(0o2755)));
    assert_eq!(export.attr(file).mode, 0o755, "set-group-id of a group that the owner is not in");
}

#[test]
fn group_of_new_files() {
    let mut export = Export::new();
    let make = mkdir(export.root(), "d", 0);
    let dir = owned(&mut export, make, 0o2777);
    let file = super::harness::made(&export.run_as(user(OTHER), create(dir, "f", mode(0o2755)), b""));
    let sub = super::harness::made(&export.run_as(user(OTHER), mkdir(dir, "s", 0o4755), b""));
    let (file, sub) = (export.attr(file), export.attr(sub));
    assert_eq!((file.uid, file.gid, file.mode), (OTHER, GROUP, 0o755));
    assert_eq!((sub.uid, sub.gid, sub.mode), (OTHER, GROUP, 0o2755));
    let plain = export.make(mkdir(export.root(), "plain", 0o777));
    let attr = Some(Sattr { uid: Some(1), gid: Some(2), mode: Some(0o600), ..Sattr::default() });
    let mine = super::harness::made(&export.run_as(user(OTHER), create(plain, "f", attr), b""));
    assert_eq!((export.attr(mine).uid, export.attr(mine).gid), (OTHER, OTHER));
    let given = export.make(create(plain, "g", attr));
    assert_eq!((export.attr(given).uid, export.attr(given).gid), (1, 2));
}

#[test]
fn without_credentials_one_is_nobody() {
    let mut export = Export::new();
    let dir = export.root();
    let op = export.op(root(), create(dir, "f", None));
    let op = proto::op::Op { cred: None, ..op };
    assert_eq!(status(&export.apply_op(op, b"")), Status::Acces);
}
