//! Procedures that change something: a call becomes a replicated operation, its reply what `apply` returned.
//!
//! Credentials are squashed, the clock is read and the caller is named here, once; both replicas then apply the
//! same operation. A retransmission becomes an operation of the same name, which `apply` answers from its reply
//! cache. What cannot be meant at all, and everything on a read-only export, is refused without an operation.

use bytes::Bytes;
use proto::op::op::Kind;
use proto::op::{self, OP_VERSION, Op, Reply};
use replica::clock::wall_ns;
use replica::fs::{Room, Status};
use replica::handle::GroupHandle;
use replica::ids::Handle;

use super::args::{
    CreateArgs, DirOp, LinkArgs, MkdirArgs, MknodArgs, RenameArgs, SetAttrArgs, SymlinkArgs, WriteArgs,
};
use super::attr::unchanged;
use super::program::{Done, Object, Refused, Request, Undecided};
use super::reply::{Form, encode};
use crate::rpc::Responder;

/// A decoded call.
pub(super) struct Change {
    /// SETATTR, WRITE: the file. Else the directory (RENAME: the source's) whose wcc_data the reply carries.
    object: Object,
    /// RENAME: the target directory. LINK: the file.
    other: Option<Handle>,
    /// What to do, or why it cannot be.
    kind: Result<Kind, Status>,
    /// WRITE's data.
    payload: Bytes,
}

impl Change {
    fn new(object: Object, kind: Result<Kind, Status>) -> Self {
        Self { object, other: None, kind, payload: Bytes::new() }
    }
}

/// Makes a change of a call.
pub(super) type Handler = fn(&Request<'_>) -> Result<Change, Refused>;

/// Decodes, proposes, and answers when the operation's fate is known.
pub(super) fn run(rq: &Request<'_>, responder: Responder, form: Form, handler: Handler) -> Done {
    let failed = |status| encode(form, replica::ids::ExportId([0; 16]), 0, &failure(status));
    match handler(rq) {
        Ok(change) => propose(rq, responder, form, change),
        Err(Refused::Garbage(_)) => responder.garbage_args(),
        Err(Refused::Status(status)) => responder.accept(failed(status)),
        Err(Refused::Undecided) => return Err(Undecided { responder, later: failed(Status::Jukebox) }),
        Err(Refused::NotServing) => responder.close(),
    }
    Ok(())
}

/// Proposes a change and answers when its fate is known; what is refused here needs no operation.
fn propose(rq: &Request<'_>, responder: Responder, form: Form, change: Change) {
    let group = change.object.group().clone();
    let kind = if change.object.entry.policy.read_only { Err(Status::RoFs) } else { change.kind };
    let kind = match kind {
        Ok(kind) => kind,
        Err(status) => {
            let reply = unchanged_reply(&group, form, status, change.object.handle, change.other);
            return finish(&group, responder, form, &reply);
        }
    };
    let room = group.fs().room();
    if room == Room::Elsewhere && grows(&kind) {
        return responder.close();
    }
    let op = Op {
        version: OP_VERSION,
        clock_ns: wall_ns(),
        call: Some(rq.call.key()),
        cred: Some(rq.cred(&change.object)),
        no_room: room != Room::Enough,
        kind: Some(kind),
    };
    let of = group.clone();
    let done = Box::new(move |fate: Result<std::sync::Arc<Reply>, _>| match fate {
        Ok(reply) => finish(&of, responder, form, &reply),
        Err(replica::handle::NotServing) => responder.close(),
    });
    group.propose(op, change.payload, done);
}

/// May it need room? (Whether it does is decided where it is applied.)
fn grows(kind: &Kind) -> bool {
    matches!(
        kind,
        Kind::Write(_) | Kind::Create(_) | Kind::Mkdir(_) | Kind::Symlink(_) | Kind::Mknod(_) | Kind::Link(_)
    )
}

/// Encodes, checks the lease, sends: in this order.
fn finish(group: &GroupHandle, responder: Responder, form: Form, reply: &Reply) {
    let verifier = if form == Form::Write { group.fs().write_verifier() } else { 0 };
    let results = encode(form, group.id(), verifier, reply);
    if group.serving() { responder.accept(results) } else { responder.close() }
}

/// A failure about whose objects nothing is known.
fn failure(status: Status) -> Reply {
    Reply { status: status as u32, ..Reply::default() }
}

/// A failure that changed nothing: the objects as they are.
fn unchanged_reply(
    group: &GroupHandle,
    form: Form,
    status: Status,
    object: Handle,
    other: Option<Handle>,
) -> Reply {
    let attr = |handle| group.fs().getattr(handle).ok();
    let mut reply = Reply { wcc: attr(object).map(unchanged), ..failure(status) };
    let other = other.and_then(attr);
    if form == Form::Link {
        reply.attr = other;
    } else {
        reply.to_wcc = other.map(unchanged);
    }
    reply
}

/// SETATTR, RFC 1813 section 3.3.2.
pub(super) fn setattr(rq: &Request<'_>) -> Result<Change, Refused> {
    let args = SetAttrArgs::decode(&mut rq.call.decoder())?;
    let object = rq.object(&args.object)?;
    let file = Some(object.handle.into());
    let kind = args.attr.and_then(|attr| {
        Ok(Kind::SetAttr(op::SetAttr { file, attr: Some(attr), guard_ctime_ns: args.guard? }))
    });
    Ok(Change::new(object, kind))
}

/// WRITE, RFC 1813 section 3.3.7. Whatever stability is asked for, the reply says FILE_SYNC: the data is as
/// stable as the export's durability promises before it is answered. Data past wtmax is left to the client.
pub(super) fn write(rq: &Request<'_>) -> Result<Change, Refused> {
    let mut args = WriteArgs::decode(&mut rq.call.decoder())?;
    let object = rq.object(&args.file)?;
    args.data.truncate(rq.io_bytes_max() as usize);
    let kind = Kind::Write(op::Write { file: Some(object.handle.into()), offset: args.offset });
    Ok(Change { payload: args.data, ..Change::new(object, Ok(kind)) })
}

/// CREATE, RFC 1813 section 3.3.8.
pub(super) fn create(rq: &Request<'_>) -> Result<Change, Refused> {
    let args = CreateArgs::decode(&mut rq.call.decoder())?;
    let dir = rq.object(&args.at.dir)?;
    let kind = args.attr.map(|attr| {
        Kind::Create(op::Create {
            dir: Some(dir.handle.into()),
            name: args.at.name,
            how: args.how.into(),
            attr: Some(attr),
            exclusive_verifier: args.verifier,
        })
    });
    Ok(Change::new(dir, kind))
}

/// MKDIR, RFC 1813 section 3.3.9.
pub(super) fn mkdir(rq: &Request<'_>) -> Result<Change, Refused> {
    let args = MkdirArgs::decode(&mut rq.call.decoder())?;
    let dir = rq.object(&args.at.dir)?;
    let at = Some(dir.handle.into());
    let kind = args.attr.map(|attr| Kind::Mkdir(op::Mkdir { dir: at, name: args.at.name, attr: Some(attr) }));
    Ok(Change::new(dir, kind))
}

/// SYMLINK, RFC 1813 section 3.3.10.
pub(super) fn symlink(rq: &Request<'_>) -> Result<Change, Refused> {
    let args = SymlinkArgs::decode(&mut rq.call.decoder())?;
    let dir = rq.object(&args.at.dir)?;
    let (at, name, target) = (Some(dir.handle.into()), args.at.name, args.target);
    let kind = args.attr.map(|attr| Kind::Symlink(op::Symlink { dir: at, name, attr: Some(attr), target }));
    Ok(Change::new(dir, kind))
}

/// MKNOD, RFC 1813 section 3.3.11. Types with procedures of their own are NFS3ERR_BADTYPE.
pub(super) fn mknod(rq: &Request<'_>) -> Result<Change, Refused> {
    let args = MknodArgs::decode(&mut rq.call.decoder())?;
    let dir = rq.object(&args.at.dir)?;
    let kind = args.attr.map(|attr| {
        Kind::Mknod(op::Mknod {
            dir: Some(dir.handle.into()),
            name: args.at.name,
            file_type: args.file_type,
            attr: Some(attr),
            major: args.major,
            minor: args.minor,
        })
    });
    Ok(Change::new(dir, kind))
}

/// REMOVE, RFC 1813 section 3.3.12.
pub(super) fn remove(rq: &Request<'_>) -> Result<Change, Refused> {
    let at = DirOp::decode(&mut rq.call.decoder())?;
    let dir = rq.object(&at.dir)?;
    let kind = Kind::Remove(op::Remove { dir: Some(dir.handle.into()), name: at.name });
    Ok(Change::new(dir, Ok(kind)))
}

/// RMDIR, RFC 1813 section 3.3.13.
pub(super) fn rmdir(rq: &Request<'_>) -> Result<Change, Refused> {
    let at = DirOp::decode(&mut rq.call.decoder())?;
    let dir = rq.object(&at.dir)?;
    let kind = Kind::Rmdir(op::Rmdir { dir: Some(dir.handle.into()), name: at.name });
    Ok(Change::new(dir, Ok(kind)))
}

/// RENAME, RFC 1813 section 3.3.14. From one export to another: NFS3ERR_XDEV.
pub(super) fn rename(rq: &Request<'_>) -> Result<Change, Refused> {
    let args = RenameArgs::decode(&mut rq.call.decoder())?;
    let (from, to) = (rq.object(&args.from.dir)?, rq.object(&args.to.dir)?);
    if from.export() != to.export() {
        return Ok(Change::new(from, Err(Status::XDev)));
    }
    let kind = Kind::Rename(op::Rename {
        from_dir: Some(from.handle.into()),
        from_name: args.from.name,
        to_dir: Some(to.handle.into()),
        to_name: args.to.name,
    });
    Ok(Change { other: Some(to.handle), ..Change::new(from, Ok(kind)) })
}

/// LINK, RFC 1813 section 3.3.15. From one export to another: NFS3ERR_XDEV.
pub(super) fn link(rq: &Request<'_>) -> Result<Change, Refused> {
    let args = LinkArgs::decode(&mut rq.call.decoder())?;
    let (file, dir) = (rq.object(&args.file)?, rq.object(&args.link.dir)?);
    if file.export() != dir.export() {
        return Ok(Change::new(dir, Err(Status::XDev)));
    }
    let (of, at) = (Some(file.handle.into()), Some(dir.handle.into()));
    let kind = Kind::Link(op::Link { file: of, dir: at, name: args.link.name });
    Ok(Change { other: Some(file.handle), ..Change::new(dir, Ok(kind)) })
}
