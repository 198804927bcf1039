//! How many more bytes a socket may send than it received, for callers who can be anybody.
//!
//! The sender of a datagram can be forged, and an answer that is larger than its question makes of the server
//! somebody's amplifier. So answers that do not need a secret (a file handle is one) may exceed what was asked by
//! so many bytes a second, over all senders; what is more is not sent. Honest clients of UDP ask again; over TCP
//! there is no such limit.

use parking_lot::Mutex;
use replica::clock::monotonic_ns;

const SECOND_NS: u64 = 1_000_000_000;

/// A token bucket of one second's worth.
pub(crate) struct Excess {
    bytes_per_s: u64,
    state: Mutex<State>,
}

struct State {
    left: u64,
    at_ns: u64,
}

impl Excess {
    pub(crate) fn new(bytes_per_s: u64) -> Self {
        Self { bytes_per_s, state: Mutex::new(State { left: bytes_per_s, at_ns: monotonic_ns() }) }
    }

    /// May an answer of `reply` bytes to a question of `request` bytes be sent?
    pub(crate) fn admits(&self, request: usize, reply: usize) -> bool {
        self.admits_at(monotonic_ns(), request, reply)
    }

    fn admits_at(&self, now_ns: u64, request: usize, reply: usize) -> bool {
        let more = reply.saturating_sub(request) as u64;
        if more == 0 {
            return true;
        }
        let mut state = self.state.lock();
        let passed = now_ns.saturating_sub(state.at_ns).min(SECOND_NS);
        let gained = passed.saturating_mul(self.bytes_per_s) / SECOND_NS;
        if gained > 0 {
            state.left = state.left.saturating_add(gained).min(self.bytes_per_s);
            state.at_ns = now_ns;
        }
        match state.left.checked_sub(more) {
            Some(left) => {
                state.left = left;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    //! Goal: nobody gets more out of the server than the limit says, and those who ask for little always get it.
    //! Method: a clock of the test's.
    use super::*;

    #[test]
    fn excess_is_bounded_and_comes_back() {
        let excess = Excess::new(1000);
        let start = monotonic_ns() + SECOND_NS;
        let sent = (0..100).filter(|_| excess.admits_at(start, 40, 140)).count();
        assert_eq!(sent, 10);
        assert!(excess.admits_at(start, 40, 40), "an answer as small as its question was held back");
        assert!(!excess.admits_at(start + SECOND_NS / 20, 40, 140));
        assert!(excess.admits_at(start + SECOND_NS / 5, 40, 140), "what was held back stays so");
        let later = start + 3600 * SECOND_NS;
        let sent = (0..100).filter(|_| excess.admits_at(later, 0, 100)).count();
        assert_eq!(sent, 10, "an hour's silence is saved up");
    }
}
