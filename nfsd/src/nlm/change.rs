//! Procedures that change the lock state: a call becomes a replicated operation, its results what `apply` returned.
//!
//! As in `nfs3::change`, the caller is named here and both replicas apply the same: a retransmission (same xid) is
//! answered from the reply cache, and a call that is repeated under a new xid, as Linux repeats a LOCK that waits,
//! meets a state that knows it already.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use proto::op::op::Kind;
use proto::op::{self, LockOwner, OP_VERSION, Op, Reply};
use replica::clock::wall_ns;
use replica::fs::Status;
use replica::fs::locks::{COOKIE_MAX, LockStatus, Owner};
use replica::handle::NotServing;

use super::args::{CancelArgs, Lock, LockArgs, ShareArgs, UnlockArgs, Version};
use super::results::{res, share_res};
use crate::exports::{Exports, Shown};
use crate::nfs3::{Object, Refused, Request};
use crate::rpc::{Call, Responder, Transport};
use crate::xdr::{self, Encoder};

/// fsa_W: the access bit of a share that writes.
const SHARE_WRITES: u32 = 2;

/// A decoded call.
pub(super) struct Change {
    cookie: Bytes,
    /// SHARE and UNSHARE have a longer form of results.
    share: bool,
    /// What to do and to which object, or why it cannot be; `None`: nothing may be said.
    what: Result<(Object, Kind), Option<LockStatus>>,
}

/// Makes a change of a call.
pub(super) type Handler = fn(&Request<'_>, Version) -> xdr::Result<Change>;

/// A change that decoded.
pub(super) struct Planned {
    version: Version,
    change: Change,
}

impl Planned {
    /// Decodes.
    pub fn new(rq: &Request<'_>, version: Version, handler: Handler) -> xdr::Result<Self> {
        Ok(Self { version, change: handler(rq, version)? })
    }

    /// Proposes, and hands over the results when the operation's fate is known: `None` where nothing may be said.
    pub fn run(self, rq: &Request<'_>, done: impl FnOnce(Option<Encoder>) + Send + 'static) {
        let Change { cookie, share, what } = self.change;
        let version = self.version;
        let results =
            move |stat| if share { share_res(version, &cookie, stat) } else { res(version, &cookie, stat) };
        let (object, kind) = match what {
            Ok(what) => what,
            Err(stat) => return done(stat.map(results)),
        };
        let group = object.group().clone();
        let op = Op { cred: Some(rq.cred(&object)), ..operation(rq.call, kind) };
        let of = group.clone();
        let answered = move |fate: Result<Arc<Reply>, NotServing>| {
            let results = fate.ok().map(|reply| results(stat_of(&reply)));
            done(results.filter(|_| of.serving()));
        };
        group.propose(op, Bytes::new(), Box::new(answered));
    }
}

/// An operation of this call.
fn operation(call: &Call, kind: Kind) -> Op {
    Op { version: OP_VERSION, clock_ns: wall_ns(), call: Some(call.key()), kind: Some(kind), ..Op::default() }
}

/// What `apply` said.
fn stat_of(reply: &Reply) -> LockStatus {
    let stat = reply.lock.as_ref().and_then(|lock| LockStatus::from_u32(lock.stat));
    stat.unwrap_or(LockStatus::Failed)
}

/// What NLM says where NFS would say this about a file handle or a caller; `None`: nothing may be said. A client whose name
/// is not known yet is told of a grace period, after which it asks again.
pub(super) fn lock_status(refused: Refused) -> Option<LockStatus> {
    match refused {
        Refused::Status(Status::Stale) => Some(LockStatus::Stale),
        Refused::Status(Status::RoFs) => Some(LockStatus::ReadOnly),
        Refused::Undecided => Some(LockStatus::Grace),
        Refused::Status(_) | Refused::Garbage(_) => Some(LockStatus::Failed),
        Refused::NotServing => None,
    }
}

/// knfsd opens the file for writing where the lock is exclusive, so a read-only export has none of these.
pub(super) fn refuse_read_only(object: &Object, exclusive: bool) -> Result<(), LockStatus> {
    if exclusive && object.entry.policy.read_only { Err(LockStatus::ReadOnly) } else { Ok(()) }
}

/// The owner, for TEST.
pub(super) fn owner_of(call: &Call, lock: &Lock) -> Owner {
    Owner { client: client_of(call), svid: lock.svid, oh: lock.oh.clone() }
}

/// The caller's address as the state has it: canonical, 4 or 16 bytes, without the port.
pub(crate) fn client_of(call: &Call) -> Bytes {
    call.key().client
}

/// The owner, for an operation.
fn lock_owner(call: &Call, lock: &Lock) -> LockOwner {
    LockOwner {
        client: client_of(call),
        svid: lock.svid,
        oh: lock.oh.clone(),
        caller_name: lock.caller.clone(),
    }
}

/// An operation on the object of a handle.
fn on(
    rq: &Request<'_>,
    fh: &Bytes,
    kind: impl FnOnce(&Object) -> Result<Kind, LockStatus>,
) -> Result<(Object, Kind), Option<LockStatus>> {
    let object = rq.object(fh).map_err(lock_status)?;
    let kind = kind(&object).map_err(Some)?;
    Ok((object, kind))
}

/// NLM4_LOCK, RFC 1813 appendix II section 5.2.2.
pub(super) fn lock(rq: &Request<'_>, version: Version) -> xdr::Result<Change> {
    take(rq, version, false)
}

/// NLM4_NM_LOCK, RFC 1813 appendix II section 5.2.8: as LOCK, but the client is not to be monitored.
pub(super) fn nm_lock(rq: &Request<'_>, version: Version) -> xdr::Result<Change> {
    take(rq, version, true)
}

fn take(rq: &Request<'_>, version: Version, unmonitored: bool) -> xdr::Result<Change> {
    let args = LockArgs::decode(&mut rq.call.decoder(), version)?;
    let nlm_version = match version {
        Version::V1 => 1,
        Version::V3 => 3,
        Version::V4 => 4,
    };
    let what = on(rq, &args.lock.fh, |object| {
        refuse_read_only(object, args.exclusive)?;
        Ok(Kind::Lock(op::Lock {
            file: Some(object.handle.into()),
            owner: Some(lock_owner(rq.call, &args.lock)),
            exclusive: args.exclusive,
            offset: args.lock.offset,
            length: args.lock.length,
            block: args.block,
            reclaim: args.reclaim,
            // Only told back, and nobody looks at a longer one.
            cookie: if args.cookie.len() <= COOKIE_MAX { args.cookie.clone() } else { Bytes::new() },
            udp: rq.call.transport == Transport::Udp,
            nlm_version,
            nsm_state: args.state,
            unmonitored,
        }))
    });
    Ok(Change { cookie: args.cookie, share: false, what })
}

/// NLM4_UNLOCK, RFC 1813 appendix II section 5.2.4.
pub(super) fn unlock(rq: &Request<'_>, version: Version) -> xdr::Result<Change> {
    let args = UnlockArgs::decode(&mut rq.call.decoder(), version)?;
    let what = on(rq, &args.lock.fh, |object| {
        let (file, owner) = (Some(object.handle.into()), Some(lock_owner(rq.call, &args.lock)));
        let (offset, length) = (args.lock.offset, args.lock.length);
        Ok(Kind::Unlock(op::Unlock { file, owner, offset, length }))
    });
    Ok(Change { cookie: args.cookie, share: false, what })
}

/// NLM4_CANCEL, RFC 1813 appendix II section 5.2.3.
pub(super) fn cancel(rq: &Request<'_>, version: Version) -> xdr::Result<Change> {
    let args = CancelArgs::decode(&mut rq.call.decoder(), version)?;
    let what = on(rq, &args.lock.fh, |object| {
        let (file, owner) = (Some(object.handle.into()), Some(lock_owner(rq.call, &args.lock)));
        let (exclusive, offset, length) = (args.exclusive, args.lock.offset, args.lock.length);
        Ok(Kind::LockCancel(op::LockCancel { file, owner, exclusive, offset, length }))
    });
    Ok(Change { cookie: args.cookie, share: false, what })
}

/// The owner of a share reservation.
fn share_owner(call: &Call, args: &ShareArgs) -> LockOwner {
    LockOwner { client: client_of(call), svid: 0, oh: args.oh.clone(), caller_name: args.caller.clone() }
}

/// NLM4_SHARE, RFC 1813 appendix II section 5.2.6.
pub(super) fn share(rq: &Request<'_>, _version: Version) -> xdr::Result<Change> {
    let args = ShareArgs::decode(&mut rq.call.decoder())?;
    let what = on(rq, &args.fh, |object| {
        refuse_read_only(object, args.access & SHARE_WRITES != 0)?;
        let (file, owner) = (Some(object.handle.into()), Some(share_owner(rq.call, &args)));
        let (mode, access, reclaim) = (args.mode, args.access, args.reclaim);
        Ok(Kind::Share(op::Share { file, owner, mode, access, reclaim, nsm_state: 0 }))
    });
    Ok(Change { cookie: args.cookie, share: true, what })
}

/// NLM4_UNSHARE, RFC 1813 appendix II section 5.2.7.
pub(super) fn unshare(rq: &Request<'_>, _version: Version) -> xdr::Result<Change> {
    let args = ShareArgs::decode(&mut rq.call.decoder())?;
    let what = on(rq, &args.fh, |object| {
        let (file, owner) = (Some(object.handle.into()), Some(share_owner(rq.call, &args)));
        Ok(Kind::Unshare(op::Unshare { file, owner }))
    });
    Ok(Change { cookie: args.cookie, share: true, what })
}

/// Frees what `clients` hold in every export of a service (an export, client pair each), then answers with nothing in it.
/// Only of clients that are known there: a stranger's word costs no place in the log, and none in the reply cache. Who may
/// not use an export (any more) can only give up what is its own.
/// `nsm_state`: the state that they are in now; what was locked in it stays. 0: everything goes.
pub(crate) fn free_all(
    exports: &Exports,
    call: &Call,
    clients: impl Fn(&Shown) -> Vec<Bytes>,
    nsm_state: u32,
    responder: Responder,
) {
    let mut proposals = Vec::new();
    for export in exports.all() {
        let known = export.handle.fs().lock_hosts();
        let (admitted, own) = (export.admit(call).is_ok(), client_of(call));
        for client in clients(export) {
            if !known.iter().any(|host| host.client == client) || !(admitted || client == own) {
                continue;
            }
            let mut op = operation(call, Kind::FreeAll(op::FreeAll { client: client.clone(), nsm_state }));
            // One call, several operations: each needs a name of its own in the reply cache.
            if let Some(key) = op.call.as_mut() {
                key.checksum ^= xxhash_rust::xxh3::xxh3_64(&client);
            }
            proposals.push((export.handle.clone(), op));
        }
    }
    if proposals.is_empty() {
        // That there is nothing to do is an answer, too: only under the lease.
        let serving = exports.all().iter().all(|export| export.handle.serving());
        return if serving { responder.accept(Encoder::with_capacity(0)) } else { responder.close() };
    }
    let rest = Arc::new(Mutex::new((proposals.len(), true, Some(responder))));
    for (group, op) in proposals {
        let (of, rest) = (group.clone(), rest.clone());
        let done = move |fate: Result<Arc<Reply>, NotServing>| finish(&rest, fate.is_ok() && of.serving(), 1);
        group.propose(op, Bytes::new(), Box::new(done));
    }
}

/// `count` more of them are done; the last one answers.
fn finish(rest: &Mutex<(usize, bool, Option<Responder>)>, good: bool, count: usize) {
    let mut rest = rest.lock();
    rest.0 = rest.0.saturating_sub(count);
    rest.1 &= good;
    if rest.0 == 0
        && let Some(responder) = rest.2.take()
    {
        if rest.1 { responder.accept(Encoder::with_capacity(0)) } else { responder.close() }
    }
}

/// An address as the state has it, for messages.
pub(super) fn shown(client: &[u8]) -> String {
    super::outward::address(client).map_or_else(|| "?".into(), |ip: IpAddr| ip.to_string())
}
