//! Goal: `showmount -a` says after a takeover what it said before, and clients that never unmount cannot fill the
//! state. Method: a scene per rule; replay and a checkpoint in between.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::harness::{Export, mount_add, mount_remove};
use crate::fs::{MOUNT_PATH_MAX, MOUNTS_MAX, Status};

const A: [u8; 4] = [10, 0, 0, 1];
const B: [u8; 4] = [10, 0, 0, 2];

fn seen(export: &Export) -> Vec<(IpAddr, String)> {
    let text = |path: &[u8]| String::from_utf8(path.to_vec()).expect("ASCII");
    export.fs.mounts().into_iter().map(|(client, path)| (client, text(&path))).collect()
}

fn at(client: [u8; 4], path: &str) -> (IpAddr, String) {
    (Ipv4Addr::from(client).into(), path.to_owned())
}

#[test]
fn mounts_come_and_go() {
    let mut export = Export::new();
    let six: Ipv6Addr = "2001:db8::1".parse().unwrap();
    for (client, path) in [(&A[..], "/x"), (&B, "/x"), (&A, "/x/y"), (&six.octets(), "/x"), (&A, "/x")] {
        assert_eq!(export.status(mount_add(client, path.as_bytes())), Status::Ok);
    }
    let all = [at(B, "/x"), at(A, "/x/y"), (six.into(), "/x".to_owned()), at(A, "/x")];
    assert_eq!(seen(&export), all, "once each, the newest last");
    let export = export.crash();
    assert_eq!(seen(&export), all, "after replay");
    export.rows();
    let mut export = export.crash();
    assert_eq!(seen(&export), all, "from a checkpoint");
    assert_eq!(export.status(mount_remove(&A, b"/x")), Status::Ok);
    assert_eq!(export.status(mount_remove(&A, b"/x")), Status::Ok, "it was not there any more");
    assert_eq!(seen(&export), [at(B, "/x"), at(A, "/x/y"), (six.into(), "/x".to_owned())]);
    export.run(mount_add(&A, b"/z"));
    assert_eq!(export.status(mount_remove(&A, b"")), Status::Ok);
    assert_eq!(seen(&export), [at(B, "/x"), (six.into(), "/x".to_owned())], "others keep theirs");
}

#[test]
fn the_oldest_goes_when_the_list_is_full() {
    let mut export = Export::new();
    let client = |n: u64| Ipv4Addr::from(n as u32).octets();
    for n in 0..MOUNTS_MAX {
        export.run(mount_add(&client(n), b"/x"));
    }
    export.run(mount_add(&client(0), b"/x"));
    assert_eq!(export.fs.mounts().len() as u64, MOUNTS_MAX);
    export.run(mount_add(&client(MOUNTS_MAX), b"/x"));
    let mounts = seen(&export);
    assert_eq!(mounts.len() as u64, MOUNTS_MAX);
    assert_eq!(mounts.first(), Some(&at(client(2), "/x")), "the second had not mounted for the longest time");
    assert_eq!(mounts.last(), Some(&at(client(MOUNTS_MAX), "/x")));
    export.run(mount_remove(&client(7), b""));
    export.run(mount_add(&client(1), b"/x"));
    let mounts = seen(&export);
    assert_eq!(
        (mounts.len() as u64, &mounts[0]),
        (MOUNTS_MAX, &at(client(2), "/x")),
        "there was a free place"
    );
}

#[test]
fn what_is_no_mount_is_refused() {
    let mut export = Export::new();
    let long = vec![b'x'; MOUNT_PATH_MAX + 1];
    for (client, path, expected) in [
        (&[][..], &b"/x"[..], Status::Inval),
        (&[1, 2, 3, 4, 5], b"/x", Status::Inval),
        (&[0; 260], b"/x", Status::Inval),
        (&A, b"", Status::Inval),
        (&A, &long, Status::NameTooLong),
        (&A, &long[1..], Status::Ok),
    ] {
        assert_eq!(export.status(mount_add(client, path)), expected, "{client:?}");
    }
    assert_eq!(export.status(mount_remove(&[1], b"")), Status::Inval);
    assert_eq!(export.fs.mounts().len(), 1);
}

#[test]
fn replicas_that_differ_are_found_out() {
    let (mut one, mut other) = (Export::new(), Export::new());
    one.run(mount_add(&A, b"/x"));
    other.run(mount_add(&B, b"/x"));
    assert_ne!(one.fs.progress().digest, other.fs.progress().digest);
}
