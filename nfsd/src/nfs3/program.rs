//! Dispatch: from a call to its handler, from a handle's bytes to an object, from an outcome to an answer.
//!
//! Whom no export of the service admits hears NFS3ERR_ACCES, whatever handle it guesses. A call whose
//! client's name decides and is not known yet waits for it, 2 s at most, on its own: no other call waits with
//! it. If it is still not known then, the answer is NFS3ERR_JUKEBOX, after which clients ask again, and no
//! program sees an error.

use std::sync::Arc;

use bytes::Bytes;
use replica::fs::Status;
use replica::handle::GroupHandle;
use replica::ids::{ExportId, Handle};

use super::limits::{DIR_BYTES_MAX, IO_BYTES_MAX, UDP_BYTES_MAX};
use super::reply::Form;
use super::{change, read, readdir};
use crate::exports::{ExportEntry, Exports, Refusal};
use crate::handle;
use crate::rpc::{Call, Program, ReplyBody, Responder, Transport};
use crate::xdr::{Encoder, XdrError};

/// Procedure numbers, RFC 1813 section 3.
mod procedure {
    pub const NULL: u32 = 0;
    pub const GETATTR: u32 = 1;
    pub const SETATTR: u32 = 2;
    pub const LOOKUP: u32 = 3;
    pub const ACCESS: u32 = 4;
    pub const READLINK: u32 = 5;
    pub const READ: u32 = 6;
    pub const WRITE: u32 = 7;
    pub const CREATE: u32 = 8;
    pub const MKDIR: u32 = 9;
    pub const SYMLINK: u32 = 10;
    pub const MKNOD: u32 = 11;
    pub const REMOVE: u32 = 12;
    pub const RMDIR: u32 = 13;
    pub const RENAME: u32 = 14;
    pub const LINK: u32 = 15;
    pub const READDIR: u32 = 16;
    pub const READDIRPLUS: u32 = 17;
    pub const FSSTAT: u32 = 18;
    pub const FSINFO: u32 = 19;
    pub const PATHCONF: u32 = 20;
    pub const COMMIT: u32 = 21;
}

/// NFS v3 over the exports of one service. Cheap to clone.
#[derive(Clone)]
pub struct Nfs3 {
    exports: Arc<Exports>,
}

/// Why a handler has nothing to ask the file system.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Refused {
    /// The arguments do not decode.
    Garbage(XdrError),
    /// They do, but the object cannot be named, or the call cannot be meant.
    Status(Status),
    /// The client may be admitted, by a name that is not known yet.
    Undecided,
    /// Nothing may be said.
    NotServing,
}

impl From<XdrError> for Refused {
    fn from(e: XdrError) -> Self {
        Self::Garbage(e)
    }
}

impl From<Status> for Refused {
    fn from(status: Status) -> Self {
        Self::Status(status)
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Unknown => Self::Status(Status::Stale),
            Refusal::Denied => Self::Status(Status::Acces),
            Refusal::Undecided => Self::Undecided,
            Refusal::NotServing => Self::NotServing,
        }
    }
}

/// A call on its way through a handler.
pub(crate) struct Request<'a> {
    exports: &'a Exports,
    pub call: &'a Call,
}

/// What a handle names, whether it is still there or not.
pub(crate) struct Object {
    pub entry: ExportEntry,
    pub handle: Handle,
}

impl Object {
    pub fn export(&self) -> ExportId {
        self.entry.handle.id()
    }

    pub fn group(&self) -> &GroupHandle {
        &self.entry.handle
    }
}

impl<'a> Request<'a> {
    /// A call to any program that names objects by file handles.
    pub fn new(exports: &'a Exports, call: &'a Call) -> Self {
        Self { exports, call }
    }

    /// The object of a handle: ACCES if its export does not admit the caller, STALE if its export is not
    /// here, BADHANDLE if this server never gave it out; the latter two only to callers whom some export
    /// admits.
    pub fn object(&self, fh: &Bytes) -> Result<Object, Refused> {
        let Ok((export, handle)) = handle::decode(fh) else { return Err(self.nowhere(Status::BadHandle)) };
        match self.exports.admit(export, self.call) {
            Ok(entry) => Ok(Object { entry, handle }),
            Err(Refusal::Unknown) => Err(self.nowhere(Status::Stale)),
            Err(refusal) => Err(refusal.into()),
        }
    }

    fn nowhere(&self, status: Status) -> Refused {
        self.exports.refusal_by_all(self.call).map_or(Refused::Status(status), Refused::from)
    }

    /// Most data of one READ or WRITE over the transport that the call came by, bytes.
    pub fn io_bytes_max(&self) -> u32 {
        match self.call.transport {
            Transport::Tcp => IO_BYTES_MAX,
            Transport::Udp => UDP_BYTES_MAX,
        }
    }

    /// Most results of one READDIR or READDIRPLUS over that transport, bytes.
    pub fn dir_bytes_max(&self) -> u32 {
        self.io_bytes_max().min(DIR_BYTES_MAX)
    }

    /// The caller, as the object's export sees it.
    pub fn cred(&self, object: &Object) -> proto::op::Cred {
        object.entry.policy.squash(&self.call.cred)
    }
}

/// What a procedure found in applied state. It leaves only if the export is served after it was found.
pub(super) struct Answer {
    pub group: GroupHandle,
    pub body: ReplyBody,
}

/// A call whose client is not decided about: it is taken anew, or answered with `later`.
pub(super) struct Undecided {
    pub responder: Responder,
    /// The procedure's failed results, with NFS3ERR_JUKEBOX.
    pub later: Encoder,
}

/// The call is answered, or will be; or not yet.
pub(super) type Done = Result<(), Undecided>;

/// A handler of a procedure that changes nothing.
type Inline = fn(&Request<'_>) -> Result<Answer, Refused>;

impl Nfs3 {
    /// Serves these exports.
    pub fn new(exports: impl Into<Arc<Exports>>) -> Self {
        Self { exports: exports.into() }
    }

    /// Answers at once. `optional` is how many optional parts (post_op_attr, pre_op_attr) the failed results
    /// have; without an object none is known.
    fn inline(&self, call: &Call, responder: Responder, optional: usize, handler: Inline) -> Done {
        let failed = |status: Status| {
            let mut e = Encoder::with_capacity(16);
            e.u32(status as u32);
            for _ in 0..optional {
                e.bool(false);
            }
            e
        };
        match handler(&Request { exports: &self.exports, call }) {
            Ok(answer) if answer.group.serving() => responder.accept(answer.body),
            Ok(_) | Err(Refused::NotServing) => responder.close(),
            Err(Refused::Garbage(_)) => responder.garbage_args(),
            Err(Refused::Status(status)) => responder.accept(failed(status)),
            Err(Refused::Undecided) => return Err(Undecided { responder, later: failed(Status::Jukebox) }),
        }
        Ok(())
    }

    /// Answers when the operation is committed and applied.
    fn change(&self, call: &Call, responder: Responder, form: Form, handler: change::Handler) -> Done {
        change::run(&Request { exports: &self.exports, call }, responder, form, handler)
    }

    /// Waits for the name of the call's client, then takes the call anew. A datagram is not waited with:
    /// whoever sent it may have made its address up.
    fn wait(&self, call: Call, undecided: Undecided) {
        if call.transport == Transport::Udp {
            return undecided.responder.accept(undecided.later);
        }
        let this = self.clone();
        tokio::spawn(async move {
            this.exports.decided(&call).await;
            if let Err(undecided) = this.take(&call, undecided.responder) {
                undecided.responder.accept(undecided.later);
            }
        });
    }

    fn take(&self, call: &Call, responder: Responder) -> Done {
        use procedure::*;
        match call.procedure {
            // RFC 1813 section 3.3.0.
            NULL => {
                responder.accept(Encoder::with_capacity(0));
                Ok(())
            }
            GETATTR => self.inline(call, responder, 0, read::getattr),
            SETATTR => self.change(call, responder, Form::Wcc, change::setattr),
            LOOKUP => self.inline(call, responder, 1, read::lookup),
            ACCESS => self.inline(call, responder, 1, read::access),
            READLINK => self.inline(call, responder, 1, read::readlink),
            READ => self.inline(call, responder, 1, read::read),
            WRITE => self.change(call, responder, Form::Write, change::write),
            CREATE => self.change(call, responder, Form::Made, change::create),
            MKDIR => self.change(call, responder, Form::Made, change::mkdir),
            SYMLINK => self.change(call, responder, Form::Made, change::symlink),
            MKNOD => self.change(call, responder, Form::Made, change::mknod),
            REMOVE => self.change(call, responder, Form::Wcc, change::remove),
            RMDIR => self.change(call, responder, Form::Wcc, change::rmdir),
            RENAME => self.change(call, responder, Form::Rename, change::rename),
            LINK => self.change(call, responder, Form::Link, change::link),
            READDIR => self.inline(call, responder, 1, readdir::readdir),
            READDIRPLUS => self.inline(call, responder, 1, readdir::readdirplus),
            FSSTAT => self.inline(call, responder, 1, read::fsstat),
            FSINFO => self.inline(call, responder, 1, read::fsinfo),
            PATHCONF => self.inline(call, responder, 1, read::pathconf),
            COMMIT => self.inline(call, responder, 2, read::commit),
            _ => {
                responder.proc_unavail();
                Ok(())
            }
        }
    }
}

impl Program for Nfs3 {
    /// Nothing large is said without a file handle, and those have an export's random id in them.
    fn answers_strangers(&self) -> bool {
        false
    }

    fn call(&self, call: Call, responder: Responder) {
        tracing::trace!(xid = call.xid, procedure = call.procedure, client = %call.client, "NFS call");
        if let Err(undecided) = self.take(&call, responder) {
            self.wait(call, undecided);
        }
    }
}
