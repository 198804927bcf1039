//! Goal: the simulated disk keeps what a real one must keep and may lose all else, else the tests built on it
//! prove nothing; the real one writes what it is given, where it may.
//! Method: crashes from many seeds, collecting what survives.

use std::collections::BTreeSet;
use std::path::Path;

use super::*;

const A: &str = "a";
const B: &str = "b";

fn read(disk: &dyn Disk, name: &str) -> Option<Vec<u8>> {
    let file = disk.open(Path::new(name), false).ok()?;
    let mut bytes = vec![0; file.len().expect("len") as usize];
    file.read_at(&mut bytes, 0).expect("read");
    Some(bytes)
}

/// A durable file `a` of three sectors of 1, each holding its number of writes since.
fn disk_with_a() -> SimDisk {
    let disk = SimDisk::new();
    let file = disk.open(Path::new(A), true).expect("create");
    file.write_at(&[&[1; 1000], &[1; 536]], 0).expect("write");
    file.sync().expect("sync");
    disk.sync_dir(Path::new("")).expect("sync dir");
    disk
}

fn sectors(bytes: &[u8]) -> Vec<u8> {
    assert!(bytes.chunks(512).all(|s| s.iter().all(|b| *b == s[0])), "a sector was torn");
    bytes.chunks(512).map(|s| s[0]).collect()
}

#[test]
fn a_crash_lets_any_mixture_of_unsynced_sectors_through() {
    let survivors = (0..500).map(|seed| {
        let disk = disk_with_a();
        let file = disk.open(Path::new(A), false).expect("open");
        file.write_at(&[&[2; 1536]], 0).expect("write");
        file.write_at(&[&[3; 1024]], 512).expect("write");
        disk.crash(seed);
        assert!(file.sync().is_err(), "a file from before the crash is still open");
        sectors(&read(&disk, A).expect("there"))
    });
    let survivors: BTreeSet<Vec<u8>> = survivors.collect();
    assert_eq!(survivors.len(), 2 * 3 * 3, "{survivors:?}");
}

#[test]
fn what_was_synced_survives_every_crash() {
    for seed in 0..100 {
        let disk = disk_with_a();
        let file = disk.open(Path::new(A), false).expect("open");
        file.write_at(&[&[2; 512]], 512).expect("write");
        file.sync().expect("sync");
        file.write_at(&[&[3; 512]], 1024).expect("write");
        disk.crash(seed);
        assert_eq!(sectors(&read(&disk, A).expect("there"))[..2], [1, 2]);
    }
}

#[test]
fn a_length_survives_or_not_and_a_cut_file_is_zero_behind_it() {
    let survivors = (0..200).map(|seed| {
        let disk = disk_with_a();
        let file = disk.open(Path::new(A), false).expect("open");
        file.set_len(512).expect("cut");
        file.set_len(2048).expect("extend");
        assert_eq!(sectors(&read(&disk, A).expect("there")), [1, 0, 0, 0]);
        disk.crash(seed);
        read(&disk, A).expect("there").len()
    });
    assert_eq!(survivors.collect::<BTreeSet<_>>(), BTreeSet::from([512, 1536, 2048]));
}

#[test]
fn names_survive_from_sync_dir_on() {
    let mut outcomes = BTreeSet::new();
    for seed in 0..100 {
        let disk = disk_with_a();
        disk.rename(Path::new(A), Path::new(B)).expect("rename");
        disk.open(Path::new("c"), true).expect("create").sync().expect("sync");
        disk.crash(seed);
        let names = disk.list(Path::new("")).expect("list");
        outcomes.insert(names.iter().map(|n| n.display().to_string()).collect::<String>());

        let disk = disk_with_a();
        disk.rename(Path::new(A), Path::new(B)).expect("rename");
        disk.sync_dir(Path::new("")).expect("sync dir");
        disk.crash(seed);
        assert_eq!(disk.list(Path::new("")).expect("list"), [Path::new(B)]);
    }
    assert_eq!(outcomes, ["a", "b", "ac", "bc"].map(String::from).into());
}

#[test]
fn a_failed_sync_is_not_made_good_by_the_next_one() {
    let lost = (0..50).filter(|seed| {
        let disk = disk_with_a();
        let file = disk.open(Path::new(A), false).expect("open");
        file.write_at(&[&[2; 512]], 0).expect("write");
        disk.fail_next_sync();
        file.sync().expect_err("EIO");
        file.sync().expect("Linux says so");
        disk.crash(*seed);
        sectors(&read(&disk, A).expect("there"))[0] == 1
    });
    assert!(lost.count() > 0, "whoever retries a sync is right");
}

#[test]
fn injected_faults_come_when_they_are_due() {
    let disk = disk_with_a();
    let file = disk.open(Path::new(A), false).expect("open");
    disk.limit_writes(Some(600));
    file.write_at(&[&[2; 512]], 0).expect("room for this");
    let error = file.write_at(&[&[2; 512]], 512).expect_err("no room for this");
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert_eq!(read(&disk, A).expect("there")[512 + 87..512 + 89], [2, 1]);
    disk.limit_writes(None);

    disk.flip_bit(Path::new(A), 3, 1).expect("flip");
    assert_eq!(read(&disk, A).expect("there")[3], 0);

    disk.halt_after(1);
    file.sync().expect("one more");
    file.sync().expect_err("halted");
    disk.rename(Path::new(A), Path::new(B)).expect_err("halted");
}

#[test]
fn the_hosts_files_hold_what_was_written() {
    let dir = tempfile::tempdir().expect("tempdir");
    let disk = RealDisk::new(dir.path().join("x/y"));
    disk.create_dir(Path::new("")).expect("create dir");
    let file = disk.open(Path::new(A), true).expect("create");
    // More parts than one pwritev takes, some of them empty.
    let parts: Vec<Vec<u8>> = (0..3000_usize).map(|i| vec![i as u8; i % 4]).collect();
    let slices: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
    file.write_at(&slices, 5).expect("write");
    file.sync().expect("sync");
    let expected = [vec![0; 5], parts.concat()].concat();
    assert_eq!(read(&disk, A).expect("there"), expected);
    assert_eq!(file.read_at(&mut [0; 10], expected.len() as u64 - 3).expect("read"), 3);

    disk.rename(Path::new(A), Path::new(B)).expect("rename");
    disk.open(Path::new(A), true).expect("create");
    disk.sync_dir(Path::new("")).expect("sync dir");
    assert_eq!(disk.list(Path::new("")).expect("list"), [Path::new(A), Path::new(B)]);
    assert_eq!(disk.list(Path::new("none")).expect_err("none").kind(), io::ErrorKind::NotFound);
    assert!(disk.open(Path::new("../z"), true).is_err(), "a path led out of the directory");
    assert!(disk.remove(Path::new("/etc/hanfs")).is_err());
}
