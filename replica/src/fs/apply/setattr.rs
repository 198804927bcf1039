//! SETATTR, and the attributes that a CREATE carries.

use proto::op::{Cred, Sattr, SetAttr, SetTime};

use super::tx::{Effect, Tx};
use super::{Done, Stop};
use crate::fs::inode::{Inode, Kind};
use crate::fs::{FILE_SIZE_MAX, Status, perm};

/// RFC 1813 section 3.3.2. A call that sets nothing succeeds and changes nothing, its ctime neither. The mode of a
/// symbolic link says nothing: to set it is to set nothing.
pub(super) fn setattr(tx: &mut Tx<'_>, cred: &Cred, op: &SetAttr) -> Result<Done, Stop> {
    let inode = tx.subject(op.file.as_ref())?;
    if op.guard_ctime_ns.is_some_and(|seen| seen != inode.ctime_ns) {
        return Err(Status::NotSync.into());
    }
    if let Some(attr) = &op.attr {
        let mode = attr.mode.filter(|_| !matches!(inode.kind, Kind::Symlink));
        change(tx, cred, &inode, &Sattr { mode, ..*attr })?;
    }
    Ok(Done::default())
}

/// Changes an inode as the caller asks, if the caller may.
pub(super) fn change(tx: &mut Tx<'_>, cred: &Cred, inode: &Inode, attr: &Sattr) -> Result<(), Stop> {
    if *attr == Sattr::default() {
        return Ok(());
    }
    let now = tx.now();
    let mut new = *inode;
    set_owner(&mut new, inode, cred, attr)?;
    set_mode(&mut new, inode, cred, attr)?;
    if let Some(size) = attr.size {
        set_size(&mut new, inode, cred, size, now)?;
        if size < inode.size {
            tx.effect(Effect::Truncate { file: inode.file, len: size });
        }
    }
    set_times(&mut new, inode, cred, attr, now)?;
    new.ctime_ns = now;
    if let Kind::File { exclusive } = &mut new.kind {
        *exclusive = None;
    }
    tx.update(inode.file, |inode| *inode = new)
}

/// Only the superuser gives a file away; its owner may give it to a group that the owner is in.
fn set_owner(new: &mut Inode, old: &Inode, cred: &Cred, attr: &Sattr) -> Result<(), Status> {
    let owner = old.uid == cred.uid;
    if let Some(uid) = attr.uid {
        if !(perm::is_root(cred) || owner && uid == old.uid) {
            return Err(Status::Perm);
        }
        new.uid = uid;
    }
    if let Some(gid) = attr.gid {
        if !(perm::is_root(cred) || owner && (gid == old.gid || perm::in_group(cred, gid))) {
            return Err(Status::Perm);
        }
        new.gid = gid;
    }
    Ok(())
}

/// A change of owner or group takes the set-id bits away, also those that the same call asks for; set-group-id
/// without group execution is no privilege, see [`perm::mode_without_privileges`].
fn set_mode(new: &mut Inode, old: &Inode, cred: &Cred, attr: &Sattr) -> Result<(), Status> {
    if attr.mode.is_some() && !perm::owns(old, cred) {
        return Err(Status::Perm);
    }
    let given_away = (attr.uid.is_some() || attr.gid.is_some()) && !old.is_dir();
    new.mode = match attr.mode {
        Some(mode) if given_away => {
            perm::mode_without_privileges(perm::mode_allowed(mode, new.gid, cred), new.gid, cred)
        }
        Some(mode) => perm::mode_allowed(mode, new.gid, cred),
        None if given_away => perm::mode_without_privileges(old.mode, old.gid, cred),
        None => old.mode,
    };
    Ok(())
}

/// Truncation or extension. A size that stays dates no content: mtime is left, as Linux's server does.
fn set_size(new: &mut Inode, old: &Inode, cred: &Cred, size: u64, now: u64) -> Result<(), Status> {
    match old.kind {
        Kind::File { .. } => {}
        Kind::Dir { .. } => return Err(Status::IsDir),
        Kind::Symlink | Kind::Special { .. } => return Err(Status::Inval),
    }
    perm::need_file_write(old, cred)?;
    if size > FILE_SIZE_MAX {
        return Err(Status::FBig);
    }
    new.size = size;
    new.used = old.used.min(size);
    if size != old.size {
        new.mtime_ns = now;
    }
    let written = Inode { mode: new.mode, ..*old };
    new.mode = perm::mode_after_write(&written, cred);
    Ok(())
}

/// SET_TO_CLIENT_TIME is the owner's (NFS3ERR_PERM); SET_TO_SERVER_TIME also of those who may write (NFS3ERR_ACCES).
fn set_times(new: &mut Inode, old: &Inode, cred: &Cred, attr: &Sattr, now: u64) -> Result<(), Status> {
    let times = [attr.atime, attr.mtime];
    if !perm::owns(old, cred) {
        if times.iter().flatten().any(|time| time.ns.is_some()) {
            return Err(Status::Perm);
        }
        if times.iter().any(Option::is_some) {
            perm::need(old, cred, perm::WRITE)?;
        }
    }
    let at = |time: SetTime| time.ns.unwrap_or(now);
    new.atime_ns = attr.atime.map_or(new.atime_ns, at);
    new.mtime_ns = attr.mtime.map_or(new.mtime_ns, at);
    Ok(())
}
