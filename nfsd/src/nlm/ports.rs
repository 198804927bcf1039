//! Where a client's programs are: asked of its portmapper (RFC 1833) and remembered until a call there fails.
//!
//! IPv4 is asked with portmapper version 2, which every client has; IPv6, of which version 2 knows nothing, with
//! rpcbind version 4, then 3.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use parking_lot::Mutex;

use super::caller::{CallError, Caller, Procedure};
use super::outward::Patience;
use crate::rpc::Transport;
use crate::rpcbind;
use crate::xdr::{Decoder, Encoder};

/// Ports remembered. When there are more, all are forgotten: it costs each client one more question.
const PORTS_MAX: usize = 4096;
/// PMAPPROC_GETPORT and RPCBPROC_GETADDR, RFC 1833: the same number.
const GETPORT: u32 = 3;
/// Longest universal address that is read, bytes.
const UADDR_MAX: usize = 128;

/// A program of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Service {
    pub client: IpAddr,
    pub program: u32,
    pub version: u32,
    pub transport: Transport,
}

/// Asks and remembers.
pub(crate) struct Ports {
    /// Where clients' portmappers are: 111, other than in tests.
    portmap_port: u16,
    known: Mutex<HashMap<Service, u16>>,
}

impl Ports {
    pub fn new(portmap_port: u16) -> Self {
        Self { portmap_port, known: Mutex::default() }
    }

    /// A call there failed: ask again next time.
    pub fn forget(&self, service: &Service) {
        self.known.lock().remove(service);
    }

    /// Where it is.
    pub async fn find(&self, caller: &Caller, service: Service) -> Result<SocketAddr, CallError> {
        let known = self.known.lock().get(&service).copied();
        if let Some(port) = known {
            return Ok(SocketAddr::new(service.client, port));
        }
        let port = self.ask(caller, service).await?;
        let mut known = self.known.lock();
        if known.len() >= PORTS_MAX {
            known.clear();
        }
        known.insert(service, port);
        Ok(SocketAddr::new(service.client, port))
    }

    /// Over UDP first, which costs the client one datagram; a client that answers none there is asked over TCP.
    async fn ask(&self, caller: &Caller, service: Service) -> Result<u16, CallError> {
        let to = SocketAddr::new(service.client, self.portmap_port);
        let over_udp = self.ask_over(caller, to, Transport::Udp, service).await;
        let port = match over_udp {
            Err(CallError::TimedOut | CallError::Io(_)) => {
                self.ask_over(caller, to, Transport::Tcp, service).await?
            }
            answered => answered?,
        };
        let (program, version) = (service.program, service.version);
        u16::try_from(port)
            .ok()
            .filter(|port| *port != 0)
            .ok_or(CallError::NotRegistered { program, version })
    }

    async fn ask_over(
        &self,
        caller: &Caller,
        to: SocketAddr,
        transport: Transport,
        service: Service,
    ) -> Result<u32, CallError> {
        if to.is_ipv4() {
            let args = getport(service);
            let results = caller.call(to, transport, ask_portmap(2), &args, Patience::Repeat).await?;
            return Ok(Decoder::new(&results).u32()?);
        }
        let args = getaddr(service, to);
        let ask = |version| caller.call(to, transport, ask_portmap(version), &args, Patience::Repeat);
        let results = match ask(4).await {
            Err(CallError::Refused(_)) => ask(3).await?,
            answered => answered?,
        };
        let uaddr = Decoder::new(&results).string(UADDR_MAX)?;
        Ok(port_of(&uaddr))
    }
}

fn ask_portmap(version: u32) -> Procedure {
    Procedure { program: rpcbind::PROGRAM, version, number: GETPORT }
}

/// A `mapping`, RFC 1833 section 3.1.
fn getport(service: Service) -> Encoder {
    let protocol = match service.transport {
        Transport::Tcp => rpcbind::Protocol::Tcp,
        Transport::Udp => rpcbind::Protocol::Udp,
    };
    let mut args = Encoder::with_capacity(16);
    args.u32(service.program).u32(service.version).u32(protocol as u32).u32(0);
    args
}

/// An `rpcb`, RFC 1833 section 2.1: the address says by which of its own the client is to answer.
fn getaddr(service: Service, to: SocketAddr) -> Encoder {
    let netid: &[u8] = match service.transport {
        Transport::Tcp => b"tcp6",
        Transport::Udp => b"udp6",
    };
    let uaddr = format!("{}.{}.{}", to.ip(), to.port() >> 8, to.port() & 0xff);
    let mut args = Encoder::with_capacity(96);
    args.u32(service.program).u32(service.version).opaque(netid).opaque(uaddr.as_bytes()).opaque(b"");
    args
}

/// The port in a universal address: its last two numbers. 0 where there is none, as an empty address says.
fn port_of(uaddr: &[u8]) -> u32 {
    let mut parts = uaddr.rsplit(|b| *b == b'.');
    let mut byte = || std::str::from_utf8(parts.next()?).ok()?.parse::<u8>().ok();
    match (byte(), byte()) {
        (Some(low), Some(high)) => u32::from(high) << 8 | u32::from(low),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    //! Goal: a port is read from a universal address or not at all. Method: the forms of RFC 1833 and damage.

    use super::*;

    #[test]
    fn universal_addresses() {
        assert_eq!(port_of(b"fe80::1.8.1"), 2049);
        assert_eq!(port_of(b"::.0.111"), 111);
        assert_eq!(port_of(b"10.0.0.1.3.255"), 1023);
        for bad in [&b""[..], b"1", b"::1.300.1", b"::1.1.x", b"\xff.\xfe.\xfd", b"..."] {
            assert_eq!(port_of(bad), 0, "{bad:?}");
        }
    }
}
