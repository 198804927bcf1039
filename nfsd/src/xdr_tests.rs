//! Goal: nothing that comes from the wire reads past its record, allocates by a length it claims, or is
//! copied where the design says it is not. Method: hand-made records, each bound crossed by one.

use super::*;

fn record(bytes: &[u8]) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

#[test]
fn values_come_back_as_they_were_written() {
    let mut e = Encoder::new();
    e.u32(7).u64(1 << 40).bool(true).opaque(b"abcde").fixed(&[1, 2, 3, 4, 5, 6]).opaque(b"");
    let bytes = record(e.as_slice());
    let mut d = Decoder::new(&bytes);
    assert_eq!(d.u32(), Ok(7));
    assert_eq!(d.u64(), Ok(1 << 40));
    assert_eq!(d.bool(), Ok(true));
    assert_eq!(d.opaque(5).as_deref(), Ok(&b"abcde"[..]));
    assert_eq!(d.fixed(), Ok([1, 2, 3, 4, 5, 6]));
    assert_eq!(d.string(0).as_deref(), Ok(&b""[..]));
    assert_eq!(d.remaining(), 0);
}

#[test]
fn a_claimed_length_past_its_bound_or_the_record_is_an_error() {
    let bytes = record(&[0xff, 0xff, 0xff, 0xff, 1, 2]);
    assert_eq!(Decoder::new(&bytes).opaque(8), Err(XdrError::TooLong { len: u32::MAX, max: 8 }));
    assert_eq!(Decoder::new(&bytes).opaque(usize::MAX), Err(XdrError::Truncated));
    let short = record(&[0, 0, 0, 5, 1, 2, 3, 4, 5]);
    assert_eq!(Decoder::new(&short).opaque(8), Err(XdrError::Truncated), "padding is part of the value");
    assert_eq!(Decoder::new(&short).string(4), Err(XdrError::TooLong { len: 5, max: 4 }));
    assert_eq!(Decoder::new(&record(&[0, 0])).u32(), Err(XdrError::Truncated));
    assert_eq!(Decoder::new(&record(&[0, 0, 0, 2])).bool(), Err(XdrError::BadValue(2)));
}

#[test]
fn bulk_data_is_a_slice_of_the_record_and_small_data_is_not() {
    let mut e = Encoder::new();
    e.opaque(&[9; COPY_BELOW]).opaque(&[8; 16]);
    let bytes = record(e.as_slice());
    let within = |part: &Bytes| bytes.as_ptr_range().contains(&part.as_ptr());
    let mut d = Decoder::new(&bytes);
    assert!(within(&d.payload(1 << 20).unwrap()), "bulk data was copied");
    assert!(!within(&d.payload(1 << 20).unwrap()), "16 bytes keep the whole buffer alive");
}

#[test]
fn truncate_takes_back_results_and_never_the_headroom() {
    let mut e = Encoder::new();
    e.u32(1).u32(2);
    e.truncate(4);
    assert_eq!(e.as_slice(), [0, 0, 0, 1]);
    e.truncate(0);
    assert!(e.is_empty());
    assert_eq!(e.into_inner().len(), HEADROOM);
}
