//! LOCK, UNLOCK, CANCEL, and what a client says to its call-back.

use bytes::Bytes;
use proto::op::{Lock, LockCallback, LockCancel, LockOwner, LockReply, Unlock};

use super::plan::{Plan, Target, answer};
use super::range::Range;
use super::table::{Claim, Waiter};
use super::wait::Wish;
use super::{
    CALLER_NAME_MAX, COOKIE_MAX, LockStatus, OH_MAX, Owner, WAITERS_MAX, WAITERS_PER_CLIENT_MAX,
    WAITERS_PER_FILE_MAX,
};
use crate::ids::FileId;

impl Plan<'_> {
    /// The claim of this owner; `None` where it cannot be one.
    pub(super) fn claim(&self, owner: Option<&LockOwner>, nsm_state: u32) -> Option<Claim> {
        let owner = owner?;
        let address = matches!(owner.client.len(), 4 | 16);
        if !address || owner.oh.len() > OH_MAX {
            return None;
        }
        // Copies: a slice would keep the whole entry in memory.
        let name = owner.caller_name.get(..CALLER_NAME_MAX).unwrap_or(&owner.caller_name);
        let caller_name = Bytes::copy_from_slice(name);
        let (client, oh) = (Bytes::copy_from_slice(&owner.client), Bytes::copy_from_slice(&owner.oh));
        let owner = Owner { client, svid: owner.svid, oh };
        Some(Claim { owner, caller_name, since_ns: self.clock_ns, nsm_state })
    }

    /// NLM4_LOCK and NLM4_NM_LOCK. The same request again, waiting or granted, is the same request: a client repeats it
    /// under another xid every 30 s while it waits.
    pub(in crate::fs) fn lock(&mut self, target: Target, op: &Lock) -> LockReply {
        let Some(claim) = self.claim(op.owner.as_ref(), op.nsm_state) else {
            return answer(LockStatus::Failed);
        };
        let nlm_version = u8::try_from(op.nlm_version).unwrap_or_default();
        if op.cookie.len() > COOKIE_MAX || !matches!(nlm_version, 1 | 3 | 4) {
            return answer(LockStatus::Failed);
        }
        let Some(range) = Range::from_wire(op.offset, op.length) else {
            return answer(LockStatus::TooBig);
        };
        let new = Waiter {
            claim,
            range,
            exclusive: op.exclusive,
            cookie: Bytes::copy_from_slice(&op.cookie),
            udp: op.udp,
            nlm_version,
            overtaken: 0,
            granted_at: None,
            undo: Vec::new(),
        };
        if self.table.grace_since_ns.is_some() != op.reclaim {
            let has_it = op.reclaim && self.covers(target.file, &new);
            return answer(if has_it { LockStatus::Granted } else { LockStatus::Grace });
        }
        answer(self.lock_or_wait(target, new, op.block, !op.unmonitored))
    }

    /// Does the owner hold all of this already, in this kind or a stronger one?
    fn covers(&self, file: FileId, new: &Waiter) -> bool {
        let pieces = self.undo_of(file, &new.claim.owner, new.range);
        pieces.iter().all(|(_, held)| held.is_some_and(|exclusive| exclusive || !new.exclusive))
    }

    fn lock_or_wait(&mut self, target: Target, new: Waiter, block: bool, monitored: bool) -> LockStatus {
        let Target { file, generation } = target;
        let (owner, range, exclusive) = (&new.claim.owner, new.range, new.exclusive);
        let wish = Wish { file, owner, range, exclusive, id: None };
        let same = self.same_wish(file, &new);
        let is_new = !same.iter().any(|id| self.table.waiter(file, *id).is_some_and(Waiter::waits));
        if self.table.obstacle(wish, &self.looks).is_none() || self.is_held(file, &new) {
            return self.lock_now(target, &new, monitored, same);
        }
        if !block {
            return LockStatus::Denied;
        }
        if !is_new {
            same.into_iter().for_each(|id| self.refresh(target, id, &new));
            return LockStatus::Blocked;
        }
        if self.table.is_deadlock(wish, &self.looks) {
            return LockStatus::Deadlock;
        }
        let own = self.table.hosts.get(&owner.client).map_or(0, |host| host.waiting);
        let here = self.table.files.get(&file).map_or(0, |locks| locks.waiters.len());
        let full = self.table.waiting >= WAITERS_MAX || own >= WAITERS_PER_CLIENT_MAX;
        if full
            || here >= WAITERS_PER_FILE_MAX
            || !self.has_room_in(file, 1)
            || !self.has_room(&owner.client, 1)
            || !self.has_room_for_host(&owner.client)
        {
            return LockStatus::NoLocks;
        }
        self.meet(&new.claim, monitored);
        self.set_waiter(file, generation, self.index, new);
        LockStatus::Blocked
    }

    /// The client asks again, perhaps over another connection: it keeps its place, and is called back as it asked last.
    fn refresh(&mut self, target: Target, id: u64, new: &Waiter) {
        let Some(old) = self.table.waiter(target.file, id) else { return };
        let Waiter { cookie, udp, nlm_version, .. } = new.clone();
        let mut claim = old.claim.clone();
        if new.claim.nsm_state != 0 {
            // The client may have restarted and wait for the same again.
            claim.nsm_state = new.claim.nsm_state;
        }
        let again = Waiter { cookie, udp, nlm_version, claim, ..old.clone() };
        if again != *old {
            self.set_waiter(target.file, target.generation, id, again);
        }
    }

    /// Exactly this is held: as after a grant whose call-back is on its way.
    fn is_held(&self, file: FileId, new: &Waiter) -> bool {
        let pieces = self.undo_of(file, &new.claim.owner, new.range);
        pieces.iter().all(|(_, held)| *held == Some(new.exclusive))
    }

    /// The owner's waiters that want just this, granted or not.
    fn same_wish(&self, file: FileId, new: &Waiter) -> Vec<u64> {
        self.table.waiters_where(file, |waiter| {
            waiter.claim.owner == new.claim.owner
                && waiter.range == new.range
                && waiter.exclusive == new.exclusive
        })
    }

    /// Nothing is in the way. The client hears of it by the answer, so it need not be called back for the same.
    fn lock_now(&mut self, target: Target, new: &Waiter, monitored: bool, same: Vec<u64>) -> LockStatus {
        let Target { file, generation } = target;
        let claim = &new.claim;
        let carve = self.carve(file, claim, new.range, Some(new.exclusive));
        if !self.has_room(&claim.owner.client, carve.grows_by())
            || !self.has_room_in(file, carve.grows_by())
            || !self.has_room_for_host(&claim.owner.client)
        {
            return LockStatus::NoLocks;
        }
        for id in same {
            self.take_waiter(file, id);
        }
        self.meet(claim, monitored);
        if self.apply_carve(file, generation, carve) {
            self.overtake(file, &claim.owner, new.range, new.exclusive, self.index);
        }
        LockStatus::Granted
    }

    /// NLM4_UNLOCK. Giving up what is not held is no error. It also ends the owner's waiting for just these bytes, as
    /// in Linux's lockd, and settles grants in them that the client has not confirmed.
    pub(in crate::fs) fn unlock(&mut self, target: Target, op: &Unlock) -> LockReply {
        let Some(claim) = self.claim(op.owner.as_ref(), 0) else {
            return answer(LockStatus::Failed);
        };
        let Some(range) = Range::from_wire(op.offset, op.length) else {
            return answer(LockStatus::TooBig);
        };
        let Target { file, generation } = target;
        let carve = self.carve(file, &claim, range, None);
        let more = carve.grows_by();
        if !self.has_room(&claim.owner.client, more) || !self.has_room_in(file, more) {
            return answer(LockStatus::NoLocks);
        }
        let over = self.table.waiters_where(file, |waiter| {
            let settled = if waiter.waits() { waiter.range == range } else { range.covers(waiter.range) };
            settled && waiter.claim.owner == claim.owner
        });
        for id in over {
            self.take_waiter(file, id);
        }
        self.apply_carve(file, generation, carve);
        answer(LockStatus::Granted)
    }

    /// NLM4_CANCEL: the client no longer waits. What was granted meanwhile is taken back, to what the owner had before:
    /// a client that cancels believes that it has nothing new. NLM4_DENIED where nothing waits.
    pub(in crate::fs) fn cancel(&mut self, target: Target, op: &LockCancel) -> LockReply {
        let Some(claim) = self.claim(op.owner.as_ref(), 0) else {
            return answer(LockStatus::Failed);
        };
        let Some(range) = Range::from_wire(op.offset, op.length) else {
            return answer(LockStatus::TooBig);
        };
        let ids = self.table.waiters_where(target.file, |waiter| {
            waiter.claim.owner == claim.owner && waiter.range == range && waiter.exclusive == op.exclusive
        });
        if ids.is_empty() {
            return answer(LockStatus::Denied);
        }
        for id in ids {
            self.give_up(target.file, id);
        }
        answer(LockStatus::Granted)
    }

    /// What came of a call-back. One that is settled already is nobody's any more.
    pub(in crate::fs) fn callback(&mut self, op: &LockCallback) -> LockReply {
        if let Some(file) = self.table.pending.get(&op.id).copied() {
            if op.refused {
                self.give_up(file, op.id);
            } else {
                self.take_waiter(file, op.id);
            }
        }
        answer(LockStatus::Granted)
    }

    /// Ends a waiter; if it is granted, undoes that.
    fn give_up(&mut self, file: FileId, id: u64) {
        let generation = self.table.files.get(&file).map_or(0, |locks| locks.generation);
        let Some(waiter) = self.take_waiter(file, id) else { return };
        for (piece, before) in waiter.undo {
            // A grant that weakened the owner's range may have let others in: it stays weak.
            let before = before.map(|exclusive| exclusive && waiter.exclusive);
            let carve = self.carve(file, &waiter.claim, piece, before);
            self.apply_carve(file, generation, carve);
        }
    }
}
