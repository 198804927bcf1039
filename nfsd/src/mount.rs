//! MOUNT version 3 (RFC 1813 appendix I, program 100005): from a path name to a file handle.
//!
//! The list of mounts (DUMP) is a courtesy: it is in memory, bounded, of this node and this service only, and
//! nothing depends on it.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use proto::op::Cred;
use replica::fs::{NAME_MAX, Status, ftype};
use replica::ids::Handle;

use crate::exports::{ExportEntry, Exports};
use crate::handle;
use crate::rpc::{Call, Program, Responder};
use crate::xdr::{self, Encoder};

/// Program number, RFC 1813 appendix I.
pub const PROGRAM: u32 = 100_005;
/// The version that is served.
pub const VERSION: u32 = 3;

/// Longest path name, bytes (MNTPATHLEN).
const PATH_MAX: usize = 1024;
/// Longest path name that is read at all, bytes; between the two the answer is MNT3ERR_NAMETOOLONG.
const PATH_READ_MAX: usize = 8192;
/// Mounts remembered for DUMP. Beyond it new ones are left out.
const MOUNTS_MAX: usize = 1024;
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

/// Nothing may be said for an export without its lease.
struct NotServing;

/// The mount daemon of one service.
pub struct Mount {
    exports: Arc<Exports>,
    mounts: Mutex<BTreeSet<(IpAddr, Bytes)>>,
}

impl Mount {
    /// Mounts these exports.
    pub fn new(exports: Arc<Exports>) -> Arc<Self> {
        Arc::new(Self { exports, mounts: Mutex::default() })
    }

    /// MOUNTPROC3_MNT. The path is an export's, or of a directory below it. Whoever mounts is root on the client
    /// (or asks the kernel to be), so path look-up is done as root; every later call is checked as its caller.
    fn mnt(&self, call: &Call) -> xdr::Result<Result<Encoder, NotServing>> {
        let path = call.decoder().string(PATH_READ_MAX)?;
        let (stat, export) = match self.resolve(&path) {
            Ok((export, dir)) => (Ok((export.handle.id(), dir)), Some(export)),
            Err((stat, export)) => (Err(stat), export),
        };
        if export.is_some_and(|e| !e.handle.serving()) {
            return Ok(Err(NotServing));
        }
        let mut reply = Encoder::new();
        match stat {
            Ok((id, dir)) => {
                reply.u32(0).opaque(&handle::encode(id, dir)).u32(1).u32(AUTH_SYS);
                self.remember(call.client.ip(), path);
            }
            Err(stat) => {
                reply.u32(stat as u32);
            }
        }
        Ok(Ok(reply))
    }

    /// The directory that a path names. An error tells which export was asked for it, if any.
    fn resolve(&self, path: &[u8]) -> Result<(ExportEntry, Handle), (MountStat, Option<ExportEntry>)> {
        if path.len() > PATH_MAX {
            return Err((MountStat::NameTooLong, None));
        }
        let (export, below) = self.export_of(path).ok_or((MountStat::NoEnt, None))?;
        match walk(&export, &below) {
            Ok(dir) => Ok((export, dir)),
            Err(stat) => Err((stat, Some(export))),
        }
    }

    /// The export whose path is the longest prefix of `path`, by whole components, and what is left.
    fn export_of<'p>(&self, path: &'p [u8]) -> Option<(ExportEntry, Vec<&'p [u8]>)> {
        let wanted = components(path);
        let candidates = self.exports.all().into_iter().filter_map(|export| {
            let own = components(export.handle.path().as_bytes());
            wanted.starts_with(&own).then_some((own.len(), export))
        });
        let (depth, export) = candidates.max_by_key(|(depth, _)| *depth)?;
        Some((export.clone(), wanted.get(depth..)?.to_vec()))
    }

    fn remember(&self, client: IpAddr, path: Bytes) {
        let mut mounts = self.mounts.lock();
        if mounts.len() < MOUNTS_MAX {
            mounts.insert((client.to_canonical(), path));
        }
    }

    /// MOUNTPROC3_UMNT.
    fn umnt(&self, call: &Call) -> xdr::Result<Encoder> {
        let path = call.decoder().string(PATH_READ_MAX)?;
        self.mounts.lock().remove(&(call.client.ip().to_canonical(), path));
        Ok(Encoder::new())
    }

    /// MOUNTPROC3_UMNTALL.
    fn umntall(&self, call: &Call) -> Encoder {
        let client = call.client.ip().to_canonical();
        self.mounts.lock().retain(|(ip, _)| *ip != client);
        Encoder::new()
    }

    /// MOUNTPROC3_DUMP.
    fn dump(&self) -> Encoder {
        let mut reply = Encoder::new();
        for (client, path) in self.mounts.lock().iter() {
            reply.bool(true).opaque(client.to_string().as_bytes()).opaque(path);
        }
        reply.bool(false);
        reply
    }

    /// MOUNTPROC3_EXPORT. An empty list of groups means everybody.
    fn export(&self) -> Encoder {
        let mut reply = Encoder::new();
        for export in self.exports.all() {
            reply.bool(true).opaque(export.handle.path().as_bytes()).bool(false);
        }
        reply.bool(false);
        reply
    }
}

/// The names in a path. Empty ones and `.` say nothing.
fn components(path: &[u8]) -> Vec<&[u8]> {
    path.split(|b| *b == b'/').filter(|name| !name.is_empty() && *name != b".").collect()
}

/// Walks down from an export's root. Symbolic links are not followed (they are the client's to follow) and `..`
/// is no way out.
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
        let reply = match call.procedure {
            PROC_NULL => Ok(Ok(Encoder::new())),
            PROC_MNT => self.mnt(&call),
            PROC_DUMP => Ok(Ok(self.dump())),
            PROC_UMNT => self.umnt(&call).map(Ok),
            PROC_UMNTALL => Ok(Ok(self.umntall(&call))),
            PROC_EXPORT => Ok(Ok(self.export())),
            _ => return responder.proc_unavail(),
        };
        match reply {
            Ok(Ok(reply)) => responder.accept(reply),
            Ok(Err(NotServing)) => responder.close(),
            Err(_) => responder.garbage_args(),
        }
    }
}
