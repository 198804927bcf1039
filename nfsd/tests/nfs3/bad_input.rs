//! Goal: whatever arguments come in, the client gets the right RPC or NFS error, and the server is unharmed.
//! Method: one good call of each procedure, then the same with each kind of damage; after each test a good
//! call must still be answered.

use nfs3_types::nfs3::*;
use nfs3_types::xdr_codec::Opaque;

use crate::harness::*;

const SUCCESS: u32 = 0;
const GARBAGE_ARGS: u32 = 4;

const NOENT: u32 = 2;
const ACCES: u32 = 13;
const EXIST: u32 = 17;
const XDEV: u32 = 18;
const NOTDIR: u32 = 20;
const ISDIR: u32 = 21;
const INVAL: u32 = 22;
const FBIG: u32 = 27;
const NAMETOOLONG: u32 = 63;
const STALE: u32 = 70;
const BADHANDLE: u32 = 10_001;
const BAD_COOKIE: u32 = 10_003;
const TOOSMALL: u32 = 10_005;
const BADTYPE: u32 = 10_007;

fn at(dir: &nfs_fh3, name: &[u8]) -> diropargs3<'static> {
    diropargs3 { dir: dir.clone(), name: name.to_vec().into() }
}

fn write<'a>(file: &nfs_fh3, offset: u64, data: &'a [u8]) -> WRITE3args<'a> {
    let (file, count) = (file.clone(), data.len() as u32);
    WRITE3args { file, offset, count, stable: stable_how::UNSTABLE, data: Opaque::borrowed(data) }
}

fn symlink(dir: &nfs_fh3, name: &[u8], target: &[u8]) -> Vec<u8> {
    let symlink_data: nfspath3<'static> = target.to_vec().into();
    let symlink = symlinkdata3 { symlink_attributes: sattr3::default(), symlink_data };
    pack(&SYMLINK3args { where_: at(dir, name), symlink })
}

/// Well-formed arguments of every procedure that has some, about `object` and the name `n`.
fn every_procedure(object: &nfs_fh3) -> Vec<(u32, Vec<u8>)> {
    let (fh, sattr, cookieverf) = (|| object.clone(), sattr3::default, cookieverf3::default());
    let n = || at(object, b"n");
    let special = devicedata3 { dev_attributes: sattr(), spec: specdata3::default() };
    vec![
        (1, pack(&fh())),
        (2, pack(&SETATTR3args { object: fh(), new_attributes: sattr(), guard: Nfs3Option::None })),
        (3, pack(&n())),
        (4, pack(&ACCESS3args { object: fh(), access: 0x3f })),
        (5, pack(&fh())),
        (6, pack(&READ3args { file: fh(), offset: 0, count: 100 })),
        (7, pack(&write(object, 0, b"data"))),
        (8, pack(&CREATE3args { where_: n(), how: createhow3::UNCHECKED(sattr()) })),
        (9, pack(&MKDIR3args { where_: n(), attributes: sattr() })),
        (10, symlink(object, b"n", b"target")),
        (11, pack(&MKNOD3args { where_: n(), what: mknoddata3::NF3CHR(special) })),
        (12, pack(&n())),
        (13, pack(&n())),
        (14, pack(&RENAME3args { from: n(), to: n() })),
        (15, pack(&LINK3args { file: fh(), link: n() })),
        (16, pack(&READDIR3args { dir: fh(), cookie: 0, cookieverf, count: 4096 })),
        (17, pack(&READDIRPLUS3args { dir: fh(), cookie: 0, cookieverf, dircount: 512, maxcount: 4096 })),
        (18, pack(&fh())),
        (19, pack(&fh())),
        (20, pack(&fh())),
        (21, pack(&COMMIT3args { file: fh(), offset: 0, count: 0 })),
    ]
}

/// The nfsstat3 of a reply.
#[track_caller]
fn status(reply: &[u8]) -> u32 {
    assert_eq!(accept_stat(reply), SUCCESS);
    u32::from_be_bytes(reply[24..28].try_into().unwrap())
}

/// A connection, and xids that are never used twice.
struct Client {
    server: TestServer,
    raw: Raw,
    xid: u32,
}

impl Client {
    fn of(server: TestServer) -> Self {
        Self { raw: server.raw(), server, xid: 0 }
    }

    fn new() -> Self {
        Self::of(TestServer::start())
    }

    fn call(&mut self, procedure: u32, args: &[u8]) -> Vec<u8> {
        self.xid += 1;
        self.raw.call(self.xid, procedure, args)
    }

    #[track_caller]
    fn expect(&mut self, procedure: u32, args: &[u8], expected: u32) -> Vec<u8> {
        let reply = self.call(procedure, args);
        assert_eq!(status(&reply), expected, "procedure {procedure}");
        reply
    }

    fn create(&mut self, name: &[u8]) -> nfs_fh3 {
        let how = createhow3::GUARDED(sattr3::default());
        let where_ = at(&self.server.root(), name);
        let reply = self.expect(8, &pack(&CREATE3args { where_, how }), 0);
        fh(&reply[36..36 + 36])
    }

    /// The server still serves.
    #[track_caller]
    fn unharmed(&mut self) {
        let root = pack(&self.server.root());
        self.expect(1, &root, 0);
    }
}

#[test]
fn an_unknown_procedure_is_unavailable() {
    let mut client = Client::new();
    for procedure in [22, 23, u32::MAX] {
        assert_eq!(accept_stat(&client.call(procedure, &[])), 3, "PROC_UNAVAIL");
    }
    client.unharmed();
}

#[test]
fn arguments_cut_short_anywhere_are_garbage() {
    let mut client = Client::new();
    for (procedure, args) in every_procedure(&client.server.root()) {
        for len in (0..args.len()).step_by(4) {
            let reply = client.call(procedure, &args[..len]);
            assert_eq!(accept_stat(&reply), GARBAGE_ARGS, "procedure {procedure} cut at {len}");
        }
    }
    assert_eq!(client.server.export().fs.progress().applied, 1, "garbage was proposed");
    client.unharmed();
}

#[test]
fn bad_handles_get_badhandle_and_foreign_ones_stale() {
    let mut client = Client::new();
    let good = client.server.root().data.to_vec();
    let changed = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 0x40;
        fh(&bytes)
    };
    let bad =
        [fh(&[]), fh(&good[..35]), fh(&[&good[..], &[0]].concat()), fh(&[7; 64]), changed(0), changed(2)];
    // Another export, another file, another generation.
    let stale = [changed(4), changed(19), changed(27), changed(20), changed(35)];
    for (handles, expected) in [(&bad[..], BADHANDLE), (&stale[..], STALE)] {
        for handle in handles {
            for (procedure, args) in every_procedure(handle) {
                let reply = client.expect(procedure, &args, expected);
                let optional = reply[28..].iter().all(|b| *b == 0);
                assert!(optional && reply.len() <= 28 + 16, "procedure {procedure}: attributes of what?");
            }
        }
    }
    for (procedure, args) in every_procedure(&fh(&[1; 65])) {
        assert_eq!(accept_stat(&client.call(procedure, &args)), GARBAGE_ARGS, "procedure {procedure}");
    }
    client.unharmed();
}

#[test]
fn names_that_cannot_be_are_refused_by_every_procedure() {
    let mut client = Client::new();
    let root = client.server.root();
    let file = client.create(b"there");
    let (long, longest, garbage) = (vec![b'n'; 256], vec![b'n'; 4096], vec![b'n'; 4097]);
    let names: [(&[u8], u32); 6] = [
        (&long, NAMETOOLONG),
        (&longest, NAMETOOLONG),
        (b"a/b", ACCES),
        (b"/", ACCES),
        (b"a\0b", ACCES),
        (b"", ACCES),
    ];
    let calls = |name: &[u8]| {
        let n = || at(&root, name);
        let rename = |from, to| (14, pack(&RENAME3args { from, to }));
        vec![
            (3, pack(&n())),
            (8, pack(&CREATE3args { where_: n(), how: createhow3::UNCHECKED(sattr3::default()) })),
            (8, pack(&CREATE3args { where_: n(), how: createhow3::EXCLUSIVE(createverf3::default()) })),
            (9, pack(&MKDIR3args { where_: n(), attributes: sattr3::default() })),
            (10, symlink(&root, name, b"t")),
            (11, pack(&MKNOD3args { where_: n(), what: mknoddata3::NF3FIFO(sattr3::default()) })),
            (12, pack(&n())),
            (13, pack(&n())),
            rename(n(), at(&root, b"other")),
            rename(at(&root, b"there"), n()),
            (15, pack(&LINK3args { file: file.clone(), link: n() })),
        ]
    };
    for (name, expected) in names {
        for (procedure, args) in calls(name) {
            client.expect(procedure, &args, expected);
        }
    }
    for (procedure, args) in calls(&garbage) {
        assert_eq!(accept_stat(&client.call(procedure, &args)), GARBAGE_ARGS, "procedure {procedure}");
    }
    let of_255_bytes = vec![0xff; 255];
    client.create(&of_255_bytes);
    client.expect(3, &pack(&at(&root, &of_255_bytes)), 0);
    client.unharmed();
}

#[test]
fn dots_are_never_made_or_removed() {
    let mut client = Client::new();
    let root = client.server.root();
    for dot in [&b"."[..], b".."] {
        let attributes = sattr3::default();
        client.expect(9, &pack(&MKDIR3args { where_: at(&root, dot), attributes }), EXIST);
        for procedure in [12, 13] {
            let reply = client.call(procedure, &pack(&at(&root, dot)));
            assert_ne!(status(&reply), 0, "procedure {procedure}");
        }
        let reply = client.call(14, &pack(&RENAME3args { from: at(&root, dot), to: at(&root, b"x") }));
        assert_ne!(status(&reply), 0);
    }
    client.unharmed();
}

#[test]
fn offsets_near_2_to_the_64_fail_and_harm_nothing() {
    let mut client = Client::new();
    let file = client.create(b"f");
    client.expect(7, &pack(&write(&file, 0, b"data")), 0);
    let max = replica::fs::FILE_SIZE_MAX;
    for offset in [u64::MAX, u64::MAX - 3, u64::MAX - 4, 1 << 63, (1 << 63) - 1, max, max - 3] {
        client.expect(7, &pack(&write(&file, offset, b"data")), FBIG);
        let read = client.expect(6, &pack(&READ3args { file: file.clone(), offset, count: u32::MAX }), 0);
        assert_eq!(read[read.len() - 12..], [0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0], "no data, and the end");
        client.expect(21, &pack(&COMMIT3args { file: file.clone(), offset, count: u32::MAX }), 0);
    }
    for size in [u64::MAX, 1 << 63, max + 1] {
        let new_attributes = sattr3 { size: Nfs3Option::Some(size), ..sattr3::default() };
        let object = file.clone();
        client.expect(2, &pack(&SETATTR3args { object, new_attributes, guard: Nfs3Option::None }), FBIG);
    }
    let attr = client.expect(1, &pack(&file), 0);
    assert_eq!(attr[28 + 20..28 + 28], 4u64.to_be_bytes(), "the size changed");
    client.expect(7, &pack(&write(&file, max - 4, b"data")), 0);
    client.unharmed();
}

#[test]
fn attributes_that_cannot_be_are_invalid_or_garbage() {
    let mut client = Client::new();
    let file = client.create(b"f");
    let late = nfstime3 { seconds: 1, nseconds: 1_000_000_000 };
    let set = |new_attributes, guard| pack(&SETATTR3args { object: file.clone(), new_attributes, guard });
    let bad_time = sattr3 { atime: set_atime::SET_TO_CLIENT_TIME(late), ..sattr3::default() };
    let reply = client.expect(2, &set(bad_time.clone(), Nfs3Option::None), INVAL);
    assert_eq!(reply.len(), 28 + 4 + 24 + 4 + 84, "the attributes are known");
    client.expect(2, &set(sattr3::default(), Nfs3Option::Some(late)), INVAL);
    let (root, n) = (client.server.root(), at(&client.server.root(), b"n"));
    client.expect(9, &pack(&MKDIR3args { where_: n, attributes: bad_time }), INVAL);

    // A boolean of 2, time_how of 3; createmode3 and ftype3 beyond their values.
    let mut bad_bool = set(sattr3::default(), Nfs3Option::None);
    bad_bool[40 + 3] = 2;
    assert_eq!(accept_stat(&client.call(2, &bad_bool)), GARBAGE_ARGS);
    let mut bad_how = set(sattr3::default(), Nfs3Option::None);
    bad_how[40 + 16 + 3] = 3;
    assert_eq!(accept_stat(&client.call(2, &bad_how)), GARBAGE_ARGS);
    let of_type = |value: u32| [pack(&at(&root, b"n")), value.to_be_bytes().to_vec()].concat();
    assert_eq!(accept_stat(&client.call(8, &of_type(3))), GARBAGE_ARGS);
    assert_eq!(accept_stat(&client.call(11, &of_type(9))), GARBAGE_ARGS);
    client.expect(11, &of_type(1), BADTYPE);
    client.expect(3, &pack(&at(&root, b"n")), NOENT);
    client.unharmed();
}

#[test]
fn a_count_that_is_not_the_data_is_garbage() {
    let mut client = Client::new();
    let file = client.create(b"f");
    for count in [0, 3, 5, u32::MAX] {
        let args = WRITE3args { count, ..write(&file, 0, b"data") };
        assert_eq!(accept_stat(&client.call(7, &pack(&args))), GARBAGE_ARGS);
    }
    let mut stable = pack(&write(&file, 0, b"data"));
    stable[40 + 8 + 4 + 3] = 3;
    assert_eq!(accept_stat(&client.call(7, &stable)), GARBAGE_ARGS, "stable_how 3");
    client.expect(7, &pack(&write(&file, 0, b"")), 0);
    client.unharmed();
}

#[test]
fn a_write_past_wtmax_is_written_as_far_as_that() {
    let mut client = Client::new();
    let file = client.create(b"f");
    let data = vec![1; (1 << 20) + 100];
    let reply = client.expect(7, &pack(&write(&file, 0, &data)), 0);
    assert_eq!(reply[28 + 116..28 + 120], (1u32 << 20).to_be_bytes());
    client.unharmed();
}

#[test]
fn symbolic_links_have_a_target_within_bounds() {
    let mut client = Client::new();
    let root = client.server.root();
    client.expect(10, &symlink(&root, b"s", b""), NOENT);
    client.expect(10, &symlink(&root, b"s", b"a\0b"), INVAL);
    client.expect(10, &symlink(&root, b"s", &[b't'; 4097]), NAMETOOLONG);
    assert_eq!(accept_stat(&client.call(10, &symlink(&root, b"s", &[b't'; 8193]))), GARBAGE_ARGS);
    client.expect(10, &symlink(&root, b"s", &[b't'; 4096]), 0);
    client.unharmed();
}

#[test]
fn procedures_refuse_objects_of_the_wrong_type() {
    let mut client = Client::new();
    let (root, file) = (client.server.root(), client.create(b"f"));
    let cookieverf = cookieverf3::default();
    client.expect(3, &pack(&at(&file, b"x")), NOTDIR);
    client.expect(16, &pack(&READDIR3args { dir: file.clone(), cookie: 0, cookieverf, count: 4096 }), NOTDIR);
    client.expect(5, &pack(&file), INVAL);
    client.expect(6, &pack(&READ3args { file: root.clone(), offset: 0, count: 1 }), ISDIR);
    client.expect(7, &pack(&write(&root, 0, b"x")), ISDIR);
    client.expect(21, &pack(&COMMIT3args { file: root.clone(), offset: 0, count: 0 }), INVAL);
    client.expect(13, &pack(&at(&root, b"f")), NOTDIR);
    client.unharmed();
}

#[test]
fn listings_check_their_room_and_their_verifier() {
    let mut client = Client::new();
    let root = client.server.root();
    let readdir = |cookie, verf: u8, count| {
        let cookieverf = cookieverf3([verf; 8]);
        pack(&READDIR3args { dir: root.clone(), cookie, cookieverf, count })
    };
    let plus = |dircount, maxcount| {
        let cookieverf = cookieverf3::default();
        pack(&READDIRPLUS3args { dir: root.clone(), cookie: 0, cookieverf, dircount, maxcount })
    };
    for count in [0, 103, 104, 131] {
        client.expect(16, &readdir(0, 0, count), TOOSMALL);
    }
    let reply = client.expect(16, &readdir(0, 0, 132), 0);
    assert_eq!(reply.len(), 28 + 132, "one entry, exactly");
    client.expect(17, &plus(0, 200), TOOSMALL);
    client.expect(17, &plus(0, 4096), 0);
    client.expect(16, &readdir(1, 9, 4096), BAD_COOKIE);
    client.expect(16, &readdir(0, 9, 4096), 0);
    for cookie in [2, 1 << 62, i64::MAX as u64, u64::MAX] {
        let reply = client.expect(16, &readdir(cookie, 0, 4096), 0);
        assert_eq!(reply[reply.len() - 8..], [0, 0, 0, 0, 0, 0, 0, 1], "no entries, and the end");
    }
    client.unharmed();
}

#[test]
fn nothing_moves_from_one_export_to_another() {
    let mut client = Client::of(TestServer::with(&[OPEN, OPEN]));
    let file = client.create(b"f");
    let (root, other) = (client.server.root(), client.server.exports[1].root());
    client.expect(14, &pack(&RENAME3args { from: at(&root, b"f"), to: at(&other, b"f") }), XDEV);
    client.expect(15, &pack(&LINK3args { file, link: at(&other, b"f") }), XDEV);
    client.expect(3, &pack(&at(&root, b"f")), 0);
    client.unharmed();
}

/// Numbers from a seed (xorshift64*).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}

#[test]
fn random_and_randomly_damaged_arguments_never_stop_the_server() {
    const SEED: u64 = 0x0001_f00d_cafe_0042;
    println!("seed {SEED:#x}");
    let mut random = Random(SEED);
    let mut client = Client::new();
    client.create(b"n");
    for round in 0..150 {
        for (procedure, mut args) in every_procedure(&client.server.root()) {
            if round % 3 == 0 {
                args = (0..random.below(300)).map(|_| random.next() as u8).collect();
            } else {
                for _ in 0..=random.below(3) {
                    // Past the handle, whose damage other tests look at.
                    let at = 40 + random.below(args.len().saturating_sub(40).max(1));
                    if let Some(byte) = args.get_mut(at) {
                        *byte = random.next() as u8;
                    }
                }
            }
            let reply = client.call(procedure, &args);
            let stat = accept_stat(&reply);
            assert!(matches!(stat, SUCCESS | GARBAGE_ARGS), "round {round}, procedure {procedure}: {stat}");
            assert!(reply.len() < 70_000, "round {round}, procedure {procedure}: {} bytes", reply.len());
        }
    }
    client.unharmed();
}
