//! Goal: content reads as what was last written, effects reach the host no earlier than their entries are
//! durable, and after a crash replay gives the same bytes. Method: random histories against vectors, crashes
//! that left any part of the effects in any order, and looks at the host's files themselves.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use proptest::prelude::*;
use proptest::sample::Index;
use tempfile::TempDir;

use super::parts::{PART_BYTES, Part};
use super::{Content, ContentFile, ContentOptions, ContentWriter, DIRS};
use crate::disk::{Disk, RealDisk};
use crate::fs::FILE_SIZE_MAX;
use crate::ids::FileId;

const FILES: u64 = 4;
/// Histories stay below this size: a few host pages.
const SIZE: usize = 12_000;
/// Sizes of a part for the histories: the real one, and one that a history spans several times.
const PARTS: [u64; 2] = [PART_BYTES, 3_001];

fn disk(dir: &Path) -> Arc<dyn Disk> {
    Arc::new(RealDisk::new(dir))
}

fn open(dir: &Path, checkpointed: u64, apply_before_durable: bool) -> Content {
    open_with(dir, checkpointed, apply_before_durable, PART_BYTES)
}

fn open_with(dir: &Path, checkpointed: u64, apply_before_durable: bool, part_bytes: u64) -> Content {
    let options = ContentOptions { open_files: 2, apply_before_durable };
    Content::with_parts(disk(dir), checkpointed, options, part_bytes).unwrap()
}

fn fresh(apply_before_durable: bool) -> (TempDir, Content) {
    let dir = tempfile::tempdir().unwrap();
    let content = open(&dir.path().join("content"), 0, apply_before_durable);
    (dir, content)
}

fn host_path(dir: &TempDir, file: u64) -> std::path::PathBuf {
    dir.path().join("content").join(Part::first(FileId(file)).path())
}

fn read(content: &Content, file: u64, offset: u64, len: usize) -> Vec<u8> {
    content.read(FileId(file), offset, len).unwrap().to_vec()
}

fn write(content: &Content, index: u64, file: u64, offset: u64, data: &[u8]) {
    content.write(index, FileId(file), offset, &Bytes::copy_from_slice(data)).unwrap();
}

#[derive(Clone, Debug)]
enum Change {
    Write(u64, usize, Vec<u8>),
    Truncate(u64, usize),
}

fn change() -> impl Strategy<Value = Change> {
    let write = (0..FILES, 0..SIZE - 5000, 1..255_u8, 0..5000_usize)
        .prop_map(|(file, offset, byte, len)| Change::Write(file, offset, vec![byte; len]));
    let truncate = (0..FILES, 0..SIZE).prop_map(|(file, len)| Change::Truncate(file, len));
    prop_oneof![3 => write, 2 => truncate]
}

impl Change {
    fn apply(&self, content: &Content, index: u64) {
        match self {
            Self::Write(file, offset, data) => write(content, index, *file, *offset as u64, data),
            Self::Truncate(file, len) => content.truncate(index, FileId(*file), *len as u64).unwrap(),
        }
    }

    fn model(&self, model: &mut [Vec<u8>]) {
        match self {
            Self::Write(file, offset, data) => {
                model[*file as usize][*offset..*offset + data.len()].copy_from_slice(data)
            }
            Self::Truncate(file, len) => model[*file as usize][*len..].fill(0),
        }
    }
}

fn zeros() -> Vec<Vec<u8>> {
    vec![vec![0; SIZE]; FILES as usize]
}

#[derive(Clone, Debug)]
enum Step {
    Change(Change),
    /// A part of what is applied becomes durable.
    Durable(Index),
    Read(u64, usize, usize),
    Checkpoint,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => change().prop_map(Step::Change),
        2 => any::<Index>().prop_map(Step::Durable),
        4 => (0..FILES, 0..SIZE, 0..SIZE).prop_map(|(file, from, len)| Step::Read(file, from, len)),
        1 => Just(Step::Checkpoint),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn reads_equal_a_vector(
        steps in prop::collection::vec(step(), 1..60),
        before_durable: bool,
        part in prop::sample::select(&PARTS[..]),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let content = open_with(&dir.path().join("content"), 0, before_durable, part);
        let (mut model, mut applied, mut durable) = (zeros(), 0, 0);
        for step in steps {
            match step {
                Step::Change(change) => {
                    applied += 1;
                    change.apply(&content, applied);
                    change.model(&mut model);
                }
                Step::Durable(part) => {
                    durable += part.index((applied - durable) as usize + 1) as u64;
                    content.durable(durable).unwrap();
                }
                Step::Read(file, from, len) => {
                    let len = len.min(SIZE - from);
                    let expected = &model[file as usize][from..from + len];
                    prop_assert!(read(&content, file, from as u64, len) == expected);
                }
                Step::Checkpoint => {
                    durable = applied;
                    content.durable(durable).unwrap();
                    prop_assert_eq!(content.pending_bytes(), 0);
                    content.sync_dirty(applied).unwrap();
                    prop_assert_eq!(content.dirty_bytes(), 0);
                    content.unlink_removed(applied).unwrap();
                }
            }
        }
        for (file, expected) in model.iter().enumerate() {
            prop_assert!(&read(&content, file as u64, 0, SIZE) == expected);
        }
    }

    /// A crash after the checkpoint left some of the later effects on the disk, some of them in part, in any
    /// order. Replay from the checkpoint gives what a node without a crash has.
    #[test]
    fn replay_converges(
        before in prop::collection::vec(change(), 0..10),
        after in prop::collection::vec(change(), 1..20),
        reached in prop::collection::vec((any::<Index>(), any::<Index>()), 0..20),
        part in prop::sample::select(&PARTS[..]),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let content = open_with(&dir.path().join("content"), 0, false, part);
        let (mut model, checkpoint) = (zeros(), before.len() as u64);
        for (change, index) in before.iter().zip(1..) {
            change.apply(&content, index);
            change.model(&mut model);
        }
        content.sync_dirty(checkpoint).unwrap();
        for (which, part) in reached {
            let mut change = which.get(&after).clone();
            if let Change::Write(_, offset, data) = &mut change {
                // Some pages of the write: its middle part.
                let skip = part.index(data.len() + 1);
                *offset += skip;
                *data = data[skip..].iter().copied().take(4096).collect();
            }
            change.apply(&content, checkpoint + 1);
        }
        drop(content);

        let content = open_with(&dir.path().join("content"), checkpoint, false, part);
        for (change, index) in after.iter().zip(checkpoint + 1..) {
            change.apply(&content, index);
            change.model(&mut model);
        }
        for (file, expected) in model.iter().enumerate() {
            prop_assert!(&read(&content, file as u64, 0, SIZE) == expected);
        }
    }
}

/// Invariant 3: nothing of an entry is in the host's file before it is durable, and a reader sees it anyway.
#[test]
fn effects_wait_for_their_entry() {
    let (dir, content) = fresh(true);
    write(&content, 1, 9, 0, b"hello");
    write(&content, 2, 9, 5, b" world");
    content.truncate(3, FileId(9), 8).unwrap();
    assert!(!host_path(&dir, 9).exists());
    assert_eq!(read(&content, 9, 0, 12), b"hello wo\0\0\0\0");
    assert!(content.pending_bytes() >= 11);
    content.durable(1).unwrap();
    assert_eq!(std::fs::read(host_path(&dir, 9)).unwrap(), b"hello");
    content.durable(2).unwrap();
    assert_eq!(std::fs::read(host_path(&dir, 9)).unwrap(), b"hello world");
    assert_eq!(read(&content, 9, 0, 12), b"hello wo\0\0\0\0");
    content.durable(7).unwrap();
    assert_eq!(std::fs::read(host_path(&dir, 9)).unwrap(), b"hello wo");
    assert_eq!(content.pending_bytes(), 0);
    // What is durable before it is applied does not wait.
    write(&content, 7, 9, 0, b"J");
    assert_eq!(std::fs::read(host_path(&dir, 9)).unwrap(), b"Jello wo");
}

#[test]
#[should_panic(expected = "not durable yet")]
fn a_checkpoint_ahead_of_the_log_is_refused() {
    let (_dir, content) = fresh(true);
    write(&content, 5, 1, 0, b"x");
    content.durable(4).unwrap();
    let _ = content.sync_dirty(5);
}

/// The interleavings that matter most. Effects reach the host between a reader's two looks; and an effect whose
/// entry is durable comes while older ones are still on their way.
#[test]
fn effects_on_their_way_are_neither_missed_nor_overtaken() {
    let (_dir, content) = fresh(true);
    write(&content, 1, 1, 0, b"old");
    let seen = content.read_in_two(FileId(1), 0, 3, || content.durable(1).unwrap()).unwrap();
    assert_eq!(seen, "old");
    assert_eq!(read(&content, 1, 0, 3), b"old");

    write(&content, 2, 1, 0, b"older");
    assert!(content.pending.as_ref().unwrap().note_durable(3));
    write(&content, 3, 1, 0, b"newer");
    assert_eq!(read(&content, 1, 0, 5), b"newer");
    content.durable(3).unwrap();
    assert_eq!(read(&content, 1, 0, 5), b"newer");
}

/// While effects go from memory to the host file, a reader never sees bytes older than the last applied.
#[test]
fn a_reader_never_sees_bytes_from_before() {
    const WORDS: usize = 2000;
    const ROUNDS: u64 = 20_000;
    let oldest = |content: &Content| {
        let data = read(content, 1, 0, WORDS * 8);
        data.as_chunks().0.iter().map(|word| u64::from_le_bytes(*word)).min().unwrap()
    };
    let (_dir, content) = fresh(true);
    let (applied, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(Ordering::Acquire) {
                    let at_least = applied.load(Ordering::Acquire);
                    let oldest = oldest(&content);
                    assert!(oldest >= at_least, "{oldest} after {at_least} was applied");
                }
            });
        }
        scope.spawn(|| {
            // The log is at times one ahead of what is applied: then an effect need not wait, unless others do.
            for ahead in [0, 1].into_iter().cycle() {
                content.durable(applied.load(Ordering::Acquire) + ahead).unwrap();
                if stop.load(Ordering::Acquire) {
                    break;
                }
            }
        });
        for round in 1..=ROUNDS {
            write(&content, round, 1, 0, &round.to_le_bytes().repeat(WORDS));
            applied.store(round, Ordering::Release);
        }
        stop.store(true, Ordering::Release);
    });
    content.durable(ROUNDS).unwrap();
    assert_eq!(oldest(&content), ROUNDS);
}

#[test]
fn what_was_never_written_is_zeros_and_takes_no_space() {
    let (dir, content) = fresh(false);
    assert_eq!(read(&content, 5, 1 << 40, 10), [0; 10]);
    assert_eq!(read(&content, 5, 0, 0), []);
    content.truncate(1, FileId(5), 1 << 40).unwrap();
    write(&content, 2, 5, 1 << 40, b"");
    assert!(!host_path(&dir, 5).exists());

    let far = FILE_SIZE_MAX - 3;
    write(&content, 3, 5, far, b"end");
    assert_eq!(read(&content, 5, far - 4, 20), [&[0; 4], b"end".as_slice(), &[0; 13]].concat());
    assert_eq!(read(&content, 5, 1 << 30, 4), [0; 4]);

    let chunk = content.read_chunk(FileId(5), 0, 1 << 20).unwrap().unwrap();
    assert!(chunk.offset > far - 65_536 && chunk.data.len() <= 65_536, "holes are left out");
    assert!(chunk.data.ends_with(b"end"));
    let next = chunk.offset + chunk.data.len() as u64;
    assert_eq!(content.read_chunk(FileId(5), next, 1 << 20).unwrap(), None);
}

#[test]
fn a_removed_file_stays_until_its_checkpoint() {
    let (dir, content) = fresh(false);
    write(&content, 1, 5, 0, b"five");
    write(&content, 2, 6, 0, b"six");
    content.remove(3, FileId(5)).unwrap();
    content.remove(4, FileId(6)).unwrap();
    content.remove(5, FileId(7)).unwrap();
    content.sync_dirty(3).unwrap();
    assert!(host_path(&dir, 5).exists());
    content.unlink_removed(3).unwrap();
    assert!(!host_path(&dir, 5).exists() && host_path(&dir, 6).exists());
    content.sync_dirty(9).unwrap();
    content.unlink_removed(9).unwrap();
    assert!(!host_path(&dir, 6).exists());
}

/// A crash between the checkpoint's transaction and its unlinks leaves no orphan; one before the transaction
/// loses nothing.
#[test]
fn unlinking_is_finished_after_a_crash() {
    for committed in [false, true] {
        let (dir, content) = fresh(false);
        write(&content, 1, 5, 0, b"five");
        write(&content, 2, 6, 0, b"six");
        content.remove(3, FileId(5)).unwrap();
        content.sync_dirty(3).unwrap();
        drop(content);
        let content = open(&dir.path().join("content"), if committed { 3 } else { 2 }, false);
        assert_eq!(host_path(&dir, 5).exists(), !committed);
        assert_eq!(read(&content, 6, 0, 3), b"six");
    }
}

/// Memory durability: a removal that may yet be lost does not keep its file out of the checkpoint before it.
#[test]
fn a_removal_that_is_not_durable_leaves_its_file_dirty() {
    for apply_before_durable in [false, true] {
        let (_dir, content) = fresh(apply_before_durable);
        // The first is of everything, whatever was changed.
        content.sync_dirty(0).unwrap();
        content.durable(1).unwrap();
        write(&content, 1, 5, 0, b"five");
        content.remove(2, FileId(5)).unwrap();
        assert_eq!(content.host.is_dirty(FileId(5)), apply_before_durable);
    }
}

/// Golden bytes of the list's format 1: a later hanfs must read what this one wrote.
#[test]
fn the_list_of_removals_keeps_its_format() {
    let (dir, content) = fresh(false);
    content.remove(0x0102, FileId(0x0a)).unwrap();
    content.remove(0x0103, FileId(0x0b0c)).unwrap();
    content.remove(0x0104, FileId(0x0d)).unwrap();
    content.sync_dirty(0x0103).unwrap();
    let bytes = std::fs::read(dir.path().join("content/removed")).unwrap();
    let golden = [
        b"HFRM\x01\0\0\0\x03\x01\0\0\0\0\0\0".as_slice(),
        b"\x0a\0\0\0\0\0\0\0\x0c\x0b\0\0\0\0\0\0",
        b"\xd2\xf1\x2b\x2e",
    ];
    assert_eq!(bytes, golden.concat());
}

/// A torn or foreign list of removals is not followed.
#[test]
fn a_torn_list_of_removals_counts_for_nothing() {
    let (dir, content) = fresh(false);
    write(&content, 1, 5, 0, b"five");
    write(&content, 1, 6, 0, b"six");
    content.remove(2, FileId(5)).unwrap();
    content.sync_dirty(2).unwrap();
    drop(content);
    let list = dir.path().join("content/removed");
    let whole = std::fs::read(&list).unwrap();
    let mut flipped = whole.clone();
    // The id 5 becomes 6.
    flipped[16] ^= 3;
    for torn in [&whole[..whole.len() - 1], &whole[..10], &[], &flipped] {
        std::fs::write(&list, torn).unwrap();
        open(&dir.path().join("content"), 2, false);
        assert!(host_path(&dir, 5).exists() && host_path(&dir, 6).exists());
    }
    std::fs::write(&list, whole).unwrap();
    open(&dir.path().join("content"), 2, false);
    assert!(!host_path(&dir, 5).exists());
}

/// Thousands of small files between two checkpoints: few descriptors, and all of it counted and synced.
#[test]
fn many_dirty_files_need_few_descriptors() {
    let (_dir, content) = fresh(false);
    for file in 0..2000 {
        write(&content, file + 1, file, 0, &file.to_le_bytes());
    }
    assert_eq!(content.dirty_bytes(), 16_000);
    assert!(content.host.open_files() <= 2, "{} open", content.host.open_files());
    content.sync_dirty(2000).unwrap();
    assert_eq!(content.dirty_bytes(), 0);
    for file in 0..2000 {
        assert_eq!(read(&content, file, 0, 8), file.to_le_bytes());
    }
}

/// A full copy, chunk by chunk, equals the source; removed files are not in it.
#[test]
fn an_image_equals_its_source() {
    let (dir, content) = fresh(false);
    let mut model = HashMap::new();
    for file in 1..600_u64 {
        let data = vec![file as u8 | 1; (file * 37 % 9000) as usize + 1];
        let offset = (file % 7) * 1_000_000;
        write(&content, file, file, offset, &data);
        model.insert(file, (offset, data));
    }
    content.remove(600, FileId(300)).unwrap();
    model.remove(&300);

    let copy_dir = dir.path().join("copy");
    let mut writer = ContentWriter::create(disk(&copy_dir)).unwrap();
    let mut listed = Vec::new();
    for number in 0..DIRS {
        let files = content.list_files(number as u8).unwrap();
        assert!(files.is_sorted_by_key(|listed| listed.file));
        for ContentFile { file, len } in files {
            listed.push(file.0);
            let (start, data) = &model[&file.0];
            assert_eq!(len, start + data.len() as u64);
            let mut offset = 0;
            while let Some(chunk) = content.read_chunk(file, offset, 4000).unwrap() {
                offset = chunk.offset + chunk.data.len() as u64;
                writer.write(file, chunk.offset, &chunk.data).unwrap();
            }
        }
    }
    writer.finish().unwrap();
    assert_eq!(listed.len(), model.len());

    let copy = open(&copy_dir, 600, false);
    for (file, (offset, data)) in model {
        assert_eq!(read(&copy, file, offset, data.len()), data);
        assert_eq!(read(&copy, file, 0, offset.min(100) as usize), vec![0; offset.min(100) as usize]);
    }
    let refused = ContentWriter::create(disk(&copy_dir)).err().unwrap();
    assert!(refused.to_string().contains("not empty"), "{refused}");
}

/// A file of many parts: copied with its holes, cut, and removed, all of it, also after a restart.
#[test]
fn a_file_of_many_parts_is_one_file() {
    const PART: u64 = 4096;
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("content");
    let content = open_with(&root, 0, false, PART);
    let data: Vec<u8> = (0..3 * PART).map(|i| (i % 251) as u8 + 1).collect();
    write(&content, 1, 5, PART - 10, &data);
    write(&content, 2, 5, FILE_SIZE_MAX - 3, b"end");
    write(&content, 3, 6, 100 * PART, b"no first part");
    drop(content);

    let content = open_with(&root, 0, false, PART);
    assert_eq!(read(&content, 5, PART - 10, data.len()), data);
    assert_eq!(read(&content, 5, 0, 20), [0; 20]);
    assert_eq!(read(&content, 5, FILE_SIZE_MAX - 5, 5), b"\0\0end");
    let files = content.list_files(5).unwrap();
    assert_eq!(files, [ContentFile { file: FileId(5), len: FILE_SIZE_MAX }]);
    let mut writer = ContentWriter::with_parts(disk(&dir.path().join("copy")), PART).unwrap();
    for file in [FileId(5), FileId(6)] {
        let mut offset = 0;
        while let Some(chunk) = content.read_chunk(file, offset, 3000).unwrap() {
            offset = chunk.offset + chunk.data.len() as u64;
            writer.write(file, chunk.offset, &chunk.data).unwrap();
        }
    }
    writer.finish().unwrap();
    let copy = open_with(&dir.path().join("copy"), 0, false, PART);
    assert_eq!(read(&copy, 5, PART - 10, data.len()), data);
    assert_eq!(read(&copy, 5, FILE_SIZE_MAX - 3, 3), b"end");
    assert_eq!(read(&copy, 6, 100 * PART, 13), b"no first part");

    content.truncate(4, FileId(5), 2 * PART + 7).unwrap();
    write(&content, 5, 5, 5 * PART, b"later");
    let left = (PART + 17) as usize;
    assert_eq!(read(&content, 5, PART - 10, left), data[..left]);
    assert_eq!(read(&content, 5, 2 * PART + 7, 3 * PART as usize - 7), vec![0; 3 * PART as usize - 7]);
    assert_eq!(read(&content, 5, FILE_SIZE_MAX - 3, 3), [0; 3], "what a truncate cut does not come back");

    content.remove(6, FileId(5)).unwrap();
    content.remove(6, FileId(6)).unwrap();
    content.sync_dirty(6).unwrap();
    drop(content);
    drop(open_with(&root, 6, false, PART));
    assert_eq!(std::fs::read_dir(root.join("large")).unwrap().count(), 0);
}

/// An error names the file and what was tried.
#[test]
fn errors_name_the_file() {
    let (dir, content) = fresh(false);
    std::fs::create_dir_all(host_path(&dir, 5)).unwrap();
    let error = content.write(1, FileId(5), 0, &Bytes::from_static(b"x")).unwrap_err();
    assert!(error.to_string().contains("content/05/0000000000000005"), "{error}");
}
