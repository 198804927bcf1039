//! Goal: every error that RFC 1813 lists for a procedure is what a client gets where it should, with the objects'
//! attributes as they are, and a failure changes nothing. Method: the RFC's lists as a table; each line is shown by
//! a case below or has a reason why it cannot be; nothing is shown that is not expected.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use nfs3_types::nfs3::nfsstat3::{
    NFS3ERR_ACCES as ACCES, NFS3ERR_BAD_COOKIE as BAD_COOKIE, NFS3ERR_BADHANDLE as BADHANDLE,
    NFS3ERR_BADTYPE as BADTYPE, NFS3ERR_DQUOT as DQUOT, NFS3ERR_EXIST as EXIST, NFS3ERR_FBIG as FBIG,
    NFS3ERR_INVAL as INVAL, NFS3ERR_IO as IO, NFS3ERR_ISDIR as ISDIR, NFS3ERR_MLINK as MLINK,
    NFS3ERR_NAMETOOLONG as NAMETOOLONG, NFS3ERR_NOENT as NOENT, NFS3ERR_NOSPC as NOSPC,
    NFS3ERR_NOT_SYNC as NOT_SYNC, NFS3ERR_NOTDIR as NOTDIR, NFS3ERR_NOTEMPTY as NOTEMPTY,
    NFS3ERR_NOTSUPP as NOTSUPP, NFS3ERR_NXIO as NXIO, NFS3ERR_PERM as PERM, NFS3ERR_ROFS as ROFS,
    NFS3ERR_SERVERFAULT as SERVERFAULT, NFS3ERR_STALE as STALE, NFS3ERR_TOOSMALL as TOOSMALL,
    NFS3ERR_XDEV as XDEV,
};
use nfs3_types::nfs3::*;
use nfs3_types::xdr_codec::Unpack;
use nfsd::exports::ExportPolicy;

use crate::call::*;
use crate::harness::*;

/// The ERRORS of each procedure, RFC 1813 sections 3.3.0 to 3.3.21.
const RFC: [&[nfsstat3]; 22] = [
    &[],
    &[IO, STALE, BADHANDLE, SERVERFAULT],
    &[PERM, IO, ACCES, INVAL, NOSPC, ROFS, DQUOT, NOT_SYNC, STALE, BADHANDLE, SERVERFAULT],
    &[IO, NOENT, ACCES, NOTDIR, NAMETOOLONG, STALE, BADHANDLE, SERVERFAULT],
    &[IO, STALE, BADHANDLE, SERVERFAULT],
    &[IO, INVAL, ACCES, STALE, BADHANDLE, NOTSUPP, SERVERFAULT],
    &[IO, NXIO, ACCES, INVAL, STALE, BADHANDLE, SERVERFAULT],
    &[IO, ACCES, FBIG, DQUOT, NOSPC, ROFS, INVAL, STALE, BADHANDLE, SERVERFAULT],
    &[IO, ACCES, EXIST, NOTDIR, NOSPC, ROFS, NAMETOOLONG, DQUOT, STALE, BADHANDLE, NOTSUPP, SERVERFAULT],
    &[IO, ACCES, EXIST, NOTDIR, NOSPC, ROFS, NAMETOOLONG, DQUOT, STALE, BADHANDLE, NOTSUPP, SERVERFAULT],
    &[IO, ACCES, EXIST, NOTDIR, NOSPC, ROFS, NAMETOOLONG, DQUOT, STALE, BADHANDLE, NOTSUPP, SERVERFAULT],
    &[
        IO,
        ACCES,
        EXIST,
        NOTDIR,
        NOSPC,
        ROFS,
        NAMETOOLONG,
        DQUOT,
        STALE,
        BADHANDLE,
        NOTSUPP,
        SERVERFAULT,
        BADTYPE,
    ],
    &[NOENT, IO, ACCES, NOTDIR, NAMETOOLONG, ROFS, STALE, BADHANDLE, SERVERFAULT],
    &[
        NOENT,
        IO,
        ACCES,
        INVAL,
        EXIST,
        NOTDIR,
        NAMETOOLONG,
        ROFS,
        NOTEMPTY,
        STALE,
        BADHANDLE,
        NOTSUPP,
        SERVERFAULT,
    ],
    &[
        NOENT,
        IO,
        ACCES,
        EXIST,
        XDEV,
        NOTDIR,
        ISDIR,
        INVAL,
        NOSPC,
        ROFS,
        MLINK,
        NAMETOOLONG,
        NOTEMPTY,
        DQUOT,
        STALE,
        BADHANDLE,
        NOTSUPP,
        SERVERFAULT,
    ],
    &[
        IO,
        ACCES,
        EXIST,
        XDEV,
        NOTDIR,
        INVAL,
        NOSPC,
        ROFS,
        MLINK,
        NAMETOOLONG,
        DQUOT,
        STALE,
        BADHANDLE,
        NOTSUPP,
        SERVERFAULT,
    ],
    &[IO, ACCES, NOTDIR, BAD_COOKIE, TOOSMALL, STALE, BADHANDLE, SERVERFAULT],
    &[IO, ACCES, NOTDIR, BAD_COOKIE, TOOSMALL, STALE, BADHANDLE, NOTSUPP, SERVERFAULT],
    &[IO, STALE, BADHANDLE, SERVERFAULT],
    &[STALE, BADHANDLE, SERVERFAULT],
    &[STALE, BADHANDLE, SERVERFAULT],
    &[IO, STALE, BADHANDLE, SERVERFAULT],
];

/// What no procedure answers here, and why.
const NEVER: [(nfsstat3, &str); 4] = [
    (IO, "a node whose disk fails hands over and exits: replica/src/group"),
    (SERVERFAULT, "nothing here gives up without a reason of its own"),
    (NOTSUPP, "every procedure, type and mode is there"),
    (DQUOT, "no quota is set on these exports"),
];

/// What one procedure never answers here, and why.
const NOT_HERE: [(usize, nfsstat3, &str); 8] = [
    (2, NOSPC, "a longer file is a hole: it takes no room"),
    (5, ACCES, "whoever has the handle may read a link, as everywhere"),
    (6, NXIO, "special files are opened at the client; READ of one is INVAL"),
    (14, EXIST, "what has the new name is replaced, or the error says why not: NOTDIR, ISDIR, NOTEMPTY"),
    (14, NOSPC, "a name that moves takes no more room than its entry in the log"),
    (14, MLINK, "shown by wcc::a_directory_and_a_file_have_as_many_links_as_pathconf_says"),
    (15, INVAL, "names that cannot be are ACCES, directories PERM"),
    (15, MLINK, "shown by wcc::a_directory_and_a_file_have_as_many_links_as_pathconf_says"),
];

/// What is answered beyond the RFC's lists, as Linux's server does and its client expects.
const BEYOND: [(usize, nfsstat3, &str); 14] = [
    (2, ISDIR, "ftruncate(2) of a directory"),
    (2, FBIG, "longer than FSINFO's maxfilesize"),
    (6, ISDIR, "read(2) of a directory"),
    (7, ISDIR, "write(2) to a directory"),
    (8, INVAL, "a time of a second or more of nanoseconds"),
    (10, NOENT, "symlink(2) with an empty target"),
    (10, INVAL, "a target with a NUL"),
    (11, PERM, "devices are the superuser's"),
    (12, ISDIR, "unlink(2) of a directory"),
    (12, PERM, "a sticky directory"),
    (13, PERM, "a sticky directory"),
    (14, PERM, "a sticky directory"),
    (15, ISDIR, "link(2) of a directory, as knfsd has it"),
    (21, INVAL, "COMMIT of what is no file"),
];

/// A caller's uid, the call, and what it gets.
type Case = (u32, Call, nfsstat3);

const ROOT: u32 = 0;
const USER: u32 = 1000;

/// Objects that cases are about.
struct World {
    root: nfs_fh3,
    file: nfs_fh3,
    /// The user's own, mode 0644.
    own: nfs_fh3,
    link: nfs_fh3,
    fifo: nfs_fh3,
    dir: nfs_fh3,
    /// Root's, mode 0700, with a file `in` of mode 0600.
    closed: nfs_fh3,
    secret: nfs_fh3,
    /// Everybody's, mode 01777, with a file `f` and a directory `d` of root's.
    sticky: nfs_fh3,
    /// In an export of its own whose host has no room: a directory and a file.
    full: (nfs_fh3, nfs_fh3),
    /// The root of an export that is read-only.
    read_only: nfs_fh3,
}

impl World {
    async fn new(server: &TestServer) -> Self {
        let c = &mut server.client().await;
        let root = server.root();
        let file = made(c, create(&root, b"file")).await;
        done(c, write(&file, 0, b"some content")).await;
        let own = made(c, create(&root, b"own")).await;
        let owner = sattr3 { uid: Nfs3Option::Some(USER), gid: Nfs3Option::Some(USER), ..sattr3::default() };
        done(c, setattr(&own, owner)).await;
        let link = made(c, symlink(&root, b"link", b"file")).await;
        let pipe = made(c, fifo(&root, b"fifo")).await;
        let dir = made(c, mkdir(&root, b"dir", 0o755)).await;
        done(c, create(&dir, b"inner")).await;
        done(c, mkdir(&root, b"empty", 0o755)).await;
        let closed = made(c, mkdir(&root, b"closed", 0o700)).await;
        let secret = made(c, create(&closed, b"in")).await;
        done(c, setattr(&secret, mode(0o600))).await;
        let sticky = made(c, mkdir(&root, b"sticky", 0o1777)).await;
        done(c, create(&sticky, b"f")).await;
        done(c, mkdir(&sticky, b"d", 0o755)).await;
        let full = server.exports[2].root();
        let full = (full.clone(), made(c, create(&full, b"file")).await);
        server.exports[2].full.store(true, Ordering::SeqCst);
        let read_only = server.exports[1].root();
        Self { root, file, own, link, fifo: pipe, dir, closed, secret, sticky, full, read_only }
    }

    fn of_attributes(&self) -> Vec<Case> {
        let Self { file, own, root, .. } = self;
        let (time, late) =
            (nfstime3 { seconds: 1, nseconds: 0 }, nfstime3 { seconds: 1, nseconds: 1_000_000_000 });
        let size = |size| sattr3 { size: Nfs3Option::Some(size), ..sattr3::default() };
        let atime = |time| sattr3 { atime: set_atime::SET_TO_CLIENT_TIME(time), ..sattr3::default() };
        let now = sattr3 { mtime: set_mtime::SET_TO_SERVER_TIME, ..sattr3::default() };
        let uid = sattr3 { uid: Nfs3Option::Some(USER), ..sattr3::default() };
        let gid = sattr3 { gid: Nfs3Option::Some(77), ..sattr3::default() };
        let guard = Nfs3Option::Some(time);
        let guarded = SETATTR3args { object: file.clone(), new_attributes: mode(0o600), guard };
        vec![
            (USER, setattr(file, mode(0o666)), PERM),
            (USER, setattr(file, uid), PERM),
            (USER, setattr(own, gid), PERM),
            (USER, setattr(file, atime(time)), PERM),
            (USER, setattr(file, now), ACCES),
            (USER, setattr(file, size(0)), ACCES),
            (ROOT, setattr(file, atime(late)), INVAL),
            (ROOT, setattr(&self.link, size(0)), INVAL),
            (ROOT, setattr(root, size(0)), ISDIR),
            (ROOT, setattr(file, size(u64::MAX)), FBIG),
            (ROOT, Call::SetAttr(guarded), NOT_SYNC),
            (ROOT, setattr(&self.read_only, mode(0o777)), ROFS),
            (ROOT, lookup(root, b"none"), NOENT),
            (USER, lookup(&self.closed, b"in"), ACCES),
            (ROOT, lookup(file, b"x"), NOTDIR),
            (ROOT, lookup(root, &[b'n'; 256]), NAMETOOLONG),
            (ROOT, Call::ReadLink(READLINK3args { symlink: file.clone() }), INVAL),
        ]
    }

    fn of_content(&self) -> Vec<Case> {
        let Self { file, root, .. } = self;
        let max = replica::fs::FILE_SIZE_MAX;
        vec![
            (USER, read(&self.secret), ACCES),
            (ROOT, read(&self.fifo), INVAL),
            (ROOT, read(&self.link), INVAL),
            (ROOT, read(root), ISDIR),
            (USER, write(file, 0, b"x"), ACCES),
            (ROOT, write(file, max, b"x"), FBIG),
            (ROOT, write(file, u64::MAX, b"xx"), FBIG),
            (ROOT, write(&self.full.1, 0, b"x"), NOSPC),
            (ROOT, write(&self.read_only, 0, b"x"), ROFS),
            (ROOT, write(&self.fifo, 0, b"x"), INVAL),
            (ROOT, write(root, 0, b"x"), ISDIR),
            (ROOT, commit(root), INVAL),
            (ROOT, commit(&self.fifo), INVAL),
        ]
    }

    /// What CREATE, MKDIR, SYMLINK and MKNOD have in common, and what not.
    fn of_making(&self) -> Vec<Case> {
        let Self { root, file, .. } = self;
        let each = |dir: &nfs_fh3, name: &[u8]| {
            [create(dir, name), mkdir(dir, name, 0o755), symlink(dir, name, b"t"), fifo(dir, name)]
        };
        let mut cases = Vec::new();
        let mut all = |who, dir: &nfs_fh3, name: &[u8], status| {
            cases.extend(each(dir, name).map(|call| (who, call, status)));
        };
        all(USER, root, b"new", ACCES);
        all(ROOT, root, b"a/b", ACCES);
        all(ROOT, root, b"", ACCES);
        all(ROOT, root, b"file", EXIST);
        all(ROOT, root, b"dir", EXIST);
        all(ROOT, root, b"link", EXIST);
        all(ROOT, root, b".", EXIST);
        all(ROOT, root, b"..", EXIST);
        all(ROOT, file, b"new", NOTDIR);
        all(ROOT, &self.full.0, b"new", NOSPC);
        all(ROOT, &self.read_only, b"new", ROFS);
        all(ROOT, root, &[b'n'; 256], NAMETOOLONG);
        let how = createhow3::EXCLUSIVE(createverf3([1; 8]));
        cases.push((ROOT, Call::Create(CREATE3args { where_: at(root, b"file"), how }), EXIST));
        let late = nfstime3 { seconds: 1, nseconds: 1_000_000_000 };
        let how =
            createhow3::UNCHECKED(sattr3 { mtime: set_mtime::SET_TO_CLIENT_TIME(late), ..sattr3::default() });
        cases.push((ROOT, Call::Create(CREATE3args { where_: at(root, b"new"), how }), INVAL));
        let device = || devicedata3 { dev_attributes: mode(0o600), spec: specdata3::default() };
        cases.push((USER, mknod(&self.sticky, b"new", mknoddata3::NF3CHR(device())), PERM));
        cases.push((USER, mknod(&self.sticky, b"new", mknoddata3::NF3BLK(device())), PERM));
        cases.push((ROOT, symlink(root, b"new", b""), NOENT));
        cases.push((ROOT, symlink(root, b"new", b"a\0b"), INVAL));
        cases.push((ROOT, symlink(root, b"new", &[b't'; 4097]), NAMETOOLONG));
        cases
    }

    fn of_removing(&self) -> Vec<Case> {
        let Self { root, file, sticky, .. } = self;
        let mut cases = Vec::new();
        let each = |dir: &nfs_fh3, name: &[u8]| [remove(dir, name), rmdir(dir, name)];
        let mut all = |who, dir: &nfs_fh3, name: &[u8], status| {
            cases.extend(each(dir, name).map(|call| (who, call, status)));
        };
        all(ROOT, root, b"none", NOENT);
        all(USER, &self.closed, b"in", ACCES);
        all(ROOT, root, b"a/b", ACCES);
        all(ROOT, file, b"x", NOTDIR);
        all(ROOT, root, &[b'n'; 256], NAMETOOLONG);
        all(ROOT, &self.read_only, b"x", ROFS);
        cases.extend([
            (ROOT, remove(root, b"dir"), ISDIR),
            (USER, remove(sticky, b"f"), PERM),
            (USER, rmdir(sticky, b"d"), PERM),
            (USER, remove(root, b"own"), ACCES),
            (ROOT, rmdir(root, b"file"), NOTDIR),
            (ROOT, rmdir(root, b"link"), NOTDIR),
            (ROOT, rmdir(root, b"dir"), NOTEMPTY),
            (ROOT, rmdir(root, b"."), INVAL),
            (ROOT, rmdir(root, b".."), EXIST),
        ]);
        cases
    }

    fn of_moving(&self) -> Vec<Case> {
        let Self { root, file, dir, sticky, closed, .. } = self;
        let (other, long) = (&self.full.0, vec![b'n'; 256]);
        let in_root = |name: &[u8]| at(root, name);
        vec![
            (ROOT, rename(in_root(b"none"), in_root(b"x")), NOENT),
            (USER, rename(in_root(b"file"), in_root(b"x")), ACCES),
            (USER, rename(in_root(b"file"), at(closed, b"x")), ACCES),
            (ROOT, rename(in_root(b"file"), in_root(b"a/b")), ACCES),
            (USER, rename(at(sticky, b"f"), at(sticky, b"x")), PERM),
            (ROOT, rename(in_root(b"file"), at(other, b"x")), XDEV),
            (ROOT, rename(at(file, b"x"), in_root(b"x")), NOTDIR),
            (ROOT, rename(in_root(b"dir"), in_root(b"file")), NOTDIR),
            (ROOT, rename(in_root(b"file"), in_root(b"dir")), ISDIR),
            (ROOT, rename(in_root(b"dir"), at(dir, b"x")), INVAL),
            (ROOT, rename(in_root(b"."), in_root(b"x")), INVAL),
            (ROOT, rename(at(&self.read_only, b"x"), at(&self.read_only, b"y")), ROFS),
            (ROOT, rename(in_root(&long), in_root(b"x")), NAMETOOLONG),
            (ROOT, rename(in_root(b"file"), in_root(&long)), NAMETOOLONG),
            (ROOT, rename(in_root(b"empty"), in_root(b"dir")), NOTEMPTY),
            (ROOT, rename(at(dir, b"inner"), in_root(b"dir")), NOTEMPTY),
            (USER, link(file, root, b"x"), ACCES),
            (ROOT, link(file, root, b""), ACCES),
            (ROOT, link(file, root, b"dir"), EXIST),
            (ROOT, link(file, root, b".."), EXIST),
            (ROOT, link(file, other, b"x"), XDEV),
            (ROOT, link(file, file, b"x"), NOTDIR),
            (ROOT, link(&self.full.1, other, b"x"), NOSPC),
            (ROOT, link(&self.read_only, &self.read_only, b"x"), ROFS),
            (ROOT, link(file, root, &long), NAMETOOLONG),
            (ROOT, link(dir, root, b"x"), ISDIR),
        ]
    }

    fn of_listing(&self) -> Vec<Case> {
        let Self { root, file, closed, .. } = self;
        let each = |dir: &nfs_fh3, cookie, verf, count| {
            [readdir(dir, cookie, verf, count), readdirplus(dir, cookie, verf, count)]
        };
        let mut cases = Vec::new();
        let mut all =
            |who, [plain, plus]: [Call; 2], status| cases.extend([(who, plain, status), (who, plus, status)]);
        all(USER, each(closed, 0, 0, 4096), ACCES);
        all(ROOT, each(file, 0, 0, 4096), NOTDIR);
        all(ROOT, each(root, 3, 1, 4096), BAD_COOKIE);
        all(ROOT, each(root, 0, 0, 0), TOOSMALL);
        all(ROOT, each(root, 0, 0, 120), TOOSMALL);
        cases
    }

    /// Handles that name nothing: all procedures say the same.
    async fn of_handles(&self, c: &mut Client) -> Vec<Case> {
        let gone = made(c, create(&self.root, b"gone")).await;
        done(c, remove(&self.root, b"gone")).await;
        let garbage = fh(&[0xff; 36]);
        let stale = every(&gone).into_iter().map(|call| (ROOT, call, STALE));
        let bad = every(&garbage).into_iter().map(|call| (ROOT, call, BADHANDLE));
        let seconds = [&gone, &garbage].into_iter().zip([STALE, BADHANDLE]).flat_map(|(handle, status)| {
            let moved = rename(at(&self.root, b"file"), at(handle, b"x"));
            [(ROOT, moved, status), (ROOT, link(&self.file, handle, b"x"), status)]
        });
        stale.chain(bad).chain(seconds).collect()
    }
}

/// The tree, as a client sees it: a digest of all that a walk finds.
async fn tree(c: &mut Client, dir: nfs_fh3, depth: u8) -> Vec<Vec<u8>> {
    assert!(depth < 8);
    let cookieverf = cookieverf3::default();
    let args = READDIRPLUS3args { dir, cookie: 0, cookieverf, dircount: 65_536, maxcount: 65_536 };
    let page = c.readdirplus(&args).await.unwrap().unwrap();
    assert!(page.reply.eof);
    let mut all = Vec::new();
    for entry in page.reply.entries.into_inner() {
        let (attr, handle) = (option(entry.name_attributes).unwrap(), option(entry.name_handle).unwrap());
        all.push([entry.name.as_ref(), &pack(&attr), &pack(&handle)].concat());
        if attr.type_ == ftype3::NF3DIR && !matches!(entry.name.as_ref(), b"." | b"..") {
            all.extend(Box::pin(tree(c, handle, depth + 1)).await);
        }
    }
    all
}

#[test]
fn every_error_of_every_procedure() {
    let server = TestServer::with(&[OPEN, ExportPolicy { read_only: true, ..OPEN }, OPEN]);
    server.run(async {
        let world = World::new(&server).await;
        let (root, user) = (&mut server.client().await, &mut server.client_as(USER, USER).await);
        let mut cases = world.of_handles(root).await;
        let groups = [
            world.of_attributes(),
            world.of_content(),
            world.of_making(),
            world.of_removing(),
            world.of_moving(),
            world.of_listing(),
        ];
        cases.extend(groups.into_iter().flatten());
        let before = tree(root, world.root.clone(), 0).await;
        let mut shown = BTreeSet::new();
        for (number, (who, call, expected)) in cases.iter().enumerate() {
            let client = if *who == ROOT { &mut *root } else { &mut *user };
            let outcome = call.check(client).await;
            let name = NAMES[call.procedure()];
            assert_eq!(outcome.status, *expected, "case {number}: {name} as {who}");
            shown.insert((call.procedure(), *expected as u32));
        }
        for kind in [ftype3::NF3REG, ftype3::NF3DIR, ftype3::NF3LNK] {
            mknod_of(&server, kind);
        }
        shown.insert((11, BADTYPE as u32));
        assert_eq!(tree(root, world.root.clone(), 0).await, before, "a failed call changed something");
        check_table(&shown);
    });
}

/// MKNOD of a type with a procedure of its own, which `nfs3_client` cannot send.
fn mknod_of(server: &TestServer, kind: ftype3) {
    let reply = server.raw().call(1, 11, &[pack(&at(&server.root(), b"new")), pack(&kind)].concat());
    let (results, _) = MKNOD3res::unpack(&mut &reply[24..]).unwrap();
    let Nfs3Result::Err((status, failed)) = results else { panic!("MKNOD made {kind}") };
    assert_eq!(status, BADTYPE);
    assert!(failed.dir_wcc.before.is_some() && failed.dir_wcc.after.is_some());
}

/// Each line of the RFC's is shown or has its reason; what is shown is the RFC's, or has its reason.
fn check_table(shown: &BTreeSet<(usize, u32)>) {
    let is_shown = |procedure, status: nfsstat3| shown.contains(&(procedure, status as u32));
    for (procedure, errors) in RFC.iter().enumerate() {
        for status in *errors {
            let never = NEVER.iter().any(|line| line.0 == *status);
            let not_here = NOT_HERE.iter().any(|line| (line.0, line.1) == (procedure, *status));
            let reasons = usize::from(is_shown(procedure, *status)) + usize::from(never || not_here);
            assert_eq!(reasons, 1, "{}: {status:?} is shown, or cannot be", NAMES[procedure]);
        }
    }
    for (procedure, status) in shown {
        let listed = RFC[*procedure].iter().any(|s| *s as u32 == *status);
        let beyond = BEYOND.iter().any(|line| (line.0, line.1 as u32) == (*procedure, *status));
        assert!(listed != beyond, "{}: {status} is the RFC's, or beyond it", NAMES[*procedure]);
    }
    for (procedure, status, why) in BEYOND {
        assert!(is_shown(procedure, status), "{}: {status:?} ({why}) is not shown", NAMES[procedure]);
    }
}
