//! One call of any procedure by `nfs3_client`, and a check of everything that its results say about the objects
//! that it named.

use nfs3_client::Nfs3Client;
use nfs3_client::tokio::TokioIo;
use nfs3_types::nfs3::*;
use nfs3_types::xdr_codec::{Opaque, Pack};

use crate::harness::pack;

pub type Client = Nfs3Client<TokioIo<tokio::net::TcpStream>>;

/// Names of the procedures, RFC 1813 section 3.
pub const NAMES: [&str; 22] = [
    "NULL",
    "GETATTR",
    "SETATTR",
    "LOOKUP",
    "ACCESS",
    "READLINK",
    "READ",
    "WRITE",
    "CREATE",
    "MKDIR",
    "SYMLINK",
    "MKNOD",
    "REMOVE",
    "RMDIR",
    "RENAME",
    "LINK",
    "READDIR",
    "READDIRPLUS",
    "FSSTAT",
    "FSINFO",
    "PATHCONF",
    "COMMIT",
];

/// A call's arguments.
pub enum Call {
    GetAttr(GETATTR3args),
    SetAttr(SETATTR3args),
    Lookup(LOOKUP3args<'static>),
    Access(ACCESS3args),
    ReadLink(READLINK3args),
    Read(READ3args),
    Write(WRITE3args<'static>),
    Create(CREATE3args<'static>),
    Mkdir(MKDIR3args<'static>),
    Symlink(SYMLINK3args<'static>),
    Mknod(MKNOD3args<'static>),
    Remove(REMOVE3args<'static>),
    Rmdir(RMDIR3args<'static>),
    Rename(RENAME3args<'static, 'static>),
    Link(LINK3args<'static>),
    ReadDir(READDIR3args),
    ReadDirPlus(READDIRPLUS3args),
    FsStat(FSSTAT3args),
    FsInfo(FSINFO3args),
    PathConf(PATHCONF3args),
    Commit(COMMIT3args),
}

/// What the results say.
pub struct Outcome {
    pub status: nfsstat3,
    /// wcc_data, in the order of [`Call::changes`].
    pub wcc: Vec<wcc_data>,
    /// post_op_attr, in the order of [`Call::shows`].
    pub attrs: Vec<post_op_attr>,
    /// A new object's handle, or that of what was looked up.
    pub object: Option<nfs_fh3>,
}

/// One procedure: sends it and takes the results apart. `$ok` and `$fail` are results; the lists say where their
/// wcc_data and post_op_attr are.
macro_rules! send {
    ($sent:expr, $ok:ident => [$($wcc:expr),*] [$($attr:expr),*] $object:expr; $fail:ident => [$($fail_wcc:expr),*] [$($fail_attr:expr),*]) => {
        match $sent.await.expect("an answer that decodes") {
            Nfs3Result::Ok($ok) => Outcome {
                status: nfsstat3::NFS3_OK,
                wcc: vec![$($wcc),*],
                attrs: vec![$($attr),*],
                object: $object,
            },
            Nfs3Result::Err((status, $fail)) => {
                _ = &$fail;
                Outcome { status, wcc: vec![$($fail_wcc),*], attrs: vec![$($fail_attr),*], object: None }
            }
        }
    };
}

/// An optional value as Rust's.
pub fn option<T: Pack + nfs3_types::xdr_codec::Unpack>(value: Nfs3Option<T>) -> Option<T> {
    match value {
        Nfs3Option::Some(value) => Some(value),
        Nfs3Option::None => None,
    }
}

impl Call {
    pub fn procedure(&self) -> usize {
        use Call::*;
        match self {
            GetAttr(_) => 1,
            SetAttr(_) => 2,
            Lookup(_) => 3,
            Access(_) => 4,
            ReadLink(_) => 5,
            Read(_) => 6,
            Write(_) => 7,
            Create(_) => 8,
            Mkdir(_) => 9,
            Symlink(_) => 10,
            Mknod(_) => 11,
            Remove(_) => 12,
            Rmdir(_) => 13,
            Rename(_) => 14,
            Link(_) => 15,
            ReadDir(_) => 16,
            ReadDirPlus(_) => 17,
            FsStat(_) => 18,
            FsInfo(_) => 19,
            PathConf(_) => 20,
            Commit(_) => 21,
        }
    }

    /// The objects that the results tell wcc_data of.
    pub fn changes(&self) -> Vec<&nfs_fh3> {
        use Call::*;
        match self {
            SetAttr(a) => vec![&a.object],
            Write(a) => vec![&a.file],
            Create(a) => vec![&a.where_.dir],
            Mkdir(a) => vec![&a.where_.dir],
            Symlink(a) => vec![&a.where_.dir],
            Mknod(a) => vec![&a.where_.dir],
            Remove(a) => vec![&a.object.dir],
            Rmdir(a) => vec![&a.object.dir],
            Rename(a) => vec![&a.from.dir, &a.to.dir],
            Link(a) => vec![&a.link.dir],
            Commit(a) => vec![&a.file],
            _ => vec![],
        }
    }

    /// The objects that the results tell attributes of.
    pub fn shows(&self) -> Vec<&nfs_fh3> {
        use Call::*;
        match self {
            Lookup(a) => vec![&a.what.dir],
            Access(a) => vec![&a.object],
            ReadLink(a) => vec![&a.symlink],
            Read(a) => vec![&a.file],
            Link(a) => vec![&a.file],
            ReadDir(a) => vec![&a.dir],
            ReadDirPlus(a) => vec![&a.dir],
            FsStat(a) => vec![&a.fsroot],
            FsInfo(a) => vec![&a.fsroot],
            PathConf(a) => vec![&a.object],
            _ => vec![],
        }
    }

    /// Sends it.
    pub async fn send(&self, c: &mut Client) -> Outcome {
        use Call::*;
        match self {
            GetAttr(a) => send!(c.getattr(a), ok => [] [] { _ = ok; None }; f => [] []),
            SetAttr(a) => send!(c.setattr(a), ok => [ok.obj_wcc] [] None; f => [f.obj_wcc] []),
            Lookup(a) => {
                send!(c.lookup(a), ok => [] [ok.dir_attributes] Some(ok.object); f => [] [f.dir_attributes])
            }
            Access(a) => send!(c.access(a), ok => [] [ok.obj_attributes] None; f => [] [f.obj_attributes]),
            ReadLink(a) => {
                send!(c.readlink(a), ok => [] [ok.symlink_attributes] None; f => [] [f.symlink_attributes])
            }
            Read(a) => send!(c.read(a), ok => [] [ok.file_attributes] None; f => [] [f.file_attributes]),
            Write(a) => send!(c.write(a), ok => [ok.file_wcc] [] None; f => [f.file_wcc] []),
            Create(a) => send!(c.create(a), ok => [ok.dir_wcc] [] option(ok.obj); f => [f.dir_wcc] []),
            Mkdir(a) => send!(c.mkdir(a), ok => [ok.dir_wcc] [] option(ok.obj); f => [f.dir_wcc] []),
            Symlink(a) => send!(c.symlink(a), ok => [ok.dir_wcc] [] option(ok.obj); f => [f.dir_wcc] []),
            Mknod(a) => send!(c.mknod(a), ok => [ok.dir_wcc] [] option(ok.obj); f => [f.dir_wcc] []),
            Remove(a) => send!(c.remove(a), ok => [ok.dir_wcc] [] None; f => [f.dir_wcc] []),
            Rmdir(a) => send!(c.rmdir(a), ok => [ok.dir_wcc] [] None; f => [f.dir_wcc] []),
            Rename(a) => send!(c.rename(a), ok => [ok.fromdir_wcc, ok.todir_wcc] [] None;
                f => [f.fromdir_wcc, f.todir_wcc] []),
            Link(a) => send!(c.link(a), ok => [ok.linkdir_wcc] [ok.file_attributes] None;
                f => [f.linkdir_wcc] [f.file_attributes]),
            ReadDir(a) => send!(c.readdir(a), ok => [] [ok.dir_attributes] None; f => [] [f.dir_attributes]),
            ReadDirPlus(a) => {
                send!(c.readdirplus(a), ok => [] [ok.dir_attributes] None; f => [] [f.dir_attributes])
            }
            FsStat(a) => send!(c.fsstat(a), ok => [] [ok.obj_attributes] None; f => [] [f.obj_attributes]),
            FsInfo(a) => send!(c.fsinfo(a), ok => [] [ok.obj_attributes] None; f => [] [f.obj_attributes]),
            PathConf(a) => {
                send!(c.pathconf(a), ok => [] [ok.obj_attributes] None; f => [] [f.obj_attributes])
            }
            Commit(a) => send!(c.commit(a), ok => [ok.file_wcc] [] None; f => [f.file_wcc] []),
        }
    }

    /// Sends it, and checks all attributes in the results against GETATTR before and after: wcc_data is complete and
    /// right in success and failure, a failure changed nothing. Attributes may be missing only where a handle of the
    /// call names nothing, and of the other export's object where a call names two exports.
    pub async fn check(&self, c: &mut Client) -> Outcome {
        let what = NAMES[self.procedure()];
        let (changes, shows) = (self.changes(), self.shows());
        let (before, shown) = (attributes(c, &changes).await, attributes(c, &shows).await);
        let outcome = self.send(c).await;
        let after = attributes(c, &changes).await;
        let failed = outcome.status != nfsstat3::NFS3_OK;
        let two_exports = outcome.status == nfsstat3::NFS3ERR_XDEV;
        let what = format!("{what}, {:?}", outcome.status);
        if before.iter().chain(&shown).any(Option::is_none) {
            assert!(failed, "{what} on an object that is not there");
        } else {
            for (i, wcc) in outcome.wcc.iter().enumerate() {
                if two_exports && wcc.before.is_none() && wcc.after.is_none() {
                    continue;
                }
                let before = before[i].as_ref().expect("it is there");
                let told = option(wcc.before).unwrap_or_else(|| panic!("{what}: nothing about before"));
                let then = wcc_attr { size: before.size, mtime: before.mtime, ctime: before.ctime };
                assert_eq!(pack(&told), pack(&then), "{what}: wcc_data's before");
                let told = option(wcc.after.clone()).unwrap_or_else(|| panic!("{what}: nothing about after"));
                assert_eq!(Some(pack(&told)), after[i].as_ref().map(pack), "{what}: wcc_data's after");
                if failed {
                    assert_eq!(pack(&told), pack(before), "{what} changed something");
                }
            }
            let now = attributes(c, &shows).await;
            for (told, now) in outcome.attrs.iter().zip(&now) {
                let told = option(told.clone());
                if !(two_exports && told.is_none()) {
                    assert_eq!(told.as_ref().map(pack), now.as_ref().map(pack), "{what}: attributes");
                }
            }
        }
        outcome
    }
}

/// What GETATTR says of each now.
async fn attributes(c: &mut Client, of: &[&nfs_fh3]) -> Vec<Option<fattr3>> {
    let mut all = Vec::new();
    for object in of {
        let object = (*object).clone();
        all.push(match c.getattr(&GETATTR3args { object }).await.expect("an answer that decodes") {
            Nfs3Result::Ok(ok) => Some(ok.obj_attributes),
            Nfs3Result::Err(_) => None,
        });
    }
    all
}

/// diropargs3.
pub fn at(dir: &nfs_fh3, name: &[u8]) -> diropargs3<'static> {
    diropargs3 { dir: dir.clone(), name: name.to_vec().into() }
}

/// sattr3 with a mode.
pub fn mode(mode: u32) -> sattr3 {
    sattr3 { mode: Nfs3Option::Some(mode), ..sattr3::default() }
}

pub fn getattr(object: &nfs_fh3) -> Call {
    Call::GetAttr(GETATTR3args { object: object.clone() })
}

pub fn setattr(object: &nfs_fh3, new_attributes: sattr3) -> Call {
    Call::SetAttr(SETATTR3args { object: object.clone(), new_attributes, guard: Nfs3Option::None })
}

pub fn lookup(dir: &nfs_fh3, name: &[u8]) -> Call {
    Call::Lookup(LOOKUP3args { what: at(dir, name) })
}

pub fn read(file: &nfs_fh3) -> Call {
    Call::Read(READ3args { file: file.clone(), offset: 0, count: 100 })
}

pub fn write(file: &nfs_fh3, offset: u64, data: &[u8]) -> Call {
    let (file, count) = (file.clone(), data.len() as u32);
    Call::Write(WRITE3args {
        file,
        offset,
        count,
        stable: stable_how::FILE_SYNC,
        data: Opaque::owned(data.to_vec()),
    })
}

pub fn create(dir: &nfs_fh3, name: &[u8]) -> Call {
    Call::Create(CREATE3args { where_: at(dir, name), how: createhow3::GUARDED(mode(0o644)) })
}

pub fn mkdir(dir: &nfs_fh3, name: &[u8], bits: u32) -> Call {
    Call::Mkdir(MKDIR3args { where_: at(dir, name), attributes: mode(bits) })
}

pub fn symlink(dir: &nfs_fh3, name: &[u8], target: &[u8]) -> Call {
    let symlink = symlinkdata3 { symlink_attributes: mode(0o777), symlink_data: target.to_vec().into() };
    Call::Symlink(SYMLINK3args { where_: at(dir, name), symlink })
}

pub fn mknod(dir: &nfs_fh3, name: &[u8], what: mknoddata3) -> Call {
    Call::Mknod(MKNOD3args { where_: at(dir, name), what })
}

pub fn fifo(dir: &nfs_fh3, name: &[u8]) -> Call {
    mknod(dir, name, mknoddata3::NF3FIFO(mode(0o644)))
}

pub fn remove(dir: &nfs_fh3, name: &[u8]) -> Call {
    Call::Remove(REMOVE3args { object: at(dir, name) })
}

pub fn rmdir(dir: &nfs_fh3, name: &[u8]) -> Call {
    Call::Rmdir(RMDIR3args { object: at(dir, name) })
}

pub fn rename(from: diropargs3<'static>, to: diropargs3<'static>) -> Call {
    Call::Rename(RENAME3args { from, to })
}

pub fn link(file: &nfs_fh3, dir: &nfs_fh3, name: &[u8]) -> Call {
    Call::Link(LINK3args { file: file.clone(), link: at(dir, name) })
}

pub fn readdir(dir: &nfs_fh3, cookie: u64, verf: u8, count: u32) -> Call {
    let cookieverf = cookieverf3([verf; 8]);
    Call::ReadDir(READDIR3args { dir: dir.clone(), cookie, cookieverf, count })
}

pub fn readdirplus(dir: &nfs_fh3, cookie: u64, verf: u8, maxcount: u32) -> Call {
    let cookieverf = cookieverf3([verf; 8]);
    Call::ReadDirPlus(READDIRPLUS3args { dir: dir.clone(), cookie, cookieverf, dircount: 512, maxcount })
}

pub fn commit(file: &nfs_fh3) -> Call {
    Call::Commit(COMMIT3args { file: file.clone(), offset: 0, count: 0 })
}

/// A good call of every procedure that names an object, about this one and the name `n`.
pub fn every(object: &nfs_fh3) -> Vec<Call> {
    let fh = || object.clone();
    vec![
        getattr(object),
        setattr(object, mode(0o600)),
        lookup(object, b"n"),
        Call::Access(ACCESS3args { object: fh(), access: 0x3f }),
        Call::ReadLink(READLINK3args { symlink: fh() }),
        read(object),
        write(object, 0, b"data"),
        create(object, b"n"),
        mkdir(object, b"n", 0o755),
        symlink(object, b"n", b"target"),
        fifo(object, b"n"),
        remove(object, b"n"),
        rmdir(object, b"n"),
        rename(at(object, b"n"), at(object, b"m")),
        link(object, object, b"n"),
        readdir(object, 0, 0, 4096),
        readdirplus(object, 0, 0, 4096),
        Call::FsStat(FSSTAT3args { fsroot: fh() }),
        Call::FsInfo(FSINFO3args { fsroot: fh() }),
        Call::PathConf(PATHCONF3args { object: fh() }),
        commit(object),
    ]
}

/// Sends a call that must succeed; the object that it made or found.
pub async fn done(c: &mut Client, call: Call) -> Option<nfs_fh3> {
    let outcome = call.check(c).await;
    assert_eq!(outcome.status, nfsstat3::NFS3_OK, "{}", NAMES[call.procedure()]);
    outcome.object
}

/// [`done`] for a call that makes or finds an object.
pub async fn made(c: &mut Client, call: Call) -> nfs_fh3 {
    done(c, call).await.expect("a handle")
}
