//! Record marking (RFC 5531 section 11): cuts a byte stream into records. No I/O in here: the connection reads
//! into [`RecordReader::space`] and asks for [`RecordReader::next_record`].
//!
//! # Copies, and what keeps which buffer alive
//!
//! Small records (up to [`CHUNK_BYTES`], mark included) are slices of one receive buffer of that size, so one
//! read brings many of them and a record pins 16 KiB at most. A larger record gets a buffer of its own, made
//! for it: only what had already arrived with its mark is copied, and after one large record the next read
//! expects another of the same size, so a stream of equal WRITEs is not copied at all. A record that turns out
//! to occupy only a small part of such a buffer is copied out of it, so that no small record ever pins a large
//! buffer. Records of several fragments, which ordinary clients do not send, are put together by copying.
//!
//! Memory is taken as bytes arrive, not as a mark claims: an untouched page costs nothing.

use bytes::{Buf, Bytes, BytesMut};

use super::limits::Limits;

/// Size of the receive buffer for small records, bytes. Several hundred NULL or GETATTR calls, or three WRITEs
/// of 4 KiB.
pub(super) const CHUNK_BYTES: usize = 16 << 10;
/// Less room than this is not worth a read, bytes.
const ROOM_MIN: usize = 4 << 10;
/// Length of a record mark, bytes.
const MARK: usize = 4;
const LAST_FRAGMENT: u32 = 1 << 31;

/// The stream is not one of records within bounds: close it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RecordError {
    /// Longer than [`Limits::record_bytes_max`].
    #[error("a record of {bytes} bytes or more; the limit is {max}")]
    TooLong {
        /// What is known of it.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// More than [`Limits::fragments_max`].
    #[error("a record of more than {max} fragments")]
    TooManyFragments {
        /// The limit.
        max: u32,
    },
}

/// A record mark.
#[derive(Clone, Copy)]
struct Mark {
    last: bool,
    len: usize,
}

/// A record of several fragments, as far as it has come.
#[derive(Default)]
struct Assembly {
    data: BytesMut,
    fragments: u32,
    /// Bytes missing of the fragment that is being read; 0: a mark comes next.
    missing: usize,
    last: bool,
}

/// Cuts one connection's stream into records.
pub(crate) struct RecordReader {
    record_bytes_max: usize,
    fragments_max: u32,
    buf: BytesMut,
    /// Size of the allocation that `buf` is a part of, bytes.
    allocated: usize,
    /// Size of the last record with its mark, where it was a large one: the next is expected to be as large.
    expected: usize,
    assembly: Option<Assembly>,
}

impl RecordReader {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            record_bytes_max: limits.record_bytes_max,
            fragments_max: limits.fragments_max,
            buf: BytesMut::new(),
            allocated: 0,
            expected: 0,
            assembly: None,
        }
    }

    /// Is it in the middle of a record?
    pub(crate) fn is_mid_record(&self) -> bool {
        !self.buf.is_empty() || self.assembly.is_some()
    }

    /// Bytes received of the record that is not whole yet, where [`Self::next_record`] has just found none.
    pub(crate) fn unfinished_bytes(&self) -> usize {
        let assembled = self.assembly.as_ref().map_or(0, |a| a.data.len().saturating_add(MARK));
        self.buf.len().saturating_add(assembled)
    }

    /// The buffer to append received bytes to, with room for more.
    pub(crate) fn space(&mut self) -> &mut BytesMut {
        let room = self.buf.capacity().saturating_sub(self.buf.len());
        let whole = match self.mark() {
            Some(mark) if self.assembly.is_none() && mark.last => mark.len.saturating_add(MARK),
            _ => 0,
        };
        if whole > CHUNK_BYTES {
            if self.buf.capacity() < whole {
                self.move_to(whole);
            }
        } else if self.buf.is_empty() && self.expected > 0 {
            if self.buf.capacity() < self.expected {
                self.move_to(self.expected);
            }
        } else if room < ROOM_MIN || self.buf.capacity() < whole {
            let reclaimed = self.allocated == CHUNK_BYTES
                && self.buf.try_reclaim(CHUNK_BYTES.saturating_sub(self.buf.len()));
            if !reclaimed {
                self.move_to(CHUNK_BYTES);
            }
        }
        &mut self.buf
    }

    /// Nothing has come for a while: gives a large empty buffer back.
    pub(crate) fn rest(&mut self) {
        if self.buf.is_empty() && self.allocated > CHUNK_BYTES {
            self.buf = BytesMut::new();
            self.allocated = 0;
        }
    }

    /// The next whole record among the bytes received so far.
    pub(crate) fn next_record(&mut self) -> Result<Option<Bytes>, RecordError> {
        if self.assembly.is_some() {
            return self.assemble();
        }
        let Some(mark) = self.mark() else { return Ok(None) };
        if !mark.last {
            self.assembly = Some(Assembly::default());
            return self.assemble();
        }
        self.check_length(mark.len)?;
        let whole = mark.len.saturating_add(MARK);
        if self.buf.len() < whole {
            return Ok(None);
        }
        Ok(Some(self.cut(whole)))
    }

    /// The mark at the front of the buffer.
    fn mark(&self) -> Option<Mark> {
        let word = u32::from_be_bytes(*self.buf.first_chunk::<MARK>()?);
        let len = usize::try_from(word & !LAST_FRAGMENT).unwrap_or(usize::MAX);
        Some(Mark { last: word & LAST_FRAGMENT != 0, len })
    }

    fn check_length(&self, bytes: usize) -> Result<(), RecordError> {
        let max = self.record_bytes_max;
        if bytes > max { Err(RecordError::TooLong { bytes, max }) } else { Ok(()) }
    }

    /// Takes a record of one fragment, which is in the buffer, `whole` bytes with its mark.
    fn cut(&mut self, whole: usize) -> Bytes {
        self.expected = if whole > CHUNK_BYTES { whole } else { 0 };
        if self.allocated > CHUNK_BYTES && self.allocated / 2 > whole {
            let record = Bytes::copy_from_slice(self.buf.get(MARK..whole).unwrap_or_default());
            self.buf.advance(whole);
            return record;
        }
        let mut record = self.buf.split_to(whole).freeze();
        record.advance(MARK);
        record
    }

    /// Goes on with a record of several fragments.
    fn assemble(&mut self) -> Result<Option<Bytes>, RecordError> {
        let mut assembly = self.assembly.take().unwrap_or_default();
        loop {
            let part = assembly.missing.min(self.buf.len());
            assembly.data.extend_from_slice(&self.buf.split_to(part));
            assembly.missing = assembly.missing.saturating_sub(part);
            if assembly.missing == 0 && assembly.last {
                return Ok(Some(assembly.data.freeze()));
            }
            let Some(mark) = self.mark().filter(|_| assembly.missing == 0) else {
                self.assembly = Some(assembly);
                return Ok(None);
            };
            self.buf.advance(MARK);
            assembly.fragments = assembly.fragments.saturating_add(1);
            if assembly.fragments > self.fragments_max {
                return Err(RecordError::TooManyFragments { max: self.fragments_max });
            }
            self.check_length(assembly.data.len().saturating_add(mark.len))?;
            assembly.missing = mark.len;
            assembly.last = mark.last;
        }
    }

    /// Continues in a new buffer of `capacity` bytes.
    fn move_to(&mut self, capacity: usize) {
        let mut buf = BytesMut::with_capacity(capacity);
        buf.extend_from_slice(&self.buf);
        self.buf = buf;
        self.allocated = capacity;
    }
}

#[cfg(test)]
#[path = "record_tests.rs"]
mod tests;
