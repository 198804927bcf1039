//! Results of the procedures that change something, made of what `apply` returned.
//!
//! The same [`Reply`] always gives the same bytes: nothing here looks at state, so a retransmission that the
//! reply cache answers gets what the original got. One exception: WRITE's verifier is the incarnation's, so the
//! answer to a retransmission after a takeover carries the new one; it says FILE_SYNC, and clients keep a
//! verifier only for what they must still commit.

use proto::op::{Attr, Reply};
use replica::fs::Status;
use replica::ids::{ExportId, FileId, Handle};

use super::attr::{POST_OP_ATTR, WCC_DATA, post_op, wcc};
use crate::handle::{self, HANDLE_BYTES};
use crate::xdr::Encoder;

/// stable_how FILE_SYNC, RFC 1813 section 3.3.7: the data is as stable as the export's durability promises,
/// and so is the size.
pub(super) const FILE_SYNC: u32 = 2;

/// Longest results, bytes: CREATE's, with a handle, attributes and wcc_data. One buffer holds them.
const RESULTS_MAX: usize = 4 + (4 + 4 + HANDLE_BYTES) + POST_OP_ATTR + WCC_DATA;

/// Form of the results.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// SETATTR: wcc_data of the object. REMOVE and RMDIR: of the directory.
    Wcc,
    /// WRITE.
    Write,
    /// CREATE, MKDIR, SYMLINK, MKNOD: the object, and wcc_data of the directory.
    Made,
    /// RENAME: wcc_data of both directories.
    Rename,
    /// LINK: the object's attributes and wcc_data of the directory.
    Link,
}

/// The object that an attribute record describes.
pub(super) fn handle_of(attr: &Attr) -> Handle {
    Handle { file: FileId(attr.file_id), generation: attr.generation }
}

/// post_op_fh3 and post_op_attr of a new object.
fn made(e: &mut Encoder, export: ExportId, attr: Option<&Attr>) {
    e.bool(attr.is_some());
    if let Some(attr) = attr {
        e.opaque(&handle::encode(export, handle_of(attr)));
    }
    post_op(e, export, attr);
}

/// Encodes a reply. `verifier` is used by WRITE alone.
pub(super) fn encode(form: Form, export: ExportId, verifier: u64, reply: &Reply) -> Encoder {
    let mut e = Encoder::with_capacity(RESULTS_MAX);
    e.u32(reply.status);
    let ok = reply.status == Status::Ok as u32;
    match form {
        Form::Made if ok => made(&mut e, export, reply.attr.as_ref()),
        Form::Link => post_op(&mut e, export, reply.attr.as_ref()),
        _ => {}
    }
    wcc(&mut e, export, reply.wcc.as_ref());
    match form {
        Form::Rename => wcc(&mut e, export, reply.to_wcc.as_ref()),
        Form::Write if ok => {
            e.u32(reply.count).u32(FILE_SYNC).u64(verifier);
        }
        _ => {}
    }
    e
}

#[cfg(test)]
#[path = "reply_tests.rs"]
mod tests;
