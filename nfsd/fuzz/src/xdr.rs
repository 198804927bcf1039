//! The decoder's primitives against the simplest decoder there is: the same values, the same errors, the same place.
//!
//! Input: a byte that says how many operations follow, two bytes for each (which, and its bound), and the record.

use bytes::Bytes;
use nfsd::xdr::Decoder;

use super::memory;

/// Values of one decoder, made comparable.
#[derive(Debug, PartialEq)]
enum Value {
    Number(u64),
    Bytes(Vec<u8>),
    Failed,
}

impl Value {
    fn of<T>(result: nfsd::xdr::Result<T>, value: impl FnOnce(T) -> Self) -> Self {
        result.map_or(Self::Failed, value)
    }
}

/// The target.
pub fn run(input: &[u8]) {
    let Some((count, rest)) = input.split_first() else { return };
    let (script, record) = rest.split_at((2 * usize::from(*count)).min(rest.len()));
    let record = Bytes::copy_from_slice(record);
    let (mut decoder, mut model) = (Decoder::new(&record), &record[..]);
    for step in script.chunks_exact(2) {
        let (which, max) = (step[0] % 8, usize::from(step[1]) * 16);
        // A copy of what the record holds, never of what a length claims.
        let ours =
            memory::bounded("decode a value", 2 * record.len() + 256, || decode(&mut decoder, which, max));
        assert_eq!(ours, simple(&mut model, which, max), "operation {which}, bound {max}");
        if ours == Value::Failed {
            // Its caller answers GARBAGE_ARGS and reads nothing more.
            return;
        }
        assert_eq!((decoder.remaining(), &decoder.rest()[..]), (model.len(), model));
    }
}

fn decode(d: &mut Decoder<'_>, which: u8, max: usize) -> Value {
    let bytes = |b: Bytes| Value::Bytes(b.to_vec());
    match which {
        0 => Value::of(d.u32(), |n| Value::Number(n.into())),
        1 => Value::of(d.u64(), Value::Number),
        2 => Value::of(d.bool(), |b| Value::Number(b.into())),
        3 => Value::of(d.length(max), |n| Value::Number(n as u64)),
        4 => Value::of(d.opaque(max), bytes),
        5 => Value::of(d.payload(max), bytes),
        6 => Value::of(d.string(max), bytes),
        _ => Value::of(d.fixed::<13>(), |b| Value::Bytes(b.to_vec())),
    }
}

/// RFC 4506, as simply as it can be said.
fn simple(record: &mut &[u8], which: u8, max: usize) -> Value {
    match which {
        0 => number(record, 4).map_or(Value::Failed, Value::Number),
        1 => number(record, 8).map_or(Value::Failed, Value::Number),
        2 => number(record, 4).filter(|n| *n < 2).map_or(Value::Failed, Value::Number),
        3 => number(record, 4).filter(|n| *n <= max as u64).map_or(Value::Failed, Value::Number),
        7 => opaque(record, 13).map_or(Value::Failed, Value::Bytes),
        _ => {
            let len = number(record, 4).filter(|n| *n <= max as u64);
            len.and_then(|len| opaque(record, len as usize)).map_or(Value::Failed, Value::Bytes)
        }
    }
}

fn number(record: &mut &[u8], len: usize) -> Option<u64> {
    let (bytes, rest) = record.split_at_checked(len)?;
    *record = rest;
    Some(bytes.iter().fold(0, |n, byte| n << 8 | u64::from(*byte)))
}

fn opaque(record: &mut &[u8], len: usize) -> Option<Vec<u8>> {
    let (whole, rest) = record.split_at_checked(len.div_ceil(4) * 4)?;
    *record = rest;
    Some(whole[..len].to_vec())
}
