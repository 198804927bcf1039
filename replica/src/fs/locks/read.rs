//! Reads of the locks: NLM's TEST, what is to be called back, what an administrator sees.

use std::cell::Cell;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock, RwLockWriteGuard};
use proto::op::Cred;

use super::range::Range;
use super::table::{Claim, FileLocks, Held, LockTable, Waiter};
use super::wait::{Obstacle, Wish};
use super::{HostView, LockStatus, LockView, LocksView, Owner, PendingGrant, ShareView, WaiterView};
use crate::fs::inode::Inode;
use crate::fs::kv::Kv;
use crate::fs::{Fs, Status, perm};
use crate::ids::{FileId, Handle};

/// Called from the thread that applies whenever there is a new pending grant. It must not block.
pub type GrantWaker = Arc<dyn Fn() + Send + Sync>;

/// The table and who wants to hear of grants. The thread that applies is the only one that writes; it holds the table
/// for as long as it plans one operation on locks, and takes no other lock meanwhile.
pub(in crate::fs) struct Locks {
    table: RwLock<LockTable>,
    changed: AtomicU64,
    waker: Mutex<Option<GrantWaker>>,
}

impl Locks {
    /// Makes the table from its rows.
    pub(in crate::fs) fn open(kv: &Kv) -> io::Result<Self> {
        let table = RwLock::new(LockTable::open(kv)?);
        Ok(Self { table, changed: AtomicU64::new(0), waker: Mutex::new(None) })
    }

    /// For the one operation that is being applied.
    pub(in crate::fs) fn write(&self) -> RwLockWriteGuard<'_, LockTable> {
        self.table.write()
    }

    /// Is anything locked or waited for in this file?
    pub(in crate::fs) fn concern(&self, file: FileId) -> bool {
        self.table.read().files.contains_key(&file)
    }

    /// An entry has granted something to one who waited, and its effects are visible.
    pub(in crate::fs) fn announce(&self) {
        self.changed.fetch_add(1, Ordering::AcqRel);
        let waker = self.waker.lock().clone();
        if let Some(waker) = waker {
            waker();
        }
    }
}

/// May the caller lock this? A regular file only. Who may read it may lock it either way, as in knfsd: `flock -x` needs
/// no file opened for writing, and over NFS it is a byte range. Who may only write may lock exclusively, as fcntl(2) has
/// it; the owner always, as it may have opened the file before a chmod.
pub(in crate::fs) fn check_file(inode: &Inode, cred: &Cred, exclusive: bool) -> Result<(), LockStatus> {
    let may = |bits| perm::may(inode, cred, bits);
    let permitted = perm::owns(inode, cred) || may(perm::READ) || (exclusive && may(perm::WRITE));
    let allowed = inode.is_file() && permitted;
    if allowed { Ok(()) } else { Err(LockStatus::Failed) }
}

fn lock_view(file: Handle, claim: &Claim, range: Range, exclusive: bool) -> LockView {
    LockView {
        file,
        owner: claim.owner.clone(),
        caller_name: claim.caller_name.clone(),
        exclusive,
        offset: range.start,
        length: range.length(),
        since_ns: claim.since_ns,
    }
}

impl Held {
    fn view(&self, file: Handle) -> LockView {
        lock_view(file, &self.claim, self.range, self.exclusive)
    }
}

impl Waiter {
    fn view(&self, file: Handle) -> LockView {
        lock_view(file, &self.claim, self.range, self.exclusive)
    }
}

impl LockTable {
    fn pending_grant(&self, id: u64, file: FileId) -> Option<PendingGrant> {
        let locks = self.files.get(&file)?;
        let waiter = locks.waiters.get(&id)?;
        Some(PendingGrant {
            id,
            lock: waiter.view(Handle { file, generation: locks.generation }),
            cookie: waiter.cookie.clone(),
            udp: waiter.udp,
            nlm_version: u32::from(waiter.nlm_version),
            fresh: self.incarnation != 0 && waiter.granted_at.is_some_and(|at| at > self.incarnation),
        })
    }

    fn host_views(&self) -> Vec<HostView> {
        let hosts = self.hosts.iter();
        hosts
            .map(|(client, host)| HostView {
                client: client.clone(),
                caller_name: host.caller_name.clone(),
                nsm_state: host.nsm_state,
                monitored: host.monitored,
                held: host.held,
                waiting: host.waiting,
                since_ns: host.since_ns,
            })
            .collect()
    }
}

impl FileLocks {
    fn add_to(&self, file: FileId, all: &mut LocksView) {
        let file = Handle { file, generation: self.generation };
        let mut held: Vec<LockView> = self.held.values().map(|held| held.view(file)).collect();
        held.sort_by(|a, b| (a.offset, &a.owner).cmp(&(b.offset, &b.owner)));
        all.held.extend(held);
        all.waiters.extend(self.waiters.iter().map(|(id, waiter)| WaiterView {
            id: *id,
            lock: waiter.view(file),
            granted: !waiter.waits(),
        }));
        all.shares.extend(self.shares.values().map(|share| ShareView {
            file,
            owner: share.claim.owner.clone(),
            caller_name: share.claim.caller_name.clone(),
            mode: u32::from(share.mode),
            access: u32::from(share.access),
            since_ns: share.claim.since_ns,
        }));
    }
}

impl Fs {
    /// NLM4_TEST: what keeps this lock from being granted now, `None` where nothing does: another's lock, or one who
    /// has waited too long to be overtaken again. In grace nothing is known ([`LockStatus::Grace`]). Under the lease,
    /// as every read.
    pub fn test_lock(
        &self,
        cred: &Cred,
        file: Handle,
        owner: &Owner,
        exclusive: bool,
        offset: u64,
        length: u64,
    ) -> Result<Option<LockView>, LockStatus> {
        let _view = self.view.read();
        let inode = self.resolve(file).map_err(|status| match status {
            Status::Stale | Status::BadHandle => LockStatus::Stale,
            _ => LockStatus::Failed,
        })?;
        check_file(&inode, cred, exclusive)?;
        let range = Range::from_wire(offset, length).ok_or(LockStatus::TooBig)?;
        let table = self.locks.table.read();
        if table.grace_since_ns.is_some() {
            return Err(LockStatus::Grace);
        }
        let wish = Wish { file: file.file, owner, range, exclusive, id: None };
        Ok(table.obstacle(wish, &Cell::new(0)).map(|obstacle| match obstacle {
            Obstacle::Held(held) => held.view(file),
            Obstacle::Waiter(waiter) => waiter.view(file),
        }))
    }

    /// Who is to be called back, oldest first: all of it comes from replicated state, so a new primary goes on where
    /// the old one ended.
    pub fn pending_grants(&self) -> Vec<PendingGrant> {
        let table = self.locks.table.read();
        table.pending.iter().filter_map(|(id, file)| table.pending_grant(*id, *file)).collect()
    }

    /// Moves whenever a grant becomes pending. Starts at 0 in each process.
    pub fn locks_changed(&self) -> u64 {
        self.locks.changed.load(Ordering::Acquire)
    }

    /// Who is to be woken when a grant becomes pending; the last one set counts, `None` ends it. Set it before the
    /// first look at [`Self::pending_grants`].
    pub fn wake_on_grant(&self, waker: Option<GrantWaker>) {
        *self.locks.waker.lock() = waker;
    }

    /// Everything that is locked, waited for and shared.
    pub fn locks(&self) -> LocksView {
        let table = self.locks.table.read();
        let mut all = LocksView {
            hosts: table.host_views(),
            grace_since_ns: table.grace_since_ns,
            ..LocksView::default()
        };
        table.files.iter().for_each(|(file, locks)| locks.add_to(*file, &mut all));
        all
    }

    /// The clients that SM_NOTIFY concerns, by address.
    pub fn lock_hosts(&self) -> Vec<HostView> {
        self.locks.table.read().host_views()
    }

    /// How many locks and shares are held, and how many wait.
    pub fn lock_counts(&self) -> (u64, u64) {
        let table = self.locks.table.read();
        table.hosts.values().fold((0, 0), |(held, waiting), host| (held + host.held, waiting + host.waiting))
    }

    /// Are only reclaims granted now?
    pub fn in_grace(&self) -> bool {
        self.locks.table.read().grace_since_ns.is_some()
    }
}
