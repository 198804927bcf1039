//! Inputs to start from: one good call of each procedure, good records and headers. What runners find is kept beside
//! them, in `corpus/`.

use bytes::Bytes;
use nfs3_types::nfs3::*;
use nfs3_types::xdr_codec::{Opaque, Pack};

use super::nfs::{TWICE, UDP};
use super::world::{HIDDEN, PATH, SHOWN, object, record as call};

fn pack(value: &impl Pack) -> Vec<u8> {
    let mut out = Vec::new();
    value.pack(&mut out).expect("a vector takes anything");
    out
}

fn fh(number: u64) -> nfs_fh3 {
    nfs_fh3 { data: Opaque::owned(object(SHOWN, number).to_vec()) }
}

fn at(dir: u64, name: &[u8]) -> diropargs3<'static> {
    diropargs3 { dir: fh(dir), name: name.to_vec().into() }
}

/// A record mark and its fragment.
fn fragment(last: bool, data: &[u8]) -> Vec<u8> {
    let mark = u32::from(last) << 31 | data.len() as u32;
    [&mark.to_be_bytes()[..], data].concat()
}

/// Streams: whole records, many, in fragments, large, too large, without end.
pub fn record() -> Vec<Vec<u8>> {
    let input = |sizes: &[u8], stream: &[u8]| [&[sizes.len() as u8][..], sizes, stream].concat();
    let small = fragment(true, b"record");
    let large = |len: u32| [&(1 << 31 | len).to_be_bytes()[..], &[0xaa, 255].repeat(3)].concat();
    vec![
        input(&[], &small),
        input(&[1], &small.repeat(3)),
        input(
            &[3, 0, 255],
            &[fragment(false, b"in "), fragment(false, b""), fragment(true, b"parts")].concat(),
        ),
        input(&[], &fragment(false, b"").repeat(9)),
        input(&[255, 200], &large(3 * 255 * 64)),
        input(&[255], &[large(3 * 255 * 64), small.clone(), large(2 * 255 * 64)].concat()),
        input(&[0, 255], &large(1 << 30)),
        input(&[], b"GET / HTTP/1.1"),
        // As long as the limit (640 runs of 64 bytes), and one byte longer.
        input(&[], &[&(1u32 << 31 | 40_960).to_be_bytes()[..], &[0xaa, 255, 0xaa, 255, 0xaa, 130]].concat()),
        input(&[], &[&(1u32 << 31 | 40_961).to_be_bytes()[..], &[0xaa, 255, 0xaa, 255, 0xaa, 131]].concat()),
    ]
}

/// Headers with each flavour, and a reply.
pub fn header() -> Vec<Vec<u8>> {
    let null = (PROGRAM, VERSION, 0);
    let mut sys = call(1, null, Some(1000), b"arguments 12").to_vec();
    let plain = sys.clone();
    // A machine name and two groups.
    let groups = [
        0, 0, 0, 9, 0, 0, 0, 4, b'h', b'o', b's', b't', 0, 0, 3, 232, 0, 0, 3, 232, 0, 0, 0, 2, 0, 0, 0, 5,
        0, 0, 0, 6,
    ];
    sys.splice(28..48, groups);
    sys[27] = groups.len() as u8;
    let mut version = plain.clone();
    version[11] = 3;
    let mut gss = plain.clone();
    gss[27 - 4 + 3 - 3] = 6;
    vec![
        plain,
        sys,
        version,
        gss,
        call(2, null, None, b"").to_vec(),
        call(3, (100_003, 4, 0), None, b"").to_vec(),
        call(4, (100_227, 3, 0), None, b"").to_vec(),
        [0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0].to_vec(),
    ]
}

/// Each primitive, with a record that fits it.
pub fn xdr() -> Vec<Vec<u8>> {
    let record = [
        &7u32.to_be_bytes()[..],
        &8u64.to_be_bytes(),
        &1u32.to_be_bytes(),
        &5u32.to_be_bytes(),
        b"bytes\0\0\0",
    ]
    .concat();
    let all = [&[4, 0, 0, 1, 0, 2, 0, 4, 4][..], &record].concat();
    let mut inputs = vec![all];
    for which in 0..8 {
        inputs.push([&[1, which, 2][..], &5u32.to_be_bytes(), b"bytes\0\0\0 more"].concat());
    }
    inputs
}

/// One call of the `nfs` target.
fn one(procedure: u8, how: u8, args: &[u8]) -> Vec<u8> {
    [&[procedure, how][..], &(args.len() as u16).to_be_bytes(), args].concat()
}

/// Each procedure, each form of its arguments.
pub fn nfs() -> Vec<Vec<u8>> {
    let mut inputs: Vec<_> = calls().iter().map(|(procedure, args)| one(*procedure, TWICE, args)).collect();
    // By another caller, over UDP; about what is not shown; and what follows from each other.
    inputs.push(one(1, UDP | 2, &pack(&fh(0))));
    inputs.push(one(12, 1, &pack(&at(0, b"file"))));
    inputs.push(one(1, 0, &pack(&nfs_fh3 { data: Opaque::owned(object(HIDDEN, 2).to_vec()) })));
    let create = pack(&CREATE3args { where_: at(1, b"new"), how: createhow3::GUARDED(sattr3::default()) });
    let rename = pack(&RENAME3args { from: at(1, b"new"), to: at(0, b"file") });
    let list = pack(&READDIR3args { dir: fh(0), cookie: 3, cookieverf: cookieverf3::default(), count: 400 });
    inputs.push(
        [one(8, 0, &create), one(14, TWICE, &rename), one(16, 0, &list), one(12, 0, &pack(&at(0, b"file")))]
            .concat(),
    );
    inputs
}

fn calls() -> Vec<(u8, Vec<u8>)> {
    let (cookieverf, attributes) = (cookieverf3::default(), sattr3::default);
    let time = nfstime3 { seconds: 5, nseconds: 6 };
    let new_attributes = sattr3 {
        mode: Nfs3Option::Some(0o640),
        uid: Nfs3Option::Some(0),
        gid: Nfs3Option::Some(0),
        size: Nfs3Option::Some(3),
        atime: set_atime::SET_TO_CLIENT_TIME(time),
        mtime: set_mtime::SET_TO_SERVER_TIME,
    };
    let data = Opaque::borrowed(b"data");
    let symlink = symlinkdata3 { symlink_attributes: attributes(), symlink_data: b"to".to_vec().into() };
    let device =
        || devicedata3 { dev_attributes: attributes(), spec: specdata3 { specdata1: 1, specdata2: 3 } };
    let mut all = vec![
        (0, vec![]),
        (1, pack(&fh(0))),
        (2, pack(&SETATTR3args { object: fh(2), new_attributes, guard: Nfs3Option::None })),
        (
            2,
            pack(&SETATTR3args {
                object: fh(1),
                new_attributes: attributes(),
                guard: Nfs3Option::Some(time),
            }),
        ),
        (3, pack(&at(0, b"file"))),
        (3, pack(&at(1, b".."))),
        (4, pack(&ACCESS3args { object: fh(6), access: 0x3f })),
        (5, pack(&fh(3))),
        (6, pack(&READ3args { file: fh(2), offset: 2, count: 3 })),
        (7, pack(&WRITE3args { file: fh(2), offset: 9, count: 4, stable: stable_how::FILE_SYNC, data })),
        (8, pack(&CREATE3args { where_: at(0, b"n"), how: createhow3::UNCHECKED(attributes()) })),
        (8, pack(&CREATE3args { where_: at(0, b"file"), how: createhow3::EXCLUSIVE(createverf3([3; 8])) })),
        (9, pack(&MKDIR3args { where_: at(0, b"n"), attributes: attributes() })),
        (10, pack(&SYMLINK3args { where_: at(0, b"n"), symlink })),
        (11, pack(&MKNOD3args { where_: at(0, b"n"), what: mknoddata3::NF3BLK(device()) })),
        (11, pack(&MKNOD3args { where_: at(0, b"n"), what: mknoddata3::NF3SOCK(attributes()) })),
        (12, pack(&at(0, b"file"))),
        (13, pack(&at(0, b"dir"))),
        (14, pack(&RENAME3args { from: at(0, b"file"), to: at(1, b"inner") })),
        (14, pack(&RENAME3args { from: at(0, b"dir"), to: at(1, b"x") })),
        (15, pack(&LINK3args { file: fh(2), link: at(1, b"n") })),
        (16, pack(&READDIR3args { dir: fh(0), cookie: 0, cookieverf, count: 4096 })),
        (17, pack(&READDIRPLUS3args { dir: fh(0), cookie: 2, cookieverf, dircount: 512, maxcount: 4096 })),
    ];
    all.extend([18, 19, 20].map(|procedure| (procedure, pack(&fh(0)))));
    all.push((21, pack(&COMMIT3args { file: fh(2), offset: 0, count: 0 })));
    all
}

/// Each procedure of each program.
pub fn programs() -> Vec<Vec<u8>> {
    let one = |program: u8, version: u8, procedure: u8, args: &[u8]| {
        [&[program, version, procedure, 0][..], &(args.len() as u16).to_be_bytes(), args].concat()
    };
    let path = |path: &[u8]| pack(&Opaque::borrowed(path));
    let mut mapping: Vec<u8> = [100_003u32, 3, 6, 0].iter().flat_map(|word| word.to_be_bytes()).collect();
    let mut inputs = vec![];
    for procedure in 0..6 {
        inputs.push(one(0, 2, procedure, &mapping));
    }
    mapping.truncate(12);
    // rpcb of versions 3 and 4: program, version, netid, address, owner.
    let rpcb = [
        &100_003u32.to_be_bytes()[..],
        &3u32.to_be_bytes(),
        &path(b"tcp"),
        &path(b"127.0.0.1.8.1"),
        &path(b""),
    ]
    .concat();
    for procedure in 0..13 {
        inputs.push(one(0, 4, procedure, &rpcb));
    }
    inputs.push(one(0, 3, 3, &rpcb));
    let mounted = [PATH.as_bytes(), b"/dir"].concat();
    let mount = one(1, 3, 1, &path(&mounted));
    inputs
        .push([mount.clone(), one(1, 3, 2, b""), one(1, 3, 3, &path(&mounted)), one(1, 3, 5, b"")].concat());
    inputs.push([mount, one(1, 3, 4, b"")].concat());
    inputs.push(one(1, 3, 1, &path(b"/srv/shown/../hidden")));
    inputs.push(one(1, 3, 1, &path(b"/srv/hidden")));
    let lock = [&Bytes::from_static(&[0, 0, 0, 4, 1, 2, 3, 4])[..], &path(b"host"), &path(&object(SHOWN, 2))]
        .concat();
    inputs.push(one(2, 4, 1, &lock));
    inputs.push(one(3, 1, 1, &path(b"host")));
    inputs
}
