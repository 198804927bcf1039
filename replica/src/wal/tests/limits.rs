//! Goal: a sick or full disk is never trusted again, disk space comes back, limits have clear errors, and
//! readers are told where the log begins.
//! Method: faults injected into a simulated disk; long runs with cuts.

use super::*;
use crate::disk::RealDisk;

#[test]
fn a_failed_fdatasync_closes_the_log_for_good() {
    let disk = SimDisk::new();
    let mut wal = open(&disk).expect("create").wal;
    wal.append(None, &[entry(1, 1, 10)]).expect("append");
    disk.fail_next_sync();
    let message = wal.sync().expect_err("EIO was swallowed").to_string();
    assert!(message.contains("cannot fdatasync sim:/0000000000000001.wal"), "{message}");
    assert!(matches!(wal.sync(), Err(WalError::Poisoned)));
    assert!(matches!(wal.append(None, &[entry(2, 1, 10)]), Err(WalError::Poisoned)));
    assert!(matches!(wal.cut(1), Err(WalError::Poisoned)));
    assert!(matches!(wal.prepare_spare(), Err(WalError::Poisoned)));
}

#[test]
fn a_full_disk_closes_the_log_for_good() {
    let disk = SimDisk::new();
    let mut wal = open(&disk).expect("create").wal;
    disk.limit_writes(Some(1000));
    let error = wal.append(None, &[entry(1, 1, 3000)]).expect_err("ENOSPC was swallowed");
    assert!(matches!(error, WalError::Disk { action: "write", .. }), "{error}");
    disk.limit_writes(None);
    assert!(matches!(wal.append(None, &[entry(1, 1, 10)]), Err(WalError::Poisoned)));
    drop(wal);
    assert_eq!(open(&disk).expect("the half-written record is a torn tail").last, (0, 0));
}

#[test]
fn a_disk_too_full_for_a_spare_segment_harms_nothing() {
    let disk = SimDisk::new();
    let mut wal = open(&disk).expect("create").wal;
    let before = wal.bytes();
    disk.limit_writes(Some(5000));
    assert!(!wal.prepare_spare().expect("no error"));
    assert_eq!(wal.bytes(), before);
    disk.limit_writes(None);
    assert_eq!(dump(&disk).len(), 1, "the unfinished spare segment takes up space");
    while wal.prepare_spare().expect("prepare") {}
    assert_eq!(wal.bytes(), 3 * OPTIONS.segment_bytes);
    wal.append(None, &[entry(1, 1, 10)]).expect("append");
}

#[test]
fn the_disk_space_of_cut_entries_comes_back() {
    let disk = SimDisk::new();
    let mut wal = open(&disk).expect("create").wal;
    for index in 1..=500 {
        let state = StableState { term: 1, vote: index, ..Default::default() };
        wal.append(Some(&state), &[entry(index, 1, 3000)]).expect("append");
        if index % 20 == 0 {
            wal.cut(index - 2).expect("cut");
            let files: u64 = dump(&disk).iter().map(|(_, bytes)| bytes.len() as u64).sum();
            assert_eq!(files, wal.bytes());
            assert!(files <= 5 * OPTIONS.segment_bytes, "{files} bytes for 2 entries");
        }
    }
    let opened = open(&disk).expect("open");
    assert_eq!(opened.last, (500, 1));
    assert_eq!(opened.state.vote, 500, "the vote is as new as its segment");
}

/// Goal: what a backup lacks is known in bytes, over all segments.
#[test]
fn the_bytes_behind_an_entry_are_counted() {
    let disk = SimDisk::new();
    let opened = open(&disk).expect("create");
    let (mut wal, reader) = (opened.wal, opened.reader);
    assert_eq!(reader.bytes_after(0), 0);
    for index in 1..=50 {
        wal.append(None, &[entry(index, 1, 1000)]).expect("append");
    }
    assert_eq!(reader.bytes_after(50), 0);
    let one = reader.bytes_after(49);
    assert!((1000..1200).contains(&one), "{one}");
    for index in 0..50 {
        let (entries, bytes) = (50 - index, reader.bytes_after(index));
        assert!((entries * 1000..entries * 1200).contains(&bytes), "{bytes} behind entry {index}");
    }
    wal.cut(30).expect("cut");
    assert_eq!(
        reader.bytes_after(0),
        reader.bytes_after(reader.first_index() - 1),
        "what is cut does not count"
    );
}

#[test]
fn the_state_outlives_the_segment_it_was_written_to() {
    let disk = SimDisk::new();
    let mut wal = open(&disk).expect("create").wal;
    let state = StableState { term: 7, vote: 2, commit: 1, history: 9, witness: 11, ..Default::default() };
    wal.append(Some(&state), &[entry(1, 7, 100)]).expect("append");
    for index in 2..=20 {
        wal.append(None, &[entry(index, 7, 3000)]).expect("append");
    }
    wal.cut(18).expect("cut");
    let opened = open(&disk).expect("open");
    assert!(opened.base.0 > 1);
    assert_eq!(opened.state, StableState { commit: opened.base.0, ..state });
}

#[test]
fn readers_learn_where_the_log_begins() {
    let disk = SimDisk::new();
    let Opened { mut wal, reader, .. } = open(&disk).expect("create");
    for index in 1..=20 {
        wal.append(None, &[entry(index, 1, 3000)]).expect("append");
    }
    assert_eq!(reader.entries(3, 6, 1).expect("one at least"), vec![entry(3, 1, 3000)]);
    assert_eq!(reader.entries(3, 6, 6200).expect("as many as fit").len(), 2);
    assert_eq!(reader.entries(19, 30, usize::MAX).expect("as many as there are").len(), 2);
    assert_eq!(all(&reader), (1..=20).map(|i| entry(i, 1, 3000)).collect::<Vec<_>>());
    wal.cut(10).expect("cut");
    let first = reader.first_index();
    assert!((2..=11).contains(&first));
    assert!(matches!(reader.entries(1, 20, usize::MAX), Err(WalError::Compacted { first: f }) if f == first));
    assert_eq!(all(&reader), (first..=20).map(|i| entry(i, 1, 3000)).collect::<Vec<_>>());
}

#[test]
fn entries_that_do_not_fit_are_refused_and_leave_no_trace() {
    let disk = SimDisk::new();
    let state = StableState { term: 3, commit: 100, ..Default::default() };
    let created = Wal::create(Arc::new(disk.clone()), OPTIONS, (100, 3), &state).expect("create");
    assert_eq!((created.base, created.last, &created.state), ((100, 3), (100, 3), &state));
    let mut wal = created.wal;
    wal.append(None, &[entry(101, 3, 10)]).expect("append");
    let before = dump(&disk);
    for wrong in [vec![entry(100, 4, 1)], vec![entry(103, 3, 1)], vec![entry(102, 3, 1), entry(104, 3, 1)]] {
        assert!(matches!(wal.append(None, &wrong), Err(WalError::NotContiguous { .. })));
    }
    let too_large = wal.append(None, &[entry(102, 3, 1), entry(103, 3, 12 << 10)]);
    assert!(matches!(too_large, Err(WalError::TooLarge { .. })));
    let again = Wal::create(Arc::new(disk.clone()), OPTIONS, (0, 0), &state);
    assert!(matches!(again, Err(WalError::Exists { .. })));
    assert!(before == dump(&disk));
    wal.append(None, &[entry(102, 3, 10)]).expect("a refusal does not close the log");
    assert_eq!(all(&created.reader), vec![entry(101, 3, 10), entry(102, 3, 10)]);
}

#[test]
fn the_largest_entry_fits_a_segment_of_the_default_size() {
    let disk = SimDisk::new();
    let Opened { mut wal, reader, .. } =
        Wal::open(Arc::new(disk.clone()), WalOptions { segment_bytes: 16 << 20, ..OPTIONS }).expect("create");
    let largest = |index| {
        let mut entry = entry(index, 1, 0);
        entry.payload = vec![5; ENTRY_BYTES_MAX - entry.op.len()].into();
        entry
    };
    wal.append(None, &[largest(1), largest(2)]).expect("append");
    assert_eq!(reader.entries(2, 3, 1).expect("read"), vec![largest(2)]);
}

#[test]
fn the_same_log_on_the_hosts_own_files() {
    let dir = tempfile::tempdir().expect("tempdir");
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::new(dir.path().join("export/wal")));
    let mut wal = Wal::open(disk.clone(), OPTIONS).expect("create").wal;
    let batch: Vec<Entry> = (1..=2000).map(|i| entry(i, 1, 300)).collect();
    wal.append(None, &batch).expect("append");
    wal.append(None, &[entry(1990, 2, 12_000)]).expect("truncate");
    wal.cut(1500).expect("cut");
    while wal.prepare_spare().expect("prepare") {}
    drop(wal);
    let opened = Wal::open(disk.clone(), OPTIONS).expect("open");
    assert_eq!(opened.last, (1990, 2));
    let first = opened.base.0 + 1;
    let mut expected: Vec<Entry> = (first..1990).map(|i| entry(i, 1, 300)).collect();
    expected.push(entry(1990, 2, 12_000));
    assert_eq!(all(&opened.reader), expected);
    let segment = disk.list(Path::new("")).expect("list").remove(0);
    let file = disk.open(&segment, false).expect("open");
    assert!(file.allocated().expect("stat") >= OPTIONS.segment_bytes, "a segment has holes");
}
