//! Goal: after each change a client's cache is right without another call: wcc_data tells what was before and what is
//! now, of every object that changed. Method: each procedure once, successfully, checked against GETATTR around
//! it; and links up to PATHCONF's linkmax.

use nfs3_types::nfs3::*;

use crate::call::*;
use crate::harness::*;

#[test]
fn every_procedure_succeeds_and_tells_the_truth_about_attributes() {
    let server = TestServer::start();
    server.run(async {
        let c = &mut server.client().await;
        c.null().await.unwrap();
        let root = server.root();
        let file = made(c, create(&root, b"file")).await;
        let dir = made(c, mkdir(&root, b"dir", 0o755)).await;
        let link_to = made(c, symlink(&root, b"link", b"dir/x")).await;
        done(c, fifo(&root, b"fifo")).await;
        let device =
            || devicedata3 { dev_attributes: mode(0o600), spec: specdata3 { specdata1: 1, specdata2: 3 } };
        done(c, mknod(&root, b"chr", mknoddata3::NF3CHR(device()))).await;
        done(c, mknod(&root, b"blk", mknoddata3::NF3BLK(device()))).await;
        done(c, mknod(&root, b"sock", mknoddata3::NF3SOCK(mode(0o600)))).await;
        done(c, write(&file, 0, &[7; 10_000])).await;
        done(c, write(&file, 1 << 40, b"far")).await;
        done(c, write(&file, 0, b"")).await;
        done(c, commit(&file)).await;
        done(c, read(&file)).await;
        done(c, Call::ReadLink(READLINK3args { symlink: link_to })).await;
        done(c, Call::Access(ACCESS3args { object: file.clone(), access: 0x3f })).await;
        done(c, setattr(&file, sattr3 { size: Nfs3Option::Some(5), ..mode(0o600) })).await;
        done(c, setattr(&file, sattr3::default())).await;
        assert_eq!(made(c, lookup(&root, b"file")).await, file);
        let how = createhow3::UNCHECKED(sattr3 { size: Nfs3Option::Some(0), ..sattr3::default() });
        let again = Call::Create(CREATE3args { where_: at(&root, b"file"), how });
        assert_eq!(made(c, again).await, file, "UNCHECKED opens what is there");
        done(c, link(&file, &dir, b"second")).await;
        done(c, rename(at(&root, b"file"), at(&dir, b"third"))).await;
        done(c, rename(at(&dir, b"third"), at(&dir, b"fourth"))).await;
        // Two names of one file: nothing happens, and both directories' attributes say so.
        done(c, rename(at(&dir, b"fourth"), at(&dir, b"second"))).await;
        done(c, mkdir(&root, b"moved", 0o755)).await;
        done(c, rename(at(&root, b"moved"), at(&dir, b"moved"))).await;
        for call in [readdir(&dir, 0, 0, 4096), readdirplus(&dir, 0, 0, 4096)] {
            done(c, call).await;
        }
        done(c, rmdir(&dir, b"moved")).await;
        for name in [&b"second"[..], b"fourth"] {
            done(c, remove(&dir, name)).await;
        }
        for call in every(&root).into_iter().filter(|call| call.procedure() >= 18 && call.procedure() < 21) {
            done(c, call).await;
        }
        done(c, rmdir(&root, b"dir")).await;
        assert_eq!(getattr(&file).check(c).await.status, nfsstat3::NFS3ERR_STALE);
    });
}

/// Sends calls `first..=last` of one form without waiting for each, and counts those that succeed.
fn pipelined(server: &TestServer, procedure: u32, count: u32, args: impl Fn(u32) -> Vec<u8>) -> u32 {
    const BATCH: u32 = 100;
    let mut raw = server.raw();
    let mut succeeded = 0;
    for from in (0..count).step_by(BATCH as usize) {
        let batch = from..(from + BATCH).min(count);
        batch.clone().for_each(|number| raw.send(&call(number, procedure, &args(number))));
        for _ in batch {
            let reply = raw.receive().expect("an answer");
            assert_eq!(accept_stat(&reply), 0);
            succeeded += u32::from(reply[24..28] == [0; 4]);
        }
    }
    succeeded
}

#[test]
fn a_directory_and_a_file_have_as_many_links_as_pathconf_says() {
    let server = TestServer::start();
    let (root, max) = (server.root(), replica::fs::LINK_MAX);
    let (file, other) = server.run(async {
        let c = &mut server.client().await;
        let conf = c.pathconf(&PATHCONF3args { object: root.clone() }).await.unwrap().unwrap();
        assert_eq!(conf.linkmax, max);
        let other = made(c, mkdir(&root, b"other", 0o755)).await;
        done(c, mkdir(&other, b"dir", 0o755)).await;
        (made(c, create(&root, b"file")).await, other)
    });
    // The first name is there, the last two attempts are too many.
    let name = |number: u32| number.to_string().into_bytes();
    let linked = pipelined(&server, 15, max + 1, |number| {
        pack(&LINK3args { file: file.clone(), link: at(&other, &name(number)) })
    });
    assert_eq!(linked, max - 1, "names of one file");
    // `.`, the parent's entry and `other/..` are there.
    let dirs = pipelined(&server, 9, max, |number| {
        pack(&MKDIR3args { where_: at(&root, &name(number)), attributes: mode(0o755) })
    });
    assert_eq!(dirs, max - 3, "directories in one directory");
    server.run(async {
        let c = &mut server.client().await;
        let full = [
            link(&file, &other, b"x"),
            mkdir(&root, b"x", 0o755),
            rename(at(&other, b"dir"), at(&root, b"x")),
        ];
        for call in full {
            assert_eq!(call.check(c).await.status, nfsstat3::NFS3ERR_MLINK, "{}", NAMES[call.procedure()]);
        }
        done(c, rmdir(&root, b"0")).await;
        done(c, rename(at(&other, b"dir"), at(&root, b"x"))).await;
    });
}
