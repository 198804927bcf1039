//! What the guardian and its server say to each other over an inherited Unix seqpacket socketpair.
//!
//! Both are the same binary, so there is no version. One datagram is one message; integers are big-endian:
//!
//! ```text
//! to the guardian                          to the server
//! 1 Lease   | export 16 | until_ns 8       1 Raised  | export 16 | tcp 1 | udp 1   + tcp+udp descriptors
//! 2 Raise   | export 16 | tuple 20 ...     2 Refused | export 16 | text ...
//! 3 Drop    | export 16 | reset 1          3 Dropped | export 16
//! 4 Tickle  | export 16 | tuple 20 ...     4 Released| export 16
//! 5 Stopping| (16 zeros)                   5 VipLost | export 16 | text ...
//! 6 Exports | (16 zeros) | entry ...       6 Exports | (16 zeros) | text ...
//! 7 Says    | (16 zeros) | text ...         7 Reload  | (16 zeros)
//!
//! tuple: client address 16 (IPv4 mapped) | client port 2 | server port 2
//! entry: export 16 | virtual IP 16 (IPv4 mapped) | bytes of the name 1 | name of the interface; none: default
//! ```
//!
//! Descriptors travel by SCM_RIGHTS, the TCP listeners first. A message that does not decode means that the
//! two are not the same program; the receiver gives up on the other.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use replica::ids::ExportId;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};
use tokio::io::unix::AsyncFd;

use crate::guardian::GuardianExport;
use crate::net::Tuple;

/// Exports in one list: 64 are what a configuration may have, each takes 288 bytes at most.
pub const EXPORTS_MAX: usize = 128;
/// Longest name of an interface that is passed on, in bytes; Linux has 15 (IFNAMSIZ).
const INTERFACE_BYTES_MAX: usize = 255;
/// Tuples in one message: 40 KiB, well below a socket buffer. More travel as several messages.
pub const TUPLES_PER_MESSAGE_MAX: usize = 2048;
/// Largest message in bytes: the tuples and some room.
const MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// Descriptors in one message; the kernel's own limit is 253 (SCM_MAX_FD).
pub const FDS_MAX: usize = 32;
/// Longest text, in bytes: an error in a sentence.
const TEXT_BYTES_MAX: usize = 4096;
const TUPLE_LEN: usize = 20;
const HEAD_LEN: usize = 17;
/// In messages that are about no export.
const NO_EXPORT: ExportId = ExportId([0; 16]);

const _: () = assert!(TUPLES_PER_MESSAGE_MAX * TUPLE_LEN + HEAD_LEN <= MESSAGE_BYTES_MAX);
const _: () = assert!(EXPORTS_MAX * (33 + INTERFACE_BYTES_MAX) + HEAD_LEN <= MESSAGE_BYTES_MAX);

/// Server to guardian.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToGuardian {
    /// The export may be served until then (CLOCK_MONOTONIC); replaces what was said before.
    Lease { export: ExportId, until_ns: u64 },
    /// Raise the VIP, announce it, tickle these, and pass the listeners.
    Raise { export: ExportId, tuples: Vec<Tuple> },
    /// Take the VIP down; with `reset`, reset what nobody accepted yet while it is still there.
    Drop { export: ExportId, reset: bool },
    /// Announce again and tickle these.
    Tickle { export: ExportId, tuples: Vec<Tuple> },
    /// The server ends of its own accord and cleanly.
    Stopping,
    /// The server is about to end, and this is why: the peer is to know.
    Says { text: String },
    /// Every export that there is from now on; replaces what the guardian knew.
    Exports { exports: Vec<GuardianExport> },
}

/// Guardian to server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToServer {
    /// The VIP is up; so many descriptors of each kind come with this.
    Raised { export: ExportId, tcp: u8, udp: u8 },
    /// The VIP could not be raised.
    Refused { export: ExportId, text: String },
    /// The VIP is down, as asked.
    Dropped { export: ExportId },
    /// The VIP is down on the peer's order: close the export's connections silently.
    Released { export: ExportId },
    /// The VIP is down because the lease ran out, or the address was lost: the same.
    VipLost { export: ExportId, text: String },
    /// The list of exports was taken over; what failed, in sentences, or nothing.
    Exports { text: String },
    /// An administrator asked this process to read the configuration anew.
    Reload,
}

fn head(kind: u8, export: &ExportId) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    out.push(kind);
    out.extend_from_slice(&export.0);
    out
}

fn put_tuples(mut out: Vec<u8>, tuples: &[Tuple]) -> Vec<u8> {
    for t in tuples.iter().take(TUPLES_PER_MESSAGE_MAX) {
        out.extend_from_slice(&mapped(t.client.ip()));
        out.extend_from_slice(&t.client.port().to_be_bytes());
        out.extend_from_slice(&t.server_port.to_be_bytes());
    }
    out
}

fn get_tuples(body: &[u8]) -> Option<Vec<Tuple>> {
    let tuples = body.chunks_exact(TUPLE_LEN);
    if !tuples.remainder().is_empty() {
        return None;
    }
    tuples
        .map(|t| {
            let (ip, ports) = t.split_first_chunk::<16>()?;
            let (client, server) = ports.split_first_chunk::<2>()?;
            let ip = IpAddr::V6(Ipv6Addr::from(*ip)).to_canonical();
            Some(Tuple {
                client: SocketAddr::new(ip, u16::from_be_bytes(*client)),
                server_port: u16::from_be_bytes(server.try_into().ok()?),
            })
        })
        .collect()
}

pub(crate) fn mapped(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(a) => a.to_ipv6_mapped().octets(),
        IpAddr::V6(a) => a.octets(),
    }
}

fn put_exports(mut out: Vec<u8>, exports: &[GuardianExport]) -> Vec<u8> {
    for export in exports.iter().take(EXPORTS_MAX) {
        out.extend_from_slice(&export.id.0);
        out.extend_from_slice(&mapped(export.vip));
        let name = export.interface.as_deref().unwrap_or_default().as_bytes();
        let name = name.get(..name.len().min(INTERFACE_BYTES_MAX)).unwrap_or_default();
        out.push(u8::try_from(name.len()).unwrap_or_default());
        out.extend_from_slice(name);
    }
    out
}

fn get_exports(mut body: &[u8]) -> Option<Vec<GuardianExport>> {
    let mut exports = Vec::new();
    while !body.is_empty() {
        let (id, rest) = body.split_first_chunk::<16>()?;
        let (vip, rest) = rest.split_first_chunk::<16>()?;
        let (len, rest) = rest.split_first()?;
        let (name, rest) = rest.split_at_checked(usize::from(*len))?;
        exports.push(GuardianExport {
            id: ExportId(*id),
            vip: IpAddr::V6(Ipv6Addr::from(*vip)).to_canonical(),
            interface: (!name.is_empty()).then(|| String::from_utf8_lossy(name).into_owned()),
        });
        body = rest;
    }
    (exports.len() <= EXPORTS_MAX).then_some(exports)
}

fn put_text(mut out: Vec<u8>, text: &str) -> Vec<u8> {
    let mut end = text.len().min(TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    out.extend_from_slice(text.as_bytes().get(..end).unwrap_or_default());
    out
}

fn split(message: &[u8]) -> Option<(u8, ExportId, &[u8])> {
    let (kind, rest) = message.split_first()?;
    let (export, body) = rest.split_first_chunk::<16>()?;
    Some((*kind, ExportId(*export), body))
}

impl ToGuardian {
    /// The message's bytes.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Lease { export, until_ns } => {
                let mut out = head(1, export);
                out.extend_from_slice(&until_ns.to_be_bytes());
                out
            }
            Self::Raise { export, tuples } => put_tuples(head(2, export), tuples),
            Self::Drop { export, reset } => {
                let mut out = head(3, export);
                out.push(u8::from(*reset));
                out
            }
            Self::Tickle { export, tuples } => put_tuples(head(4, export), tuples),
            Self::Stopping => head(5, &NO_EXPORT),
            Self::Says { text } => put_text(head(7, &NO_EXPORT), text),
            Self::Exports { exports } => put_exports(head(6, &NO_EXPORT), exports),
        }
    }

    /// `None`: not a message of ours.
    pub fn decode(message: &[u8]) -> Option<Self> {
        let (kind, export, body) = split(message)?;
        Some(match kind {
            1 => Self::Lease { export, until_ns: u64::from_be_bytes(body.try_into().ok()?) },
            2 => Self::Raise { export, tuples: get_tuples(body)? },
            3 => Self::Drop { export, reset: *body.first()? != 0 },
            4 => Self::Tickle { export, tuples: get_tuples(body)? },
            5 => Self::Stopping,
            6 => Self::Exports { exports: get_exports(body)? },
            7 => Self::Says { text: String::from_utf8_lossy(body).into_owned() },
            _ => return None,
        })
    }
}

impl ToServer {
    /// The message's bytes.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Raised { export, tcp, udp } => {
                let mut out = head(1, export);
                out.extend_from_slice(&[*tcp, *udp]);
                out
            }
            Self::Refused { export, text } => put_text(head(2, export), text),
            Self::Dropped { export } => head(3, export),
            Self::Released { export } => head(4, export),
            Self::VipLost { export, text } => put_text(head(5, export), text),
            Self::Exports { text } => put_text(head(6, &NO_EXPORT), text),
            Self::Reload => head(7, &NO_EXPORT),
        }
    }

    /// `None`: not a message of ours.
    pub fn decode(message: &[u8]) -> Option<Self> {
        let (kind, export, body) = split(message)?;
        let text = || String::from_utf8_lossy(body).into_owned();
        Some(match kind {
            1 => {
                let [tcp, udp] = *body else { return None };
                Self::Raised { export, tcp, udp }
            }
            2 => Self::Refused { export, text: text() },
            3 => Self::Dropped { export },
            4 => Self::Released { export },
            5 => Self::VipLost { export, text: text() },
            6 => Self::Exports { text: text() },
            7 => Self::Reload,
            _ => return None,
        })
    }
}

/// One end of the socketpair, on a tokio runtime.
#[derive(Debug)]
pub struct Channel {
    fd: AsyncFd<OwnedFd>,
}

impl Channel {
    /// Takes a seqpacket socket; must be called within a tokio runtime.
    pub fn new(fd: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&fd, true)?;
        // SAFETY: the descriptor is owned by the `AsyncFd` from here on, and closed only after it.
        let fd = unsafe { AsyncFd::register(fd)? };
        Ok(Self { fd })
    }

    /// Sends without waiting; `WouldBlock` where the other end does not read.
    pub fn try_send(&self, message: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        send_now(self.fd.get_ref().as_fd(), message, fds)
    }

    /// Sends, waiting for room.
    pub async fn send(&self, message: &[u8]) -> io::Result<()> {
        loop {
            let mut ready = self.fd.writable().await?;
            if let Ok(done) = ready.try_io(|fd| send_now(fd.as_fd(), message, &[])) {
                return done;
            }
        }
    }

    /// The next message and its descriptors; `None` when the other end is gone. Cancel-safe.
    pub async fn recv(&self) -> io::Result<Option<(Vec<u8>, Vec<OwnedFd>)>> {
        loop {
            let mut ready = self.fd.readable().await?;
            if let Ok(done) = ready.try_io(|fd| recv(fd.as_fd(), RecvFlags::DONTWAIT)) {
                return match done {
                    Ok((bytes, _)) if bytes.is_empty() => Ok(None),
                    Err(e) if e.kind() == io::ErrorKind::ConnectionReset => Ok(None),
                    other => other.map(Some),
                };
            }
        }
    }
}

/// Sends one message without waiting.
pub(crate) fn send_now(fd: BorrowedFd<'_>, message: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many descriptors for one message"));
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    rustix::net::sendmsg(fd, &[IoSlice::new(message)], &mut control, flags)?;
    Ok(())
}

/// One message and its descriptors, closed at exec; no bytes: the other end is gone.
pub(crate) fn recv(fd: BorrowedFd<'_>, flags: RecvFlags) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let mut buf = vec![0; MESSAGE_BYTES_MAX];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = flags | RecvFlags::CMSG_CLOEXEC;
    let got = rustix::net::recvmsg(fd, &mut [IoSliceMut::new(&mut buf)], &mut control, flags)?;
    let fds = control
        .drain()
        .filter_map(|m| match m {
            RecvAncillaryMessage::ScmRights(fds) => Some(fds),
            _ => None,
        })
        .flatten()
        .collect();
    buf.truncate(got.bytes);
    Ok((buf, fds))
}

#[cfg(test)]
mod tests {
    //! Goal: server and guardian never misunderstand each other about who serves what.
    //! Method: every message there and back; every cut of it refused; descriptors through a real socketpair.
    use super::*;

    fn tuple(text: &str, server_port: u16) -> Tuple {
        Tuple { client: text.parse().unwrap(), server_port }
    }

    #[test]
    fn messages_survive_the_way_and_cut_ones_do_not_decode() {
        let export = ExportId([7; 16]);
        let tuples = vec![tuple("10.0.0.7:800", 2049), tuple("[fd00::7]:801", 111)];
        let export_of = |vip: &str, interface: Option<&str>| GuardianExport {
            id: export,
            vip: vip.parse().unwrap(),
            interface: interface.map(str::to_owned),
        };
        let exports = vec![export_of("10.0.0.7", None), export_of("fd00::7", Some("eth0"))];
        let all = [
            ToGuardian::Lease { export, until_ns: u64::MAX - 1 },
            ToGuardian::Raise { export, tuples: tuples.clone() },
            ToGuardian::Drop { export, reset: true },
            ToGuardian::Tickle { export, tuples },
            ToGuardian::Stopping,
            ToGuardian::Says { text: "the log failed".into() },
            ToGuardian::Exports { exports: exports.clone() },
        ];
        for message in all {
            let bytes = message.encode();
            assert_eq!(ToGuardian::decode(&bytes), Some(message.clone()));
            for cut in 0..bytes.len() {
                assert_ne!(ToGuardian::decode(&bytes[..cut]), Some(message.clone()), "cut at {cut}");
            }
        }
        let all = [
            ToServer::Raised { export, tcp: 2, udp: 1 },
            ToServer::Refused { export, text: "no interface".into() },
            ToServer::Dropped { export },
            ToServer::Released { export },
            ToServer::VipLost { export, text: String::new() },
            ToServer::Exports { text: "no interface".into() },
            ToServer::Reload,
        ];
        for message in all {
            assert_eq!(ToServer::decode(&message.encode()), Some(message));
        }
        assert_eq!(ToServer::decode(&[9; 17]), None);
    }

    #[tokio::test]
    async fn descriptors_arrive_open_and_the_end_is_noticed() {
        use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
        let kind = SocketType::SEQPACKET;
        let (a, b) = socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).unwrap();
        let (a, b) = (Channel::new(a).unwrap(), Channel::new(b).unwrap());
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        a.try_send(b"x", &[listener.as_fd()]).unwrap();
        drop(listener);
        let (bytes, mut fds) = b.recv().await.unwrap().unwrap();
        assert_eq!(bytes, b"x");
        let passed = std::net::TcpListener::from(fds.pop().unwrap());
        assert_eq!(passed.local_addr().unwrap(), address);
        drop(a);
        assert!(b.recv().await.unwrap().is_none());
    }
}
