//! redb's storage as a [`File`] of the host's.

use std::io::{self, ErrorKind};
use std::ops::Bound;
use std::sync::Arc;

use redb::{BackendError, StorageBackend};

use crate::disk::File;

/// A file that one process at a time may have open as a store.
#[derive(Debug)]
pub(super) struct Backend {
    pub file: Arc<dyn File>,
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let read = self.file.read_at(out, offset)?;
        if read < out.len() { Err(ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write_at(&[data], offset)
    }

    fn close(&self) -> io::Result<()> {
        self.file.unlock()
    }

    /// Only the whole file, which is what one writer needs. Its lock is flock's, as redb's own is, too.
    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        if matches!(start, Bound::Unbounded | Bound::Included(0)) && end == Bound::Unbounded {
            return self.file.try_lock().map_err(BackendError::Io);
        }
        Err(BackendError::Unsupported)
    }

    fn unlock_range(&self, _start: Bound<u64>, _end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock().map_err(BackendError::Io)
    }
}
