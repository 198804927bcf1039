//! What happens to everything that a client has: it restarted, an administrator releases it, all state is lost.

use bytes::Bytes;
use proto::op::{FreeAll, LockReply, ReleaseClient};

use super::LockStatus;
use super::plan::Plan;
use super::table::Claim;
use crate::ids::FileId;

fn freed(freed: u64) -> LockReply {
    LockReply { stat: LockStatus::Granted as u32, freed }
}

impl Plan<'_> {
    /// SM_NOTIFY and NLM4_FREE_ALL. A notification is repeated until it is answered, perhaps after the client has
    /// locked again: what it locked in the state that the notification tells stays, and so does, once the notification
    /// has been heard, what it locked without telling a state.
    pub(in crate::fs) fn free_all(&mut self, op: &FreeAll) -> LockReply {
        let Some(host) = self.table.hosts.get(&op.client).cloned() else { return freed(0) };
        let (state, heard) = (op.nsm_state, host.notified == op.nsm_state);
        let stays =
            |claim: &Claim| state != 0 && (claim.nsm_state == state || (claim.nsm_state == 0 && heard));
        let count = self.free(&op.client, |claim| !stays(claim));
        if state != 0 && !heard {
            let mut host = self.table.hosts.get(&op.client).cloned().unwrap_or(host);
            host.notified = state;
            host.nsm_state = state;
            let client = Bytes::copy_from_slice(&op.client);
            self.set_host(&client, host);
        }
        freed(count)
    }

    /// An administrator's order. It also forgets the client.
    pub(in crate::fs) fn release_client(&mut self, op: &ReleaseClient) -> LockReply {
        if !self.table.hosts.contains_key(&op.client) {
            return freed(0);
        }
        let count = self.free(&op.client, |_| true);
        self.drop_host(&op.client);
        freed(count)
    }

    /// All locks, waiters and shares go; clients stay known, as they are to be told. Only reclaims from here on.
    pub(in crate::fs) fn start_grace(&mut self) {
        let files: Vec<FileId> = self.table.files.keys().copied().collect();
        files.into_iter().for_each(|file| self.drop_file(file));
        self.set_grace(Some(self.clock_ns));
    }

    /// Has any client had locks?
    pub(in crate::fs) fn knows_clients(&self) -> bool {
        !self.table.hosts.is_empty()
    }

    /// Locks are granted as always from here on.
    pub(in crate::fs) fn end_grace(&mut self) -> LockReply {
        if self.table.grace_since_ns.is_some() {
            self.set_grace(None);
        }
        freed(0)
    }

    /// Gives up what this client has and waits for, where `goes` says so; says how much.
    fn free(&mut self, client: &Bytes, goes: impl Fn(&Claim) -> bool) -> u64 {
        let goes = |claim: &Claim| claim.owner.client == *client && goes(claim);
        let before = self.table.held + self.table.waiting;
        let files: Vec<FileId> = self.table.files.keys().copied().collect();
        for file in files {
            for id in self.table.waiters_where(file, |waiter| goes(&waiter.claim)) {
                self.take_waiter(file, id);
            }
            let Some(locks) = self.table.files.get(&file) else { continue };
            let shares = locks.shares.iter().filter(|(_, share)| goes(&share.claim));
            let shares: Vec<_> = shares.map(|(key, _)| *key).collect();
            let ranges = locks.held.iter().filter(|(_, held)| goes(&held.claim));
            let ranges: Vec<_> = ranges.map(|(key, held)| (*key, held.range)).collect();
            for key in shares {
                self.take_share(file, key);
            }
            for (key, range) in ranges {
                self.take_held(file, key);
                self.frees(file, range);
            }
        }
        before - (self.table.held + self.table.waiting)
    }
}
