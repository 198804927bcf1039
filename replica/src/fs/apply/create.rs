//! What makes names: CREATE, MKDIR, SYMLINK, MKNOD, LINK.

use proto::op::create::How;
use proto::op::{Create, Cred, Link, Mkdir, Mknod, Sattr, Symlink};

use super::setattr::change;
use super::tx::Tx;
use super::{Done, Stop};
use crate::fs::inode::{Inode, Kind};
use crate::fs::rows::Entry;
use crate::fs::{LINK_MAX, SYMLINK_MAX, Status, ftype, name, perm};
use crate::ids::FileId;

/// Mode of a symbolic link, whatever the caller asks for.
const SYMLINK_MODE: u32 = 0o777;

/// RFC 1813 section 3.3.8. UNCHECKED opens a regular file that is there, and truncates it where the call says a
/// size; anything else that has the name is NFS3ERR_EXIST. The verifier of EXCLUSIVE is kept beside the times,
/// not in them, until the file's first change: SETATTR follows at once, and must find them unspoilt.
pub(super) fn create(tx: &mut Tx<'_>, cred: &Cred, op: &Create) -> Result<Done, Stop> {
    let dir = directory(tx, cred, op.dir.as_ref(), &op.name)?;
    let how = How::try_from(op.how).map_err(|_| Status::NotSupp)?;
    if let Some(entry) = tx.entry(dir.file, &op.name)? {
        let there = tx.named(entry.file)?;
        return open_existing(tx, cred, op, how, &there);
    }
    let exclusive = (how == How::Exclusive).then_some(op.exclusive_verifier);
    let attr = op.attr.as_ref().filter(|_| how != How::Exclusive);
    make(
        tx,
        cred,
        &dir,
        &op.name,
        New { kind: Kind::File { exclusive }, mode: mode_of(attr), attr, target: None },
    )
}

fn open_existing(tx: &mut Tx<'_>, cred: &Cred, op: &Create, how: How, there: &Inode) -> Result<Done, Stop> {
    let Kind::File { exclusive } = there.kind else { return Err(Status::Exist.into()) };
    match how {
        How::Unchecked => {
            let size = op.attr.as_ref().and_then(|attr| attr.size);
            change(tx, cred, there, &Sattr { size, ..Sattr::default() })?;
            Ok(Done::object(there.file))
        }
        How::Exclusive if exclusive == Some(op.exclusive_verifier) => Ok(Done::object(there.file)),
        How::Guarded | How::Exclusive => Err(Status::Exist.into()),
    }
}

/// RFC 1813 section 3.3.9. As mkdir(2), it takes no set-id bits from the caller; set-group-id comes from the
/// parent.
pub(super) fn mkdir(tx: &mut Tx<'_>, cred: &Cred, op: &Mkdir) -> Result<Done, Stop> {
    let dir = free_name(tx, cred, op.dir.as_ref(), &op.name)?;
    let attr = op.attr.as_ref();
    let inherited = dir.mode & perm::SETGID;
    let mode = (mode_of(attr) & !(perm::SETUID | perm::SETGID)) | inherited;
    make(tx, cred, &dir, &op.name, New { kind: Kind::empty_dir(dir.file), mode, attr, target: None })
}

/// RFC 1813 section 3.3.10. An empty target is NFS3ERR_NOENT, as symlink(2) has it.
pub(super) fn symlink(tx: &mut Tx<'_>, cred: &Cred, op: &Symlink) -> Result<Done, Stop> {
    let dir = free_name(tx, cred, op.dir.as_ref(), &op.name)?;
    if op.target.is_empty() {
        return Err(Status::NoEnt.into());
    }
    if op.target.len() > SYMLINK_MAX {
        return Err(Status::NameTooLong.into());
    }
    if op.target.contains(&0) {
        return Err(Status::Inval.into());
    }
    let attr = op.attr.as_ref();
    let new = New { kind: Kind::Symlink, mode: SYMLINK_MODE, attr, target: Some(&op.target) };
    make(tx, cred, &dir, &op.name, new)
}

/// RFC 1813 section 3.3.11. Devices are the superuser's to make; who may not make anything here at all gets
/// NFS3ERR_ACCES first, as mknod(2) has it.
pub(super) fn mknod(tx: &mut Tx<'_>, cred: &Cred, op: &Mknod) -> Result<Done, Stop> {
    let dir = free_name(tx, cred, op.dir.as_ref(), &op.name)?;
    let (major, minor) = match op.file_type {
        ftype::BLK | ftype::CHR => (op.major, op.minor),
        ftype::SOCK | ftype::FIFO => (0, 0),
        _ => return Err(Status::BadType.into()),
    };
    perm::need(&dir, cred, perm::WRITE)?;
    if matches!(op.file_type, ftype::BLK | ftype::CHR) && !perm::is_root(cred) {
        return Err(Status::Perm.into());
    }
    let kind = Kind::Special { file_type: op.file_type, major, minor };
    let attr = op.attr.as_ref();
    make(tx, cred, &dir, &op.name, New { kind, mode: mode_of(attr), attr, target: None })
}

/// RFC 1813 section 3.3.15. A directory cannot have a second name: NFS3ERR_ISDIR, as Linux's server says (the RFC
/// lists nothing for it). A symbolic link can.
pub(super) fn link(tx: &mut Tx<'_>, cred: &Cred, op: &Link) -> Result<Done, Stop> {
    let dir = tx.subject(op.dir.as_ref())?;
    let inode = tx.linked(op.file.as_ref())?;
    if inode.is_dir() {
        return Err(Status::IsDir.into());
    }
    check_free_name(tx, cred, &dir, &op.name)?;
    perm::need(&dir, cred, perm::WRITE)?;
    if inode.nlink >= LINK_MAX {
        return Err(Status::MLink.into());
    }
    let now = tx.now();
    tx.update(inode.file, |inode| {
        inode.nlink += 1;
        inode.ctime_ns = now;
    })?;
    tx.add_entry(dir.file, &op.name, inode.file, None)?;
    Ok(Done::object(inode.file))
}

/// The directory that a name is to be made in. `.` and `..` are always there: NFS3ERR_EXIST.
fn directory(
    tx: &mut Tx<'_>,
    cred: &Cred,
    handle: Option<&proto::op::Handle>,
    name: &[u8],
) -> Result<Inode, Stop> {
    let dir = tx.subject(handle)?;
    check_dir(cred, &dir, name)?;
    Ok(dir)
}

fn check_dir(cred: &Cred, dir: &Inode, name: &[u8]) -> Result<(), Status> {
    if !dir.is_dir() {
        return Err(Status::NotDir);
    }
    perm::need(dir, cred, perm::EXEC)?;
    name::check(name)?;
    if name::is_dot(name) { Err(Status::Exist) } else { Ok(()) }
}

fn check_free_name(tx: &mut Tx<'_>, cred: &Cred, dir: &Inode, name: &[u8]) -> Result<(), Stop> {
    check_dir(cred, dir, name)?;
    match tx.entry(dir.file, name)? {
        Some(Entry { .. }) => Err(Status::Exist.into()),
        None => Ok(()),
    }
}

fn free_name(
    tx: &mut Tx<'_>,
    cred: &Cred,
    handle: Option<&proto::op::Handle>,
    name: &[u8],
) -> Result<Inode, Stop> {
    let dir = tx.subject(handle)?;
    check_free_name(tx, cred, &dir, name)?;
    Ok(dir)
}

/// What is to be made.
struct New<'a> {
    kind: Kind,
    mode: u32,
    attr: Option<&'a Sattr>,
    /// Of a symbolic link.
    target: Option<&'a [u8]>,
}

/// The mode that the caller asks for. Where the call has none there is none: the caller is the owner, who reads
/// and writes in any case.
fn mode_of(attr: Option<&Sattr>) -> u32 {
    attr.and_then(|attr| attr.mode).unwrap_or(0) & perm::MODE_MASK
}

/// Makes an inode and its name. The group is the directory's where that is set-group-id, else the caller's.
fn make(tx: &mut Tx<'_>, cred: &Cred, dir: &Inode, name: &[u8], new: New<'_>) -> Result<Done, Stop> {
    perm::need(dir, cred, perm::WRITE)?;
    let is_dir = matches!(new.kind, Kind::Dir { .. });
    if is_dir && dir.nlink >= LINK_MAX {
        return Err(Status::MLink.into());
    }
    let gid = if dir.mode & perm::SETGID != 0 { dir.gid } else { cred.gid };
    let mode = if is_dir { new.mode } else { perm::mode_of_new(new.mode, gid, cred) };
    let now = tx.now();
    let file = tx.insert(|file, generation| Inode {
        file,
        generation,
        mode,
        nlink: if is_dir { 2 } else { 1 },
        uid: cred.uid,
        gid,
        size: new.target.map_or(0, |target| target.len() as u64),
        used: 0,
        atime_ns: now,
        mtime_ns: now,
        ctime_ns: now,
        kind: new.kind,
    });
    if let Some(target) = new.target {
        tx.set_symlink(file, target);
    }
    tx.add_entry(dir.file, name, file, None)?;
    if is_dir {
        tx.update(dir.file, |dir| dir.nlink += 1)?;
    }
    if let Some(attr) = new.attr {
        set_others(tx, cred, file, attr)?;
    }
    Ok(Done::object(file))
}

/// The attributes that a new file does not start with. Others than the superuser own what they make: what they
/// say of owner and group is passed over, as Linux's server does.
fn set_others(tx: &mut Tx<'_>, cred: &Cred, file: FileId, attr: &Sattr) -> Result<(), Stop> {
    let inode = tx.named(file)?;
    let root = perm::is_root(cred);
    let attr = Sattr {
        mode: None,
        uid: attr.uid.filter(|_| root),
        gid: attr.gid.filter(|_| root),
        size: attr.size.filter(|size| inode.is_file() && *size > 0),
        ..*attr
    };
    change(tx, cred, &inode, &attr)
}
