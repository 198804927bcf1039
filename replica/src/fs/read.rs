//! Reads of applied state: GETATTR, LOOKUP, ACCESS, READLINK, READ. They never enter the log.

use std::io;

use bytes::Bytes;
use proto::op::{Attr, Cred};

use super::inode::{Inode, Kind};
use super::rows::{Entry, corrupt, inode_key, name_key, symlink_key};
use super::{Failed, Found, Fs, ReadData, Status, name, perm};
use crate::ids::{FileId, Handle};

/// Most bytes that one READ returns: the largest transfer that a Linux client asks for.
pub const READ_MAX: u32 = 1 << 20;

/// How often a READ starts again because content was cut and its file changed meanwhile; after that it is enough
/// that the file still has what was asked for.
const CUT_RETRIES: u32 = 8;

/// A failure before any attributes are known.
impl From<Status> for Failed {
    fn from(status: Status) -> Self {
        Self { status, attr: None }
    }
}

impl Inode {
    /// A failure that tells this object's attributes.
    pub(super) fn failed(&self, status: Status) -> Failed {
        Failed { status, attr: Some(self.attr()) }
    }
}

impl Fs {
    /// The inode with this id. The caller holds `view`.
    pub(super) fn inode(&self, file: FileId) -> io::Result<Option<Inode>> {
        self.kv.get(&inode_key(file))?.map(|row| Inode::decode(file, &row)).transpose()
    }

    /// The inode that an entry names: it must be there. The caller holds `view`.
    pub(super) fn named_inode(&self, file: FileId) -> Result<Inode, Status> {
        let found = self.inode(file).and_then(|inode| inode.ok_or_else(|| corrupt("a directory entry")));
        found.map_err(|error| self.read_failed(&error))
    }

    /// The inode of a client's handle; NFS3ERR_STALE where it is gone. The caller holds `view`.
    pub(super) fn resolve(&self, handle: Handle) -> Result<Inode, Status> {
        let inode = self.inode(handle.file).map_err(|error| self.read_failed(&error))?;
        inode.filter(|inode| inode.generation == handle.generation).ok_or(Status::Stale)
    }

    /// RFC 1813 section 3.3.1.
    pub fn getattr(&self, file: Handle) -> Result<Attr, Status> {
        let _view = self.view.read();
        self.resolve(file).map(|inode| inode.attr())
    }

    /// RFC 1813 section 3.3.3. `..` of the root is the root.
    pub fn lookup(&self, cred: &Cred, dir: Handle, name: &[u8]) -> Result<Found, Failed> {
        let _view = self.view.read();
        let dir = self.resolve(dir)?;
        let found = self.lookup_in(cred, &dir, name).map_err(|status| dir.failed(status))?;
        Ok(Found { attr: found.attr(), dir: dir.attr() })
    }

    fn lookup_in(&self, cred: &Cred, dir: &Inode, name: &[u8]) -> Result<Inode, Status> {
        let Kind::Dir { parent, .. } = dir.kind else { return Err(Status::NotDir) };
        perm::need(dir, cred, perm::EXEC)?;
        name::check(name)?;
        match name {
            b"." => Ok(*dir),
            b".." => self.named_inode(parent),
            _ => {
                let row = self.kv.get(&name_key(dir.file, name)).map_err(io::Error::from);
                let row = row.map_err(|error| self.read_failed(&error))?.ok_or(Status::NoEnt)?;
                let entry = Entry::decode_by_name(&row).map_err(|error| self.read_failed(&error))?;
                self.named_inode(entry.file)
            }
        }
    }

    /// RFC 1813 section 3.3.4: which of the wanted bits are granted.
    pub fn access(&self, cred: &Cred, file: Handle, wanted: u32) -> Result<(u32, Attr), Failed> {
        let _view = self.view.read();
        let inode = self.resolve(file)?;
        Ok((perm::access3(&inode, cred, wanted), inode.attr()))
    }

    /// RFC 1813 section 3.3.5. The mode of a symbolic link says nothing: everyone may read it.
    pub fn readlink(&self, _cred: &Cred, file: Handle) -> Result<(Bytes, Attr), Failed> {
        let _view = self.view.read();
        let inode = self.resolve(file)?;
        if !matches!(inode.kind, Kind::Symlink) {
            return Err(inode.failed(Status::Inval));
        }
        let target = self.kv.get(&symlink_key(inode.file)).map_err(io::Error::from);
        let target = target.and_then(|row| row.ok_or_else(|| corrupt("a symbolic link")));
        let target = target.map_err(|error| inode.failed(self.read_failed(&error)))?;
        Ok((target, inode.attr()))
    }

    /// RFC 1813 section 3.3.6. The attributes are never newer than the data, so a client that keeps both never
    /// takes old data for current. Returns [`READ_MAX`] bytes at most.
    pub fn read(&self, cred: &Cred, file: Handle, offset: u64, count: u32) -> Result<ReadData, Failed> {
        let mut tries = 0;
        loop {
            tries += 1;
            let (inode, cuts) = self.resolve_for_read(file)?;
            Self::check_read(&inode, cred).map_err(|status| inode.failed(status))?;
            let attr = inode.attr();
            let left = inode.size.saturating_sub(offset);
            let len = left.min(u64::from(count.min(READ_MAX)));
            let eof = len == left;
            if len == 0 {
                return Ok(ReadData { data: Bytes::new(), eof, attr });
            }
            let data = self.content.read(inode.file, offset, len as usize);
            let (now, cuts_now) = self.resolve_for_read(file)?;
            let uncut = cuts == cuts_now || now.ctime_ns == inode.ctime_ns || tries > CUT_RETRIES;
            if uncut && now.size >= offset.saturating_add(len) {
                let data = data.map_err(|error| inode.failed(self.read_failed(&error)))?;
                return Ok(ReadData { data, eof, attr });
            }
        }
    }

    /// The inode, and how often content was cut so far. A truncation between an inode and its content would
    /// show zeros that no state of the file ever had; then both are read again.
    fn resolve_for_read(&self, file: Handle) -> Result<(Inode, u64), Status> {
        let view = self.view.read();
        Ok((self.resolve(file)?, view.cuts))
    }

    fn check_read(inode: &Inode, cred: &Cred) -> Result<(), Status> {
        match inode.kind {
            Kind::File { .. } => perm::need_file_read(inode, cred),
            Kind::Dir { .. } => Err(Status::IsDir),
            Kind::Symlink | Kind::Special { .. } => Err(Status::Inval),
        }
    }
}
