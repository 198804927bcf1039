//! Attributes as they go out: fattr3, wcc_data and their optional forms, RFC 1813 section 2.6.
//!
//! Types and their encoding are `nfsserve`'s; each value is written to the stack first and goes into the reply
//! in one piece.

use nfsserve::nfs::{fattr3, ftype3, nfstime3, specdata3, wcc_attr};
use nfsserve::xdr::XDR;
use proto::op::{Attr, PreAttr, Wcc};
use replica::fs::ftype;
use replica::ids::ExportId;

use crate::xdr::Encoder;

/// Length of fattr3, bytes.
const FATTR3: usize = 84;
/// Length of wcc_attr, bytes.
const WCC_ATTR: usize = 24;
/// Length of a post_op_attr that is present, bytes.
pub(super) const POST_OP_ATTR: usize = 4 + FATTR3;

/// Length of a wcc_data that is present, bytes.
pub(super) const WCC_DATA: usize = 4 + WCC_ATTR + POST_OP_ATTR;

/// fattr3's fsid: the halves of the export's id folded, so the same on both nodes for ever.
pub(super) fn fsid(export: ExportId) -> u64 {
    let id = u128::from_be_bytes(export.0);
    (id >> 64) as u64 ^ id as u64
}

/// A time in ns since 1970. nfstime3 ends in 2106; later times stay there.
fn time(ns: u64) -> nfstime3 {
    let seconds = u32::try_from(ns / 1_000_000_000).unwrap_or(u32::MAX);
    nfstime3 { seconds, nseconds: (ns % 1_000_000_000) as u32 }
}

/// ftype3. The state machine knows no others; a regular file stands in for one.
fn file_type(value: u32) -> ftype3 {
    match value {
        ftype::DIR => ftype3::NF3DIR,
        ftype::BLK => ftype3::NF3BLK,
        ftype::CHR => ftype3::NF3CHR,
        ftype::LNK => ftype3::NF3LNK,
        ftype::SOCK => ftype3::NF3SOCK,
        ftype::FIFO => ftype3::NF3FIFO,
        _ => ftype3::NF3REG,
    }
}

fn fattr(export: ExportId, attr: &Attr) -> fattr3 {
    fattr3 {
        ftype: file_type(attr.file_type),
        mode: attr.mode,
        nlink: attr.nlink,
        uid: attr.uid,
        gid: attr.gid,
        size: attr.size,
        used: attr.used,
        rdev: specdata3 { specdata1: attr.major, specdata2: attr.minor },
        fsid: fsid(export),
        fileid: attr.file_id,
        atime: time(attr.atime_ns),
        mtime: time(attr.mtime_ns),
        ctime: time(attr.ctime_ns),
    }
}

/// Encodes a value that is `N` bytes long.
fn put<const N: usize>(e: &mut Encoder, value: &impl XDR) {
    let mut bytes = [0; N];
    let mut rest = bytes.as_mut_slice();
    value.serialize(&mut rest).expect("the value's length is the buffer's");
    assert!(rest.is_empty(), "the value's length is the buffer's");
    e.fixed(&bytes);
}

/// fattr3.
pub(super) fn attributes(e: &mut Encoder, export: ExportId, attr: &Attr) {
    put::<FATTR3>(e, &fattr(export, attr));
}

/// post_op_attr.
pub(super) fn post_op(e: &mut Encoder, export: ExportId, attr: Option<&Attr>) {
    e.bool(attr.is_some());
    if let Some(attr) = attr {
        attributes(e, export, attr);
    }
}

/// pre_op_attr.
fn pre_op(e: &mut Encoder, attr: Option<&PreAttr>) {
    e.bool(attr.is_some());
    if let Some(a) = attr {
        let value = wcc_attr { size: a.size, mtime: time(a.mtime_ns), ctime: time(a.ctime_ns) };
        put::<WCC_ATTR>(e, &value);
    }
}

/// wcc_data.
pub(super) fn wcc(e: &mut Encoder, export: ExportId, wcc: Option<&Wcc>) {
    pre_op(e, wcc.and_then(|w| w.before.as_ref()));
    post_op(e, export, wcc.and_then(|w| w.after.as_ref()));
}

/// wcc_data of an object that the call did not change: before is after.
pub(super) fn unchanged(attr: Attr) -> Wcc {
    let before = PreAttr { size: attr.size, mtime_ns: attr.mtime_ns, ctime_ns: attr.ctime_ns };
    Wcc { before: Some(before), after: Some(attr) }
}

#[cfg(test)]
#[path = "attr_tests.rs"]
mod tests;
