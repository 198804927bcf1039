//! Goal: what RFC 1813 and rename(2), link(2) and their kin leave to be chosen is as a Linux client expects.
//! Method: one small scene per rule.

use proto::op::{Create, Sattr, SetTime, Symlink};

use proto::op::op::Kind;

use super::harness::{
    Export, create, create_how, handle, link, made, mkdir, mknod, mode, remove, rename, rmdir, root, setattr,
    size, status, symlink, user, write,
};
use crate::fs::{FILE_SIZE_MAX, LINK_MAX, NAME_MAX, SYMLINK_MAX, Status, ftype};
use crate::ids::{FileId, Handle};
use proto::op::create::How;

#[test]
fn each_change_has_another_ctime() {
    let mut export = Export::new();
    let file = export.make(create(export.root(), "f", None));
    let mut last = export.attr(file).ctime_ns;
    for clock in [0, 5_000, 5_000, 4_000, 5_001] {
        export.clock_ns = clock;
        export.run_as(root(), write(file, 0), b"x");
        let now = export.attr(file).ctime_ns;
        assert!(now > last && now > clock);
        last = now;
        export.run(setattr(file, mode(0o600)));
        assert!(export.attr(file).ctime_ns > last);
        last = export.attr(file).ctime_ns;
    }
}

#[test]
fn nothing_asked_changes_nothing() {
    let mut export = Export::new();
    let file = export.make(create(export.root(), "f", None));
    let before = export.attr(file);
    assert_eq!(export.status(setattr(file, Some(Sattr::default()))), Status::Ok);
    assert_eq!(export.status(write(file, 9)), Status::Ok);
    assert_eq!(export.attr(file), before);
}

#[test]
fn ids_and_handles_are_not_reused() {
    let mut export = Export::new();
    let dir = export.root();
    let first = export.make(create(dir, "f", None));
    export.run(remove(dir, "f"));
    let mut export = export.crash();
    let second = export.make(create(dir, "f", None));
    assert_eq!((first.file, second.file), (FileId(2), FileId(3)));
    assert_eq!(export.fs.getattr(first), Err(Status::Stale));
    let forged = Handle { generation: 77, ..second };
    assert_eq!(export.fs.getattr(forged), Err(Status::Stale));
    assert_eq!(export.status(write(forged, 0)), Status::Stale);
    assert_eq!(export.status(Kind::Write(proto::op::Write { file: None, offset: 0 })), Status::BadHandle);
}

#[test]
fn bad_names() {
    let mut export = Export::new();
    let dir = export.root();
    let long = "x".repeat(NAME_MAX + 1);
    for (name, expected) in
        [("", Status::Acces), ("a/b", Status::Acces), ("a\0b", Status::Acces), (&long, Status::NameTooLong)]
    {
        assert_eq!(export.status(create(dir, name, None)), expected, "{name:?}");
        assert_eq!(export.status(remove(dir, name)), expected, "{name:?}");
        assert_eq!(export.status(rename(dir, name, dir, "a")), expected, "{name:?}");
        assert_eq!(export.lookup(dir, name), Err(expected), "{name:?}");
    }
    export.make(create(dir, &"x".repeat(NAME_MAX), None));
    for dot in [".", ".."] {
        assert_eq!(export.status(create(dir, dot, None)), Status::Exist);
        assert_eq!(export.status(mkdir(dir, dot, 0o755)), Status::Exist);
        assert_eq!(export.status(remove(dir, dot)), Status::IsDir);
        assert_eq!(export.status(rename(dir, dot, dir, "a")), Status::Inval);
    }
    assert_eq!(export.status(rmdir(dir, ".")), Status::Inval);
    assert_eq!(export.status(rmdir(dir, "..")), Status::Exist);
}

#[test]
fn offsets_near_the_limits() {
    let mut export = Export::new();
    let file = export.make(create(export.root(), "f", None));
    for offset in [u64::MAX, u64::MAX - 1, FILE_SIZE_MAX, FILE_SIZE_MAX - 1] {
        assert_eq!(status(&export.write(file, offset, b"ab")), Status::FBig, "{offset}");
    }
    assert_eq!(export.status(setattr(file, size(FILE_SIZE_MAX + 1))), Status::FBig);
    assert_eq!(status(&export.write(file, FILE_SIZE_MAX - 2, b"ab")), Status::Ok);
    let attr = export.attr(file);
    assert_eq!((attr.size, attr.used), (FILE_SIZE_MAX, 4096));
    let read = export.fs.read(&root(), file, FILE_SIZE_MAX - 2, 100).unwrap();
    assert_eq!((&read.data[..], read.eof), (&b"ab"[..], true));
    let read = export.fs.read(&root(), file, u64::MAX, u32::MAX).unwrap();
    assert_eq!((read.data.len(), read.eof), (0, true));
}

#[test]
fn holes_and_used() {
    let mut export = Export::new();
    let file = export.make(create(export.root(), "f", size(100_000)));
    assert_eq!((export.attr(file).size, export.attr(file).used), (100_000, 0));
    export.write(file, 50_000, &[1; 5_000]);
    assert_eq!(export.attr(file).used, 8_192);
    export.run(setattr(file, size(10)));
    assert_eq!(export.attr(file).used, 4_096);
    assert_eq!(export.fs.progress().bytes_used, 4_096);
    export.run(setattr(file, size(60_000)));
    assert_eq!(export.read_all(file), vec![0; 60_000]);
    export.run(remove(export.root(), "f"));
    assert_eq!(export.fs.progress().bytes_used, 0);
}

#[test]
fn create_on_what_is_there() {
    let mut export = Export::new();
    let dir = export.root();
    let file = export.make(create(dir, "f", mode(0o644)));
    export.write(file, 0, b"data");
    assert_eq!(export.make(create(dir, "f", mode(0o600))), file);
    assert_eq!((export.attr(file).mode, export.attr(file).size), (0o644, 4));
    assert_eq!(export.make(create(dir, "f", size(0))), file);
    assert_eq!(export.attr(file).size, 0);
    assert_eq!(export.status(create_how(dir, "f", How::Guarded, 0)), Status::Exist);
    export.make(mkdir(dir, "d", 0o755));
    assert_eq!(export.status(create(dir, "d", None)), Status::Exist);
    assert_eq!(export.status(create(file, "x", None)), Status::NotDir);
    let unknown =
        Kind::Create(Create { dir: Some(dir.into()), name: "g".into(), how: 9, ..Create::default() });
    assert_eq!(export.status(unknown), Status::NotSupp);
}

#[test]
fn what_fails_halfway_leaves_nothing() {
    let mut export = Export::new();
    let dir = export.root();
    let (before, progress) = (export.tree(), export.fs.progress());
    assert_eq!(export.status(create(dir, "f", size(FILE_SIZE_MAX + 1))), Status::FBig);
    assert_eq!(export.lookup(dir, "f"), Err(Status::NoEnt));
    assert_eq!(export.tree(), before);
    assert_eq!(export.fs.progress().files, progress.files);
}

#[test]
fn wcc_surrounds_the_operation() {
    let mut export = Export::new();
    let dir = export.root();
    let before = export.attr(dir);
    let reply = export.run(create(dir, "f", None));
    let wcc = reply.wcc.unwrap();
    assert_eq!(wcc.before.unwrap().ctime_ns, before.ctime_ns);
    assert_eq!(wcc.after.unwrap(), export.attr(dir));
    assert_eq!(reply.attr.unwrap(), export.attr(made(&reply)));
    let failed = export.run(create_how(dir, "f", How::Guarded, 0));
    let wcc = failed.wcc.unwrap();
    assert_eq!(wcc.after.unwrap(), export.attr(dir));
    assert_eq!(wcc.before.unwrap().ctime_ns, export.attr(dir).ctime_ns);
    let file = made(&reply);
    let failed = export.run(link(file, dir, "f"));
    assert_eq!((status(&failed), failed.attr), (Status::Exist, Some(export.attr(file))));
    let sub = export.make(mkdir(dir, "d", 0o755));
    let moved = export.run(rename(dir, "f", sub, "f"));
    assert_eq!(moved.wcc.unwrap().after.unwrap(), export.attr(dir));
    assert_eq!(moved.to_wcc.unwrap().after.unwrap(), export.attr(sub));
}

#[test]
fn guard_compares_ctime() {
    let mut export = Export::new();
    let file = export.make(create(export.root(), "f", None));
    let guarded = |ctime| {
        Kind::SetAttr(proto::op::SetAttr {
            file: Some(file.into()),
            attr: mode(0o600),
            guard_ctime_ns: Some(ctime),
        })
    };
    let seen = export.attr(file).ctime_ns;
    assert_eq!(export.status(guarded(seen)), Status::Ok);
    assert_eq!(export.status(guarded(seen)), Status::NotSync);
}

#[test]
fn times_are_set() {
    let mut export = Export::new();
    let file = export.make(create(export.root(), "f", None));
    let attr =
        Sattr { atime: Some(SetTime { ns: Some(5) }), mtime: Some(SetTime { ns: None }), ..Sattr::default() };
    export.run(setattr(file, Some(attr)));
    let attr = export.attr(file);
    assert_eq!((attr.atime_ns, attr.mtime_ns, attr.ctime_ns), (5, export.clock_ns, export.clock_ns));
}

#[test]
fn wrong_types() {
    let mut export = Export::new();
    let dir = export.root();
    let fifo = export.make(mknod(dir, "p", ftype::FIFO));
    let link_to = export.make(symlink(dir, "s", "target"));
    assert_eq!(export.status(setattr(dir, size(0))), Status::IsDir);
    assert_eq!(export.status(setattr(fifo, size(0))), Status::Inval);
    assert_eq!(status(&export.write(dir, 0, b"x")), Status::IsDir);
    assert_eq!(status(&export.write(link_to, 0, b"x")), Status::Inval);
    assert_eq!(export.fs.read(&root(), dir, 0, 1).unwrap_err().status, Status::IsDir);
    assert_eq!(export.fs.read(&root(), link_to, 0, 1).unwrap_err().status, Status::Inval);
    assert_eq!(export.fs.readlink(&root(), fifo).unwrap_err().status, Status::Inval);
    assert_eq!(export.fs.readlink(&user(9), link_to).unwrap().0, "target");
    assert_eq!(export.status(mknod(dir, "x", ftype::REG)), Status::BadType);
    let device = export.make(mknod(dir, "null", ftype::CHR));
    assert_eq!((export.attr(device).major, export.attr(device).minor), (1, 3));
    assert_eq!(export.fs.lookup(&root(), fifo, b"x").unwrap_err().status, Status::NotDir);
}

#[test]
fn symlink_targets() {
    let mut export = Export::new();
    let dir = export.root();
    let target = |target: Vec<u8>| {
        let target = target.into();
        Kind::Symlink(Symlink { dir: Some(dir.into()), name: "s".into(), attr: mode(0), target })
    };
    assert_eq!(export.status(target(Vec::new())), Status::NoEnt);
    assert_eq!(export.status(target(vec![b'x'; SYMLINK_MAX + 1])), Status::NameTooLong);
    assert_eq!(export.status(target(b"a\0b".to_vec())), Status::Inval);
    let made = export.make(target(vec![b'x'; SYMLINK_MAX]));
    assert_eq!((export.attr(made).mode, export.attr(made).size), (0o777, SYMLINK_MAX as u64));
    export.run(setattr(made, mode(0o600)));
    assert_eq!(export.attr(made).mode, 0o777);
    assert_eq!(export.status(remove(dir, "s")), Status::Ok);
    assert_eq!(export.fs.readlink(&root(), made).unwrap_err().status, Status::Stale);
}

#[test]
fn names_of_one_inode_are_limited() {
    let mut export = Export::new();
    let dir = export.root();
    let file = export.make(create(dir, "f", None));
    for n in 1..LINK_MAX {
        assert_eq!(export.status(link(file, dir, &n.to_string())), Status::Ok);
    }
    assert_eq!(export.attr(file).nlink, LINK_MAX);
    assert_eq!(export.status(link(file, dir, "x")), Status::MLink);
}

#[test]
fn removed_directories_are_stale() {
    let mut export = Export::new();
    let dir = export.root();
    let sub = export.make(mkdir(dir, "d", 0o755));
    export.make(create(sub, "f", None));
    assert_eq!(export.status(rmdir(dir, "d")), Status::NotEmpty);
    export.run(remove(sub, "f"));
    assert_eq!(export.status(rmdir(dir, "d")), Status::Ok);
    assert_eq!(export.status(create(sub, "f", None)), Status::Stale);
    assert_eq!(export.attr(dir).nlink, 2);
    assert_eq!(export.fs.readdir(&root(), sub, 0, &mut |_| true).unwrap_err().status, Status::Stale);
}

#[test]
fn fsstat_shows_the_host() {
    let export = Export::new();
    let stat = export.fs.fsstat().unwrap();
    assert!(stat.total_bytes > 0 && stat.free_bytes <= stat.total_bytes);
    assert!(stat.free_files > 0 && stat.total_files > stat.free_files);
    assert_eq!(handle(&export.attr(export.root())), export.root());
}
