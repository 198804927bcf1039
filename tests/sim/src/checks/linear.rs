//! Is a history linearizable? Wing and Gong's search with Lowe's memory of what was tried before.
//!
//! A history is of one object: a block of a file, a directory of a few names, a lock. What was never answered (a client
//! that went away) may have happened at any time after it was asked, or not at all.

use std::collections::HashSet;
use std::fmt::Debug;
use std::hash::Hash;

/// A sequential object.
pub trait Object: Clone + Eq + Hash + Debug {
    /// What is asked.
    type Ask: Debug;
    /// What is answered.
    type Answer: Debug;
    /// Does it, and says whether the answer is right; `None`: nobody heard the answer, everything is.
    fn step(&mut self, ask: &Self::Ask, answer: Option<&Self::Answer>) -> bool;
}

/// One operation. Times are of the world, ns.
#[derive(Clone, Debug)]
pub struct Event<A, R> {
    /// When it was first sent.
    pub asked: u64,
    /// When the answer came, and what it was.
    pub answered: Option<(u64, R)>,
    /// What.
    pub ask: A,
}

/// States looked at, at most: a history that needs more is too large for its purpose.
const STATES_MAX: usize = 2_000_000;

/// Finds an order, or says up to which state every order came.
pub fn check<O: Object>(start: O, history: &[Event<O::Ask, O::Answer>]) -> Result<(), String> {
    let mut events: Vec<&Event<O::Ask, O::Answer>> = history.iter().collect();
    events.sort_by_key(|e| e.asked);
    let answered = events.iter().filter(|e| e.answered.is_some()).count();
    let words = events.len().div_ceil(64).max(1);
    let mut seen: HashSet<(Vec<u64>, O)> = HashSet::new();
    let mut stack = vec![(vec![0_u64; words], start, 0_usize)];
    let mut best: (usize, Option<(Vec<u64>, O)>) = (0, None);
    while let Some((done, state, count)) = stack.pop() {
        if count == answered {
            return Ok(());
        }
        if count >= best.0 {
            best = (count, Some((done.clone(), state.clone())));
        }
        if seen.len() > STATES_MAX {
            return Err("the history is too large to be searched".into());
        }
        let is_done = |i: usize| done[i / 64] & (1 << (i % 64)) != 0;
        // Whatever begins after the first end among those that are left comes after it.
        let left = events.iter().enumerate().filter(|(i, _)| !is_done(*i));
        let horizon =
            left.filter_map(|(_, e)| e.answered.as_ref().map(|(at, _)| *at)).min().unwrap_or(u64::MAX);
        for (i, event) in events.iter().enumerate() {
            if event.asked > horizon {
                break;
            }
            if is_done(i) {
                continue;
            }
            let mut next = state.clone();
            if !next.step(&event.ask, event.answered.as_ref().map(|(_, answer)| answer)) {
                continue;
            }
            let mut with = done.clone();
            with[i / 64] |= 1 << (i % 64);
            if seen.insert((with.clone(), next.clone())) {
                stack.push((with, next, count + usize::from(event.answered.is_some())));
            }
        }
    }
    let (count, deepest) = best;
    let mut text = format!("no order explains it; {count} of {answered} answers fit");
    if let Some((done, state)) = deepest {
        text.push_str(&format!(", then the state is {state:?} and none of these fits:"));
        let left = events.iter().enumerate().filter(|(i, _)| done[i / 64] & (1 << (i % 64)) == 0);
        for (_, event) in left.take(6) {
            text.push_str(&format!("\n    {event:?}"));
        }
    }
    Err(text)
}

#[cfg(test)]
mod tests {
    //! Goal: the search accepts what some order explains and nothing else.
    //! Method: a register and short histories, right and wrong.
    use super::*;

    #[derive(Clone, PartialEq, Eq, Hash, Debug)]
    struct Register(u64);

    #[derive(Debug)]
    enum Ask {
        Put(u64),
        Get,
    }

    impl Object for Register {
        type Ask = Ask;
        type Answer = u64;
        fn step(&mut self, ask: &Ask, answer: Option<&u64>) -> bool {
            match ask {
                Ask::Put(value) => {
                    self.0 = *value;
                    true
                }
                Ask::Get => answer.is_none_or(|seen| *seen == self.0),
            }
        }
    }

    fn event(asked: u64, answered: Option<(u64, u64)>, ask: Ask) -> Event<Ask, u64> {
        Event { asked, answered, ask }
    }

    #[test]
    fn what_overlaps_may_come_in_either_order() {
        let history = [
            event(1, Some((9, 0)), Ask::Put(5)),
            event(2, Some((3, 0)), Ask::Get),
            event(4, Some((6, 5)), Ask::Get),
        ];
        assert_eq!(check(Register(0), &history), Ok(()));
    }

    #[test]
    fn an_old_value_after_a_new_one_is_found() {
        let history = [
            event(1, Some((9, 0)), Ask::Put(5)),
            event(2, Some((3, 5)), Ask::Get),
            event(4, Some((6, 0)), Ask::Get),
        ];
        assert!(check(Register(0), &history).is_err());
    }

    #[test]
    fn what_nobody_heard_of_may_have_happened_late_or_never() {
        let put = |answer| event(1, answer, Ask::Put(5));
        for seen in [0, 5] {
            assert_eq!(check(Register(0), &[put(None), event(20, Some((30, seen)), Ask::Get)]), Ok(()));
        }
        let lost = [put(Some((9, 0))), event(20, Some((30, 0)), Ask::Get)];
        assert!(check(Register(0), &lost).is_err(), "an answered write cannot be lost");
    }
}
