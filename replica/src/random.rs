//! Random numbers: the kernel's. Only the edges draw them; state machines are told.
//!
//! With the feature `sim` a thread may draw from a seed instead ([`simulate`]), so that a run can be repeated.

#[cfg(any(test, feature = "sim"))]
pub use self::simulated::{real, simulate};

/// How caches hash: keyed at random, since clients choose the names in them.
#[cfg(not(any(test, feature = "sim")))]
pub type HashState = std::hash::RandomState;
/// How caches hash: always alike, so that a run can be repeated.
#[cfg(any(test, feature = "sim"))]
pub type HashState = std::hash::BuildHasherDefault<std::hash::DefaultHasher>;

/// A number that nobody can foresee.
///
/// # Errors
/// The kernel has none to give: not after the host has booted.
pub fn random_u64() -> Result<u64, getrandom::Error> {
    #[cfg(any(test, feature = "sim"))]
    if let Some(drawn) = simulated::draw() {
        return Ok(drawn);
    }
    getrandom::u64()
}

#[cfg(any(test, feature = "sim"))]
mod simulated {
    use std::cell::Cell;

    thread_local! {
        static STATE: Cell<Option<u64>> = const { Cell::new(None) };
    }

    /// splitmix64.
    pub(super) fn draw() -> Option<u64> {
        let state = STATE.get()?.wrapping_add(0x9e37_79b9_7f4a_7c15);
        STATE.set(Some(state));
        let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Some(z ^ (z >> 31))
    }

    /// From now on this thread draws what follows from the seed.
    pub fn simulate(seed: u64) {
        STATE.set(Some(seed));
    }

    /// This thread draws from the kernel again.
    pub fn real() {
        STATE.set(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the same seed gives the same numbers, another one others. Method: draw from each.
    #[test]
    fn a_seed_can_be_repeated() {
        let draw = |seed| {
            simulate(seed);
            [random_u64().ok(), random_u64().ok()]
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        real();
    }
}
