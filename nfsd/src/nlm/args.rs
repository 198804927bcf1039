//! Arguments of NLM procedures as they come from the wire: X/Open XNFS chapter 10 (versions 1 to 3) and RFC 1813
//! appendix II (version 4).
//!
//! Decoding only. Versions before 4 have 32-bit offsets and lengths; they become 64-bit ones here, and from here on
//! there is one form of everything. Nothing that is kept is a slice of the record.

use bytes::Bytes;

use crate::handle::FHSIZE;
use crate::xdr::{Decoder, Result, XdrError};

/// Longest netobj, bytes (MAXNETOBJ_SZ): cookies and owner handles.
pub(super) const NETOBJ_MAX: usize = 1024;
/// Longest name of a caller, bytes (LM_MAXSTRLEN).
pub(super) const NAME_MAX: usize = 1024;

/// The forms of the protocol. Version 2 is version 1 under another number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    /// Versions 1 and 2: 32-bit ranges, no shares.
    V1,
    /// Version 3: with DOS shares.
    V3,
    /// Version 4: 64-bit ranges and more statuses.
    V4,
}

impl Version {
    /// The form of a version that the program is registered with.
    pub fn of(version: u32) -> Self {
        match version {
            0..=2 => Self::V1,
            3 => Self::V3,
            _ => Self::V4,
        }
    }

    /// An offset or a length.
    fn range(self, d: &mut Decoder<'_>) -> Result<u64> {
        if self == Self::V4 { d.u64() } else { d.u32().map(u64::from) }
    }
}

/// nlm_lock, nlm4_lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lock {
    /// caller_name: the host, as it calls itself.
    pub caller: Bytes,
    /// The file handle's bytes, not looked at yet.
    pub fh: Bytes,
    /// Opaque owner handle.
    pub oh: Bytes,
    /// The owner's process on its host, any number.
    pub svid: u32,
    /// First byte.
    pub offset: u64,
    /// Bytes; 0: to the end of the file, however long it gets.
    pub length: u64,
}

impl Lock {
    fn decode(d: &mut Decoder<'_>, version: Version) -> Result<Self> {
        let (caller, fh, oh) = (d.string(NAME_MAX)?, handle(d)?, d.string(NETOBJ_MAX)?);
        let (svid, offset, length) = (d.u32()?, version.range(d)?, version.range(d)?);
        // What reaches the end of a 32-bit file reaches the end of any: old clients have no other word for it.
        let whole = version != Version::V4 && offset.saturating_add(length) > u64::from(u32::MAX);
        Ok(Self { caller, fh, oh, svid, offset, length: if whole { 0 } else { length } })
    }
}

/// A file handle in a netobj. A longer one cannot be a handle of anybody: garbage, as knfsd has it.
fn handle(d: &mut Decoder<'_>) -> Result<Bytes> {
    d.string(FHSIZE)
}

/// nlm_testargs.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TestArgs {
    pub cookie: Bytes,
    pub exclusive: bool,
    pub lock: Lock,
}

impl TestArgs {
    pub fn decode(d: &mut Decoder<'_>, version: Version) -> Result<Self> {
        let (cookie, exclusive) = (cookie(d)?, d.bool()?);
        Ok(Self { cookie, exclusive, lock: Lock::decode(d, version)? })
    }
}

/// nlm_lockargs.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LockArgs {
    pub cookie: Bytes,
    /// The caller waits where the lock is held by another.
    pub block: bool,
    pub exclusive: bool,
    pub lock: Lock,
    /// The caller held it before this server lost it.
    pub reclaim: bool,
    /// The caller's NSM state.
    pub state: u32,
}

impl LockArgs {
    pub fn decode(d: &mut Decoder<'_>, version: Version) -> Result<Self> {
        let (cookie, block, exclusive) = (cookie(d)?, d.bool()?, d.bool()?);
        let lock = Lock::decode(d, version)?;
        Ok(Self { cookie, block, exclusive, lock, reclaim: d.bool()?, state: d.u32()? })
    }
}

/// nlm_cancargs.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct CancelArgs {
    pub cookie: Bytes,
    pub block: bool,
    pub exclusive: bool,
    pub lock: Lock,
}

impl CancelArgs {
    pub fn decode(d: &mut Decoder<'_>, version: Version) -> Result<Self> {
        let (cookie, block, exclusive) = (cookie(d)?, d.bool()?, d.bool()?);
        Ok(Self { cookie, block, exclusive, lock: Lock::decode(d, version)? })
    }
}

/// nlm_unlockargs.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct UnlockArgs {
    pub cookie: Bytes,
    pub lock: Lock,
}

impl UnlockArgs {
    pub fn decode(d: &mut Decoder<'_>, version: Version) -> Result<Self> {
        Ok(Self { cookie: cookie(d)?, lock: Lock::decode(d, version)? })
    }
}

/// nlm_shareargs.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ShareArgs {
    pub cookie: Bytes,
    pub caller: Bytes,
    pub fh: Bytes,
    pub oh: Bytes,
    /// fsh_mode: what others may not do. Bits: 1 read, 2 write.
    pub mode: u32,
    /// fsh_access: what the caller does. Bits: 1 read, 2 write.
    pub access: u32,
    pub reclaim: bool,
}

impl ShareArgs {
    pub fn decode(d: &mut Decoder<'_>) -> Result<Self> {
        let (cookie, caller, fh) = (cookie(d)?, d.string(NAME_MAX)?, handle(d)?);
        let (oh, mode, access) = (d.string(NETOBJ_MAX)?, bits(d)?, bits(d)?);
        Ok(Self { cookie, caller, fh, oh, mode, access, reclaim: d.bool()? })
    }
}

/// nlm_notify: FREE_ALL's argument, and the beginning of NSM's stat_chge.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NotifyArgs {
    pub name: Bytes,
    pub state: u32,
}

impl NotifyArgs {
    pub fn decode(d: &mut Decoder<'_>) -> Result<Self> {
        Ok(Self { name: d.string(NAME_MAX)?, state: d.u32()? })
    }
}

/// nlm_res: GRANTED_RES's argument, and what a client answers to GRANTED.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Res {
    pub cookie: Bytes,
    pub stat: u32,
}

impl Res {
    pub fn decode(d: &mut Decoder<'_>) -> Result<Self> {
        Ok(Self { cookie: cookie(d)?, stat: d.u32()? })
    }
}

/// The first argument of every procedure, echoed in its results.
pub(super) fn cookie(d: &mut Decoder<'_>) -> Result<Bytes> {
    d.string(NETOBJ_MAX)
}

/// fsh_mode or fsh_access: 0 to 3.
fn bits(d: &mut Decoder<'_>) -> Result<u32> {
    match d.u32()? {
        value @ 0..=3 => Ok(value),
        other => Err(XdrError::BadValue(other)),
    }
}
