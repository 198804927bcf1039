//! Calls that we make: to a client's lock manager, status monitor and portmapper.
//!
//! They leave from the virtual IP, because a client matches what it hears by the address that it mounted. What comes
//! back is an outsider's: bounded, and an error where it is not a reply to what was asked. Every call has an end:
//! there is no waiting without a limit here; who wants to try longer calls again.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio::time::timeout;

use super::outward::Patience;
use crate::rpc::Transport;
use crate::xdr::{Decoder, Encoder, XdrError};

/// Longest reply that is read, bytes: a status with a cookie, or a universal address.
const REPLY_MAX: usize = 4096;
/// How long to wait for a datagram's answer before it is sent again, with the same xid. The last wait ends the call.
const REPEATED: &[Duration] =
    &[Duration::from_millis(500), Duration::from_millis(1000), Duration::from_millis(2000)];
/// How long to wait for the answer to a datagram that is sent once.
const ONCE: &[Duration] = &[Duration::from_millis(2000)];
/// How long a connection may take to be made, and then an answer to come.
const CONNECT_TIME: Duration = Duration::from_secs(3);
const ANSWER_TIME: Duration = Duration::from_secs(5);

const RPC_VERSION: u32 = 2;
const CALL: u32 = 0;
const REPLY: u32 = 1;
const ACCEPTED: u32 = 0;
const SUCCESS: u32 = 0;
const AUTH_NONE: u32 = 0;
const AUTH_SYS: u32 = 1;
/// Longest verifier, bytes (RFC 5531 section 8.2).
const AUTH_BYTES_MAX: usize = 400;
const LAST_FRAGMENT: u32 = 1 << 31;

/// What to call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Procedure {
    pub program: u32,
    pub version: u32,
    pub number: u32,
}

/// Why a call has no results.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// Nobody answered in time. The other side may have done what it was asked for.
    #[error("no answer in time")]
    TimedOut,
    /// A socket said no before or after the call left.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// An answer, but not of success.
    #[error("refused: {0}")]
    Refused(&'static str),
    /// Its portmapper knows no such program.
    #[error("its portmapper knows no program {program} version {version}")]
    NotRegistered {
        /// Program.
        program: u32,
        /// Version.
        version: u32,
    },
    /// Not an answer.
    #[error("not an RPC reply: {0}")]
    Garbled(#[from] XdrError),
}

/// Makes calls from the addresses of one service.
pub(crate) struct Caller {
    sources: Vec<IpAddr>,
    xid: AtomicU32,
}

impl Caller {
    /// `sources` are the service's own addresses; for a family that is not among them the host chooses.
    pub fn new(sources: impl IntoIterator<Item = IpAddr>) -> Self {
        let sources = sources.into_iter().filter(|ip| !ip.is_unspecified()).collect();
        // Another number at each start: a client's portmapper may remember the last one's calls.
        Self { sources, xid: AtomicU32::new(replica::clock::wall_ns() as u32) }
    }

    /// The address that `client` knows this server by.
    pub fn source_for(&self, client: IpAddr) -> Option<IpAddr> {
        self.sources.iter().copied().find(|ip| ip.is_ipv4() == client.is_ipv4())
    }

    fn from(&self, client: IpAddr) -> SocketAddr {
        let any: IpAddr =
            if client.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        SocketAddr::new(self.source_for(client).unwrap_or(any), 0)
    }

    /// Calls and waits for the results: one xid, and over TCP one connection.
    pub async fn call(
        &self,
        to: SocketAddr,
        transport: Transport,
        procedure: Procedure,
        args: &Encoder,
        patience: Patience,
    ) -> Result<Bytes, CallError> {
        let xid = self.xid.fetch_add(1, Ordering::Relaxed);
        let message = message(xid, procedure, args.as_slice());
        let reply = match transport {
            Transport::Udp => self.over_udp(to, xid, &message, patience).await?,
            Transport::Tcp => self.over_tcp(to, &message).await?,
        };
        results(&reply, xid)
    }

    async fn over_udp(
        &self,
        to: SocketAddr,
        xid: u32,
        message: &[u8],
        patience: Patience,
    ) -> Result<Bytes, CallError> {
        let socket = UdpSocket::bind(self.from(to.ip())).await?;
        socket.connect(to).await?;
        let waits = if patience == Patience::Once { ONCE } else { REPEATED };
        for wait in waits {
            socket.send(message).await?;
            match timeout(*wait, datagram(&socket, xid)).await {
                Ok(reply) => return Ok(reply?),
                Err(_elapsed) => {}
            }
        }
        Err(CallError::TimedOut)
    }

    async fn over_tcp(&self, to: SocketAddr, message: &[u8]) -> Result<Bytes, CallError> {
        let from = self.from(to.ip());
        let socket = if to.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.bind(from)?;
        let connected = timeout(CONNECT_TIME, socket.connect(to)).await;
        let mut stream = connected.map_err(|_| CallError::TimedOut)??;
        let answer = async {
            stream.set_nodelay(true)?;
            stream.write_all(&record(message)).await?;
            read_record(&mut stream).await
        };
        timeout(ANSWER_TIME, answer).await.map_err(|_| CallError::TimedOut)?
    }
}

/// The next datagram that answers `xid`; others are late answers to earlier calls.
async fn datagram(socket: &UdpSocket, xid: u32) -> io::Result<Bytes> {
    let mut buf = vec![0; REPLY_MAX];
    loop {
        let len = socket.recv(&mut buf).await?;
        let reply = buf.get(..len).unwrap_or_default();
        if reply.starts_with(&xid.to_be_bytes()) {
            return Ok(Bytes::copy_from_slice(reply));
        }
    }
}

async fn read_record(stream: &mut TcpStream) -> Result<Bytes, CallError> {
    let mut reply = BytesMut::new();
    loop {
        let mark = stream.read_u32().await?;
        let len = (mark & !LAST_FRAGMENT) as usize;
        let whole = reply.len().saturating_add(len);
        if whole > REPLY_MAX || (len == 0 && mark & LAST_FRAGMENT == 0) {
            return Err(CallError::Refused("an answer longer than any that it could be"));
        }
        let start = reply.len();
        reply.resize(whole, 0);
        stream.read_exact(reply.get_mut(start..).unwrap_or_default()).await?;
        if mark & LAST_FRAGMENT != 0 {
            return Ok(reply.freeze());
        }
    }
}

/// A call message, RFC 5531 section 9, as root: some lock managers look at the credential's flavour.
fn message(xid: u32, procedure: Procedure, args: &[u8]) -> Vec<u8> {
    let mut m = Vec::with_capacity(args.len().saturating_add(80));
    for word in [xid, CALL, RPC_VERSION, procedure.program, procedure.version, procedure.number] {
        m.put_u32(word);
    }
    // Stamp, machine name "hanfs", uid, gid, no groups: 4 + (4 + 8) + 4 + 4 + 4 bytes.
    m.put_u32(AUTH_SYS);
    m.put_u32(28);
    m.put_u32(0);
    m.put_u32(5);
    m.put_slice(b"hanfs\0\0\0");
    for word in [0, 0, 0, AUTH_NONE, 0] {
        m.put_u32(word);
    }
    m.put_slice(args);
    m
}

/// One record of one fragment.
fn record(message: &[u8]) -> Vec<u8> {
    let mark = LAST_FRAGMENT | u32::try_from(message.len()).expect("a call of ours is a few KiB");
    [&mark.to_be_bytes()[..], message].concat()
}

/// The results in a reply of success.
fn results(reply: &Bytes, xid: u32) -> Result<Bytes, CallError> {
    let mut d = Decoder::new(reply);
    if d.u32()? != xid || d.u32()? != REPLY {
        return Err(CallError::Refused("an answer to another call"));
    }
    if d.u32()? != ACCEPTED {
        return Err(CallError::Refused("MSG_DENIED"));
    }
    let (_flavour, _verifier) = (d.u32()?, d.opaque(AUTH_BYTES_MAX)?);
    match d.u32()? {
        SUCCESS => Ok(d.rest()),
        1 => Err(CallError::Refused("PROG_UNAVAIL")),
        2 => Err(CallError::Refused("PROG_MISMATCH")),
        3 => Err(CallError::Refused("PROC_UNAVAIL")),
        4 => Err(CallError::Refused("GARBAGE_ARGS")),
        _ => Err(CallError::Refused("SYSTEM_ERR")),
    }
}

#[cfg(test)]
mod tests {
    //! Goal: nothing that a client answers can do more than fail the call. Method: each kind of answer, cut off at
    //! each length.

    use super::*;

    fn reply(words: &[u32]) -> Bytes {
        words.iter().flat_map(|w| w.to_be_bytes()).collect()
    }

    #[test]
    fn only_a_whole_success_has_results() {
        let good = reply(&[7, 1, 0, 0, 0, 0, 42]);
        assert_eq!(results(&good, 7).unwrap(), reply(&[42]));
        for len in 0..24 {
            assert!(results(&good.slice(..len), 7).is_err(), "{len} bytes");
        }
        assert!(results(&good, 8).is_err(), "another xid");
        assert!(results(&reply(&[7, 0, 0, 0, 0, 0]), 7).is_err(), "a call");
        assert!(results(&reply(&[7, 1, 1, 1, 1, 0]), 7).is_err(), "MSG_DENIED");
        assert!(results(&reply(&[7, 1, 0, 0, 4000, 0]), 7).is_err(), "a verifier past all bounds");
        for stat in 1..7 {
            assert!(results(&reply(&[7, 1, 0, 0, 0, stat]), 7).is_err(), "accept_stat {stat}");
        }
    }

    #[test]
    fn the_call_header_is_what_the_rfc_says() {
        let procedure = Procedure { program: 100_021, version: 4, number: 5 };
        let m = Bytes::from(message(9, procedure, &[1, 2, 3, 4]));
        let (client, server) = (([127, 0, 0, 1], 1).into(), ([127, 0, 0, 1], 2049).into());
        match crate::rpc::header::decode(&m, crate::service::Tuple { client, server }, Transport::Udp) {
            crate::rpc::header::Message::Call(call) => {
                assert_eq!((call.xid, call.program, call.version, call.procedure), (9, 100_021, 4, 5));
                assert_eq!(call.args, [1, 2, 3, 4][..]);
                assert!(matches!(call.cred, crate::rpc::Cred::AuthSys { uid: 0, gid: 0, .. }));
            }
            other => panic!("{other:?}"),
        }
    }
}
