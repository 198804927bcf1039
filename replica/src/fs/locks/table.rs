//! What is locked, shared and waited for. Changes keep its sums and indexes right; what may be changed is decided
//! elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use bytes::Bytes;

use super::range::Range;
use super::row::{self, HOST_TAG, LOCK_TAG, RANGE_KIND, SHARE_KIND, WAITER_TAG};
use super::{OVERTAKEN_MAX, Owner};
use crate::fs::kv::Kv;
use crate::fs::rows::corrupt;
use crate::ids::FileId;
use crate::log::LogIndex;

/// Names a range or share: the entry that made it, and the how manieth of that entry it is.
pub(super) type HeldKey = (LogIndex, u32);

/// Who has or wants something, and since when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    /// Whose it is.
    pub owner: Owner,
    /// What the client calls itself.
    pub caller_name: Bytes,
    /// The operation's clock.
    pub since_ns: u64,
    /// The client's NSM state number then; 0: not said.
    pub nsm_state: u32,
}

/// A range that is held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Held {
    /// By whom.
    pub claim: Claim,
    /// Which bytes.
    pub range: Range,
    /// Or shared.
    pub exclusive: bool,
}

impl Held {
    /// Does it keep another owner from having this?
    pub(super) fn excludes(&self, owner: &Owner, range: Range, exclusive: bool) -> bool {
        self.range.overlaps(range) && (self.exclusive || exclusive) && self.claim.owner != *owner
    }
}

/// One who waits; or has been granted what it waited for, and the client has not confirmed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Waiter {
    /// Who.
    pub claim: Claim,
    /// For which bytes.
    pub range: Range,
    /// Or shared.
    pub exclusive: bool,
    /// The LOCK call's.
    pub cookie: Bytes,
    /// Called back over UDP, else TCP.
    pub udp: bool,
    /// In this version.
    pub nlm_version: u8,
    /// How often others got what it waits for, at most [`OVERTAKEN_MAX`].
    pub overtaken: u16,
    /// The entry that granted it.
    pub granted_at: Option<LogIndex>,
    /// Granted: what the owner had in `range` before (exclusive or not), less what it has changed since.
    pub undo: Vec<(Range, Option<bool>)>,
}

impl Waiter {
    /// Does it still wait?
    pub(super) fn waits(&self) -> bool {
        self.granted_at.is_none()
    }

    /// Do its wish and this one of another owner exclude each other?
    pub(super) fn opposes(&self, owner: &Owner, range: Range, exclusive: bool) -> bool {
        self.range.overlaps(range) && (self.exclusive || exclusive) && self.claim.owner != *owner
    }

    /// Was it overtaken so often that others wait behind it?
    pub(super) fn bars(&self) -> bool {
        self.waits() && self.overtaken >= OVERTAKEN_MAX
    }
}

/// A DOS share reservation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Share {
    /// Whose.
    pub claim: Claim,
    /// fsh4_mode.
    pub mode: u8,
    /// fsh4_access.
    pub access: u8,
}

/// A client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Host {
    /// What it called itself last.
    pub caller_name: Bytes,
    /// It asked for monitoring.
    pub monitored: bool,
    /// First seen.
    pub since_ns: u64,
    /// NSM state number that it gave last; 0: none.
    pub nsm_state: u32,
    /// NSM state number of its last notification; 0: none.
    pub notified: u32,
    /// Ranges and shares that it has. Not in its row.
    pub held: u64,
    /// Waiters. Not in its row.
    pub waiting: u64,
}

/// One file's.
#[derive(Debug, Default)]
pub(super) struct FileLocks {
    /// Of the file's handle.
    pub generation: u64,
    /// In the order of their making.
    pub held: BTreeMap<HeldKey, Held>,
    /// In the order of their arrival.
    pub waiters: BTreeMap<u64, Waiter>,
    /// Likewise.
    pub shares: BTreeMap<HeldKey, Share>,
}

impl FileLocks {
    fn is_empty(&self) -> bool {
        self.held.is_empty() && self.waiters.is_empty() && self.shares.is_empty()
    }
}

/// All of an export's.
#[derive(Debug, Default)]
pub(crate) struct LockTable {
    /// Files that have anything.
    pub(super) files: BTreeMap<FileId, FileLocks>,
    /// By address.
    pub(super) hosts: BTreeMap<Bytes, Host>,
    /// Owners that wait, and where.
    pub(super) waits: BTreeMap<Owner, BTreeSet<(FileId, u64)>>,
    /// Grants that are not confirmed.
    pub(super) pending: BTreeMap<u64, FileId>,
    /// Files with a waiter that bars others.
    pub(super) contended: BTreeSet<FileId>,
    /// Ranges and shares.
    pub(super) held: u64,
    /// Waiters, granted ones too.
    pub(super) waiting: u64,
    /// In grace since then.
    pub(super) grace_since_ns: Option<u64>,
    /// The entry with which the newest primary began, in this process's life. Not in a row: a primary has always
    /// applied its own.
    pub(super) incarnation: LogIndex,
}

impl LockTable {
    /// Makes the table from its rows.
    pub(super) fn open(kv: &Kv) -> io::Result<Self> {
        let mut table = Self::default();
        table.each(kv, HOST_TAG, |table, key, value| {
            let client = key.get(1..).unwrap_or_default();
            table.hosts.insert(Bytes::copy_from_slice(client), row::decode_host(value)?);
            Ok(())
        })?;
        table.each(kv, LOCK_TAG, Self::add_lock_row)?;
        table.each(kv, WAITER_TAG, |table, key, value| {
            let (file, id) = row::decode_waiter_key(key)?;
            let (generation, waiter) = row::decode_waiter(value)?;
            table.need_host(&waiter.claim)?;
            table.put_waiter(file, generation, id, waiter);
            Ok(())
        })?;
        Ok(table)
    }

    fn each(
        &mut self,
        kv: &Kv,
        tag: u8,
        mut add: impl FnMut(&mut Self, &[u8], &Bytes) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut outcome = Ok(());
        kv.range(&[tag], &[tag + 1], &mut |key, value| {
            outcome = add(self, key, value);
            outcome.is_ok()
        })?;
        outcome
    }

    fn add_lock_row(&mut self, key: &[u8], value: &Bytes) -> io::Result<()> {
        if key == row::GRACE_KEY {
            self.grace_since_ns = row::decode_grace(value)?;
            return Ok(());
        }
        let (kind, file, name) = row::decode_held_key(key)?;
        match kind {
            RANGE_KIND => {
                let (generation, held) = row::decode_held(value)?;
                self.need_host(&held.claim)?;
                self.put_held(file, generation, name, held);
            }
            SHARE_KIND => {
                let (generation, share) = row::decode_share(value)?;
                self.need_host(&share.claim)?;
                self.put_share(file, generation, name, share);
            }
            _ => return Err(corrupt("a lock's key")),
        }
        Ok(())
    }

    fn need_host(&self, claim: &Claim) -> io::Result<()> {
        let known = self.hosts.contains_key(&claim.owner.client);
        if known { Ok(()) } else { Err(corrupt("a lock's client")) }
    }

    fn file_mut(&mut self, file: FileId, generation: u64) -> &mut FileLocks {
        let locks = self.files.entry(file).or_default();
        locks.generation = generation;
        locks
    }

    /// Forgets a file that has nothing any more.
    fn tidy(&mut self, file: FileId) {
        if self.files.get(&file).is_some_and(FileLocks::is_empty) {
            self.files.remove(&file);
        }
    }

    fn count(&mut self, client: &Bytes, held: i64, waiting: i64) {
        self.held = self.held.saturating_add_signed(held);
        self.waiting = self.waiting.saturating_add_signed(waiting);
        if let Some(host) = self.hosts.get_mut(client) {
            host.held = host.held.saturating_add_signed(held);
            host.waiting = host.waiting.saturating_add_signed(waiting);
        }
    }

    /// Adds a range.
    pub(super) fn put_held(&mut self, file: FileId, generation: u64, key: HeldKey, held: Held) {
        self.count(&held.claim.owner.client, 1, 0);
        self.file_mut(file, generation).held.insert(key, held);
    }

    /// Takes a range away.
    pub(super) fn take_held(&mut self, file: FileId, key: HeldKey) -> Option<Held> {
        let held = self.files.get_mut(&file)?.held.remove(&key)?;
        self.count(&held.claim.owner.client, -1, 0);
        self.tidy(file);
        Some(held)
    }

    /// Adds a share.
    pub(super) fn put_share(&mut self, file: FileId, generation: u64, key: HeldKey, share: Share) {
        self.count(&share.claim.owner.client, 1, 0);
        self.file_mut(file, generation).shares.insert(key, share);
    }

    /// Takes a share away.
    pub(super) fn take_share(&mut self, file: FileId, key: HeldKey) -> Option<Share> {
        let share = self.files.get_mut(&file)?.shares.remove(&key)?;
        self.count(&share.claim.owner.client, -1, 0);
        self.tidy(file);
        Some(share)
    }

    /// Adds a waiter, or puts it in the place of the one with this id.
    pub(super) fn put_waiter(&mut self, file: FileId, generation: u64, id: u64, waiter: Waiter) {
        self.take_waiter(file, id);
        self.count(&waiter.claim.owner.client, pieces(&waiter), 1);
        if waiter.waits() {
            self.waits.entry(waiter.claim.owner.clone()).or_default().insert((file, id));
        } else {
            self.pending.insert(id, file);
        }
        self.file_mut(file, generation).waiters.insert(id, waiter);
        self.note_contention(file);
    }

    /// Takes a waiter away.
    pub(super) fn take_waiter(&mut self, file: FileId, id: u64) -> Option<Waiter> {
        let waiter = self.files.get_mut(&file)?.waiters.remove(&id)?;
        self.count(&waiter.claim.owner.client, -pieces(&waiter), -1);
        self.pending.remove(&id);
        if let Some(places) = self.waits.get_mut(&waiter.claim.owner) {
            places.remove(&(file, id));
            if places.is_empty() {
                self.waits.remove(&waiter.claim.owner);
            }
        }
        self.tidy(file);
        self.note_contention(file);
        Some(waiter)
    }

    fn note_contention(&mut self, file: FileId) {
        if self.files.get(&file).is_some_and(|locks| locks.waiters.values().any(Waiter::bars)) {
            self.contended.insert(file);
        } else {
            self.contended.remove(&file);
        }
    }

    /// The file's waiter.
    pub(super) fn waiter(&self, file: FileId, id: u64) -> Option<&Waiter> {
        self.files.get(&file)?.waiters.get(&id)
    }

    /// Ids of the file's waiters that are like this.
    pub(super) fn waiters_where(&self, file: FileId, like: impl Fn(&Waiter) -> bool) -> Vec<u64> {
        let waiters = self.files.get(&file).map(|locks| &locks.waiters);
        waiters.into_iter().flatten().filter(|(_, waiter)| like(waiter)).map(|(id, _)| *id).collect()
    }
}

/// Ranges that come back if the grant is undone.
fn pieces(waiter: &Waiter) -> i64 {
    waiter.undo.iter().filter(|(_, held)| held.is_some()).count() as i64
}
