//! MOUNT version 3 (RFC 1813 appendix I, program 100005): from a path name to a file handle.
//!
//! The list of mounts is replicated state of the export (`replica::fs`): MNT is answered when its line is
//! committed, UMNT and UMNTALL when theirs are gone, and DUMP shows the same on both nodes. Nothing depends
//! on the list; a client that crashed stays in it until it unmounts or 4,096 others came.
//!
//! Whom an export's access list does not admit hears MNT3ERR_ACCES whatever path it asks for, and never
//! learns what is there. A call whose client's name decides and is not known yet waits for it, 2 s at most; a
//! datagram is not kept waiting, it is dropped and comes again.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use proto::op::op::Kind;
use proto::op::{Cred, MountAdd, MountRemove, OP_VERSION, Op};
use replica::clock::wall_ns;
use replica::fs::{NAME_MAX, Status, ftype};
use replica::handle::GroupHandle;
use replica::ids::Handle;

use crate::exports::{ExportEntry, Exports, Refusal, Shown};
use crate::handle;
use crate::rpc::{Call, Program, Responder, Transport};
use crate::xdr::Encoder;

/// Program number, RFC 1813 appendix I.
pub const PROGRAM: u32 = 100_005;
/// The version that is served.
pub const VERSION: u32 = 3;

/// Longest path name, bytes (MNTPATHLEN).
const PATH_MAX: usize = 1024;
/// Longest path name that is read at all, bytes; between the two the answer is MNT3ERR_NAMETOOLONG.
const PATH_READ_MAX: usize = 8192;
/// Most of the list of mounts in one answer, bytes; over UDP the answer has to fit a datagram. What is beyond
/// is left out.
const DUMP_BYTES_MAX: usize = 1 << 20;
const DUMP_BYTES_MAX_UDP: usize = 32 << 10;
/// The flavour to use: AUTH_SYS.
const AUTH_SYS: u32 = 1;

const PROC_NULL: u32 = 0;
const PROC_MNT: u32 = 1;
const PROC_DUMP: u32 = 2;
const PROC_UMNT: u32 = 3;
const PROC_UMNTALL: u32 = 4;
const PROC_EXPORT: u32 = 5;

/// mountstat3, RFC 1813 appendix I. The same numbers as nfsstat3 where both have the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
enum MountStat {
    NoEnt = 2,
    Io = 5,
    Acces = 13,
    NotDir = 20,
    Inval = 22,
    NameTooLong = 63,
    ServerFault = 10006,
}

impl From<Status> for MountStat {
    fn from(status: Status) -> Self {
        match status {
            Status::NoEnt | Status::Stale => Self::NoEnt,
            Status::Io => Self::Io,
            Status::Acces | Status::Perm => Self::Acces,
            Status::NotDir => Self::NotDir,
            Status::Inval => Self::Inval,
            Status::NameTooLong => Self::NameTooLong,
            _ => Self::ServerFault,
        }
    }
}

/// Why nothing is mounted.
enum Refused {
    /// The answer says so.
    Stat(MountStat),
    /// The client may be admitted, by a name that is not known yet.
    Undecided,
    /// Nothing may be said for an export without its lease.
    NotServing,
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Unknown => Self::Stat(MountStat::NoEnt),
            Refusal::Denied => Self::Stat(MountStat::Acces),
            Refusal::Undecided => Self::Undecided,
            Refusal::NotServing => Self::NotServing,
        }
    }
}

/// The mount daemon of one service. Cheap to clone.
#[derive(Clone)]
pub struct Mount {
    exports: Arc<Exports>,
}

impl Mount {
    /// Mounts these exports.
    pub fn new(exports: Arc<Exports>) -> Arc<Self> {
        Arc::new(Self { exports })
    }

    /// MOUNTPROC3_MNT. The path is an export's, or of a directory below it. Whoever mounts is root on the
    /// client (or asks the kernel to be), so path look-up is done as root; every later call is checked as its
    /// caller.
    fn mnt(&self, call: Call, responder: Responder, waited: bool) {
        let Ok(path) = call.decoder().string(PATH_READ_MAX) else { return responder.garbage_args() };
        match self.resolve(&call, &path) {
            Ok((export, dir)) => mounted(&export, dir, &call, path, responder),
            Err(Refused::NotServing) => responder.close(),
            Err(Refused::Undecided) if call.transport == Transport::Udp => responder.close(),
            Err(Refused::Undecided) if !waited => {
                let this = self.clone();
                tokio::spawn(async move {
                    this.exports.decided(&call).await;
                    this.mnt(call, responder, true);
                });
            }
            Err(Refused::Undecided) => responder.accept(failed(MountStat::Acces)),
            Err(Refused::Stat(stat)) => responder.accept(failed(stat)),
        }
    }

    /// The directory that a path names.
    fn resolve(&self, call: &Call, path: &[u8]) -> Result<(ExportEntry, Handle), Refused> {
        let found = if path.len() > PATH_MAX { Err(MountStat::NameTooLong) } else { self.export_of(path) };
        let (export, below) = match found {
            Ok((shown, below)) => (shown.admit(call)?, below),
            Err(stat) => {
                return Err(self.exports.refusal_by_all(call).map_or(Refused::Stat(stat), Refused::from));
            }
        };
        match walk(&export, &below) {
            // Evaluated first, then a look at the lease.
            _ if !export.handle.serving() => Err(Refused::NotServing),
            Ok(dir) => Ok((export, dir)),
            Err(stat) => Err(Refused::Stat(stat)),
        }
    }

    /// The export whose path is the longest prefix of `path`, by whole components, and what is left.
    fn export_of<'p>(&self, path: &'p [u8]) -> Result<(&Shown, Vec<&'p [u8]>), MountStat> {
        let wanted = components(path);
        let candidates = self.exports.all().into_iter().filter_map(|export| {
            let own = components(export.handle.path().as_bytes());
            let below = if wanted.starts_with(&own) { wanted.get(own.len()..) } else { None };
            Some((own.len(), export, below?.to_vec()))
        });
        let found = candidates.max_by_key(|(depth, ..)| *depth);
        found.map(|(_, export, below)| (export, below)).ok_or(MountStat::NoEnt)
    }

    /// MOUNTPROC3_UMNT. It has no failure: who has not mounted, or may not, is told the same.
    fn umnt(&self, call: &Call, responder: Responder) {
        let Ok(path) = call.decoder().string(PATH_READ_MAX) else { return responder.garbage_args() };
        let export = self.export_of(&path).ok().map(|(shown, _)| shown.admit(call));
        match export {
            Some(Ok(export)) => forget(vec![export.handle], call.client.ip(), path, responder),
            Some(Err(Refusal::NotServing)) => responder.close(),
            Some(Err(_)) | None => responder.accept(Encoder::new()),
        }
    }

    /// MOUNTPROC3_UMNTALL: what the client has of every export here.
    fn umntall(&self, call: &Call, responder: Responder) {
        match self.admitted(call) {
            Ok(exports) => forget(exports, call.client.ip(), Bytes::new(), responder),
            Err(NotServing) => responder.close(),
        }
    }

    /// The exports that the caller may use. Its address being known is enough: nobody waits for a name here.
    fn admitted(&self, call: &Call) -> Result<Vec<GroupHandle>, NotServing> {
        let mut admitted = Vec::new();
        for shown in self.exports.all() {
            match shown.admit(call) {
                Ok(export) => admitted.push(export.handle),
                Err(Refusal::NotServing) => return Err(NotServing),
                Err(_) => {}
            }
        }
        Ok(admitted)
    }

    /// MOUNTPROC3_DUMP. The clients of an export are shown to those whom it admits.
    fn dump(&self, call: &Call, responder: Responder) {
        let Ok(exports) = self.admitted(call) else { return responder.close() };
        let bytes_max = match call.transport {
            Transport::Tcp => DUMP_BYTES_MAX,
            Transport::Udp => DUMP_BYTES_MAX_UDP,
        };
        let mut reply = Encoder::new();
        for (client, path) in exports.iter().flat_map(|export| export.fs().mounts()) {
            let client = client.to_string();
            // Value follows, two lengths, two paddings, and the list's end.
            if reply.len().saturating_add(client.len() + path.len() + 24) > bytes_max {
                break;
            }
            reply.bool(true).opaque(client.as_bytes()).opaque(&path);
        }
        reply.bool(false);
        if exports.iter().all(GroupHandle::serving) { responder.accept(reply) } else { responder.close() }
    }

    /// MOUNTPROC3_EXPORT: each export and its access list, without options, to anybody, as knfsd does. An
    /// empty list of groups means everybody.
    fn export(&self) -> Encoder {
        let mut reply = Encoder::new();
        for export in self.exports.all() {
            reply.bool(true).opaque(export.handle.path().as_bytes());
            for group in export.access.list().groups() {
                reply.bool(true).opaque(group.as_bytes());
            }
            reply.bool(false);
        }
        reply.bool(false);
        reply
    }
}

/// Nothing may be said for an export without its lease.
struct NotServing;

/// MNT's results where nothing is mounted.
fn failed(stat: MountStat) -> Encoder {
    let mut reply = Encoder::new();
    reply.u32(stat as u32);
    reply
}

/// Puts the mount on the list and answers when it is there.
fn mounted(export: &ExportEntry, dir: Handle, call: &Call, path: Bytes, responder: Responder) {
    let mut reply = Encoder::new();
    reply.u32(0).opaque(&handle::encode(export.handle.id(), dir)).u32(1).u32(AUTH_SYS);
    let client = call.client.ip().to_canonical();
    let listed = export.handle.fs().mounts().into_iter().any(|(ip, at)| ip == client && at == path);
    if listed {
        return finish(&export.handle, responder, reply);
    }
    let kind = Kind::MountAdd(MountAdd { client: ip_bytes(client), path });
    let of = export.handle.clone();
    propose(
        &export.handle,
        kind,
        move |committed| {
            if committed { finish(&of, responder, reply) } else { responder.close() }
        },
    );
}

/// Takes a client's mounts of `path`, or all if it is empty, off the lists; answers when they are gone.
fn forget(exports: Vec<GroupHandle>, client: IpAddr, path: Bytes, responder: Responder) {
    let client = client.to_canonical();
    let is_listed = |export: &&GroupHandle| {
        export.fs().mounts().into_iter().any(|(ip, at)| ip == client && (path.is_empty() || at == path))
    };
    let listed = exports.iter().filter(is_listed).cloned().collect();
    if !exports.iter().all(GroupHandle::serving) {
        return responder.close();
    }
    remove(listed, MountRemove { client: ip_bytes(client), path }, responder);
}

/// One export after the other.
fn remove(mut exports: Vec<GroupHandle>, what: MountRemove, responder: Responder) {
    let Some(export) = exports.pop() else { return responder.accept(Encoder::new()) };
    propose(&export.clone(), Kind::MountRemove(what.clone()), move |committed| {
        if committed && export.serving() { remove(exports, what, responder) } else { responder.close() }
    });
}

/// Proposes an operation that asks for no permission and names no call: doing it twice changes nothing.
fn propose(group: &GroupHandle, kind: Kind, done: impl FnOnce(bool) + Send + 'static) {
    let op = Op { version: OP_VERSION, clock_ns: wall_ns(), kind: Some(kind), ..Op::default() };
    group.propose(op, Bytes::new(), Box::new(move |fate| done(fate.is_ok())));
}

/// Looks at the lease, sends.
fn finish(group: &GroupHandle, responder: Responder, reply: Encoder) {
    if group.serving() { responder.accept(reply) } else { responder.close() }
}

fn ip_bytes(ip: IpAddr) -> Bytes {
    match ip {
        IpAddr::V4(ip) => Bytes::copy_from_slice(&ip.octets()),
        IpAddr::V6(ip) => Bytes::copy_from_slice(&ip.octets()),
    }
}

/// The names in a path. Empty ones and `.` say nothing.
fn components(path: &[u8]) -> Vec<&[u8]> {
    path.split(|b| *b == b'/').filter(|name| !name.is_empty() && *name != b".").collect()
}

/// Walks down from an export's root. Symbolic links are not followed (they are the client's to follow) and
/// `..` is no way out.
fn walk(export: &ExportEntry, names: &[&[u8]]) -> Result<Handle, MountStat> {
    let root = Cred { uid: 0, gid: 0, gids: Vec::new() };
    let fs = export.handle.fs();
    let mut dir = fs.root();
    for name in names {
        if *name == b".." || name.contains(&0) {
            return Err(MountStat::Inval);
        }
        if name.len() > NAME_MAX {
            return Err(MountStat::NameTooLong);
        }
        let found = fs.lookup(&root, dir, name).map_err(|failed| MountStat::from(failed.status))?;
        if found.attr.file_type != ftype::DIR {
            return Err(MountStat::NotDir);
        }
        dir = Handle { file: replica::ids::FileId(found.attr.file_id), generation: found.attr.generation };
    }
    Ok(dir)
}

impl Program for Mount {
    fn call(&self, call: Call, responder: Responder) {
        match call.procedure {
            PROC_NULL => responder.accept(Encoder::new()),
            PROC_MNT => self.mnt(call, responder, false),
            PROC_DUMP => self.dump(&call, responder),
            PROC_UMNT => self.umnt(&call, responder),
            PROC_UMNTALL => self.umntall(&call, responder),
            PROC_EXPORT => responder.accept(self.export()),
            _ => responder.proc_unavail(),
        }
    }
}
