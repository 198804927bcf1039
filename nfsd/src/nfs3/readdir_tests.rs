//! Goal: a listing never exceeds the client's buffer by a byte, and uses what there is. Method: for each size
//! of buffer, list the same entries, decode the results with an independent decoder (`nfs3_types`), and check
//! that the next entry would not have fitted.

use bytes::Bytes;
use nfs3_types::nfs3::{READDIR3res, READDIRPLUS3res};
use nfs3_types::xdr_codec::Unpack;

use super::*;
use crate::nfs3::limits::DIR_BYTES_MAX;

const EXPORT: ExportId = ExportId([5; 16]);

/// Names of one to twelve bytes, so that each kind of padding occurs.
fn entries() -> Vec<DirEntry> {
    (1..=12)
        .map(|i| DirEntry {
            cookie: i,
            name: Bytes::from(vec![b'a'; i as usize]),
            attr: Attr { file_id: 100 + i, file_type: 1, generation: i, ..Attr::default() },
            searchable: true,
        })
        .collect()
}

fn args(dircount: Option<u32>, maxcount: u32) -> ReaddirArgs {
    ReaddirArgs { dir: Bytes::new(), cookie: 0, cookieverf: 0, dircount, maxcount }
}

/// Lists; the results' bytes and how many entries were taken.
fn list(dircount: Option<u32>, maxcount: u32) -> Option<Result<(Vec<u8>, usize), Failed>> {
    let mut listing = Listing::new(EXPORT, &args(dircount, maxcount), DIR_BYTES_MAX)?;
    let all = entries();
    let taken = all.iter().take_while(|e| listing.take(e)).count();
    Some(listing.finish(Attr::default(), taken == all.len()).map(|body| {
        assert_eq!(body.payload().len() % 4, 0);
        ([body.results(), body.payload()].concat(), taken)
    }))
}

/// Bytes of READDIR3resok or READDIRPLUS3resok with the first `n` entries.
fn resok(n: usize, plus: bool) -> usize {
    let each = entries().into_iter().take(n);
    EMPTY_LISTING
        + each.map(|e| ENTRY + e.name.len().div_ceil(4) * 4 + if plus { PLUS } else { 0 }).sum::<usize>()
}

#[test]
fn readdir_fills_every_buffer_and_no_more() {
    for maxcount in 0..resok(12, false) + 50 {
        let outcome = list(None, maxcount as u32);
        if maxcount < resok(1, false) {
            let small = outcome.is_none_or(|o| o.is_err_and(|f| f.status == Status::TooSmall));
            assert!(small, "{maxcount} bytes");
            continue;
        }
        let (bytes, taken) = outcome.unwrap().unwrap();
        assert_eq!(bytes.len(), 4 + resok(taken, false), "{maxcount} bytes");
        assert!(bytes.len() - 4 <= maxcount, "{maxcount} bytes");
        assert!(taken == 12 || resok(taken + 1, false) > maxcount, "{maxcount} bytes: room for one more");
        let (got, read) = READDIR3res::unpack(&mut &bytes[..]).unwrap();
        let got = got.unwrap();
        assert_eq!((read, got.reply.eof), (bytes.len(), taken == 12));
        let names: Vec<_> = got.reply.entries.0.iter().map(|e| (e.fileid, e.cookie, e.name.len())).collect();
        let expected: Vec<_> = (1..=taken as u64).map(|i| (100 + i, i, i as usize)).collect();
        assert_eq!(names, expected);
    }
}

#[test]
fn readdirplus_counts_attributes_and_handles() {
    for maxcount in (resok(1, true)..resok(12, true) + 50).step_by(4) {
        let (bytes, taken) = list(Some(u32::MAX), maxcount as u32).unwrap().unwrap();
        assert_eq!(bytes.len(), 4 + resok(taken, true), "{maxcount} bytes");
        assert!(bytes.len() - 4 <= maxcount, "{maxcount} bytes");
        assert!(taken == 12 || resok(taken + 1, true) > maxcount, "{maxcount} bytes: room for one more");
        let (got, _) = READDIRPLUS3res::unpack(&mut &bytes[..]).unwrap();
        for (i, e) in got.unwrap().reply.entries.0.into_iter().enumerate() {
            assert_eq!(e.name_attributes.unwrap().fileid, 101 + i as u64);
            let (export, handle) = handle::decode(e.name_handle.unwrap().data.as_ref()).unwrap();
            assert_eq!((export, handle.file.0, handle.generation), (EXPORT, 101 + i as u64, 1 + i as u64));
        }
    }
    assert!(list(Some(u32::MAX), resok(1, true) as u32 - 1).unwrap().is_err());
}

#[test]
fn names_only_where_the_caller_may_not_search() {
    let mut listing = Listing::new(EXPORT, &args(Some(u32::MAX), 4096), DIR_BYTES_MAX).unwrap();
    let hidden = DirEntry { searchable: false, ..entries().remove(2) };
    assert!(listing.take(&hidden) && listing.take(&entries()[3]));
    let body = listing.finish(Attr::default(), true).unwrap();
    let bytes = [body.results(), body.payload()].concat();
    let (got, _) = READDIRPLUS3res::unpack(&mut &bytes[..]).unwrap();
    let got = got.unwrap().reply.entries.0;
    assert_eq!((got[0].fileid, got[0].name.len()), (103, 3));
    assert!(matches!(got[0].name_attributes, nfs3_types::nfs3::Nfs3Option::None));
    assert!(matches!(got[0].name_handle, nfs3_types::nfs3::Nfs3Option::None));
    assert!(matches!(got[1].name_handle, nfs3_types::nfs3::Nfs3Option::Some(_)));
}

#[test]
fn dircount_bounds_names_but_never_keeps_the_first_one_out() {
    let taken = |dircount| list(Some(dircount), 65_536).unwrap().unwrap().1;
    // Each of the first four takes 28 bytes without attributes and handle.
    assert_eq!([0, 28, 55, 56, 83, 84].map(taken), [1, 1, 1, 2, 2, 3]);
    assert_eq!(taken(u32::MAX), 12);
}

#[test]
fn a_huge_buffer_gets_a_bounded_listing() {
    let mut listing = Listing::new(EXPORT, &args(None, u32::MAX), DIR_BYTES_MAX).unwrap();
    let all = entries();
    while listing.take(&all[11]) {}
    let body = listing.finish(Attr::default(), false).unwrap();
    let len = body.results().len() + body.payload().len();
    assert!(len <= 4 + DIR_BYTES_MAX as usize && len > 4 + DIR_BYTES_MAX as usize - 64, "{len} bytes");
}

#[test]
fn an_empty_rest_of_a_directory_is_not_too_small() {
    let listing = Listing::new(EXPORT, &args(None, EMPTY_LISTING as u32), DIR_BYTES_MAX).unwrap();
    let body = listing.finish(Attr::default(), true).unwrap();
    let bytes = [body.results(), body.payload()].concat();
    let (got, _) = READDIR3res::unpack(&mut &bytes[..]).unwrap();
    let got = got.unwrap();
    assert!(got.reply.entries.is_empty() && got.reply.eof);
}
