//! The machine's edge: virtual IPs (VIPs), listening sockets, announcements and tickles.
//!
//! [`Vip`] is the one trait, with two drivers: [`netlink::NetlinkVip`] puts addresses on an interface and needs
//! CAP_NET_ADMIN and CAP_NET_RAW; [`loopback::LoopbackVip`] leaves the host's addresses alone, for a demo and
//! tests without root. Which sockets exist when is the guardian's business and depends on [`Vip::floats`].
//! Nothing in here decides anything.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};

pub mod carrier;
mod leftover;
pub mod listen;
pub mod loopback;
pub mod netlink;
pub mod packet;
mod raw;
pub mod withdraw;

/// Transport protocol of a served port.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// A port to serve on each VIP.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Port {
    /// Port number.
    pub number: u16,
    /// Its protocol.
    pub transport: Transport,
    /// Another server of this host may have it: then this port, with either protocol, is done without.
    pub optional: bool,
}

impl Port {
    /// A TCP port.
    pub const fn tcp(number: u16) -> Self {
        Self { number, transport: Transport::Tcp, optional: false }
    }

    /// A UDP port.
    pub const fn udp(number: u16) -> Self {
        Self { number, transport: Transport::Udp, optional: false }
    }
}

impl Port {
    /// The same, where it may be done without.
    #[must_use]
    pub const fn optional(self) -> Self {
        Self { optional: true, ..self }
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.transport {
            Transport::Tcp => "tcp",
            Transport::Udp => "udp",
        };
        write!(f, "{}/{name}", self.number)
    }
}

/// A client's TCP connection to a VIP, without the VIP: what a tickle needs.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Tuple {
    /// The client's address and port.
    pub client: SocketAddr,
    /// The port on the VIP.
    pub server_port: u16,
}

/// What went wrong at the edge; each says what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum VipError {
    /// No interface for the address.
    #[error("no interface for {vip}: none has a subnet that contains it; name one in the configuration")]
    NoInterface {
        /// The address.
        vip: IpAddr,
    },
    /// The configured interface does not exist.
    #[error(
        "interface {name:?} for {vip} does not exist on this host; correct its name in the configuration"
    )]
    UnknownInterface {
        /// The address.
        vip: IpAddr,
        /// As configured.
        name: String,
    },
    /// The kernel refused a change of addresses.
    #[error("{verb} {vip}: {text} (CAP_NET_ADMIN is needed)")]
    Netlink {
        /// "add", "delete", "list addresses for".
        verb: &'static str,
        /// The address.
        vip: IpAddr,
        /// The kernel's words.
        text: String,
    },
    /// A raw socket failed.
    #[error("{what}: {source} (CAP_NET_RAW is needed)")]
    Raw {
        /// What was tried.
        what: &'static str,
        /// The system's error.
        source: io::Error,
    },
    /// The VIP driver has no such address.
    #[error("{vip} is not configured")]
    Unconfigured {
        /// The address.
        vip: IpAddr,
    },
}

/// Virtual IPs of this host. One owner, one thread; calls return in well under the lease.
#[allow(async_fn_in_trait, reason = "the guardian is single-threaded and generic over its driver")]
pub trait Vip {
    /// True: an address comes and goes with [`Self::add`] and [`Self::delete`], so listeners may be bound long
    /// before and outlive it. False: the address is always there, so only the listeners' existence tells
    /// which node serves.
    fn floats(&self) -> bool;

    /// There is one more address to be asked for from now on; `None`: on the interface whose subnet contains it.
    fn configure(&mut self, vip: IpAddr, interface: Option<String>);

    /// The address, off this host by now, is nobody's any more.
    fn unconfigure(&mut self, vip: IpAddr);

    /// Removes what an earlier process left behind; returns what was found.
    async fn clear_stale(&mut self) -> Result<Vec<IpAddr>, VipError>;

    /// Destroys connections that an earlier life of the address left in this kernel; says how many. While the address is not on
    /// this host, before [`Self::add`].
    async fn forget(&mut self, vip: IpAddr) -> Result<usize, VipError>;

    /// Puts the address on this host, or renews it: the kernel takes it away by itself some seconds after the
    /// last call.
    async fn add(&mut self, vip: IpAddr) -> Result<(), VipError>;

    /// Takes the address off this host; true if it was there. Connections are left as they are: without
    /// the address nothing of theirs reaches the network.
    async fn delete(&mut self, vip: IpAddr) -> Result<bool, VipError>;

    /// Tells the segment where the address is now: gratuitous ARP in both forms (RFC 5227 section 3, RFC 5944
    /// section 4.6), or an unsolicited neighbour advertisement (RFC 4861 section 7.2.6).
    async fn announce(&mut self, vip: IpAddr) -> Result<(), VipError>;

    /// Sends each client a SYN|ACK that makes it find out at once that its connection is gone; returns how
    /// many were sent.
    async fn tickle(&mut self, vip: IpAddr, tuples: &[Tuple]) -> Result<usize, VipError>;
}
