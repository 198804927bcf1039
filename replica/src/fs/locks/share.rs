//! NLM4_SHARE and NLM4_UNSHARE: DOS share reservations. They bind those who ask for them, nobody else.

use proto::op::{LockOwner, LockReply, Share as ShareOp, Unshare};

use super::LockStatus;
use super::plan::{Plan, Target, answer};
use super::table::{Claim, HeldKey, Share};
use crate::ids::FileId;

/// Largest fsh4_mode and fsh4_access: both of reading and writing.
const BOTH: u32 = 3;

impl Plan<'_> {
    /// A share's owner has no svid: its `oh` names the open file.
    fn share_claim(&self, owner: Option<&LockOwner>, nsm_state: u32) -> Option<Claim> {
        let mut claim = self.claim(owner, nsm_state)?;
        claim.owner.svid = 0;
        Some(claim)
    }

    fn own_share(&self, file: FileId, claim: &Claim) -> Option<(HeldKey, &Share)> {
        let shares = &self.table.files.get(&file)?.shares;
        let own = shares.iter().find(|(_, share)| share.claim.owner == claim.owner);
        own.map(|(key, share)| (*key, share))
    }

    /// NLM4_SHARE: denied where it wants what another denies, or denies what another has. Asked again, it replaces what
    /// the owner had.
    pub(in crate::fs) fn share(&mut self, target: Target, op: &ShareOp) -> LockReply {
        let Some(claim) = self.share_claim(op.owner.as_ref(), op.nsm_state) else {
            return answer(LockStatus::Failed);
        };
        if op.mode > BOTH || op.access > BOTH {
            return answer(LockStatus::Failed);
        }
        let (mode, access) = (op.mode as u8, op.access as u8);
        let own = self.own_share(target.file, &claim);
        let same = own.is_some_and(|(_, share)| (share.mode, share.access) == (mode, access));
        if self.table.grace_since_ns.is_some() != op.reclaim {
            return answer(if op.reclaim && same { LockStatus::Granted } else { LockStatus::Grace });
        }
        if same {
            return answer(LockStatus::Granted);
        }
        let own = own.map(|(key, _)| key);
        let shares = self.table.files.get(&target.file).into_iter().flat_map(|locks| locks.shares.values());
        let mut others = shares.filter(|share| share.claim.owner != claim.owner);
        if others.any(|other| access & other.mode != 0 || mode & other.access != 0) {
            return answer(LockStatus::Denied);
        }
        let client = &claim.owner.client;
        if !self.has_room(client, usize::from(own.is_none())) || !self.has_room_for_host(client) {
            return answer(LockStatus::NoLocks);
        }
        if let Some(key) = own {
            self.take_share(target.file, key);
        }
        self.meet(&claim, true);
        self.put_share(target.file, target.generation, Share { claim, mode, access });
        answer(LockStatus::Granted)
    }

    /// NLM4_UNSHARE. Giving up what is not there is no error.
    pub(in crate::fs) fn unshare(&mut self, target: Target, op: &Unshare) -> LockReply {
        let Some(claim) = self.share_claim(op.owner.as_ref(), 0) else {
            return answer(LockStatus::Failed);
        };
        if let Some(key) = self.own_share(target.file, &claim).map(|(key, _)| key) {
            self.take_share(target.file, key);
        }
        answer(LockStatus::Granted)
    }
}
