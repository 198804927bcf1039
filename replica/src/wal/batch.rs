//! The records of one write, laid out without copying payloads.

use std::ops::Range;

use crc32c::{crc32c, crc32c_append};

use super::format::{Head, Kind, Position, Use, encode_state, record_bytes};
use super::index::{Change, Place};
use super::writer::Active;
use crate::log::{Entry, StableState};

/// Parts up to this size are copied into the scratch buffer, bytes: cheaper than one more part of the write.
const COPY_MAX: usize = 256;

/// What is to be written.
pub(super) enum Record<'a> {
    Entry(&'a Entry),
    State(&'a StableState),
    Truncation(Position),
    /// What follows is of the next session.
    Session,
}

impl Record<'_> {
    fn bytes(&self) -> u64 {
        let body = match self {
            Self::Entry(entry) => entry.op.len().saturating_add(entry.payload.len()),
            Self::State(state) => encode_state(state).len(),
            Self::Truncation(_) | Self::Session => 0,
        };
        record_bytes(body as u64)
    }
}

enum Part<'a> {
    Scratch(Range<usize>),
    Borrowed(&'a [u8]),
}

/// Records for one segment, in order, from where it ends now.
pub(super) struct Batch<'a> {
    used: Use,
    durable: u64,
    limit: u64,
    end: u64,
    scratch: Vec<u8>,
    /// Of the scratch buffer, up to here it is in `parts`.
    claimed: usize,
    parts: Vec<Part<'a>>,
    changes: Vec<Change>,
}

impl<'a> Batch<'a> {
    pub fn new(active: &Active) -> Self {
        Self {
            used: active.used,
            durable: active.durable,
            limit: active.bytes,
            end: active.end,
            scratch: Vec::new(),
            claimed: 0,
            parts: Vec::new(),
            changes: Vec::new(),
        }
    }

    pub fn end(&self) -> u64 {
        self.end
    }

    pub fn used(&self) -> Use {
        self.used
    }

    pub fn fits(&self, record: &Record<'_>) -> bool {
        self.end.saturating_add(record.bytes()) <= self.limit
    }

    /// It must fit.
    pub fn add(&mut self, record: Record<'a>) {
        let offset = self.end;
        match record {
            Record::Entry(entry) => {
                let position = (entry.index, entry.term);
                let bytes = record.bytes();
                self.record(Kind::Entry, position, [&entry.op, &entry.payload]);
                let place = Place { offset: offset as u32, bytes: bytes as u32 };
                self.changes.push(Change::Entry(position, place));
            }
            Record::State(state) => {
                let state = encode_state(state);
                self.head(Kind::State, (0, 0), [&[], &state]);
                self.scratch.extend(state);
                self.pad(offset);
            }
            Record::Truncation(last) => {
                self.record(Kind::Truncation, last, [&[], &[]]);
                self.changes.push(Change::Truncation(last));
            }
            Record::Session => {
                let next = self.used.next_session();
                self.record(Kind::Session, (next.session, 0), [&[], &[]]);
                self.used = next;
                self.changes.push(Change::Session(self.end));
            }
        }
    }

    /// What to write, in order.
    pub fn parts(&mut self) -> Vec<&[u8]> {
        self.claim();
        let scratch = &self.scratch;
        let slice = |part: &Part<'a>| match part {
            Part::Scratch(range) => scratch.get(range.clone()).unwrap_or_default(),
            Part::Borrowed(bytes) => bytes,
        };
        self.parts.iter().map(slice).collect()
    }

    pub fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    fn record(&mut self, kind: Kind, position: Position, body: [&'a [u8]; 2]) {
        let offset = self.end;
        self.head(kind, position, body);
        for part in body {
            if part.len() <= COPY_MAX {
                self.scratch.extend(part);
            } else {
                self.claim();
                self.parts.push(Part::Borrowed(part));
            }
        }
        self.pad(offset);
    }

    fn head(&mut self, kind: Kind, position: Position, [op, rest]: [&[u8]; 2]) {
        let head = Head {
            kind,
            body_len: (op.len() + rest.len()) as u32,
            body_crc: crc32c_append(crc32c(op), rest),
            durable: self.durable,
            position,
            op_len: op.len() as u32,
        };
        self.scratch.extend(head.encode(self.used, self.end));
        self.end += (super::format::HEAD_BYTES + op.len() + rest.len()) as u64;
    }

    fn pad(&mut self, start: u64) {
        let padding = record_bytes(self.end - start - super::format::HEAD_BYTES as u64) - (self.end - start);
        self.scratch.resize(self.scratch.len() + padding as usize, 0);
        self.end += padding;
    }

    fn claim(&mut self) {
        if self.claimed < self.scratch.len() {
            self.parts.push(Part::Scratch(self.claimed..self.scratch.len()));
            self.claimed = self.scratch.len();
        }
    }
}
