//! A call, as a program sees it: header decoded, arguments still a slice of the record they came in.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use proto::op::CallKey;

use crate::xdr::Decoder;

/// How a call came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// A record of a connection.
    Tcp,
    /// A datagram.
    Udp,
}

/// Who asks, as the client says (RFC 5531 section 8.2 and appendix A). Not squashed yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cred {
    /// AUTH_NONE.
    AuthNone,
    /// AUTH_SYS.
    AuthSys {
        /// Any number; it may differ between retransmissions of one call.
        stamp: u32,
        /// The caller's host name, as it says.
        machine: Bytes,
        /// Effective user.
        uid: u32,
        /// Effective group.
        gid: u32,
        /// Supplementary groups, at most 16.
        gids: Vec<u32>,
    },
}

/// One RPC call.
#[derive(Clone, Debug)]
pub struct Call {
    /// The client's transaction id.
    pub xid: u32,
    /// Program number.
    pub program: u32,
    /// Its version, one that the program has.
    pub version: u32,
    /// Procedure number.
    pub procedure: u32,
    /// Who asks.
    pub cred: Cred,
    /// The arguments: a slice of the record.
    pub args: Bytes,
    /// Whom the answer goes to.
    pub client: SocketAddr,
    /// Where it came to: the virtual IP and the port.
    pub server: SocketAddr,
    /// How it came in.
    pub transport: Transport,
    /// Tells calls apart that share an xid: xxh3 of the first 256 bytes of the arguments, of their length and
    /// of the caller's uid and gid. The credential's stamp is left out: a retransmission may carry another.
    pub checksum: u64,
}

impl Call {
    /// A decoder at the first argument.
    pub fn decoder(&self) -> Decoder<'_> {
        Decoder::new(&self.args)
    }

    /// Names the call for the duplicate request cache, whatever connection or port it came from.
    pub fn key(&self) -> CallKey {
        let client = match self.client.ip().to_canonical() {
            IpAddr::V4(ip) => Bytes::copy_from_slice(&ip.octets()),
            IpAddr::V6(ip) => Bytes::copy_from_slice(&ip.octets()),
        };
        CallKey {
            client,
            xid: self.xid,
            program: self.program,
            version: self.version,
            procedure: self.procedure,
            checksum: self.checksum,
        }
    }
}
