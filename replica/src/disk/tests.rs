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

/// Goal: whatever the stores ask of a disk, the real one and the simulated one say the same. Method: ask both.
#[test]
fn both_disks_answer_alike() {
    let dir = tempfile::tempdir().expect("tempdir");
    let real = RealDisk::new(dir.path());
    let sim = SimDisk::new();
    let disks: [&dyn Disk; 2] = [&real, &sim];
    for disk in disks {
        let exports = disk.below(Path::new("x"));
        assert_eq!(exports.list(Path::new("")).expect_err("none").kind(), io::ErrorKind::NotFound);
        exports.create_dir(Path::new("one/two")).expect("create dirs");
        exports.make_dir(Path::new("one/three")).expect("make dir");
        exports.make_dir(Path::new("one/three")).expect("it may be there");
        exports.make_dir(Path::new("four/five")).expect_err("its parent is missing");
        let file = exports.open(Path::new("one/three/f"), true).expect("create");
        exports.open(Path::new("one/three"), false).expect_err("a directory is no file");
        file.write_at(&[b"abc"], 1 << 20).expect("write");
        assert_eq!(exports.file_len(Path::new("one/three/f")).expect("len"), (1 << 20) + 3);
        let there = file.data_after(0).expect("seek").expect("data");
        assert!(there.start > 0 && there.contains(&(1 << 20)) && there.end == (1 << 20) + 3, "{there:?}");
        assert_eq!(file.data_after((1 << 20) + 1).expect("seek"), Some((1 << 20) + 1..(1 << 20) + 3));
        assert_eq!(file.data_after(1 << 21).expect("seek"), None);
        let mut buffer = Vec::with_capacity(8);
        file.read_into(&mut buffer, 1 << 20).expect("read");
        assert_eq!(buffer, b"abc");

        let other = exports.open(Path::new("one/three/f"), false).expect("open");
        assert!(file.try_lock().expect("lock") && !other.try_lock().expect("lock"));
        file.unlock().expect("unlock");
        assert!(other.try_lock().expect("lock"));
        drop(other);
        assert!(file.try_lock().expect("lock"), "closing unlocks");

        disk.rename(Path::new("x/one"), Path::new("x/uno")).expect("rename a directory");
        file.write_at(&[b"x"], 0).expect("an open file stays open");
        assert_eq!(exports.list(Path::new("uno")).expect("list"), [Path::new("three"), Path::new("two")]);
        exports.open(Path::new("uno/three/f"), false).expect("it went along");
        exports.volume().expect("volume").sync().expect("syncfs");
        assert!(exports.space().expect("space").total_bytes > 0);
        exports.remove_tree(Path::new("uno")).expect("remove all");
        exports.remove_tree(Path::new("uno")).expect("none is no error");
        assert!(exports.list(Path::new("")).expect("list").is_empty());
    }
}

#[test]
fn a_directory_and_what_is_in_it_survive_apart() {
    let mut outcomes = BTreeSet::new();
    for seed in 0..100 {
        let disk = SimDisk::new();
        disk.make_dir(Path::new("d")).expect("make dir");
        disk.open(Path::new("d/a"), true).expect("create");
        disk.rename(Path::new("d"), Path::new("e")).expect("rename");
        disk.crash(seed);
        let inside = |dir| disk.list(Path::new(dir)).ok().map(|names| names.len());
        outcomes.insert((inside("d"), inside("e")));
    }
    let all = [(None, None), (Some(0), None), (Some(1), None), (None, Some(0)), (None, Some(1))];
    assert_eq!(outcomes, all.into());
}

#[test]
fn a_killed_process_keeps_its_page_cache_and_loses_its_files() {
    let disk = disk_with_a();
    let file = disk.open(Path::new(A), false).expect("open");
    assert!(file.try_lock().expect("lock"));
    file.write_at(&[&[2; 512]], 0).expect("write");
    disk.kill();
    file.write_at(&[&[3; 512]], 0).expect_err("its process is gone");
    let again = disk.open(Path::new(A), false).expect("open");
    assert!(again.try_lock().expect("lock"), "its lock went with it");
    assert_eq!(sectors(&read(&disk, A).expect("there"))[0], 2);
}

#[test]
fn a_disk_tells_how_long_it_would_have_taken() {
    let disk = disk_with_a();
    disk.set_speed(Speed { sync_ns: 1000, kib_ns: 10 });
    let file = disk.open(Path::new(A), false).expect("open");
    file.write_at(&[&[2; 2048]], 0).expect("write");
    assert_eq!(disk.take_latency(), 0);
    file.sync().expect("sync");
    assert_eq!(disk.take_latency(), 1020);
    assert_eq!(disk.take_latency(), 0);
}

#[test]
fn rot_is_where_it_says() {
    let disk = disk_with_a();
    let before = read(&disk, A).expect("there");
    let (path, offset) = disk.rot(Path::new(""), 5).expect("there is a byte");
    assert_eq!(path, Path::new(A));
    let after = read(&disk, A).expect("there");
    let changed: Vec<usize> = (0..before.len()).filter(|i| before[*i] != after[*i]).collect();
    assert!(changed == [offset as usize] || (changed.is_empty() && offset >= before.len() as u64));
    assert_eq!(SimDisk::new().rot(Path::new(""), 5), None);
}
