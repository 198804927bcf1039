//! An ordered scan over all layers.
//!
//! The frozen table and redb's snapshot are immutable, so the scan walks them at leisure. The memtable is
//! copied out in batches, under the lock. When a freeze comes between two batches, the memtable has become
//! the frozen table: the scan takes all layers anew and goes on after the last key.

use std::collections::btree_map;
use std::iter::Peekable;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use redb::{OwnedAccessGuard, OwnedRange};

use super::db::Snapshot;
use super::{Frozen, Kv, StoreError};

/// Memtable entries copied at first, then doubled: most ranges are short.
const BATCH_FIRST: usize = 16;
/// Memtable entries copied at most under one lock.
const BATCH_MAX: usize = 256;

type Row = &'static [u8];
type Change = (Bytes, Option<Bytes>);

/// What [`Kv::range`] does.
pub(super) fn range(
    kv: &Kv,
    from: &[u8],
    to: &[u8],
    visit: &mut dyn FnMut(&[u8], &Bytes) -> bool,
) -> Result<(), StoreError> {
    if from >= to {
        return Ok(());
    }
    let mut last: Option<Vec<u8>> = None;
    loop {
        let view = View::take(kv);
        let start = last.as_deref().map_or(Bound::Included(from), Bound::Excluded);
        match Scan::new(kv, &view, start, to)?.run(visit)? {
            End::Done => return Ok(()),
            End::Frozen(reached) => last = reached.or(last),
        }
    }
}

/// The immutable layers, and which memtable goes with them.
struct View {
    frozen: Option<Arc<Frozen>>,
    snapshot: Arc<Snapshot>,
    freezes: u64,
}

impl View {
    fn take(kv: &Kv) -> Self {
        let layers = kv.layers.read();
        Self { frozen: layers.frozen.clone(), snapshot: layers.snapshot.clone(), freezes: layers.freezes }
    }
}

/// Why a scan ended.
enum End {
    /// The range is through, or the visitor had enough.
    Done,
    /// A freeze came between, after this key (`None`: before the first one).
    Frozen(Option<Vec<u8>>),
}

/// The heads of the layers.
struct Scan<'a> {
    kv: &'a Kv,
    freezes: u64,
    start: Bound<&'a [u8]>,
    to: &'a [u8],
    mem: std::vec::IntoIter<Change>,
    /// The last key of the memtable's batch; the next batch starts after it.
    mem_last: Option<Bytes>,
    mem_end: bool,
    batch: usize,
    frozen: Option<Peekable<btree_map::Range<'a, Bytes, Option<Bytes>>>>,
    clean: OwnedRange<Row, Row>,
    clean_head: Option<(OwnedAccessGuard<Row>, OwnedAccessGuard<Row>)>,
    last: Option<Vec<u8>>,
}

impl<'a> Scan<'a> {
    fn new(kv: &'a Kv, view: &'a View, start: Bound<&'a [u8]>, to: &'a [u8]) -> Result<Self, StoreError> {
        let clean = kv.db.range(&view.snapshot, (start, Bound::Excluded(to)))?;
        Ok(Self {
            kv,
            freezes: view.freezes,
            start,
            to,
            mem: Vec::new().into_iter(),
            mem_last: None,
            mem_end: false,
            batch: BATCH_FIRST,
            frozen: view.frozen.as_deref().map(|frozen| frozen.table.range(start, to).peekable()),
            clean,
            clean_head: None,
            last: None,
        })
    }

    fn run(mut self, visit: &mut dyn FnMut(&[u8], &Bytes) -> bool) -> Result<End, StoreError> {
        self.pull_clean()?;
        loop {
            if self.mem.len() == 0 && !self.mem_end && !self.pull_mem() {
                return Ok(End::Frozen(self.last));
            }
            let Some((in_mem, in_frozen, in_clean)) = self.least() else {
                return Ok(End::Done);
            };
            let mem = if in_mem { self.mem.next() } else { None };
            let frozen = if in_frozen { self.frozen.as_mut().and_then(Iterator::next) } else { None };
            let clean = if in_clean { self.clean_head.take() } else { None };
            if in_clean {
                self.pull_clean()?;
            }
            let go_on = match (&mem, frozen, &clean) {
                (Some((key, value)), _, _) | (None, Some((key, value)), _) => {
                    remember(&mut self.last, key);
                    value.as_ref().is_none_or(|value| visit(key, value))
                }
                (None, None, Some((key, value))) => {
                    remember(&mut self.last, key.value());
                    visit(key.value(), &Bytes::copy_from_slice(value.value()))
                }
                (None, None, None) => true,
            };
            if !go_on {
                return Ok(End::Done);
            }
        }
    }

    /// Which heads have the least key.
    fn least(&mut self) -> Option<(bool, bool, bool)> {
        let mem = self.mem.as_slice().first().map(|(key, _)| &key[..]);
        let frozen = self.frozen.as_mut().and_then(Peekable::peek).map(|(key, _)| &key[..]);
        let clean = self.clean_head.as_ref().map(|(key, _)| key.value());
        let least = [mem, frozen, clean].into_iter().flatten().min()?;
        Some((mem == Some(least), frozen == Some(least), clean == Some(least)))
    }

    fn pull_clean(&mut self) -> Result<(), StoreError> {
        self.clean_head = self.clean.next().transpose().map_err(self.kv.db.error("read"))?;
        Ok(())
    }

    /// The next batch of the memtable; false: it has been frozen since.
    fn pull_mem(&mut self) -> bool {
        let layers = self.kv.layers.read();
        if layers.freezes != self.freezes {
            return false;
        }
        let start = self.mem_last.as_deref().map_or(self.start, Bound::Excluded);
        let changes = layers.mem.range(start, self.to).take(self.batch);
        let batch: Vec<Change> = changes.map(|(key, value)| (key.clone(), value.clone())).collect();
        drop(layers);
        match batch.last() {
            Some((key, _)) if batch.len() == self.batch => self.mem_last = Some(key.clone()),
            _ => self.mem_end = true,
        }
        self.batch = (self.batch * 2).min(BATCH_MAX);
        self.mem = batch.into_iter();
        true
    }
}

fn remember(last: &mut Option<Vec<u8>>, key: &[u8]) {
    let last = last.get_or_insert_with(Vec::new);
    last.clear();
    last.extend_from_slice(key);
}
