//! Goal: each procedure does what RFC 1813 says, and its results tell the client enough to need no second
//! call. Method: `nfs3_client`, which we did not write, against the real server and the real state machine.

use nfs3_types::nfs3::*;
use nfs3_types::xdr_codec::{List, Opaque};
use nfsd::exports::ExportPolicy;

use crate::harness::*;

fn dirop(dir: &nfs_fh3, name: &str) -> diropargs3<'static> {
    diropargs3 { dir: dir.clone(), name: name.as_bytes().to_vec().into() }
}

fn mode(mode: u32) -> sattr3 {
    sattr3 { mode: Nfs3Option::Some(mode), ..sattr3::default() }
}

/// wcc_data of a directory that changed.
#[track_caller]
fn changed(wcc: wcc_data) -> fattr3 {
    let (before, after) = (wcc.before.unwrap(), wcc.after.unwrap());
    assert_ne!(before.ctime, after.ctime, "a change that a client's cache cannot see");
    after
}

macro_rules! create {
    ($client:ident, $dir:expr, $name:expr) => {{
        let how = createhow3::GUARDED(mode(0o644));
        $client.create(&CREATE3args { where_: dirop($dir, $name), how }).await.unwrap().unwrap().obj.unwrap()
    }};
}

#[test]
fn null_and_the_file_system_itself() {
    let server = TestServer::start();
    server.run(async {
        let mut client = server.client().await;
        client.null().await.unwrap();
        let root = server.root();
        let attr =
            client.getattr(&GETATTR3args { object: root.clone() }).await.unwrap().unwrap().obj_attributes;
        assert_eq!((attr.type_, attr.fileid, attr.nlink), (ftype3::NF3DIR, 1, 2));
        let info = client.fsinfo(&FSINFO3args { fsroot: root.clone() }).await.unwrap().unwrap();
        assert_eq!(info.obj_attributes.unwrap().fsid, attr.fsid);
        assert_eq!([info.rtmax, info.rtpref, info.wtmax, info.wtpref], [1 << 20; 4]);
        assert_eq!([info.rtmult, info.wtmult, info.dtpref], [4096, 4096, 65_536]);
        assert_eq!(info.maxfilesize, replica::fs::FILE_SIZE_MAX);
        assert_eq!(info.time_delta, nfstime3 { seconds: 0, nseconds: 1 });
        assert_eq!(info.properties, 0x1b, "links, symbolic links, homogeneous, times can be set");
        let conf = client.pathconf(&PATHCONF3args { object: root.clone() }).await.unwrap().unwrap();
        assert!(conf.obj_attributes.is_some());
        assert_eq!((conf.linkmax, conf.name_max), (replica::fs::LINK_MAX, 255));
        let flags = [conf.no_trunc, conf.chown_restricted, conf.case_insensitive, conf.case_preserving];
        assert_eq!(flags, [true, true, false, true]);
        let stat = client.fsstat(&FSSTAT3args { fsroot: root }).await.unwrap().unwrap();
        assert!(stat.obj_attributes.is_some());
        assert!(stat.tbytes >= stat.fbytes && stat.fbytes >= stat.abytes && stat.abytes > 0);
        assert!(stat.tfiles > stat.ffiles && stat.ffiles >= stat.afiles);
    });
}

#[test]
fn a_file_from_create_to_remove() {
    let server = TestServer::start();
    server.run(async {
        let mut client = server.client().await;
        let root = server.root();
        let how = createhow3::UNCHECKED(mode(0o640));
        let made = client.create(&CREATE3args { where_: dirop(&root, "file"), how }).await.unwrap().unwrap();
        let file = made.obj.unwrap();
        let attr = made.obj_attributes.unwrap();
        assert_eq!((attr.type_, attr.mode, attr.size, attr.nlink), (ftype3::NF3REG, 0o640, 0, 1));
        changed(made.dir_wcc);

        let data: Vec<u8> = (0..100_000).map(|i| (i % 253) as u8).collect();
        for (stable, offset) in [(stable_how::UNSTABLE, 0), (stable_how::FILE_SYNC, 100_000)] {
            let (file, count) = (file.clone(), data.len() as u32);
            let write = WRITE3args { file, offset, count, stable, data: Opaque::borrowed(&data) };
            let wrote = client.write(&write).await.unwrap().unwrap();
            assert_eq!((wrote.count, wrote.committed), (100_000, stable_how::FILE_SYNC));
            assert_eq!(wrote.verf.0, VERIFIER.to_be_bytes());
            assert_eq!(changed(wrote.file_wcc).size, offset + 100_000);
        }
        let commit = COMMIT3args { file: file.clone(), offset: 0, count: 0 };
        let commit = client.commit(&commit).await.unwrap().unwrap();
        assert_eq!(commit.verf.0, VERIFIER.to_be_bytes());
        assert_eq!(commit.file_wcc.before.unwrap().ctime, commit.file_wcc.after.unwrap().ctime);

        for (offset, count, len, eof) in
            [(0, 100, 100, false), (99_999, 3, 3, false), (199_990, 100, 10, true), (200_000, 5, 0, true)]
        {
            let read = READ3args { file: file.clone(), offset, count };
            let read = client.read(&read).await.unwrap().unwrap();
            assert_eq!((read.count, read.eof), (len, eof), "{count} bytes at {offset}");
            let at = offset as usize;
            assert!(read.data.iter().enumerate().all(|(i, b)| *b == data[(at + i) % 100_000]));
            assert_eq!((read.data.len() as u32, read.file_attributes.unwrap().size), (len, 200_000));
        }

        let size = sattr3 { size: Nfs3Option::Some(10), ..sattr3::default() };
        let set = SETATTR3args { object: file.clone(), new_attributes: size, guard: Nfs3Option::None };
        assert_eq!(changed(client.setattr(&set).await.unwrap().unwrap().obj_wcc).size, 10);

        let looked = client.lookup(&LOOKUP3args { what: dirop(&root, "file") }).await.unwrap().unwrap();
        assert_eq!(looked.object, file);
        assert_eq!(looked.obj_attributes.unwrap().size, 10);
        assert_eq!(looked.dir_attributes.unwrap().fileid, 1);
        let removed = client.remove(&REMOVE3args { object: dirop(&root, "file") }).await.unwrap().unwrap();
        changed(removed.dir_wcc);
        let gone = client.getattr(&GETATTR3args { object: file }).await.unwrap();
        assert!(matches!(gone, Nfs3Result::Err((nfsstat3::NFS3ERR_STALE, _))), "{gone:?}");
    });
}

#[test]
fn a_megabyte_goes_through_in_one_call() {
    let server = TestServer::start();
    server.run(async {
        let mut client = server.client().await;
        let file = create!(client, &server.root(), "big");
        let data: Vec<u8> = (0..1 << 20).map(|i| (i % 251) as u8).collect();
        let stable = stable_how::UNSTABLE;
        let write = WRITE3args {
            file: file.clone(),
            offset: 1,
            count: 1 << 20,
            stable,
            data: Opaque::borrowed(&data),
        };
        assert_eq!(client.write(&write).await.unwrap().unwrap().count, 1 << 20);
        let read = client.read(&READ3args { file, offset: 1, count: u32::MAX }).await.unwrap().unwrap();
        assert!(read.data[..] == data[..] && read.eof);
    });
}

#[test]
fn over_udp_every_answer_fits_in_a_datagram() {
    let server = TestServer::start();
    let root = server.root();
    let file = server.run(async {
        let mut client = server.client().await;
        for i in 0..400 {
            create!(client, &root, &format!("{i:0200}"));
        }
        let file = create!(client, &root, "f");
        let data = vec![1; 1 << 20];
        let (count, stable) = (1 << 20, stable_how::UNSTABLE);
        let write =
            WRITE3args { file: file.clone(), offset: 0, count, stable, data: Opaque::borrowed(&data) };
        client.write(&write).await.unwrap().unwrap();
        file
    });
    let info = server.call_over_udp(19, &pack(&root));
    assert_eq!(info[28 + 88..][..4], 32_768u32.to_be_bytes(), "rtmax");
    let read = server.call_over_udp(6, &pack(&READ3args { file, offset: 0, count: 1 << 20 }));
    assert_eq!(read[28 + 88..][..8], [0, 0, 0x80, 0, 0, 0, 0, 0], "32 KiB, and not the end");
    assert_eq!(read.len(), 28 + 88 + 12 + 32_768);
    let cookieverf = cookieverf3::default();
    let listing = READDIRPLUS3args { dir: root, cookie: 0, cookieverf, dircount: 1 << 20, maxcount: 1 << 20 };
    let listing = server.call_over_udp(17, &pack(&listing));
    assert_eq!(listing[24..28], [0; 4]);
    assert!(listing.len() > 30_000 && listing.len() <= 28 + 32_768, "{} bytes", listing.len());
}

#[test]
fn times_and_owners_are_set_as_asked() {
    let server = TestServer::start();
    server.run(async {
        let mut client = server.client().await;
        let file = create!(client, &server.root(), "f");
        let time = nfstime3 { seconds: 1_234_567_890, nseconds: 987_654_321 };
        let new_attributes = sattr3 {
            mode: Nfs3Option::Some(0o1751),
            uid: Nfs3Option::Some(17),
            gid: Nfs3Option::Some(18),
            size: Nfs3Option::Some(1 << 33),
            atime: set_atime::SET_TO_CLIENT_TIME(time),
            mtime: set_mtime::SET_TO_SERVER_TIME,
        };
        let set = SETATTR3args { object: file.clone(), new_attributes, guard: Nfs3Option::None };
        let after = changed(client.setattr(&set).await.unwrap().unwrap().obj_wcc);
        assert_eq!((after.mode, after.uid, after.gid, after.size), (0o1751, 17, 18, 1 << 33));
        assert_eq!((after.atime, after.mtime), (time, after.ctime));

        let guarded = |ctime| SETATTR3args {
            object: file.clone(),
            new_attributes: mode(0o600),
            guard: Nfs3Option::Some(ctime),
        };
        let stale = client.setattr(&guarded(time)).await.unwrap();
        assert!(matches!(stale, Nfs3Result::Err((nfsstat3::NFS3ERR_NOT_SYNC, _))), "{stale:?}");
        let fresh = client.setattr(&guarded(after.ctime)).await.unwrap().unwrap();
        assert_eq!(fresh.obj_wcc.after.unwrap().mode, 0o600);
    });
}

#[test]
fn directories_links_and_special_files() {
    let server = TestServer::start();
    server.run(async {
        let mut client = server.client().await;
        let root = server.root();
        let made = MKDIR3args { where_: dirop(&root, "d"), attributes: mode(0o750) };
        let made = client.mkdir(&made).await.unwrap().unwrap();
        assert_eq!(made.obj_attributes.unwrap().type_, ftype3::NF3DIR);
        assert_eq!(changed(made.dir_wcc).nlink, 3);
        let dir = made.obj.unwrap();

        let symlink_data: nfspath3<'static> = b"../some where".to_vec().into();
        let symlink = symlinkdata3 { symlink_attributes: sattr3::default(), symlink_data };
        let made =
            client.symlink(&SYMLINK3args { where_: dirop(&dir, "s"), symlink }).await.unwrap().unwrap();
        assert_eq!(made.obj_attributes.unwrap().type_, ftype3::NF3LNK);
        let target = client.readlink(&READLINK3args { symlink: made.obj.unwrap() }).await.unwrap().unwrap();
        assert_eq!(target.data.as_ref(), b"../some where");
        assert!(target.symlink_attributes.is_some());

        let spec = specdata3 { specdata1: 10, specdata2: 229 };
        let kinds = [
            (mknoddata3::NF3FIFO(mode(0o600)), ftype3::NF3FIFO),
            (mknoddata3::NF3SOCK(mode(0o600)), ftype3::NF3SOCK),
            (
                mknoddata3::NF3CHR(devicedata3 { dev_attributes: mode(0o600), spec: spec.clone() }),
                ftype3::NF3CHR,
            ),
            (
                mknoddata3::NF3BLK(devicedata3 { dev_attributes: mode(0o600), spec: spec.clone() }),
                ftype3::NF3BLK,
            ),
        ];
        for (what, kind) in kinds {
            let device = matches!(kind, ftype3::NF3CHR | ftype3::NF3BLK);
            let made = MKNOD3args { where_: dirop(&dir, &kind.to_string()), what };
            let made = client.mknod(&made).await.unwrap().unwrap();
            let attr = made.obj_attributes.unwrap();
            assert_eq!((attr.type_, attr.mode), (kind, 0o600));
            assert_eq!(attr.rdev, if device { spec.clone() } else { specdata3::default() });
            changed(made.dir_wcc);
        }

        let file = create!(client, &dir, "a");
        let link = LINK3args { file: file.clone(), link: dirop(&root, "b") };
        let link = client.link(&link).await.unwrap().unwrap();
        assert_eq!(link.file_attributes.unwrap().nlink, 2);
        changed(link.linkdir_wcc);

        let rename = RENAME3args { from: dirop(&root, "b"), to: dirop(&dir, "c") };
        let rename = client.rename(&rename).await.unwrap().unwrap();
        changed(rename.fromdir_wcc);
        changed(rename.todir_wcc);
        let found = client.lookup(&LOOKUP3args { what: dirop(&dir, "c") }).await.unwrap().unwrap();
        assert_eq!(found.object, file, "a handle outlives its name");

        let full = client.rmdir(&RMDIR3args { object: dirop(&root, "d") }).await.unwrap();
        assert!(matches!(full, Nfs3Result::Err((nfsstat3::NFS3ERR_NOTEMPTY, _))), "{full:?}");
        for name in ["a", "c", "s", "NF3FIFO", "NF3SOCK", "NF3CHR", "NF3BLK"] {
            client.remove(&REMOVE3args { object: dirop(&dir, name) }).await.unwrap().unwrap();
        }
        let gone = client.rmdir(&RMDIR3args { object: dirop(&root, "d") }).await.unwrap().unwrap();
        assert_eq!(changed(gone.dir_wcc).nlink, 2);
    });
}

#[test]
fn an_exclusive_create_is_the_same_file_twice() {
    let server = TestServer::start();
    server.run(async {
        let mut client = server.client().await;
        let create = |verf| CREATE3args {
            where_: dirop(&server.root(), "x"),
            how: createhow3::EXCLUSIVE(createverf3([verf; 8])),
        };
        let first = client.create(&create(1)).await.unwrap().unwrap().obj.unwrap();
        assert_eq!(client.create(&create(1)).await.unwrap().unwrap().obj.unwrap(), first);
        let other = client.create(&create(2)).await.unwrap();
        assert!(matches!(other, Nfs3Result::Err((nfsstat3::NFS3ERR_EXIST, _))), "{other:?}");
    });
}

#[test]
fn dot_and_dot_dot_are_looked_up() {
    let server = TestServer::start();
    server.run(async {
        let mut client = server.client().await;
        let root = server.root();
        let made = MKDIR3args { where_: dirop(&root, "d"), attributes: mode(0o755) };
        let dir = client.mkdir(&made).await.unwrap().unwrap().obj.unwrap();
        for (from, name, to) in [(&dir, ".", &dir), (&dir, "..", &root), (&root, "..", &root)] {
            let found = client.lookup(&LOOKUP3args { what: dirop(from, name) }).await.unwrap().unwrap();
            assert_eq!(found.object, *to, "{name}");
        }
    });
}

/// Lists a directory with small replies; (name, file id, cookie) of each entry.
async fn list(server: &TestServer, dir: &nfs_fh3, plus: bool, room: u32) -> Vec<(String, u64, u64)> {
    let mut client = server.client().await;
    let (mut all, mut cookie, mut cookieverf) = (Vec::new(), 0, cookieverf3::default());
    loop {
        let dir = dir.clone();
        let (verf, page, eof) = if plus {
            let args = READDIRPLUS3args { dir, cookie, cookieverf, dircount: room, maxcount: room };
            let page = client.readdirplus(&args).await.unwrap().unwrap();
            assert!(page.dir_attributes.is_some());
            let List(entries) = page.reply.entries;
            let entries = entries.into_iter().map(|e| {
                let (_, handle) = nfsd::handle::decode(e.name_handle.unwrap().data.as_ref()).unwrap();
                assert_eq!((e.name_attributes.unwrap().fileid, handle.file.0), (e.fileid, e.fileid));
                (String::from_utf8_lossy(e.name.as_ref()).into_owned(), e.fileid, e.cookie)
            });
            (page.cookieverf, entries.collect::<Vec<_>>(), page.reply.eof)
        } else {
            let args = READDIR3args { dir, cookie, cookieverf, count: room };
            let page = client.readdir(&args).await.unwrap().unwrap();
            assert!(page.dir_attributes.is_some());
            let List(entries) = page.reply.entries;
            let entry =
                |e: entry3| (String::from_utf8_lossy(e.name.as_ref()).into_owned(), e.fileid, e.cookie);
            (page.cookieverf, entries.into_iter().map(entry).collect(), page.reply.eof)
        };
        cookieverf = verf;
        cookie = page.last().map_or(cookie, |e| e.2);
        all.extend(page);
        if eof {
            return all;
        }
    }
}

#[test]
fn a_directory_is_listed_whole_whatever_the_buffer() {
    let server = TestServer::start();
    server.run(async {
        let mut client = server.client().await;
        let root = server.root();
        let mut expected = vec![".".to_string(), "..".to_string()];
        for i in 0..100 {
            let name = format!("{}{i}", "n".repeat(i % 40));
            create!(client, &root, &name);
            expected.push(name);
        }
        for (plus, room) in
            [(false, 180), (false, 4096), (false, 65_536), (true, 320), (true, 8192), (true, 65_536)]
        {
            let listed = list(&server, &root, plus, room).await;
            let names: Vec<_> = listed.iter().map(|e| e.0.clone()).collect();
            assert_eq!(names, expected, "plus {plus}, {room} bytes");
            assert!(listed.windows(2).all(|pair| pair[0].2 < pair[1].2), "cookies rise");
        }
    });
}

#[test]
fn access_says_what_the_caller_may() {
    use replica::fs::access as bits;
    let server = TestServer::with(&[OPEN, ExportPolicy { read_only: true, ..OPEN }, ExportPolicy::default()]);
    server.run(async {
        let ask = async |export: usize, uid| {
            let object = server.exports[export].root();
            let access = ACCESS3args { object, access: 0x3f };
            server.client_as(uid, uid).await.access(&access).await.unwrap().unwrap().access
        };
        let all = bits::READ | bits::LOOKUP | bits::MODIFY | bits::EXTEND | bits::DELETE;
        let read = bits::READ | bits::LOOKUP;
        assert_eq!(ask(0, 0).await, all);
        assert_eq!(ask(0, 1000).await, read, "the root directory is root's");
        assert_eq!(ask(1, 0).await, read, "a read-only export");
        assert_eq!(ask(2, 0).await, read, "root is squashed");
    });
}
