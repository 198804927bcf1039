//! A mounted export: the operations that a tree of files needs, each one call or a few.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use nfs3_client::nfs3_types::mount::dirpath;
use nfs3_client::nfs3_types::nfs3::{
    CREATE3args, FSINFO3args, GETATTR3args, LINK3args, LOOKUP3args, MKDIR3args, Nfs3Option, Nfs3Result,
    READ3args, READDIR3args, READLINK3args, REMOVE3args, RENAME3args, RMDIR3args, SETATTR3args, SYMLINK3args,
    WRITE3args, cookieverf3, createhow3, createverf3, diropargs3, fattr3, filename3, nfs_fh3, nfspath3,
    nfsstat3, post_op_fh3, sattr3, stable_how, symlinkdata3,
};
use nfs3_client::nfs3_types::rpc::{auth_unix, opaque_auth};
use nfs3_client::nfs3_types::xdr_codec::Opaque;
use nfs3_client::{MountClient, MountError, Nfs3Client, RpcError};

use super::retry::{Patience, RetryIo, Stats};

/// Bytes of one READ or WRITE, unless the server takes less.
const TRANSFER_BYTES: u32 = 1 << 20;
/// Bytes of one READDIR reply.
const LISTING_BYTES: u32 = 64 << 10;
/// A name that a hostile server cannot make longer than a directory may be: entries of one listing.
const LISTING_ENTRIES_MAX: usize = 1 << 20;

/// Where an export is.
#[derive(Debug, Clone)]
pub struct Target {
    /// The virtual IP.
    pub address: IpAddr,
    /// NFS and MOUNT.
    pub port: u16,
    /// What to mount.
    pub path: String,
}

/// Why an operation did not do what it was to do.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The server said no.
    #[error("{operation} {name}: {status}")]
    Status {
        /// The procedure.
        operation: &'static str,
        /// What it was about.
        name: String,
        /// The server's word.
        status: nfsstat3,
    },
    /// No answer, or none that makes sense.
    #[error("{operation} {name}: {source}")]
    Rpc {
        /// The procedure.
        operation: &'static str,
        /// What it was about.
        name: String,
        /// Why.
        source: RpcError,
    },
    /// MOUNT said no, or nothing.
    #[error("MNT {path}: {source}")]
    Mount {
        /// What was to be mounted.
        path: String,
        /// Why.
        source: MountError,
    },
    /// An answer that the protocol does not allow.
    #[error("{operation} {name}: {what}")]
    Broken {
        /// The procedure.
        operation: &'static str,
        /// What it was about.
        name: String,
        /// What is wrong with it.
        what: &'static str,
    },
}

/// An entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirEntry {
    /// Its name.
    pub name: String,
    /// The file's id.
    pub file_id: u64,
}

/// A mounted export, on a connection of its own.
pub struct Session {
    nfs: Nfs3Client<RetryIo>,
    root: nfs_fh3,
    transfer_bytes: u32,
}

type Result<T> = std::result::Result<T, ClientError>;

/// Unpacks what a call returned, whatever its failure carries.
fn check<T, E>(
    operation: &'static str,
    name: &str,
    result: std::result::Result<Nfs3Result<T, E>, RpcError>,
) -> Result<T> {
    match result {
        Ok(Nfs3Result::Ok(value)) => Ok(value),
        Ok(Nfs3Result::Err((status, _))) => {
            Err(ClientError::Status { operation, name: name.to_owned(), status })
        }
        Err(source) => Err(ClientError::Rpc { operation, name: name.to_owned(), source }),
    }
}

fn within<'a>(dir: &nfs_fh3, name: &'a str) -> diropargs3<'a> {
    diropargs3 { dir: dir.clone(), name: filename3::from(name.as_bytes()) }
}

fn mode(mode: u32) -> sattr3 {
    sattr3 { mode: Nfs3Option::Some(mode), ..sattr3::default() }
}

/// RFC 1813 lets a server leave the new handle out; hanfs never does.
fn handle(operation: &'static str, name: &str, handle: post_op_fh3) -> Result<nfs_fh3> {
    match handle {
        Nfs3Option::Some(handle) => Ok(handle),
        Nfs3Option::None => {
            Err(ClientError::Broken { operation, name: name.to_owned(), what: "the reply has no handle" })
        }
    }
}

/// The client's root, as AUTH_SYS says it, whoever runs this: a new export's root directory is root's, and what AUTH_SYS says is
/// the client's word in any case (RFC 5531 section 8.2).
pub(super) fn credential() -> opaque_auth<'static> {
    let (uid, gid) = (0, 0);
    opaque_auth::auth_unix(&auth_unix {
        stamp: 0,
        machinename: Opaque::borrowed(b"hanfs-client"),
        uid,
        gid,
        gids: Vec::new(),
    })
}

impl ClientError {
    /// What the server said, if it said no.
    pub fn status(&self) -> Option<(&'static str, nfsstat3)> {
        match self {
            Self::Status { operation, status, .. } => Some((operation, *status)),
            Self::Rpc { .. } | Self::Mount { .. } | Self::Broken { .. } => None,
        }
    }
}

impl Session {
    /// Mounts an export.
    pub async fn mount(target: &Target, patience: Patience, stats: &Arc<Stats>) -> Result<Self> {
        Self::mount_from(target, None, patience, stats).await
    }

    /// The same from an address of this host.
    pub async fn mount_from(
        target: &Target,
        source: Option<IpAddr>,
        patience: Patience,
        stats: &Arc<Stats>,
    ) -> Result<Self> {
        let server = SocketAddr::new(target.address, target.port);
        let credential = credential();
        let io = || RetryIo::new(server, patience, stats.clone()).from(source);
        let mut mount = MountClient::new_with_auth(io(), credential.clone(), opaque_auth::default());
        let mounted = mount
            .mnt(dirpath(Opaque::borrowed(target.path.as_bytes())))
            .await
            .map_err(|source| ClientError::Mount { path: target.path.clone(), source })?;
        let nfs = Nfs3Client::new_with_auth(io(), credential, opaque_auth::default());
        let root = nfs_fh3 { data: mounted.fhandle.0 };
        let mut session = Self { nfs, root, transfer_bytes: TRANSFER_BYTES };
        let info = session.nfs.fsinfo(&FSINFO3args { fsroot: session.root.clone() }).await;
        let info = check("FSINFO", &target.path, info)?;
        session.transfer_bytes = TRANSFER_BYTES.min(info.rtmax).min(info.wtmax).max(1);
        Ok(session)
    }

    /// The export's root directory.
    pub fn root(&self) -> nfs_fh3 {
        self.root.clone()
    }

    /// RFC 1813 section 3.3.9.
    pub async fn mkdir(&mut self, dir: &nfs_fh3, name: &str) -> Result<nfs_fh3> {
        let args = MKDIR3args { where_: within(dir, name), attributes: mode(0o755) };
        let made = check("MKDIR", name, self.nfs.mkdir(&args).await)?;
        handle("MKDIR", name, made.obj)
    }

    /// RFC 1813 section 3.3.8, GUARDED: an error if the name is there already.
    pub async fn create_new(&mut self, dir: &nfs_fh3, name: &str) -> Result<nfs_fh3> {
        let args = CREATE3args { where_: within(dir, name), how: createhow3::GUARDED(mode(0o644)) };
        let made = check("CREATE", name, self.nfs.create(&args).await)?;
        handle("CREATE", name, made.obj)
    }

    /// RFC 1813 section 3.3.8, EXCLUSIVE: as often as it is sent with this verifier, it is one file; an error if the
    /// name is there already. The file has no permissions yet: see [`Self::set_mode`].
    pub async fn create_exclusive(
        &mut self,
        dir: &nfs_fh3,
        name: &str,
        verifier: [u8; 8],
    ) -> Result<nfs_fh3> {
        let how = createhow3::EXCLUSIVE(createverf3(verifier));
        let made =
            check("CREATE", name, self.nfs.create(&CREATE3args { where_: within(dir, name), how }).await)?;
        handle("CREATE", name, made.obj)
    }

    /// RFC 1813 section 3.3.2: the permissions.
    pub async fn set_mode(&mut self, file: &nfs_fh3, bits: u32) -> Result<()> {
        let args = SETATTR3args { object: file.clone(), new_attributes: mode(bits), guard: Nfs3Option::None };
        check("SETATTR", "", self.nfs.setattr(&args).await).map(drop)
    }

    /// RFC 1813 section 3.3.10.
    pub async fn symlink(&mut self, dir: &nfs_fh3, name: &str, to: &str) -> Result<()> {
        let symlink =
            symlinkdata3 { symlink_attributes: mode(0o777), symlink_data: nfspath3::from(to.as_bytes()) };
        let args = SYMLINK3args { where_: within(dir, name), symlink };
        check("SYMLINK", name, self.nfs.symlink(&args).await).map(drop)
    }

    /// RFC 1813 section 3.3.5.
    pub async fn readlink(&mut self, link: &nfs_fh3) -> Result<String> {
        let args = READLINK3args { symlink: link.clone() };
        let read = check("READLINK", "", self.nfs.readlink(&args).await)?;
        Ok(String::from_utf8_lossy(read.data.as_ref()).into_owned())
    }

    /// RFC 1813 section 3.3.15.
    pub async fn link(&mut self, file: &nfs_fh3, dir: &nfs_fh3, name: &str) -> Result<()> {
        let args = LINK3args { file: file.clone(), link: within(dir, name) };
        check("LINK", name, self.nfs.link(&args).await).map(drop)
    }

    /// RFC 1813 section 3.3.14.
    pub async fn rename(&mut self, from_dir: &nfs_fh3, from: &str, to_dir: &nfs_fh3, to: &str) -> Result<()> {
        let args = RENAME3args { from: within(from_dir, from), to: within(to_dir, to) };
        check("RENAME", from, self.nfs.rename(&args).await).map(drop)
    }

    /// RFC 1813 section 3.3.12.
    pub async fn remove(&mut self, dir: &nfs_fh3, name: &str) -> Result<()> {
        check("REMOVE", name, self.nfs.remove(&REMOVE3args { object: within(dir, name) }).await).map(drop)
    }

    /// RFC 1813 section 3.3.13.
    pub async fn rmdir(&mut self, dir: &nfs_fh3, name: &str) -> Result<()> {
        check("RMDIR", name, self.nfs.rmdir(&RMDIR3args { object: within(dir, name) }).await).map(drop)
    }

    /// RFC 1813 section 3.3.3.
    pub async fn lookup(&mut self, dir: &nfs_fh3, name: &str) -> Result<nfs_fh3> {
        let found = check("LOOKUP", name, self.nfs.lookup(&LOOKUP3args { what: within(dir, name) }).await)?;
        Ok(found.object)
    }

    /// RFC 1813 section 3.3.1.
    pub async fn getattr(&mut self, file: &nfs_fh3) -> Result<fattr3> {
        let got = check("GETATTR", "", self.nfs.getattr(&GETATTR3args { object: file.clone() }).await)?;
        Ok(got.obj_attributes)
    }

    /// RFC 1813 section 3.3.7: writes all of `data` at `offset`. True if every reply said FILE_SYNC, so that
    /// no COMMIT is owed.
    pub async fn write(&mut self, file: &nfs_fh3, offset: u64, data: &[u8]) -> Result<bool> {
        let broken = |what| ClientError::Broken { operation: "WRITE", name: format!("at {offset}"), what };
        let mut all_stable = true;
        let mut rest = data;
        let mut at = offset;
        while !rest.is_empty() {
            let piece = rest.get(..self.transfer_bytes as usize).unwrap_or(rest);
            let args = WRITE3args {
                file: file.clone(),
                offset: at,
                count: piece.len() as u32,
                stable: stable_how::UNSTABLE,
                data: Opaque::borrowed(piece),
            };
            let wrote = check("WRITE", &format!("at {at}"), self.nfs.write(&args).await)?;
            if wrote.count == 0 {
                return Err(broken("nothing was written"));
            }
            all_stable &= wrote.committed == stable_how::FILE_SYNC;
            rest =
                rest.get(wrote.count as usize..).ok_or_else(|| broken("more was written than was sent"))?;
            at = at.saturating_add(u64::from(wrote.count));
        }
        Ok(all_stable)
    }

    /// RFC 1813 section 3.3.6: up to `count` bytes, and whether the file ends there.
    pub async fn read(&mut self, file: &nfs_fh3, offset: u64, count: u32) -> Result<(Vec<u8>, bool)> {
        let args = READ3args { file: file.clone(), offset, count: count.min(self.transfer_bytes) };
        let read = check("READ", &format!("at {offset}"), self.nfs.read(&args).await)?;
        Ok((read.data.into_owned(), read.eof))
    }

    /// RFC 1813 section 3.3.16, repeated until the end; without `.` and `..`.
    pub async fn list(&mut self, dir: &nfs_fh3) -> Result<Vec<DirEntry>> {
        let broken = |what| ClientError::Broken { operation: "READDIR", name: String::new(), what };
        let mut entries = Vec::new();
        let mut cookie = 0;
        let mut cookieverf = cookieverf3::default();
        loop {
            let args = READDIR3args { dir: dir.clone(), cookie, cookieverf, count: LISTING_BYTES };
            let page = check("READDIR", "", self.nfs.readdir(&args).await)?;
            let before = cookie;
            for entry in page.reply.entries.into_inner() {
                cookie = entry.cookie;
                let name = String::from_utf8_lossy(entry.name.as_ref()).into_owned();
                if name != "." && name != ".." {
                    entries.push(DirEntry { name, file_id: entry.fileid });
                }
            }
            if page.reply.eof {
                return Ok(entries);
            }
            if cookie == before || entries.len() > LISTING_ENTRIES_MAX {
                return Err(broken("the listing does not end"));
            }
            cookieverf = page.cookieverf;
        }
    }
}
