//! What a group would lose: entries it had synced, votes, disk space, or the knowledge that something is wrong.

mod damage;
mod golden;
mod limits;
mod model;

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::*;
use crate::disk::{Disk, SimDisk};
use crate::log::{Entry, LogIndex, StableState, Term};

/// Small, so that a test crosses many segments.
const OPTIONS: WalOptions = WalOptions { segment_bytes: 16 << 10, spare_segments: 2 };

fn open(disk: &SimDisk) -> Result<Opened, WalError> {
    Wal::open(Arc::new(disk.clone()), OPTIONS)
}

/// An entry whose every 8 bytes of payload say which one it is.
fn entry(index: LogIndex, term: Term, payload_bytes: usize) -> Entry {
    let mark = (term << 32 | index).to_le_bytes();
    let payload: Bytes = mark.iter().copied().cycle().take(payload_bytes).collect();
    Entry { index, term, op: Bytes::from(format!("op {index}")), payload }
}

fn all(reader: &WalReader) -> Vec<Entry> {
    let (first, last) = (reader.first_index(), reader.last_index());
    reader.entries(first, last + 1, usize::MAX).expect("read the whole log")
}

/// Every file and its bytes.
fn dump(disk: &SimDisk) -> Vec<(String, Vec<u8>)> {
    let names = disk.list(Path::new("")).expect("list");
    let read = |name: std::path::PathBuf| {
        let file = disk.open(&name, false).expect("open");
        let mut bytes = vec![0; file.len().expect("len") as usize];
        file.read_at(&mut bytes, 0).expect("read");
        (name.display().to_string(), bytes)
    };
    names.into_iter().map(read).collect()
}
