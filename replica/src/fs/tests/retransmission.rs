//! Goal: a retransmitted call is answered as the first time and done once, on this process and on the next.
//! Method: each operation twice under one key, with and without a crash in between.

use proto::op::op::Kind;
use proto::op::{CallKey, Op, Sattr};

use super::harness::{
    Export, call, create, create_how, link, mkdir, mknod, remove, rename, rmdir, root, setattr, size, status,
    symlink, write,
};
use crate::fs::reply_cache::{BYTES_MAX, ENTRIES_MAX};
use crate::fs::{Status, ftype};
use proto::op::create::How;

/// An export with something to work on, and every kind of operation, those that fail among them.
fn every_operation() -> (Export, Vec<(Kind, &'static [u8])>) {
    let mut export = Export::new();
    let dir = export.root();
    let file = export.make(create(dir, "file", None));
    export.make(create(dir, "old", None));
    export.make(create(dir, "gone", None));
    export.make(mkdir(dir, "empty", 0o755));
    let guarded = Sattr { mode: Some(0o600), ..Sattr::default() };
    let operations: Vec<(Kind, &'static [u8])> = vec![
        (create_how(dir, "new", How::Guarded, 0), b""),
        (create_how(dir, "exclusive", How::Exclusive, 7), b""),
        (create(dir, "file", size(0)), b""),
        (mkdir(dir, "dir", 0o755), b""),
        (symlink(dir, "symlink", "target"), b""),
        (mknod(dir, "fifo", ftype::FIFO), b""),
        (remove(dir, "gone"), b""),
        (rmdir(dir, "empty"), b""),
        (rename(dir, "old", dir, "renamed"), b""),
        (link(file, dir, "link"), b""),
        (write(file, 3), b"data"),
        (setattr(file, Some(guarded)), b""),
        (remove(dir, "never there"), b""),
    ];
    (export, operations)
}

fn with_call(op: Op, call: CallKey) -> Op {
    Op { call: Some(call), ..op }
}

#[test]
fn same_answer_and_no_second_effect() {
    let (mut export, operations) = every_operation();
    for (n, (kind, payload)) in operations.into_iter().enumerate() {
        let op = export.op(root(), kind.clone());
        let op = with_call(op, call(n as u32));
        let first = export.apply_op(op.clone(), payload);
        let tree = export.tree();
        let again = export.apply_op(op, payload);
        assert_eq!(first, again, "{kind:?}");
        assert_eq!(export.tree(), tree, "{kind:?}");
    }
}

#[test]
fn also_after_a_restart() {
    for checkpoint in [false, true] {
        let (mut export, operations) = every_operation();
        let mut answered = Vec::new();
        for (n, (kind, payload)) in operations.into_iter().enumerate() {
            let op = export.op(root(), kind);
            let op = with_call(op, call(n as u32));
            let reply = export.apply_op(op.clone(), payload);
            answered.push((op, payload, reply));
        }
        if checkpoint {
            export.fs.checkpoint().unwrap();
        }
        let (tree, progress) = (export.tree(), export.fs.progress());
        let mut export = export.crash();
        assert_eq!(export.fs.progress().reply_cache_bytes, progress.reply_cache_bytes);
        assert_eq!(export.fs.progress().reply_cache_entries, progress.reply_cache_entries);
        for (op, payload, reply) in answered {
            assert_eq!(export.apply_op(op, payload), reply);
        }
        assert_eq!(export.tree(), tree);
    }
}

#[test]
fn another_call_is_not_a_retransmission() {
    let mut export = Export::new();
    let dir = export.root();
    let kind = create_how(dir, "f", How::Guarded, 0);
    let op = export.op(root(), kind);
    let first = export.apply_op(with_call(op.clone(), call(1)), b"");
    assert_eq!(status(&first), Status::Ok);
    let others = [
        call(2),
        CallKey { checksum: 9, ..call(1) },
        CallKey { procedure: 9, ..call(1) },
        CallKey { client: bytes::Bytes::from_static(&[10, 0, 0, 2]), ..call(1) },
    ];
    for other in others {
        assert_eq!(status(&export.apply_op(with_call(op.clone(), other), b"")), Status::Exist);
    }
}

#[test]
fn exclusive_create_knows_its_verifier_until_the_first_change() {
    let mut export = Export::new();
    let dir = export.root();
    let file = export.make(create_how(dir, "f", How::Exclusive, 7));
    let mut export = export.crash();
    assert_eq!(export.make(create_how(dir, "f", How::Exclusive, 7)), file);
    assert_eq!(export.status(create_how(dir, "f", How::Exclusive, 8)), Status::Exist);
    export.run(setattr(file, Some(Sattr { mode: Some(0o600), ..Sattr::default() })));
    assert_eq!(export.status(create_how(dir, "f", How::Exclusive, 7)), Status::Exist);
}

#[test]
fn the_oldest_reply_goes_when_one_more_than_the_limit_is_kept() {
    let mut export = Export::new();
    let dir = export.root();
    let make = |export: &mut Export, n| {
        let op = export.op(root(), create_how(dir, &format!("f{n}"), How::Guarded, 0));
        export.apply_op(with_call(op, call(n)), b"")
    };
    let first = [make(&mut export, 0), make(&mut export, 1)];
    let file = export.make(create(dir, "changed", None));
    let mode = |n| setattr(file, Some(Sattr { mode: Some(n & 0o777), ..Sattr::default() }));
    let limit = ENTRIES_MAX as u32;
    for n in 2..limit {
        let op = export.op(root(), mode(n));
        export.apply_op(with_call(op, call(n)), b"");
    }
    assert_eq!(export.fs.progress().reply_cache_entries, u64::from(limit));
    assert_eq!(make(&mut export, 0), first[0], "the limit itself is not past it");
    let op = export.op(root(), mode(limit));
    export.apply_op(with_call(op, call(limit)), b"");
    let progress = export.fs.progress();
    assert_eq!(progress.reply_cache_entries, u64::from(limit));
    assert!(progress.reply_cache_bytes <= BYTES_MAX);
    assert_eq!(make(&mut export, 1), first[1], "the second oldest is still there");
    assert_eq!(status(&make(&mut export, 0)), Status::Exist, "the oldest is forgotten, so it is a new call");
}
