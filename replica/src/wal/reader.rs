//! Entries read back, from the page cache as a rule, while the writer goes on.

use std::sync::Arc;

use bytes::{Buf, Bytes};
use parking_lot::RwLock;

use super::error::WalError;
use super::format::{HEAD_BYTES, Head, Kind, Position};
use super::index::{Index, Place, Segment};
use crate::disk::Disk;
use crate::log::{Entry, LogIndex};

/// Bytes fetched with one read, at most, unless one entry alone is larger: what a kept entry may pin.
const SPAN_BYTES_MAX: u64 = 1 << 20;

/// Reads a log that its owner goes on appending to. Cloning it is cheap.
#[derive(Clone, Debug)]
pub struct WalReader {
    disk: Arc<dyn Disk>,
    index: Arc<RwLock<Index>>,
}

impl WalReader {
    pub(super) fn new(disk: Arc<dyn Disk>, index: Arc<RwLock<Index>>) -> Self {
        Self { disk, index }
    }

    /// Entries `from..to_exclusive`: at least one if it is there, and no more once their records exceed
    /// `max_bytes`. Ends early where the log does. [`WalError::Compacted`] below [`Self::first_index`].
    pub fn entries(
        &self,
        from: LogIndex,
        to_exclusive: LogIndex,
        max_bytes: usize,
    ) -> Result<Vec<Entry>, WalError> {
        let mut entries = Vec::new();
        let mut next = from;
        let mut left = max_bytes as u64;
        while next < to_exclusive {
            let span = {
                let index = self.index.read();
                check_first(&index, next)?;
                index.span(next, to_exclusive, left.min(SPAN_BYTES_MAX))
            };
            let Some(span) = span else { break };
            let bytes: u64 = span.places.iter().map(|p| u64::from(p.bytes)).sum();
            if bytes > left && !entries.is_empty() {
                break;
            }
            let read = self.read(&span.segment, &span.places, next);
            // The segment may have been cut and recycled meanwhile: that is no damage.
            entries.extend(read.or_else(|error| check_first(&self.index.read(), next).and(Err(error)))?);
            next = next.saturating_add(span.places.len() as u64);
            left = left.saturating_sub(bytes);
        }
        Ok(entries)
    }

    /// Bytes of the records behind an entry, as far as they are kept.
    pub fn bytes_after(&self, index: LogIndex) -> u64 {
        self.index.read().bytes_after(index)
    }

    /// The first entry there is; one behind the last where there is none.
    pub fn first_index(&self) -> LogIndex {
        self.index.read().first()
    }

    /// The last entry there is; one before the first where there is none.
    pub fn last_index(&self) -> LogIndex {
        self.index.read().last.0
    }

    fn read(&self, segment: &Segment, places: &[Place], first: LogIndex) -> Result<Vec<Entry>, WalError> {
        let (Some(start), Some(end)) = (places.first(), places.last()) else { return Ok(Vec::new()) };
        let file = || self.disk.locate(&segment.name);
        let mut buf = vec![0; usize::try_from(end.end() - start.start()).unwrap_or(0)];
        let got = segment.file.read_at(&mut buf, start.start()).map_err(|source| WalError::Disk {
            action: "read",
            file: file(),
            source,
        })?;
        buf.truncate(got);
        let buf = Bytes::from(buf);
        let decode = |(index, place): (LogIndex, &Place)| {
            let at = usize::try_from(place.start() - start.start()).unwrap_or(usize::MAX);
            decode_entry(buf.get(at..).map(|b| buf.slice_ref(b)).unwrap_or_default(), segment, *place)
                .filter(|entry| entry.index == index)
                .ok_or_else(|| WalError::Damaged {
                    file: file(),
                    offset: place.start(),
                    what: format!("entry {index} was here and is not any more"),
                })
        };
        (first..).zip(places).map(decode).collect()
    }
}

fn check_first(index: &Index, wanted: LogIndex) -> Result<(), WalError> {
    let first = index.first();
    if wanted < first { Err(WalError::Compacted { first }) } else { Ok(()) }
}

fn decode_entry(mut record: Bytes, segment: &Segment, place: Place) -> Option<Entry> {
    let head = Head::decode(&record, segment.used_at(place.start()), place.start())
        .filter(|h| h.kind == Kind::Entry)?;
    record.advance(HEAD_BYTES);
    head.body(&record)?;
    let (index, term): Position = head.position;
    let op = record.split_to(head.op_len as usize);
    record.truncate((head.body_len - head.op_len) as usize);
    Some(Entry { index, term, op, payload: record })
}
