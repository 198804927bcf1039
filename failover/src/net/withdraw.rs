//! Taking addresses off this host with nothing but one socket and one buffer, both there from the start.
//!
//! This is the sentinel's way (see [`crate::sentinel`]): blocking, without a runtime, and without anything that could be missing
//! when it is needed. rtnetlink(7): RTM_GETADDR lists every address of the host, RTM_DELADDR removes one.

use std::io::{self, Read as _, Write as _};
use std::net::IpAddr;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

const NETLINK_ROUTE: i32 = 0;
const RTM_DELADDR: u16 = 21;
const RTM_GETADDR: u16 = 22;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 0x001;
const NLM_F_ACK: u16 = 0x004;
const NLM_F_DUMP: u16 = 0x300;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
/// struct nlmsghdr.
const HEADER_BYTES: usize = 16;
/// struct ifaddrmsg: family, prefix length, flags, scope, index of the interface.
const ADDRESS_BYTES: usize = 8;
/// struct rtattr: length, type.
const ATTRIBUTE_BYTES: usize = 4;
/// Larger than any answer of the kernel's (NLMSG_GOODSIZE and a page).
const ANSWER_BYTES: usize = 32 << 10;
/// The kernel answers at once. A request that waits for longer than this is given up and made again.
const PATIENCE: Duration = Duration::from_millis(500);

/// What deletes addresses.
#[derive(Debug)]
pub struct Withdraw {
    socket: Socket,
    answer: Box<[u8; ANSWER_BYTES]>,
    seq: u32,
}

/// An address of the host: family, length of its prefix and interface as the kernel says them, and itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Address {
    head: [u8; ADDRESS_BYTES],
    ip: IpAddr,
}

impl Withdraw {
    /// Opens the socket. Deleting needs CAP_NET_ADMIN, this does not.
    pub fn open() -> io::Result<Self> {
        let socket =
            Socket::new(Domain::from(libc::AF_NETLINK), Type::DGRAM, Some(Protocol::from(NETLINK_ROUTE)))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { socket, answer: Box::new([0; ANSWER_BYTES]), seq: 0 })
    }

    /// Takes each of these off every interface that has it; returns how many there were. One that is on none is no
    /// error. Where one fails the others are still tried, and the first error is returned.
    pub fn withdraw(&mut self, vips: &[IpAddr]) -> io::Result<usize> {
        let mut removed = 0;
        let mut failed = None;
        for address in self.list(vips)? {
            match self.delete(&address) {
                Ok(()) => removed += 1,
                // It expired, or another process was faster.
                Err(e) if e.raw_os_error() == Some(libc::EADDRNOTAVAIL) => {}
                Err(e) => failed = failed.or(Some(e)),
            }
        }
        failed.map_or(Ok(removed), Err)
    }

    fn list(&mut self, wanted: &[IpAddr]) -> io::Result<Vec<Address>> {
        self.ask(RTM_GETADDR, NLM_F_REQUEST | NLM_F_DUMP, &[0; ADDRESS_BYTES])?;
        let mut found = Vec::with_capacity(wanted.len());
        loop {
            let len = self.receive()?;
            let mut rest = self.answer.get(..len).unwrap_or_default();
            while let Some((head, body, next)) = message(rest) {
                // What belongs to a request that was given up is skipped.
                if head.seq == self.seq {
                    match head.kind {
                        NLMSG_DONE => return Ok(found),
                        NLMSG_ERROR => return Err(error(body).unwrap_or_else(cut)),
                        _ => found.extend(address(body).filter(|a| wanted.contains(&a.ip))),
                    }
                }
                rest = next;
            }
        }
    }

    fn delete(&mut self, address: &Address) -> io::Result<()> {
        let mut body = Vec::with_capacity(ADDRESS_BYTES + 2 * (ATTRIBUTE_BYTES + 16));
        body.extend(address.head);
        match address.ip {
            IpAddr::V4(ip) => attribute(&mut body, IFA_LOCAL, &ip.octets()),
            IpAddr::V6(ip) => attribute(&mut body, IFA_ADDRESS, &ip.octets()),
        }
        self.ask(RTM_DELADDR, NLM_F_REQUEST | NLM_F_ACK, &body)?;
        loop {
            let len = self.receive()?;
            let answer = self.answer.get(..len).unwrap_or_default();
            if let Some((head, body, _)) = message(answer)
                && head.seq == self.seq
            {
                return error(body).map_or(Ok(()), Err);
            }
        }
    }

    fn ask(&mut self, kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
        self.seq = self.seq.wrapping_add(1);
        let len = u32::try_from(HEADER_BYTES.saturating_add(body.len())).map_err(|_| cut())?;
        let mut out = Vec::with_capacity(64);
        out.extend(len.to_ne_bytes());
        out.extend(kind.to_ne_bytes());
        out.extend(flags.to_ne_bytes());
        out.extend(self.seq.to_ne_bytes());
        out.extend([0; 4]);
        out.extend(body);
        (&self.socket).write(&out).map(drop)
    }

    fn receive(&mut self) -> io::Result<usize> {
        loop {
            match (&self.socket).read(&mut self.answer[..]) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                done => return done,
            }
        }
    }
}

/// What of struct nlmsghdr matters.
#[derive(Clone, Copy)]
struct Head {
    kind: u16,
    seq: u32,
}

/// The first message, its body, and what follows it.
fn message(bytes: &[u8]) -> Option<(Head, &[u8], &[u8])> {
    let len = usize::try_from(u32::from_ne_bytes(bytes.get(0..4)?.try_into().ok()?)).ok()?;
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    let seq = u32::from_ne_bytes(bytes.get(8..12)?.try_into().ok()?);
    let body = bytes.get(HEADER_BYTES..len)?;
    Some((Head { kind, seq }, body, bytes.get(len.next_multiple_of(4)..).unwrap_or_default()))
}

/// The error in an NLMSG_ERROR; `None`: it is an acknowledgement.
fn error(body: &[u8]) -> Option<io::Error> {
    let code = body.first_chunk().map(|code| i32::from_ne_bytes(*code));
    match code {
        Some(0) => None,
        Some(code) => Some(io::Error::from_raw_os_error(code.saturating_neg())),
        None => Some(cut()),
    }
}

fn cut() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the kernel's answer makes no sense")
}

/// An address message: struct ifaddrmsg and its attributes. IFA_LOCAL is the host's own address where there is one; on
/// point-to-point links IFA_ADDRESS is the other end's.
fn address(body: &[u8]) -> Option<Address> {
    let (head, mut rest) = body.split_first_chunk::<ADDRESS_BYTES>()?;
    let mut found = None;
    while let (Some(len), Some(kind)) = (u16_at(rest, 0), u16_at(rest, 2)) {
        let len = usize::from(len);
        let Some(value) = rest.get(ATTRIBUTE_BYTES..len) else { break };
        match (kind, ip(value)) {
            (IFA_LOCAL, Some(ip)) => return Some(Address { head: *head, ip }),
            (IFA_ADDRESS, Some(ip)) => found = Some(Address { head: *head, ip }),
            _ => {}
        }
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|b| u16::from_ne_bytes(*b))
}

fn ip(value: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(value)
        .map(IpAddr::from)
        .or_else(|_| <[u8; 16]>::try_from(value).map(IpAddr::from))
        .ok()
}

fn attribute(out: &mut Vec<u8>, kind: u16, value: &[u8]) {
    // 4 or 16 bytes: no padding.
    out.extend((ATTRIBUTE_BYTES.saturating_add(value.len()) as u16).to_ne_bytes());
    out.extend(kind.to_ne_bytes());
    out.extend(value);
}

#[cfg(test)]
mod tests {
    //! Goal: exactly the host's own addresses are found in what the kernel says. (Deleting them is in `tests/netns.rs`.)
    //! Method: the real kernel's list, and messages that are cut anywhere.
    use super::*;

    #[test]
    fn the_kernel_lists_the_loopback_address_and_nothing_that_was_not_asked_for() {
        let mut kernel = Withdraw::open().unwrap();
        let here: IpAddr = "127.0.0.1".parse().unwrap();
        let nowhere: IpAddr = "192.0.2.77".parse().unwrap();
        let Ok(found) = kernel.list(&[here, nowhere]) else { panic!("no list") };
        assert!(found.iter().all(|a| a.ip == here), "{found:?}");
        assert_eq!(kernel.withdraw(&[nowhere]).unwrap(), 0, "what is not there is no error");
    }

    #[test]
    fn the_own_end_counts_and_cut_messages_do_no_harm() {
        let mut body = vec![2, 32, 0, 0, 7, 0, 0, 0];
        attribute(&mut body, IFA_ADDRESS, &[10, 0, 0, 1]);
        attribute(&mut body, IFA_LOCAL, &[10, 0, 0, 2]);
        let whole = address(&body).unwrap();
        assert_eq!((whole.ip, whole.head), ("10.0.0.2".parse().unwrap(), [2, 32, 0, 0, 7, 0, 0, 0]));
        for cut in 0..body.len() {
            let other = address(&body[..cut]);
            assert_ne!(other, Some(whole), "cut at {cut}");
        }
        let endless = [&body[..ADDRESS_BYTES], &[0, 0, 1, 0]].concat();
        assert_eq!(address(&endless), None, "an attribute of no length ends the search");
    }
}
