//! Procedures that change nothing, answered at once from applied state.

use nfsserve::nfs::{FSF_CANSETTIME, FSF_HOMOGENEOUS, FSF_LINK, FSF_SYMLINK};
use proto::op::Attr;
use replica::fs::{FILE_SIZE_MAX, Failed, LINK_MAX, NAME_MAX, Status, access as bits, ftype};

use super::args::{DirOp, RangeArgs, fh};
use super::attr::{POST_OP_ATTR, attributes, post_op, unchanged, wcc};
use super::limits::IO_MULTIPLE;
use super::program::{Answer, Object, Refused, Request};
use super::reply::handle_of;
use crate::handle;
use crate::rpc::ReplyBody;
use crate::xdr::Encoder;

/// What no client of a read-only export may do, ACCESS3 bits.
const CHANGES: u32 = bits::MODIFY | bits::EXTEND | bits::DELETE;

/// Encodes results whose failed form is the object's post_op_attr: all but GETATTR and COMMIT.
pub(super) fn answer<T>(
    object: &Object,
    found: Result<T, Failed>,
    ok: impl FnOnce(&mut Encoder, T),
) -> Result<Answer, Refused> {
    let mut e = Encoder::new();
    match found {
        Ok(value) => {
            e.u32(Status::Ok as u32);
            ok(&mut e, value);
        }
        Err(failed) => {
            e.u32(failed.status as u32);
            post_op(&mut e, object.export(), failed.attr.as_ref());
        }
    }
    Ok(Answer { group: object.group().clone(), body: e.into() })
}

/// The object's attributes, for procedures about the file system rather than the object.
fn attr_of(object: &Object) -> Result<Attr, Failed> {
    object.group().fs().getattr(object.handle).map_err(|status| Failed { status, attr: None })
}

/// GETATTR, RFC 1813 section 3.3.1.
pub(super) fn getattr(rq: &Request<'_>) -> Result<Answer, Refused> {
    let object = rq.object(&fh(&mut rq.call.decoder())?)?;
    let mut e = Encoder::with_capacity(POST_OP_ATTR);
    match object.group().fs().getattr(object.handle) {
        Ok(attr) => {
            e.u32(Status::Ok as u32);
            attributes(&mut e, object.export(), &attr);
        }
        Err(status) => {
            e.u32(status as u32);
        }
    }
    Ok(Answer { group: object.entry.handle, body: e.into() })
}

/// LOOKUP, RFC 1813 section 3.3.3. `.` and `..` are names like others; `..` of the root is the root.
pub(super) fn lookup(rq: &Request<'_>) -> Result<Answer, Refused> {
    let at = DirOp::decode(&mut rq.call.decoder())?;
    let dir = rq.object(&at.dir)?;
    let found = dir.group().fs().lookup(&rq.cred(&dir), dir.handle, &at.name);
    answer(&dir, found, |e, found| {
        e.opaque(&handle::encode(dir.export(), handle_of(&found.attr)));
        post_op(e, dir.export(), Some(&found.attr));
        post_op(e, dir.export(), Some(&found.dir));
    })
}

/// ACCESS, RFC 1813 section 3.3.4. On a read-only export nobody may change anything.
pub(super) fn access(rq: &Request<'_>) -> Result<Answer, Refused> {
    let mut d = rq.call.decoder();
    let (object, mut wanted) = (rq.object(&fh(&mut d)?), d.u32()?);
    let object = object?;
    if object.entry.policy.read_only {
        wanted &= !CHANGES;
    }
    let granted = object.group().fs().access(&rq.cred(&object), object.handle, wanted);
    answer(&object, granted, |e, (granted, attr)| {
        post_op(e, object.export(), Some(&attr));
        e.u32(granted);
    })
}

/// READLINK, RFC 1813 section 3.3.5.
pub(super) fn readlink(rq: &Request<'_>) -> Result<Answer, Refused> {
    let object = rq.object(&fh(&mut rq.call.decoder())?)?;
    let found = object.group().fs().readlink(&rq.cred(&object), object.handle);
    answer(&object, found, |e, (target, attr)| {
        post_op(e, object.export(), Some(&attr));
        e.opaque(&target);
    })
}

/// READ, RFC 1813 section 3.3.6. The data goes out as it came from the file, without a copy.
pub(super) fn read(rq: &Request<'_>) -> Result<Answer, Refused> {
    let args = RangeArgs::decode(&mut rq.call.decoder())?;
    let file = rq.object(&args.file)?;
    let count = args.count.min(rq.io_bytes_max());
    let found = file.group().fs().read(&rq.cred(&file), file.handle, args.offset, count);
    let found = match found {
        Ok(found) => found,
        Err(failed) => return answer(&file, Err::<(), _>(failed), |_, ()| {}),
    };
    let len = u32::try_from(found.data.len()).expect("a read returns at most what it was asked for");
    let mut e = Encoder::with_capacity(POST_OP_ATTR + 16);
    e.u32(Status::Ok as u32);
    post_op(&mut e, file.export(), Some(&found.attr));
    e.u32(len).bool(found.eof).u32(len);
    Ok(Answer { group: file.entry.handle, body: ReplyBody::with_payload(e, found.data) })
}

/// FSSTAT, RFC 1813 section 3.3.18. No space is kept back for root, so what is free is available; the figures
/// may change at any time (invarsec 0).
pub(super) fn fsstat(rq: &Request<'_>) -> Result<Answer, Refused> {
    let object = rq.object(&fh(&mut rq.call.decoder())?)?;
    let found = attr_of(&object).and_then(|attr| match object.group().fs().fsstat() {
        Ok(stat) => Ok((stat, attr)),
        Err(status) => Err(Failed { status, attr: Some(attr) }),
    });
    answer(&object, found, |e, (stat, attr)| {
        post_op(e, object.export(), Some(&attr));
        e.u64(stat.total_bytes).u64(stat.free_bytes).u64(stat.free_bytes);
        e.u64(stat.total_files).u64(stat.free_files).u64(stat.free_files);
        e.u32(0);
    })
}

/// FSINFO, RFC 1813 section 3.3.19.
pub(super) fn fsinfo(rq: &Request<'_>) -> Result<Answer, Refused> {
    let object = rq.object(&fh(&mut rq.call.decoder())?)?;
    answer(&object, attr_of(&object), |e, attr| {
        post_op(e, object.export(), Some(&attr));
        // rtmax, rtpref, rtmult; wtmax, wtpref, wtmult; dtpref.
        e.u32(rq.io_bytes_max()).u32(rq.io_bytes_max()).u32(IO_MULTIPLE);
        e.u32(rq.io_bytes_max()).u32(rq.io_bytes_max()).u32(IO_MULTIPLE);
        e.u32(rq.dir_bytes_max()).u64(FILE_SIZE_MAX);
        // time_delta: 0 s, 1 ns.
        e.u32(0).u32(1);
        e.u32(FSF_LINK | FSF_SYMLINK | FSF_HOMOGENEOUS | FSF_CANSETTIME);
    })
}

/// PATHCONF, RFC 1813 section 3.3.20: the same for every object (FSF_HOMOGENEOUS).
pub(super) fn pathconf(rq: &Request<'_>) -> Result<Answer, Refused> {
    let object = rq.object(&fh(&mut rq.call.decoder())?)?;
    answer(&object, attr_of(&object), |e, attr| {
        post_op(e, object.export(), Some(&attr));
        e.u32(LINK_MAX).u32(NAME_MAX as u32);
        // no_trunc, chown_restricted, case_insensitive, case_preserving.
        e.bool(true).bool(true).bool(false).bool(true);
    })
}

/// COMMIT, RFC 1813 section 3.3.21. Every acknowledged WRITE is stable already, so there is nothing to do for
/// any range. The RFC leaves open what a COMMIT of anything but a regular file gets: NFS3ERR_INVAL here.
pub(super) fn commit(rq: &Request<'_>) -> Result<Answer, Refused> {
    let file = rq.object(&RangeArgs::decode(&mut rq.call.decoder())?.file)?;
    let attr = file.group().fs().getattr(file.handle);
    let status = match &attr {
        Ok(attr) if attr.file_type == ftype::REG => Status::Ok,
        Ok(_) => Status::Inval,
        Err(status) => *status,
    };
    let mut e = Encoder::new();
    e.u32(status as u32);
    wcc(&mut e, file.export(), attr.ok().map(unchanged).as_ref());
    if status == Status::Ok {
        e.u64(file.group().fs().write_verifier());
    }
    Ok(Answer { group: file.entry.handle, body: e.into() })
}
