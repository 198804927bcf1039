//! A sorted table of changes in memory: a value, or `None` for a deletion.

use std::collections::{BTreeMap, btree_map};
use std::ops::Bound;

use bytes::Bytes;

use super::entry_bytes;

/// Changes by key, with their weight.
#[derive(Default)]
pub(super) struct Memtable {
    entries: BTreeMap<Bytes, Option<Bytes>>,
    bytes: u64,
}

impl Memtable {
    pub(super) fn get(&self, key: &[u8]) -> Option<&Option<Bytes>> {
        self.entries.get(key)
    }

    pub(super) fn insert(&mut self, key: Bytes, value: Option<Bytes>) {
        let weight = entry_bytes(&key, value.as_ref());
        let key_only = entry_bytes(&key, None);
        if let Some(old) = self.entries.insert(key, value) {
            self.bytes -= key_only + old.map_or(0, |v| v.len() as u64);
        }
        self.bytes += weight;
    }

    /// Memory that the entries take.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn iter(&self) -> btree_map::Iter<'_, Bytes, Option<Bytes>> {
        self.entries.iter()
    }

    /// Entries from `from` on, below `to`. The caller has made sure that the range is not inverted.
    pub(super) fn range(&self, from: Bound<&[u8]>, to: &[u8]) -> btree_map::Range<'_, Bytes, Option<Bytes>> {
        self.entries.range::<[u8], _>((from, Bound::Excluded(to)))
    }
}
