//! What all connections together may keep in memory, and who waits for some of it to come free.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Waker};

use parking_lot::Mutex;

/// Bytes of requests and replies in memory, over all services of a server.
#[derive(Debug)]
pub(crate) struct Budget {
    limit: usize,
    used: AtomicUsize,
    waiting: Mutex<HashMap<u64, Waker>>,
}

impl Budget {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, used: AtomicUsize::new(0), waiting: Mutex::default() }
    }

    /// Bytes in memory.
    pub(crate) fn used(&self) -> usize {
        self.used.load(SeqCst)
    }

    pub(crate) fn is_exhausted(&self) -> bool {
        self.used() >= self.limit
    }

    pub(crate) fn take(&self, bytes: usize) {
        self.used.fetch_add(bytes, SeqCst);
    }

    /// Gives back what was taken. Whoever crosses the limit downwards wakes all that wait: they are registered
    /// before they look at the limit, so none is missed.
    pub(crate) fn give_back(&self, bytes: usize) {
        let before = self.used.fetch_sub(bytes, SeqCst);
        assert!(before >= bytes, "more bytes given back than were taken");
        if before >= self.limit && before - bytes < self.limit {
            let waiting = std::mem::take(&mut *self.waiting.lock());
            waiting.into_values().for_each(Waker::wake);
        }
    }

    /// Is it exhausted? Then `cx` is woken when it no longer is. `id` names who waits.
    pub(crate) fn poll_exhausted(&self, id: u64, cx: &Context<'_>) -> bool {
        if !self.is_exhausted() {
            return false;
        }
        let mut waiting = self.waiting.lock();
        waiting.insert(id, cx.waker().clone());
        let still = self.is_exhausted();
        if !still {
            waiting.remove(&id);
        }
        still
    }

    /// `id` is gone.
    pub(crate) fn forget(&self, id: u64) {
        self.waiting.lock().remove(&id);
    }
}
