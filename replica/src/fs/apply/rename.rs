//! RENAME.

use proto::op::{Cred, Rename};

use super::remove::{check_dir, check_empty, drop_name, remove_dir};
use super::tx::Tx;
use super::{Done, Stop};
use crate::fs::inode::{Inode, Kind};
use crate::fs::rows::Entry;
use crate::fs::{LINK_MAX, Status, name, perm};
use crate::ids::FileId;

/// RFC 1813 section 3.3.14, with the errors of rename(2) on Linux where the RFC leaves a choice: a directory
/// over anything else is NFS3ERR_NOTDIR, anything else over a directory NFS3ERR_ISDIR, a directory into its own
/// subtree NFS3ERR_INVAL. Two names of one file: nothing happens. Within one directory the entry keeps its
/// cookie, so that a client that renames while it reads the directory comes to an end.
pub(super) fn rename(tx: &mut Tx<'_>, cred: &Cred, op: &Rename) -> Result<Done, Stop> {
    let from_dir = tx.subject(op.from_dir.as_ref())?;
    let to_dir = tx.second_subject(op.to_dir.as_ref())?;
    check_dir(cred, &from_dir, &op.from_name)?;
    check_dir(cred, &to_dir, &op.to_name)?;
    if name::is_dot(&op.from_name) || name::is_dot(&op.to_name) {
        return Err(Status::Inval.into());
    }
    let entry = tx.entry(from_dir.file, &op.from_name)?.ok_or(Status::NoEnt)?;
    let inode = tx.named(entry.file)?;
    let target = tx.entry(to_dir.file, &op.to_name)?;
    check_loops(tx, &from_dir, &to_dir, &inode, target.as_ref())?;
    if target.is_some_and(|target| target.file == inode.file) {
        return Ok(Done::default());
    }
    perm::need_unlink(&from_dir, &inode, cred)?;
    match target {
        Some(target) => replace(tx, cred, &inode, &to_dir, &op.to_name, &target)?,
        None => check_new_name(&from_dir, &to_dir, &inode, cred)?,
    }
    let moved = from_dir.file != to_dir.file;
    if inode.is_dir() && moved {
        perm::need(&inode, cred, perm::WRITE)?;
    }
    tx.remove_entry(from_dir.file, &op.from_name, &entry)?;
    tx.add_entry(to_dir.file, &op.to_name, inode.file, (!moved).then_some(entry.cookie))?;
    if inode.is_dir() && moved {
        tx.update(from_dir.file, |dir| dir.nlink = dir.nlink.saturating_sub(1))?;
        tx.update(to_dir.file, |dir| dir.nlink = dir.nlink.saturating_add(1))?;
    }
    let now = tx.now();
    tx.update(inode.file, |inode| {
        inode.ctime_ns = now;
        if let Kind::Dir { parent, .. } = &mut inode.kind {
            *parent = to_dir.file;
        }
    })?;
    Ok(Done::default())
}

/// A directory must not come to lie below itself; and what the source lies in cannot be empty.
fn check_loops(
    tx: &mut Tx<'_>,
    from_dir: &Inode,
    to_dir: &Inode,
    inode: &Inode,
    target: Option<&Entry>,
) -> Result<(), Stop> {
    if from_dir.file == to_dir.file {
        return Ok(());
    }
    if inode.is_dir() && is_at_or_above(tx, inode.file, to_dir)? {
        return Err(Status::Inval.into());
    }
    if let Some(target) = target
        && is_at_or_above(tx, target.file, from_dir)?
    {
        return Err(Status::NotEmpty.into());
    }
    Ok(())
}

/// Does `file` lie on the way from `below` up to the root?
fn is_at_or_above(tx: &mut Tx<'_>, file: FileId, below: &Inode) -> Result<bool, Stop> {
    let mut at = *below;
    loop {
        if at.file == file {
            return Ok(true);
        }
        match at.kind {
            Kind::Dir { parent, .. } if parent != at.file => at = tx.named(parent)?,
            _ => return Ok(false),
        }
    }
}

/// What has the new name goes.
fn replace(
    tx: &mut Tx<'_>,
    cred: &Cred,
    inode: &Inode,
    to_dir: &Inode,
    to_name: &[u8],
    target: &Entry,
) -> Result<(), Stop> {
    let victim = tx.named(target.file)?;
    perm::need_unlink(to_dir, &victim, cred)?;
    match (inode.is_dir(), victim.is_dir()) {
        (true, false) => Err(Status::NotDir.into()),
        (false, true) => Err(Status::IsDir.into()),
        (true, true) => {
            check_empty(&victim)?;
            remove_dir(tx, to_dir, to_name, target)
        }
        (false, false) => {
            tx.remove_entry(to_dir.file, to_name, target)?;
            drop_name(tx, &victim)
        }
    }
}

fn check_new_name(from_dir: &Inode, to_dir: &Inode, inode: &Inode, cred: &Cred) -> Result<(), Status> {
    perm::need(to_dir, cred, perm::WRITE | perm::EXEC)?;
    if inode.is_dir() && from_dir.file != to_dir.file && to_dir.nlink >= LINK_MAX {
        return Err(Status::MLink);
    }
    Ok(())
}
