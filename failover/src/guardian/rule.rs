//! When a virtual IP must leave this host, without sockets and kernels: what the guardian does, and what a simulation of it
//! asks. See the module `guardian` for the why.

use std::time::Duration;

use replica::planted::{Planted, planted};

/// What is known of an address. Times are CLOCK_MONOTONIC in ns.
#[derive(Clone, Copy, Debug)]
pub struct Held {
    /// It is on this host.
    pub up: bool,
    /// It has to go, but the kernel refused so far.
    pub lowering: bool,
    /// The lease in hand ends then.
    pub lease_until_ns: u64,
    /// The running server has reported a lease for it.
    pub leased_by_server: bool,
}

/// Is there somebody who can order an address down?
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PeerState {
    /// None is configured.
    None,
    /// Yes.
    Connected,
    /// Not now.
    Disconnected,
}

/// The last death of a server.
#[derive(Clone, Copy, Debug)]
pub struct Death {
    /// When.
    pub at_ns: u64,
    /// How long the peer may take to take over.
    pub handover: Duration,
    /// Whether it can.
    pub peer: PeerState,
}

/// When the address has to go, if it is up; `None`: not by itself.
pub fn deadline_ns(held: Held, death: Option<Death>) -> Option<u64> {
    // Planted: the address stays.
    if !held.up || planted(Planted::KeepAddress) {
        return None;
    }
    if held.lowering {
        return Some(0);
    }
    match death {
        Some(d) if !held.leased_by_server => match d.peer {
            PeerState::None => None,
            PeerState::Connected => {
                // Once for the peer to take over, once more for the restarted server to raise it.
                let hold = u64::try_from(d.handover.as_nanos()).unwrap_or(u64::MAX).saturating_mul(2);
                Some(held.lease_until_ns.max(d.at_ns.saturating_add(hold)))
            }
            PeerState::Disconnected => Some(held.lease_until_ns),
        },
        _ => Some(held.lease_until_ns),
    }
}
