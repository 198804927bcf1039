//! Portmapper version 2 (RFC 1833 section 3, program 100000): where the other programs are. The table is plain
//! data; nobody can change it over the network.

use std::sync::Arc;

use crate::rpc::{Call, Program, ReplyBody, Responder};
use crate::xdr::{self, Encoder};

/// Program number, RFC 1833 section 3.1.
pub const PROGRAM: u32 = 100_000;
/// The version that is served. Versions 3 and 4 (rpcbind) are answered with PROG_MISMATCH, after which clients
/// fall back to 2.
pub const VERSION: u32 = 2;
/// The port that clients ask, RFC 1833 section 3.1.
pub const PORT: u16 = 111;

const PROC_NULL: u32 = 0;
const PROC_SET: u32 = 1;
const PROC_UNSET: u32 = 2;
const PROC_GETPORT: u32 = 3;
const PROC_DUMP: u32 = 4;

/// IPPROTO_TCP and IPPROTO_UDP, RFC 1833 section 3.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Protocol {
    /// TCP.
    Tcp = 6,
    /// UDP.
    Udp = 17,
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

/// The portmapper.
pub struct Portmap {
    table: Vec<Mapping>,
}

impl Portmap {
    /// Answers from this table.
    pub fn new(table: Vec<Mapping>) -> Arc<Self> {
        Arc::new(Self { table })
    }

    /// PMAPPROC_GETPORT: the port of exactly this program, version and transport; 0: none. (A client that asks
    /// for a version that is not there gets no other version's port: it would only meet PROG_MISMATCH.)
    fn getport(&self, call: &Call) -> xdr::Result<Encoder> {
        let mut d = call.decoder();
        let (program, version, protocol, _port) = (d.u32()?, d.u32()?, d.u32()?, d.u32()?);
        let wanted =
            |m: &&Mapping| m.program == program && m.version == version && m.protocol as u32 == protocol;
        let port = self.table.iter().find(wanted).map_or(0, |m| m.port);
        let mut reply = Encoder::new();
        reply.u32(port.into());
        Ok(reply)
    }

    /// PMAPPROC_DUMP: the whole table.
    fn dump(&self) -> Encoder {
        let mut reply = Encoder::new();
        for m in &self.table {
            reply.bool(true).u32(m.program).u32(m.version).u32(m.protocol as u32).u32(m.port.into());
        }
        reply.bool(false);
        reply
    }
}

impl Program for Portmap {
    fn call(&self, call: Call, responder: Responder) {
        let reply = match call.procedure {
            PROC_NULL => Ok(Encoder::new()),
            PROC_SET | PROC_UNSET => {
                let mut refused = Encoder::new();
                refused.bool(false);
                Ok(refused)
            }
            PROC_GETPORT => self.getport(&call),
            PROC_DUMP => Ok(self.dump()),
            // PMAPPROC_CALLIT among them: it would make this server call others for anybody.
            _ => return responder.proc_unavail(),
        };
        match reply {
            Ok(reply) => responder.accept(ReplyBody::from(reply)),
            Err(_) => responder.garbage_args(),
        }
    }
}
