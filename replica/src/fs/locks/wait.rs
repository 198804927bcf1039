//! Who must wait, who is granted, and what would be a deadlock.
//!
//! As in Linux's lock manager a lock is granted when no other owner's range is in its way, also when others have waited
//! longer for something that it excludes: readers do not queue behind a writer that waits. That could go on for ever,
//! so a waiter counts how often it was overtaken, and past [`OVERTAKEN_MAX`] it *bars*: whoever came later and excludes
//! it waits behind it, or is denied. Not so one for whom the waiter itself waits, over whatever other waiters: it would
//! never come to release what it has. Such rings are found anew after each change, so a ring that closes later opens
//! the bar again.
//!
//! A waiter is granted in the entry that removes its last obstacle, so nobody gets in between.
//!
//! A deadlock is a ring of owners each of which waits for a range that the next one holds (fcntl(2)'s EDEADLK).

use std::cell::Cell;
use std::collections::BTreeSet;

use super::plan::Plan;
use super::range::Range;
use super::table::{FileLocks, Held, LockTable, Waiter};
use super::{OVERTAKEN_MAX, Owner};
use crate::ids::FileId;

/// Ranges and waiters that one operation's searches for rings look at, at most. A longer search finds no deadlock (its owners wait, until one of them gives up), and takes a bar to be in a ring.
const LOOKS_MAX: usize = 1 << 20;

/// What is wanted.
#[derive(Clone, Copy)]
pub(super) struct Wish<'a> {
    /// Of which file.
    pub file: FileId,
    /// By whom.
    pub owner: &'a Owner,
    /// Which bytes.
    pub range: Range,
    /// Or shared.
    pub exclusive: bool,
    /// The waiter that it is; `None`: it has only arrived.
    pub id: Option<u64>,
}

/// What is in the way.
pub(super) enum Obstacle<'a> {
    /// Another owner's range.
    Held(&'a Held),
    /// One who has waited too long to be overtaken again.
    Waiter(&'a Waiter),
}

impl FileLocks {
    /// Other owners' ranges that exclude this.
    fn excluding<'a>(
        &'a self,
        owner: &Owner,
        range: Range,
        exclusive: bool,
    ) -> impl Iterator<Item = &'a Held> {
        self.held.values().filter(move |held| held.excludes(owner, range, exclusive))
    }

    /// Other owners' waiters before this one that bar it.
    fn barring<'a>(
        &'a self,
        owner: &Owner,
        range: Range,
        exclusive: bool,
        id: Option<u64>,
    ) -> impl Iterator<Item = &'a Waiter> {
        let before = self.waiters.range(..id.unwrap_or(u64::MAX)).map(|(_, waiter)| waiter);
        before.filter(move |waiter| waiter.bars() && waiter.opposes(owner, range, exclusive))
    }
}

impl LockTable {
    /// What keeps this from being granted. Of several ranges the first in the file.
    pub(super) fn obstacle(&self, wish: Wish<'_>, looks: &Cell<usize>) -> Option<Obstacle<'_>> {
        let locks = self.files.get(&wish.file)?;
        let Wish { owner, range, exclusive, id, .. } = wish;
        let excluding = locks.excluding(owner, range, exclusive);
        if let Some(held) = excluding.min_by_key(|held| held.range.start) {
            return Some(Obstacle::Held(held));
        }
        if !self.contended.contains(&wish.file) {
            return None;
        }
        let mut barring = locks.barring(owner, range, exclusive, id);
        barring.find(|waiter| !self.is_in_ring(waiter, owner, looks)).map(Obstacle::Waiter)
    }

    /// Does the waiter wait, over others, for this owner?
    fn is_in_ring(&self, waiter: &Waiter, owner: &Owner, looks: &Cell<usize>) -> bool {
        self.reaches(vec![&waiter.claim.owner], owner, true, looks)
    }

    /// Would the owner wait for itself?
    pub(super) fn is_deadlock(&self, wish: Wish<'_>, looks: &Cell<usize>) -> bool {
        let Some(locks) = self.files.get(&wish.file) else { return false };
        let holders = locks.excluding(wish.owner, wish.range, wish.exclusive);
        self.reaches(holders.map(|held| &held.claim.owner).collect(), wish.owner, false, looks)
    }

    /// Does a way lead from one of these owners to `target`, from who waits to who is in the way? `bars`: also over
    /// waiters that bar, and a search that was too long says yes.
    fn reaches<'a>(
        &'a self,
        mut next: Vec<&'a Owner>,
        target: &Owner,
        bars: bool,
        looks: &Cell<usize>,
    ) -> bool {
        let mut seen = BTreeSet::new();
        while let Some(owner) = next.pop() {
            if owner == target {
                return true;
            }
            if !seen.insert(owner) {
                continue;
            }
            for (file, id) in self.waits.get(owner).into_iter().flatten() {
                let Some(locks) = self.files.get(file) else { continue };
                let Some(waiter) = locks.waiters.get(id) else { continue };
                looks.set(looks.get() + locks.held.len() + if bars { locks.waiters.len() } else { 0 });
                if looks.get() > LOOKS_MAX {
                    return bars;
                }
                let (range, exclusive) = (waiter.range, waiter.exclusive);
                next.extend(locks.excluding(owner, range, exclusive).map(|held| &held.claim.owner));
                if bars && self.contended.contains(file) {
                    let barring = locks.barring(owner, range, exclusive, Some(*id));
                    next.extend(barring.map(|waiter| &waiter.claim.owner));
                }
            }
        }
        false
    }
}

impl Plan<'_> {
    /// Grants whatever has no obstacle any more, oldest first. The last step of each operation.
    pub(super) fn settle(&mut self) {
        loop {
            let mut work = self.take_freed();
            // Whom a bar keeps out depends on who waits for whom in all files.
            work.extend(self.table.contended.iter().map(|file| (*file, Range::ALL)));
            let mut granted = false;
            for (file, range) in work {
                granted |= self.grant_in(file, range);
            }
            if !granted {
                return;
            }
        }
    }

    /// Grants what waits for bytes of this range; says whether there was any.
    fn grant_in(&mut self, file: FileId, range: Range) -> bool {
        let mut granted = false;
        for id in self.table.waiters_where(file, |waiter| waiter.waits() && waiter.range.overlaps(range)) {
            granted |= self.grant_if_free(file, id);
        }
        granted
    }

    fn grant_if_free(&mut self, file: FileId, id: u64) -> bool {
        let Some(locks) = self.table.files.get(&file) else { return false };
        let Some(waiter) = locks.waiters.get(&id) else { return false };
        let generation = locks.generation;
        let (owner, range, exclusive) = (&waiter.claim.owner, waiter.range, waiter.exclusive);
        if self.table.obstacle(Wish { file, owner, range, exclusive, id: Some(id) }, &self.looks).is_some() {
            return false;
        }
        let mut waiter = waiter.clone();
        let carve = self.carve(file, &waiter.claim, range, Some(exclusive));
        waiter.undo = self.undo_of(file, &waiter.claim.owner, range);
        waiter.granted_at = Some(self.index);
        // The waiter's own row last: what the owner changes in others' undo must not find it.
        self.apply_carve(file, generation, carve);
        self.overtake(file, &waiter.claim.owner, range, exclusive, id);
        self.set_waiter(file, generation, id, waiter);
        self.granted = true;
        true
    }

    /// Somebody got what these waiters, older than `id`, still wait for.
    pub(super) fn overtake(&mut self, file: FileId, owner: &Owner, range: Range, exclusive: bool, id: u64) {
        let Some(locks) = self.table.files.get(&file) else { return };
        let generation = locks.generation;
        let older = locks.waiters.range(..id).filter(|(_, waiter)| {
            waiter.waits() && waiter.overtaken < OVERTAKEN_MAX && waiter.opposes(owner, range, exclusive)
        });
        let older: Vec<(u64, Waiter)> = older.map(|(id, waiter)| (*id, waiter.clone())).collect();
        for (id, mut waiter) in older {
            waiter.overtaken += 1;
            self.set_waiter(file, generation, id, waiter);
        }
    }
}
