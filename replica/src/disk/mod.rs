//! The edge to the host's files: [`RealDisk`], and [`SimDisk`], which forgets what was not synced and can be
//! told to fail. The log, the stores and the witness see nothing else of the host.
//!
//! What a caller may rely on, on both: a sector of 512 bytes is written wholly or not at all; everything else
//! that was not synced may survive a crash of the machine in any mixture.

mod real;
mod sim;
#[cfg(test)]
mod tests;

use std::fmt::Debug;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use real::RealDisk;
pub use sim::{SimDisk, Speed};

/// A directory of the host, and what is below it. All paths are relative to it; the empty path is itself.
pub trait Disk: Send + Sync + Debug {
    /// Opens a file for reading and writing; `create`: makes it where it is missing.
    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn File>>;
    /// Renames a file or a directory; a file replaces a file. Durable after [`Self::sync_dir`] of both directories.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Unlinks a file. Durable after [`Self::sync_dir`].
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Removes a directory with everything in it; no error where there is none. Not durable.
    fn remove_tree(&self, path: &Path) -> io::Result<()>;
    /// Makes a directory and its parents, durably; no error where it is there.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// Makes one directory; no error where it is there. Durable after [`Self::sync_dir`] of its parent.
    fn make_dir(&self, path: &Path) -> io::Result<()>;
    /// Names in a directory, sorted (no host order gets in). NotFound where there is none.
    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>>;
    /// A file's length, bytes. NotFound where there is none.
    fn file_len(&self, path: &Path) -> io::Result<u64>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// The file system that this directory lies on, held open.
    fn volume(&self) -> io::Result<Arc<dyn Volume>>;
    /// How much of that there is.
    fn space(&self) -> io::Result<Space>;
    /// A directory of this disk as a disk of its own, there or not.
    fn below(&self, path: &Path) -> Arc<dyn Disk>;
    /// What a person calls this path: the host's full name of it, for messages.
    fn locate(&self, path: &Path) -> PathBuf;
}

/// A file system of the host's. It reports failed write-backs of all its files from when it was opened (Linux 5.8).
pub trait Volume: Send + Sync + Debug {
    /// syncfs: everything that was written and named before is on the disk.
    fn sync(&self) -> io::Result<()>;
}

/// What a file system has and has left, for users who are not root (statvfs).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// In all, bytes.
    pub total_bytes: u64,
    /// Free, bytes.
    pub free_bytes: u64,
    /// Inodes that are free; None where it has no fixed number of them.
    pub free_files: Option<u64>,
}

/// An open file.
pub trait File: Send + Sync + Debug {
    /// Reads at an offset; short at the end of the file only.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Fills the buffer's spare capacity from `offset` on (the place of its next byte); short at the end of the file only.
    fn read_into(&self, buf: &mut Vec<u8>, offset: u64) -> io::Result<()>;
    /// Writes all the parts, one after the other, from an offset on.
    fn write_at(&self, parts: &[&[u8]], offset: u64) -> io::Result<()>;
    /// Cuts or extends with zeros.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Whether it has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Bytes really allocated.
    fn allocated(&self) -> io::Result<u64>;
    /// The next bytes at or after `offset` that are no hole (SEEK_DATA, SEEK_HOLE); none: only zeros follow.
    fn data_after(&self, offset: u64) -> io::Result<Option<Range<u64>>>;
    /// fdatasync: what was written before is on the disk. An error means a dead disk: never retry.
    fn sync(&self) -> io::Result<()>;
    /// Takes the file for this opening of it, until [`Self::unlock`] or until it is closed. False: another has it.
    fn try_lock(&self) -> io::Result<bool>;
    /// Gives it up again.
    fn unlock(&self) -> io::Result<()>;
}
