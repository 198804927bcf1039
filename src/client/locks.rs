//! NLM version 4 (X/Open XNFS, chapter 14) as far as it takes to hold one lock and to see that it is held.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use nfs3_client::RpcError;
use nfs3_client::nfs3_types::nfs3::nfs_fh3;
use nfs3_client::nfs3_types::rpc::opaque_auth;
use nfs3_client::nfs3_types::xdr_codec::{Opaque, Pack, Unpack};
use nfs3_client::rpc::RpcClient;

use super::retry::{Patience, RetryIo, Stats};
use super::session::{Target, credential};

const PROGRAM: u32 = 100_021;
const VERSION: u32 = 4;
/// Procedures.
const TEST: u32 = 1;
const UNLOCK: u32 = 4;
/// As LOCK, but the server is not to monitor the client (appendix II section 5.2.8 of RFC 1813): who runs this client has a status monitor and
/// a name of its own at the server, which a second name of the same address would replace.
const NM_LOCK: u32 = 22;
/// nlm4_stats.
const GRANTED: u32 = 0;
const DENIED: u32 = 1;
/// How the caller is named in a lock.
const CALLER: &[u8] = b"hanfs-client";

/// Why a lock is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// No answer, or none that makes sense.
    #[error("{operation}: {source}")]
    Rpc {
        /// The procedure.
        operation: &'static str,
        /// Why.
        source: RpcError,
    },
    /// The server said something else than expected.
    #[error("{operation}: nlm4_stats {status}")]
    Status {
        /// The procedure.
        operation: &'static str,
        /// The server's word.
        status: u32,
    },
}

/// Locks the whole of a file, exclusively, as different owners.
pub struct LockClient {
    rpc: RpcClient<RetryIo>,
}

/// Arguments as they are on the wire.
struct Encoded(Vec<u8>);

impl Pack for Encoded {
    fn packed_size(&self) -> usize {
        self.0.len()
    }

    fn pack(&self, out: &mut impl Write) -> nfs3_client::nfs3_types::xdr_codec::Result<usize> {
        out.write_all(&self.0)?;
        Ok(self.0.len())
    }
}

/// The beginning of nlm4_res and of nlm4_testres: what follows is not looked at.
struct Answer(u32);

impl Unpack for Answer {
    fn unpack(input: &mut impl Read) -> nfs3_client::nfs3_types::xdr_codec::Result<(Self, usize)> {
        let (_, cookie_bytes) = Opaque::unpack(input)?;
        let (status, bytes) = u32::unpack(input)?;
        // The holder, if the answer says one.
        let rest = std::io::copy(input, &mut std::io::sink())?;
        Ok((Self(status), cookie_bytes + bytes + rest as usize))
    }
}

fn opaque(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
    out.extend_from_slice(bytes);
    out.resize(out.len().next_multiple_of(4), 0);
}

fn word(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_be_bytes());
}

/// nlm4_lock: all of the file, for this owner.
fn lock(out: &mut Vec<u8>, file: &nfs_fh3, owner: u32) {
    opaque(out, CALLER);
    opaque(out, file.data.as_ref());
    opaque(out, &owner.to_be_bytes());
    word(out, owner);
    out.extend_from_slice(&[0; 16]);
}

impl LockClient {
    /// To where an export is; the first call connects.
    pub fn new(target: &Target, source: Option<IpAddr>, patience: Patience, stats: &Arc<Stats>) -> Self {
        let server = SocketAddr::new(target.address, target.port);
        let io = RetryIo::new(server, patience, stats.clone()).from(source);
        Self { rpc: RpcClient::new_with_auth(io, credential(), opaque_auth::default()) }
    }

    async fn call(
        &mut self,
        operation: &'static str,
        procedure: u32,
        args: Vec<u8>,
    ) -> Result<u32, LockError> {
        let answer: Result<Answer, RpcError> =
            self.rpc.call(PROGRAM, VERSION, procedure, &Encoded(args)).await;
        answer.map(|answer| answer.0).map_err(|source| LockError::Rpc { operation, source })
    }

    /// NLM4_NM_LOCK, which never waits.
    pub async fn lock(&mut self, file: &nfs_fh3, owner: u32) -> Result<(), LockError> {
        let mut args = Vec::new();
        opaque(&mut args, &owner.to_be_bytes());
        // Do not wait; exclusively.
        word(&mut args, 0);
        word(&mut args, 1);
        lock(&mut args, file, owner);
        // No reclaim; the state of a status monitor that this client does not have.
        word(&mut args, 0);
        word(&mut args, 0);
        match self.call("NM_LOCK", NM_LOCK, args).await? {
            GRANTED => Ok(()),
            status => Err(LockError::Status { operation: "NM_LOCK", status }),
        }
    }

    /// NLM4_TEST: is the file locked by another owner than this?
    pub async fn is_locked_for(&mut self, file: &nfs_fh3, owner: u32) -> Result<bool, LockError> {
        let mut args = Vec::new();
        opaque(&mut args, &owner.to_be_bytes());
        word(&mut args, 1);
        lock(&mut args, file, owner);
        match self.call("TEST", TEST, args).await? {
            GRANTED => Ok(false),
            DENIED => Ok(true),
            status => Err(LockError::Status { operation: "TEST", status }),
        }
    }

    /// NLM4_UNLOCK.
    pub async fn unlock(&mut self, file: &nfs_fh3, owner: u32) -> Result<(), LockError> {
        let mut args = Vec::new();
        opaque(&mut args, &owner.to_be_bytes());
        lock(&mut args, file, owner);
        match self.call("UNLOCK", UNLOCK, args).await? {
            GRANTED => Ok(()),
            status => Err(LockError::Status { operation: "UNLOCK", status }),
        }
    }
}
