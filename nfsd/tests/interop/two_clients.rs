//! Goal: two clients see each other's changes as close-to-open promises: what one has written and had acknowledged,
//! the other sees with its next call, and its cached attributes show that there is something to see. Method: two
//! connections of different users; after each change of one, the calls that the other's open makes.

use nfs3_types::nfs3::*;

use crate::call::*;
use crate::harness::*;

async fn attr(c: &mut Client, object: &nfs_fh3) -> fattr3 {
    c.getattr(&GETATTR3args { object: object.clone() }).await.unwrap().unwrap().obj_attributes
}

/// Names in a directory, and where to go on from.
async fn names(c: &mut Client, dir: &nfs_fh3, cookie: u64, count: u32) -> (Vec<Vec<u8>>, u64, bool) {
    let cookieverf = cookieverf3::default();
    let args = READDIR3args { dir: dir.clone(), cookie, cookieverf, count };
    let page = c.readdir(&args).await.unwrap().unwrap();
    let entries = page.reply.entries.into_inner();
    let last = entries.last().map_or(cookie, |entry| entry.cookie);
    (entries.iter().map(|entry| entry.name.as_ref().to_vec()).collect(), last, page.reply.eof)
}

#[test]
fn what_one_wrote_the_other_reads_at_its_next_open() {
    let server = TestServer::start();
    server.run(async {
        let (a, b) = (&mut server.client().await, &mut server.client_as(1000, 1000).await);
        let root = server.root();
        let file = made(a, create(&root, b"file")).await;
        assert_eq!(made(b, lookup(&root, b"file")).await, file, "b does not see what a created");
        let mut seen = attr(b, &file).await;
        let mut expected = Vec::new();
        for round in 0..50u8 {
            // Same size again every other round: size alone would not show the change.
            let offset = u64::from(round / 2) * 100;
            let data = [round; 100];
            done(a, write(&file, offset, &data)).await;
            expected.resize(offset as usize + 100, 0);
            expected[offset as usize..].copy_from_slice(&data);

            let now = attr(b, &file).await;
            assert_ne!((now.ctime, now.mtime), (seen.ctime, seen.mtime), "b would keep its old data");
            assert_eq!(now.size, expected.len() as u64);
            let args = READ3args { file: file.clone(), offset: 0, count: 1 << 16 };
            let found = b.read(&args).await.unwrap().unwrap();
            assert!(found.eof && found.data[..] == expected[..], "b reads old data");
            assert_eq!(
                pack(&option(found.file_attributes).unwrap()),
                pack(&now),
                "newer than what b asked for"
            );
            seen = now;
        }
        done(a, setattr(&file, sattr3 { size: Nfs3Option::Some(7), ..mode(0o600) })).await;
        let now = attr(b, &file).await;
        assert_eq!((now.size, now.mode), (7, 0o600));
        assert_eq!(read(&file).check(b).await.status, nfsstat3::NFS3ERR_ACCES, "b may not read it any more");
    });
}

#[test]
fn names_that_one_makes_and_takes_away_the_other_sees_at_once() {
    let server = TestServer::start();
    server.run(async {
        let (a, b) = (&mut server.client().await, &mut server.client_as(1000, 1000).await);
        let root = server.root();
        // b has a negative entry: the directory's attributes must tell it to look again.
        let missing = b.lookup(&LOOKUP3args { what: at(&root, b"new") }).await.unwrap();
        let Nfs3Result::Err((nfsstat3::NFS3ERR_NOENT, missing)) = missing else { panic!("{missing:?}") };
        let then = option(missing.dir_attributes).expect("the directory's attributes");
        let file = made(a, create(&root, b"new")).await;
        let now = attr(b, &root).await;
        assert_ne!((then.mtime, then.ctime), (now.mtime, now.ctime), "b would keep its negative entry");
        assert_eq!(made(b, lookup(&root, b"new")).await, file);
        assert_eq!(names(b, &root, 0, 4096).await.0, [&b"."[..], b"..", b"new"]);

        done(a, rename(at(&root, b"new"), at(&root, b"other"))).await;
        assert_eq!(lookup(&root, b"new").check(b).await.status, nfsstat3::NFS3ERR_NOENT);
        assert_eq!(names(b, &root, 0, 4096).await.0, [&b"."[..], b"..", b"other"]);
        done(b, read(&file)).await;
        done(a, remove(&root, b"other")).await;
        assert_eq!(names(b, &root, 0, 4096).await.0, [&b"."[..], b".."]);
        assert_eq!(
            read(&file).check(b).await.status,
            nfsstat3::NFS3ERR_STALE,
            "b has it open, and it is gone"
        );
    });
}

#[test]
fn a_listing_goes_on_while_the_other_changes_the_directory() {
    let server = TestServer::start();
    server.run(async {
        let (a, b) = (&mut server.client().await, &mut server.client_as(1000, 1000).await);
        let root = server.root();
        for i in 0..60 {
            done(a, create(&root, format!("stays{i:02}").as_bytes())).await;
            done(a, create(&root, format!("goes{i:02}").as_bytes())).await;
        }
        let (mut all, mut cookie, mut page) = (Vec::new(), 0, 0);
        loop {
            let (some, last, end) = names(b, &root, cookie, 400).await;
            all.extend(some);
            cookie = last;
            if end {
                break;
            }
            // Between b's calls: one goes, one comes.
            done(a, remove(&root, format!("goes{page:02}").as_bytes())).await;
            done(a, create(&root, format!("comes{page:02}").as_bytes())).await;
            page += 1;
        }
        assert!(page > 5, "the listing came in one piece");
        for i in 0..60 {
            let name = format!("stays{i:02}").into_bytes();
            assert_eq!(all.iter().filter(|n| **n == name).count(), 1, "{i}: missed, or listed twice");
        }
        let mut unique = all.clone();
        unique.sort();
        unique.dedup();
        assert_eq!(unique.len(), all.len(), "a name was listed twice");
    });
}

#[test]
fn wcc_data_shows_one_that_the_other_was_there_too() {
    let server = TestServer::start();
    server.run(async {
        let (a, b) = (&mut server.client().await, &mut server.client().await);
        let root = server.root();
        let file = made(a, create(&root, b"file")).await;
        done(a, write(&file, 0, b"first")).await;
        let cached = attr(a, &file).await;
        // a's next write: nobody else was there, so a may keep its cache.
        let mine = write(&file, 5, b"second").check(a).await;
        let before = option(mine.wcc[0].before).unwrap();
        assert_eq!((before.mtime, before.ctime, before.size), (cached.mtime, cached.ctime, cached.size));
        let cached = option(mine.wcc[0].after.clone()).unwrap();
        // b writes in between: a's following wcc_data must give it away, although the size is the same.
        done(b, write(&file, 0, b"FIRST")).await;
        let mine = write(&file, 0, b"f").check(a).await;
        let before = option(mine.wcc[0].before).unwrap();
        assert_eq!(before.size, cached.size);
        assert_ne!(before.ctime, cached.ctime, "a would keep data that b has changed");

        // The same for a directory: b's entry shows in the wcc_data of a's.
        let cached = attr(a, &root).await;
        done(b, create(&root, b"theirs")).await;
        let mine = create(&root, b"mine").check(a).await;
        assert_ne!(option(mine.wcc[0].before).unwrap().ctime, cached.ctime, "a would keep its listing");
    });
}

#[test]
fn a_guarded_setattr_loses_to_the_other_s_change() {
    let server = TestServer::start();
    server.run(async {
        let (a, b) = (&mut server.client().await, &mut server.client().await);
        let file = made(a, create(&server.root(), b"file")).await;
        let seen = attr(a, &file).await;
        done(b, write(&file, 0, b"x")).await;
        let guarded = |ctime| {
            let new_attributes = sattr3 { size: Nfs3Option::Some(0), ..sattr3::default() };
            Call::SetAttr(SETATTR3args {
                object: file.clone(),
                new_attributes,
                guard: Nfs3Option::Some(ctime),
            })
        };
        let lost = guarded(seen.ctime).check(a).await;
        assert_eq!(lost.status, nfsstat3::NFS3ERR_NOT_SYNC);
        // The failure's wcc_data has the ctime to try again with.
        let now = option(lost.wcc[0].after.clone()).unwrap();
        done(a, guarded(now.ctime)).await;
        assert_eq!(attr(b, &file).await.size, 0);
    });
}
