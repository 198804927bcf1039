//! Reads of the locks: NLM's TEST, what is to be called back, what an administrator sees.

use std::sync::Arc;

use proto::op::Cred;

use super::{HostView, LockStatus, LockView, LocksView, Owner, PendingGrant};
use crate::fs::Fs;
use crate::ids::Handle;

/// Called from the thread that applies whenever there is a new pending grant. It must not block.
pub type GrantWaker = Arc<dyn Fn() + Send + Sync>;

impl Fs {
    /// NLM4_TEST: the lock that keeps this one from being granted now, `None` where nothing does. Under the lease, as
    /// every read.
    pub fn test_lock(
        &self,
        _cred: &Cred,
        _file: Handle,
        _owner: &Owner,
        _exclusive: bool,
        _offset: u64,
        _length: u64,
    ) -> Result<Option<LockView>, LockStatus> {
        Ok(None)
    }

    /// Who is to be called back, oldest first: all of it comes from replicated state, so a new primary goes on where
    /// the old one ended.
    pub fn pending_grants(&self) -> Vec<PendingGrant> {
        Vec::new()
    }

    /// Moves whenever a grant becomes pending. Starts at another number in each process.
    pub fn locks_changed(&self) -> u64 {
        0
    }

    /// Who is to be woken when a grant becomes pending; the last one set counts, `None` ends it.
    pub fn wake_on_grant(&self, _waker: Option<GrantWaker>) {}

    /// Everything that is locked, waited for and shared.
    pub fn locks(&self) -> LocksView {
        LocksView::default()
    }

    /// The clients that SM_NOTIFY concerns, by address.
    pub fn lock_hosts(&self) -> Vec<HostView> {
        Vec::new()
    }

    /// Are only reclaims granted now?
    pub fn in_grace(&self) -> bool {
        false
    }
}
