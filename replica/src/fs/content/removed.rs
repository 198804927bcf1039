//! Files that are removed but whose host files are still there, and the note that survives a crash between
//! a checkpoint and its unlinks.
//!
//! ```text
//! content/removed (all little-endian)
//! +--------+-------------+-------+----------------+---------------------+
//! | "HFRM" | version u32 | index | ids u64, count | crc32c u32 of       |
//! |        | = 1         | u64   | by file size   | everything before   |
//! +--------+-------------+-------+----------------+---------------------+
//! ```
//!
//! It counts only where it is whole and the checkpoint that it belongs to is durable: a torn one was being
//! written when the node died, so its checkpoint did not come about and replay removes the files again.

use std::collections::{HashSet, VecDeque};
use std::io::{self, ErrorKind};
use std::path::Path;

use parking_lot::Mutex;

use super::context;
use super::host::HostFiles;
use super::parts::dir_of;
use crate::disk::Disk;
use crate::ids::FileId;
use crate::log::LogIndex;

const MAGIC: &[u8; 4] = b"HFRM";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 16;
/// The note's name in the content's directory.
const NOTE: &str = "removed";
/// Ids taken from the list under one lock.
const UNLINK_BATCH: usize = 64;

/// The list of removed files, in log order.
#[derive(Default)]
pub(super) struct Removed {
    list: Mutex<VecDeque<(LogIndex, FileId)>>,
}

impl Removed {
    pub(super) fn push(&self, index: LogIndex, file: FileId) {
        self.list.lock().push_back((index, file));
    }

    /// Removed files of one host directory.
    pub(super) fn in_dir(&self, dir: u8) -> HashSet<FileId> {
        let list = self.list.lock();
        list.iter().map(|(_, file)| *file).filter(|file| dir_of(*file) == dir).collect()
    }

    /// Notes durably what the checkpoint at `up_to` will unlink. The unlinks of the note before must be
    /// durable: it is overwritten.
    pub(super) fn save(&self, disk: &dyn Disk, up_to: LogIndex) -> io::Result<()> {
        let ids: Vec<FileId> = {
            let list = self.list.lock();
            list.iter().take_while(|(index, _)| *index <= up_to).map(|(_, file)| *file).collect()
        };
        if ids.is_empty() {
            return Ok(());
        }
        write_note(disk, &encode(up_to, &ids)).map_err(context("write", disk, Path::new(NOTE)))
    }

    /// Unlinks what entries up to `up_to` removed.
    pub(super) fn unlink(&self, host: &HostFiles, up_to: LogIndex) -> io::Result<()> {
        loop {
            let batch: Vec<FileId> = {
                let list = self.list.lock();
                let due = list.iter().take(UNLINK_BATCH).take_while(|(index, _)| *index <= up_to);
                due.map(|(_, file)| *file).collect()
            };
            if batch.is_empty() {
                return Ok(());
            }
            for file in &batch {
                host.unlink(*file)?;
            }
            // Off the list only now: until then an image does not list them.
            self.list.lock().drain(..batch.len());
        }
    }

    /// At start-up: unlinks what the last durable checkpoint had removed.
    pub(super) fn finish_unlinks(&self, host: &HostFiles, checkpointed: LogIndex) -> io::Result<()> {
        let bytes = match read_note(host.disk()) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            read => read.map_err(context("read", host.disk(), Path::new(NOTE)))?,
        };
        match decode(&bytes) {
            Some((index, ids)) if index <= checkpointed => ids.into_iter().try_for_each(|id| host.unlink(id)),
            _ => Ok(()),
        }
    }
}

fn write_note(disk: &dyn Disk, bytes: &[u8]) -> io::Result<()> {
    let (file, new) = match disk.open(Path::new(NOTE), false) {
        Err(error) if error.kind() == ErrorKind::NotFound => (disk.open(Path::new(NOTE), true)?, true),
        opened => (opened?, false),
    };
    file.set_len(0)?;
    file.write_at(&[bytes], 0)?;
    file.sync()?;
    if new { disk.sync_dir(Path::new("")) } else { Ok(()) }
}

fn read_note(disk: &dyn Disk) -> io::Result<Vec<u8>> {
    let file = disk.open(Path::new(NOTE), false)?;
    let len = usize::try_from(file.len()?).map_err(|_| ErrorKind::FileTooLarge)?;
    let mut bytes = Vec::with_capacity(len);
    file.read_into(&mut bytes, 0)?;
    Ok(bytes)
}

fn encode(index: LogIndex, ids: &[FileId]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES + ids.len() * 8 + 4);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&index.to_le_bytes());
    for id in ids {
        bytes.extend_from_slice(&id.0.to_le_bytes());
    }
    let crc = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes
}

/// `None`: torn, or of another version (whose removals its own hanfs finishes; what it leaves costs space only).
fn decode(bytes: &[u8]) -> Option<(LogIndex, Vec<FileId>)> {
    let (body, crc) = bytes.split_last_chunk::<4>()?;
    if crc32c::crc32c(body) != u32::from_le_bytes(*crc) {
        return None;
    }
    let (magic, rest) = body.split_first_chunk::<4>()?;
    let (version, rest) = rest.split_first_chunk::<4>()?;
    let (index, ids) = rest.split_first_chunk::<8>()?;
    if magic != MAGIC || u32::from_le_bytes(*version) != VERSION {
        return None;
    }
    let (ids, odd) = ids.as_chunks::<8>();
    if !odd.is_empty() {
        return None;
    }
    let ids = ids.iter().map(|id| FileId(u64::from_le_bytes(*id))).collect();
    Some((u64::from_le_bytes(*index), ids))
}
