//! Where each entry is: kept in memory, 8 bytes an entry, changed by the writer and by recovery alike.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;

use super::format::{Position, Use};
use crate::disk::File;
use crate::log::{LogIndex, Term};

/// Other records between two entries that are read along rather than skipped with a second read, bytes.
const GAP_MAX: u64 = 4096;

/// A record's place in its segment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub offset: u32,
    pub bytes: u32,
}

impl Place {
    pub fn start(self) -> u64 {
        u64::from(self.offset)
    }

    pub fn end(self) -> u64 {
        self.start() + u64::from(self.bytes)
    }
}

/// A segment and the entries that live in it.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    pub used: Use,
    pub name: PathBuf,
    pub file: Arc<dyn File>,
    pub bytes: u64,
    /// Where each session after the first one begins.
    sessions: Vec<u64>,
    first: LogIndex,
    places: Vec<Place>,
}

impl Segment {
    pub fn new(used: Use, name: PathBuf, file: Arc<dyn File>, bytes: u64) -> Self {
        Self { used, name, file, bytes, sessions: Vec::new(), first: 0, places: Vec::new() }
    }

    /// What the record at this offset is seeded with.
    pub fn used_at(&self, offset: u64) -> Use {
        Use { session: self.sessions.partition_point(|start| *start <= offset) as u64, ..self.used }
    }

    fn end_index(&self) -> LogIndex {
        self.first.saturating_add(self.places.len() as u64)
    }

    fn truncate(&mut self, last: LogIndex) {
        let kept = last.saturating_add(1).saturating_sub(self.first);
        self.places.truncate(usize::try_from(kept).unwrap_or(usize::MAX));
    }

    fn from(&self, index: LogIndex) -> Option<&[Place]> {
        let at = usize::try_from(index.checked_sub(self.first)?).ok()?;
        self.places.get(at..).filter(|p| !p.is_empty())
    }
}

/// What a written record means.
#[derive(Clone, Copy, Debug)]
pub(super) enum Change {
    Entry(Position, Place),
    Truncation(Position),
    /// A session begins at this offset.
    Session(u64),
}

/// Entries of one segment that one read fetches.
pub(super) struct Span {
    pub segment: Segment,
    pub places: Vec<Place>,
}

/// The log as it reads.
#[derive(Debug)]
pub(super) struct Index {
    pub base: Position,
    pub last: Position,
    /// First index of each run of one term.
    pub terms: Vec<Position>,
    /// Oldest first; the last one is appended to.
    pub segments: VecDeque<Segment>,
}

impl Index {
    pub fn new(base: Position) -> Self {
        Self { base, last: base, terms: Vec::new(), segments: VecDeque::new() }
    }

    pub fn first(&self) -> LogIndex {
        self.base.0.saturating_add(1)
    }

    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(|s| s.bytes).sum()
    }

    /// Bytes of the records behind an entry.
    pub fn bytes_after(&self, index: LogIndex) -> u64 {
        let from = index.saturating_add(1);
        let of = |s: &Segment| {
            let places = s.from(from.max(s.first))?;
            Some(places.last()?.end().saturating_sub(places.first()?.start()))
        };
        self.segments.iter().filter_map(of).sum()
    }

    /// Of an entry there is, or of the base.
    pub fn term_at(&self, index: LogIndex) -> Option<Term> {
        if index == self.base.0 {
            return Some(self.base.1);
        }
        let runs = self.terms.partition_point(|(first, _)| *first <= index);
        let run = self.terms.get(runs.checked_sub(1)?)?;
        (index <= self.last.0).then_some(run.1)
    }

    /// None, and nothing done: not the next entry.
    pub fn apply(&mut self, change: Change) -> Option<()> {
        match change {
            Change::Entry(position, place) => self.append(position, place),
            Change::Truncation(last) => self.truncate(last),
            Change::Session(start) => {
                self.segments.back_mut()?.sessions.push(start);
                Some(())
            }
        }
    }

    fn append(&mut self, position: Position, place: Place) -> Option<()> {
        let (index, term) = position;
        if index != self.last.0.checked_add(1)? {
            return None;
        }
        let segment = self.segments.back_mut()?;
        if segment.places.is_empty() {
            segment.first = index;
        }
        segment.places.push(place);
        if self.terms.last().is_none_or(|(_, t)| *t != term) {
            self.terms.push(position);
        }
        self.last = position;
        Some(())
    }

    /// What lies before the base was cut: a truncation to there, found by recovery, says what the base is.
    fn truncate(&mut self, last: Position) -> Option<()> {
        if last.0 > self.last.0 {
            return None;
        }
        self.segments.iter_mut().for_each(|s| s.truncate(last.0));
        while self.terms.last().is_some_and(|(first, _)| *first > last.0) {
            self.terms.pop();
        }
        self.last = last;
        if last.0 < self.base.0 {
            self.base = last;
        }
        Some(())
    }

    /// Forgets the oldest segment if no entry behind `upto` is in it.
    pub fn cut_one(&mut self, upto: LogIndex) -> Option<Segment> {
        let oldest = self.segments.front()?;
        let last = oldest.end_index().saturating_sub(1);
        if self.segments.len() < 2 || (!oldest.places.is_empty() && last > upto) {
            return None;
        }
        if !oldest.places.is_empty() {
            self.base = (last, self.term_at(last)?);
            let first = self.first();
            let covered = self.terms.partition_point(|(start, _)| *start <= first);
            self.terms.drain(..covered.saturating_sub(1));
            if let Some(run) = self.terms.first_mut() {
                run.0 = run.0.max(first);
            }
            if self.last.0 <= last {
                self.terms.clear();
            }
        }
        self.segments.pop_front()
    }

    /// Entries from `from` on that lie together, the first one and as many more as fit in `bytes_max`.
    pub fn span(&self, from: LogIndex, to_exclusive: LogIndex, bytes_max: u64) -> Option<Span> {
        let (segment, places) = self.segments.iter().rev().find_map(|s| Some((s, s.from(from)?)))?;
        let wanted = usize::try_from(to_exclusive.saturating_sub(from)).unwrap_or(usize::MAX);
        let start = places.first()?.start();
        let mut end = start;
        let places = places
            .iter()
            .take(wanted)
            .take_while(|place| {
                let is_first = place.start() == start;
                let fits = place.end() - start <= bytes_max && place.start() - end <= GAP_MAX;
                end = place.end();
                is_first || fits
            })
            .copied()
            .collect();
        let Segment { used, name, file, bytes, sessions, .. } = segment;
        let mut segment = Segment::new(*used, name.clone(), file.clone(), *bytes);
        segment.sessions.clone_from(sessions);
        Some(Span { segment, places })
    }
}
