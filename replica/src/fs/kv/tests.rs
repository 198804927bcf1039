//! Goal: a key reads as what was last put there, whichever layer holds it, and a crash leaves exactly the last
//! checkpoint. Method: random histories against a `BTreeMap`, with freezes, checkpoints, crashes (the store
//! is dropped) and a cache far too small; threads that read while checkpoints go on; files that are not ours.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use proptest::prelude::*;
use tempfile::TempDir;

use super::{FORMAT, Kv, KvWriter};
use crate::disk::{Disk, RealDisk};
use crate::fs::OpenError;

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

const CACHE_BYTES: u64 = 1 << 20;

fn disk(path: &Path) -> Arc<dyn Disk> {
    Arc::new(RealDisk::new(path.parent().unwrap()))
}

fn open_kv(path: &Path, cache_bytes: u64) -> Result<(Kv, u64, u64), OpenError> {
    Kv::open(&disk(path), Path::new(path.file_name().unwrap()), cache_bytes)
}

fn create(path: &Path) -> Result<KvWriter, OpenError> {
    KvWriter::create(disk(path), Path::new(path.file_name().unwrap()))
}

fn fresh() -> (TempDir, PathBuf, Kv) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("meta.redb");
    let (kv, index, term) = open_kv(&path, CACHE_BYTES).unwrap();
    assert_eq!((index, term), (0, 0));
    (dir, path, kv)
}

fn put(kv: &Kv, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
    kv.put(Bytes::copy_from_slice(key.as_ref()), Bytes::copy_from_slice(value.as_ref()));
}

fn checkpoint(kv: &Kv, index: u64) {
    kv.freeze(index, 1);
    kv.write_frozen().unwrap();
}

fn rows(kv: &Kv, from: &[u8], to: &[u8], limit: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut found = Vec::new();
    kv.range(from, to, &mut |key, value| {
        found.push((key.to_vec(), value.to_vec()));
        found.len() < limit
    })
    .unwrap();
    found
}

fn open_error(path: &Path) -> OpenError {
    match open_kv(path, CACHE_BYTES) {
        Ok(_) => panic!("{} was opened", path.display()),
        Err(error) => error,
    }
}

#[derive(Clone, Debug)]
enum Step {
    Put(u8, u8),
    Delete(u8),
    Get(u8),
    Range(u8, u8, usize),
    Freeze,
    Write,
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..48_u8, any::<u8>()).prop_map(|(k, v)| Step::Put(k, v)),
        4 => (0..48_u8).prop_map(Step::Delete),
        4 => (0..48_u8).prop_map(Step::Get),
        3 => (0..50_u8, 0..50_u8, 1..60_usize).prop_map(|(a, b, n)| Step::Range(a, b, n)),
        2 => Just(Step::Freeze),
        2 => Just(Step::Write),
        1 => Just(Step::Crash),
    ]
}

fn key(k: u8) -> Vec<u8> {
    // Keys of several lengths, some a prefix of others.
    vec![k / 3; 1 + usize::from(k % 3)]
}

fn value(v: u8) -> Vec<u8> {
    vec![v; usize::from(v)]
}

/// What a user would find in each of the three states.
#[derive(Default)]
struct Expected {
    live: Model,
    frozen: Option<(Model, u64)>,
    durable: (Model, u64),
    index: u64,
}

impl Expected {
    fn apply(&mut self, kv: &mut Option<Kv>, path: &Path, step: &Step) -> Result<(), TestCaseError> {
        let open = kv.as_ref().unwrap();
        match *step {
            Step::Put(k, v) => {
                put(open, key(k), value(v));
                self.live.insert(key(k), value(v));
            }
            Step::Delete(k) => {
                open.delete(key(k).into());
                self.live.remove(&key(k));
            }
            Step::Get(k) => {
                let got = open.get(&key(k)).unwrap().map(|v| v.to_vec());
                prop_assert_eq!(got.as_ref(), self.live.get(&key(k)));
            }
            Step::Range(from, to, limit) => {
                let (from, to) = (key(from), key(to));
                let expected: Vec<_> = match from < to {
                    true => self.live.range(from.clone()..to.clone()).take(limit).collect(),
                    false => Vec::new(),
                };
                let got = rows(open, &from, &to, limit);
                prop_assert_eq!(got.iter().map(|(k, v)| (k, v)).collect::<Vec<_>>(), expected);
            }
            Step::Freeze if self.frozen.is_none() => {
                self.index += 1;
                open.freeze(self.index, self.index * 10);
                self.frozen = Some((self.live.clone(), self.index));
            }
            Step::Freeze => {}
            Step::Write => {
                open.write_frozen().unwrap();
                self.durable = self.frozen.take().unwrap_or_else(|| self.durable.clone());
            }
            Step::Crash => {
                drop(kv.take());
                let (again, index, term) = open_kv(path, 4096).unwrap();
                prop_assert_eq!((index, term), (self.durable.1, self.durable.1 * 10));
                self.live = self.durable.0.clone();
                (self.frozen, self.index) = (None, index);
                *kv = Some(again);
            }
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn layers_read_as_one_map(steps in prop::collection::vec(step(), 1..120)) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("meta.redb");
        let mut kv = Some(open_kv(&path, 4096).unwrap().0);
        let mut expected = Expected::default();
        for step in &steps {
            expected.apply(&mut kv, &path, step)?;
        }
        for k in 0..48 {
            expected.apply(&mut kv, &path, &Step::Get(k))?;
        }
        expected.apply(&mut kv, &path, &Step::Range(0, 49, usize::MAX))?;
    }
}

/// A directory of 100,000 entries, half on disk, a part frozen, a part fresh, a third deleted, is read in
/// pages as a client reads it: every entry once, in order.
#[test]
fn a_large_range_reads_in_pages() {
    let (_dir, _path, kv) = fresh();
    let entry = |n: u32| [b"d/".as_slice(), &n.to_be_bytes()].concat();
    let mut model = Model::new();
    for n in 0..100_000_u32 {
        if n == 50_000 {
            checkpoint(&kv, 1);
        }
        if n == 75_000 {
            kv.freeze(2, 1);
        }
        put(&kv, entry(n), n.to_le_bytes());
        model.insert(entry(n), n.to_le_bytes().to_vec());
    }
    for n in (0..100_000_u32).filter(|n| n % 3 == 0) {
        kv.delete(entry(n).into());
        model.remove(&entry(n));
    }
    let (mut from, mut found) = (b"d/".to_vec(), Model::new());
    loop {
        let page = rows(&kv, &from, b"d0", 1000);
        let Some((last, _)) = page.last() else {
            break;
        };
        assert!(page.is_sorted());
        from = [last.as_slice(), &[0]].concat();
        found.extend(page);
    }
    assert!(found == model, "{} entries instead of {}", found.len(), model.len());
}

/// A range that a freeze, a checkpoint and changes interrupt still shows every key that was there all along.
#[test]
fn a_range_survives_a_checkpoint_in_its_middle() {
    let (_dir, _path, kv) = fresh();
    for n in 0..2000_u32 {
        put(&kv, n.to_be_bytes(), b"x");
    }
    let mut seen = Vec::new();
    kv.range(&[], &[0xff], &mut |key, _| {
        if seen.len() == 100 || seen.len() == 700 {
            checkpoint(&kv, seen.len() as u64);
            put(&kv, 1999_u32.to_be_bytes(), b"y");
        }
        assert!(kv.get(key).unwrap().is_some());
        seen.push(key.to_vec());
        true
    })
    .unwrap();
    assert_eq!(seen, (0..2000_u32).map(|n| n.to_be_bytes().to_vec()).collect::<Vec<_>>());
}

/// Readers never see a value go back, however look-ups, cache fills and checkpoints interleave.
#[test]
fn readers_never_see_an_older_value() {
    const KEYS: u64 = 64;
    let (_dir, _path, kv) = fresh();
    let stop = AtomicBool::new(false);
    let number = |value: Option<Bytes>| value.map_or(0, |v| u64::from_le_bytes(v[..].try_into().unwrap()));
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut last = [0; KEYS as usize];
                while !stop.load(Ordering::Relaxed) {
                    for key in 0..KEYS {
                        let now = number(kv.get(&key.to_be_bytes()).unwrap());
                        let before = std::mem::replace(&mut last[key as usize], now);
                        assert!(now >= before, "key {key} went from {before} back to {now}");
                    }
                }
            });
        }
        for round in 1..=150 {
            for key in (0..KEYS).filter(|key| (key + round) % 4 != 0) {
                put(&kv, key.to_be_bytes(), round.to_le_bytes());
            }
            kv.freeze(round, 1);
            std::thread::scope(|inner| {
                inner.spawn(|| kv.write_frozen().unwrap());
            });
        }
        stop.store(true, Ordering::Relaxed);
    });
}

/// The same, for the one interleaving that matters most: a look-up that read redb before a checkpoint and fills
/// the cache after it.
#[test]
fn a_late_reader_does_not_cache_an_old_value() {
    let (_dir, _path, kv) = fresh();
    put(&kv, b"key", b"old");
    checkpoint(&kv, 1);
    let snapshot = kv.layers.read().snapshot.clone();
    let old = kv.db.get(&snapshot, b"key").unwrap();
    put(&kv, b"key", b"new");
    checkpoint(&kv, 2);
    kv.fill(&snapshot, b"key", old.as_ref());
    assert_eq!(kv.get(b"key").unwrap().unwrap(), "new");
}

/// Only what is on the way to the next checkpoint counts as dirty, and a key counts once.
#[test]
fn a_key_changed_often_is_kept_once() {
    let (_dir, _path, kv) = fresh();
    put(&kv, b"inode", [0; 100]);
    let once = kv.dirty_bytes();
    for _ in 0..1000 {
        put(&kv, b"inode", [1; 100]);
        kv.delete(Bytes::from_static(b"inode"));
        put(&kv, b"inode", [1; 100]);
    }
    assert_eq!(kv.dirty_bytes(), once);
    kv.freeze(1, 1);
    assert_eq!((kv.dirty_bytes(), kv.frozen_bytes()), (0, once));
    kv.write_frozen().unwrap();
    assert_eq!(kv.frozen_bytes(), 0);
    assert_eq!(kv.get(b"inode").unwrap().unwrap(), vec![1; 100]);
}

/// The cache stays within its bytes however much is read, and absences count too.
#[test]
fn the_cache_is_bounded() {
    let (_dir, _path, kv) = fresh();
    for n in 0..20_000_u32 {
        put(&kv, n.to_be_bytes(), [7; 100]);
    }
    checkpoint(&kv, 1);
    for n in 0..40_000_u32 {
        assert_eq!(kv.get(&n.to_be_bytes()).unwrap().is_some(), n < 20_000);
    }
    assert!(kv.cache.weight() <= CACHE_BYTES, "{} bytes", kv.cache.weight());
    assert!(kv.cache.weight() > CACHE_BYTES / 2, "{} bytes", kv.cache.weight());
}

/// An image shows its checkpoint and nothing later, and a store built from its rows equals it.
#[test]
fn an_image_stands_still_while_the_store_goes_on() {
    let (dir, _path, kv) = fresh();
    for n in 0..5000_u32 {
        put(&kv, n.to_be_bytes(), n.to_le_bytes());
    }
    checkpoint(&kv, 7);
    put(&kv, b"not yet durable", b"x");
    let mut image = kv.image().unwrap();
    assert_eq!((image.index(), image.term(), image.rows()), (7, 1, 5000));

    let copy = dir.path().join("copy.redb");
    let mut writer = create(&copy).unwrap();
    let (mut count, mut round) = (0, 8);
    loop {
        let batch = image.next_batch(10_000).unwrap();
        if batch.is_empty() {
            break;
        }
        assert!(batch.len() <= 10_000 / 8 + 1, "a batch of {} rows", batch.len());
        for (key, value) in batch {
            writer.put(&key, &value).unwrap();
            count += 1;
        }
        // The source changes every row meanwhile.
        for n in 0..5000_u32 {
            put(&kv, n.to_be_bytes(), [0; 9]);
        }
        kv.delete(4999_u32.to_be_bytes().to_vec().into());
        checkpoint(&kv, round);
        round += 1;
    }
    writer.finish(image.index(), image.term()).unwrap();
    assert_eq!(count, 5000);

    let (copied, index, term) = open_kv(&copy, CACHE_BYTES).unwrap();
    assert_eq!((index, term), (7, 1));
    for n in 0..5000_u32 {
        assert_eq!(copied.get(&n.to_be_bytes()).unwrap().unwrap(), &n.to_le_bytes()[..]);
    }
    assert_eq!(copied.get(b"not yet durable").unwrap(), None);
}

#[test]
fn an_unfinished_copy_is_refused() {
    let (dir, _path, _kv) = fresh();
    let copy = dir.path().join("copy.redb");
    let mut writer = create(&copy).unwrap();
    for n in 0..10_u32 {
        writer.put(&n.to_be_bytes(), &vec![1; 1 << 20]).unwrap();
    }
    drop(writer);
    let error = open_error(&copy);
    assert!(matches!(error, OpenError::Unfinished { .. }), "{error}");
    assert!(error.to_string().contains("copy.redb"), "{error}");
    // What is there, finished or not, is not overwritten.
    assert!(create(&copy).is_err());
}

#[test]
fn a_future_format_is_refused_untouched() {
    let (_dir, path, kv) = fresh();
    put(&kv, b"key", b"value");
    checkpoint(&kv, 3);
    let txn = kv.db.begin_write().unwrap();
    {
        let table: redb::TableDefinition<&str, u64> = redb::TableDefinition::new("checkpoint");
        txn.open_table(table).unwrap().insert("format", FORMAT + 1).unwrap();
    }
    txn.commit().unwrap();
    drop(kv);
    let error = open_error(&path);
    assert!(matches!(error, OpenError::Format { version, .. } if version == FORMAT + 1), "{error}");
    assert!(error.to_string().contains("meta.redb"), "{error}");
}

#[test]
fn a_second_daemon_is_refused() {
    let (_dir, path, kv) = fresh();
    let error = open_error(&path);
    assert!(matches!(error, OpenError::Locked { .. }), "{error}");
    drop(kv);
    open_kv(&path, CACHE_BYTES).unwrap();
}

#[test]
fn files_that_are_no_store_are_refused_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("meta.redb");
    for garbage in [vec![], b"not a database".to_vec(), vec![0; 100_000], vec![0xff; 100_000]] {
        std::fs::write(&path, &garbage).unwrap();
        let error = open_error(&path);
        assert!(matches!(error, OpenError::Corrupt { .. }), "{} bytes: {error:?}", garbage.len());
        assert_eq!(std::fs::read(&path).unwrap(), garbage);
    }
}

/// A crash while a new store is made leaves a file under another name, which the next start replaces.
#[test]
fn an_interrupted_birth_is_no_obstacle() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("meta.redb");
    std::fs::write(path.with_extension("new"), b"half a file").unwrap();
    let (kv, ..) = open_kv(&path, CACHE_BYTES).unwrap();
    put(&kv, b"key", b"value");
    assert!(!path.with_extension("new").exists());
}
