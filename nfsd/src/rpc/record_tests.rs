//! Goal: records come out as they were put in, however the stream is cut; bounds hold; and no small record
//! keeps a large buffer alive. Method: streams fed in pieces of many sizes, no socket.

use bytes::BufMut;

use super::*;

const MAX: usize = 1 << 20;

fn reader() -> RecordReader {
    RecordReader::new(&Limits { record_bytes_max: MAX, fragments_max: 100, ..Limits::default() })
}

fn fragment(data: &[u8], last: bool) -> Vec<u8> {
    let mark = data.len() as u32 | if last { LAST_FRAGMENT } else { 0 };
    [&mark.to_be_bytes(), data].concat()
}

/// As much of `stream` as one read would take.
fn feed(reader: &mut RecordReader, stream: &mut &[u8], at_most: usize) {
    let space = reader.space();
    let room = space.capacity() - space.len();
    assert!(room > 0, "a read into no room looks like the end of the stream");
    let n = room.min(at_most).min(stream.len());
    space.put_slice(&stream[..n]);
    *stream = &stream[n..];
}

fn all(mut stream: &[u8], read_size: usize) -> Result<Vec<Bytes>, RecordError> {
    let (mut reader, mut records) = (reader(), Vec::new());
    while !stream.is_empty() {
        feed(&mut reader, &mut stream, read_size);
        while let Some(record) = reader.next_record()? {
            records.push(record);
        }
    }
    assert!(!reader.is_mid_record());
    Ok(records)
}

#[test]
fn records_survive_any_cut_of_the_stream() {
    let bodies: Vec<Vec<u8>> = [40, 0, 1, 16_379, 16_380, 16_381, 70_000, 70_000, 100, 100, MAX, 3]
        .iter()
        .enumerate()
        .map(|(i, len)| (0..*len).map(|at| (at * 7 + i) as u8).collect())
        .collect();
    let stream: Vec<u8> = bodies.iter().flat_map(|body| fragment(body, true)).collect();
    for read_size in [1, 3, 4, 5, 1000, 16_384, 65_536, usize::MAX] {
        assert_eq!(all(&stream, read_size).unwrap(), bodies, "reads of {read_size} bytes");
    }
}

#[test]
fn fragments_of_one_byte_and_empty_ones_make_one_record() {
    let body: Vec<u8> = (0..60).collect();
    let mut stream: Vec<u8> = body.iter().flat_map(|b| fragment(&[*b], false)).collect();
    stream.extend(fragment(b"", false));
    stream.extend(fragment(b"", true));
    stream.extend(fragment(b"next", true));
    for read_size in [1, 7, usize::MAX] {
        assert_eq!(all(&stream, read_size).unwrap(), [&body[..], b"next"], "reads of {read_size} bytes");
    }
}

#[test]
fn a_record_past_a_bound_is_an_error_before_it_is_in_memory() {
    let too_long = |bytes| Err(RecordError::TooLong { bytes, max: MAX });
    assert_eq!(all(&(LAST_FRAGMENT | (MAX as u32 + 1)).to_be_bytes(), 4), too_long(MAX + 1));
    assert_eq!(all(&[0xff; 4], 4), too_long(0x7fff_ffff));
    let grows = [fragment(&vec![0; MAX], false), fragment(b"x", true)].concat();
    assert_eq!(all(&grows, usize::MAX), too_long(MAX + 1));
    let bomb: Vec<u8> = (0..101).flat_map(|_| fragment(b"", false)).collect();
    assert_eq!(all(&bomb, usize::MAX), Err(RecordError::TooManyFragments { max: 100 }));
}

#[test]
fn equal_large_records_are_never_copied() {
    let one = fragment(&vec![5; 1 << 19], true);
    let stream = one.repeat(4);
    let (mut reader, mut rest, mut uncopied) = (reader(), &stream[..], 0);
    while !rest.is_empty() {
        feed(&mut reader, &mut rest, 100_000);
        let received_at = reader.buf.as_ptr_range();
        if let Some(record) = reader.next_record().unwrap() {
            uncopied += usize::from(received_at.contains(&record.as_ptr()));
        }
        assert!(reader.allocated <= one.len(), "a buffer larger than its record");
    }
    assert_eq!(uncopied, 4);
}

#[test]
fn a_small_record_keeps_no_large_buffer_alive() {
    let large = fragment(&vec![5; 1 << 19], true);
    let small = fragment(&[6; 100], true);
    let stream = [large.clone(), small.repeat(1000), large, small.repeat(3)].concat();
    let (mut reader, mut rest) = (reader(), &stream[..]);
    while !rest.is_empty() {
        feed(&mut reader, &mut rest, usize::MAX);
        let (received_at, allocated) = (reader.buf.as_ptr_range(), reader.allocated);
        while let Some(record) = reader.next_record().unwrap() {
            let sliced = received_at.contains(&record.as_ptr());
            let pinned = if sliced { allocated } else { record.len() };
            assert!(pinned <= CHUNK_BYTES.max(2 * record.len() + 8), "{} bytes pin {pinned}", record.len());
        }
    }
    reader.rest();
    assert!(reader.allocated <= CHUNK_BYTES, "an idle connection keeps a large buffer");
}
