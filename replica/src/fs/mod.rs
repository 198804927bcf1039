//! The state machine of an export: `apply(op) -> reply`, and reads of applied state.
//!
//! `apply` is a pure function of state and operation: it sees no clock, no randomness, no host order, no hash
//! order. It is called by one thread; reads come from many.
//!
//! `machine` is the state machine itself: its stores, how it opens, where it stands. `apply` has one file per
//! kind of operation, `read` and `readdir` what never enters the log. `perm` and `name` are rules without
//! state; `quota` is the limit on growth, `mounts` the mount list, `locks` NLM's state; `rows`, `inode`, `meta` and
//! `reply_cache` say how state is written down; `digest` proves replicas equal; `checkpoint` makes state durable in the
//! stores, `kv` (metadata) and `content`.

mod apply;
mod checkpoint;
pub mod content;
mod digest;
mod inode;
pub mod kv;
pub mod locks;
mod machine;
mod meta;
mod mounts;
mod name;
mod perm;
mod quota;
mod read;
mod readdir;
mod reply_cache;
mod rows;
mod status;
#[cfg(test)]
mod tests;

pub use machine::Fs;
pub(crate) use machine::{CONTENT_DIR, META_FILE};
pub use mounts::{MOUNT_PATH_MAX, MOUNTS_MAX};
pub use read::READ_MAX;
pub use status::Status;

use bytes::Bytes;
use proto::op::Attr;

use crate::log::{LogIndex, Term};

/// Longest name of a directory entry, bytes (PATHCONF's name_max).
pub const NAME_MAX: usize = 255;
/// Longest symbolic link target, bytes.
pub const SYMLINK_MAX: usize = 4096;
/// Most names of one inode (PATHCONF's linkmax).
pub const LINK_MAX: u32 = 65_000;
/// Largest file, bytes: what a Linux client can name (loff_t). No host needs to hold such a file: `content/parts.rs`.
pub const FILE_SIZE_MAX: u64 = i64::MAX as u64;

/// ftype3, RFC 1813 section 2.6.
pub mod ftype {
    /// NF3REG.
    pub const REG: u32 = 1;
    /// NF3DIR.
    pub const DIR: u32 = 2;
    /// NF3BLK.
    pub const BLK: u32 = 3;
    /// NF3CHR.
    pub const CHR: u32 = 4;
    /// NF3LNK.
    pub const LNK: u32 = 5;
    /// NF3SOCK.
    pub const SOCK: u32 = 6;
    /// NF3FIFO.
    pub const FIFO: u32 = 7;
}

/// ACCESS3 bits, RFC 1813 section 3.3.4.
pub mod access {
    /// ACCESS3_READ.
    pub const READ: u32 = 0x01;
    /// ACCESS3_LOOKUP.
    pub const LOOKUP: u32 = 0x02;
    /// ACCESS3_MODIFY.
    pub const MODIFY: u32 = 0x04;
    /// ACCESS3_EXTEND.
    pub const EXTEND: u32 = 0x08;
    /// ACCESS3_DELETE.
    pub const DELETE: u32 = 0x10;
    /// ACCESS3_EXECUTE.
    pub const EXECUTE: u32 = 0x20;
}

/// What a read-only procedure failed with, and the post-op attributes of its object where they are known.
#[derive(Clone, Debug, PartialEq)]
pub struct Failed {
    /// nfsstat3.
    pub status: Status,
    /// Attributes of the object that the call named.
    pub attr: Option<Attr>,
}

/// LOOKUP's answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// The object; its handle is in it.
    pub attr: Attr,
    /// The directory.
    pub dir: Attr,
}

/// READ's answer.
#[derive(Clone, Debug, PartialEq)]
pub struct ReadData {
    /// At most what was asked for.
    pub data: Bytes,
    /// The data ends at or past the end of the file.
    pub eof: bool,
    /// The file, at the instant of the read.
    pub attr: Attr,
}

/// One directory entry, as READDIR and READDIRPLUS need it. `.` and `..` are among them, cookies 1 and 2.
#[derive(Clone, Debug, PartialEq)]
pub struct DirEntry {
    /// Stable, unique in its directory, 3 and up, rising with age; at most 2^63-1.
    pub cookie: u64,
    /// The name's bytes.
    pub name: Bytes,
    /// What it names.
    pub attr: Attr,
    /// The caller may look it up. Without search permission on the directory only its name may be told.
    pub searchable: bool,
}

/// FSSTAT's figures, bytes and files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct FsStat {
    /// Size of the file system.
    pub total_bytes: u64,
    /// Free.
    pub free_bytes: u64,
    /// Inodes in all.
    pub total_files: u64,
    /// Inodes free.
    pub free_files: u64,
}

/// What an export may hold; 0: no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Quota {
    /// Of regular files' content, as attributes say (`used`): whole blocks of 4 KiB.
    pub bytes: u64,
    /// Everything that has an inode, the root directory among it.
    pub inodes: u64,
}

/// What an export holds, counted as [`Quota`] counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Usage {
    /// See [`Quota::bytes`].
    pub bytes: u64,
    /// See [`Quota::inodes`].
    pub inodes: u64,
}

/// Where an export's state machine stands, for `status`, the log's cut and proofs of equality.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct FsProgress {
    /// Last applied entry.
    pub applied: LogIndex,
    /// Its term.
    pub applied_term: Term,
    /// Covered by a durable checkpoint: the WAL may be cut up to and with it.
    pub checkpoint: LogIndex,
    /// Rolling digest of every change and reply, as of `applied`.
    pub digest: u64,
    /// The last index divisible by [`DIGEST_EVERY`] and the digest there: what nodes compare.
    pub digest_index: LogIndex,
    /// See `digest_index`.
    pub digest_at_index: u64,
    /// Files, directories and everything else that has an inode.
    pub files: u64,
    /// Bytes of content, as attributes say (`used`).
    pub bytes_used: u64,
    /// Entries in the reply cache.
    pub reply_cache_entries: u64,
    /// Bytes of the reply cache.
    pub reply_cache_bytes: u64,
}

/// Nodes compare digests at indexes divisible by this.
pub const DIGEST_EVERY: u64 = 1024;

/// How an export's state is kept. Bounds on memory are bounds: what exceeds them waits or is evicted.
#[derive(Clone, Debug)]
pub struct FsOptions {
    /// Clean metadata kept in memory, bytes.
    pub cache_bytes: u64,
    /// A checkpoint is due when this many bytes of metadata or of content have changed since the last.
    pub checkpoint_bytes: u64,
    /// Open content files kept.
    pub open_files: usize,
    /// `durability = "memory"`: an applied entry may not be durable yet, so its effects wait in memory.
    pub apply_before_durable: bool,
}

impl Default for FsOptions {
    fn default() -> Self {
        Self {
            cache_bytes: 64 << 20,
            checkpoint_bytes: 64 << 20,
            open_files: 256,
            apply_before_durable: false,
        }
    }
}

/// Why an export's stores cannot be opened. Each names the file and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The host said no.
    #[error("open {path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// What the host said.
        source: std::io::Error,
    },
    /// Made by a newer hanfs.
    #[error(
        "{path} has format {version}; this hanfs knows up to {known}: start the hanfs that wrote it, or a newer one. Nothing was changed"
    )]
    Format {
        /// The file.
        path: String,
        /// Its format.
        version: u64,
        /// What this hanfs knows.
        known: u64,
    },
    /// Not what was written there.
    #[error(
        "{path} is damaged ({what}): move the export's directory aside and start again, the peer then fills it"
    )]
    Corrupt {
        /// The file.
        path: String,
        /// What is wrong with it.
        what: String,
    },
    /// Another process has it open.
    #[error("{path} is open in another process: stop that hanfs, or give this one its own data directory")]
    Locked {
        /// The file.
        path: String,
    },
    /// A copy of the peer's that was interrupted.
    #[error(
        "{path} is an unfinished copy: remove the export's directory and start again, the peer then fills it"
    )]
    Unfinished {
        /// The file.
        path: String,
    },
    /// The host's disk failed while the store was opened.
    #[error(transparent)]
    Store(#[from] kv::StoreError),
}

/// Why an entry cannot be applied: this replica must stop, its peer goes on.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The host's disk failed: hand over, exit, never retry.
    #[error("{what}: {source}")]
    Disk {
        /// Verb and noun.
        what: String,
        /// What the host said.
        source: std::io::Error,
    },
    /// Not an operation at all: it was damaged in memory before it was logged, or is of another program.
    #[error(
        "entry {index} is no operation: this copy cannot go on; move its directory aside, the peer copies it back"
    )]
    Undecodable {
        /// The entry.
        index: LogIndex,
    },
    /// Made by a newer hanfs.
    #[error("entry {index} has operation format {version}; this hanfs knows up to {known}: upgrade it", known = proto::op::OP_VERSION)]
    Version {
        /// The entry.
        index: LogIndex,
        /// Its format.
        version: u32,
    },
}
