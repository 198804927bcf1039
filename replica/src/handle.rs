//! What the front end sees of an export: applied state to read, a way to propose, and the lease.
//!
//! A reply may leave only if [`GroupHandle::serving`] holds *after* it was evaluated (receive, evaluate, check
//! the lease, send). Where it does not hold nothing is answered and the connection is closed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use crossbeam_channel::Sender;
use proto::op::{Op, Reply};

use crate::clock::monotonic_ns;
use crate::fs::Fs;
use crate::ids::ExportId;
use crate::planted::{Planted, planted};

/// This node does not serve the export (any more): answer nothing, close the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this node does not serve the export")]
pub struct NotServing;

/// Called once, from the apply thread, when the operation's fate is known. It must not block.
pub type Completion = Box<dyn FnOnce(Result<Arc<Reply>, NotServing>) + Send>;

/// An operation on its way into the log.
pub struct Proposal {
    /// What to do; see `proto/hanfs/op.proto`.
    pub op: Op,
    /// WRITE's data: a slice of the record it came in; else empty.
    pub payload: Bytes,
    /// Who waits.
    pub done: Completion,
}

/// Until when this node may answer for an export, on [`monotonic_ns`]. Written by the group's loop only.
#[derive(Debug, Default)]
pub struct LeaseCell {
    until_ns: AtomicU64,
}

impl LeaseCell {
    /// The lease holds until then. Never shortens it within one term; [`Self::revoke`] ends it.
    pub fn extend(&self, until_ns: u64) {
        self.until_ns.fetch_max(until_ns, Ordering::AcqRel);
    }

    /// The lease is over, now.
    pub fn revoke(&self) {
        self.until_ns.store(0, Ordering::Release);
    }

    /// When it ends; 0 where there is none.
    pub fn until_ns(&self) -> u64 {
        self.until_ns.load(Ordering::Acquire)
    }
}

/// One export as the front end sees it. Cheap to clone.
#[derive(Clone)]
pub struct GroupHandle {
    inner: Arc<Inner>,
}

struct Inner {
    id: ExportId,
    path: String,
    fs: Arc<Fs>,
    lease: Arc<LeaseCell>,
    proposals: Sender<Proposal>,
}

impl GroupHandle {
    /// Puts the parts together. `proposals` leads to the group's loop (in tests: to anything that applies).
    pub fn new(
        id: ExportId,
        path: String,
        fs: Arc<Fs>,
        lease: Arc<LeaseCell>,
        proposals: Sender<Proposal>,
    ) -> Self {
        Self { inner: Arc::new(Inner { id, path, fs, lease, proposals }) }
    }

    /// The export's id: the first part of each of its file handles.
    pub fn id(&self) -> ExportId {
        self.inner.id
    }

    /// The path name that a client mounts, `/` first.
    pub fn path(&self) -> &str {
        &self.inner.path
    }

    /// Applied state.
    pub fn fs(&self) -> &Fs {
        &self.inner.fs
    }

    /// May a reply be sent at this instant?
    pub fn serving(&self) -> bool {
        // Planted: a lease never ends.
        monotonic_ns() < self.inner.lease.until_ns() || planted(Planted::IgnoreLease)
    }

    /// Proposes an operation. `done` is always called; with [`NotServing`] where it is not known to be
    /// committed by this node (it may still be, later, by another).
    pub fn propose(&self, op: Op, payload: Bytes, done: Completion) {
        if let Err(back) = self.inner.proposals.send(Proposal { op, payload, done }) {
            (back.0.done)(Err(NotServing));
        }
    }
}
