//! The state machine: its stores, how it opens, where it stands, and who may look when.
//!
//! One thread applies. It plans an entry on what is there, lets content reach its store, and then takes `view`
//! for writing to make all rows and the new [`View`] visible at once. Readers hold `view` for reading while they
//! look at rows that belong together, never while they read content. So nothing half done is ever seen, and a
//! size is never seen before its data.
//!
//! Locks, in this order: `checkpointing`, `machine`, `view`, the table in `locks`.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};

use super::checkpoint::Frozen;
use super::content::{Content, ContentOptions};
use super::digest::Digest;
use super::inode::{Inode, Kind};
use super::kv::Kv;
use super::locks::Locks;
use super::meta::Meta;
use super::reply_cache::ReplyCache;
use super::rows::{META_KEY, inode_key};
use super::{FsOptions, FsProgress, FsStat, OpenError, Status, Usage};
use crate::disk::{Disk, RealDisk};
use crate::ids::{FileId, Handle};
use crate::log::LogIndex;

/// Name of the metadata's file in an export's directory.
pub(crate) const META_FILE: &str = "meta.redb";
/// Name of the content's directory in an export's directory.
pub(crate) const CONTENT_DIR: &str = "content";
/// Inodes that FSSTAT shows as free where the host has no fixed number of them.
const FREE_FILES: u64 = 1 << 32;

/// Free space that growing operations leave on the host: three log segments and as much for a checkpoint. Below
/// it they get NFS3ERR_NOSPC, before a failed write would end this replica; removing always works.
const RESERVE_BYTES: u64 = 384 << 20;
/// How long one look at the free space serves, ns.
const ROOM_CHECK_NS: u64 = 500_000_000;

/// The state machine.
pub struct Fs {
    pub(super) kv: Kv,
    pub(super) content: Content,
    pub(super) locks: Locks,
    pub(super) options: FsOptions,
    pub(super) view: RwLock<View>,
    pub(super) machine: Mutex<Machine>,
    pub(super) checkpointing: Mutex<Option<Frozen>>,
    /// Index of the frozen changes that wait to be written; 0: none.
    pub(super) frozen_index: AtomicU64,
    pub(super) checkpoint_index: AtomicU64,
    pub(super) durable_index: AtomicU64,
    disk: Arc<dyn Disk>,
    /// See [`Self::has_room`].
    room: AtomicBool,
    room_due_ns: AtomicU64,
    read_error_logged: AtomicBool,
}

/// What the last applied entry left, besides rows.
#[derive(Clone, Copy)]
pub(super) struct View {
    pub(super) meta: Meta,
    /// Replies in the cache.
    pub(super) replies: u64,
    /// Bytes of their rows.
    pub(super) reply_bytes: u64,
    /// Truncations and removals so far in this process.
    pub(super) cuts: u64,
}

/// What only the applying thread needs.
pub(super) struct Machine {
    pub(super) reply_cache: ReplyCache,
    pub(super) digest: Digest,
}

impl Fs {
    /// [`Self::open_on`] a directory of the host's.
    pub fn open(dir: &Path, options: FsOptions) -> Result<Self, OpenError> {
        Self::open_on(Arc::new(RealDisk::new(dir)), options)
    }

    /// Opens (or makes) the stores in the disk's directory and stands at the last durable checkpoint; the caller replays
    /// the log from there.
    pub fn open_on(disk: Arc<dyn Disk>, options: FsOptions) -> Result<Self, OpenError> {
        let failed = |path: &Path| {
            let path = disk.locate(path).display().to_string();
            move |source| OpenError::Io { path, source }
        };
        let (dir, meta_path, content_path) = (Path::new(""), Path::new(META_FILE), Path::new(CONTENT_DIR));
        disk.create_dir(dir).map_err(failed(dir))?;
        let (kv, checkpoint, _) = Kv::open(&disk, meta_path, options.cache_bytes)?;
        let content_options = ContentOptions {
            open_files: options.open_files,
            apply_before_durable: options.apply_before_durable,
        };
        let content = Content::open(disk.below(content_path), checkpoint, content_options)
            .map_err(failed(content_path))?;
        let meta = Self::load_meta(&kv, checkpoint).map_err(failed(meta_path))?;
        let reply_cache = ReplyCache::open(&kv).map_err(failed(meta_path))?;
        let locks = Locks::open(&kv).map_err(failed(meta_path))?;
        let (replies, reply_bytes) = (reply_cache.entries(), reply_cache.bytes());
        let view = View { meta, replies, reply_bytes, cuts: 0 };
        Ok(Self {
            kv,
            content,
            locks,
            options,
            view: RwLock::new(view),
            machine: Mutex::new(Machine { reply_cache, digest: Digest::default() }),
            checkpointing: Mutex::new(None),
            frozen_index: AtomicU64::new(0),
            checkpoint_index: AtomicU64::new(checkpoint),
            durable_index: AtomicU64::new(checkpoint),
            disk,
            room: AtomicBool::new(true),
            room_due_ns: AtomicU64::new(0),
            read_error_logged: AtomicBool::new(false),
        })
    }

    /// The meta row, or a new export's, whose root directory is made here, alike on every replica.
    fn load_meta(kv: &Kv, checkpoint: LogIndex) -> std::io::Result<Meta> {
        let meta = match kv.get(META_KEY)? {
            Some(row) => Meta::decode(&row)?,
            None => Meta::new(),
        };
        if meta.applied != checkpoint {
            return Err(super::rows::corrupt("the meta row (it is not the checkpoint's)"));
        }
        if meta.applied == 0 {
            kv.put(Bytes::copy_from_slice(&inode_key(FileId::ROOT)), new_root().encode());
        }
        Ok(meta)
    }

    /// Where it stands.
    pub fn progress(&self) -> FsProgress {
        let View { meta, replies, reply_bytes, .. } = *self.view.read();
        FsProgress {
            applied: meta.applied,
            applied_term: meta.term,
            checkpoint: self.checkpoint_index.load(Ordering::Acquire),
            digest: meta.digest,
            digest_index: meta.digest_index,
            digest_at_index: meta.digest_at_index,
            files: meta.files,
            bytes_used: meta.bytes,
            reply_cache_entries: replies,
            reply_cache_bytes: reply_bytes,
        }
    }

    /// The incarnation's write verifier (RFC 1813 section 3.3.7).
    pub fn write_verifier(&self) -> u64 {
        self.view.read().meta.verifier
    }

    /// Identity of the adopted witness, 0: none.
    pub fn witness_identity(&self) -> u64 {
        self.view.read().meta.witness
    }

    /// Handle of the root directory (generation 0).
    pub fn root(&self) -> Handle {
        Handle { file: FileId::ROOT, generation: 0 }
    }

    /// RFC 1813 section 3.3.18: the figures of the host's file system, which all exports on it share, within the
    /// export's quota.
    pub fn fsstat(&self) -> Result<FsStat, Status> {
        let host = self.disk.space().map_err(|error| self.read_failed(&error))?;
        let meta = self.view.read().meta;
        let free_files = host.free_files.unwrap_or(FREE_FILES);
        let host = FsStat {
            total_bytes: host.total_bytes,
            free_bytes: host.free_bytes,
            total_files: meta.files.saturating_add(free_files),
            free_files,
        };
        Ok(meta.quota.limit(Usage::of(&meta), host))
    }

    /// Is there room on the host's file system for what a growing operation may need here: log segments, the next
    /// checkpoint, content? Looked at twice a second at most; where it cannot be known, the operation decides.
    pub fn has_room(&self) -> bool {
        let now = crate::clock::monotonic_ns();
        let due = self.room_due_ns.load(Ordering::Relaxed);
        if now >= due
            && self
                .room_due_ns
                .compare_exchange(due, now + ROOM_CHECK_NS, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
        {
            let room = self.disk.space().map_or(true, |host| host.free_bytes >= RESERVE_BYTES);
            self.room.store(room, Ordering::Relaxed);
        }
        self.room.load(Ordering::Relaxed)
    }

    /// The metadata's store, for the image.
    pub(crate) fn kv(&self) -> &Kv {
        &self.kv
    }

    /// The content's store, for the image.
    pub(crate) fn content(&self) -> &Content {
        &self.content
    }

    /// A store failed under a read: NFS3ERR_IO to the caller, and one line in the log, not one per call.
    pub(super) fn read_failed(&self, error: &std::io::Error) -> Status {
        if !self.read_error_logged.swap(true, Ordering::Relaxed) {
            let dir = self.disk.locate(Path::new(""));
            tracing::error!(dir = %dir.display(), %error, "read of an export's state failed: check the disk");
        }
        Status::Io
    }
}

/// A new export's root directory. Its times are set by the first entry that has a clock.
fn new_root() -> Inode {
    Inode {
        file: FileId::ROOT,
        generation: 0,
        mode: 0o755,
        nlink: 2,
        uid: 0,
        gid: 0,
        size: 0,
        used: 0,
        atime_ns: 0,
        mtime_ns: 0,
        ctime_ns: 0,
        kind: Kind::empty_dir(FileId::ROOT),
    }
}
