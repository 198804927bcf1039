//! READDIR and READDIRPLUS: a walk along cookies.
//!
//! A cookie is an entry's own number in its directory, rising with age and never given twice. So a walk goes on
//! after any change without missing or repeating an entry that stayed, and whatever appears meanwhile comes at
//! the end. An entry renamed within its directory keeps its cookie: a client that renames as it reads ends.

use std::io;

use bytes::Bytes;
use proto::op::{Attr, Cred};

use super::inode::{Inode, Kind};
use super::rows::{Entry, cookie_key};
use super::{DirEntry, Failed, Fs, Status, perm};
use crate::ids::Handle;

/// Cookie of `.`.
const COOKIE_SELF: u64 = 1;
/// Cookie of `..`.
const COOKIE_PARENT: u64 = 2;
/// Entries looked at under one hold of `view`, so that a large directory does not hold up `apply`.
const ENTRIES_AT_ONCE: usize = 32;

impl Fs {
    /// RFC 1813 sections 3.3.16 and 3.3.17: entries after `cookie` (0: from the start), in cookie order, for
    /// as long as `take` says true; the entry that it refuses is the first not returned. Returns the
    /// directory's attributes and whether the end was reached.
    pub fn readdir(
        &self,
        cred: &Cred,
        dir: Handle,
        cookie: u64,
        take: &mut dyn FnMut(&DirEntry) -> bool,
    ) -> Result<(Attr, bool), Failed> {
        let (inode, parent) = self.open_dir(cred, dir)?;
        let searchable = perm::may(&inode, cred, perm::EXEC);
        for (its_cookie, name, attr) in
            [(COOKIE_SELF, ".", inode.attr()), (COOKIE_PARENT, "..", parent.attr())]
        {
            let entry =
                DirEntry { cookie: its_cookie, name: Bytes::from_static(name.as_bytes()), attr, searchable };
            if cookie < its_cookie && !take(&entry) {
                return Ok((inode.attr(), false));
            }
        }
        let mut after = cookie.max(COOKIE_PARENT);
        loop {
            let entries =
                self.entries_after(&inode, after, searchable).map_err(|status| inode.failed(status))?;
            for entry in &entries {
                if !take(entry) {
                    return Ok((inode.attr(), false));
                }
                after = entry.cookie;
            }
            if entries.len() < ENTRIES_AT_ONCE {
                return Ok((inode.attr(), true));
            }
        }
    }

    fn open_dir(&self, cred: &Cred, dir: Handle) -> Result<(Inode, Inode), Failed> {
        let _view = self.view.read();
        let inode = self.resolve(dir)?;
        let Kind::Dir { parent, .. } = inode.kind else { return Err(inode.failed(Status::NotDir)) };
        perm::need(&inode, cred, perm::READ).map_err(|status| inode.failed(status))?;
        let parent = self.named_inode(parent).map_err(|status| inode.failed(status))?;
        Ok((inode, parent))
    }

    fn entries_after(&self, dir: &Inode, cookie: u64, searchable: bool) -> Result<Vec<DirEntry>, Status> {
        let _view = self.view.read();
        let mut rows: Vec<io::Result<(Entry, Bytes)>> = Vec::with_capacity(ENTRIES_AT_ONCE);
        let from = cookie_key(dir.file, cookie.saturating_add(1));
        let walked = self.kv.range(&from, &cookie_key(dir.file, u64::MAX), &mut |key, value| {
            rows.push(Entry::decode_by_cookie(key, value));
            rows.len() < ENTRIES_AT_ONCE
        });
        walked.map_err(|error| self.read_failed(&error.into()))?;
        rows.into_iter()
            .map(|row| {
                let (entry, name) = row.map_err(|error| self.read_failed(&error))?;
                let attr = self.named_inode(entry.file)?.attr();
                Ok(DirEntry { cookie: entry.cookie, name, attr, searchable })
            })
            .collect()
    }
}
