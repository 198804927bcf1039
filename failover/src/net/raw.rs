//! Raw sockets: whole Ethernet frames out of an interface, whole IP packets to an address. The guardian opens
//! them when it starts, so that a missing capability shows then and not in a takeover.

use std::io;
use std::mem::{size_of, zeroed};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::packet::Mac;

/// Sends Ethernet frames.
#[derive(Debug)]
pub(super) struct FrameSocket {
    socket: Socket,
}

impl FrameSocket {
    /// Protocol 0: it receives nothing.
    pub(super) fn open() -> io::Result<Self> {
        let socket = Socket::new(Domain::PACKET, Type::RAW, None)?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket })
    }

    /// Sends a whole frame out of an interface.
    pub(super) fn send(&self, interface: u32, destination: Mac, frame: &[u8]) -> io::Result<()> {
        // SAFETY: sockaddr_ll is plain old data; all zero is a valid value.
        let mut to: libc::sockaddr_ll = unsafe { zeroed() };
        to.sll_family = libc::AF_PACKET as u16;
        to.sll_ifindex = i32::try_from(interface).map_err(io::Error::other)?;
        to.sll_halen = 6;
        to.sll_addr[..6].copy_from_slice(&destination);
        // SAFETY: the descriptor is open for the call, both pointers are valid for the lengths given, and the
        // kernel only reads through them.
        let sent = unsafe {
            libc::sendto(
                self.socket.as_raw_fd(),
                frame.as_ptr().cast(),
                frame.len(),
                0,
                (&raw const to).cast(),
                size_of::<libc::sockaddr_ll>() as u32,
            )
        };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

/// Sends IP packets with their headers (IPPROTO_RAW implies IP_HDRINCL, raw(7)).
#[derive(Debug)]
pub(super) struct PacketSocket {
    v4: Socket,
    /// `None` on a host without IPv6.
    v6: Option<Socket>,
}

impl PacketSocket {
    pub(super) fn open() -> io::Result<Self> {
        let raw = Protocol::from(libc::IPPROTO_RAW);
        let v4 = Socket::new(Domain::IPV4, Type::RAW, Some(raw))?;
        v4.set_nonblocking(true)?;
        let v6 = Socket::new(Domain::IPV6, Type::RAW, Some(raw)).ok();
        if let Some(v6) = &v6 {
            v6.set_nonblocking(true)?;
        }
        Ok(Self { v4, v6 })
    }

    pub(super) fn send(&self, destination: IpAddr, packet: &[u8]) -> io::Result<()> {
        // The port of a raw destination is a protocol number or, as here, nothing.
        let to = SockAddr::from(SocketAddr::new(destination, 0));
        let socket = match destination {
            IpAddr::V4(_) => &self.v4,
            IpAddr::V6(_) => self.v6.as_ref().ok_or(io::ErrorKind::Unsupported)?,
        };
        socket.send_to(packet, &to).map(drop)
    }
}
