//! What takes names away: REMOVE, RMDIR.

use proto::op::{Cred, Remove, Rmdir};

use super::tx::Tx;
use super::{Done, Stop};
use crate::fs::inode::{Inode, Kind};
use crate::fs::rows::Entry;
use crate::fs::{Status, name, perm};

/// RFC 1813 section 3.3.12. A directory is NFS3ERR_ISDIR, as unlink(2) has it; so are `.` and `..`.
pub(super) fn remove(tx: &mut Tx<'_>, cred: &Cred, op: &Remove) -> Result<Done, Stop> {
    let dir = tx.subject(op.dir.as_ref())?;
    check_dir(cred, &dir, &op.name)?;
    if name::is_dot(&op.name) {
        return Err(Status::IsDir.into());
    }
    let entry = tx.entry(dir.file, &op.name)?.ok_or(Status::NoEnt)?;
    let victim = tx.named(entry.file)?;
    perm::need_unlink(&dir, &victim, cred)?;
    if victim.is_dir() {
        return Err(Status::IsDir.into());
    }
    tx.remove_entry(dir.file, &op.name, &entry)?;
    drop_name(tx, &victim)?;
    Ok(Done::default())
}

/// RFC 1813 section 3.3.13: `.` is NFS3ERR_INVAL, `..` is NFS3ERR_EXIST.
pub(super) fn rmdir(tx: &mut Tx<'_>, cred: &Cred, op: &Rmdir) -> Result<Done, Stop> {
    let dir = tx.subject(op.dir.as_ref())?;
    check_dir(cred, &dir, &op.name)?;
    match op.name.as_ref() {
        b"." => return Err(Status::Inval.into()),
        b".." => return Err(Status::Exist.into()),
        _ => {}
    }
    let entry = tx.entry(dir.file, &op.name)?.ok_or(Status::NoEnt)?;
    let victim = tx.named(entry.file)?;
    perm::need_unlink(&dir, &victim, cred)?;
    check_empty(&victim)?;
    remove_dir(tx, &dir, &op.name, &entry)?;
    Ok(Done::default())
}

/// The directory that a name is to be taken from.
pub(super) fn check_dir(cred: &Cred, dir: &Inode, name: &[u8]) -> Result<(), Status> {
    if !dir.is_dir() {
        return Err(Status::NotDir);
    }
    perm::need(dir, cred, perm::EXEC)?;
    name::check(name)
}

/// A directory without entries?
pub(super) fn check_empty(victim: &Inode) -> Result<(), Status> {
    match victim.kind {
        Kind::Dir { entries: 0, .. } => Ok(()),
        Kind::Dir { .. } => Err(Status::NotEmpty),
        _ => Err(Status::NotDir),
    }
}

/// Removes an empty directory and its name.
pub(super) fn remove_dir(tx: &mut Tx<'_>, dir: &Inode, name: &[u8], entry: &Entry) -> Result<(), Stop> {
    tx.remove_entry(dir.file, name, entry)?;
    tx.update(dir.file, |dir| dir.nlink = dir.nlink.saturating_sub(1))?;
    tx.remove(entry.file)
}

/// A file has one name less; without any it is gone at once: NFS knows no open files.
pub(super) fn drop_name(tx: &mut Tx<'_>, victim: &Inode) -> Result<(), Stop> {
    if victim.nlink <= 1 {
        return tx.remove(victim.file);
    }
    let now = tx.now();
    tx.update(victim.file, |victim| {
        victim.nlink -= 1;
        victim.ctime_ns = now;
    })
}
