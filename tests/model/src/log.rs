//! A log, as far as Raft is concerned: the terms of its entries, and which of them adopts a witness.

use std::fmt;

/// Entries that fit.
const ENTRIES_MAX: u8 = 15;
/// Bits of an entry: three of the term, one that says whether it adopts the new witness.
const BITS: u8 = 4;
const ADOPTS: u64 = 8;
const TERM: u64 = 7;
/// Last term that fits.
pub const TERM_MAX: u8 = 7;

/// See the module. Places count from 1.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Log {
    entries: u64,
    len: u8,
}

impl Log {
    pub fn len(self) -> u8 {
        self.len
    }

    pub fn push(&mut self, term: u8, adopts: bool) {
        assert!(self.len < ENTRIES_MAX && term <= TERM_MAX, "the bounds of the run exceed what a log holds");
        let entry = u64::from(term) | if adopts { ADOPTS } else { 0 };
        self.entries |= entry << (self.len * BITS);
        self.len += 1;
    }

    /// The first `len` entries.
    pub fn prefix(self, len: u8) -> Self {
        let len = len.min(self.len);
        Self { entries: self.entries & !(u64::MAX << (len * BITS)), len }
    }

    fn entry(self, index: u8) -> Option<u64> {
        (1..=self.len).contains(&index).then(|| self.entries >> ((index - 1) * BITS) & (TERM | ADOPTS))
    }

    pub fn term(self, index: u8) -> Option<u8> {
        self.entry(index).map(|entry| (entry & TERM) as u8)
    }

    pub fn last_term(self) -> u8 {
        self.term(self.len).unwrap_or(0)
    }

    /// (term, index) of the last entry: what candidates are compared by.
    pub fn end(self) -> (u8, u8) {
        (self.last_term(), self.len)
    }

    /// Is there an entry up to `index` that adopts the new witness?
    pub fn adopts_up_to(self, index: u8) -> bool {
        (1..=index).any(|i| self.entry(i).is_some_and(|entry| entry & ADOPTS != 0))
    }

    pub fn starts_with(self, other: Self) -> bool {
        self.len >= other.len && self.prefix(other.len) == other
    }

    /// The longest beginning that both have.
    pub fn common(self, other: Self) -> Self {
        let len = (0..=self.len.min(other.len)).rev().find(|len| self.prefix(*len) == other.prefix(*len));
        self.prefix(len.unwrap_or(0))
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entry =
            |i| (self.term(i).unwrap_or(0), self.prefix(i).adopts_up_to(i) && !self.adopts_up_to(i - 1));
        f.write_str("[")?;
        for (term, adopts) in (1..=self.len).map(entry) {
            write!(f, "{term}{}", if adopts { "w " } else { " " })?;
        }
        f.write_str("]")
    }
}
