//! A full copy of the metadata: read from a running store, written as a new one elsewhere.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use redb::{OwnedRange, ReadableTableMetadata};

use super::StoreError;
use super::db::{Checkpoint, Db, ROWS, parent};
use crate::disk::Disk;
use crate::fs::OpenError;
use crate::log::{LogIndex, Term};

/// Rows that a writer gathers before it makes a transaction of them, bytes: it bounds memory, and makes an
/// fsync rare enough.
const WRITE_BATCH_BYTES: usize = 8 << 20;

/// All rows as of one checkpoint, while serving and further checkpoints go on.
pub struct Image {
    checkpoint: Checkpoint,
    rows: u64,
    range: OwnedRange<&'static [u8], &'static [u8]>,
    path: String,
}

impl Image {
    pub(super) fn new(db: &Db) -> Result<Self, StoreError> {
        let txn = db.begin_read()?;
        let checkpoint = match db.read_checkpoint(&txn)? {
            Some((_, checkpoint)) => checkpoint,
            None => return Err(db.error("read")(redb::Error::Corrupted("no checkpoint row".into()))),
        };
        let table = db.rows(&txn)?;
        let rows = table.len().map_err(db.error("read"))?;
        let range = table.range_owned::<&[u8]>(..).map_err(db.error("read"))?;
        Ok(Self { checkpoint, rows, range, path: db.path().display().to_string() })
    }

    /// Entry that the checkpoint stands at.
    pub fn index(&self) -> LogIndex {
        self.checkpoint.index
    }

    /// Its term.
    pub fn term(&self) -> Term {
        self.checkpoint.term
    }

    /// Rows in all.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// The next rows in key order, `bytes_max` in sum or one row if that is larger; empty at the end.
    pub fn next_batch(&mut self, bytes_max: usize) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
        let mut batch = Vec::new();
        let mut bytes = 0_usize;
        while bytes < bytes_max {
            let Some(row) = self.range.next() else {
                break;
            };
            let (key, value) = row.map_err(|source| StoreError {
                what: "read",
                path: self.path.clone(),
                source: Box::new(source.into()),
            })?;
            let row = (Bytes::copy_from_slice(key.value()), Bytes::copy_from_slice(value.value()));
            bytes = bytes.saturating_add(row.0.len() + row.1.len());
            batch.push(row);
        }
        Ok(batch)
    }
}

/// Builds a new `meta.redb` from an image's rows. Memory is bounded: rows go out in transactions of
/// a few MiB. Dropped before [`Self::finish`], it leaves a file that [`super::Kv::open`] refuses.
pub struct KvWriter {
    db: Db,
    disk: Arc<dyn Disk>,
    name: PathBuf,
    batch: Vec<(Vec<u8>, Vec<u8>)>,
    batch_bytes: usize,
}

impl KvWriter {
    /// A new file; one that is there is an error, whatever it is.
    pub fn create(disk: Arc<dyn Disk>, name: &Path) -> Result<Self, OpenError> {
        let db = Db::create(&*disk, name)?;
        Ok(Self { db, disk, name: name.to_owned(), batch: Vec::new(), batch_bytes: 0 })
    }

    /// Adds a row, in any order (key order is fastest). A key given again takes the newer value.
    pub fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        self.batch.push((key.to_vec(), value.to_vec()));
        self.batch_bytes += key.len() + value.len();
        if self.batch_bytes >= WRITE_BATCH_BYTES {
            let txn = self.write_batch()?;
            txn.commit().map_err(self.db.error("commit"))?;
        }
        Ok(())
    }

    fn write_batch(&mut self) -> Result<redb::WriteTransaction, StoreError> {
        let txn = self.db.begin_write()?;
        {
            let mut rows = txn.open_table(ROWS).map_err(self.db.error("write"))?;
            for (key, value) in self.batch.drain(..) {
                rows.insert(&key[..], &value[..]).map_err(self.db.error("write"))?;
            }
        }
        self.batch_bytes = 0;
        Ok(txn)
    }

    /// Makes all rows and the checkpoint's index durable: from here on the file is a store.
    pub fn finish(mut self, index: LogIndex, term: Term) -> Result<(), StoreError> {
        let txn = self.write_batch()?;
        self.db.commit_checkpoint(txn, Checkpoint { index, term })?;
        let synced = self.disk.sync_dir(parent(&self.name));
        synced.map_err(|source| self.db.error("sync the directory of")(redb::Error::Io(source)))
    }
}
