//! Goal: every form of arguments decodes to what the client meant, and what is cut off or out of its type's
//! range is garbage, at every byte. Method: records made by an independent encoder (`nfs3_types`), decoded
//! here, then decoded again cut short at each length.

use nfs3_types::nfs3::*;
use nfs3_types::xdr_codec::{Opaque, Pack};

use super::*;

fn pack(value: &impl Pack) -> Bytes {
    let mut out = Vec::new();
    value.pack(&mut out).unwrap();
    Bytes::from(out)
}

fn fh3(bytes: &[u8]) -> nfs_fh3 {
    nfs_fh3 { data: Opaque::owned(bytes.to_vec()) }
}

fn dirop(name: &[u8]) -> diropargs3<'static> {
    diropargs3 { dir: fh3(b"dir"), name: name.to_vec().into() }
}

/// Decodes, and checks that each shorter record does not.
fn whole<T: std::fmt::Debug>(record: Bytes, decode: impl Fn(&mut Decoder<'_>) -> Result<T>) -> T {
    for len in 0..record.len() {
        let cut = record.slice(..len);
        assert!(decode(&mut Decoder::new(&cut)).is_err(), "cut at {len} of {} bytes", record.len());
    }
    let mut d = Decoder::new(&record);
    let value = decode(&mut d).unwrap();
    assert_eq!(d.remaining(), 0, "bytes left over");
    value
}

fn all_set() -> sattr3 {
    sattr3 {
        mode: Nfs3Option::Some(0o100_7644),
        uid: Nfs3Option::Some(1000),
        gid: Nfs3Option::Some(100),
        size: Nfs3Option::Some(u64::MAX),
        atime: set_atime::SET_TO_SERVER_TIME,
        mtime: set_mtime::SET_TO_CLIENT_TIME(nfstime3 { seconds: u32::MAX, nseconds: 999_999_999 }),
    }
}

fn all_set_decoded() -> Sattr {
    Sattr {
        mode: Some(0o7644),
        uid: Some(1000),
        gid: Some(100),
        size: Some(u64::MAX),
        atime: Some(SetTime { ns: None }),
        mtime: Some(SetTime { ns: Some(4_294_967_295_999_999_999) }),
    }
}

#[test]
fn setattr_has_every_field_and_the_guard() {
    let guard = Nfs3Option::Some(nfstime3 { seconds: 5, nseconds: 7 });
    let record = pack(&SETATTR3args { object: fh3(b"file"), new_attributes: all_set(), guard });
    let args = whole(record, SetAttrArgs::decode);
    assert_eq!(&args.object[..], b"file");
    assert_eq!(args.attr, Ok(all_set_decoded()));
    assert_eq!(args.guard, Ok(Some(5_000_000_007)));

    let nothing =
        SETATTR3args { object: fh3(b""), new_attributes: sattr3::default(), guard: Nfs3Option::None };
    let args = whole(pack(&nothing), SetAttrArgs::decode);
    assert_eq!((args.attr, args.guard), (Ok(Sattr::default()), Ok(None)));
}

#[test]
fn a_second_of_nanoseconds_is_invalid_and_not_garbage() {
    let late = nfstime3 { seconds: 1, nseconds: 1_000_000_000 };
    let new_attributes = sattr3 { mtime: set_mtime::SET_TO_CLIENT_TIME(late), ..all_set() };
    let guard = Nfs3Option::Some(late);
    let args = whole(pack(&SETATTR3args { object: fh3(b"f"), new_attributes, guard }), SetAttrArgs::decode);
    assert_eq!(args.attr, Err(Status::Inval));
    assert_eq!(args.guard, Err(Status::Inval));
}

#[test]
fn write_keeps_its_data_as_a_slice_and_its_count_honest() {
    let data = vec![7; 5000];
    let args = |count| WRITE3args {
        file: fh3(b"f"),
        offset: u64::MAX,
        count,
        stable: stable_how::UNSTABLE,
        data: Opaque::borrowed(&data),
    };
    let record = pack(&args(5000));
    let range = record.as_ptr_range();
    let got = whole(record.clone(), WriteArgs::decode);
    assert_eq!((got.offset, &got.data[..]), (u64::MAX, &data[..]));
    assert!(range.contains(&got.data.as_ptr()), "the data was copied");
    for count in [0, 4999, 5001, u32::MAX] {
        let record = pack(&args(count));
        assert_eq!(WriteArgs::decode(&mut Decoder::new(&record)), Err(XdrError::BadValue(count)));
    }
    let mut bad = record.to_vec();
    bad[8 + 8 + 4 + 3] = 3;
    let bad = Bytes::from(bad);
    assert_eq!(WriteArgs::decode(&mut Decoder::new(&bad)), Err(XdrError::BadValue(3)), "stable_how 3");
}

#[test]
fn create_knows_its_three_ways() {
    let unchecked = CREATE3args { where_: dirop(b"a"), how: createhow3::UNCHECKED(all_set()) };
    let args = whole(pack(&unchecked), CreateArgs::decode);
    assert_eq!((args.how, args.attr, args.verifier), (How::Unchecked, Ok(all_set_decoded()), 0));
    let guarded = CREATE3args { where_: dirop(b"a"), how: createhow3::GUARDED(sattr3::default()) };
    assert_eq!(whole(pack(&guarded), CreateArgs::decode).how, How::Guarded);
    let verf = createverf3([1, 2, 3, 4, 5, 6, 7, 8]);
    let exclusive = CREATE3args { where_: dirop(b"a"), how: createhow3::EXCLUSIVE(verf) };
    let args = whole(pack(&exclusive), CreateArgs::decode);
    assert_eq!((args.how, args.verifier), (How::Exclusive, 0x0102_0304_0506_0708));
}

#[test]
fn mknod_knows_its_types_and_refuses_the_others() {
    let device = || devicedata3 { dev_attributes: all_set(), spec: specdata3 { specdata1: 8, specdata2: 1 } };
    let decode = |what| whole(pack(&MKNOD3args { where_: dirop(b"n"), what }), MknodArgs::decode);
    let chr = decode(mknoddata3::NF3CHR(device()));
    assert_eq!((chr.file_type, chr.major, chr.minor), (ftype::CHR, 8, 1));
    assert_eq!(decode(mknoddata3::NF3BLK(device())).file_type, ftype::BLK);
    assert_eq!(decode(mknoddata3::NF3SOCK(all_set())).file_type, ftype::SOCK);
    assert_eq!(decode(mknoddata3::NF3FIFO(all_set())).attr, Ok(all_set_decoded()));

    let typed = |value: u32| {
        let mut record = pack(&dirop(b"n")).to_vec();
        record.extend_from_slice(&value.to_be_bytes());
        MknodArgs::decode(&mut Decoder::new(&Bytes::from(record)))
    };
    for made_otherwise in [ftype::REG, ftype::DIR, ftype::LNK] {
        assert_eq!(typed(made_otherwise).unwrap().attr, Err(Status::BadType));
    }
    assert_eq!(typed(0), Err(XdrError::BadValue(0)));
    assert_eq!(typed(8), Err(XdrError::BadValue(8)));
}

#[test]
fn the_rest_decodes_whole_and_never_cut() {
    let at = whole(pack(&dirop(b"x")), DirOp::decode);
    assert_eq!((&at.dir[..], &at.name[..]), (&b"dir"[..], &b"x"[..]));
    let mkdir = MKDIR3args { where_: dirop(b"d"), attributes: all_set() };
    assert_eq!(whole(pack(&mkdir), MkdirArgs::decode).attr, Ok(all_set_decoded()));
    let symlink_data = b"../target".to_vec().into();
    let symlink = SYMLINK3args {
        where_: dirop(b"s"),
        symlink: symlinkdata3 { symlink_attributes: all_set(), symlink_data },
    };
    assert_eq!(&whole(pack(&symlink), SymlinkArgs::decode).target[..], b"../target");
    let rename = whole(pack(&RENAME3args { from: dirop(b"a"), to: dirop(b"b") }), RenameArgs::decode);
    assert_eq!((&rename.from.name[..], &rename.to.name[..]), (&b"a"[..], &b"b"[..]));
    let link = whole(pack(&LINK3args { file: fh3(b"f"), link: dirop(b"l") }), LinkArgs::decode);
    assert_eq!((&link.file[..], &link.link.name[..]), (&b"f"[..], &b"l"[..]));
    let read = whole(pack(&READ3args { file: fh3(b"f"), offset: 9, count: 8 }), RangeArgs::decode);
    assert_eq!((read.offset, read.count), (9, 8));
    let cookieverf = cookieverf3([0, 0, 0, 0, 0, 0, 0, 1]);
    let readdir = READDIR3args { dir: fh3(b"d"), cookie: 4, cookieverf, count: 512 };
    let args = whole(pack(&readdir), |d| ReaddirArgs::decode(d, false));
    assert_eq!((args.cookie, args.cookieverf, args.dircount, args.maxcount), (4, 1, None, 512));
    let plus = READDIRPLUS3args { dir: fh3(b"d"), cookie: 4, cookieverf, dircount: 64, maxcount: 512 };
    let args = whole(pack(&plus), |d| ReaddirArgs::decode(d, true));
    assert_eq!((args.dircount, args.maxcount), (Some(64), 512));
}

#[test]
fn what_is_far_too_long_is_garbage() {
    let handle = pack(&fh3(&[1; FH_MAX + 1]));
    assert!(fh(&mut Decoder::new(&handle)).is_err());
    let name = pack(&dirop(&[b'n'; NAME_WIRE_MAX]));
    assert_eq!(DirOp::decode(&mut Decoder::new(&name)).unwrap().name.len(), NAME_WIRE_MAX);
    let name = pack(&dirop(&[b'n'; NAME_WIRE_MAX + 1]));
    assert!(DirOp::decode(&mut Decoder::new(&name)).is_err());
}
