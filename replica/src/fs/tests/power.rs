//! Goal: whenever the power goes, the stores open again at a whole checkpoint, and the log makes of it what was there.
//! Method: a history whose last checkpoint is cut off at each change of a simulated disk in turn, seeds for what survives;
//! then the log again, and a look at everything beside an export that nothing happened to.

use std::sync::Arc;

use super::harness::{Export, create, handle, remove, setattr, size};
use crate::disk::SimDisk;
use crate::fs::{Fs, FsOptions, ftype};
use crate::ids::Handle;
use crate::planted::{Planted, plant};

/// Entries before the first checkpoint.
const FIRST: usize = 14;

/// Files that grow, shrink and go, before and after the first checkpoint.
fn history() -> Export {
    let mut export = Export::new();
    let root = export.root();
    let files: Vec<Handle> = (0..6).map(|n| export.make(create(root, &format!("f{n}"), None))).collect();
    for (n, file) in files.iter().enumerate() {
        export.write(*file, n as u64 * 5000, &[n as u8 + 1; 3000]);
    }
    export.run(setattr(files[1], size(100)));
    export.run(remove(root, "f2"));
    assert_eq!(export.log.len(), FIRST);
    for (n, file) in files.iter().enumerate().skip(3) {
        export.write(*file, 1000, &[n as u8 + 101; 6000]);
    }
    export.run(setattr(files[3], size(2000)));
    export.run(remove(root, "f4"));
    export.make(create(root, "f6", None));
    export
}

fn apply(fs: &Fs, export: &Export, until: usize) {
    let from = usize::try_from(fs.progress().applied).expect("a small index");
    for (index, (op, payload)) in (1..).zip(&export.log).take(until).skip(from) {
        fs.apply(index, 1, Some(op), payload).expect("apply");
    }
    fs.durable(until as u64).expect("durable");
}

/// Everything that a client sees, in short.
fn seen(fs: &Fs) -> Vec<(bytes::Bytes, u64, Vec<u8>)> {
    let mut entries = Vec::new();
    let listed = fs.readdir(&super::harness::root(), fs.root(), 0, &mut |entry| {
        entries.push(entry.clone());
        true
    });
    listed.expect("READDIR");
    let content = |attr: &proto::op::Attr| match attr.file_type {
        ftype::REG => fs.read(&super::harness::root(), handle(attr), 0, 1 << 20).expect("READ").data.to_vec(),
        _ => Vec::new(),
    };
    entries.iter().map(|entry| (entry.name.clone(), entry.attr.size, content(&entry.attr))).collect()
}

fn open(disk: &SimDisk, options: &FsOptions) -> Fs {
    Fs::open_on(Arc::new(disk.clone()), options.clone()).expect("the stores open")
}

/// Runs the history up to its last checkpoint, which is cut off after so many changes of the disk. False: it was whole.
fn cut_off(disk: &SimDisk, options: &FsOptions, export: &Export, changes: Option<u64>) -> bool {
    let fs = open(disk, options);
    apply(&fs, export, FIRST);
    fs.checkpoint().expect("the first checkpoint");
    apply(&fs, export, export.log.len());
    if let Some(changes) = changes {
        disk.halt_after(changes);
    }
    let cut = fs.checkpoint().is_err();
    // First, so that nothing of what a clean end writes gets there.
    disk.kill();
    cut
}

fn crash_and_replay(disk: &SimDisk, options: &FsOptions, export: &Export, seed: u64) -> Fs {
    disk.crash(seed);
    let fs = open(disk, options);
    apply(&fs, export, export.log.len());
    fs
}

fn crash_everywhere(options: &FsOptions, seeds: u64) -> Result<(), String> {
    let export = history();
    let expected = (seen(&export.fs), export.fs.progress().digest);
    let mut changes = 0;
    loop {
        let mut cut = true;
        for seed in 0..seeds {
            let disk = SimDisk::new();
            cut = cut_off(&disk, options, &export, Some(changes));
            let fs = crash_and_replay(&disk, options, &export, seed);
            if (seen(&fs), fs.progress().digest) != expected {
                return Err(format!("power lost after {changes} changes, seed {seed}"));
            }
        }
        if !cut {
            assert!(changes > 8, "a checkpoint is more than {changes} changes of the disk");
            return Ok(());
        }
        changes += 1;
    }
}

#[test]
fn a_power_loss_anywhere_in_a_checkpoint_loses_nothing() {
    assert_eq!(crash_everywhere(&FsOptions::default(), 3), Ok(()));
}

#[test]
fn nor_does_it_where_entries_are_applied_before_they_are_durable() {
    let options = FsOptions { apply_before_durable: true, ..FsOptions::default() };
    assert_eq!(crash_everywhere(&options, 3), Ok(()));
}

/// The checks above can fail: a checkpoint that does not wait for its content is found out.
#[test]
fn a_checkpoint_before_its_content_would_be_seen() {
    plant(Some(Planted::CheckpointBeforeContent));
    let found = crash_everywhere(&FsOptions::default(), 8);
    plant(None);
    assert!(found.is_err());
}

/// A killed process loses nothing that it wrote, and what it still holds open is no obstacle.
#[test]
fn a_killed_process_leaves_what_it_wrote() {
    let export = history();
    let disk = SimDisk::new();
    let options = FsOptions::default();
    assert!(!cut_off(&disk, &options, &export, None));
    let fs = open(&disk, &options);
    assert_eq!(fs.progress().applied as usize, export.log.len());
    assert_eq!(seen(&fs), seen(&export.fs));
}

/// Goal: a run on a simulated disk can be repeated to the byte. Method: the same twice; count what the disk was told to do.
#[test]
fn the_same_history_does_the_same_to_the_disk() {
    let changes = || {
        let disk = SimDisk::new();
        cut_off(&disk, &FsOptions::default(), &history(), None);
        disk.changes()
    };
    let first = changes();
    assert!(first > 50);
    assert_eq!(first, changes());
}
