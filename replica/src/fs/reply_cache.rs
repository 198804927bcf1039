//! The duplicate request cache: rows of the replicated state, and an index of them in memory.
//!
//! A call's reply is kept under the call's key in the same entry as its effect, so a retransmission gets the
//! first answer and no second effect, on whichever node it arrives. The oldest go first, by count and bytes and
//! never by time: after an outage the retransmissions must still find their replies. The index (key's hash to
//! sequence number) is made anew from the rows at each open.
//!
//! ```text
//! key:   'r' | sequence 8
//! value: | format 1 | key bytes 2 | key | encoded Reply |
//! key:   | client bytes 1 | client | xid 4 | program 4 | version 4 | procedure 4 | checksum 8 |
//! ```

use std::collections::{HashMap, VecDeque};
use std::io;

use bytes::Bytes;
use prost::Message;
use proto::op::{CallKey, Reply};
use xxhash_rust::xxh3::xxh3_128;

use super::kv::Kv;
use super::rows::{Fields, REPLY_TAG, corrupt, reply_key};

/// Replies kept: at 50,000 changes a second more than two seconds' worth, and far more than all clients
/// together can have unanswered. Part of the replicated format: every replica evicts at the same entry.
pub(crate) const ENTRIES_MAX: usize = 131_072;
/// Bytes of rows kept. Part of the replicated format.
pub(crate) const BYTES_MAX: u64 = 64 << 20;
/// Format of the rows.
const FORMAT: u8 = 1;

/// A call's key as bytes, and their hash.
pub(crate) struct Key {
    bytes: Vec<u8>,
    hash: u128,
}

impl Key {
    /// Of this call.
    pub(crate) fn new(call: &CallKey) -> Self {
        let mut bytes = Vec::with_capacity(48);
        bytes.push(call.client.len() as u8);
        bytes.extend_from_slice(&call.client);
        for field in [call.xid, call.program, call.version, call.procedure] {
            bytes.extend_from_slice(&field.to_le_bytes());
        }
        bytes.extend_from_slice(&call.checksum.to_le_bytes());
        Self { hash: xxh3_128(&bytes), bytes }
    }
}

/// One row, as the index knows it.
struct Kept {
    hash: u128,
    row_bytes: u32,
}

/// The index.
#[derive(Default)]
pub(crate) struct ReplyCache {
    /// Sequence number of the oldest row.
    first: u64,
    rows: VecDeque<Kept>,
    by_hash: HashMap<u128, u64>,
    bytes: u64,
    entries_max: usize,
    bytes_max: u64,
}

/// What an insertion does to the rows.
pub(crate) struct Insertion {
    /// The new row's key.
    pub key: [u8; 9],
    /// The new row.
    pub row: Bytes,
    /// Keys of rows to delete.
    pub evicted: Vec<[u8; 9]>,
}

impl ReplyCache {
    /// Makes the index from the rows.
    pub(crate) fn open(kv: &Kv) -> io::Result<Self> {
        let mut cache = Self { entries_max: ENTRIES_MAX, bytes_max: BYTES_MAX, ..Self::default() };
        let mut outcome = Ok(());
        kv.range(&[REPLY_TAG], &[REPLY_TAG + 1], &mut |key, row| {
            outcome = cache.add_row(key, row);
            outcome.is_ok()
        })?;
        outcome.map(|()| cache)
    }

    fn add_row(&mut self, key: &[u8], row: &[u8]) -> io::Result<()> {
        let mut fields = Fields::new(key, "a reply cache key");
        fields.u8()?;
        let sequence = u64::from_be_bytes(fields.array()?);
        if self.rows.is_empty() {
            self.first = sequence;
        } else if sequence != self.next() {
            return Err(corrupt("the reply cache's order"));
        }
        let (call, _) = split(row)?;
        self.push(xxh3_128(call), row.len());
        Ok(())
    }

    fn next(&self) -> u64 {
        self.first + self.rows.len() as u64
    }

    fn push(&mut self, hash: u128, row_bytes: usize) {
        self.by_hash.insert(hash, self.next());
        self.rows.push_back(Kept { hash, row_bytes: row_bytes as u32 });
        self.bytes += row_bytes as u64;
    }

    /// The reply to this call, encoded, if it is kept.
    pub(crate) fn get(&self, kv: &Kv, key: &Key) -> io::Result<Option<Bytes>> {
        let Some(sequence) = self.by_hash.get(&key.hash) else { return Ok(None) };
        let row = kv.get(&reply_key(*sequence))?.ok_or_else(|| corrupt("a reply cache row"))?;
        let (call, reply) = split(&row)?;
        Ok((call == key.bytes).then(|| row.slice_ref(reply)))
    }

    /// Keeps a reply. The caller writes the row and deletes the evicted ones, in the same entry.
    pub(crate) fn insert(&mut self, key: &Key, reply: &[u8]) -> Insertion {
        let mut row = Vec::with_capacity(3 + key.bytes.len() + reply.len());
        row.push(FORMAT);
        row.extend_from_slice(&(key.bytes.len() as u16).to_le_bytes());
        row.extend_from_slice(&key.bytes);
        row.extend_from_slice(reply);
        let row_key = reply_key(self.next());
        self.push(key.hash, row.len());
        let mut evicted = Vec::new();
        while self.rows.len() > self.entries_max || (self.bytes > self.bytes_max && self.rows.len() > 1) {
            let Some(oldest) = self.rows.pop_front() else { break };
            if self.by_hash.get(&oldest.hash) == Some(&self.first) {
                self.by_hash.remove(&oldest.hash);
            }
            self.bytes -= u64::from(oldest.row_bytes);
            evicted.push(reply_key(self.first));
            self.first += 1;
        }
        Insertion { key: row_key, row: row.into(), evicted }
    }

    /// Replies kept.
    pub(crate) fn entries(&self) -> u64 {
        self.rows.len() as u64
    }

    /// Bytes of their rows.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// A row's call key and encoded reply.
fn split(row: &[u8]) -> io::Result<(&[u8], &[u8])> {
    let mut fields = Fields::new(row, "a reply cache row");
    if fields.u8()? != FORMAT {
        return Err(corrupt("a reply cache row"));
    }
    let key_bytes = usize::from(fields.u16()?);
    fields.rest().split_at_checked(key_bytes).ok_or_else(|| corrupt("a reply cache row"))
}

/// Reads a kept reply.
pub(crate) fn decode(reply: Bytes) -> io::Result<Reply> {
    Reply::decode(reply).map_err(|_| corrupt("a reply in the reply cache"))
}

#[cfg(test)]
mod tests {
    //! Goal: the cache is bounded, forgets the oldest first, and is the same after it was made anew from its
    //! rows. Method: small limits, rows kept in a store as `apply` keeps them.

    use super::*;

    fn key(xid: u32) -> Key {
        Key::new(&CallKey { client: Bytes::from_static(&[10, 0, 0, 1]), xid, ..CallKey::default() })
    }

    fn keep(cache: &mut ReplyCache, kv: &Kv, xid: u32, reply: &[u8]) {
        let insertion = cache.insert(&key(xid), reply);
        kv.put(Bytes::copy_from_slice(&insertion.key), insertion.row);
        for key in insertion.evicted {
            kv.delete(Bytes::copy_from_slice(&key));
        }
    }

    fn kept(cache: &ReplyCache, kv: &Kv) -> Vec<u32> {
        (0..100).filter(|xid| cache.get(kv, &key(*xid)).unwrap().is_some()).collect()
    }

    fn store(dir: &tempfile::TempDir) -> (Kv, ReplyCache) {
        let disk: std::sync::Arc<dyn crate::disk::Disk> =
            std::sync::Arc::new(crate::disk::RealDisk::new(dir.path()));
        let (kv, _, _) = Kv::open(&disk, std::path::Path::new("meta.redb"), 1 << 20).unwrap();
        let cache = ReplyCache::open(&kv).unwrap();
        (kv, cache)
    }

    #[test]
    fn oldest_go_by_count_and_by_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let (kv, mut cache) = store(&dir);
        cache.entries_max = 10;
        (0..25).for_each(|xid| keep(&mut cache, &kv, xid, b"reply"));
        assert_eq!(kept(&cache, &kv), (15..25).collect::<Vec<_>>());
        assert_eq!(cache.get(&kv, &key(20)).unwrap().unwrap(), "reply");
        cache.bytes_max = 1_000;
        keep(&mut cache, &kv, 30, &[0; 900]);
        assert_eq!(kept(&cache, &kv), [24, 30]);
        keep(&mut cache, &kv, 31, &[0; 5_000]);
        assert_eq!(kept(&cache, &kv), [31], "the newest stays in any case");
    }

    #[test]
    fn made_anew_it_is_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let (kv, mut cache) = store(&dir);
        cache.entries_max = 10;
        (0..25).for_each(|xid| keep(&mut cache, &kv, xid, &vec![0; xid as usize]));
        kv.freeze(1, 1);
        kv.write_frozen().unwrap();
        drop(kv);
        let (kv, again) = store(&dir);
        assert_eq!((again.entries(), again.bytes()), (cache.entries(), cache.bytes()));
        assert_eq!((again.first, again.next()), (cache.first, cache.next()));
        assert_eq!(kept(&again, &kv), kept(&cache, &kv));
    }

    #[test]
    fn damage_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let (kv, mut cache) = store(&dir);
        keep(&mut cache, &kv, 1, b"reply");
        keep(&mut cache, &kv, 2, b"reply");
        keep(&mut cache, &kv, 3, b"reply");
        kv.delete(Bytes::copy_from_slice(&reply_key(1)));
        assert!(ReplyCache::open(&kv).is_err(), "a gap");
        kv.put(Bytes::copy_from_slice(&reply_key(1)), Bytes::from_static(&[FORMAT, 255, 255]));
        assert!(ReplyCache::open(&kv).is_err(), "a row that is too short");
    }
}
