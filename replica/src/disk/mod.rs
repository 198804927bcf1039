//! The edge to the host's files: [`RealDisk`], and [`SimDisk`], which forgets what was not synced and can be
//! told to fail. The WAL sees nothing else of the host.
//!
//! What a caller may rely on, on both: a sector of 512 bytes is written wholly or not at all; everything else
//! that was not synced may survive a crash of the machine in any mixture.

mod real;
mod sim;
#[cfg(test)]
mod tests;

use std::fmt::Debug;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use real::RealDisk;
pub use sim::SimDisk;

/// A directory of the host, and what is below it. All paths are relative to it; the empty path is itself.
pub trait Disk: Send + Sync + Debug {
    /// Opens a file for reading and writing; `create`: makes it where it is missing.
    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn File>>;
    /// Renames, replacing the target. Durable after [`Self::sync_dir`] of both directories.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Unlinks a file. Durable after [`Self::sync_dir`].
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes a directory and its parents, durably; no error where it is there.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// Names in a directory, sorted (no host order gets in). NotFound where there is none.
    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// A directory of this disk as a disk of its own, there or not.
    fn below(&self, path: &Path) -> Arc<dyn Disk>;
    /// What a person calls this path: the host's full name of it, for messages.
    fn locate(&self, path: &Path) -> PathBuf;
}

/// An open file.
pub trait File: Send + Sync + Debug {
    /// Reads at an offset; short at the end of the file only.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;
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
    /// fdatasync: what was written before is on the disk. An error means a dead disk: never retry.
    fn sync(&self) -> io::Result<()>;
}
