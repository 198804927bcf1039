//! The redb file below the layers: what it holds, how it is opened, and how a checkpoint gets into it.
//!
//! ```text
//! table "rows"         key bytes -> value bytes
//! table "checkpoint"   "format" -> FORMAT, "index" -> last entry covered, "term" -> its term
//! ```
//!
//! A file without the format row is no store: either a copy of the peer's that is not finished, or nothing
//! of ours. A new store is made under another name and renamed, so that a crash leaves none of these.

use std::io::ErrorKind::{self, InvalidData};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use redb::{
    Builder, Database, DatabaseError, ReadOnlyTable, ReadTransaction, ReadableDatabase, TableDefinition,
};
use redb::{TableError, WriteTransaction};

use super::backend::Backend;
use super::{Frozen, StoreError};
use crate::disk::{Disk, File};
use crate::fs::OpenError;
use crate::log::{LogIndex, Term};

/// Version of the rows' format that this hanfs writes.
pub const FORMAT: u64 = 1;

/// redb's own page cache, bytes. Clean rows are cached one layer above, so this is for the inner pages of its
/// trees (about 25 MB at 10 million files) and half of it, at most, for pages that a checkpoint writes.
pub const REDB_CACHE_BYTES: usize = 32 << 20;

pub(super) const ROWS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("rows");
const CHECKPOINT: TableDefinition<&str, u64> = TableDefinition::new("checkpoint");

/// Where a store stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Checkpoint {
    pub(super) index: LogIndex,
    pub(super) term: Term,
}

/// redb's view at one checkpoint.
pub(super) struct Snapshot {
    rows: ReadOnlyTable<&'static [u8], &'static [u8]>,
    /// Transaction that it shows, as counted by this process.
    pub(super) generation: u64,
}

/// The open file.
pub(super) struct Db {
    database: Database,
    path: PathBuf,
    /// Counts snapshots; they are taken by the one thread that checkpoints.
    generations: std::sync::atomic::AtomicU64,
}

impl Db {
    /// Opens the store, making an empty one where there is no file.
    pub(super) fn open(disk: &Arc<dyn Disk>, name: &Path) -> Result<(Self, Checkpoint), OpenError> {
        let io = |source| OpenError::Io { path: disk.locate(name).display().to_string(), source };
        let file = match disk.open(name, false) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let fresh = name.with_extension("new");
                match disk.remove(&fresh) {
                    Err(error) if error.kind() != ErrorKind::NotFound => return Err(io(error)),
                    _ => {}
                }
                super::KvWriter::create(disk.clone(), &fresh)?.finish(0, 0)?;
                disk.rename(&fresh, name).map_err(io)?;
                disk.sync_dir(parent(name)).map_err(io)?;
                disk.open(name, false).map_err(io)?
            }
            opened => opened.map_err(io)?,
        };
        let path = disk.locate(name);
        // redb would make a store of an empty file.
        if file.is_empty().map_err(io)? {
            return Err(OpenError::Corrupt { path: path.display().to_string(), what: "it is empty".into() });
        }
        let database = open_database(&path, file)?;
        let db = Self { database, path, generations: Default::default() };
        let checkpoint = db.check_format()?;
        Ok((db, checkpoint))
    }

    /// Makes an empty file that is no store yet.
    pub(super) fn create(disk: &dyn Disk, name: &Path) -> Result<Self, OpenError> {
        let path = disk.locate(name);
        let io = |source| OpenError::Io { path: path.display().to_string(), source };
        match disk.file_len(name) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(io(error)),
            Ok(_) => return Err(io(ErrorKind::AlreadyExists.into())),
        }
        let database = open_database(&path, disk.open(name, true).map_err(io)?)?;
        Ok(Self { database, path, generations: Default::default() })
    }

    fn check_format(&self) -> Result<Checkpoint, OpenError> {
        let path = || self.path.display().to_string();
        let txn = self.begin_read()?;
        let Some((format, checkpoint)) = self.read_checkpoint(&txn)? else {
            return Err(OpenError::Unfinished { path: path() });
        };
        if format != FORMAT {
            return Err(OpenError::Format { path: path(), version: format, known: FORMAT });
        }
        Ok(checkpoint)
    }

    /// The format and where the transaction's view stands; `None` where the file is no store.
    pub(super) fn read_checkpoint(
        &self,
        txn: &ReadTransaction,
    ) -> Result<Option<(u64, Checkpoint)>, StoreError> {
        let table = match txn.open_table(CHECKPOINT) {
            Err(TableError::TableDoesNotExist(_)) => return Ok(None),
            other => other.map_err(self.error("read"))?,
        };
        let row = |name: &str| -> Result<Option<u64>, StoreError> {
            Ok(table.get(name).map_err(self.error("read"))?.map(|guard| guard.value()))
        };
        let (Some(format), Some(index), Some(term)) = (row("format")?, row("index")?, row("term")?) else {
            return Ok(None);
        };
        Ok(Some((format, Checkpoint { index, term })))
    }

    pub(super) fn begin_read(&self) -> Result<ReadTransaction, StoreError> {
        self.database.begin_read().map_err(self.error("read"))
    }

    /// The rows of a view; a store that is being built may have none yet.
    pub(super) fn rows(
        &self,
        txn: &ReadTransaction,
    ) -> Result<ReadOnlyTable<&'static [u8], &'static [u8]>, StoreError> {
        txn.open_table(ROWS).map_err(self.error("read"))
    }

    /// The view at the last durable transaction, newer than every one before.
    pub(super) fn snapshot(&self) -> Result<Snapshot, StoreError> {
        let rows = self.rows(&self.begin_read()?)?;
        let generation = self.generations.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Ok(Snapshot { rows, generation })
    }

    /// A row of a snapshot, copied out of redb's page.
    pub(super) fn get(&self, snapshot: &Snapshot, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let guard = snapshot.rows.get_owned(key).map_err(self.error("read"))?;
        Ok(guard.map(|guard| Bytes::copy_from_slice(guard.value())))
    }

    /// Rows of a snapshot in key order.
    pub(super) fn range(
        &self,
        snapshot: &Snapshot,
        bounds: (std::ops::Bound<&[u8]>, std::ops::Bound<&[u8]>),
    ) -> Result<redb::OwnedRange<&'static [u8], &'static [u8]>, StoreError> {
        snapshot.rows.range_owned::<&[u8]>(bounds).map_err(self.error("read"))
    }

    /// A checkpoint: all frozen changes and where they stand, durable on return.
    pub(super) fn write(&self, frozen: &Frozen) -> Result<(), StoreError> {
        let txn = self.begin_write()?;
        {
            let mut rows = txn.open_table(ROWS).map_err(self.error("write"))?;
            for (key, value) in frozen.table.iter() {
                match value {
                    Some(value) => rows.insert(&key[..], &value[..]).map(drop),
                    None => rows.remove(&key[..]).map(drop),
                }
                .map_err(self.error("write"))?;
            }
        }
        self.commit_checkpoint(txn, Checkpoint { index: frozen.index, term: frozen.term })
    }

    /// A write transaction: immediate durability is redb's default.
    pub(super) fn begin_write(&self) -> Result<WriteTransaction, StoreError> {
        self.database.begin_write().map_err(self.error("write"))
    }

    /// Ends a transaction as a checkpoint. It keeps redb's allocator state with it: without that, opening
    /// after a crash reads the whole file.
    pub(super) fn commit_checkpoint(
        &self,
        mut txn: WriteTransaction,
        checkpoint: Checkpoint,
    ) -> Result<(), StoreError> {
        txn.set_quick_repair(true);
        {
            let mut table = txn.open_table(CHECKPOINT).map_err(self.error("write"))?;
            for (name, value) in [("format", FORMAT), ("index", checkpoint.index), ("term", checkpoint.term)]
            {
                table.insert(name, value).map_err(self.error("write"))?;
            }
        }
        txn.commit().map_err(self.error("commit"))
    }

    /// Puts the file's name around what redb says.
    pub(super) fn error<E: Into<redb::Error>>(
        &self,
        what: &'static str,
    ) -> impl Fn(E) -> StoreError + use<'_, E> {
        move |source| StoreError {
            what,
            path: self.path.display().to_string(),
            source: Box::new(source.into()),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// Opens redb with bounded memory. Its open may panic on a damaged file: that is an error here.
fn open_database(path: &Path, file: Arc<dyn File>) -> Result<Database, OpenError> {
    let name = || path.display().to_string();
    let opened = catch_unwind(AssertUnwindSafe(|| {
        Builder::new().set_cache_size(REDB_CACHE_BYTES).create_with_backend(Backend { file })
    }));
    let error = match opened {
        Ok(Ok(database)) => return Ok(database),
        Ok(Err(error)) => error,
        Err(_) => {
            return Err(OpenError::Corrupt { path: name(), what: "redb cannot make sense of it".into() });
        }
    };
    Err(match error {
        DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => {
            OpenError::Locked { path: name() }
        }
        DatabaseError::Storage(redb::StorageError::Io(source)) if source.kind() != InvalidData => {
            OpenError::Io { path: name(), source }
        }
        other => OpenError::Corrupt { path: name(), what: other.to_string() },
    })
}

/// The directory that a name is in.
pub(super) fn parent(name: &Path) -> &Path {
    name.parent().unwrap_or(Path::new(""))
}
