//! Content of an export's regular files: one sparse host file each, `content/<2 hex>/<16 hex file id>`, and more
//! where a file is larger than a host's may be (`parts.rs`).
//!
//! The host file holds what was written, at its offset; holes, and everything past its end, are zeros. A file
//! that was never written has none. Sizes, times and `used` are metadata and none of this module's business:
//! host lengths and block counts differ between nodes and never reach an attribute.
//!
//! # Why a crash loses nothing and replay converges
//!
//! Take a file's content as an endless string of bytes, zeros at first. An effect *covers* bytes: WRITE those
//! that it writes, truncate to `len` all from `len` on. Effects are blind: what they leave in the bytes that
//! they cover does not depend on what was there. After a crash the metadata stands at the checkpoint's entry c,
//! and entries after c are applied again, in order. For each byte there are two cases:
//!
//! - An effect after c covers it. Replay repeats all of them; the last one decides, whatever the byte was.
//!   So it does not matter which of the effects after c had reached the host before the crash, wholly, in
//!   part, or in another order (unsynced pages reach a disk in any order). A truncate cuts what a later
//!   write had put past it, so when replay extends the file again, the gap is zeros.
//! - None does. Then nothing changed it after c, in the first run either, and before the redb transaction that
//!   made c the checkpoint, [`Content::sync_dirty`] had made all effects up to c durable.
//!
//! That rests on three things. Only entries that are durable in this node's own log have effects here
//! (invariant 3 of the design; committed ones, which no other leader can replace): so replay knows every
//! effect that the host may hold. `apply` never reads content. And nobody is served from a node that has not
//! applied its log's committed entries again. Hence *shrinking needs no more than a durable entry*, it need
//! not wait for the checkpoint. *Unlinking* does wait ([`Content::unlink_removed`]): until then a file that the
//! checkpoint still names keeps its content, which an image or a damaged log can then be compared with.
//!
//! A crash between the checkpoint and the unlinking would leave host files that no metadata names. So
//! `sync_dirty` writes the ids into `content/removed` first, and [`Content::open`] finishes the work where the
//! checkpoint is durable. Ids are never reused: unlinking twice does no harm.
//!
//! # `durability = "memory"`
//!
//! Entries are applied before they are durable here, so their effects wait in memory, where reads see them over
//! the host file, until [`Content::durable`] lets them through in order. A read takes the file's waiting effects
//! first and the host's bytes second: an effect that reaches the host in between is put over itself.
//!
//! # Threads
//!
//! One thread (apply) writes, truncates and removes; one, at a time, says what is durable; one checkpoints; many
//! read. Reads take no lock that is held across a disk access. A read that races with writes to the same bytes may
//! return some of both, as RFC 1813 allows. A read that races with the file's removal and the checkpoint after it
//! may see zeros: the caller holds its lock, or looks after the read whether the file is still there.
//!
//! Every error means a host disk that cannot be relied on (EIO) or is full (ENOSPC): the replica stops.

mod dirty;
mod host;
mod image;
mod parts;
mod pending;
mod removed;

#[cfg(test)]
mod tests;

use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use self::host::HostFiles;
use self::parts::PART_BYTES;
use self::pending::{Effect, Pending};
use self::removed::Removed;
use crate::disk::Disk;
use crate::ids::FileId;
use crate::log::LogIndex;
use crate::planted::{Planted, planted};

pub use self::image::{Chunk, ContentFile, ContentWriter, DIRS};

/// How content is kept.
#[derive(Clone, Debug)]
pub struct ContentOptions {
    /// Open host files kept.
    pub open_files: usize,
    /// `durability = "memory"`: effects of entries that are not durable yet wait in memory.
    pub apply_before_durable: bool,
}

/// Content of an export's regular files.
pub struct Content {
    host: HostFiles,
    removed: Removed,
    /// Only where entries are applied before they are durable.
    pending: Option<Pending>,
}

impl Content {
    /// Opens (or makes) the disk's directory. `checkpointed` is what [`super::kv::Kv::open`] said: files whose
    /// removal that checkpoint covers and that a crash left behind are unlinked now.
    pub fn open(disk: Arc<dyn Disk>, checkpointed: LogIndex, options: ContentOptions) -> io::Result<Self> {
        Self::with_parts(disk, checkpointed, options, PART_BYTES)
    }

    fn with_parts(
        disk: Arc<dyn Disk>,
        checkpointed: LogIndex,
        options: ContentOptions,
        part_bytes: u64,
    ) -> io::Result<Self> {
        let host = HostFiles::open(disk, options.open_files, part_bytes)?;
        let removed = Removed::default();
        removed.finish_unlinks(&host, checkpointed)?;
        let pending = options.apply_before_durable.then(Pending::default);
        Ok(Self { host, removed, pending })
    }

    /// `data` at `offset`, an effect of entry `index`. One thread (apply) calls this, `truncate`, `remove`.
    pub fn write(&self, index: LogIndex, file: FileId, offset: u64, data: &Bytes) -> io::Result<()> {
        self.take_effect(index, file, Effect::Write { offset, data: data.clone() })
    }

    /// From `len` on the content is zeros, an effect of entry `index`. Growing needs no call (but may).
    pub fn truncate(&self, index: LogIndex, file: FileId, len: u64) -> io::Result<()> {
        self.take_effect(index, file, Effect::Truncate { len })
    }

    fn take_effect(&self, index: LogIndex, file: FileId, effect: Effect) -> io::Result<()> {
        match &self.pending {
            None => self.host.perform(file, &effect),
            Some(pending) => pending.submit(&self.host, index, file, effect),
        }
    }

    /// The file is gone with entry `index`; its host file is unlinked by [`Self::unlink_removed`].
    pub fn remove(&self, index: LogIndex, file: FileId) -> io::Result<()> {
        // Planted: gone at once.
        if planted(Planted::UnlinkBeforeCheckpoint) {
            return self.host.unlink(file);
        }
        self.removed.push(index, file);
        if self.pending.is_none() {
            // The removal is durable, so after a crash replay repeats it, and nobody reads the file before.
            // Where entries are applied earlier, it may be lost, and a checkpoint before it needs the content.
            self.host.forget_dirty(file);
        }
        Ok(())
    }

    /// Entries up to `index` are durable here: effects that waited for it reach the host files, in order.
    pub fn durable(&self, index: LogIndex) -> io::Result<()> {
        self.pending.as_ref().map_or(Ok(()), |pending| pending.durable(&self.host, index))
    }

    /// Exactly `len` bytes from `offset` on (the caller has clipped it to the file's size); what was never
    /// written is zeros. One allocation.
    pub fn read(&self, file: FileId, offset: u64, len: usize) -> io::Result<Bytes> {
        self.read_in_two(file, offset, len, || {})
    }

    /// `between` stands for what other threads do between a read's two looks.
    fn read_in_two(
        &self,
        file: FileId,
        offset: u64,
        len: usize,
        between: impl FnOnce(),
    ) -> io::Result<Bytes> {
        let over = self.pending.as_ref().map(|pending| pending.of(file, offset, len));
        between();
        let mut buffer = Vec::with_capacity(len);
        self.host.read(file, offset, &mut buffer)?;
        buffer.resize(len, 0);
        for effect in over.iter().flatten() {
            effect.put_over(offset, &mut buffer);
        }
        Ok(buffer.into())
    }

    /// For a checkpoint at `up_to`, before its redb transaction: effects up to it are durable on return.
    ///
    /// # Panics
    /// Where effects up to `up_to` still wait for [`Self::durable`]: a checkpoint's index never exceeds the
    /// node's own durable index.
    pub fn sync_dirty(&self, up_to: LogIndex) -> io::Result<()> {
        if let Some(first) = self.pending.as_ref().and_then(Pending::first_waiting) {
            assert!(
                first > up_to,
                "checkpoint {up_to} has effects of entry {first}, which is not durable yet"
            );
        }
        // The old list of removals is overwritten only after its unlinks are durable, and they are by this.
        // Planted: the checkpoint does not wait for it.
        if !planted(Planted::CheckpointBeforeContent) {
            self.host.sync_dirty()?;
        }
        self.removed.save(self.host.disk(), up_to)
    }

    /// After the checkpoint's redb transaction: unlinks files removed by entries up to `up_to`.
    pub fn unlink_removed(&self, up_to: LogIndex) -> io::Result<()> {
        self.removed.unlink(&self.host, up_to)
    }

    /// Bytes written to host files since the last [`Self::sync_dirty`], and those still pending.
    pub fn dirty_bytes(&self) -> u64 {
        self.host.dirty_bytes().saturating_add(self.pending_bytes())
    }

    /// Bytes of effects that wait for [`Self::durable`]: what keeps applying is bounded by this.
    pub fn pending_bytes(&self) -> u64 {
        self.pending.as_ref().map_or(0, Pending::bytes)
    }

    /// Host directory number `dir` of [`DIRS`]: its files in id order, with their lengths on the host. Files
    /// that are removed already are not among them.
    pub fn list_files(&self, dir: u8) -> io::Result<Vec<ContentFile>> {
        image::list_files(&self.host, &self.removed, dir)
    }

    /// Data of a host file from `offset` on, holes left out, `bytes_max` at most: the copy for an image. It is
    /// fuzzy: whatever the file holds at this instant, of entries that are durable here. `None`: nothing
    /// follows (or the file is gone).
    pub fn read_chunk(&self, file: FileId, offset: u64, bytes_max: usize) -> io::Result<Option<Chunk>> {
        image::read_chunk(&self.host, file, offset, bytes_max)
    }
}

/// Puts verb and file before what the host said.
fn context<'a>(
    what: &'a str,
    disk: &'a dyn Disk,
    path: &'a Path,
) -> impl FnOnce(io::Error) -> io::Error + use<'a> {
    move |error| io::Error::new(error.kind(), format!("{what} {}: {error}", disk.locate(path).display()))
}
