//! Goal: what `apply` returned reaches the client in the RFC's form, failed or not, and twice the same reply
//! is twice the same bytes. Method: encode here, decode with an independent decoder (`nfs3_types`).

use nfs3_types::nfs3::*;
use nfs3_types::xdr_codec::Unpack;
use proto::op::{PreAttr, Wcc};

use super::*;

const EXPORT: ExportId = ExportId([3; 16]);

fn attr(file_id: u64) -> Attr {
    Attr { file_id, generation: 9, file_type: 1, size: 100 + file_id, ..Attr::default() }
}

fn around(file_id: u64) -> Wcc {
    Wcc { before: Some(PreAttr { size: file_id, mtime_ns: 1, ctime_ns: 2 }), after: Some(attr(file_id)) }
}

fn reply(status: Status) -> Reply {
    Reply {
        status: status as u32,
        attr: Some(attr(1)),
        wcc: Some(around(2)),
        to_wcc: Some(around(3)),
        count: 77,
        ..Reply::default()
    }
}

fn decode<T: Unpack>(form: Form, status: Status) -> T {
    let e = encode(form, EXPORT, 0x0102_0304_0506_0708, &reply(status));
    assert_eq!(e.as_slice(), encode(form, EXPORT, 0x0102_0304_0506_0708, &reply(status)).as_slice());
    let (value, read) = T::unpack(&mut e.as_slice()).unwrap();
    assert_eq!(read, e.len(), "bytes left over");
    value
}

#[track_caller]
fn is_around(got: wcc_data, file_id: u64) {
    assert_eq!(got.before.unwrap().size, file_id);
    let after = got.after.unwrap();
    assert_eq!((after.fileid, after.size), (file_id, 100 + file_id));
}

#[test]
fn successes() {
    is_around(decode::<SETATTR3res>(Form::Wcc, Status::Ok).unwrap().obj_wcc, 2);
    is_around(decode::<REMOVE3res>(Form::Wcc, Status::Ok).unwrap().dir_wcc, 2);
    let write = decode::<WRITE3res>(Form::Write, Status::Ok).unwrap();
    is_around(write.file_wcc, 2);
    assert_eq!((write.count, write.committed), (77, stable_how::FILE_SYNC));
    assert_eq!(write.verf.0, [1, 2, 3, 4, 5, 6, 7, 8]);
    let made = decode::<CREATE3res>(Form::Made, Status::Ok).unwrap();
    is_around(made.dir_wcc, 2);
    assert_eq!(made.obj_attributes.unwrap().fileid, 1);
    let (export, handle) = handle::decode(made.obj.unwrap().data.as_ref()).unwrap();
    assert_eq!((export, handle.file.0, handle.generation), (EXPORT, 1, 9));
    let rename = decode::<RENAME3res>(Form::Rename, Status::Ok).unwrap();
    is_around(rename.fromdir_wcc, 2);
    is_around(rename.todir_wcc, 3);
    let link = decode::<LINK3res>(Form::Link, Status::Ok).unwrap();
    assert_eq!(link.file_attributes.unwrap().fileid, 1);
    is_around(link.linkdir_wcc, 2);
}

#[test]
fn failures_keep_the_attributes_they_know() {
    fn failed<T, E>(result: Nfs3Result<T, E>) -> E {
        match result {
            Nfs3Result::Ok(_) => panic!("it failed"),
            Nfs3Result::Err((status, failed)) => {
                assert_eq!(status, nfsstat3::NFS3ERR_ACCES);
                failed
            }
        }
    }
    is_around(failed(decode::<SETATTR3res>(Form::Wcc, Status::Acces)).obj_wcc, 2);
    is_around(failed(decode::<WRITE3res>(Form::Write, Status::Acces)).file_wcc, 2);
    is_around(failed(decode::<MKDIR3res>(Form::Made, Status::Acces)).dir_wcc, 2);
    is_around(failed(decode::<RENAME3res>(Form::Rename, Status::Acces)).todir_wcc, 3);
    let link = failed(decode::<LINK3res>(Form::Link, Status::Acces));
    assert_eq!(link.file_attributes.unwrap().fileid, 1);
    is_around(link.linkdir_wcc, 2);
}

#[test]
fn a_reply_that_knows_nothing_says_so() {
    let nothing = Reply { status: Status::Stale as u32, ..Reply::default() };
    for (form, optional) in
        [(Form::Wcc, 2), (Form::Write, 2), (Form::Made, 2), (Form::Rename, 4), (Form::Link, 3)]
    {
        let e = encode(form, EXPORT, 1, &nothing);
        let mut expected = vec![0, 0, 0, 70];
        expected.resize(4 + 4 * optional, 0);
        assert_eq!(e.as_slice(), expected, "{form:?}");
    }
}

#[test]
fn the_usual_reply_fits_its_first_buffer() {
    for form in [Form::Wcc, Form::Write, Form::Made, Form::Rename, Form::Link] {
        assert!(encode(form, EXPORT, 1, &reply(Status::Ok)).len() <= RESULTS_MAX, "{form:?}");
    }
}
