//! One export as the guardian sees it: its VIP, its sockets, its lease, its parked connections.

use std::net::{IpAddr, TcpStream};

use replica::ids::ExportId;

use super::config::GuardianExport;
use super::rule::{self, Death, Held};
use crate::net::listen::{ListenError, Listeners, reset};
use crate::net::{Port, Tuple};

/// See the module. Times are CLOCK_MONOTONIC in ns.
#[derive(Debug)]
pub(super) struct Export {
    pub(super) id: ExportId,
    pub(super) vip: IpAddr,
    /// As configured.
    pub(super) interface: Option<String>,
    /// The VIP is on this host, as far as this process knows.
    pub(super) up: bool,
    /// The lease in hand ends then.
    pub(super) lease_until_ns: u64,
    /// The running server has reported a lease for it.
    pub(super) leased_by_server: bool,
    /// Open while the VIP floats, else while it is up.
    pub(super) listeners: Option<Listeners>,
    pub(super) parked: Vec<(Tuple, TcpStream)>,
    /// The peer has ordered the VIP away, and it is to go then.
    pub(super) release_at_ns: Option<u64>,
    /// The VIP went on the peer's order while no server was here, and the peer does not hold it yet.
    pub(super) awaits_taken: bool,
    /// It has to go, but the kernel refused so far: tried again, not renewed.
    pub(super) lowering: bool,
    /// The kernel refused the last so many renewals.
    pub(super) renewals_failed: u32,
}

impl Export {
    pub(super) fn new(config: &GuardianExport) -> Self {
        Self {
            id: config.id,
            vip: config.vip,
            interface: config.interface.clone(),
            up: false,
            lease_until_ns: 0,
            leased_by_server: false,
            listeners: None,
            parked: Vec::new(),
            release_at_ns: None,
            awaits_taken: false,
            lowering: false,
            renewals_failed: 0,
        }
    }

    /// Is this what the configuration says?
    pub(super) fn is(&self, config: &GuardianExport) -> bool {
        (self.id, self.vip, &self.interface) == (config.id, config.vip, &config.interface)
    }

    /// Opens the sockets that are not open, or could not be opened last time.
    pub(super) fn open(&mut self, ports: &[Port]) -> Result<(), ListenError> {
        match &mut self.listeners {
            Some(listeners) => listeners.complete(self.vip, ports),
            None => {
                self.listeners = Some(Listeners::open(self.vip, ports)?);
                Ok(())
            }
        }
    }

    /// Resets parked connections. With the address off this host that is silent; with it up, each client
    /// reconnects at once.
    pub(super) fn reset_parked(&mut self) {
        for (_, stream) in self.parked.drain(..) {
            reset(stream);
        }
    }

    /// Resets also what the kernel holds ready. Only for an address that is off this host, or about to be.
    /// Says whose connections those were.
    pub(super) fn sweep(&mut self) -> Vec<Tuple> {
        self.reset_parked();
        self.listeners.as_ref().map(Listeners::sweep).unwrap_or_default()
    }

    /// When the VIP has to go, if it is up; `None`: not by itself.
    pub(super) fn deadline_ns(&self, death: Option<Death>) -> Option<u64> {
        let Self { up, lowering, lease_until_ns, leased_by_server, .. } = *self;
        rule::deadline_ns(Held { up, lowering, lease_until_ns, leased_by_server }, death)
    }
}

#[cfg(test)]
mod tests {
    //! Goal: a VIP never stays where nobody may serve and nobody can order it away, and never goes where that
    //! would cost a client for nothing.
    //! Method: the rule as a table.
    use std::time::Duration;

    use super::super::rule::PeerState;
    use super::*;

    #[test]
    fn when_a_vip_has_to_go() {
        let mut e = Export::new(&GuardianExport {
            id: ExportId([1; 16]),
            vip: IpAddr::from([127, 0, 0, 9]),
            interface: None,
        });
        let death = |peer| Some(Death { at_ns: 1000, handover: Duration::from_nanos(300), peer });
        e.lease_until_ns = 1100;
        assert_eq!(e.deadline_ns(None), None, "not up");
        e.up = true;
        e.leased_by_server = true;
        assert_eq!(e.deadline_ns(None), Some(1100));
        assert_eq!(e.deadline_ns(death(PeerState::Connected)), Some(1100), "a living server's lease rules");
        e.leased_by_server = false;
        assert_eq!(e.deadline_ns(death(PeerState::Connected)), Some(1600));
        assert_eq!(e.deadline_ns(death(PeerState::Disconnected)), Some(1100));
        assert_eq!(e.deadline_ns(death(PeerState::None)), None);
        e.lowering = true;
        assert_eq!(e.deadline_ns(death(PeerState::None)), Some(0), "what has to go is tried again at once");
    }
}
