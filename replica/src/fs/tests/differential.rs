//! Goal: no program can tell an export from a local file system. Method: random operations of several users, on an
//! export and on a directory of the host: every result, every answer and both trees (modes, owners, names, content)
//! must be equal.
//!
//! As root the operations are those of four users: the superuser, two members of one group, a stranger. Else they
//! are this process's own. Handles of what is gone are left to `random`; links are made by owners only, as hosts
//! differ in `protected_hardlinks`. 256 cases, or as many as `PROPTEST_CASES` says.

use std::os::fd::OwnedFd;

use proptest::prelude::*;
use proto::op::op::Kind;
use proto::op::{Attr, Create, Cred, Mknod, Sattr, SetTime};
use rustix::fs::Access;

use super::harness::{
    Export, handle, link, mkdir, remove, rename, rmdir, setattr, size, status, symlink, write,
};
use super::host::{self, Host, status_of};
use crate::fs::{Status, access, ftype};
use crate::ids::Handle;
use proto::op::create::How;

const NAMES: [&str; 4] = ["a", "b", "c", "d"];
const OWNERS: [u32; 5] = [0, 100, 101, 102, 200];
const MODES: [u32; 14] =
    [0o755, 0o777, 0o700, 0o770, 0o750, 0o1777, 0o2777, 0o2770, 0o6777, 0o2767, 0o4711, 0o644, 0o070, 0o007];

#[derive(Clone, Copy, Debug)]
enum What {
    Create,
    Mkdir,
    Symlink,
    Fifo,
    Link,
    Remove,
    Rmdir,
    Rename,
    Write,
    SetSize,
    Chmod,
    Chown,
    Utimes,
    Lookup,
    List,
    Access,
}

/// An operation: who does what, to which objects and names, with which number.
#[derive(Clone, Copy, Debug)]
struct Step {
    who: usize,
    what: What,
    a: usize,
    b: usize,
    name: usize,
    to: usize,
    n: u64,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    use What::{
        Access, Chmod, Chown, Create, Fifo, Link, List, Lookup, Mkdir, Remove, Rename, Rmdir, SetSize,
        Symlink, Utimes, Write,
    };
    let what = proptest::sample::select(vec![
        Create, Create, Create, Mkdir, Mkdir, Mkdir, Symlink, Fifo, Link, Link, Remove, Remove, Rmdir,
        Rename, Rename, Rename, Rename, Write, Write, SetSize, Chmod, Chmod, Chmod, Chown, Chown, Utimes,
        Lookup, List, Access,
    ]);
    let at = || 0usize..1_000;
    let name = || 0..NAMES.len();
    let step = (at(), what, at(), at(), name(), name(), 0u64..10_000);
    let step = step.prop_map(|(who, what, a, b, name, to, n)| Step { who, what, a, b, name, to, n });
    proptest::collection::vec(step, 1..60)
}

/// One inode, on both sides.
struct Object {
    handle: Handle,
    fd: OwnedFd,
    file_type: u32,
}

struct Pair {
    export: Export,
    host: Host,
    users: Vec<Cred>,
    objects: Vec<Object>,
    /// The host's directories count their subdirectories (btrfs and some overlays do not).
    counts_dirs: bool,
}

/// What the export is to do, and what the host made of the same.
type Planned = (Kind, Vec<u8>, Result<Option<OwnedFd>, Status>);

fn made(outcome: host::Outcome<OwnedFd>) -> Result<Option<OwnedFd>, Status> {
    outcome.map(Some).map_err(status_of)
}

fn done(outcome: host::Outcome<()>) -> Result<Option<OwnedFd>, Status> {
    outcome.map(|()| None).map_err(status_of)
}

fn sattr(mode: u32) -> Option<Sattr> {
    Some(Sattr { mode: Some(mode), ..Sattr::default() })
}

impl Pair {
    fn new() -> Self {
        let (mut export, host) = (Export::new(), Host::new());
        let users = if host::has_users() {
            let user = |uid, gids: &[u32]| Cred { uid, gid: uid, gids: gids.to_vec() };
            vec![user(0, &[]), user(100, &[200]), user(101, &[200]), user(102, &[])]
        } else {
            vec![host::myself()]
        };
        let top = export.root();
        let (uid, gid) = (Some(host::myself().uid), Some(host::myself().gid));
        export.run(setattr(top, Some(Sattr { uid, gid, ..Sattr::default() })));
        export.run(setattr(top, sattr(0o777)));
        let counts_dirs = host.tree()[0].1.1 == 2;
        let root = Object { handle: top, fd: host.root(), file_type: ftype::DIR };
        Self { export, host, users, objects: vec![root], counts_dirs }
    }

    /// One of the objects that are still there, mostly of a type that `fits`.
    fn pick(&self, n: usize, fits: impl Fn(&Object) -> bool) -> Option<&Object> {
        let fitting: Vec<&Object> = self.objects.iter().filter(|object| fits(object)).collect();
        (!fitting.is_empty()).then(|| fitting[n % fitting.len()])
    }

    fn dir(&self, n: usize) -> &Object {
        self.pick(n, |object| object.file_type == ftype::DIR).expect("the root is always there")
    }

    fn attr(&self, object: &Object) -> Attr {
        self.export.attr(object.handle)
    }

    /// None: there is nothing yet to do it to, or it only looks.
    fn plan(&self, cred: &Cred, step: &Step) -> Option<Planned> {
        let (name, to) = (NAMES[step.name], NAMES[step.to]);
        let mode = MODES[step.n as usize % MODES.len()];
        let dir = self.dir(step.a);
        let bytes = || name.as_bytes().to_vec().into();
        let at = Some(dir.handle.into());
        let new_mode = mode & !self.host.umask;
        let plain = |kind, outcome| Some((kind, Vec::new(), outcome));
        match step.what {
            What::Create => {
                let how = How::Guarded.into();
                let create =
                    Create { dir: at, name: bytes(), how, attr: sattr(new_mode), ..Create::default() };
                plain(Kind::Create(create), made(Host::create(cred, &dir.fd, name, new_mode)))
            }
            What::Mkdir => {
                let outcome = made(Host::mkdir(cred, &dir.fd, name, new_mode));
                plain(mkdir(dir.handle, name, new_mode), outcome)
            }
            What::Symlink => {
                plain(symlink(dir.handle, name, "to"), made(Host::symlink(cred, &dir.fd, name, "to")))
            }
            What::Fifo => {
                let (file_type, attr) = (ftype::FIFO, sattr(new_mode));
                let mknod = Mknod { dir: at, name: bytes(), file_type, attr, ..Mknod::default() };
                plain(Kind::Mknod(mknod), made(Host::fifo(cred, &dir.fd, name, new_mode)))
            }
            What::Link => {
                let file = self.pick(step.b, |object| object.file_type != ftype::DIR)?;
                if cred.uid != 0 && cred.uid != self.attr(file).uid {
                    return None;
                }
                let outcome = done(Host::link(cred, &file.fd, &dir.fd, name));
                plain(link(file.handle, dir.handle, name), outcome)
            }
            What::Remove => plain(remove(dir.handle, name), done(Host::remove(cred, &dir.fd, name))),
            What::Rmdir => plain(rmdir(dir.handle, name), done(Host::rmdir(cred, &dir.fd, name))),
            What::Rename => {
                let target = self.dir(step.b);
                let outcome = done(Host::rename(cred, &dir.fd, name, &target.fd, to));
                plain(rename(dir.handle, name, target.handle, to), outcome)
            }
            What::Write | What::SetSize => self.plan_content(cred, step),
            What::Chmod | What::Chown | What::Utimes => self.plan_attributes(cred, step, mode),
            What::Lookup | What::List | What::Access => None,
        }
    }

    fn plan_content(&self, cred: &Cred, step: &Step) -> Option<Planned> {
        let file = self.pick(step.a, |object| object.file_type == ftype::REG)?;
        if let What::SetSize = step.what {
            let outcome = done(Host::set_size(cred, &file.fd, step.n));
            return Some((setattr(file.handle, size(step.n)), Vec::new(), outcome));
        }
        let data = vec![step.n as u8 | 1; step.b + 1];
        let outcome = done(Host::write(cred, &file.fd, step.n, &data));
        Some((write(file.handle, step.n), data, outcome))
    }

    fn plan_attributes(&self, cred: &Cred, step: &Step, mode: u32) -> Option<Planned> {
        let object = self.pick(step.b, |_| true)?;
        let (attr, outcome) = match step.what {
            What::Chmod if object.file_type == ftype::LNK => return None,
            What::Chmod => {
                (Sattr { mode: Some(mode), ..Sattr::default() }, Host::chmod(cred, &object.fd, mode))
            }
            What::Chown => {
                let owner = |n: usize| OWNERS.get(n % 7).copied();
                let (uid, gid) = (owner(step.a), owner(step.n as usize));
                if (uid, gid) == (None, None) {
                    return None;
                }
                (Sattr { uid, gid, ..Sattr::default() }, Host::chown(cred, &object.fd, uid, gid))
            }
            _ => {
                let second = step.n.is_multiple_of(2).then_some(step.n as i64);
                let time = Some(SetTime { ns: second.map(|second| second as u64 * 1_000_000_000) });
                let attr = Sattr { atime: time, mtime: time, ..Sattr::default() };
                (attr, Host::utimes(cred, &object.fd, second))
            }
        };
        Some((setattr(object.handle, Some(attr)), Vec::new(), done(outcome)))
    }

    fn look(&self, cred: &Cred, step: &Step) {
        let fs = &self.export.fs;
        let (dir, name) = (self.dir(step.a), NAMES[step.name]);
        match step.what {
            What::Lookup => {
                let found = fs.lookup(cred, dir.handle, name.as_bytes()).map_err(|failed| failed.status);
                let host = Host::lookup(cred, &dir.fd, name).map_err(status_of);
                assert_eq!(found.map(|found| self.seen(&found.attr)), host.map(|seen| self.comparable(seen)));
            }
            What::List => {
                let mut names = Vec::new();
                let listed = fs.readdir(cred, dir.handle, 0, &mut |entry| {
                    names.push(String::from_utf8_lossy(&entry.name).into_owned());
                    true
                });
                names.sort();
                let listed = listed.map(|_| names).map_err(|failed| failed.status);
                assert_eq!(listed, Host::list(cred, &dir.fd).map_err(status_of));
            }
            What::Access => {
                let Some(object) = self.pick(step.b, |_| true) else { return };
                let granted = fs.access(cred, object.handle, 0x3f).expect("ACCESS").0;
                let (change, search) = match object.file_type {
                    ftype::DIR => (Access::WRITE_OK | Access::EXEC_OK, access::LOOKUP),
                    _ => (Access::WRITE_OK, access::EXECUTE),
                };
                for (bit, needs) in
                    [(access::READ, Access::READ_OK), (access::MODIFY, change), (search, Access::EXEC_OK)]
                {
                    assert_eq!(granted & bit != 0, Host::may(cred, &object.fd, needs), "ACCESS {bit:#x}");
                }
            }
            _ => {}
        }
    }

    fn step(&mut self, step: &Step) {
        self.objects.retain(|object| self.export.fs.getattr(object.handle).is_ok());
        let cred = self.users[step.who % self.users.len()].clone();
        let Some((kind, payload, outcome)) = self.plan(&cred, step) else {
            return self.look(&cred, step);
        };
        let reply = self.export.run_as(cred.clone(), kind.clone(), &payload);
        let expected = outcome.as_ref().err().copied().unwrap_or(Status::Ok);
        assert_eq!(status(&reply), expected, "{} does {kind:?}", cred.uid);
        if let (Ok(Some(fd)), Some(attr)) = (outcome, &reply.attr) {
            self.objects.push(Object { handle: handle(attr), fd, file_type: attr.file_type });
        }
    }

    /// The part of stat(2) that two file systems must agree on.
    fn comparable(&self, seen: host::Seen) -> host::Seen {
        let (mode, nlink, uid, gid, size) = seen;
        match mode & 0o170_000 {
            0o040_000 => (mode, if self.counts_dirs { nlink } else { 0 }, uid, gid, 0),
            _ => (mode, nlink, uid, gid, size),
        }
    }

    fn seen(&self, attr: &Attr) -> host::Seen {
        let file_type = match attr.file_type {
            ftype::REG => 0o100_000,
            ftype::DIR => 0o040_000,
            ftype::LNK => 0o120_000,
            _ => 0o010_000,
        };
        self.comparable((file_type | attr.mode, attr.nlink, attr.uid, attr.gid, attr.size))
    }

    fn compare(&self) {
        let host = self.host.tree();
        let host: Vec<_> =
            host.into_iter().map(|(path, seen, content)| (path, self.comparable(seen), content)).collect();
        let export = self.export.tree();
        let export: Vec<_> =
            export.into_iter().map(|(path, attr, content, _)| (path, self.seen(&attr), content)).collect();
        assert_eq!(export, host);
    }
}

proptest! {
    #[test]
    fn an_export_is_a_local_file_system(steps in steps()) {
        let mut pair = Pair::new();
        for step in &steps {
            pair.step(step);
        }
        pair.compare();
    }
}
