//! XDR (RFC 4506): a decoder with hard bounds over one record, and an encoder for replies.
//!
//! The decoder never allocates by a length that came from the wire, never copies bulk data (an opaque is a
//! slice of the record), and never reads past the record. Whatever does not decode is the caller's garbage:
//! the RPC layer answers GARBAGE_ARGS.

use bytes::{BufMut, Bytes, BytesMut};

/// Bytes that every [`Encoder`] keeps free in front for the record mark and the RPC reply header, so that a
/// reply's header and results are one buffer and one element of a vectored write.
pub(crate) const HEADROOM: usize = 28;

/// Opaques shorter than this are copied out by [`Decoder::payload`], bytes. A small slice would keep the whole
/// receive buffer alive for as long as it lives in the log.
const COPY_BELOW: usize = 1024;

/// The bytes do not say what the protocol says they must.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum XdrError {
    /// The record ends before the value does.
    #[error("the record ends before the value does")]
    Truncated,
    /// A variable-length value or an array is longer than its bound.
    #[error("a length of {len} exceeds its bound of {max}")]
    TooLong {
        /// What the record says.
        len: u32,
        /// The bound.
        max: usize,
    },
    /// A boolean or a discriminant has a value that the protocol does not know.
    #[error("{0} is not a value of this type")]
    BadValue(u32),
}

/// Result of decoding.
pub type Result<T> = std::result::Result<T, XdrError>;

/// Length with padding to a multiple of four. Saturates: such a length never fits in a record.
fn padded(len: usize) -> usize {
    len.checked_next_multiple_of(4).unwrap_or(usize::MAX)
}

/// Reads values from one record, front to back.
#[derive(Clone, Debug)]
pub struct Decoder<'a> {
    record: &'a Bytes,
    at: usize,
}

impl<'a> Decoder<'a> {
    /// Starts at the record's first byte.
    pub fn new(record: &'a Bytes) -> Self {
        Self { record, at: 0 }
    }

    /// Bytes not read yet.
    pub fn remaining(&self) -> usize {
        self.record.len().saturating_sub(self.at)
    }

    /// Everything not read yet, as a slice of the record.
    pub fn rest(&self) -> Bytes {
        self.record.slice(self.at.min(self.record.len())..)
    }

    /// Takes `len` bytes and their padding; returns where they start.
    fn take(&mut self, len: usize) -> Result<usize> {
        let whole = padded(len);
        if whole > self.remaining() {
            return Err(XdrError::Truncated);
        }
        let start = self.at;
        self.at = start.saturating_add(whole);
        Ok(start)
    }

    /// `opaque[N]`: N bytes.
    pub fn fixed<const N: usize>(&mut self) -> Result<[u8; N]> {
        let start = self.take(N)?;
        let bytes = self.record.get(start..).and_then(|rest| rest.first_chunk::<N>());
        bytes.copied().ok_or(XdrError::Truncated)
    }

    /// `unsigned int`.
    pub fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_be_bytes(self.fixed()?))
    }

    /// `unsigned hyper`.
    pub fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_be_bytes(self.fixed()?))
    }

    /// `bool`: 0 or 1.
    pub fn bool(&mut self) -> Result<bool> {
        match self.u32()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(XdrError::BadValue(other)),
        }
    }

    /// A length that must not exceed `max`: of an array, or of an opaque that the caller reads itself.
    pub fn length(&mut self, max: usize) -> Result<usize> {
        let len = self.u32()?;
        match usize::try_from(len) {
            Ok(n) if n <= max => Ok(n),
            _ => Err(XdrError::TooLong { len, max }),
        }
    }

    /// `opaque<max>`: a slice of the record. It keeps the record's buffer alive; what is kept for long and may
    /// be short is better read with [`Self::payload`] or [`Self::string`].
    pub fn opaque(&mut self, max: usize) -> Result<Bytes> {
        let len = self.length(max)?;
        let start = self.take(len)?;
        Ok(self.record.slice(start..start.saturating_add(len)))
    }

    /// `opaque<max>` that goes into the log: a slice of the record, or a copy where it is so short that the
    /// copy costs less than the buffer it would keep alive.
    pub fn payload(&mut self, max: usize) -> Result<Bytes> {
        let slice = self.opaque(max)?;
        Ok(if slice.len() < COPY_BELOW { Bytes::copy_from_slice(&slice) } else { slice })
    }

    /// `string<max>`: its bytes, any bytes (RFC 1813 names are not UTF-8), in a buffer of their own.
    pub fn string(&mut self, max: usize) -> Result<Bytes> {
        let len = self.length(max)?;
        let start = self.take(len)?;
        let bytes = self.record.get(start..start.saturating_add(len)).ok_or(XdrError::Truncated)?;
        Ok(Bytes::copy_from_slice(bytes))
    }
}

/// Writes a reply's results, front to back, into one buffer with room in front for the RPC header.
#[derive(Debug)]
pub struct Encoder {
    buf: BytesMut,
}

impl Default for Encoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Encoder {
    /// Room for the results of most procedures.
    pub fn new() -> Self {
        Self::with_capacity(256)
    }

    /// Room for `capacity` bytes of results before the buffer grows.
    pub fn with_capacity(capacity: usize) -> Self {
        let mut buf = BytesMut::with_capacity(capacity.saturating_add(HEADROOM));
        buf.put_bytes(0, HEADROOM);
        Self { buf }
    }

    /// Bytes written.
    pub fn len(&self) -> usize {
        self.buf.len().saturating_sub(HEADROOM)
    }

    /// Nothing written yet?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes back everything written after the first `len` bytes.
    pub fn truncate(&mut self, len: usize) {
        self.buf.truncate(len.saturating_add(HEADROOM));
    }

    /// `unsigned int`, or a discriminant.
    pub fn u32(&mut self, value: u32) -> &mut Self {
        self.buf.put_u32(value);
        self
    }

    /// `unsigned hyper`.
    pub fn u64(&mut self, value: u64) -> &mut Self {
        self.buf.put_u64(value);
        self
    }

    /// `bool`.
    pub fn bool(&mut self, value: bool) -> &mut Self {
        self.u32(u32::from(value))
    }

    /// `opaque[n]`, with padding.
    pub fn fixed(&mut self, bytes: &[u8]) -> &mut Self {
        self.buf.put_slice(bytes);
        self.buf.put_bytes(0, padded(bytes.len()).saturating_sub(bytes.len()));
        self
    }

    /// `opaque<>` or `string<>`, with length and padding. Longer than 4 GiB does not occur: replies are bounded
    /// far below.
    pub fn opaque(&mut self, bytes: &[u8]) -> &mut Self {
        let len = u32::try_from(bytes.len()).expect("a reply's opaque is bounded far below 4 GiB");
        self.u32(len).fixed(bytes)
    }

    /// What was written.
    pub fn as_slice(&self) -> &[u8] {
        self.buf.get(HEADROOM..).unwrap_or_default()
    }

    /// What was written, as one buffer, headroom and all.
    pub(crate) fn into_inner(self) -> BytesMut {
        self.buf
    }
}

#[cfg(test)]
#[path = "xdr_tests.rs"]
mod tests;
