//! What a connection's task and the responders of its calls share: the replies to be written, and the account
//! of what is in flight.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::task::Waker;

use parking_lot::Mutex;
use replica::clock::monotonic_ns;

use super::budget::Budget;
use super::reply::{Outcome, ReplySink, Wire};
use crate::service::Tuple;

#[derive(Default)]
struct Outbox {
    replies: VecDeque<Wire>,
    /// Set only while the task sleeps, so that replies made by the task itself cost no wake-up.
    sleeper: Option<Waker>,
    /// The connection is to be closed.
    close: bool,
    /// The task has ended: replies have nowhere to go.
    gone: bool,
}

/// One TCP connection, seen from outside its task.
pub(crate) struct Connection {
    pub(crate) id: u64,
    pub(crate) tuple: Tuple,
    budget: Arc<Budget>,
    outbox: Mutex<Outbox>,
    /// Calls taken whose replies are not written yet.
    calls: AtomicUsize,
    /// Bytes of those calls and replies.
    bytes: AtomicUsize,
    calls_total: AtomicU64,
    active_ns: AtomicU64,
    /// Bytes of a record that is still coming in, where they count; see [`Self::hold`].
    unfinished: AtomicUsize,
    /// When that record last got on, on [`monotonic_ns`]; 0: there is none, or it is not being read.
    unfinished_ns: AtomicU64,
    /// It carries NFS.
    nfs: AtomicBool,
    /// A reply was written after it was seen to carry NFS.
    replied: AtomicBool,
}

impl Connection {
    pub(crate) fn new(id: u64, tuple: Tuple, budget: Arc<Budget>) -> Self {
        Self {
            id,
            tuple,
            budget,
            outbox: Mutex::default(),
            calls: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            calls_total: AtomicU64::new(0),
            active_ns: AtomicU64::new(monotonic_ns()),
            unfinished: AtomicUsize::new(0),
            unfinished_ns: AtomicU64::new(0),
            nfs: AtomicBool::new(false),
            replied: AtomicBool::new(false),
        }
    }

    /// Calls in flight.
    pub(crate) fn calls(&self) -> usize {
        self.calls.load(SeqCst)
    }

    /// Bytes in flight.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(SeqCst)
    }

    /// Calls taken since the connection was accepted.
    pub(crate) fn calls_total(&self) -> u64 {
        self.calls_total.load(Relaxed)
    }

    /// When the last bytes came, or were about to go, on [`monotonic_ns`].
    pub(crate) fn active_ns(&self) -> u64 {
        self.active_ns.load(Relaxed)
    }

    pub(crate) fn touch(&self) {
        self.active_ns.store(monotonic_ns(), Relaxed);
    }

    /// So many bytes of an unfinished record are in memory: they count as if its call were in flight. Only the
    /// connection's task calls this.
    pub(crate) fn hold(&self, bytes: usize) {
        let before = self.unfinished.swap(bytes, Relaxed);
        if bytes > before {
            self.budget.take(bytes - before);
        } else if bytes < before {
            self.budget.give_back(before - bytes);
        }
    }

    /// A record has begun or got on at this time; 0: it is whole, or not being read.
    pub(crate) fn set_unfinished_ns(&self, now_ns: u64) {
        self.unfinished_ns.store(now_ns, Relaxed);
    }

    /// Has it been in the middle of a record, without getting on, since before this time?
    pub(crate) fn is_stalled(&self, before_ns: u64) -> bool {
        let since = self.unfinished_ns.load(Relaxed);
        since != 0 && since < before_ns
    }

    /// A call of `bytes` is taken: from here on it is in flight.
    pub(crate) fn begin(&self, bytes: usize) {
        self.calls.fetch_add(1, SeqCst);
        self.bytes.fetch_add(bytes, SeqCst);
        self.budget.take(bytes);
    }

    /// It is not taken after all.
    pub(crate) fn undo_begin(&self, bytes: usize) {
        self.release(bytes);
        self.calls.fetch_sub(1, SeqCst);
    }

    /// A call went to its program.
    pub(crate) fn count_call(&self) {
        self.calls_total.fetch_add(1, Relaxed);
    }

    /// A call of NFS other than NULL came over it.
    pub(crate) fn carries_nfs(&self) {
        self.nfs.store(true, Relaxed);
    }

    /// A reply was written: true once, for the first one on a connection that carries NFS.
    pub(crate) fn is_first_reply(&self) -> bool {
        self.nfs.load(Relaxed) && !self.replied.swap(true, Relaxed)
    }

    /// A reply is written: its call is no longer in flight.
    pub(crate) fn written(&self, reply: &Wire) {
        self.undo_begin(reply.len());
    }

    fn release(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, SeqCst);
        self.budget.give_back(bytes);
    }

    /// Moves the replies that wait to `writing`; false: close the connection.
    pub(crate) fn collect(&self, writing: &mut VecDeque<Wire>) -> bool {
        let mut outbox = self.outbox.lock();
        outbox.sleeper = None;
        writing.append(&mut outbox.replies);
        !outbox.close
    }

    /// The task is about to sleep. False where there is a reason not to: a reply, an order to close, or
    /// `changed`, which is looked at under the same lock that [`Self::wake`] takes.
    pub(crate) fn sleep(&self, waker: &Waker, changed: impl FnOnce() -> bool) -> bool {
        let mut outbox = self.outbox.lock();
        if !outbox.replies.is_empty() || outbox.close || changed() {
            return false;
        }
        outbox.sleeper = Some(waker.clone());
        true
    }

    /// Makes the task look around.
    pub(crate) fn wake(&self) {
        let sleeper = self.outbox.lock().sleeper.take();
        if let Some(waker) = sleeper {
            waker.wake();
        }
    }

    /// Makes the task close the connection; false: it is about to, already.
    pub(crate) fn close(&self) -> bool {
        let before = std::mem::replace(&mut self.outbox.lock().close, true);
        self.wake();
        !before
    }

    /// The task has ended, `writing` was not written.
    pub(crate) fn end(&self, writing: &mut VecDeque<Wire>) {
        {
            let mut outbox = self.outbox.lock();
            outbox.gone = true;
            writing.append(&mut outbox.replies);
        }
        writing.drain(..).for_each(|reply| self.written(&reply));
        self.hold(0);
        self.set_unfinished_ns(0);
        self.budget.forget(self.id);
    }
}

impl ReplySink for Connection {
    fn settle(&self, request_bytes: usize, outcome: Outcome) {
        let sleeper = {
            let mut outbox = self.outbox.lock();
            match outcome {
                Outcome::Reply(wire) if !outbox.gone => {
                    self.bytes.fetch_add(wire.len(), SeqCst);
                    self.budget.take(wire.len());
                    outbox.replies.push_back(wire);
                }
                Outcome::Reply(_) | Outcome::Close => {
                    outbox.close = true;
                    self.calls.fetch_sub(1, SeqCst);
                }
            }
            outbox.sleeper.take()
        };
        self.release(request_bytes);
        if let Some(waker) = sleeper {
            waker.wake();
        }
    }
}
