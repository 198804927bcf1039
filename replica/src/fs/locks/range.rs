//! Ranges of bytes, and what setting one does to those that an owner has: no state, no owners.

/// Bytes `start` to `end`, both of them in it. `end` = 2^64-1 is "to the end of the file, however long that gets".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Range {
    /// First byte.
    pub start: u64,
    /// Last byte; never before `start`.
    pub end: u64,
}

impl Range {
    /// Every byte.
    pub(crate) const ALL: Self = Self { start: 0, end: u64::MAX };

    /// From NLM's offset and length; length 0: to the end. `None` where it passes 2^64.
    pub(crate) fn from_wire(offset: u64, length: u64) -> Option<Self> {
        let end = match length.checked_sub(1) {
            None => u64::MAX,
            Some(more) => offset.checked_add(more)?,
        };
        Some(Self { start: offset, end })
    }

    /// NLM's length.
    pub(crate) fn length(self) -> u64 {
        if self.end == u64::MAX { 0 } else { self.end - self.start + 1 }
    }

    /// Has a byte in common?
    pub(crate) fn overlaps(self, other: Self) -> bool {
        self.start <= other.end && other.start <= self.end
    }

    /// Has all of the other's bytes?
    pub(crate) fn covers(self, other: Self) -> bool {
        self.start <= other.start && other.end <= self.end
    }

    /// Overlaps, or is next to it: together they are one range.
    pub(crate) fn touches(self, other: Self) -> bool {
        self.start <= other.end.saturating_add(1) && other.start <= self.end.saturating_add(1)
    }

    /// The range that both are, where they touch.
    pub(crate) fn join(self, other: Self) -> Self {
        Self { start: self.start.min(other.start), end: self.end.max(other.end) }
    }

    /// The bytes in common.
    pub(crate) fn common(self, other: Self) -> Option<Self> {
        self.overlaps(other)
            .then(|| Self { start: self.start.max(other.start), end: self.end.min(other.end) })
    }

    /// What is left of it without `cut`, in order.
    pub(crate) fn minus(self, cut: Self) -> impl Iterator<Item = Self> {
        let whole = (!self.overlaps(cut)).then_some(self);
        let cut = self.common(cut);
        let before = cut.filter(|cut| cut.start > self.start);
        let after = cut.filter(|cut| cut.end < self.end);
        let before = before.map(|cut| Self { start: self.start, end: cut.start - 1 });
        let after = after.map(|cut| Self { start: cut.end + 1, end: self.end });
        [whole, before, after].into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    //! Goal: arithmetic at the edges of 64 bits. Method: tables.

    use super::*;

    fn r(start: u64, end: u64) -> Range {
        Range { start, end }
    }

    #[test]
    fn from_the_wire_and_back() {
        const MAX: u64 = u64::MAX;
        let table = [
            (0, 0, Some(r(0, MAX)), 0),
            (0, 1, Some(r(0, 0)), 1),
            (5, 10, Some(r(5, 14)), 10),
            (5, 0, Some(r(5, MAX)), 0),
            (MAX, 0, Some(r(MAX, MAX)), 0),
            (MAX, 1, Some(r(MAX, MAX)), 0),
            (1, MAX, Some(r(1, MAX)), 0),
            (0, MAX, Some(r(0, MAX - 1)), MAX),
            (2, MAX, None, 0),
            (MAX, 2, None, 0),
        ];
        for (offset, length, range, again) in table {
            assert_eq!(Range::from_wire(offset, length), range, "{offset}+{length}");
            assert_eq!(range.map_or(0, Range::length), again, "{offset}+{length}");
        }
    }

    #[test]
    fn neighbours() {
        const MAX: u64 = u64::MAX;
        let table = [
            (r(0, 4), r(5, 9), false, true),
            (r(0, 5), r(5, 9), true, true),
            (r(0, 3), r(5, 9), false, false),
            (r(3, MAX), r(MAX, MAX), true, true),
            (r(MAX, MAX), r(0, MAX - 1), false, true),
            (r(0, 0), r(MAX, MAX), false, false),
        ];
        for (a, b, overlaps, touches) in table {
            assert_eq!((a.overlaps(b), b.overlaps(a)), (overlaps, overlaps), "{a:?} {b:?}");
            assert_eq!((a.touches(b), b.touches(a)), (touches, touches), "{a:?} {b:?}");
        }
        assert_eq!(r(0, 4).join(r(5, MAX)), Range::ALL);
    }

    #[test]
    fn what_a_cut_leaves() {
        let table: [(Range, &[Range]); 7] = [
            (r(0, 9), &[]),
            (r(3, 5), &[r(0, 2), r(6, 9)]),
            (r(0, 5), &[r(6, 9)]),
            (r(5, 9), &[r(0, 4)]),
            (r(5, u64::MAX), &[r(0, 4)]),
            (r(10, 20), &[r(0, 9)]),
            (Range::ALL, &[]),
        ];
        for (cut, left) in table {
            assert_eq!(r(0, 9).minus(cut).collect::<Vec<_>>(), left, "{cut:?}");
        }
        let ends: Vec<_> = Range::ALL.minus(r(u64::MAX, u64::MAX)).collect();
        assert_eq!(ends, [r(0, u64::MAX - 1)]);
    }
}
