//! Metadata of an export: ordered byte keys and values, a working set in memory over redb.
//!
//! Layers, newest first; a read takes the first that knows the key:
//!
//! ```text
//! memtable   changes since the last freeze           written by one thread, apply
//! frozen     changes of the checkpoint in progress   immutable, dropped once it is durable
//! cache      clean values and known absences         bounded in bytes, any thread fills it
//! snapshot   redb's read transaction at the last durable checkpoint
//! ```
//!
//! Invariants:
//! - Nothing reaches `meta.redb` but in [`Kv::write_frozen`]: one transaction holds the frozen changes, the
//!   format version and the checkpoint's (index, term). A crash at any point leaves the last checkpoint.
//! - A key that differs from the snapshot is in the memtable or in the frozen table. So the cache may hold an
//!   old value of such a key: it is shadowed. Before the frozen table is dropped its values go to the cache,
//!   and a value read from an older snapshot never gets in afterwards (`Kv::fill`).
//! - No lock is held across a disk access or a callback. The lock around the layers is held for one look-up,
//!   one insertion, or one batch of a range; the fs layer's own lock is what makes several calls consistent.
//! - Key order is byte order in every layer: nothing of the host or of a hash gets into a range.
//!
//! Memory: the memtable and the frozen table are bounded by when checkpoints are taken, the cache by its
//! options, redb by [`REDB_CACHE_BYTES`]; none grows with the number of files.

mod backend;
mod db;
mod image;
mod memtable;
mod range;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::RwLock;
use quick_cache::Weighter;
use quick_cache::sync::{Cache, DefaultLifecycle};

use self::db::{Db, Snapshot};
use self::memtable::Memtable;
use super::OpenError;
use crate::disk::Disk;
use crate::log::{LogIndex, Term};
use crate::random::HashState;

pub use self::db::{FORMAT, REDB_CACHE_BYTES};
pub use self::image::{Image, KvWriter};

/// Memory of an entry besides the bytes of key and value: two `Bytes` (32 each) with the shared part and
/// allocator overhead of both, and the map's or the cache's own node.
const ENTRY_OVERHEAD_BYTES: u64 = 192;
/// What an entry of the cache is expected to weigh; it sizes the cache's tables only.
const ENTRY_EXPECTED_BYTES: u64 = 384;

/// The store.
pub struct Kv {
    db: Db,
    layers: RwLock<Layers>,
    cache: Cache<Bytes, Option<Bytes>, EntryWeight, HashState>,
}

/// What a reader needs at one instant.
struct Layers {
    mem: Memtable,
    frozen: Option<Arc<Frozen>>,
    snapshot: Arc<Snapshot>,
    /// Freezes so far: tells a range that its memtable has become the frozen one.
    freezes: u64,
}

/// Changes of the checkpoint in progress.
struct Frozen {
    table: Memtable,
    index: LogIndex,
    term: Term,
}

/// Reading or writing `meta.redb` failed. For a checkpoint this means a dead disk: stop, never retry.
#[derive(Debug, thiserror::Error)]
#[error("{what} {path}: {source}")]
pub struct StoreError {
    /// The verb.
    pub what: &'static str,
    /// The file.
    pub path: String,
    /// What redb said.
    #[source]
    pub source: Box<redb::Error>,
}

impl From<StoreError> for std::io::Error {
    fn from(error: StoreError) -> Self {
        let kind = match &*error.source {
            redb::Error::Io(source) => source.kind(),
            redb::Error::Corrupted(_) => std::io::ErrorKind::InvalidData,
            _ => std::io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}

#[derive(Clone)]
struct EntryWeight;

impl Weighter<Bytes, Option<Bytes>> for EntryWeight {
    fn weight(&self, key: &Bytes, value: &Option<Bytes>) -> u64 {
        entry_bytes(key, value.as_ref())
    }
}

/// Bytes of memory that an entry takes; a deletion or a known absence has no value.
fn entry_bytes(key: &Bytes, value: Option<&Bytes>) -> u64 {
    ENTRY_OVERHEAD_BYTES + key.len() as u64 + value.map_or(0, |v| v.len() as u64)
}

impl Kv {
    /// Opens the file of this name (makes it where it is missing) and says which entry its last durable checkpoint stands
    /// at (0, 0 when new). `cache_bytes` bounds clean values in memory.
    pub fn open(
        disk: &Arc<dyn Disk>,
        name: &Path,
        cache_bytes: u64,
    ) -> Result<(Self, LogIndex, Term), OpenError> {
        let (db, checkpoint) = Db::open(disk, name)?;
        let snapshot = Arc::new(db.snapshot()?);
        let layers = Layers { mem: Memtable::default(), frozen: None, snapshot, freezes: 0 };
        let entries = usize::try_from(cache_bytes / ENTRY_EXPECTED_BYTES).unwrap_or(usize::MAX);
        let (hash, lifecycle) = (HashState::default(), DefaultLifecycle::default());
        let cache = Cache::with(entries, cache_bytes, EntryWeight, hash, lifecycle);
        Ok((Self { db, layers: RwLock::new(layers), cache }, checkpoint.index, checkpoint.term))
    }

    /// The value, from the newest layer that knows the key. No lock is held on return; a hit in memory
    /// neither allocates nor touches redb.
    pub fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        {
            let layers = self.layers.read();
            if let Some(value) = layers.get_changed(key) {
                return Ok(value);
            }
        }
        if let Some(value) = self.cache.get(key) {
            return Ok(value);
        }
        let snapshot = self.layers.read().snapshot.clone();
        let value = self.db.get(&snapshot, key)?;
        self.fill(&snapshot, key, value.as_ref());
        Ok(value)
    }

    /// Caches what `snapshot` says of a key, unless a newer snapshot is in place: then the key may have
    /// changed, and the cache may already hold what it is now.
    fn fill(&self, snapshot: &Snapshot, key: &[u8], value: Option<&Bytes>) {
        let layers = self.layers.read();
        if layers.snapshot.generation == snapshot.generation {
            self.cache.insert(Bytes::copy_from_slice(key), value.cloned());
        }
    }

    /// Sets a key. Key and value should own their buffers: a slice of a large record would pin the record
    /// until the checkpoint.
    pub fn put(&self, key: Bytes, value: Bytes) {
        self.layers.write().mem.insert(key, Some(value));
    }

    /// Deletes a key, there or not.
    pub fn delete(&self, key: Bytes) {
        self.layers.write().mem.insert(key, None);
    }

    /// Visits the live keys of `from..to` in order for as long as `visit` says true. No lock is held while
    /// `visit` runs, so it may call [`Self::get`] and even change keys (a change ahead of it may be seen).
    ///
    /// Costs a descent into each layer, then what it passes over: the keys visited and those deleted since
    /// the last checkpoint. It does not fill the cache, so that a scan evicts nothing.
    pub fn range(
        &self,
        from: &[u8],
        to: &[u8],
        visit: &mut dyn FnMut(&[u8], &Bytes) -> bool,
    ) -> Result<(), StoreError> {
        range::range(self, from, to, visit)
    }

    /// Bytes changed since the last [`Self::freeze`].
    pub fn dirty_bytes(&self) -> u64 {
        self.layers.read().mem.bytes()
    }

    /// Bytes of the checkpoint in progress, 0 between checkpoints.
    pub fn frozen_bytes(&self) -> u64 {
        self.layers.read().frozen.as_ref().map_or(0, |frozen| frozen.table.bytes())
    }

    /// What changed becomes frozen as of (index, term); later changes belong to the next checkpoint. O(1).
    ///
    /// # Panics
    /// Where the last frozen changes were not written: checkpoints are one at a time, and after a failed one
    /// the replica stops.
    pub fn freeze(&self, index: LogIndex, term: Term) {
        let mut layers = self.layers.write();
        assert!(layers.frozen.is_none(), "a checkpoint starts while one is in progress");
        let table = std::mem::take(&mut layers.mem);
        layers.frozen = Some(Arc::new(Frozen { table, index, term }));
        layers.freezes += 1;
    }

    /// Writes the frozen changes, the format version and the checkpoint's (index, term) as one durable
    /// transaction; nothing to do where nothing is frozen. Serving and apply go on meanwhile.
    pub fn write_frozen(&self) -> Result<(), StoreError> {
        let Some(frozen) = self.layers.read().frozen.clone() else {
            return Ok(());
        };
        self.db.write(&frozen)?;
        // First no older value can get into the cache any more, then it learns the new ones, and only then
        // does the frozen table stop shadowing it.
        let mut snapshot = Arc::new(self.db.snapshot()?);
        std::mem::swap(&mut self.layers.write().snapshot, &mut snapshot);
        drop(snapshot);
        for (key, value) in frozen.table.iter() {
            // Copies, so that the cache's weight is all that it keeps alive.
            let value = value.as_ref().map(|v| Bytes::copy_from_slice(v));
            self.cache.insert(Bytes::copy_from_slice(key), value);
        }
        let done = self.layers.write().frozen.take();
        // Two drops, perhaps of a million entries: the lock is free by now.
        drop(done);
        drop(frozen);
        Ok(())
    }

    /// A consistent view at the last durable checkpoint. While it lives, redb keeps the pages that it sees:
    /// the file grows by what later checkpoints rewrite.
    pub fn image(&self) -> Result<Image, StoreError> {
        Image::new(&self.db)
    }
}

impl Layers {
    /// `Some`: a layer of changes knows the key (and perhaps that it is deleted).
    fn get_changed(&self, key: &[u8]) -> Option<Option<Bytes>> {
        if let Some(value) = self.mem.get(key) {
            return Some(value.clone());
        }
        self.frozen.as_ref()?.table.get(key).cloned()
    }
}
