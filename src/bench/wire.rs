//! Calls as records, and replies as values: ONC RPC (RFC 5531) and XDR (RFC 4506), just what the load needs.
//!
//! A call is encoded straight into the buffer that goes to the socket; everything of it that is the same each
//! time is copied from one template. Replies are read where they lie in the receive buffer, with bounds.

use bytes::{BufMut, BytesMut};

/// NFS, RFC 1813.
pub const NFS: u32 = 100_003;
/// MOUNT, RFC 1813 appendix I.
pub const MOUNT: u32 = 100_005;
/// Of both.
const VERSION: u32 = 3;

/// Bytes of a record mark, RFC 5531 section 11.
const MARK: usize = 4;
/// In a record mark: no other fragment follows. Neither side of this load ever sends a second one.
const LAST_FRAGMENT: u32 = 1 << 31;
/// Longest reply, bytes: a READ of 1 MiB, with room for all that comes around it.
const REPLY_BYTES_MAX: usize = (1 << 20) + (64 << 10);

/// AUTH_SYS of root: flavour, length, stamp, machine name ("bench", padded), uid, gid, no further groups; and
/// the verifier, AUTH_NONE. RFC 5531 section 8.2 and appendix A.
const CREDENTIALS: [u32; 11] = [1, 28, 0, 5, 0x6265_6e63, 0x6800_0000, 0, 0, 0, 0, 0];

/// Why a call did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The connection broke, or nothing came on it for too long.
    #[error("the connection: {0}")]
    Io(std::io::Error),
    /// nfsstat3 or mountstat3 other than OK.
    #[error("{procedure} was answered with status {status}")]
    Status {
        /// What was called.
        procedure: &'static str,
        /// The answer.
        status: u32,
    },
    /// The RPC layer refused it.
    #[error("{procedure} was refused: reply_stat {reply}, accept_stat or reject_stat {accept}")]
    Refused {
        /// What was called.
        procedure: &'static str,
        /// reply_stat, RFC 5531 section 9.
        reply: u32,
        /// accept_stat or reject_stat.
        accept: u32,
    },
    /// The results are not what was asked for.
    #[error("{procedure}: {what}")]
    Wrong {
        /// What was called.
        procedure: &'static str,
        /// What is wrong.
        what: &'static str,
    },
    /// What was received is no reply of the protocol's form.
    #[error("a reply that is none: {0}")]
    Broken(&'static str),
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

/// A call being written.
pub struct Call<'a> {
    out: &'a mut BytesMut,
    start: usize,
}

impl<'a> Call<'a> {
    /// Begins a record at the end of `out`.
    pub fn new(out: &'a mut BytesMut, xid: u32, program: u32, procedure: u32) -> Self {
        let start = out.len();
        // Mark (filled in by `end`), xid, CALL, RPC version 2.
        for word in [0, xid, 0, 2, program, VERSION, procedure] {
            out.put_u32(word);
        }
        for word in CREDENTIALS {
            out.put_u32(word);
        }
        Self { out, start }
    }

    /// `unsigned int`.
    pub fn u32(&mut self, value: u32) -> &mut Self {
        self.out.put_u32(value);
        self
    }

    /// `unsigned hyper`.
    pub fn u64(&mut self, value: u64) -> &mut Self {
        self.out.put_u64(value);
        self
    }

    /// `opaque<>`, `string<>`: length, bytes, padding.
    pub fn opaque(&mut self, bytes: &[u8]) -> &mut Self {
        // What is sent here is bounded by a megabyte.
        self.out.put_u32(bytes.len() as u32);
        self.out.put_slice(bytes);
        self.out.put_bytes(0, padding(bytes.len()));
        self
    }

    /// sattr3 that sets the mode only, RFC 1813 section 2.6.
    pub fn mode(&mut self, mode: u32) -> &mut Self {
        [1, mode, 0, 0, 0, 0, 0].iter().for_each(|word| self.out.put_u32(*word));
        self
    }

    /// Ends the record, of which `beyond` bytes follow that are sent from elsewhere.
    pub fn end(self, beyond: usize) {
        let len = self.out.len() - self.start - MARK + beyond;
        let mark = len as u32 | LAST_FRAGMENT;
        if let Some(place) = self.out.get_mut(self.start..self.start + MARK) {
            place.copy_from_slice(&mark.to_be_bytes());
        }
    }
}

/// Bytes of padding after an opaque, RFC 4506 section 4.10.
pub fn padding(bytes: usize) -> usize {
    bytes.wrapping_neg() & 3
}

/// Bytes of the record in front of `received`, mark included; none: its length has not arrived.
pub fn record_bytes(received: &[u8]) -> Result<Option<usize>, Failure> {
    let Some(mark) = received.first_chunk::<MARK>() else { return Ok(None) };
    let mark = u32::from_be_bytes(*mark);
    let bytes = (mark & !LAST_FRAGMENT) as usize;
    if mark & LAST_FRAGMENT == 0 {
        return Err(Failure::Broken("a record of several fragments"));
    }
    if bytes > REPLY_BYTES_MAX {
        return Err(Failure::Broken("a record longer than any reply"));
    }
    Ok(Some(MARK + bytes))
}

/// What is left of a reply.
pub struct Reply<'a> {
    rest: &'a [u8],
}

impl<'a> Reply<'a> {
    /// A whole record, mark included; returns its xid too.
    pub fn new(record: &'a [u8]) -> Result<(u32, Self), Failure> {
        let mut reply = Self { rest: record.get(MARK..).unwrap_or_default() };
        let xid = reply.u32()?;
        match reply.u32()? {
            1 => Ok((xid, reply)),
            _ => Err(Failure::Broken("not a reply")),
        }
    }

    /// Passes reply_stat and accept_stat, RFC 5531 section 9.
    pub fn accepted(&mut self, procedure: &'static str) -> Result<(), Failure> {
        let reply = self.u32()?;
        if reply == 0 {
            self.u32()?;
            self.opaque()?;
        }
        match (reply, self.u32()?) {
            (0, 0) => Ok(()),
            (reply, accept) => Err(Failure::Refused { procedure, reply, accept }),
        }
    }

    /// Passes a status that has to be OK.
    pub fn ok(&mut self, procedure: &'static str) -> Result<(), Failure> {
        match self.u32()? {
            0 => Ok(()),
            status => Err(Failure::Status { procedure, status }),
        }
    }

    fn take(&mut self, bytes: usize) -> Result<&'a [u8], Failure> {
        let (taken, rest) = self.rest.split_at_checked(bytes).ok_or(Failure::Broken("it ends too early"))?;
        self.rest = rest;
        Ok(taken)
    }

    /// Passes over some bytes.
    pub fn skip(&mut self, bytes: usize) -> Result<(), Failure> {
        self.take(bytes).map(|_| ())
    }

    /// `unsigned int`.
    pub fn u32(&mut self) -> Result<u32, Failure> {
        let bytes = self.take(4)?.first_chunk().ok_or(Failure::Broken("it ends too early"))?;
        Ok(u32::from_be_bytes(*bytes))
    }

    /// `unsigned hyper`.
    pub fn u64(&mut self) -> Result<u64, Failure> {
        Ok(u64::from(self.u32()?) << 32 | u64::from(self.u32()?))
    }

    /// `bool`.
    pub fn bool(&mut self) -> Result<bool, Failure> {
        Ok(self.u32()? != 0)
    }

    /// `opaque<>`.
    pub fn opaque(&mut self) -> Result<&'a [u8], Failure> {
        let len = self.u32()? as usize;
        let bytes = self.take(len)?;
        self.skip(padding(len))?;
        Ok(bytes)
    }

    /// post_op_attr: passes fattr3 where it is there, RFC 1813 section 2.6.
    pub fn skip_post_op_attr(&mut self) -> Result<(), Failure> {
        if self.bool()? { self.skip(FATTR3) } else { Ok(()) }
    }

    /// wcc_data.
    pub fn skip_wcc_data(&mut self) -> Result<(), Failure> {
        if self.bool()? {
            self.skip(WCC_ATTR)?;
        }
        self.skip_post_op_attr()
    }

    /// fattr3: type and size.
    pub fn type_and_size(&mut self) -> Result<(u32, u64), Failure> {
        let mut attr = Reply { rest: self.take(FATTR3)? };
        let file_type = attr.u32()?;
        // mode, nlink, uid, gid.
        attr.skip(16)?;
        Ok((file_type, attr.u64()?))
    }
}

/// Bytes of fattr3.
const FATTR3: usize = 84;
/// Bytes of wcc_attr.
const WCC_ATTR: usize = 24;
