//! The program itself: RFC 1833 section 2 (versions 3 and 4) and section 3 (version 2).

use std::net::SocketAddr;
use std::sync::Arc;

use super::uaddr;
use crate::rpc::{Call, Program, ReplyBody, Responder, Transport, Versions};
use crate::xdr::{self, Decoder, Encoder};

/// Program number, RFC 1833 section 3.1.
pub const PROGRAM: u32 = 100_000;
/// The portmapper (2) and rpcbind (3, 4).
pub const VERSIONS: Versions = PMAPVERS..=RPCBVERS4;
/// The port that clients ask, RFC 1833 section 3.1.
pub const PORT: u16 = 111;

const PMAPVERS: u32 = 2;
const RPCBVERS4: u32 = 4;

/// Longest network id, universal address or owner that is read, bytes. The RFC sets no bound; real ones have less
/// than 64.
const STRING_MAX: usize = 256;
/// Longest `sockaddr` that is read, bytes: `sockaddr_storage`.
const SOCKADDR_MAX: usize = 128;
/// Who registered what is in the table. rpcbind says the same of what root registered.
const OWNER: &str = "superuser";

const PROC_NULL: u32 = 0;
const PROC_SET: u32 = 1;
const PROC_UNSET: u32 = 2;
/// GETPORT in version 2, GETADDR from version 3 on.
const PROC_GET: u32 = 3;
const PROC_DUMP: u32 = 4;
/// CALLIT in versions 2 and 3, BCAST in version 4.
const PROC_CALLIT: u32 = 5;
const PROC_GETTIME: u32 = 6;
const PROC_UADDR2TADDR: u32 = 7;
const PROC_TADDR2UADDR: u32 = 8;
const PROC_GETVERSADDR: u32 = 9;
const PROC_GETADDRLIST: u32 = 11;

/// IPPROTO_TCP and IPPROTO_UDP, RFC 1833 section 3.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Protocol {
    /// TCP.
    Tcp = 6,
    /// UDP.
    Udp = 17,
}

impl Protocol {
    /// The network id for an address of this family: `tcp`, `udp`, `tcp6`, `udp6` (RFC 5665 section 5.1).
    pub fn netid(self, ipv6: bool) -> &'static str {
        match (self, ipv6) {
            (Self::Tcp, false) => "tcp",
            (Self::Udp, false) => "udp",
            (Self::Tcp, true) => "tcp6",
            (Self::Udp, true) => "udp6",
        }
    }

    /// `r_nc_semantics`, RFC 1833 section 2.1: NC_TPI_COTS_ORD or NC_TPI_CLTS.
    fn semantics(self) -> u32 {
        match self {
            Self::Tcp => 3,
            Self::Udp => 1,
        }
    }
}

impl From<Transport> for Protocol {
    fn from(transport: Transport) -> Self {
        match transport {
            Transport::Tcp => Self::Tcp,
            Transport::Udp => Self::Udp,
        }
    }
}

/// One line of the table: a `mapping`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// Program number.
    pub program: u32,
    /// Version.
    pub version: u32,
    /// Transport.
    pub protocol: Protocol,
    /// Where.
    pub port: u16,
}

/// The program.
pub struct Rpcbind {
    table: Vec<Mapping>,
}

/// What an `rpcb` asks for. Its address and owner matter only to SET and UNSET; its network id is ignored, as RFC
/// 1833 section 2.2.1 says of GETADDR: the transport that brought the call counts.
struct Wanted {
    program: u32,
    version: u32,
}

impl Wanted {
    fn decode(d: &mut Decoder<'_>) -> xdr::Result<Self> {
        let wanted = Self { program: d.u32()?, version: d.u32()? };
        for _netid_address_owner in 0..3 {
            d.opaque(STRING_MAX)?;
        }
        Ok(wanted)
    }
}

impl Rpcbind {
    /// Answers from this table.
    pub fn new(table: Vec<Mapping>) -> Arc<Self> {
        Arc::new(Self { table })
    }

    /// The port of a program: of this version or, where there is none, of another one. The RFC leaves that open; it
    /// is what rpcbind does and what `rpcinfo` builds on: the program itself then says which versions it has.
    fn port(&self, program: u32, version: u32, protocol: Protocol) -> Option<u16> {
        let any = || self.table.iter().filter(move |m| m.program == program && m.protocol == protocol);
        any().find(|m| m.version == version).or_else(|| any().next()).map(|m| m.port)
    }

    /// PMAPPROC_GETPORT: 0: none.
    fn getport(&self, call: &Call) -> xdr::Result<Encoder> {
        let mut d = call.decoder();
        let (program, version, protocol, _port) = (d.u32()?, d.u32()?, d.u32()?, d.u32()?);
        let protocol = [Protocol::Tcp, Protocol::Udp].into_iter().find(|p| *p as u32 == protocol);
        let port = protocol.and_then(|protocol| self.port(program, version, protocol)).unwrap_or(0);
        let mut reply = Encoder::new();
        reply.u32(port.into());
        Ok(reply)
    }

    /// PMAPPROC_DUMP: the whole table.
    fn dump_v2(&self) -> Encoder {
        let mut reply = Encoder::new();
        for m in &self.table {
            reply.bool(true).u32(m.program).u32(m.version).u32(m.protocol as u32).u32(m.port.into());
        }
        reply.bool(false);
        reply
    }

    /// RPCBPROC_DUMP: the same, at the address that the caller used.
    fn dump(&self, call: &Call) -> Encoder {
        let mut reply = Encoder::with_capacity(1024);
        for m in &self.table {
            reply.bool(true).u32(m.program).u32(m.version);
            reply.opaque(m.protocol.netid(call.server.is_ipv6()).as_bytes());
            reply.opaque(at(call, m.port).as_bytes()).opaque(OWNER.as_bytes());
        }
        reply.bool(false);
        reply
    }

    /// RPCBPROC_GETADDR; empty: none.
    fn getaddr(&self, call: &Call) -> xdr::Result<Encoder> {
        let wanted = Wanted::decode(&mut call.decoder())?;
        let port = self.port(wanted.program, wanted.version, call.transport.into());
        Ok(string(&port.map(|port| at(call, port)).unwrap_or_default()))
    }

    /// RPCBPROC_GETVERSADDR: the same, of exactly this version.
    fn getversaddr(&self, call: &Call) -> xdr::Result<Encoder> {
        let wanted = Wanted::decode(&mut call.decoder())?;
        let protocol = Protocol::from(call.transport);
        let found = self.exact(&wanted).find(|m| m.protocol == protocol);
        Ok(string(&found.map(|m| at(call, m.port)).unwrap_or_default()))
    }

    /// RPCBPROC_GETADDRLIST: every transport of exactly this version.
    fn getaddrlist(&self, call: &Call) -> xdr::Result<Encoder> {
        let wanted = Wanted::decode(&mut call.decoder())?;
        let ipv6 = call.server.is_ipv6();
        let mut reply = Encoder::new();
        for m in self.exact(&wanted) {
            reply.bool(true).opaque(at(call, m.port).as_bytes());
            reply.opaque(m.protocol.netid(ipv6).as_bytes()).u32(m.protocol.semantics());
            reply.opaque(if ipv6 { b"inet6" } else { b"inet" });
            reply.opaque(m.protocol.netid(false).as_bytes());
        }
        reply.bool(false);
        Ok(reply)
    }

    fn exact(&self, wanted: &Wanted) -> impl Iterator<Item = &Mapping> {
        self.table.iter().filter(move |m| (m.program, m.version) == (wanted.program, wanted.version))
    }
}

/// A port at the virtual IP that the caller used: the only address of ours that it is sure to reach.
fn at(call: &Call, port: u16) -> String {
    uaddr::format(SocketAddr::new(call.server.ip(), port))
}

fn string(text: &str) -> Encoder {
    let mut reply = Encoder::new();
    reply.opaque(text.as_bytes());
    reply
}

/// SET and UNSET: the answer is always no.
fn refused() -> Encoder {
    let mut reply = Encoder::new();
    reply.bool(false);
    reply
}

/// RPCBPROC_GETTIME: seconds since 1970, as 32 bits.
fn gettime() -> Encoder {
    let seconds = replica::clock::wall_ns() / 1_000_000_000;
    let mut reply = Encoder::new();
    reply.u32(u32::try_from(seconds).unwrap_or(u32::MAX));
    reply
}

/// RPCBPROC_UADDR2TADDR: a `netbuf`, empty where it is no address.
fn uaddr2taddr(call: &Call) -> xdr::Result<Encoder> {
    let text = call.decoder().opaque(STRING_MAX)?;
    let address = std::str::from_utf8(&text).ok().and_then(uaddr::parse);
    let raw = address.map(uaddr::to_sockaddr).unwrap_or_default();
    let mut reply = Encoder::new();
    reply.u32(u32::try_from(raw.len()).unwrap_or_default()).opaque(&raw);
    Ok(reply)
}

/// RPCBPROC_TADDR2UADDR: empty where it is no address.
fn taddr2uaddr(call: &Call) -> xdr::Result<Encoder> {
    let mut d = call.decoder();
    let _room = d.u32()?;
    let address = uaddr::from_sockaddr(&d.opaque(SOCKADDR_MAX)?);
    Ok(string(&address.map(uaddr::format).unwrap_or_default()))
}

impl Program for Rpcbind {
    fn call(&self, call: Call, responder: Responder) {
        let v2 = call.version == PMAPVERS;
        let v4 = call.version == RPCBVERS4;
        let reply = match call.procedure {
            PROC_NULL => Ok(Encoder::new()),
            PROC_SET | PROC_UNSET => Ok(refused()),
            PROC_GET if v2 => self.getport(&call),
            PROC_GET => self.getaddr(&call),
            PROC_DUMP if v2 => Ok(self.dump_v2()),
            PROC_DUMP => Ok(self.dump(&call)),
            // It would make this server call others for anybody. A call that fails is not answered (RFC 1833 sections
            // 2.2.1 and 3.2), for it may have been a broadcast.
            PROC_CALLIT if call.transport == Transport::Udp => return responder.close(),
            PROC_GETTIME if !v2 => Ok(gettime()),
            PROC_UADDR2TADDR if !v2 => uaddr2taddr(&call),
            PROC_TADDR2UADDR if !v2 => taddr2uaddr(&call),
            PROC_GETVERSADDR if v4 => self.getversaddr(&call),
            PROC_GETADDRLIST if v4 => self.getaddrlist(&call),
            // CALLIT over TCP and INDIRECT (10), as above; GETSTAT (12), for nobody counts.
            _ => return responder.proc_unavail(),
        };
        match reply {
            Ok(reply) => responder.accept(ReplyBody::from(reply)),
            Err(_) => responder.garbage_args(),
        }
    }
}
