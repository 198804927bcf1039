//! Two clocks, both plain `u64` nanoseconds. Only the edges read them; state machines are told the time.
//!
//! With the feature `sim` a thread may live in simulated time: [`simulate`] says what both clocks show to it. The
//! product is built without that feature, and reads the kernel's clocks.

use std::time::{SystemTime, UNIX_EPOCH};

#[cfg(any(test, feature = "sim"))]
pub use self::simulated::{real, simulate};

/// CLOCK_MONOTONIC in ns: the same for every process of this host, not across hosts. Deadlines and leases.
pub fn monotonic_ns() -> u64 {
    #[cfg(any(test, feature = "sim"))]
    if let Some((monotonic_ns, _)) = simulated::now() {
        return monotonic_ns;
    }
    let t = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
}

/// Wall clock in ns since 1970; 0 before that. Time stamps that people and clients see.
pub fn wall_ns() -> u64 {
    #[cfg(any(test, feature = "sim"))]
    if let Some((_, wall_ns)) = simulated::now() {
        return wall_ns;
    }
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as u64)
}

#[cfg(any(test, feature = "sim"))]
mod simulated {
    use std::cell::Cell;

    thread_local! {
        static NOW: Cell<Option<(u64, u64)>> = const { Cell::new(None) };
    }

    pub(super) fn now() -> Option<(u64, u64)> {
        NOW.get()
    }

    /// From now on this thread's clocks stand at these times, until they are set anew.
    pub fn simulate(monotonic_ns: u64, wall_ns: u64) {
        NOW.set(Some((monotonic_ns, wall_ns)));
    }

    /// This thread reads the kernel's clocks again.
    pub fn real() {
        NOW.set(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: simulated time stands still, and only in the thread that asked for it.
    /// Method: set it, look twice, look from another thread, and go back.
    #[test]
    fn time_is_simulated_per_thread() {
        simulate(5, 7);
        assert_eq!((monotonic_ns(), wall_ns()), (5, 7));
        assert_eq!((monotonic_ns(), wall_ns()), (5, 7));
        let elsewhere = std::thread::spawn(monotonic_ns).join().expect("a thread that reads the clock");
        assert!(elsewhere > 5);
        real();
        assert!(monotonic_ns() > 5 && wall_ns() > 7);
    }
}
