//! Goal: a handle opens what it was given out for, for ever, and nothing else; no handle that a client makes up
//! shows anything of an export behind another address. Method: each part of good handles changed, handles of
//! files that are gone, thousands of files made and removed, and one export's handles sent to another's address.

use std::collections::BTreeSet;

use nfs3_client::Nfs3Client;
use nfs3_client::tokio::TokioIo;
use nfs3_types::nfs3::*;
use nfs3_types::rpc::opaque_auth;

use crate::call::*;
use crate::harness::*;

/// Every procedure gets this error for this handle.
async fn refused(c: &mut Client, handle: &nfs_fh3, expected: nfsstat3, what: &str) {
    for call in every(handle) {
        let outcome = call.send(c).await;
        assert_eq!(outcome.status, expected, "{}: {what}", NAMES[call.procedure()]);
        let told = outcome.attrs.iter().any(|attr| attr.is_some());
        assert!(!told && outcome.wcc.iter().all(|wcc| wcc.after.is_none()), "attributes of what?");
    }
}

#[test]
fn a_changed_handle_opens_nothing() {
    let server = TestServer::start();
    server.run(async {
        let c = &mut server.client().await;
        let root = server.root();
        let file = made(c, create(&root, b"n")).await;
        let good = file.data.to_vec();
        for at in 0..good.len() {
            let mut bytes = good.clone();
            bytes[at] ^= 0x80;
            let expected = if at < 4 { nfsstat3::NFS3ERR_BADHANDLE } else { nfsstat3::NFS3ERR_STALE };
            refused(c, &fh(&bytes), expected, &format!("byte {at}")).await;
        }
        for len in [0, 1, 4, 20, 28, 35] {
            refused(c, &fh(&good[..len]), nfsstat3::NFS3ERR_BADHANDLE, &format!("{len} bytes")).await;
        }
        for more in [1, 4, 28] {
            let longer = [&good[..], &vec![0; more]].concat();
            refused(c, &fh(&longer), nfsstat3::NFS3ERR_BADHANDLE, &format!("{more} bytes more")).await;
        }
        // The file's id with the root's generation, and the other way round.
        let root_bytes = root.data.to_vec();
        for (id, generation) in [(&good, &root_bytes), (&root_bytes, &good)] {
            let mixed = [&id[..28], &generation[28..]].concat();
            refused(c, &fh(&mixed), nfsstat3::NFS3ERR_STALE, "another's generation").await;
        }
        done(c, getattr(&file)).await;
    });
}

#[test]
fn a_handle_never_comes_to_mean_another_file() {
    let server = TestServer::start();
    server.run(async {
        let c = &mut server.client().await;
        let root = server.root();
        let mut seen = BTreeSet::new();
        let mut gone = Vec::new();
        for round in 0..300 {
            // The same name again and again, of each type.
            let call = match round % 4 {
                0 => create(&root, b"n"),
                1 => mkdir(&root, b"n", 0o755),
                2 => symlink(&root, b"n", b"t"),
                _ => fifo(&root, b"n"),
            };
            let handle = call.send(c).await.object.expect("a handle");
            assert!(seen.insert(handle.data.to_vec()), "a handle was given out twice");
            let away = if round % 4 == 1 { rmdir(&root, b"n") } else { remove(&root, b"n") };
            assert_eq!(away.send(c).await.status, nfsstat3::NFS3_OK);
            gone.push(handle);
        }
        for handle in &gone {
            assert_eq!(getattr(handle).send(c).await.status, nfsstat3::NFS3ERR_STALE);
        }
        // A file replaced by RENAME is gone as well, a file with another name is not.
        let (old, new) = (made(c, create(&root, b"old")).await, made(c, create(&root, b"new")).await);
        done(c, rename(at(&root, b"new"), at(&root, b"old"))).await;
        assert_eq!(getattr(&old).send(c).await.status, nfsstat3::NFS3ERR_STALE);
        assert_eq!(made(c, lookup(&root, b"old")).await, new);
    });
}

#[test]
fn an_export_behind_another_address_is_out_of_reach() {
    let mut server = TestServer::with(&[OPEN, OPEN]);
    let only_first = server.also_serve(0);
    server.run(async {
        let both = &mut server.client().await;
        let (first, second) = (server.exports[0].root(), server.exports[1].root());
        let mine = made(both, create(&first, b"mine")).await;
        let theirs = made(both, create(&second, b"theirs")).await;
        done(both, write(&theirs, 0, b"nobody else's")).await;

        let stream = tokio::net::TcpStream::connect(only_first).await.unwrap();
        let c = &mut Nfs3Client::new_with_auth(TokioIo::new(stream), auth(0, 0), opaque_auth::default());
        done(c, getattr(&mine)).await;
        for handle in [&second, &theirs] {
            refused(c, handle, nfsstat3::NFS3ERR_STALE, "another address's export").await;
        }
        // As the second object of a call, and named by the first export's id with the second's file.
        for call in [rename(at(&first, b"mine"), at(&second, b"x")), link(&mine, &second, b"x")] {
            assert_eq!(call.send(c).await.status, nfsstat3::NFS3ERR_STALE);
        }
        for call in [rename(at(&second, b"theirs"), at(&first, b"x")), link(&theirs, &first, b"x")] {
            assert_eq!(call.send(c).await.status, nfsstat3::NFS3ERR_STALE);
        }
        done(both, lookup(&second, b"theirs")).await;
        done(both, lookup(&first, b"mine")).await;
    });
}
