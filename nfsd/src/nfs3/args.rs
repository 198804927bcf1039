//! Arguments of the procedures, as they come from the wire: RFC 1813 sections 2.6 and 3.3.
//!
//! Decoding only: nothing here looks at state. What does not have the protocol's form is an [`XdrError`] and
//! becomes GARBAGE_ARGS; what has its form but cannot be meant (a name of 300 bytes, a second of 10^9 ns) is
//! decoded, bounded, and becomes an NFS status later. Names and targets are copied out of the record (they live
//! in the log); WRITE's data stays a slice of it.

use bytes::Bytes;
use proto::op::create::How;
use proto::op::{Sattr, SetTime};
use replica::fs::{SYMLINK_MAX, Status, ftype};

use crate::xdr::{Decoder, Result, XdrError};

/// Longest file handle of the protocol, bytes: NFS3_FHSIZE, RFC 1813 section 2.4.
const FH_MAX: usize = nfsserve::nfs::NFS3_FHSIZE as usize;
/// Longest name that is decoded, bytes: what a system call can carry (PATH_MAX). Those over NAME_MAX are
/// answered NFS3ERR_NAMETOOLONG, longer ones are garbage.
const NAME_WIRE_MAX: usize = 4096;
/// Longest symbolic link target that is decoded, bytes: one too long by a little is answered
/// NFS3ERR_NAMETOOLONG.
const TARGET_WIRE_MAX: usize = 2 * SYMLINK_MAX;
/// A second, ns. nfstime3's second word must be less.
const SECOND_NS: u32 = 1_000_000_000;
/// The bits of mode3 (RFC 1813 section 2.6). Others are ignored, as every server does.
const MODE_BITS: u32 = 0o7777;

/// A file handle's bytes, not looked at yet.
pub(super) type Fh = Bytes;

/// nfs_fh3.
pub(super) fn fh(d: &mut Decoder<'_>) -> Result<Fh> {
    d.opaque(FH_MAX)
}

/// diropargs3.
#[derive(Debug, PartialEq)]
pub(super) struct DirOp {
    pub dir: Fh,
    pub name: Bytes,
}

impl DirOp {
    pub fn decode(d: &mut Decoder<'_>) -> Result<Self> {
        Ok(Self { dir: fh(d)?, name: d.string(NAME_WIRE_MAX)? })
    }
}

/// An optional value: a bool, and the value where it is true.
fn option<'a, T>(
    d: &mut Decoder<'a>,
    value: impl FnOnce(&mut Decoder<'a>) -> Result<T>,
) -> Result<Option<T>> {
    if d.bool()? { value(d).map(Some) } else { Ok(None) }
}

/// nfstime3 as ns since 1970; INVAL where its ns are a second or more.
fn time(d: &mut Decoder<'_>) -> Result<std::result::Result<u64, Status>> {
    let (seconds, ns) = (d.u32()?, d.u32()?);
    if ns >= SECOND_NS {
        return Ok(Err(Status::Inval));
    }
    // At most 2^32 * 10^9, well within 64 bits.
    Ok(Ok(u64::from(seconds) * u64::from(SECOND_NS) + u64::from(ns)))
}

/// set_atime, set_mtime: time_how, and the client's time where it says so.
fn set_time(d: &mut Decoder<'_>) -> Result<std::result::Result<Option<SetTime>, Status>> {
    match d.u32()? {
        0 => Ok(Ok(None)),
        1 => Ok(Ok(Some(SetTime { ns: None }))),
        2 => Ok(time(d)?.map(|ns| Some(SetTime { ns: Some(ns) }))),
        other => Err(XdrError::BadValue(other)),
    }
}

/// New attributes, or the status of attributes that cannot be.
pub(super) type NewAttr = std::result::Result<Sattr, Status>;

/// sattr3.
fn sattr(d: &mut Decoder<'_>) -> Result<NewAttr> {
    let mode = option(d, Decoder::u32)?.map(|mode| mode & MODE_BITS);
    let uid = option(d, Decoder::u32)?;
    let gid = option(d, Decoder::u32)?;
    let size = option(d, Decoder::u64)?;
    let atime = set_time(d)?;
    let mtime = set_time(d)?;
    Ok(match (atime, mtime) {
        (Ok(atime), Ok(mtime)) => Ok(Sattr { mode, uid, gid, size, atime, mtime }),
        (Err(status), _) | (_, Err(status)) => Err(status),
    })
}

/// SETATTR3args, RFC 1813 section 3.3.2.
#[derive(Debug, PartialEq)]
pub(super) struct SetAttrArgs {
    pub object: Fh,
    pub attr: NewAttr,
    /// sattrguard3: the ctime that the caller saw, ns.
    pub guard: std::result::Result<Option<u64>, Status>,
}

impl SetAttrArgs {
    pub fn decode(d: &mut Decoder<'_>) -> Result<Self> {
        let (object, attr) = (fh(d)?, sattr(d)?);
        Ok(Self { object, attr, guard: option(d, time)?.transpose() })
    }
}

/// READ3args, RFC 1813 section 3.3.6; COMMIT3args, section 3.3.21, has the same form.
#[derive(Debug, PartialEq)]
pub(super) struct RangeArgs {
    pub file: Fh,
    pub offset: u64,
    pub count: u32,
}

impl RangeArgs {
    pub fn decode(d: &mut Decoder<'_>) -> Result<Self> {
        Ok(Self { file: fh(d)?, offset: d.u64()?, count: d.u32()? })
    }
}

/// WRITE3args, RFC 1813 section 3.3.7. `stable` is checked and forgotten: every write is as stable as the
/// export's durability promises.
#[derive(Debug, PartialEq)]
pub(super) struct WriteArgs {
    pub file: Fh,
    pub offset: u64,
    pub data: Bytes,
}

impl WriteArgs {
    pub fn decode(d: &mut Decoder<'_>) -> Result<Self> {
        let (file, offset, count) = (fh(d)?, d.u64()?, d.u32()?);
        let stable = d.u32()?;
        if stable > 2 {
            return Err(XdrError::BadValue(stable));
        }
        let data = d.payload(d.remaining())?;
        if usize::try_from(count) != Ok(data.len()) {
            return Err(XdrError::BadValue(count));
        }
        Ok(Self { file, offset, data })
    }
}

/// createhow3.
#[derive(Debug, PartialEq)]
pub(super) struct CreateArgs {
    pub at: DirOp,
    pub how: How,
    pub attr: NewAttr,
    /// createverf3; 0 unless EXCLUSIVE.
    pub verifier: u64,
}

impl CreateArgs {
    /// CREATE3args, RFC 1813 section 3.3.8.
    pub fn decode(d: &mut Decoder<'_>) -> Result<Self> {
        let at = DirOp::decode(d)?;
        match d.u32()? {
            0 => Ok(Self { at, how: How::Unchecked, attr: sattr(d)?, verifier: 0 }),
            1 => Ok(Self { at, how: How::Guarded, attr: sattr(d)?, verifier: 0 }),
            2 => Ok(Self { at, how: How::Exclusive, attr: Ok(Sattr::default()), verifier: d.u64()? }),
            other => Err(XdrError::BadValue(other)),
        }
    }
}

/// MKDIR3args, RFC 1813 section 3.3.9.
#[derive(Debug, PartialEq)]
pub(super) struct MkdirArgs {
    pub at: DirOp,
    pub attr: NewAttr,
}

impl MkdirArgs {
    pub fn decode(d: &mut Decoder<'_>) -> Result<Self> {
        Ok(Self { at: DirOp::decode(d)?, attr: sattr(d)? })
    }
}

/// SYMLINK3args, RFC 1813 section 3.3.10.
#[derive(Debug, PartialEq)]
pub(super) struct SymlinkArgs {
    pub at: DirOp,
    pub attr: NewAttr,
    pub target: Bytes,
}

impl SymlinkArgs {
    pub fn decode(d: &mut Decoder<'_>) -> Result<Self> {
        Ok(Self { at: DirOp::decode(d)?, attr: sattr(d)?, target: d.string(TARGET_WIRE_MAX)? })
    }
}

/// mknoddata3: devices carry specdata3, sockets and pipes only attributes, other types nothing.
#[derive(Debug, PartialEq)]
pub(super) struct MknodArgs {
    pub at: DirOp,
    pub file_type: u32,
    pub attr: NewAttr,
    pub major: u32,
    pub minor: u32,
}

impl MknodArgs {
    /// MKNOD3args, RFC 1813 section 3.3.11. A type that MKNOD does not make has no arguments: BADTYPE.
    pub fn decode(d: &mut Decoder<'_>) -> Result<Self> {
        let (at, file_type) = (DirOp::decode(d)?, d.u32()?);
        let (attr, major, minor) = match file_type {
            ftype::CHR | ftype::BLK => (sattr(d)?, d.u32()?, d.u32()?),
            ftype::SOCK | ftype::FIFO => (sattr(d)?, 0, 0),
            ftype::REG | ftype::DIR | ftype::LNK => (Err(Status::BadType), 0, 0),
            other => return Err(XdrError::BadValue(other)),
        };
        Ok(Self { at, file_type, attr, major, minor })
    }
}

/// RENAME3args, RFC 1813 section 3.3.14.
#[derive(Debug, PartialEq)]
pub(super) struct RenameArgs {
    pub from: DirOp,
    pub to: DirOp,
}

impl RenameArgs {
    pub fn decode(d: &mut Decoder<'_>) -> Result<Self> {
        Ok(Self { from: DirOp::decode(d)?, to: DirOp::decode(d)? })
    }
}

/// LINK3args, RFC 1813 section 3.3.15.
#[derive(Debug, PartialEq)]
pub(super) struct LinkArgs {
    pub file: Fh,
    pub link: DirOp,
}

impl LinkArgs {
    pub fn decode(d: &mut Decoder<'_>) -> Result<Self> {
        Ok(Self { file: fh(d)?, link: DirOp::decode(d)? })
    }
}

/// READDIR3args, RFC 1813 section 3.3.16, and READDIRPLUS3args, section 3.3.17.
#[derive(Debug, PartialEq)]
pub(super) struct ReaddirArgs {
    pub dir: Fh,
    pub cookie: u64,
    pub cookieverf: u64,
    /// READDIRPLUS: most bytes of names, file ids and cookies. READDIR: no such bound.
    pub dircount: Option<u32>,
    /// Most bytes of READDIR3resok or READDIRPLUS3resok.
    pub maxcount: u32,
}

impl ReaddirArgs {
    pub fn decode(d: &mut Decoder<'_>, plus: bool) -> Result<Self> {
        let (dir, cookie, cookieverf) = (fh(d)?, d.u64()?, d.u64()?);
        let dircount = if plus { Some(d.u32()?) } else { None };
        Ok(Self { dir, cookie, cookieverf, dircount, maxcount: d.u32()? })
    }
}

#[cfg(test)]
#[path = "args_tests.rs"]
mod tests;
