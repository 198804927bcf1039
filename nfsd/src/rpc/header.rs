//! The call header (RFC 5531 section 9): who calls what, or why it is refused before any program sees it.

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::call::{Call, Cred, Transport};
use super::reply::{AuthStat, Responder};
use crate::service::Tuple;
use crate::xdr::{self, Decoder, XdrError};

/// Longest credential or verifier body, bytes (RFC 5531 section 8.2).
const AUTH_BYTES_MAX: usize = 400;
/// Longest machine name, bytes (RFC 5531 appendix A).
const MACHINE_NAME_MAX: usize = 255;
/// Most supplementary groups (RFC 5531 appendix A).
const GIDS_MAX: usize = 16;
/// How much of the arguments the checksum covers, bytes: enough to tell calls apart, little enough to cost
/// nothing on a large WRITE.
const CHECKSUM_BYTES: usize = 256;

const CALL: u32 = 0;
const RPC_VERSION: u32 = 2;
const AUTH_NONE: u32 = 0;
const AUTH_SYS: u32 = 1;
const AUTH_SHORT: u32 = 2;

/// Why a call is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Not RPC version 2.
    RpcMismatch,
    /// AUTH_ERROR.
    Auth(AuthStat),
}

impl Refusal {
    /// Sends it.
    pub(crate) fn answer(self, responder: Responder) {
        match self {
            Self::RpcMismatch => responder.rpc_mismatch(),
            Self::Auth(stat) => responder.auth_error(stat),
        }
    }
}

/// What a record is.
#[derive(Debug)]
pub(crate) enum Message {
    /// A call for the registry.
    Call(Call),
    /// A call to be refused.
    Refused {
        /// Its transaction id.
        xid: u32,
        /// Why.
        why: Refusal,
    },
    /// Nothing that can be answered: a reply, or too short to be a call. A stream that carries it is out of
    /// step: close it. A datagram is ignored (answering replies would make two servers talk for ever).
    NotACall,
}

/// Decodes the header of one record.
pub(crate) fn decode(record: &Bytes, tuple: Tuple, transport: Transport) -> Message {
    let mut d = Decoder::new(record);
    match start(&mut d) {
        Ok((xid, RPC_VERSION)) => match body(&mut d, xid, tuple, transport) {
            Ok(Ok(call)) => Message::Call(call),
            Ok(Err(stat)) => Message::Refused { xid, why: Refusal::Auth(stat) },
            Err(_) => Message::NotACall,
        },
        Ok((xid, _)) => Message::Refused { xid, why: Refusal::RpcMismatch },
        Err(_) => Message::NotACall,
    }
}

/// xid and RPC version of a call.
fn start(d: &mut Decoder<'_>) -> xdr::Result<(u32, u32)> {
    let xid = d.u32()?;
    match d.u32()? {
        CALL => Ok((xid, d.u32()?)),
        other => Err(XdrError::BadValue(other)),
    }
}

/// The rest of a call of RPC version 2. The inner error is for the client, the outer one for nobody.
fn body(
    d: &mut Decoder<'_>,
    xid: u32,
    tuple: Tuple,
    transport: Transport,
) -> xdr::Result<Result<Call, AuthStat>> {
    let (program, version, procedure) = (d.u32()?, d.u32()?, d.u32()?);
    let flavour = d.u32()?;
    let Ok(credential) = d.opaque(AUTH_BYTES_MAX) else { return Ok(Err(AuthStat::BadCred)) };
    let cred = match flavour {
        AUTH_NONE => Cred::AuthNone,
        AUTH_SYS => match auth_sys(&credential) {
            Ok(cred) => cred,
            Err(_) => return Ok(Err(AuthStat::BadCred)),
        },
        // A shorthand stands for a credential that this server has never shortened: the client sends the whole one.
        AUTH_SHORT => return Ok(Err(AuthStat::RejectedCred)),
        // RPCSEC_GSS among them, also where it begins a context with procedure NULL.
        _ => return Ok(Err(AuthStat::TooWeak)),
    };
    // With either credential the verifier is AUTH_NONE (RFC 5531 section 8.2 and appendix A); Linux refuses others too.
    if !matches!((d.u32(), d.opaque(AUTH_BYTES_MAX)), (Ok(AUTH_NONE), Ok(_))) {
        return Ok(Err(AuthStat::BadVerf));
    }
    let args = d.rest();
    let checksum = checksum(&args, &cred);
    let Tuple { client, server } = tuple;
    Ok(Ok(Call { xid, program, version, procedure, cred, args, client, server, transport, checksum }))
}

/// authsys_parms, RFC 5531 appendix A.
fn auth_sys(credential: &Bytes) -> xdr::Result<Cred> {
    let mut d = Decoder::new(credential);
    let stamp = d.u32()?;
    let machine = d.opaque(MACHINE_NAME_MAX)?;
    let (uid, gid) = (d.u32()?, d.u32()?);
    let count = d.length(GIDS_MAX)?;
    let gids = (0..count).map(|_| d.u32()).collect::<xdr::Result<_>>()?;
    Ok(Cred::AuthSys { stamp, machine, uid, gid, gids })
}

/// See [`Call::checksum`].
fn checksum(args: &Bytes, cred: &Cred) -> u64 {
    let who = match cred {
        Cred::AuthNone => u64::MAX,
        Cred::AuthSys { uid, gid, .. } => u64::from(*uid) << 32 | u64::from(*gid),
    };
    let seed = who.rotate_left(17) ^ args.len() as u64;
    xxh3_64_with_seed(args.get(..CHECKSUM_BYTES).unwrap_or(args), seed)
}

#[cfg(test)]
#[path = "header_tests.rs"]
mod tests;
