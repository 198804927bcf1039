//! Where the log of a node that is copied anew parts from the source's: what is behind that, only this node has.
//!
//! Within one history the log matching property holds (Raft thesis section 3.5): who has an entry of the same index and
//! term has the same entries up to it. A verdict of the arbiter ends a history at an entry that the node remembers; beyond it two
//! logs may hold different entries of one index and term. So terms are compared up to there, and no further.
//!
//! What is said to be common certainly is. Where the source does not say enough, too little is: a tail that is kept may begin
//! before the point where the logs part, never behind it.

use proto::peer::{ImageStart, LogMark};

use crate::log::{LogIndex, StableState, Term};

/// Marks that a source sends at most, the newest: each is a term that somebody led.
pub const MARKS_MAX: usize = 1024;

/// One node's log: its history, and what terms it is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// Its history.
    pub history: u64,
    /// The history that its last verdict ended; 0: none.
    pub parent: u64,
    /// The log's last entry then.
    pub parent_end: (LogIndex, Term),
    /// The entry before the first one, and the last one of each term, oldest first.
    pub marks: Vec<(LogIndex, Term)>,
}

impl Log {
    /// A log at rest.
    pub fn new(state: &StableState, marks: Vec<(LogIndex, Term)>) -> Self {
        Self { history: state.history, parent: state.parent_history, parent_end: state.parent_end, marks }
    }

    /// A source's, as it says in a copy's start.
    pub fn of_source(start: &ImageStart) -> Self {
        let mark = |m: &LogMark| (m.index, m.term);
        let mut marks: Vec<_> = start.marks.iter().map(mark).collect();
        // Whoever sends them in another order gets no help from them.
        marks.sort_unstable();
        Self {
            history: start.history,
            parent: start.parent_history,
            parent_end: start.parent_end.as_ref().map(mark).unwrap_or_default(),
            marks,
        }
    }

    /// The last entry that both certainly have.
    pub fn common(&self, source: &Self) -> LogIndex {
        let shared = self.shared(source);
        let known = source.marks_upto(shared).into_iter();
        known.filter_map(|(index, term)| self.last_of(term, index)).max().unwrap_or(0)
    }

    /// Up to which index the two have one history: behind it terms say nothing.
    fn shared(&self, source: &Self) -> LogIndex {
        if self.history == source.history {
            LogIndex::MAX
        } else if source.parent == self.history {
            source.parent_end.0
        } else if self.parent == source.history {
            self.parent_end.0
        } else if self.parent == source.parent && self.parent != 0 {
            self.parent_end.0.min(source.parent_end.0)
        } else {
            0
        }
    }

    /// Entries up to `end` that this log certainly has, or had: the last one of each term.
    fn marks_upto(&self, end: LogIndex) -> Vec<(LogIndex, Term)> {
        let mut marks = Vec::new();
        let mut before = None;
        for (index, term) in self.marks.iter().copied() {
            if index <= end {
                marks.push((index, term));
            } else if before.is_some_and(|before| before < end) {
                // The term began at or before `end` and went on behind it.
                marks.push((end, term));
            }
            before = Some(index);
        }
        if self.parent_end.0 <= end {
            marks.push(self.parent_end);
        }
        marks
    }

    /// The last entry of this term up to `end`.
    fn last_of(&self, term: Term, end: LogIndex) -> Option<LogIndex> {
        let mut before = None;
        let mut found = None;
        for (index, of) in self.marks.iter().copied() {
            let first = before.map_or(index, |before: LogIndex| before.saturating_add(1));
            if of == term && first <= end {
                found = Some(index.min(end));
            }
            before = Some(index);
        }
        found
    }
}

#[cfg(test)]
mod tests {
    //! Goal: nothing that only the loser has is taken for common, and with what a source of this version says nothing common is
    //! kept as the loser's. Method: the ways in which two logs come to differ, as a table.
    use super::*;

    fn log(history: u64, parent: u64, parent_end: (u64, u64), marks: &[(u64, u64)]) -> Log {
        Log { history, parent, parent_end, marks: marks.to_vec() }
    }

    #[test]
    fn a_loser_with_a_tail_parts_where_the_winner_went_on() {
        // Both had 100 of term 3. The loser wrote 3 more, which nobody acknowledged; the winner went on as term 4.
        let loser = log(0, 0, (0, 0), &[(40, 2), (60, 2), (103, 3)]);
        let winner = log(9, 0, (100, 3), &[(50, 2), (60, 2), (100, 3), (180, 4)]);
        assert_eq!(loser.common(&winner), 100);
        // Long after: the winner's log does not reach back so far.
        let later = log(9, 0, (100, 3), &[(5000, 4), (6000, 4)]);
        assert_eq!(loser.common(&later), 100);
        // The winner led already: its new history goes on in the same term.
        let led = log(9, 0, (100, 3), &[(50, 2), (60, 2), (180, 3)]);
        assert_eq!(loser.common(&led), 100);
    }

    #[test]
    fn a_loser_without_a_tail_has_nothing_of_its_own() {
        let loser = log(0, 0, (0, 0), &[(40, 2), (60, 2), (98, 3)]);
        let winner = log(9, 0, (100, 3), &[(50, 2), (60, 2), (180, 3)]);
        assert_eq!(loser.common(&winner), 98);
        let same = log(9, 0, (0, 0), &[(40, 2), (98, 3)]);
        let source = log(9, 0, (0, 0), &[(50, 2), (180, 3)]);
        assert_eq!(same.common(&source), 98);
    }

    #[test]
    fn equal_terms_of_different_histories_are_different_entries() {
        // A forced winner lacks what the loser committed in term 4; its own new history begins with term 4 as well.
        let loser = log(0, 0, (0, 0), &[(40, 2), (100, 3), (120, 4)]);
        let winner = log(9, 0, (103, 3), &[(50, 2), (103, 3), (180, 4)]);
        assert_eq!(loser.common(&winner), 100);
        let far = log(9, 0, (103, 3), &[(5000, 4)]);
        assert_eq!(loser.common(&far), 100);
        // Both went on after verdicts, from 100 and 104 of the same term.
        let one = log(8, 5, (104, 3), &[(40, 2), (104, 3), (200, 4)]);
        let other = log(9, 5, (100, 3), &[(50, 2), (100, 3), (180, 4)]);
        assert_eq!((one.common(&other), other.common(&one)), (100, 100));
    }

    #[test]
    fn who_says_too_little_shares_nothing() {
        let loser = log(7, 0, (0, 0), &[(40, 2), (103, 3)]);
        assert_eq!(loser.common(&log(9, 0, (0, 0), &[])), 0, "an older version");
        assert_eq!(loser.common(&log(9, 8, (100, 3), &[(50, 2), (180, 3)])), 0, "histories apart");
        assert_eq!(loser.common(&log(9, 7, (0, 0), &[(0, 0), (180, 4)])), 0, "forced with an empty log");
        // The winner's log ends its parent in a term that the loser knows nothing of.
        assert_eq!(loser.common(&log(9, 7, (100, 4), &[(5000, 5)])), 0);
        assert_eq!(loser.common(&log(9, 7, (100, 4), &[(50, 2), (90, 3), (100, 4), (180, 5)])), 90);
    }
}
