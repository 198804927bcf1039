//! Goal: what a crash leaves is always a state that the log continues; a checkpoint never holds what this
//! node's own log might lose; and readers never see half of an entry. Method: crashes around checkpoints, with
//! entries that are and are not durable; readers beside a writer.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use proto::op::op::Kind;
use proto::op::{AdoptWitness, Incarnation, OP_VERSION, Op};

use super::harness::{Export, create, remove, root, setattr, size, write};
use crate::disk::RealDisk;
use crate::fs::kv::KvWriter;
use crate::fs::{ApplyError, DIGEST_EVERY, Fs, FsOptions, OpenError};

fn memory_durability() -> FsOptions {
    FsOptions { apply_before_durable: true, ..FsOptions::default() }
}

#[test]
fn checkpoint_waits_until_its_entry_is_durable() {
    let mut export = Export::with(memory_durability());
    let file = export.make(create(export.root(), "f", None));
    export.write(file, 0, b"one");
    export.fs.durable(1).unwrap();
    assert_eq!(export.fs.checkpoint().unwrap(), 0);
    assert!(!export.fs.checkpoint_due());
    export.write(file, 3, b"two");
    export.fs.durable(2).unwrap();
    assert!(export.fs.checkpoint_due());
    assert_eq!(export.fs.checkpoint().unwrap(), 2, "as it was frozen, though more was applied since");
    assert_eq!(export.read_all(file), b"onetwo");
    let export = export.crash();
    assert_eq!(export.fs.progress().checkpoint, 2);
    assert_eq!(export.read_all(file), b"onetwo");
}

#[test]
fn removed_and_cut_content_is_right_after_a_crash() {
    let mut export = Export::new();
    let dir = export.root();
    let file = export.make(create(dir, "f", None));
    let gone = export.make(create(dir, "gone", None));
    export.write(file, 0, &[7; 10_000]);
    export.write(gone, 0, &[8; 10_000]);
    assert_eq!(export.fs.checkpoint().unwrap(), 4);
    export.run(setattr(file, size(100)));
    export.run(setattr(file, size(5_000)));
    export.run(remove(dir, "gone"));
    let mut expected = vec![7; 100];
    expected.resize(5_000, 0);
    let export = export.crash();
    assert_eq!(export.read_all(file), expected);
    assert_eq!(export.fs.checkpoint().unwrap(), 7);
    let export = export.crash();
    assert_eq!(export.read_all(file), expected);
    assert!(export.fs.getattr(gone).is_err());
}

#[test]
fn what_is_no_file_survives_too() {
    let mut export = Export::new();
    let incarnation = Incarnation { verifier: 42, node: "a".to_owned(), locks_lost: false };
    export.run(Kind::Incarnation(incarnation));
    let dated = export.attr(export.root()).ctime_ns;
    assert_eq!(dated, export.clock_ns, "the first incarnation dates the root directory");
    export.run(Kind::Incarnation(Incarnation { verifier: 43, node: "b".to_owned(), locks_lost: false }));
    assert_eq!(export.attr(export.root()).ctime_ns, dated);
    export.run(Kind::AdoptWitness(AdoptWitness { identity: 5 }));
    export.fs.checkpoint().unwrap();
    let export = export.crash();
    assert_eq!((export.fs.write_verifier(), export.fs.witness_identity()), (43, 5));
}

#[test]
fn raft_own_entries_move_the_index_and_the_digest() {
    let export = Export::new();
    let mut digests = vec![export.fs.progress().digest];
    for index in 1..=DIGEST_EVERY {
        export.fs.apply(index, 1, None, &bytes::Bytes::new()).unwrap();
        digests.push(export.fs.progress().digest);
    }
    let progress = export.fs.progress();
    assert_eq!((progress.applied, progress.digest_index), (DIGEST_EVERY, DIGEST_EVERY));
    assert_eq!(progress.digest_at_index, progress.digest);
    digests.sort_unstable();
    digests.dedup();
    assert_eq!(digests.len() as u64, DIGEST_EVERY + 1);
}

#[test]
fn newer_operations_stop_the_replica() {
    let mut export = Export::new();
    let kind = Kind::AdoptWitness(AdoptWitness { identity: 5 });
    let op = export.op(root(), kind);
    for newer in [Op { version: OP_VERSION + 1, ..op.clone() }, Op { kind: None, ..op }] {
        let stopped = export.fs.apply(1, 1, Some(&newer), &bytes::Bytes::new());
        assert!(matches!(stopped, Err(ApplyError::Version { index: 1, .. })));
        assert_eq!(export.fs.progress().applied, 0);
    }
}

#[test]
#[should_panic(expected = "entries are applied in order")]
fn a_gap_is_a_bug() {
    let export = Export::new();
    let _ = export.fs.apply(2, 1, None, &bytes::Bytes::new());
}

#[test]
fn an_unusable_directory_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    std::fs::write(&path, b"").unwrap();
    let Err(error) = Fs::open(&path.join("export"), FsOptions::default()) else { panic!("opened") };
    assert!(matches!(&error, OpenError::Io { path, .. } if path.ends_with("file/export")), "{error}");
}

#[test]
fn metadata_of_another_checkpoint_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let meta = KvWriter::create(Arc::new(RealDisk::new(dir.path())), Path::new("meta.redb")).unwrap();
    meta.finish(5, 1).unwrap();
    let Err(error) = Fs::open(dir.path(), FsOptions::default()) else { panic!("opened") };
    let said = error.to_string();
    assert!(said.contains("meta.redb") && said.contains("remove this export's directory"), "{said}");
}

#[test]
fn a_size_is_never_seen_before_its_data() {
    let mut export = Export::with(memory_durability());
    let file = export.make(create(export.root(), "f", None));
    let done = AtomicBool::new(false);
    let fs = &export.fs;
    std::thread::scope(|threads| {
        for _ in 0..2 {
            threads.spawn(|| {
                while !done.load(Ordering::Acquire) {
                    let read = fs.read(&root(), file, 0, 1 << 20).unwrap();
                    assert!(read.data.iter().all(|byte| *byte == 7), "zeros before their data");
                    assert_eq!(read.data.len() as u64, read.attr.size);
                }
            });
        }
        for round in 0..300u64 {
            let kind =
                if round % 50 == 49 { setattr(file, size(0)) } else { write(file, (round % 50) * 700) };
            let payload = bytes::Bytes::from_static(if round % 50 == 49 { b"" } else { &[7; 700] });
            let op = Op { version: OP_VERSION, kind: Some(kind), cred: Some(root()), ..Op::default() };
            fs.apply(round + 2, 1, Some(&op), &payload).unwrap();
            if round % 7 == 0 {
                fs.durable(round + 2).unwrap();
                fs.checkpoint().unwrap();
            }
        }
        done.store(true, Ordering::Release);
    });
}
