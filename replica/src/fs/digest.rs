//! The rolling digest: proof, while both serve, that two replicas are the same.
//!
//! Each entry's digest covers the one before, the entry's place, every row that it changed, its content, the totals
//! and its reply, in the order in which `apply` made them. Replicas that differ anywhere `apply` looked or wrote differ
//! from there on.

use bytes::Bytes;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::DIGEST_EVERY;
use super::meta::Meta;
use crate::ids::FileId;

/// Collects what one entry did. The buffer is kept from entry to entry.
#[derive(Default)]
pub(crate) struct Digest {
    buffer: Vec<u8>,
}

impl Digest {
    /// Starts an entry.
    pub(crate) fn start(&mut self, index: u64, term: u64) {
        self.buffer.clear();
        self.number(index);
        self.number(term);
    }

    fn number(&mut self, number: u64) {
        self.buffer.extend_from_slice(&number.to_le_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.buffer.extend_from_slice(bytes);
    }

    /// A row set, or deleted.
    pub(crate) fn row(&mut self, key: &[u8], value: Option<&Bytes>) {
        self.bytes(key);
        match value {
            Some(value) => self.bytes(value),
            None => self.number(u64::MAX),
        }
    }

    /// An effect on content.
    pub(crate) fn content(&mut self, file: FileId, offset: u64, data: &[u8]) {
        self.number(file.0);
        self.number(offset);
        self.number(data.len() as u64);
        self.number(xxh3_64(data));
    }

    /// What is counted and limited beside the rows.
    pub(crate) fn totals(&mut self, meta: &Meta) {
        let Meta { files, bytes, quota, mounts, .. } = *meta;
        [files, bytes, quota.bytes, quota.inodes, mounts].into_iter().for_each(|number| self.number(number));
    }

    /// The encoded reply, last.
    pub(crate) fn reply(&mut self, reply: &[u8]) {
        self.bytes(reply);
    }

    /// Moves the state's digest on.
    pub(crate) fn finish(&mut self, meta: &mut Meta) {
        meta.digest = xxh3_64_with_seed(&self.buffer, meta.digest);
        if meta.applied.is_multiple_of(DIGEST_EVERY) {
            meta.digest_index = meta.applied;
            meta.digest_at_index = meta.digest;
        }
    }
}
