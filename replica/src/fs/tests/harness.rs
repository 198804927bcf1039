//! A state machine in a temporary directory, its log, and short ways to say operations.

use std::sync::Arc;

use bytes::Bytes;
use proto::op::op::Kind;
use proto::op::{self, Attr, CallKey, Cred, OP_VERSION, Op, Reply, Sattr};
use tempfile::TempDir;

use crate::fs::{DirEntry, Fs, FsOptions, Status};
use crate::ids::{FileId, Handle};

/// An export that can crash.
pub struct Export {
    pub fs: Fs,
    pub log: Vec<(Op, Bytes)>,
    pub clock_ns: u64,
    options: FsOptions,
    dir: TempDir,
}

/// The superuser.
pub fn root() -> Cred {
    Cred::default()
}

/// An ordinary user, in the group of the same number.
pub fn user(uid: u32) -> Cred {
    Cred { uid, gid: uid, gids: Vec::new() }
}

/// The handle in attributes.
pub fn handle(attr: &Attr) -> Handle {
    Handle { file: FileId(attr.file_id), generation: attr.generation }
}

/// The status in a reply.
pub fn status(reply: &Reply) -> Status {
    Status::from_u32(reply.status).expect("a status of RFC 1813")
}

/// The handle of what a reply made.
pub fn made(reply: &Reply) -> Handle {
    assert_eq!(status(reply), Status::Ok);
    handle(reply.attr.as_ref().expect("a made object has attributes"))
}

/// Attributes that set a mode.
pub fn mode(mode: u32) -> Option<Sattr> {
    Some(Sattr { mode: Some(mode), ..Sattr::default() })
}

/// Attributes that set a size.
pub fn size(size: u64) -> Option<Sattr> {
    Some(Sattr { size: Some(size), ..Sattr::default() })
}

fn h(handle: Handle) -> Option<op::Handle> {
    Some(handle.into())
}

fn b(name: &str) -> Bytes {
    Bytes::copy_from_slice(name.as_bytes())
}

pub fn create(dir: Handle, name: &str, attr: Option<Sattr>) -> Kind {
    Kind::Create(op::Create { dir: h(dir), name: b(name), attr, ..op::Create::default() })
}

pub fn create_how(dir: Handle, name: &str, how: op::create::How, verifier: u64) -> Kind {
    let create = op::Create { dir: h(dir), name: b(name), attr: mode(0o644), ..op::Create::default() };
    Kind::Create(op::Create { how: how.into(), exclusive_verifier: verifier, ..create })
}

pub fn mkdir(dir: Handle, name: &str, m: u32) -> Kind {
    Kind::Mkdir(op::Mkdir { dir: h(dir), name: b(name), attr: mode(m) })
}

pub fn symlink(dir: Handle, name: &str, target: &str) -> Kind {
    Kind::Symlink(op::Symlink { dir: h(dir), name: b(name), attr: None, target: b(target) })
}

pub fn mknod(dir: Handle, name: &str, file_type: u32) -> Kind {
    let (major, minor) = (1, 3);
    Kind::Mknod(op::Mknod { dir: h(dir), name: b(name), file_type, attr: mode(0o600), major, minor })
}

pub fn remove(dir: Handle, name: &str) -> Kind {
    Kind::Remove(op::Remove { dir: h(dir), name: b(name) })
}

pub fn rmdir(dir: Handle, name: &str) -> Kind {
    Kind::Rmdir(op::Rmdir { dir: h(dir), name: b(name) })
}

pub fn rename(from: Handle, from_name: &str, to: Handle, to_name: &str) -> Kind {
    Kind::Rename(op::Rename {
        from_dir: h(from),
        from_name: b(from_name),
        to_dir: h(to),
        to_name: b(to_name),
    })
}

pub fn link(file: Handle, dir: Handle, name: &str) -> Kind {
    Kind::Link(op::Link { file: h(file), dir: h(dir), name: b(name) })
}

pub fn write(file: Handle, offset: u64) -> Kind {
    Kind::Write(op::Write { file: h(file), offset })
}

pub fn setattr(file: Handle, attr: Option<Sattr>) -> Kind {
    Kind::SetAttr(op::SetAttr { file: h(file), attr, guard_ctime_ns: None })
}

pub fn set_quota(bytes: u64, inodes: u64) -> Kind {
    Kind::SetQuota(op::SetQuota { bytes, inodes })
}

pub fn mount_add(client: &[u8], path: &[u8]) -> Kind {
    let (client, path) = (Bytes::copy_from_slice(client), Bytes::copy_from_slice(path));
    Kind::MountAdd(op::MountAdd { client, path })
}

/// No path: all of the client.
pub fn mount_remove(client: &[u8], path: &[u8]) -> Kind {
    let (client, path) = (Bytes::copy_from_slice(client), Bytes::copy_from_slice(path));
    Kind::MountRemove(op::MountRemove { client, path })
}

/// The key of a call, one per number.
pub fn call(xid: u32) -> CallKey {
    CallKey { client: Bytes::from_static(&[10, 0, 0, 1]), xid, program: 100_003, ..CallKey::default() }
}

impl Export {
    pub fn new() -> Self {
        Self::with(FsOptions::default())
    }

    pub fn with(options: FsOptions) -> Self {
        let dir = tempfile::tempdir().expect("temporary directory");
        let fs = Fs::open(dir.path(), options.clone()).expect("open");
        Self { fs, log: Vec::new(), clock_ns: 1_000, options, dir }
    }

    pub fn root(&self) -> Handle {
        self.fs.root()
    }

    /// Applies the next entry.
    pub fn apply_op(&mut self, op: Op, payload: &[u8]) -> Arc<Reply> {
        let payload = Bytes::copy_from_slice(payload);
        self.log.push((op, payload));
        self.apply_next()
    }

    fn apply_next(&self) -> Arc<Reply> {
        let index = self.fs.progress().applied + 1;
        let (op, payload) = &self.log[index as usize - 1];
        self.fs.apply(index, 1, Some(op), payload).expect("apply")
    }

    /// An operation's envelope, at a clock that moves.
    pub fn op(&mut self, cred: Cred, kind: Kind) -> Op {
        self.clock_ns += 10;
        Op {
            version: OP_VERSION,
            clock_ns: self.clock_ns,
            cred: Some(cred),
            kind: Some(kind),
            ..Op::default()
        }
    }

    pub fn run_as(&mut self, cred: Cred, kind: Kind, payload: &[u8]) -> Arc<Reply> {
        let op = self.op(cred, kind);
        self.apply_op(op, payload)
    }

    /// Runs an operation as the superuser.
    pub fn run(&mut self, kind: Kind) -> Arc<Reply> {
        self.run_as(root(), kind, &[])
    }

    /// [`Self::run`], and its status.
    pub fn status(&mut self, kind: Kind) -> Status {
        status(&self.run(kind))
    }

    /// [`Self::run`], and what it made.
    pub fn make(&mut self, kind: Kind) -> Handle {
        made(&self.run(kind))
    }

    pub fn write(&mut self, file: Handle, offset: u64, data: &[u8]) -> Arc<Reply> {
        self.run_as(root(), write(file, offset), data)
    }

    pub fn attr(&self, file: Handle) -> Attr {
        self.fs.getattr(file).expect("GETATTR")
    }

    pub fn lookup(&self, dir: Handle, name: &str) -> Result<Handle, Status> {
        let found = self.fs.lookup(&root(), dir, name.as_bytes());
        found.map(|found| handle(&found.attr)).map_err(|failed| failed.status)
    }

    pub fn read_all(&self, file: Handle) -> Vec<u8> {
        let mut content = Vec::new();
        loop {
            let read = self.fs.read(&root(), file, content.len() as u64, 65_536).expect("READ");
            content.extend_from_slice(&read.data);
            if read.eof {
                return content;
            }
        }
    }

    pub fn list(&self, dir: Handle) -> Vec<DirEntry> {
        let mut entries = Vec::new();
        let read = self.fs.readdir(&root(), dir, 0, &mut |entry| {
            entries.push(entry.clone());
            true
        });
        assert!(read.expect("READDIR").1, "the whole directory was taken");
        entries
    }

    /// Every path with its attributes, its content or target, and its cookie.
    pub fn tree(&self) -> Vec<(String, Attr, Vec<u8>, u64)> {
        let mut all = vec![("/".to_owned(), self.attr(self.root()), Vec::new(), 0)];
        let mut dirs = vec![("/".to_owned(), self.root())];
        while let Some((path, dir)) = dirs.pop() {
            for entry in self.list(dir).into_iter().filter(|entry| entry.cookie > 2) {
                let its_path = format!("{path}{}", String::from_utf8_lossy(&entry.name));
                let its_handle = handle(&entry.attr);
                let content = match entry.attr.file_type {
                    crate::fs::ftype::REG => self.read_all(its_handle),
                    crate::fs::ftype::LNK => {
                        self.fs.readlink(&root(), its_handle).expect("READLINK").0.to_vec()
                    }
                    _ => Vec::new(),
                };
                if entry.attr.file_type == crate::fs::ftype::DIR {
                    dirs.push((format!("{its_path}/"), its_handle));
                }
                all.push((its_path, entry.attr, content, entry.cookie));
            }
        }
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }

    /// All rows of the metadata, as a checkpoint of everything wrote them.
    pub fn rows(&self) -> Vec<(Bytes, Bytes)> {
        self.fs.durable(self.fs.progress().applied).expect("durable");
        while self.fs.checkpoint().expect("checkpoint") < self.fs.progress().applied {}
        let mut image = self.fs.kv().image().expect("image");
        let mut rows = Vec::new();
        loop {
            let batch = image.next_batch(1 << 20).expect("rows");
            if batch.is_empty() {
                return rows;
            }
            rows.extend(batch);
        }
    }

    /// The process dies and starts again: back to the last checkpoint, then the log through `apply`.
    pub fn crash(self) -> Self {
        let applied = self.fs.progress().applied;
        let Self { fs, log, clock_ns, options, dir } = self;
        drop(fs);
        let fs = Fs::open(dir.path(), options.clone()).expect("open again");
        let export = Self { fs, log, clock_ns, options, dir };
        export.fs.durable(applied).expect("durable");
        while export.fs.progress().applied < applied {
            export.apply_next();
        }
        export
    }
}
