//! Goal: a client reads the attributes that the state machine holds. Method: encode here, decode with an
//! independent decoder (`nfs3_types`).

use nfs3_types::nfs3 as n;
use nfs3_types::xdr_codec::Unpack;

use super::*;

const EXPORT: ExportId = ExportId([1, 2, 3, 4, 5, 6, 7, 8, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18]);

fn attr() -> Attr {
    Attr {
        file_id: 77,
        generation: 5,
        file_type: ftype::CHR,
        mode: 0o4755,
        nlink: 3,
        uid: 10,
        gid: 20,
        size: 1 << 40,
        used: 8192,
        major: 8,
        minor: 1,
        atime_ns: 1_000_000_002,
        mtime_ns: 2_000_000_003,
        ctime_ns: u64::MAX,
    }
}

#[test]
fn every_attribute_reaches_the_client() {
    let mut e = Encoder::new();
    post_op(&mut e, EXPORT, Some(&attr()));
    assert_eq!(e.len(), POST_OP_ATTR);
    let (got, read) = n::post_op_attr::unpack(&mut e.as_slice()).unwrap();
    assert_eq!(read, e.len());
    let got = got.unwrap();
    assert_eq!((got.type_, got.mode, got.nlink), (n::ftype3::NF3CHR, 0o4755, 3));
    assert_eq!((got.uid, got.gid, got.size, got.used), (10, 20, 1 << 40, 8192));
    assert_eq!(got.rdev, n::specdata3 { specdata1: 8, specdata2: 1 });
    assert_eq!((got.fsid, got.fileid), (0x1010_1010_1010_1010, 77));
    assert_eq!(got.atime, n::nfstime3 { seconds: 1, nseconds: 2 });
    assert_eq!(got.mtime, n::nfstime3 { seconds: 2, nseconds: 3 });
    assert_eq!(got.ctime.seconds, u32::MAX, "a time past 2106 stays at the end of what the protocol can say");
}

#[test]
fn every_file_type_has_its_own_number() {
    use replica::fs::ftype::*;
    for kind in [REG, DIR, BLK, CHR, LNK, SOCK, FIFO] {
        assert_eq!(file_type(kind) as u32, kind);
    }
}

#[test]
fn wcc_data_is_before_and_after_or_nothing() {
    let mut e = Encoder::new();
    wcc(&mut e, EXPORT, Some(&unchanged(attr())));
    let (got, read) = n::wcc_data::unpack(&mut e.as_slice()).unwrap();
    assert_eq!(read, e.len());
    let (before, after) = (got.before.unwrap(), got.after.unwrap());
    assert_eq!((before.size, before.mtime, before.ctime), (after.size, after.mtime, after.ctime));

    let mut e = Encoder::new();
    wcc(&mut e, EXPORT, None);
    assert_eq!(e.as_slice(), [0; 8]);
}
