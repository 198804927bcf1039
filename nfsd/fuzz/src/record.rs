//! Record marking: a stream cut into any pieces is cut into the same records, or refused at the same place.
//!
//! Input: a byte that says how many pieces' sizes follow, the sizes, and the stream. So that short inputs can make long
//! records, a byte 0xAA in the stream and the next byte n are a run of 64 n bytes.

use bytes::Bytes;
use nfsd::rpc::Limits;
use nfsd::rpc::offline::Records;

use super::memory;

/// Small, so that inputs reach them.
const RECORD_BYTES_MAX: usize = 40 << 10;
const FRAGMENTS_MAX: u32 = 8;

/// A reader's buffers: an assembly that doubles as it grows, the buffer it moves from and the one it moves to.
const HELD_MAX: usize = 4 * RECORD_BYTES_MAX + (64 << 10);

/// Longest stream, bytes.
const STREAM_MAX: usize = 256 << 10;

/// What a stream is cut into, and whether an error or the middle of a record ends it.
#[derive(Debug, PartialEq)]
struct Cut {
    records: Vec<Bytes>,
    refused: bool,
    mid_record: bool,
}

/// The target.
pub fn run(input: &[u8]) {
    let Some((count, rest)) = input.split_first() else { return };
    let (sizes, stream) = rest.split_at(usize::from(*count).min(rest.len()));
    let stream = expand(stream);
    let whole = model(&stream);
    assert_eq!(cut(&stream, sizes), whole, "cut into pieces of {sizes:?}");
    assert_eq!(cut(&stream, &[]), whole, "in one piece");
}

fn expand(stream: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut bytes = stream.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            0xaa => out.resize(out.len() + 64 * usize::from(*bytes.next().unwrap_or(&1)), 0xaa),
            byte => out.push(*byte),
        }
        if out.len() > STREAM_MAX {
            break;
        }
    }
    out.truncate(STREAM_MAX);
    out
}

/// The reader, fed with pieces of these sizes, over and over (0: it rests, as a connection that waits).
fn cut(stream: &[u8], sizes: &[u8]) -> Cut {
    let limits =
        Limits { record_bytes_max: RECORD_BYTES_MAX, fragments_max: FRAGMENTS_MAX, ..Limits::default() };
    // What the records themselves hold: the stream, and the chunks that they are slices of.
    let bound = HELD_MAX + 4 * stream.len() + (16 << 10);
    memory::bounded("cut a stream into records", bound, || {
        let mut reader = Records::new(&limits);
        let (mut records, mut at, mut piece) = (Vec::new(), 0, 0);
        loop {
            match reader.next_record() {
                Ok(Some(record)) => records.push(record),
                Err(_) => return Cut { records, refused: true, mid_record: false },
                Ok(None) if at == stream.len() => {
                    return Cut { records, refused: false, mid_record: reader.is_mid_record() };
                }
                Ok(None) => {
                    let size =
                        sizes.get(piece % sizes.len().max(1)).map_or(stream.len(), |size| usize::from(*size));
                    piece += 1;
                    if size == 0 {
                        reader.rest();
                    }
                    let end = stream.len().min(at + size.max(1));
                    let received = reader.receive(&stream[at..end]);
                    assert!(received > 0, "no room to read into: the connection would hang");
                    at += received;
                }
            }
        }
    })
}

/// RFC 5531 section 11, as simply as it can be said.
fn model(mut stream: &[u8]) -> Cut {
    let (mut records, mut record, mut fragments) = (Vec::new(), Vec::new(), 0);
    loop {
        let Some((mark, rest)) = stream.split_first_chunk::<4>() else {
            let mid_record = !stream.is_empty() || fragments > 0;
            return Cut { records, refused: false, mid_record };
        };
        let mark = u32::from_be_bytes(*mark);
        let (last, len) = (mark >> 31 == 1, (mark & 0x7fff_ffff) as usize);
        fragments += 1;
        // A record of one fragment has no fragments to count.
        let too_many = fragments > FRAGMENTS_MAX;
        if too_many || record.len() + len > RECORD_BYTES_MAX {
            return Cut { records, refused: true, mid_record: false };
        }
        let Some((data, rest)) = rest.split_at_checked(len) else {
            return Cut { records, refused: false, mid_record: true };
        };
        stream = rest;
        record.extend_from_slice(data);
        if last {
            records.push(Bytes::from(std::mem::take(&mut record)));
            fragments = 0;
        }
    }
}
