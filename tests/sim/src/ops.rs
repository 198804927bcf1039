//! What clients ask, as records on the wire and back. Encoding and decoding are `nfs3_types`': a codec that is not ours.
//!
//! Files are used in blocks of [`BLOCK`] bytes, each filled with one number that is unique to the write that put it there,
//! so that a read says which writes it saw, and a torn block shows.

use bytes::Bytes;
use nfs3_types::nfs3::{
    CREATE3args, CREATE3res, GETATTR3args, GETATTR3res, LINK3args, LINK3res, LOOKUP3args, LOOKUP3res,
    MKDIR3args, MKDIR3res, Nfs3Option, Nfs3Result, READ3args, READ3res, READDIR3args, READDIR3res,
    REMOVE3args, REMOVE3res, RENAME3args, RENAME3res, RMDIR3args, RMDIR3res, SETATTR3args, SETATTR3res,
    WRITE3args, WRITE3res, cookieverf3, createhow3, createverf3, diropargs3, nfs_fh3, nfsstat3, sattr3,
    stable_how,
};
use nfs3_types::rpc::{RPC_VERSION_2, auth_unix, call_body, msg_body, opaque_auth, rpc_msg};
use nfs3_types::xdr_codec::{Opaque, Pack, Unpack};

/// Bytes of a block.
pub const BLOCK: usize = 512;
/// Blocks of a file, at most.
pub const BLOCKS: u64 = 4;

/// A file handle's bytes.
pub type Fh = Bytes;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// MOUNTPROC3_MNT.
    Mount(String),
    /// GETATTR.
    GetAttr(Fh),
    /// LOOKUP.
    Lookup(Fh, String),
    /// CREATE, guarded.
    Create(Fh, String),
    /// CREATE, unchecked.
    CreateAnyhow(Fh, String),
    /// CREATE, exclusive, with this verifier.
    CreateExclusive(Fh, String, u64),
    /// MKDIR.
    Mkdir(Fh, String),
    /// REMOVE.
    Remove(Fh, String),
    /// RMDIR.
    Rmdir(Fh, String),
    /// RENAME within one directory.
    Rename(Fh, String, String),
    /// LINK: the file, the directory, the name.
    Link(Fh, Fh, String),
    /// WRITE of one block, filled with the number.
    Write(Fh, u64, u64),
    /// READ of all blocks.
    Read(Fh),
    /// SETATTR of the size, in blocks.
    Truncate(Fh, u64),
    /// READDIR of a whole directory in one call.
    ReadDir(Fh),
    /// NLM4_LOCK of a whole file, exclusive, without waiting; the owner's number.
    Lock(Fh, u32),
    /// NLM4_UNLOCK.
    Unlock(Fh, u32),
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Done.
    Done,
    /// A handle and the file's id.
    Object(Fh, u64),
    /// A file's blocks.
    Blocks(Vec<u64>),
    /// Names and file ids, by name.
    Names(Vec<(String, u64, u64)>),
    /// nfsstat3, or nlm4_stats of a lock call.
    Failed(u32),
    /// It makes no sense: why.
    Nonsense(String),
}

/// NFS3ERR_NOENT.
pub const NOENT: u32 = 2;
/// NFS3ERR_EXIST.
pub const EXIST: u32 = 17;
/// NFS3ERR_STALE.
pub const STALE: u32 = 70;
/// NFS3ERR_ISDIR.
pub const ISDIR: u32 = 21;
/// NFS3ERR_IO.
pub const IO: u32 = 5;
/// NFS3ERR_NOSPC.
pub const NOSPC: u32 = 28;
/// NLM4_DENIED_GRACE_PERIOD.
pub const GRACE: u32 = 4;
/// NLM4_DENIED.
pub const DENIED: u32 = 1;

const NFS: (u32, u32) = (100_003, 3);
const MOUNT: (u32, u32) = (100_005, 3);
const NLM: (u32, u32) = (100_021, 4);

fn pack(value: &impl Pack) -> Vec<u8> {
    let mut out = Vec::new();
    value.pack(&mut out).expect("a vector takes everything");
    out
}

fn fh(bytes: &Fh) -> nfs_fh3 {
    nfs_fh3 { data: Opaque::owned(bytes.to_vec()) }
}

fn at<'a>(dir: &Fh, name: &'a str) -> diropargs3<'a> {
    diropargs3 { dir: fh(dir), name: name.as_bytes().into() }
}

fn mode() -> sattr3 {
    sattr3 { mode: Nfs3Option::Some(0o777), ..sattr3::default() }
}

/// A block's bytes.
fn block(number: u64) -> Vec<u8> {
    number.to_be_bytes().repeat(BLOCK / 8)
}

fn words(out: &mut Vec<u8>, words: &[u32]) {
    words.iter().for_each(|word| out.extend_from_slice(&word.to_be_bytes()));
}

fn opaque(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend(pack(&Opaque::borrowed(bytes)));
}

fn nlm_lock(out: &mut Vec<u8>, file: &Fh, owner: u32) {
    opaque(out, b"sim");
    opaque(out, file);
    opaque(out, &owner.to_be_bytes());
    words(out, &[owner, 0, 0, 0, 0]);
}

impl Op {
    /// Program, version, procedure and arguments.
    fn call(&self) -> ((u32, u32), u32, Vec<u8>) {
        let create = |dir, name, how| pack(&CREATE3args { where_: at(dir, name), how });
        match self {
            Self::Mount(path) => (MOUNT, 1, pack(&Opaque::borrowed(path.as_bytes()))),
            Self::GetAttr(file) => (NFS, 1, pack(&GETATTR3args { object: fh(file) })),
            Self::Truncate(file, blocks) => {
                let new_attributes =
                    sattr3 { size: Nfs3Option::Some(blocks * BLOCK as u64), ..sattr3::default() };
                (NFS, 2, pack(&SETATTR3args { object: fh(file), new_attributes, guard: Nfs3Option::None }))
            }
            Self::Lookup(dir, name) => (NFS, 3, pack(&LOOKUP3args { what: at(dir, name) })),
            Self::Read(file) => {
                let count = u32::try_from(BLOCK as u64 * BLOCKS).unwrap_or(u32::MAX);
                (NFS, 6, pack(&READ3args { file: fh(file), offset: 0, count }))
            }
            Self::Write(file, number, value) => {
                let args = WRITE3args {
                    file: fh(file),
                    offset: number * BLOCK as u64,
                    count: BLOCK as u32,
                    stable: stable_how::UNSTABLE,
                    data: Opaque::owned(block(*value)),
                };
                (NFS, 7, pack(&args))
            }
            Self::Create(dir, name) => (NFS, 8, create(dir, name, createhow3::GUARDED(mode()))),
            Self::CreateAnyhow(dir, name) => (NFS, 8, create(dir, name, createhow3::UNCHECKED(mode()))),
            Self::CreateExclusive(dir, name, verifier) => {
                (NFS, 8, create(dir, name, createhow3::EXCLUSIVE(createverf3(verifier.to_be_bytes()))))
            }
            Self::Mkdir(dir, name) => {
                (NFS, 9, pack(&MKDIR3args { where_: at(dir, name), attributes: mode() }))
            }
            Self::Remove(dir, name) => (NFS, 12, pack(&REMOVE3args { object: at(dir, name) })),
            Self::Rmdir(dir, name) => (NFS, 13, pack(&RMDIR3args { object: at(dir, name) })),
            Self::Rename(dir, from, to) => {
                (NFS, 14, pack(&RENAME3args { from: at(dir, from), to: at(dir, to) }))
            }
            Self::Link(file, dir, name) => {
                (NFS, 15, pack(&LINK3args { file: fh(file), link: at(dir, name) }))
            }
            Self::ReadDir(dir) => {
                let cookieverf = cookieverf3::default();
                (NFS, 16, pack(&READDIR3args { dir: fh(dir), cookie: 0, cookieverf, count: 32 << 10 }))
            }
            Self::Lock(file, owner) => {
                let mut out = Vec::new();
                opaque(&mut out, &owner.to_be_bytes());
                // Do not wait, exclusive.
                words(&mut out, &[0, 1]);
                nlm_lock(&mut out, file, *owner);
                // No reclaim, NSM state 1.
                words(&mut out, &[0, 1]);
                (NLM, 2, out)
            }
            Self::Unlock(file, owner) => {
                let mut out = Vec::new();
                opaque(&mut out, &owner.to_be_bytes());
                nlm_lock(&mut out, file, *owner);
                (NLM, 4, out)
            }
        }
    }

    /// The call's record, without its mark.
    pub fn record(&self, xid: u32) -> Bytes {
        let ((prog, vers), proc, args) = self.call();
        let cred = opaque_auth::auth_unix(&auth_unix { uid: 0, gid: 0, ..auth_unix::default() });
        let verf = opaque_auth::default();
        let body = msg_body::CALL(call_body { rpcvers: RPC_VERSION_2, prog, vers, proc, cred, verf });
        let mut record = pack(&rpc_msg { xid, body });
        record.extend_from_slice(&args);
        record.into()
    }

    /// Doing it twice is not doing it once.
    pub fn is_idempotent(&self) -> bool {
        matches!(
            self,
            Self::Mount(_) | Self::GetAttr(_) | Self::Lookup(..) | Self::Read(_) | Self::ReadDir(_)
        )
    }

    /// Is it what a client may be told where a disk fails or is full: EIO of what only reads, ENOSPC of what changes?
    pub fn disk_says_no(&self, answer: &Answer) -> bool {
        match answer {
            Answer::Failed(IO) => self.is_idempotent(),
            Answer::Failed(NOSPC) => !self.is_idempotent(),
            _ => false,
        }
    }

    /// Takes a reply apart.
    pub fn answer(&self, reply: &[u8]) -> Answer {
        self.results(reply).unwrap_or_else(|why| Answer::Nonsense(format!("{self:?}: {why}")))
    }

    fn results(&self, reply: &[u8]) -> Result<Answer, String> {
        // xid, REPLY, MSG_ACCEPTED, AUTH_NONE, no verifier, SUCCESS.
        let head = reply.get(4..24).ok_or("a short reply")?;
        if head != [0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0] {
            return Err(format!("not an accepted call: {head:?}"));
        }
        let body = &mut &reply[24..];
        match self {
            Self::Mount(_) => {
                let status = unpack::<u32>(body)?;
                if status != 0 {
                    return Ok(Answer::Failed(status));
                }
                let handle: Opaque<'static> = unpack(body)?;
                Ok(Answer::Object(handle.to_vec().into(), 1))
            }
            Self::GetAttr(file) => done::<GETATTR3res, _, _>(body, |ok| {
                Ok(Answer::Object(file.clone(), ok.obj_attributes.fileid))
            }),
            Self::Truncate(..) => done::<SETATTR3res, _, _>(body, |_| Ok(Answer::Done)),
            Self::Lookup(..) => done::<LOOKUP3res, _, _>(body, |ok| {
                let id = option(ok.obj_attributes).map_or(0, |a| a.fileid);
                Ok(Answer::Object(ok.object.data.to_vec().into(), id))
            }),
            Self::Read(_) => done::<READ3res<'static>, _, _>(body, |ok| blocks(&ok.data)),
            Self::Write(..) => done::<WRITE3res, _, _>(body, |ok| {
                if ok.count as usize != BLOCK || ok.committed == stable_how::UNSTABLE {
                    return Err(format!("{} bytes written, {:?}", ok.count, ok.committed));
                }
                Ok(Answer::Done)
            }),
            Self::Create(..) | Self::CreateAnyhow(..) | Self::CreateExclusive(..) => {
                done::<CREATE3res, _, _>(body, |ok| object(ok.obj, ok.obj_attributes))
            }
            Self::Mkdir(..) => done::<MKDIR3res, _, _>(body, |ok| object(ok.obj, ok.obj_attributes)),
            Self::Remove(..) => done::<REMOVE3res, _, _>(body, |_| Ok(Answer::Done)),
            Self::Rmdir(..) => done::<RMDIR3res, _, _>(body, |_| Ok(Answer::Done)),
            Self::Rename(..) => done::<RENAME3res, _, _>(body, |_| Ok(Answer::Done)),
            Self::Link(..) => done::<LINK3res, _, _>(body, |_| Ok(Answer::Done)),
            Self::ReadDir(_) => done::<READDIR3res<'static>, _, _>(body, |ok| {
                if !ok.reply.eof {
                    return Err("a small directory does not end".into());
                }
                let name = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
                let entries = ok.reply.entries.into_inner().into_iter();
                let mut names: Vec<_> =
                    entries.map(|e| (name(e.name.as_ref()), e.fileid, e.cookie)).collect();
                names.retain(|(name, ..)| name != "." && name != "..");
                names.sort();
                Ok(Answer::Names(names))
            }),
            Self::Lock(..) | Self::Unlock(..) => {
                let _cookie: Opaque<'static> = unpack(body)?;
                let stat = unpack::<u32>(body)?;
                Ok(if stat == 0 { Answer::Done } else { Answer::Failed(stat) })
            }
        }
    }
}

fn unpack<T: Unpack>(body: &mut &[u8]) -> Result<T, String> {
    T::unpack(body).map(|(value, _)| value).map_err(|e| format!("undecodable results: {e:?}"))
}

/// Results with a status before them.
trait Results<Ok> {
    fn take(self) -> Result<Ok, nfsstat3>;
}

impl<T, E> Results<T> for Nfs3Result<T, E> {
    fn take(self) -> Result<T, nfsstat3> {
        match self {
            Self::Ok(ok) => Ok(ok),
            Self::Err((status, _)) => Err(status),
        }
    }
}

fn done<R, T, F>(body: &mut &[u8], of: F) -> Result<Answer, String>
where
    R: Unpack + Results<T>,
    F: FnOnce(T) -> Result<Answer, String>,
{
    match unpack::<R>(body)?.take() {
        Ok(ok) => of(ok),
        Err(status) => Ok(Answer::Failed(status as u32)),
    }
}

fn option<T: Pack + Unpack>(value: Nfs3Option<T>) -> Option<T> {
    match value {
        Nfs3Option::Some(value) => Some(value),
        Nfs3Option::None => None,
    }
}

fn object(handle: Nfs3Option<nfs_fh3>, attr: Nfs3Option<nfs3_types::nfs3::fattr3>) -> Result<Answer, String> {
    let handle = option(handle).ok_or("a new object without a handle")?;
    let attr = option(attr).ok_or("a new object without attributes")?;
    Ok(Answer::Object(handle.data.to_vec().into(), attr.fileid))
}

fn blocks(data: &[u8]) -> Result<Answer, String> {
    if !data.len().is_multiple_of(BLOCK) {
        return Err(format!("a file of {} bytes", data.len()));
    }
    let one = |block: &[u8]| {
        let first = block.first_chunk::<8>().copied().unwrap_or_default();
        let whole = block.chunks(8).all(|word| word == first);
        if whole { Ok(u64::from_be_bytes(first)) } else { Err("a torn block".to_owned()) }
    };
    data.chunks(BLOCK).map(one).collect::<Result<Vec<_>, _>>().map(Answer::Blocks)
}
