//! Checkpoints: state that no longer needs the log.
//!
//! A checkpoint has two steps. Freezing says, between two entries and in memory only, which changes belong to
//! it. Writing puts them on the disk, content first, and waits until the entry that it stands at is durable in
//! this node's own WAL: no effect of an entry may reach the disk before the entry has. Where that is not yet so,
//! the frozen changes are kept for the next call, so that a busy export still gets its checkpoints.

use std::io;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::rows::META_KEY;
use super::{ApplyError, Fs};
use crate::log::LogIndex;

/// A checkpoint between its two steps.
pub(super) struct Frozen {
    index: LogIndex,
}

impl Fs {
    /// Entries up to `index` are durable in this node's own WAL: their effects may reach the host's files.
    pub fn durable(&self, index: LogIndex) -> Result<(), ApplyError> {
        self.content.durable(index).map_err(|source| disk("write content", source))?;
        self.durable_index.fetch_max(index, Ordering::AcqRel);
        Ok(())
    }

    /// Writes a durable checkpoint (redb transaction, content fdatasync'ed first) of what is applied and
    /// durable; returns its index, or the last one's where the entry it would stand at is not durable yet. One
    /// at a time; serving goes on meanwhile.
    pub fn checkpoint(&self) -> Result<LogIndex, ApplyError> {
        let mut checkpointing = self.checkpointing.lock();
        let last = self.checkpoint_index.load(Ordering::Acquire);
        if checkpointing.is_none() {
            *checkpointing = self.freeze(last);
        }
        let Some(index) = checkpointing.as_ref().map(|frozen| frozen.index) else { return Ok(last) };
        if !self.is_durable(index) {
            return Ok(last);
        }
        self.content.sync_dirty(index).map_err(|source| disk("sync content", source))?;
        self.kv.write_frozen().map_err(|error| disk("write the checkpoint", error.into()))?;
        self.content.unlink_removed(index).map_err(|source| disk("unlink content", source))?;
        self.checkpoint_index.store(index, Ordering::Release);
        self.frozen_index.store(0, Ordering::Release);
        *checkpointing = None;
        Ok(index)
    }

    /// The first step of [`Self::checkpoint`] alone: what is applied from here on belongs to the next one.
    pub fn begin_checkpoint(&self) {
        let mut checkpointing = self.checkpointing.lock();
        if checkpointing.is_none() {
            *checkpointing = self.freeze(self.checkpoint_index.load(Ordering::Acquire));
        }
    }

    /// Freezes what is applied, unless the last checkpoint has it all.
    fn freeze(&self, last: LogIndex) -> Option<Frozen> {
        let _between_entries = self.machine.lock();
        let meta = self.view.read().meta;
        if meta.applied == last {
            return None;
        }
        self.kv.put(Bytes::from_static(META_KEY), meta.encode());
        self.kv.freeze(meta.applied, meta.term);
        self.frozen_index.store(meta.applied, Ordering::Release);
        Some(Frozen { index: meta.applied })
    }

    fn is_durable(&self, index: LogIndex) -> bool {
        !self.options.apply_before_durable || self.durable_index.load(Ordering::Acquire) >= index
    }

    /// Bytes in memory that only a durable entry or a checkpoint lets go: content that waits for
    /// [`Self::durable`], and metadata since the last freeze. Whoever applies keeps this within bounds.
    pub fn pending_bytes(&self) -> u64 {
        self.content.pending_bytes().saturating_add(self.kv.dirty_bytes())
    }

    /// Is a checkpoint due, by [`super::FsOptions::checkpoint_bytes`]? One that could not be written yet is due
    /// once it can be.
    pub fn checkpoint_due(&self) -> bool {
        match self.frozen_index.load(Ordering::Acquire) {
            0 => {
                let limit = self.options.checkpoint_bytes;
                self.kv.dirty_bytes() >= limit || self.content.dirty_bytes() >= limit
            }
            frozen => self.is_durable(frozen),
        }
    }
}

/// The disk failed: this replica stops.
pub(super) fn disk(what: &str, source: io::Error) -> ApplyError {
    ApplyError::Disk { what: what.to_owned(), source }
}
