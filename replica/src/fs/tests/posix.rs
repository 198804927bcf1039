//! Goal: programs that were written for a local file system find through NFS what POSIX promises, as a Linux NFS
//! server keeps it. Method: one small scene per promise; times are compared around each operation.

use bytes::Bytes;
use proto::op::op::Kind;
use proto::op::{Create, Remove, Sattr, SetTime};

use super::harness::{
    Export, create, create_how, handle, link, made, mkdir, mknod, mode, remove, rename, rmdir, root, setattr,
    size, status, symlink, user, write,
};
use crate::fs::{Status, ftype};
use crate::ids::Handle;
use proto::op::create::How;

const USER: u32 = 100;

/// Which of mtime and ctime an operation moves.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Moves {
    Nothing,
    Ctime,
    Both,
}

/// Runs the operation and says which times of these objects it moved, forward only.
fn moves(export: &mut Export, kind: Kind, of: &[Handle]) -> Vec<Moves> {
    let before: Vec<_> = of.iter().map(|file| export.attr(*file)).collect();
    let reply = export.run_as(root(), kind.clone(), b"data");
    assert_eq!(status(&reply), Status::Ok, "{kind:?}");
    let moved = of.iter().zip(before).map(|(file, before)| {
        let after = export.attr(*file);
        assert!(after.mtime_ns >= before.mtime_ns && after.ctime_ns >= before.ctime_ns);
        assert_eq!(after.atime_ns, before.atime_ns);
        match (after.mtime_ns > before.mtime_ns, after.ctime_ns > before.ctime_ns) {
            (false, false) => Moves::Nothing,
            (false, true) => Moves::Ctime,
            (true, true) => Moves::Both,
            (true, false) => panic!("mtime without ctime: {kind:?}"),
        }
    });
    moved.collect()
}

#[test]
fn which_times_an_operation_moves() {
    use Moves::{Both, Ctime, Nothing};
    let mut export = Export::new();
    let top = export.root();
    let dir = export.make(mkdir(top, "d", 0o755));
    let other = export.make(mkdir(top, "o", 0o755));
    let sub = export.make(mkdir(dir, "sub", 0o755));
    let file = export.make(create(dir, "f", None));
    let victim = export.make(create(dir, "v", None));
    export.make(link(victim, other, "v2"));
    let gid = Some(Sattr { gid: Some(7), ..Sattr::default() });
    for (kind, expected) in [
        (create(dir, "new", None), [Both, Nothing, Nothing, Nothing, Nothing]),
        (mkdir(dir, "newdir", 0o755), [Both, Nothing, Nothing, Nothing, Nothing]),
        (symlink(dir, "newlink", "t"), [Both, Nothing, Nothing, Nothing, Nothing]),
        (mknod(dir, "newfifo", ftype::FIFO), [Both, Nothing, Nothing, Nothing, Nothing]),
        (create(dir, "f", None), [Nothing; 5]),
        (write(file, 0), [Nothing, Nothing, Nothing, Both, Nothing]),
        (setattr(file, mode(0o640)), [Nothing, Nothing, Nothing, Ctime, Nothing]),
        (setattr(file, gid), [Nothing, Nothing, Nothing, Ctime, Nothing]),
        (setattr(file, size(4)), [Nothing, Nothing, Nothing, Ctime, Nothing]),
        (setattr(file, size(2)), [Nothing, Nothing, Nothing, Both, Nothing]),
        (setattr(file, size(9)), [Nothing, Nothing, Nothing, Both, Nothing]),
        (create(dir, "f", size(0)), [Nothing, Nothing, Nothing, Both, Nothing]),
        (create(dir, "f", size(0)), [Nothing, Nothing, Nothing, Ctime, Nothing]),
        (link(file, other, "l"), [Nothing, Both, Nothing, Ctime, Nothing]),
        (rename(other, "l", other, "l2"), [Nothing, Both, Nothing, Ctime, Nothing]),
        (rename(dir, "f", other, "l2"), [Nothing; 5]),
        (rename(dir, "f", dir, "v"), [Both, Nothing, Nothing, Ctime, Ctime]),
        (rename(dir, "sub", other, "sub"), [Both, Both, Ctime, Nothing, Nothing]),
        (remove(dir, "v"), [Both, Nothing, Nothing, Ctime, Nothing]),
        (remove(dir, "new"), [Both, Nothing, Nothing, Nothing, Nothing]),
        (rmdir(dir, "newdir"), [Both, Nothing, Nothing, Nothing, Nothing]),
    ] {
        let moved = moves(&mut export, kind.clone(), &[dir, other, sub, file, victim]);
        assert_eq!(moved, expected, "{kind:?}");
    }
}

#[test]
fn a_time_that_is_set_stays_beside_another_change() {
    let mut export = Export::new();
    let file = export.make(create(export.root(), "f", None));
    let time = Some(SetTime { ns: Some(5) });
    let both = Sattr { size: Some(10), mtime: time, atime: time, ..Sattr::default() };
    export.run(setattr(file, Some(both)));
    let attr = export.attr(file);
    assert_eq!((attr.size, attr.mtime_ns, attr.atime_ns, attr.ctime_ns), (10, 5, 5, export.clock_ns));
}

#[test]
fn rename_over_what_is_there() {
    let names = [("file", 0), ("dir", 1), ("full", 2), ("link", 3), ("fifo", 4)];
    for (from, a) in names {
        for (to, b) in names {
            let mut export = Export::new();
            let dirs = ["x", "y"].map(|name| export.make(mkdir(export.root(), name, 0o755)));
            let mut made = Vec::new();
            for dir in dirs {
                made.push(export.make(create(dir, "file", None)));
                made.push(export.make(mkdir(dir, "dir", 0o755)));
                let full = export.make(mkdir(dir, "full", 0o755));
                export.make(create(full, "in", None));
                made.push(full);
                made.push(export.make(symlink(dir, "link", "to")));
                made.push(export.make(mknod(dir, "fifo", ftype::FIFO)));
            }
            let is_dir = |n: usize| n == 1 || n == 2;
            let expected = match (is_dir(a), is_dir(b)) {
                (true, false) => Status::NotDir,
                (false, true) => Status::IsDir,
                (true, true) if b == 2 => Status::NotEmpty,
                _ => Status::Ok,
            };
            let before = export.tree();
            assert_eq!(export.status(rename(dirs[0], from, dirs[1], to)), expected, "{from} over {to}");
            if expected != Status::Ok {
                assert_eq!(export.tree(), before);
                continue;
            }
            assert_eq!(export.lookup(dirs[1], to), Ok(made[a]));
            assert_eq!(export.lookup(dirs[0], from), Err(Status::NoEnt));
            assert_eq!(export.fs.getattr(made[5 + b]), Err(Status::Stale), "what it replaced is gone");
            let gone = u32::from(is_dir(a));
            assert_eq!(export.attr(dirs[0]).nlink, 4 - gone);
            assert_eq!(export.attr(dirs[1]).nlink, 4);
            if is_dir(a) {
                assert_eq!(export.lookup(made[a], ".."), Ok(dirs[1]));
            }
        }
    }
}

#[test]
fn a_directory_never_comes_to_lie_below_itself() {
    let mut export = Export::new();
    let top = export.root();
    let a = export.make(mkdir(top, "a", 0o755));
    let b = export.make(mkdir(a, "b", 0o755));
    let c = export.make(mkdir(b, "c", 0o755));
    for to in [a, b, c] {
        assert_eq!(export.status(rename(top, "a", to, "x")), Status::Inval);
    }
    assert_eq!(export.status(rename(b, "c", top, "a")), Status::NotEmpty, "over what it lies in");
    assert_eq!(export.status(rename(b, "c", a, "b")), Status::NotEmpty);
    assert_eq!(export.status(rename(top, "a", top, "a")), Status::Ok);
    assert_eq!(export.status(rename(a, "b", top, "b")), Status::Ok);
    assert_eq!((export.attr(top).nlink, export.attr(a).nlink, export.attr(b).nlink), (4, 2, 3));
    assert_eq!(export.lookup(b, ".."), Ok(top), "right after the move");
    assert_eq!(export.status(rename(top, "a", c, "a")), Status::Ok, "what was above may lie below now");
    assert_eq!(export.lookup(a, ".."), Ok(c));
}

#[test]
fn two_names_of_one_file_stay_two() {
    let mut export = Export::new();
    let dir = export.root();
    let file = export.make(create(dir, "a", None));
    export.make(link(file, dir, "b"));
    let before = export.tree();
    assert_eq!(export.status(rename(dir, "a", dir, "b")), Status::Ok);
    assert_eq!(export.tree(), before);
}

#[test]
fn remove_and_rmdir_apart() {
    let mut export = Export::new();
    let dir = export.root();
    export.make(mkdir(dir, "d", 0o755));
    for (name, kind) in
        [("f", create(dir, "f", None)), ("s", symlink(dir, "s", "d")), ("p", mknod(dir, "p", ftype::SOCK))]
    {
        export.make(kind);
        assert_eq!(export.status(rmdir(dir, name)), Status::NotDir, "{name}");
        assert_eq!(export.status(remove(dir, name)), Status::Ok, "{name}");
        assert_eq!(export.status(remove(dir, name)), Status::NoEnt, "{name}");
    }
    assert_eq!(export.status(remove(dir, "d")), Status::IsDir);
    assert_eq!(export.status(rmdir(dir, "d")), Status::Ok);
}

#[test]
fn links_to_all_but_directories() {
    let mut export = Export::new();
    let dir = export.root();
    export.make(mkdir(dir, "d", 0o755));
    let sub = export.lookup(dir, "d").unwrap();
    for name in ["l", "d"] {
        assert_eq!(export.status(link(sub, dir, name)), Status::IsDir, "{name}");
    }
    for kind in [symlink(dir, "s", "d"), mknod(dir, "p", ftype::FIFO), mknod(dir, "c", ftype::CHR)] {
        let object = export.make(kind);
        let name = format!("l{}", object.file.0);
        assert_eq!(export.make(link(object, dir, &name)), object);
        assert_eq!(export.attr(object).nlink, 2);
    }
    let removed = export.make(create(dir, "gone", None));
    export.run(remove(dir, "gone"));
    assert_eq!(export.status(link(removed, dir, "x")), Status::Stale);
}

#[test]
fn who_makes_special_files() {
    let mut export = Export::new();
    let open = export.make(mkdir(export.root(), "open", 0o777));
    let closed = export.make(mkdir(export.root(), "closed", 0o755));
    for (dir, file_type, expected) in [
        (open, ftype::FIFO, Status::Ok),
        (open, ftype::SOCK, Status::Ok),
        (open, ftype::CHR, Status::Perm),
        (open, ftype::BLK, Status::Perm),
        (closed, ftype::BLK, Status::Acces),
        (closed, ftype::FIFO, Status::Acces),
        (open, ftype::DIR, Status::BadType),
        (open, ftype::LNK, Status::BadType),
        (open, 0, Status::BadType),
        (open, 99, Status::BadType),
    ] {
        let reply = export.run_as(user(USER), mknod(dir, &format!("n{file_type}"), file_type), b"");
        assert_eq!(status(&reply), expected, "{file_type}");
    }
    let attr = export.attr(export.lookup(open, &format!("n{}", ftype::FIFO)).unwrap());
    assert_eq!((attr.uid, attr.major, attr.minor), (USER, 0, 0), "a FIFO has no device number");
}

#[test]
fn mode_of_a_symbolic_link_says_nothing() {
    let mut export = Export::new();
    let there = export.make(symlink(export.root(), "s", "t"));
    let before = export.attr(there);
    assert_eq!(status(&export.run_as(user(USER), setattr(there, mode(0o600)), b"")), Status::Ok);
    assert_eq!(export.attr(there), before, "nothing was asked for");
    let owner = Some(Sattr { uid: Some(USER), mode: Some(0), ..Sattr::default() });
    assert_eq!(export.status(setattr(there, owner)), Status::Ok);
    assert_eq!((export.attr(there).uid, export.attr(there).mode), (USER, 0o777));
}

#[test]
fn set_id_bits_and_owners() {
    let own = |uid, m| Some(Sattr { uid: Some(uid), gid: Some(uid), mode: m, ..Sattr::default() });
    for (m, to, expected) in [
        (0o6777, None, 0o777),
        (0o2767, None, 0o2767),
        (0o755, Some(0o6755), 0o755),
        (0o755, Some(0o2644), 0o2644),
    ] {
        let mut export = Export::new();
        let file = export.make(create(export.root(), "f", mode(m)));
        export.run(setattr(file, own(USER, to)));
        assert_eq!(export.attr(file).mode, expected, "{m:o} {to:?}");
    }
    let mut export = Export::new();
    let dir = export.make(mkdir(export.root(), "d", 0o755));
    export.run(setattr(dir, mode(0o6755)));
    export.run(setattr(dir, own(USER, None)));
    assert_eq!(export.attr(dir).mode, 0o6755, "of a directory they are no privilege");
    export.run_as(user(USER), setattr(dir, mode(0o2755)), b"");
    assert_eq!(export.attr(dir).mode, 0o2755);
}

#[test]
fn truncation_drops_set_id_bits() {
    for (cred, expected) in [(user(USER), 0o777), (root(), 0o6777)] {
        let mut export = Export::new();
        let file = export.make(create(export.root(), "f", mode(0o666)));
        let attr = Some(Sattr { uid: Some(USER), gid: Some(USER), ..Sattr::default() });
        export.run(setattr(file, attr));
        export.run(setattr(file, mode(0o6777)));
        assert_eq!(status(&export.run_as(cred, setattr(file, size(1)), b"")), Status::Ok);
        assert_eq!(export.attr(file).mode, expected);
    }
}

#[test]
fn exclusive_create_and_the_setattr_after_it() {
    let mut export = Export::new();
    let dir = export.root();
    let file = export.make(create_how(dir, "f", How::Exclusive, 7));
    let mut export = export.crash();
    assert_eq!(export.make(create_how(dir, "f", How::Exclusive, 7)), file, "the same call again");
    assert_eq!(export.status(create_how(dir, "f", How::Exclusive, 8)), Status::Exist, "somebody else's");
    let now = Some(SetTime { ns: None });
    let first = Sattr { mode: Some(0o640), atime: now, mtime: now, ..Sattr::default() };
    assert_eq!(export.status(setattr(file, Some(first))), Status::Ok);
    let attr = export.attr(file);
    assert_eq!((attr.mode, attr.mtime_ns, attr.atime_ns), (0o640, export.clock_ns, export.clock_ns));
    assert_eq!(export.status(create_how(dir, "f", How::Exclusive, 7)), Status::Exist, "it is in use");
    export.make(mkdir(dir, "d", 0o755));
    assert_eq!(export.status(create_how(dir, "d", How::Exclusive, 7)), Status::Exist);
}

#[test]
fn names_are_bytes() {
    let mut export = Export::new();
    let dir = export.root();
    let names: [&[u8]; 4] = [b"\xff\xfe", b"\x01\n\t ", "\u{e9}".as_bytes(), "e\u{301}".as_bytes()];
    for name in names {
        let make = Create { dir: Some(dir.into()), name: Bytes::from_static(name), ..Create::default() };
        let file = export.make(Kind::Create(make));
        let found = export.fs.lookup(&root(), dir, name).unwrap();
        assert_eq!(handle(&found.attr), file, "{name:?}");
    }
    assert_eq!(export.list(dir).iter().filter(|entry| names.contains(&&entry.name[..])).count(), 4);
    for name in names {
        let gone = Remove { dir: Some(dir.into()), name: Bytes::from_static(name) };
        assert_eq!(export.status(Kind::Remove(gone)), Status::Ok);
    }
}

#[test]
fn entries_without_search_permission_are_names_only() {
    let mut export = Export::new();
    let dir = export.make(mkdir(export.root(), "d", 0o744));
    made(&export.run(create(dir, "f", None)));
    for (cred, expected) in [(user(USER), false), (root(), true)] {
        let mut flags = Vec::new();
        let read = export.fs.readdir(&cred, dir, 0, &mut |entry| {
            flags.push(entry.searchable);
            true
        });
        assert!(read.is_ok());
        assert_eq!(flags, [expected; 3]);
    }
}
