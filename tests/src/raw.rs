//! Calls as bytes, over connections that a test holds in its hand: sent in halves, sent again, left unread, reset.
//!
//! Blocking, and with a bound on every wait: a test that hangs says where.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use nfs3_types::rpc::{RPC_VERSION_2, auth_unix, call_body, msg_body, opaque_auth, rpc_msg};
use nfs3_types::xdr_codec::{Opaque, Pack};
use socket2::{Domain, Socket, Type};

/// NFS, RFC 1813.
pub const NFS: u32 = nfs3_types::nfs3::PROGRAM;
/// MOUNT, RFC 1813 appendix I.
pub const MOUNT: u32 = 100_005;
/// Of both.
const VERSION: u32 = 3;
/// In a record mark: the last fragment (RFC 5531 section 11).
const LAST_FRAGMENT: u32 = 0x8000_0000;
/// Bytes before the results: mark, xid, REPLY, MSG_ACCEPTED, AUTH_NONE, accept_stat (RFC 5531 section 9).
pub const HEADER_BYTES: usize = 28;

/// Any value's XDR.
pub fn pack(value: &impl Pack) -> Vec<u8> {
    let mut out = Vec::new();
    value.pack(&mut out).expect("pack into memory");
    out
}

/// A call of root's, with its record mark.
pub fn call(xid: u32, prog: u32, proc: u32, args: &[u8]) -> Vec<u8> {
    let unix = auth_unix { machinename: Opaque::borrowed(b"raw"), ..auth_unix::default() };
    let (cred, verf) = (opaque_auth::auth_unix(&unix), opaque_auth::default());
    let body = msg_body::CALL(call_body { rpcvers: RPC_VERSION_2, prog, vers: VERSION, proc, cred, verf });
    let mut record = pack(&rpc_msg { xid, body });
    record.extend_from_slice(args);
    let mark = LAST_FRAGMENT | record.len() as u32;
    [mark.to_be_bytes().to_vec(), record].concat()
}

/// The status with which a reply's results begin; `None` where the call was not executed at all.
pub fn status(reply: &[u8]) -> Option<u32> {
    // REPLY, MSG_ACCEPTED, an empty verifier, SUCCESS.
    let accepted = [1_u32, 0, 0, 0, 0].map(u32::to_be_bytes).concat();
    if reply.get(8..HEADER_BYTES)? != accepted {
        return None;
    }
    let word = reply.get(HEADER_BYTES..HEADER_BYTES + 4)?;
    Some(u32::from_be_bytes(word.try_into().ok()?))
}

/// A connection.
pub struct Raw {
    stream: TcpStream,
}

impl Raw {
    /// Connects from a port that the kernel chooses, no other socket's. No wait is longer than `patience`.
    pub fn connect(server: SocketAddr, patience: Duration) -> io::Result<Self> {
        let any = match server {
            SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        Self::connect_from(SocketAddr::new(any, 0), server, patience)
    }

    /// Connects from there.
    pub fn connect_from(from: SocketAddr, server: SocketAddr, patience: Duration) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(server), Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        // A port chosen here and not by connect() is shared with nobody, so that it can be had again after a reset.
        socket.bind(&from.into())?;
        socket.connect_timeout(&server.into(), patience)?;
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        Ok(Self { stream })
    }

    /// Where it comes from.
    pub fn local(&self) -> io::Result<SocketAddr> {
        self.stream.local_addr()
    }

    /// Sends bytes: a record, or some of one.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// The next reply, with its record mark. Ours come in one fragment.
    pub fn receive(&mut self) -> io::Result<Vec<u8>> {
        let mut reply = vec![0; 4];
        self.stream.read_exact(&mut reply)?;
        let bytes = length(&reply)?;
        reply.resize(bytes, 0);
        self.stream.read_exact(&mut reply[4..])?;
        Ok(reply)
    }

    /// Sends a record and waits for the next reply.
    pub fn ask(&mut self, record: &[u8]) -> io::Result<Vec<u8>> {
        self.send(record)?;
        self.receive()
    }

    /// The next reply as it lies in the kernel, unread; waits for all of it.
    pub fn peek(&self) -> io::Result<Vec<u8>> {
        let mut seen = vec![0; 64 << 10];
        loop {
            let there = self.stream.peek(&mut seen)?;
            if there == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            let bytes = seen[..there].get(..4).map(length).transpose()?;
            if let Some(reply) = bytes.and_then(|bytes| seen[..there].get(..bytes)) {
                return Ok(reply.to_vec());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Nothing has come for so long, and it is open.
    pub fn is_silent(&self, time: Duration) -> io::Result<bool> {
        let patience = self.stream.read_timeout()?;
        self.stream.set_read_timeout(Some(time))?;
        let seen = self.stream.peek(&mut [0]);
        self.stream.set_read_timeout(patience)?;
        match seen {
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(true),
            Err(e) => Err(e),
            Ok(_) => Ok(false),
        }
    }

    /// Ends it with an RST, whatever lies unread in it. The port is free again at once.
    pub fn reset(self) -> io::Result<()> {
        socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO))
    }
}

/// Bytes of a record with its mark.
fn length(mark: &[u8]) -> io::Result<usize> {
    let mark = u32::from_be_bytes(mark.try_into().map_err(|_| ErrorKind::UnexpectedEof)?);
    if mark & LAST_FRAGMENT == 0 {
        return Err(io::Error::new(ErrorKind::InvalidData, "a reply of several fragments"));
    }
    Ok(4 + (mark & !LAST_FRAGMENT) as usize)
}
