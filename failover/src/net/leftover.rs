//! TCP connections of a virtual IP that an earlier life of it left in this kernel.
//!
//! A server that is killed while its address is elsewhere, or its network cut, leaves half-closed sockets that
//! the kernel keeps for minutes. When the address comes back, such a socket and not a listener is what a client's
//! connection from the same port meets: it swallows the answer to the tickle, and the client waits for 60 s and more. So
//! they are destroyed before the address is added (sock_diag(7), SOCK_DESTROY; CONFIG_INET_DIAG_DESTROY).

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

const NETLINK_SOCK_DIAG: i32 = 4;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 0x001;
const NLM_F_ACK: u16 = 0x004;
const NLM_F_DUMP: u16 = 0x300;
/// struct nlmsghdr.
const HEADER_BYTES: usize = 16;
/// struct inet_diag_sockid: ports, addresses, interface, cookie.
const ID_BYTES: usize = 48;
/// Where it is in struct inet_diag_msg.
const ID_OFFSET: usize = 4;
/// Every state but LISTEN (10).
const STATES: u32 = 0x1fff & !(1 << 10);
/// The kernel answers at once; a takeover does not wait for longer than this.
const PATIENCE: Duration = Duration::from_millis(100);

/// Destroys every connection whose local address is `vip`; returns how many. Only while `vip` is on no interface
/// of this host, so that nobody hears of it.
pub(super) fn destroy(vip: IpAddr) -> io::Result<usize> {
    let socket =
        Socket::new(Domain::from(libc::AF_NETLINK), Type::DGRAM, Some(Protocol::from(NETLINK_SOCK_DIAG)))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let ids = find(&socket, vip)?;
    for id in &ids {
        socket.send(&request(SOCK_DESTROY, NLM_F_REQUEST | NLM_F_ACK, vip, id))?;
        // The answer says whether it was still there; either way it is not now.
        receive(&socket)?;
    }
    Ok(ids.len())
}

/// The kernel's ids of the sockets.
fn find(socket: &Socket, vip: IpAddr) -> io::Result<Vec<[u8; ID_BYTES]>> {
    socket.send(&request(SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST | NLM_F_DUMP, vip, &[0; ID_BYTES]))?;
    let mut found = Vec::new();
    loop {
        let answer = receive(socket)?;
        let mut rest = &answer[..];
        while let Some((kind, body, next)) = message(rest) {
            match kind {
                NLMSG_DONE | NLMSG_ERROR => return Ok(found),
                _ => {
                    let id = body.get(ID_OFFSET..ID_OFFSET + ID_BYTES).and_then(|id| id.try_into().ok());
                    found.extend(id.filter(|id| is_local(id, vip)));
                }
            }
            rest = next;
        }
    }
}

/// Type and body of the first message, and what follows it.
fn message(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let len = usize::try_from(u32::from_ne_bytes(bytes.get(0..4)?.try_into().ok()?)).ok()?;
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    let body = bytes.get(HEADER_BYTES..len)?;
    Some((kind, body, bytes.get(len.next_multiple_of(4)..).unwrap_or_default()))
}

/// Is the socket's source address, bytes 4 to 20 of its id, this one?
fn is_local(id: &[u8; ID_BYTES], vip: IpAddr) -> bool {
    match vip {
        IpAddr::V4(vip) => id[4..8] == vip.octets(),
        IpAddr::V6(vip) => id[4..20] == vip.octets(),
    }
}

/// nlmsghdr and inet_diag_req_v2.
fn request(kind: u16, flags: u16, vip: IpAddr, id: &[u8; ID_BYTES]) -> Vec<u8> {
    let family = if vip.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let mut out = Vec::with_capacity(HEADER_BYTES + 8 + ID_BYTES);
    out.extend(((HEADER_BYTES + 8 + ID_BYTES) as u32).to_ne_bytes());
    out.extend(kind.to_ne_bytes());
    out.extend(flags.to_ne_bytes());
    out.extend([0; 8]);
    out.extend([family as u8, libc::IPPROTO_TCP as u8, 0, 0]);
    out.extend(STATES.to_ne_bytes());
    out.extend(id);
    out
}

fn receive(socket: &Socket) -> io::Result<Vec<u8>> {
    // One page more than the kernel ever puts into one answer (NLMSG_GOODSIZE).
    let mut bytes = Vec::with_capacity(32 << 10);
    socket.recv(bytes.spare_capacity_mut()).map(|n| {
        // SAFETY: the kernel has filled the first `n` bytes.
        unsafe { bytes.set_len(n) };
        bytes
    })
}
