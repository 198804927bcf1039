//! Bytes of segments and records, version 1, as the boxes in [`super`] show them.

use crc32c::{crc32c, crc32c_append};

use crate::log::{LogIndex, StableState, Term};
use crate::planted::{Planted, planted};

/// The format written, and the only one read.
pub(super) const VERSION: u32 = 1;
/// A segment's header: one block, so that records begin aligned.
pub(super) const HEADER_BYTES: u64 = 4096;
/// A record's head.
pub(super) const HEAD_BYTES: usize = 48;
/// Records begin at multiples of this; the search behind a bad one relies on it.
pub(super) const ALIGN: u64 = 8;
/// A boot id is a UUID's 36 bytes on Linux; the bound keeps the state well within a header.
pub(super) const BOOT_ID_BYTES_MAX: usize = 1024;

const MAGIC: [u8; 8] = *b"hanfsWAL";
const RECORD_MAGIC: [u8; 3] = *b"REC";
/// Of a header, all before the state.
const FIXED_BYTES: usize = 68;
const FLAG_SOLO: u8 = 1;
const FLAG_RECOVERING: u8 = 2;
const FLAG_STAND_IN: u8 = 4;
const FLAG_BLANK: u8 = 8;
const FLAG_LOCKS_LOST: u8 = 16;
/// Of a state, all but the boot id.
pub(super) const STATE_FIXED_BYTES: usize = 51;

/// (index, term) of an entry.
pub(super) type Position = (LogIndex, Term);

/// One use of a segment file, in one session of it: what its records' CRCs are seeded with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Use {
    pub wal_id: u64,
    pub seq: u64,
    /// How often the log had been opened with this as its last segment.
    pub session: u64,
}

impl Use {
    /// The first session of a segment.
    pub fn new(wal_id: u64, seq: u64) -> Self {
        Self { wal_id, seq, session: 0 }
    }

    pub fn next_session(self) -> Self {
        // Planted: all sessions look alike.
        let step = if planted(Planted::ReplayStaleTail) { 0 } else { 1 };
        Self { session: self.session.saturating_add(step), ..self }
    }

    fn seed(self, offset: u64) -> u32 {
        let parts = [self.wal_id, self.seq, self.session, offset];
        parts.iter().fold(0, |crc, part| crc32c_append(crc, &part.to_le_bytes()))
    }
}

/// The first 4096 bytes of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub used: Use,
    pub segment_bytes: u64,
    pub base: Position,
    pub previous_end: u64,
    pub state: StableState,
}

/// Why a header is none.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum HeaderFault {
    NoMagic,
    Version(u32),
    Damaged,
}

impl SegmentHeader {
    pub fn encode(&self) -> Vec<u8> {
        let state = encode_state(&self.state);
        let mut body = Vec::with_capacity(HEADER_BYTES as usize);
        let (base_index, base_term) = self.base;
        let used = self.used;
        for n in [used.wal_id, used.seq, self.segment_bytes, base_index, base_term, self.previous_end] {
            body.extend(n.to_le_bytes());
        }
        body.extend((state.len() as u32).to_le_bytes());
        body.extend(state);
        body.resize(HEADER_BYTES as usize - 16, 0);

        let mut bytes = Vec::with_capacity(HEADER_BYTES as usize);
        bytes.extend(MAGIC);
        bytes.extend(VERSION.to_le_bytes());
        let crc = crc32c_append(crc32c(&bytes), &body);
        bytes.extend(crc.to_le_bytes());
        bytes.extend(body);
        bytes
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, HeaderFault> {
        let mut fields = Fields(bytes);
        if fields.take(MAGIC.len()) != Some(&MAGIC) {
            return Err(HeaderFault::NoMagic);
        }
        let version = fields.u32().ok_or(HeaderFault::Damaged)?;
        if version > VERSION {
            return Err(HeaderFault::Version(version));
        }
        Self::decode_version_1(bytes, fields).ok_or(HeaderFault::Damaged)
    }

    fn decode_version_1(bytes: &[u8], mut fields: Fields<'_>) -> Option<Self> {
        let crc = fields.u32()?;
        if bytes.len() as u64 != HEADER_BYTES || crc != crc32c_append(crc32c(bytes.get(..12)?), fields.0) {
            return None;
        }
        let used = Use::new(fields.u64()?, fields.u64()?);
        let segment_bytes = fields.u64()?;
        let base = (fields.u64()?, fields.u64()?);
        let previous_end = fields.u64()?;
        let state_len = fields.u32()?;
        let state = decode_state(fields.take(state_len as usize)?)?;
        Some(Self { used, segment_bytes, base, previous_end, state })
    }
}

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Entry = 1,
    State = 2,
    Truncation = 3,
    Session = 4,
}

/// A record without its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub kind: Kind,
    pub body_len: u32,
    pub body_crc: u32,
    pub durable: u64,
    pub position: Position,
    pub op_len: u32,
}

impl Head {
    pub fn encode(&self, used: Use, offset: u64) -> [u8; HEAD_BYTES] {
        let mut rest = Vec::with_capacity(HEAD_BYTES - 4);
        rest.extend(RECORD_MAGIC);
        rest.push(self.kind as u8);
        rest.extend(self.body_len.to_le_bytes());
        rest.extend(self.body_crc.to_le_bytes());
        rest.extend(self.durable.to_le_bytes());
        rest.extend(self.position.0.to_le_bytes());
        rest.extend(self.position.1.to_le_bytes());
        rest.extend(self.op_len.to_le_bytes());
        rest.extend([0; 4]);
        let mut bytes = [0; HEAD_BYTES];
        let (crc, target) = bytes.split_at_mut(4);
        crc.copy_from_slice(&crc32c_append(used.seed(offset), &rest).to_le_bytes());
        target.copy_from_slice(&rest);
        bytes
    }

    /// Where the first head may begin in bytes that begin at a multiple of [`ALIGN`]; only its mark is looked at.
    pub fn find(bytes: &[u8]) -> Option<u64> {
        let is_marked = |chunk: &[u8]| chunk.get(4..4 + RECORD_MAGIC.len()) == Some(&RECORD_MAGIC);
        let n = bytes.chunks_exact(ALIGN as usize).position(is_marked)?;
        Some(n as u64 * ALIGN)
    }

    /// None: no record of this use begins at this offset.
    pub fn decode(bytes: &[u8], used: Use, offset: u64) -> Option<Self> {
        let mut fields = Fields(bytes.get(..HEAD_BYTES)?);
        let crc = fields.u32()?;
        let covered = fields.0;
        if fields.take(RECORD_MAGIC.len())? != RECORD_MAGIC {
            return None;
        }
        let kind = match fields.u8()? {
            1 => Kind::Entry,
            2 => Kind::State,
            3 => Kind::Truncation,
            4 => Kind::Session,
            _ => return None,
        };
        if crc != crc32c_append(used.seed(offset), covered) {
            return None;
        }
        let (body_len, body_crc) = (fields.u32()?, fields.u32()?);
        let durable = fields.u64()?;
        let position = (fields.u64()?, fields.u64()?);
        let op_len = fields.u32()?;
        (op_len <= body_len).then_some(Self { kind, body_len, body_crc, durable, position, op_len })
    }

    /// The whole record, padded.
    pub fn record_bytes(&self) -> u64 {
        record_bytes(u64::from(self.body_len))
    }

    /// Whether `body` (as long as it says, or longer by the padding) is this record's.
    pub fn body<'a>(&self, body: &'a [u8]) -> Option<&'a [u8]> {
        body.get(..self.body_len as usize).filter(|b| crc32c(b) == self.body_crc)
    }
}

/// Bytes in a segment of a record whose body has this many.
pub(super) const fn record_bytes(body_len: u64) -> u64 {
    (HEAD_BYTES as u64 + body_len).next_multiple_of(ALIGN)
}

pub(super) fn encode_state(state: &StableState) -> Vec<u8> {
    // Taken apart so that a new field cannot be forgotten here.
    let StableState {
        term,
        vote,
        commit,
        history,
        solo,
        recovering,
        dirty_boot,
        witness,
        parent_history,
        stand_in,
        blank,
        locks_lost,
    } = state;
    let mut bytes = Vec::with_capacity(STATE_FIXED_BYTES + dirty_boot.len());
    for n in [term, vote, commit, history, witness, parent_history] {
        bytes.extend(n.to_le_bytes());
    }
    let flags = [
        (*solo, FLAG_SOLO),
        (*recovering, FLAG_RECOVERING),
        (*stand_in, FLAG_STAND_IN),
        (*blank, FLAG_BLANK),
        (*locks_lost, FLAG_LOCKS_LOST),
    ];
    bytes.push(flags.iter().filter(|(is_set, _)| *is_set).map(|(_, flag)| flag).sum());
    bytes.extend((dirty_boot.len() as u16).to_le_bytes());
    bytes.extend(dirty_boot.as_bytes());
    bytes
}

pub(super) fn decode_state(bytes: &[u8]) -> Option<StableState> {
    let mut fields = Fields(bytes);
    let (term, vote, commit) = (fields.u64()?, fields.u64()?, fields.u64()?);
    let (history, witness, parent_history) = (fields.u64()?, fields.u64()?, fields.u64()?);
    let flags = fields.u8()?;
    let boot_len = u16::from_le_bytes(*fields.take(2)?.first_chunk()?);
    let dirty_boot = std::str::from_utf8(fields.take(boot_len.into())?).ok()?.to_owned();
    let known = FLAG_SOLO | FLAG_RECOVERING | FLAG_STAND_IN | FLAG_BLANK | FLAG_LOCKS_LOST;
    let is_known = flags & !known == 0 && fields.0.is_empty();
    is_known.then_some(StableState {
        term,
        vote,
        commit,
        history,
        solo: flags & FLAG_SOLO != 0,
        recovering: flags & FLAG_RECOVERING != 0,
        dirty_boot,
        witness,
        parent_history,
        stand_in: flags & FLAG_STAND_IN != 0,
        blank: flags & FLAG_BLANK != 0,
        locks_lost: flags & FLAG_LOCKS_LOST != 0,
    })
}

/// What is left to decode.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn u32(&mut self) -> Option<u32> {
        self.take(4)?.first_chunk().map(|b| u32::from_le_bytes(*b))
    }

    fn u64(&mut self) -> Option<u64> {
        self.take(8)?.first_chunk().map(|b| u64::from_le_bytes(*b))
    }
}

const _: () = assert!(FIXED_BYTES + STATE_FIXED_BYTES + BOOT_ID_BYTES_MAX <= HEADER_BYTES as usize);
