//! One operation's changes, before they are visible: inodes, entries, other rows, one effect on content.
//!
//! Planning reads through to the store and writes nothing. What an operation changed is dropped as a whole where
//! it fails, so a failure's attributes before and after are the same.

use bytes::Bytes;
use proto::op::{Reply, Wcc};

use super::{Done, Stop};
use crate::fs::Status;
use crate::fs::inode::{Inode, Kind};
use crate::fs::kv::Kv;
use crate::fs::meta::Meta;
use crate::fs::rows::{Entry, cookie_key, corrupt, inode_key, name_key, symlink_key};
use crate::ids::{FileId, Handle};

/// A row to set, or to delete.
pub(super) type Row = (Bytes, Option<Bytes>);

/// What happens to content. An operation has one effect at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// The payload goes here.
    Write {
        /// The file.
        file: FileId,
        /// Where.
        offset: u64,
    },
    /// Zeros from here on.
    Truncate {
        /// The file.
        file: FileId,
        /// New size.
        len: u64,
    },
    /// The file is gone.
    Remove {
        /// The file.
        file: FileId,
    },
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Clean,
    Changed,
    Gone,
}

struct Slot {
    inode: Inode,
    state: State,
}

/// See the module's documentation.
pub(super) struct Tx<'a> {
    kv: &'a Kv,
    /// As it will be.
    pub meta: Meta,
    /// As it was, less the index and term.
    meta_before: Meta,
    clock_ns: u64,
    now_ns: Option<u64>,
    /// A handful at most, in the order of their first use.
    inodes: Vec<Slot>,
    rows: Vec<Row>,
    effect: Option<Effect>,
    /// Somebody who waited for a lock has it now.
    calls_back: bool,
    /// The object of the reply's `wcc`, as it was.
    subject: Option<Inode>,
    /// The object of the reply's `to_wcc`, as it was.
    second: Option<Inode>,
    /// LINK: the file, whose attributes a failure tells too.
    linked: Option<Inode>,
}

impl<'a> Tx<'a> {
    /// Nothing changed yet. `meta` is already at the entry's index.
    pub(super) fn new(kv: &'a Kv, meta: Meta, clock_ns: u64) -> Self {
        Self {
            kv,
            meta,
            meta_before: meta,
            clock_ns,
            now_ns: None,
            inodes: Vec::with_capacity(4),
            rows: Vec::with_capacity(8),
            effect: None,
            calls_back: false,
            subject: None,
            second: None,
            linked: None,
        }
    }

    /// The operation's time: later than any before, so that each change of a file has another ctime.
    pub(super) fn now(&mut self) -> u64 {
        if let Some(now) = self.now_ns {
            return now;
        }
        let now = self.clock_ns.max(self.meta.last_ns.saturating_add(1));
        self.meta.last_ns = now;
        self.now_ns = Some(now);
        now
    }

    fn find(&mut self, file: FileId) -> Result<Option<Inode>, Stop> {
        if let Some(slot) = self.inodes.iter().find(|slot| slot.inode.file == file) {
            return Ok((slot.state != State::Gone).then_some(slot.inode));
        }
        let Some(row) = self.kv.get(&inode_key(file))? else { return Ok(None) };
        let inode = Inode::decode(file, &row)?;
        self.inodes.push(Slot { inode, state: State::Clean });
        Ok(Some(inode))
    }

    /// The inode of a client's handle; NFS3ERR_STALE where it is gone, NFS3ERR_BADHANDLE where there is none.
    pub(super) fn resolve(&mut self, handle: Option<&proto::op::Handle>) -> Result<Inode, Stop> {
        let handle = Handle::from(handle.ok_or(Status::BadHandle)?);
        let inode = self.find(handle.file)?.filter(|inode| inode.generation == handle.generation);
        Ok(inode.ok_or(Status::Stale)?)
    }

    /// [`Self::resolve`]; the reply tells this object's attributes around the operation.
    pub(super) fn subject(&mut self, handle: Option<&proto::op::Handle>) -> Result<Inode, Stop> {
        let inode = self.resolve(handle)?;
        self.subject = Some(inode);
        Ok(inode)
    }

    /// [`Self::subject`] for RENAME's second directory.
    pub(super) fn second_subject(&mut self, handle: Option<&proto::op::Handle>) -> Result<Inode, Stop> {
        let inode = self.resolve(handle)?;
        self.second = Some(inode);
        Ok(inode)
    }

    /// [`Self::resolve`] for the file that LINK names.
    pub(super) fn linked(&mut self, handle: Option<&proto::op::Handle>) -> Result<Inode, Stop> {
        let inode = self.resolve(handle)?;
        self.linked = Some(inode);
        Ok(inode)
    }

    /// The inode with this id, which an entry or another inode names: it must be there.
    pub(super) fn named(&mut self, file: FileId) -> Result<Inode, Stop> {
        Ok(self.find(file)?.ok_or_else(|| corrupt("a directory entry"))?)
    }

    /// The entry of this name.
    pub(super) fn entry(&self, dir: FileId, name: &[u8]) -> Result<Option<Entry>, Stop> {
        let row = self.kv.get(&name_key(dir, name))?;
        Ok(row.map(|row| Entry::decode_by_name(&row)).transpose()?)
    }

    /// Changes an inode.
    pub(super) fn update(&mut self, file: FileId, change: impl FnOnce(&mut Inode)) -> Result<(), Stop> {
        self.named(file)?;
        let Self { inodes, meta, .. } = self;
        if let Some(slot) = inodes.iter_mut().find(|slot| slot.inode.file == file) {
            let before = content_bytes(&slot.inode);
            change(&mut slot.inode);
            slot.state = State::Changed;
            meta.bytes = meta.bytes.saturating_sub(before).saturating_add(content_bytes(&slot.inode));
        }
        Ok(())
    }

    /// A new inode. The caller gives it a name.
    pub(super) fn insert(&mut self, make: impl FnOnce(FileId, u64) -> Inode) -> FileId {
        let file = self.meta.next_file;
        self.meta.next_file = FileId(file.0 + 1);
        self.meta.files = self.meta.files.saturating_add(1);
        let inode = make(file, self.meta.applied);
        self.inodes.push(Slot { inode, state: State::Changed });
        file
    }

    /// The target of a new symbolic link.
    pub(super) fn set_symlink(&mut self, file: FileId, target: &[u8]) {
        self.rows.push((Bytes::copy_from_slice(&symlink_key(file)), Some(Bytes::copy_from_slice(target))));
    }

    /// Removes an inode that has no name any more, and what belongs to it.
    pub(super) fn remove(&mut self, file: FileId) -> Result<(), Stop> {
        let inode = self.named(file)?;
        if let Some(slot) = self.inodes.iter_mut().find(|slot| slot.inode.file == file) {
            slot.state = State::Gone;
        }
        self.meta.files = self.meta.files.saturating_sub(1);
        self.meta.bytes = self.meta.bytes.saturating_sub(content_bytes(&inode));
        match inode.kind {
            Kind::File { .. } => self.effect = Some(Effect::Remove { file }),
            Kind::Symlink => self.rows.push((Bytes::copy_from_slice(&symlink_key(file)), None)),
            Kind::Dir { .. } | Kind::Special { .. } => {}
        }
        Ok(())
    }

    /// Names a file in a directory. `kept` is the cookie of an entry that moves within its directory.
    pub(super) fn add_entry(
        &mut self,
        dir: FileId,
        name: &[u8],
        file: FileId,
        kept: Option<u64>,
    ) -> Result<(), Stop> {
        let now = self.now();
        let mut cookie = kept.unwrap_or_default();
        self.update(dir, |inode| {
            if let Kind::Dir { entries, next_cookie, .. } = &mut inode.kind {
                *entries += 1;
                if kept.is_none() {
                    cookie = *next_cookie;
                    *next_cookie += 1;
                }
            }
            inode.mtime_ns = now;
            inode.ctime_ns = now;
        })?;
        let entry = Entry { cookie, file };
        self.rows.push((name_key(dir, name).into(), Some(entry.encode_by_name())));
        self.rows
            .push((Bytes::copy_from_slice(&cookie_key(dir, cookie)), Some(entry.encode_by_cookie(name))));
        Ok(())
    }

    /// Takes a name out of a directory.
    pub(super) fn remove_entry(&mut self, dir: FileId, name: &[u8], entry: &Entry) -> Result<(), Stop> {
        let now = self.now();
        self.update(dir, |inode| {
            if let Kind::Dir { entries, .. } = &mut inode.kind {
                *entries = entries.saturating_sub(1);
            }
            inode.mtime_ns = now;
            inode.ctime_ns = now;
        })?;
        self.rows.push((name_key(dir, name).into(), None));
        self.rows.push((Bytes::copy_from_slice(&cookie_key(dir, entry.cookie)), None));
        Ok(())
    }

    /// The operation's effect on content.
    pub(super) fn effect(&mut self, effect: Effect) {
        self.effect = Some(effect);
    }

    /// What is planned for content.
    pub(super) fn planned_effect(&self) -> Option<Effect> {
        self.effect
    }

    /// The proposer's clock.
    pub(super) fn clock_ns(&self) -> u64 {
        self.clock_ns
    }

    /// Rows of an operation on locks, which cannot fail any more; and whether it granted something to one who waited.
    pub(super) fn add_rows(&mut self, rows: Vec<Row>, granted: bool) {
        self.rows.extend(rows);
        self.calls_back |= granted;
    }

    /// Is there somebody to call back?
    pub(super) fn calls_back(&self) -> bool {
        self.calls_back
    }

    /// First entry of a new primary. The very first also dates the root directory.
    pub(super) fn start_incarnation(&mut self, verifier: u64) -> Result<Done, Stop> {
        self.meta.verifier = verifier;
        if self.named(FileId::ROOT)?.ctime_ns == 0 {
            let now = self.now();
            self.update(FileId::ROOT, |root| {
                root.atime_ns = now;
                root.mtime_ns = now;
                root.ctime_ns = now;
            })?;
        }
        Ok(Done::default())
    }

    fn wcc(&self, subject: Option<Inode>) -> Option<Wcc> {
        let before = subject?;
        let slot = self.inodes.iter().find(|slot| slot.inode.file == before.file);
        let after = slot.filter(|slot| slot.state != State::Gone).map(|slot| slot.inode.attr());
        Some(Wcc { before: Some(before.pre_attr()), after })
    }

    /// The reply of an operation that succeeded.
    pub(super) fn reply(&self, done: &Done) -> Reply {
        let object = self.inodes.iter().find(|slot| Some(slot.inode.file) == done.object);
        Reply {
            status: Status::Ok as u32,
            attr: object.map(|slot| slot.inode.attr()),
            wcc: self.wcc(self.subject),
            to_wcc: self.wcc(self.second),
            count: done.count,
            lock: done.lock,
        }
    }

    /// Drops all changes; the reply of an operation that failed.
    pub(super) fn failure(&mut self, status: Status) -> Reply {
        self.meta = self.meta_before;
        self.rows.clear();
        self.effect = None;
        self.inodes.clear();
        let unchanged = |inode: Inode| Wcc { before: Some(inode.pre_attr()), after: Some(inode.attr()) };
        Reply {
            status: status as u32,
            attr: self.linked.map(|inode| inode.attr()),
            wcc: self.subject.map(unchanged),
            to_wcc: self.second.map(unchanged),
            count: 0,
            lock: None,
        }
    }

    /// Meta, rows and effect of what is planned.
    pub(super) fn finish(mut self) -> (Meta, Vec<Row>, Option<Effect>) {
        for slot in &self.inodes {
            let value = match slot.state {
                State::Clean => continue,
                State::Changed => Some(slot.inode.encode()),
                State::Gone => None,
            };
            self.rows.push((Bytes::copy_from_slice(&inode_key(slot.inode.file)), value));
        }
        (self.meta, self.rows, self.effect)
    }
}

/// What an inode adds to the sum of content.
fn content_bytes(inode: &Inode) -> u64 {
    if inode.is_file() { inode.used_shown() } else { 0 }
}
