//! What others see of the locks: types of the read API, and NLM's statuses.

use bytes::Bytes;

use crate::ids::Handle;

/// nlm4_stats, X/Open XNFS (C702) chapter 14. The front end maps what versions 1 and 3 do not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum LockStatus {
    /// NLM4_GRANTED: done.
    Granted = 0,
    /// NLM4_DENIED: another owner's lock is in the way; CANCEL: nothing waits.
    Denied = 1,
    /// NLM4_DENIED_NOLOCKS: a limit is reached.
    NoLocks = 2,
    /// NLM4_BLOCKED: it waits, a call-back follows.
    Blocked = 3,
    /// NLM4_DENIED_GRACE_PERIOD: only reclaims are granted now; or a reclaim out of its time.
    Grace = 4,
    /// NLM4_DEADLCK: to wait would be a deadlock.
    Deadlock = 5,
    /// NLM4_ROFS: the front end's, on read-only exports.
    ReadOnly = 6,
    /// NLM4_STALE_FH: the file is gone.
    Stale = 7,
    /// NLM4_FBIG: offset and length pass 2^64.
    TooBig = 8,
    /// NLM4_FAILED: not a regular file, not permitted, or not what the protocol allows.
    Failed = 9,
}

impl LockStatus {
    /// The status with this number.
    pub fn from_u32(value: u32) -> Option<Self> {
        Some(match value {
            0 => Self::Granted,
            1 => Self::Denied,
            2 => Self::NoLocks,
            3 => Self::Blocked,
            4 => Self::Grace,
            5 => Self::Deadlock,
            6 => Self::ReadOnly,
            7 => Self::Stale,
            8 => Self::TooBig,
            9 => Self::Failed,
            _ => return None,
        })
    }
}

/// Whose a lock is: all three together. Clients behind one address are told apart by `oh`, in which Linux and BSD
/// write their host name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Owner {
    /// The client's address, canonical: 4 or 16 bytes.
    pub client: Bytes,
    /// nlm4_lock's svid; 0 in shares.
    pub svid: u32,
    /// nlm4_lock's oh.
    pub oh: Bytes,
}

/// A lock as it is held or wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockView {
    /// The file.
    pub file: Handle,
    /// Whose it is.
    pub owner: Owner,
    /// The name that the client calls itself.
    pub caller_name: Bytes,
    /// Exclusive, or shared.
    pub exclusive: bool,
    /// First byte.
    pub offset: u64,
    /// Bytes; 0: to the end of the file, however long that gets.
    pub length: u64,
    /// When it was granted or asked for: the operation's clock, ns since 1970.
    pub since_ns: u64,
}

/// A lock that was granted to one who waited, and whose client has not confirmed it yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingGrant {
    /// The waiter's number: unique in the export for ever, the same on both nodes. Fit for the call-back's cookie, so
    /// that an answer finds its way also after a takeover.
    pub id: u64,
    /// What was granted, exactly as it was asked for: clients compare.
    pub lock: LockView,
    /// The cookie of the LOCK call.
    pub cookie: Bytes,
    /// The client is called back over UDP, else over TCP.
    pub udp: bool,
    /// In this version of NLM: 1, 3 or 4.
    pub nlm_version: u32,
    /// Granted under the primary that serves now, so no other has called back. Only the very first call-back of such a
    /// one may be answered by "refused"; any later refusal can mean that an earlier call-back was accepted.
    pub fresh: bool,
}

/// One who waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaiterView {
    /// See [`PendingGrant::id`].
    pub id: u64,
    /// What is waited for.
    pub lock: LockView,
    /// It is granted, only the call-back is not confirmed.
    pub granted: bool,
}

/// A DOS share reservation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareView {
    /// The file.
    pub file: Handle,
    /// Whose it is.
    pub owner: Owner,
    /// The name that the client calls itself.
    pub caller_name: Bytes,
    /// fsh4_mode: what others may not do.
    pub mode: u32,
    /// fsh4_access: what the owner does.
    pub access: u32,
    /// The operation's clock, ns since 1970.
    pub since_ns: u64,
}

/// A client that has, or had, locks: whom SM_NOTIFY tells when lock state is lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostView {
    /// Its address, canonical: 4 or 16 bytes.
    pub client: Bytes,
    /// The name that it called itself last.
    pub caller_name: Bytes,
    /// The NSM state number that it gave last; 0: none.
    pub nsm_state: u32,
    /// At least one of its locks asked for monitoring.
    pub monitored: bool,
    /// Locks and shares that it holds.
    pub held: u64,
    /// Locks that it waits for.
    pub waiting: u64,
    /// First seen: the operation's clock, ns since 1970.
    pub since_ns: u64,
}

/// All of an export's lock state at one instant, for `hanfs locks`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct LocksView {
    /// Byte ranges that are held, by file, offset.
    pub held: Vec<LockView>,
    /// Who waits, by file and then in the order of arrival.
    pub waiters: Vec<WaiterView>,
    /// Share reservations, by file.
    pub shares: Vec<ShareView>,
    /// Clients, by address.
    pub hosts: Vec<HostView>,
    /// In grace since then (the operation's clock, ns since 1970).
    pub grace_since_ns: Option<u64>,
}
