//! One operation's changes: each one is made in the table and noted as a row at once. What may fail is decided before
//! the first of them.

use std::cell::Cell;
use std::collections::BTreeMap;

use bytes::Bytes;
use proto::op::LockReply;

use super::range::Range;
use super::row::{self, RANGE_KIND, SHARE_KIND};
use super::table::{Claim, Held, HeldKey, Host, LockTable, Share, Waiter};
use super::{HELD_MAX, HELD_PER_CLIENT_MAX, HELD_PER_FILE_MAX, HOSTS_MAX, LockStatus, Owner};
use crate::ids::FileId;
use crate::log::LogIndex;

/// The file that an operation names: it exists and is a regular file.
#[derive(Clone, Copy)]
pub(in crate::fs) struct Target {
    /// Its id.
    pub file: FileId,
    /// Of its handle.
    pub generation: u64,
}

/// See the module's documentation.
pub(in crate::fs) struct Plan<'a> {
    pub(super) table: &'a mut LockTable,
    /// The entry.
    pub(super) index: LogIndex,
    /// Its clock.
    pub(super) clock_ns: u64,
    /// Rows made so far.
    made: u32,
    rows: Vec<(Bytes, Option<Bytes>)>,
    /// Where something may have lost its obstacle: all bytes of it lie in these ranges, one per file.
    freed: BTreeMap<FileId, Range>,
    /// A waiter was granted: its client is to be called back.
    pub(super) granted: bool,
    /// What this operation has looked at in search of rings.
    pub(super) looks: Cell<usize>,
}

/// What setting a range does to those that its owner has.
pub(super) struct Carve {
    owner: Owner,
    range: Range,
    /// Others can have more than before.
    frees: bool,
    removed: Vec<HeldKey>,
    added: Vec<Held>,
}

impl Carve {
    /// Ranges that there will be more.
    pub(super) fn grows_by(&self) -> usize {
        self.added.len().saturating_sub(self.removed.len())
    }
}

/// The answer of an operation that gives nothing up.
pub(super) fn answer(status: LockStatus) -> LockReply {
    LockReply { stat: status as u32, freed: 0 }
}

impl<'a> Plan<'a> {
    /// Nothing changed yet.
    pub(in crate::fs) fn new(table: &'a mut LockTable, index: LogIndex, clock_ns: u64) -> Self {
        let (rows, freed) = (Vec::new(), BTreeMap::new());
        Self { table, index, clock_ns, made: 0, rows, freed, granted: false, looks: Cell::new(0) }
    }

    /// Its rows, in the order of the changes; and whether a call-back is due.
    pub(in crate::fs) fn finish(mut self) -> (Vec<(Bytes, Option<Bytes>)>, bool) {
        self.settle();
        (self.rows, self.granted)
    }

    /// The first entry of a new primary: call-backs of grants from before it may have been made by another.
    pub(in crate::fs) fn start_incarnation(&mut self) {
        self.table.incarnation = self.index;
    }

    /// The file is gone, and all that was locked in it. Who waits finds out by NLM4_STALE_FH when it asks again.
    pub(in crate::fs) fn drop_file(&mut self, file: FileId) {
        let Some(locks) = self.table.files.get(&file) else { return };
        let held: Vec<HeldKey> = locks.held.keys().copied().collect();
        let shares: Vec<HeldKey> = locks.shares.keys().copied().collect();
        let waiters: Vec<u64> = locks.waiters.keys().copied().collect();
        waiters.into_iter().for_each(|id| drop(self.take_waiter(file, id)));
        held.into_iter().for_each(|key| drop(self.take_held(file, key)));
        shares.into_iter().for_each(|key| drop(self.take_share(file, key)));
    }

    /// Others may be able to have something in these bytes that they could not have before.
    pub(super) fn frees(&mut self, file: FileId, range: Range) {
        let freed = self.freed.entry(file).or_insert(range);
        *freed = freed.join(range);
    }

    /// Where that is so; and from here on nowhere.
    pub(super) fn take_freed(&mut self) -> BTreeMap<FileId, Range> {
        std::mem::take(&mut self.freed)
    }

    fn set_row(&mut self, key: Bytes, value: Bytes) {
        self.rows.push((key, Some(value)));
    }

    /// Adds a range.
    fn put_held(&mut self, file: FileId, generation: u64, held: Held) {
        let key = row::next_key(self.index, &mut self.made);
        self.set_row(row::held_key(RANGE_KIND, file, key), row::encode_held(generation, &held));
        self.table.put_held(file, generation, key, held);
    }

    /// Takes a range away. Says nothing about whether that frees anything.
    pub(super) fn take_held(&mut self, file: FileId, key: HeldKey) -> Option<Held> {
        self.rows.push((row::held_key(RANGE_KIND, file, key), None));
        self.table.take_held(file, key)
    }

    /// Adds a share.
    pub(super) fn put_share(&mut self, file: FileId, generation: u64, share: Share) {
        let key = row::next_key(self.index, &mut self.made);
        self.set_row(row::held_key(SHARE_KIND, file, key), row::encode_share(generation, &share));
        self.table.put_share(file, generation, key, share);
    }

    /// Takes a share away.
    pub(super) fn take_share(&mut self, file: FileId, key: HeldKey) -> Option<Share> {
        self.rows.push((row::held_key(SHARE_KIND, file, key), None));
        self.table.take_share(file, key)
    }

    /// Adds or changes a waiter.
    pub(super) fn set_waiter(&mut self, file: FileId, generation: u64, id: u64, waiter: Waiter) {
        self.set_row(row::waiter_key(file, id), row::encode_waiter(generation, &waiter));
        self.table.put_waiter(file, generation, id, waiter);
    }

    /// Takes a waiter away: those that it barred may go on.
    pub(super) fn take_waiter(&mut self, file: FileId, id: u64) -> Option<Waiter> {
        let waiter = self.table.take_waiter(file, id)?;
        self.rows.push((row::waiter_key(file, id), None));
        if waiter.bars() {
            self.frees(file, waiter.range);
        }
        Some(waiter)
    }

    /// Makes or changes a client.
    pub(super) fn set_host(&mut self, client: &Bytes, host: Host) {
        self.set_row(row::host_key(client), row::encode_host(&host));
        self.table.hosts.insert(client.clone(), host);
    }

    /// Forgets a client that has nothing.
    pub(super) fn drop_host(&mut self, client: &Bytes) {
        self.rows.push((row::host_key(client), None));
        self.table.hosts.remove(client);
    }

    /// The grace period begins, or ends.
    pub(super) fn set_grace(&mut self, since_ns: Option<u64>) {
        self.set_row(Bytes::from_static(&row::GRACE_KEY), row::encode_grace(since_ns));
        self.table.grace_since_ns = since_ns;
    }

    /// Is there room for so many more ranges and shares of this client?
    pub(super) fn has_room(&self, client: &Bytes, more: usize) -> bool {
        let more = more as u64;
        let own = self.table.hosts.get(client).map_or(0, |host| host.held);
        more == 0 || (self.table.held + more <= HELD_MAX && own + more <= HELD_PER_CLIENT_MAX)
    }

    /// Do so many more ranges fit into this file?
    pub(super) fn has_room_in(&self, file: FileId, more: usize) -> bool {
        let held = self.table.files.get(&file).map_or(0, |locks| locks.held.len());
        more == 0 || held + more <= HELD_PER_FILE_MAX
    }

    /// Can this client be remembered: is it already, or is there room, or one that can be forgotten?
    pub(super) fn has_room_for_host(&self, client: &Bytes) -> bool {
        let hosts = &self.table.hosts;
        hosts.contains_key(client) || hosts.len() < HOSTS_MAX || self.oldest_idle_host().is_some()
    }

    fn oldest_idle_host(&self) -> Option<Bytes> {
        let idle = self.table.hosts.iter().filter(|(_, host)| host.held == 0 && host.waiting == 0);
        idle.min_by_key(|(_, host)| host.since_ns).map(|(client, _)| client.clone())
    }

    /// Remembers a client, and what it says of itself.
    pub(super) fn meet(&mut self, claim: &Claim, monitored: bool) {
        let client = &claim.owner.client;
        let known = self.table.hosts.get(client).cloned();
        if known.is_none()
            && self.table.hosts.len() >= HOSTS_MAX
            && let Some(oldest) = self.oldest_idle_host()
        {
            self.drop_host(&oldest);
        }
        let mut host = known.clone().unwrap_or_else(|| Host {
            caller_name: Bytes::new(),
            monitored: false,
            since_ns: self.clock_ns,
            nsm_state: 0,
            notified: 0,
            held: 0,
            waiting: 0,
        });
        host.caller_name = claim.caller_name.clone();
        host.monitored |= monitored;
        if claim.nsm_state != 0 {
            host.nsm_state = claim.nsm_state;
        }
        if known.as_ref() != Some(&host) {
            self.set_host(client, host);
        }
    }

    /// What it takes that the owner has `kind` (`None`: nothing, else exclusive or shared) in `range`, and what it has
    /// elsewhere as before: cuts ranges of the other kind, joins those of the same.
    pub(super) fn carve(&self, file: FileId, claim: &Claim, range: Range, kind: Option<bool>) -> Carve {
        let owner = claim.owner.clone();
        let mut carve = Carve { owner, range, frees: false, removed: Vec::new(), added: Vec::new() };
        let mut new = Held { claim: claim.clone(), range, exclusive: kind.unwrap_or_default() };
        let all = self.table.files.get(&file).into_iter().flat_map(|locks| &locks.held);
        for (key, held) in all.filter(|(_, held)| held.claim.owner == claim.owner) {
            if kind == Some(held.exclusive) {
                // What is locked again in another life of the client is of that life: the notification that tells of
                // it may come late, and must not free it.
                let same_life = claim.nsm_state == 0 || claim.nsm_state == held.claim.nsm_state;
                if same_life && held.range.covers(range) {
                    return Carve { removed: Vec::new(), added: Vec::new(), ..carve };
                }
                if held.range.touches(range) {
                    carve.removed.push(*key);
                    new.range = new.range.join(held.range);
                    new.claim.since_ns = new.claim.since_ns.min(held.claim.since_ns);
                    if new.claim.nsm_state == 0 {
                        new.claim.nsm_state = held.claim.nsm_state;
                    }
                }
            } else if held.range.overlaps(range) {
                carve.frees |= kind.is_none() || held.exclusive;
                carve.removed.push(*key);
                let left = held.range.minus(range);
                carve.added.extend(left.map(|range| Held { range, ..held.clone() }));
            }
        }
        if kind.is_some() {
            carve.added.push(new);
        }
        carve
    }

    /// Carries it out. Says whether anything changed.
    pub(super) fn apply_carve(&mut self, file: FileId, generation: u64, carve: Carve) -> bool {
        let Carve { owner, range, frees, removed, added } = carve;
        self.forget_undo(file, &owner, range);
        let changed = !removed.is_empty() || !added.is_empty();
        for key in removed {
            self.take_held(file, key);
        }
        for held in added {
            self.put_held(file, generation, held);
        }
        if frees {
            self.frees(file, range);
        }
        changed
    }

    /// The owner changes this range itself: what it had there before a grant that is not confirmed no longer counts.
    fn forget_undo(&mut self, file: FileId, owner: &Owner, range: Range) {
        if self.table.pending.is_empty() {
            return;
        }
        let ids = self.table.waiters_where(file, |waiter| {
            waiter.claim.owner == *owner && waiter.undo.iter().any(|(piece, _)| piece.overlaps(range))
        });
        for id in ids {
            let Some(locks) = self.table.files.get(&file) else { return };
            let Some(mut waiter) = locks.waiters.get(&id).cloned() else { continue };
            let generation = locks.generation;
            let pieces = std::mem::take(&mut waiter.undo);
            let pieces =
                pieces.into_iter().flat_map(|(piece, held)| piece.minus(range).map(move |p| (p, held)));
            waiter.undo = pieces.collect();
            self.set_waiter(file, generation, id, waiter);
        }
    }

    /// What the owner has in this range now, piece by piece, in order: a grant can be taken back to it.
    pub(super) fn undo_of(&self, file: FileId, owner: &Owner, range: Range) -> Vec<(Range, Option<bool>)> {
        let all = self.table.files.get(&file).into_iter().flat_map(|locks| locks.held.values());
        let own = all.filter(|held| held.claim.owner == *owner);
        let mut pieces: Vec<(Range, Option<bool>)> =
            own.filter_map(|held| Some((held.range.common(range)?, Some(held.exclusive)))).collect();
        let mut rest = vec![range];
        for (piece, _) in &pieces {
            rest = rest.into_iter().flat_map(|range| range.minus(*piece)).collect();
        }
        pieces.extend(rest.into_iter().map(|range| (range, None)));
        pieces.sort_unstable();
        pieces
    }
}
