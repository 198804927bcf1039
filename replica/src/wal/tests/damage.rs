//! Goal: what was durable and is not there any more is never passed over in silence, and nothing is overwritten
//! then; what a power cut tore is dropped for good.
//! Method: bits flipped, files removed or swapped on a simulated disk; power cuts from many seeds.

use super::*;

const FIRST: &str = "0000000000000001.wal";

/// Opening fails, names the file and the remedy, and leaves every byte as it is.
fn assert_refused(disk: &SimDisk, file: &str, offset: Option<u64>) {
    let before = dump(disk);
    let error = open(disk).expect_err("damage was passed over");
    let message = error.to_string();
    assert!(message.contains(file), "{message}");
    assert!(message.contains("let the peer rebuild it"), "{message}");
    let WalError::Damaged { offset: found, .. } = error else { panic!("{message}") };
    assert!(offset.is_none_or(|o| o == found), "{message}");
    assert!(before == dump(disk), "something was overwritten");
}

/// Entries 1 to 8 in batches of two, each synced.
fn synced_batches() -> SimDisk {
    let disk = SimDisk::new();
    let mut wal = open(&disk).expect("create").wal;
    for first in [1, 3, 5, 7] {
        wal.append(None, &[entry(first, 1, 300), entry(first + 1, 1, 300)]).expect("append");
        wal.sync().expect("sync");
    }
    disk
}

#[test]
fn a_flipped_bit_in_what_was_durable_is_refused() {
    // 352 bytes a record: six records lie below the mark of the last batch.
    for offset in (4096..4096 + 6 * 352).step_by(41) {
        let disk = synced_batches();
        disk.flip_bit(Path::new(FIRST), offset, 3).expect("flip");
        assert_refused(&disk, FIRST, Some(offset - (offset - 4096) % 352));
    }
}

#[test]
fn a_flipped_bit_in_a_header_is_refused() {
    for offset in [0, 9, 13, 17, 40, 70, 4095] {
        let disk = synced_batches();
        disk.flip_bit(Path::new(FIRST), offset, 0).expect("flip");
        let before = dump(&disk);
        assert!(open(&disk).is_err(), "flip at {offset} was passed over");
        assert!(before == dump(&disk), "something was overwritten");
    }
}

/// Enough for four segments.
fn several_segments() -> SimDisk {
    let disk = SimDisk::new();
    let mut wal = open(&disk).expect("create").wal;
    for index in 1..=12 {
        wal.append(None, &[entry(index, 1, 3900)]).expect("append");
    }
    wal.sync().expect("sync");
    disk
}

#[test]
fn a_flipped_bit_in_the_last_record_of_an_old_segment_is_refused() {
    let disk = several_segments();
    disk.flip_bit(Path::new(FIRST), 4096 + 2 * 3952 + 100, 0).expect("flip");
    assert_refused(&disk, FIRST, Some(4096 + 2 * 3952));
}

#[test]
fn a_missing_segment_is_refused() {
    let disk = several_segments();
    disk.remove(Path::new("0000000000000002.wal")).expect("remove");
    assert_refused(&disk, "0000000000000002.wal", None);
}

#[test]
fn a_segment_under_another_number_or_of_another_log_is_refused() {
    let disk = several_segments();
    disk.rename(Path::new("0000000000000003.wal"), Path::new("0000000000000002.wal")).expect("rename");
    assert_refused(&disk, "0000000000000002.wal", Some(0));

    let (disk, other) = (several_segments(), dump(&several_segments()));
    let file = disk.open(Path::new("0000000000000002.wal"), false).expect("open");
    file.write_at(&[&other[1].1], 0).expect("write");
    assert_refused(&disk, "0000000000000002.wal", Some(0));
}

#[test]
fn a_future_format_is_refused_by_its_number() {
    let disk = synced_batches();
    let file = disk.open(Path::new(FIRST), false).expect("open");
    file.write_at(&[&9_u32.to_le_bytes()], 8).expect("write");
    let before = dump(&disk);
    let message = open(&disk).expect_err("a future format was read").to_string();
    assert!(message.contains("log format 9, this hanfs reads format 1"), "{message}");
    assert!(before == dump(&disk));
}

/// A whole record behind a torn one must not come back when its place is reached again by records of the
/// same length.
#[test]
fn a_dropped_tail_stays_dropped() {
    let mut torn = 0;
    for seed in 0..300 {
        let disk = SimDisk::new();
        let mut wal = open(&disk).expect("create").wal;
        wal.append(None, &[entry(1, 1, 971)]).expect("append");
        wal.sync().expect("sync");
        wal.append(None, &[entry(2, 1, 971), entry(3, 1, 971), entry(4, 1, 971)]).expect("append");
        disk.crash(seed);
        let mut opened = open(&disk).expect("a torn tail is no damage");
        torn += u32::from(opened.torn_bytes > 0);
        let last = opened.last.0;
        opened.wal.append(None, &[entry(last + 1, 2, 971)]).expect("append");
        opened.wal.sync().expect("sync");
        disk.crash(seed);
        let opened = open(&disk).expect("open");
        assert_eq!(opened.last, (last + 1, 2), "seed {seed}: a dropped record came back");
    }
    assert!(torn > 50, "the crashes of this test tore only {torn} tails");
}

/// A file may end before its segment does: nothing was written there.
#[test]
fn a_file_that_ends_early_is_a_log_that_ends_there() {
    let disk = synced_batches();
    let file = disk.open(Path::new(FIRST), false).expect("open the segment");
    file.set_len(4096 + 8 * 352).expect("cut the segment");
    let mut opened = open(&disk).expect("open");
    assert_eq!((opened.last, opened.torn_bytes), ((8, 1), 0));
    opened.wal.append(None, &[entry(9, 1, 300)]).expect("append");
    opened.wal.sync().expect("sync");
    assert_eq!(open(&disk).expect("open").last, (9, 1));
}

#[test]
fn recycled_segments_of_an_older_use_are_not_read() {
    let disk = SimDisk::new();
    let mut wal = open(&disk).expect("create").wal;
    for index in 1..=40 {
        wal.append(None, &[entry(index, 1, 3900)]).expect("append");
        wal.cut(index.saturating_sub(2)).expect("cut");
    }
    wal.sync().expect("sync");
    let opened = open(&disk).expect("open");
    assert_eq!(opened.last, (40, 1));
    assert_eq!(opened.torn_bytes, 0);
}

/// A commit index whose entries a power cut took must not cover other entries later.
#[test]
fn a_commit_index_beyond_the_log_is_forgotten() {
    let mut cut = 0;
    for seed in 0..100 {
        let disk = SimDisk::new();
        let mut wal = open(&disk).expect("create").wal;
        let state = StableState { term: 1, commit: 1, ..Default::default() };
        wal.append(Some(&state), &[entry(1, 1, 3000)]).expect("append");
        disk.crash(seed);
        let Opened { mut wal, state, last, .. } = open(&disk).expect("open");
        if (state.term, last.0) != (1, 0) {
            continue;
        }
        cut += 1;
        wal.append(None, &[entry(1, 2, 10)]).expect("append");
        drop(wal);
        assert_eq!(open(&disk).expect("open").state.commit, 0, "seed {seed}: entry 1 was never committed");
    }
    assert!(cut > 5, "in only {cut} crashes the state survived alone");
}

#[test]
fn a_flipped_bit_where_a_session_begins_is_refused() {
    for offset in [4096 + 8 * 352, 4096 + 8 * 352 + 40] {
        let disk = synced_batches();
        let mut wal = open(&disk).expect("open").wal;
        wal.append(None, &[entry(9, 1, 300)]).expect("append");
        drop(wal);
        disk.flip_bit(Path::new(FIRST), offset, 0).expect("flip");
        assert_refused(&disk, FIRST, Some(4096 + 8 * 352));
    }
}
