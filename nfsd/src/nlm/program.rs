//! Dispatch: which procedure of which version is what, and which way its results go.

use std::ops::RangeInclusive;
use std::sync::Arc;

use super::args::{Res, Version, cookie};
use super::change::{self, Handler};
use super::outward::Outward;
use super::ports::Service;
use super::results::res;
use super::test;
use crate::exports::{Exports, Refusal};
use crate::nfs3::Request;
use crate::rpc::{Call, Program, Responder, Transport};
use crate::xdr::{self, Encoder};
use replica::fs::locks::LockStatus;

/// Program number, RFC 1813 appendix II section 5.1.
pub const PROGRAM: u32 = 100_021;
/// The versions that are served. Version 2 is version 1 under another number.
pub const VERSIONS: RangeInclusive<u32> = 1..=4;

/// Procedure numbers, RFC 1813 appendix II section 5.2 and X/Open XNFS chapter 10; the same in all versions.
pub(super) mod procedure {
    pub const NULL: u32 = 0;
    pub const TEST: u32 = 1;
    pub const LOCK: u32 = 2;
    pub const CANCEL: u32 = 3;
    pub const UNLOCK: u32 = 4;
    pub const GRANTED: u32 = 5;
    pub const TEST_MSG: u32 = 6;
    pub const LOCK_MSG: u32 = 7;
    pub const CANCEL_MSG: u32 = 8;
    pub const UNLOCK_MSG: u32 = 9;
    pub const GRANTED_MSG: u32 = 10;
    pub const TEST_RES: u32 = 11;
    pub const LOCK_RES: u32 = 12;
    pub const CANCEL_RES: u32 = 13;
    pub const UNLOCK_RES: u32 = 14;
    pub const GRANTED_RES: u32 = 15;
    /// From here on: versions 3 and 4 only.
    pub const SHARE: u32 = 20;
    pub const UNSHARE: u32 = 21;
    pub const NM_LOCK: u32 = 22;
    pub const FREE_ALL: u32 = 23;
}

/// The lock manager of one service. Cheap to clone.
#[derive(Clone)]
pub struct Nlm {
    exports: Arc<Exports>,
    outward: Arc<Outward>,
}

/// Which way results go.
struct Back {
    responder: Responder,
    /// The procedure of the caller's that the results are sent to, of an asynchronous call; else they are the reply.
    to: Option<(Arc<Outward>, Service, u32)>,
}

impl Back {
    /// `None`: nothing may be said.
    fn send(self, results: Option<Encoder>) {
        match (results, self.to) {
            (None, _) => self.responder.close(),
            (Some(results), None) => self.responder.accept(results),
            (Some(results), Some((outward, service, number))) => {
                self.responder.accept(nothing());
                outward.answer(service, number, results);
            }
        }
    }
}

/// The results of a procedure that has none.
fn nothing() -> Encoder {
    Encoder::with_capacity(0)
}

impl Nlm {
    /// Locks files of these exports.
    pub(crate) fn new(exports: Arc<Exports>, outward: Arc<Outward>) -> Arc<Self> {
        Arc::new(Self { exports, outward })
    }

    /// For an asynchronous call: `number` is the `_RES` procedure that takes its results.
    fn back(&self, call: &Call, responder: Responder, number: Option<u32>) -> Back {
        let client = call.client.ip().to_canonical();
        let (program, version, transport) = (PROGRAM, call.version, call.transport);
        let service = Service { client, program, version, transport };
        Back { responder, to: number.map(|number| (self.outward.clone(), service, number)) }
    }

    fn change(&self, call: &Call, responder: Responder, number: Option<u32>, handler: Handler) {
        let rq = Request::new(&self.exports, call);
        let change = match change::Planned::new(&rq, Version::of(call.version), handler) {
            Ok(change) => change,
            Err(_) => return responder.garbage_args(),
        };
        let back = self.back(call, responder, number);
        change.run(&rq, move |results| back.send(results));
    }

    fn test(&self, call: &Call, responder: Responder, number: Option<u32>) {
        match test::test(&Request::new(&self.exports, call), Version::of(call.version)) {
            Ok(results) => self.back(call, responder, number).send(results),
            Err(_) => responder.garbage_args(),
        }
    }

    /// GRANTED: somebody takes this server for a client. It waits for no lock, and says so as every lock manager does:
    /// the other side then gives the lock to the next.
    fn granted(call: &Call) -> xdr::Result<Encoder> {
        Ok(res(Version::of(call.version), &cookie(&mut call.decoder())?, LockStatus::Denied))
    }

    /// FREE_ALL: a client without a status monitor has restarted. As knfsd: who it is, its address says, not the name.
    fn free_all(&self, call: &Call, responder: Responder) {
        if super::args::NotifyArgs::decode(&mut call.decoder()).is_err() {
            return responder.garbage_args();
        }
        let client = change::client_of(call);
        change::free_all(&self.exports, call, |_| vec![client.clone()], 0, responder);
    }
}

/// A reply of success, or GARBAGE_ARGS.
fn answer(responder: Responder, results: xdr::Result<Encoder>) {
    match results {
        Ok(results) => responder.accept(results),
        Err(_) => responder.garbage_args(),
    }
}

impl Program for Nlm {
    /// As for NFS: where a client's name has yet to be found out, its call waits for that, but not a datagram, whose
    /// sender may be made up.
    fn call(&self, call: Call, responder: Responder) {
        let undecided = self.exports.refusal_by_all(&call) == Some(Refusal::Undecided);
        if undecided && call.transport == Transport::Tcp {
            let this = self.clone();
            tokio::spawn(async move {
                this.exports.decided(&call).await;
                this.take(call, responder);
            });
        } else {
            self.take(call, responder);
        }
    }
}

impl Nlm {
    fn take(&self, call: Call, responder: Responder) {
        use procedure::*;
        tracing::trace!(xid = call.xid, procedure = call.procedure, client = %call.client, "NLM call");
        let shares = Version::of(call.version) != Version::V1;
        match call.procedure {
            // RFC 1813 appendix II section 5.2.0.
            NULL => responder.accept(nothing()),
            TEST => self.test(&call, responder, None),
            LOCK => self.change(&call, responder, None, change::lock),
            CANCEL => self.change(&call, responder, None, change::cancel),
            UNLOCK => self.change(&call, responder, None, change::unlock),
            GRANTED => answer(responder, Self::granted(&call)),
            TEST_MSG => self.test(&call, responder, Some(TEST_RES)),
            LOCK_MSG => self.change(&call, responder, Some(LOCK_RES), change::lock),
            CANCEL_MSG => self.change(&call, responder, Some(CANCEL_RES), change::cancel),
            UNLOCK_MSG => self.change(&call, responder, Some(UNLOCK_RES), change::unlock),
            // Taken note of: this server asks nobody for a lock, and calls GRANTED back in the form that has an answer.
            GRANTED_MSG => answer(responder, Self::granted(&call).map(|_| nothing())),
            TEST_RES | LOCK_RES | CANCEL_RES | UNLOCK_RES | GRANTED_RES => {
                answer(responder, Res::decode(&mut call.decoder()).map(|_| nothing()));
            }
            SHARE if shares => self.change(&call, responder, None, change::share),
            UNSHARE if shares => self.change(&call, responder, None, change::unshare),
            NM_LOCK if shares => self.change(&call, responder, None, change::nm_lock),
            FREE_ALL if shares => self.free_all(&call, responder),
            _ => responder.proc_unavail(),
        }
    }
}
