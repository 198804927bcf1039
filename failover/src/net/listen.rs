//! Listening sockets on a VIP.
//!
//! Bound with IP_FREEBIND, so that they can exist before the address does: from the instant the address is
//! there, a SYN is answered by the kernel. A refused SYN would cost a Linux client 3 s.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use rustix::net::SocketAddrAny;
use socket2::{Domain, Socket, Type};

use super::{Port, Transport, Tuple};

/// Connections the kernel holds ready per listener. All clients of an export reconnect within milliseconds of a
/// takeover; the kernel caps this at net.core.somaxconn.
const BACKLOG: i32 = 4096;

/// A listening socket could not be made.
#[derive(Debug, thiserror::Error)]
#[error(
    "listen on {address} ({port}): {source}; is another server (the kernel's nfsd?) on that port, or is it privileged?"
)]
pub struct ListenError {
    /// Where.
    pub address: SocketAddr,
    /// Which port.
    pub port: Port,
    /// The system's error.
    pub source: io::Error,
}

/// The sockets of one export.
#[derive(Debug, Default)]
pub struct Listeners {
    /// One per TCP port, in the configuration's order; non-blocking.
    pub tcp: Vec<TcpListener>,
    /// One per UDP port, in the configuration's order; non-blocking.
    pub udp: Vec<UdpSocket>,
}

impl Listeners {
    /// Binds every port to the VIP, listening. An optional port that another server has is left out, with both
    /// protocols: else one client would meet us there and the next one the other server.
    pub fn open(vip: IpAddr, ports: &[Port]) -> Result<Self, ListenError> {
        let mut all = Self::default();
        all.complete(vip, ports)?;
        Ok(all)
    }

    /// Tries again for what is missing: the other server may have gone.
    pub fn complete(&mut self, vip: IpAddr, ports: &[Port]) -> Result<(), ListenError> {
        let mut numbers: Vec<u16> = ports.iter().map(|p| p.number).collect();
        numbers.dedup();
        for number in numbers {
            // Port 0, in tests, is another one each time.
            if number != 0 && self.has(number) {
                continue;
            }
            let same = ports.iter().filter(|p| p.number == number);
            match Self::bind_all(vip, same) {
                Ok(some) => {
                    self.tcp.extend(some.tcp);
                    self.udp.extend(some.udp);
                }
                Err(error) if error.port.optional && error.source.kind() == io::ErrorKind::AddrInUse => {
                    let (address, port) = (error.address, error.port);
                    tracing::info!(%address, %port, "another server of this host has this port");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn has(&self, number: u16) -> bool {
        let tcp = self.tcp.iter().map(TcpListener::local_addr);
        let mut all = tcp.chain(self.udp.iter().map(UdpSocket::local_addr)).flatten();
        all.any(|address| address.port() == number)
    }

    fn bind_all<'a>(vip: IpAddr, ports: impl Iterator<Item = &'a Port>) -> Result<Self, ListenError> {
        let mut all = Self::default();
        for port in ports {
            let address = SocketAddr::new(vip, port.number);
            let socket = bind(address, port.transport).map_err(|source| ListenError {
                address,
                port: *port,
                source,
            })?;
            match port.transport {
                Transport::Tcp => all.tcp.push(socket.into()),
                Transport::Udp => all.udp.push(socket.into()),
            }
        }
        Ok(all)
    }

    /// All of them, TCP first, to be passed on.
    pub fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        self.tcp.iter().map(AsFd::as_fd).chain(self.udp.iter().map(AsFd::as_fd)).collect()
    }

    /// Ends these sockets for every process that shares them, also a stopped one. Linux stops listening at
    /// shutdown(2); a UDP socket is connected to the discard port, so that it takes nobody else's datagrams.
    pub fn unbind(self) {
        for listener in &self.tcp {
            let _ = rustix::net::shutdown(listener, rustix::net::Shutdown::Both);
        }
        for socket in &self.udp {
            if let Ok(address) = socket.local_addr() {
                let _ = socket.connect(SocketAddr::new(address.ip(), 9));
            }
        }
    }

    /// Accepts and resets whatever waits to be accepted; says whose connections these were. With the address off
    /// this host nobody hears of it.
    pub fn sweep(&self) -> Vec<Tuple> {
        let mut swept = Vec::new();
        for listener in &self.tcp {
            let server_port = listener.local_addr().map_or(0, |a| a.port());
            while let Ok((stream, client)) = listener.accept() {
                reset(stream);
                swept.push(Tuple { client, server_port });
            }
        }
        swept
    }
}

/// Closes a connection with RST instead of FIN: nothing of it stays behind in this kernel. Where the address has
/// left this host the RST does not reach the network, so the client does not notice.
pub fn reset(stream: TcpStream) {
    reset_when_closed(&stream);
}

/// However this connection's end comes about, also by SIGKILL, it is an RST and not a FIN: after a FIN the client closes its own
/// end, and where it does so while the address moves its calls sleep for 3 s.
pub fn reset_when_closed(stream: &TcpStream) {
    let _ = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

fn bind(address: SocketAddr, transport: Transport) -> io::Result<Socket> {
    let kind = match transport {
        Transport::Tcp => Type::STREAM,
        Transport::Udp => Type::DGRAM,
    };
    let socket = Socket::new(Domain::for_address(address), kind, None)?;
    socket.set_reuse_address(true)?;
    match address {
        SocketAddr::V4(_) => socket.set_freebind_v4(true)?,
        SocketAddr::V6(_) => {
            socket.set_only_v6(true)?;
            socket.set_freebind_v6(true)?;
        }
    }
    socket.set_nonblocking(true)?;
    rustix::net::bind(&socket, &SocketAddrAny::from(address))?;
    if transport == Transport::Tcp {
        socket.listen(BACKLOG)?;
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    //! Goal: a takeover never meets a refused SYN or a port that is still taken.
    //! Method: real sockets on loopback and on an address this host does not have.
    use super::*;

    #[test]
    fn binds_an_address_that_is_not_there_yet() {
        let ports = [Port::tcp(0), Port::udp(0)];
        let listeners = Listeners::open("192.0.2.77".parse().unwrap(), &ports).unwrap();
        assert_eq!((listeners.tcp.len(), listeners.udp.len()), (1, 1));
    }

    /// Port 2049 must be ours, port 111 may be rpcbind's: the other server stands for both here.
    #[test]
    fn an_optional_port_that_is_taken_is_left_out_until_it_is_free() {
        let other = TcpListener::bind("0.0.0.0:0").unwrap();
        let taken = other.local_addr().unwrap().port();
        let vip: IpAddr = "127.0.0.78".parse().unwrap();
        let needed = [Port::tcp(0), Port::tcp(taken), Port::udp(taken)];
        let error = Listeners::open(vip, &needed).unwrap_err();
        assert_eq!((error.port, error.source.kind()), (Port::tcp(taken), io::ErrorKind::AddrInUse));
        let wanted = [Port::tcp(taken).optional(), Port::udp(taken).optional()];
        let mut listeners = Listeners::open(vip, &wanted).unwrap();
        assert_eq!((listeners.tcp.len(), listeners.udp.len()), (0, 0), "UDP is ours while TCP is not");
        drop(other);
        listeners.complete(vip, &wanted).unwrap();
        listeners.complete(vip, &wanted).unwrap();
        assert_eq!((listeners.tcp.len(), listeners.udp.len()), (1, 1));
    }

    /// Without V6ONLY the wildcard of IPv6 would take the ports of IPv4 too, and clients would come as mapped addresses.
    #[test]
    fn an_ipv6_vip_has_its_own_ports_and_its_own_family() {
        let Ok(ours) = Listeners::open("::1".parse().unwrap(), &[Port::tcp(0), Port::udp(0)]) else {
            return; // This host has no IPv6.
        };
        let address = ours.tcp[0].local_addr().unwrap();
        assert!(socket2::SockRef::from(&ours.tcp[0]).only_v6().unwrap());
        Listeners::open("127.0.0.1".parse().unwrap(), &[Port::tcp(address.port())]).unwrap();
        let client = TcpStream::connect(address).unwrap();
        ours.tcp[0].set_nonblocking(false).unwrap();
        assert_eq!(ours.tcp[0].accept().unwrap().1, client.local_addr().unwrap());
    }

    /// The copy stands for a stopped process that cannot close its own.
    #[test]
    fn unbind_frees_the_ports_although_another_holds_copies() {
        let vip: IpAddr = "127.0.0.77".parse().unwrap();
        let first = Listeners::open(vip, &[Port::tcp(0), Port::udp(0)]).unwrap();
        let tcp = first.tcp[0].local_addr().unwrap();
        let udp = first.udp[0].local_addr().unwrap();
        let _copies = (first.tcp[0].try_clone().unwrap(), first.udp[0].try_clone().unwrap());
        let ports = [Port::tcp(tcp.port()), Port::udp(udp.port())];
        let taken = Listeners::open(vip, &ports[..1]).unwrap_err();
        assert_eq!(taken.source.kind(), io::ErrorKind::AddrInUse);
        first.unbind();
        let second = Listeners::open(vip, &ports).unwrap();
        TcpStream::connect(tcp).unwrap();
        second.tcp[0].set_nonblocking(false).unwrap();
        second.tcp[0].accept().unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        sender.send_to(b"x", udp).unwrap();
        second.udp[0].set_nonblocking(false).unwrap();
        second.udp[0].set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut buf = [0; 4];
        assert_eq!(second.udp[0].recv(&mut buf).unwrap(), 1);
    }
}
