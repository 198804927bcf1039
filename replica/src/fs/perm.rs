//! Who may do what: POSIX permission bits as Linux evaluates them, with what its NFS server adds.
//!
//! Nothing here reads state: every answer follows from an inode and the caller's credentials.

use proto::op::Cred;

use super::inode::Inode;
use super::{Status, access};

/// May read.
pub(crate) const READ: u32 = 4;
/// May write.
pub(crate) const WRITE: u32 = 2;
/// May execute; of a directory: may search.
pub(crate) const EXEC: u32 = 1;

/// Set-user-id.
pub(crate) const SETUID: u32 = 0o4000;
/// Set-group-id.
pub(crate) const SETGID: u32 = 0o2000;
/// Only owners remove or rename entries of such a directory.
pub(crate) const STICKY: u32 = 0o1000;
/// Every mode bit that is kept.
pub(crate) const MODE_MASK: u32 = 0o7777;
/// The group may execute: only then does set-group-id say anything about execution.
const GROUP_EXEC: u32 = 0o010;

/// The superuser, after squashing.
pub(crate) fn is_root(cred: &Cred) -> bool {
    cred.uid == 0
}

/// Is the caller in this group?
pub(crate) fn in_group(cred: &Cred, gid: u32) -> bool {
    cred.gid == gid || cred.gids.contains(&gid)
}

/// Owner or superuser: who may chmod and set times at will.
pub(crate) fn owns(inode: &Inode, cred: &Cred) -> bool {
    is_root(cred) || inode.uid == cred.uid
}

/// The permission bits that the caller has: the first class that fits counts, also where a later one has more.
fn granted(inode: &Inode, cred: &Cred) -> u32 {
    if is_root(cred) {
        let any_exec = inode.is_dir() || inode.mode & 0o111 != 0;
        return READ | WRITE | if any_exec { EXEC } else { 0 };
    }
    let class = if inode.uid == cred.uid {
        6
    } else if in_group(cred, inode.gid) {
        3
    } else {
        0
    };
    (inode.mode >> class) & 0o7
}

/// Does the caller have all of these bits?
pub(crate) fn may(inode: &Inode, cred: &Cred, bits: u32) -> bool {
    granted(inode, cred) & bits == bits
}

/// `Ok` where [`may`], else NFS3ERR_ACCES.
pub(crate) fn need(inode: &Inode, cred: &Cred, bits: u32) -> Result<(), Status> {
    if may(inode, cred, bits) { Ok(()) } else { Err(Status::Acces) }
}

/// READ of a file (RFC 1813 section 4.4): its owner always, as the mode was checked at the client's open; and
/// who may execute it, as paging in a program is a READ.
pub(crate) fn need_file_read(inode: &Inode, cred: &Cred) -> Result<(), Status> {
    if inode.uid == cred.uid || may(inode, cred, READ) || may(inode, cred, EXEC) {
        Ok(())
    } else {
        Err(Status::Acces)
    }
}

/// WRITE to a file or its truncation: its owner always, as the mode was checked at the client's open.
pub(crate) fn need_file_write(inode: &Inode, cred: &Cred) -> Result<(), Status> {
    if inode.uid == cred.uid { Ok(()) } else { need(inode, cred, WRITE) }
}

/// May an entry of `dir` that names `victim` be removed or renamed? NFS3ERR_PERM in a sticky directory.
pub(crate) fn need_unlink(dir: &Inode, victim: &Inode, cred: &Cred) -> Result<(), Status> {
    need(dir, cred, WRITE | EXEC)?;
    if dir.mode & STICKY != 0 && !owns(dir, cred) && !owns(victim, cred) {
        return Err(Status::Perm);
    }
    Ok(())
}

/// RFC 1813 section 3.3.4: the wanted bits that are granted.
pub(crate) fn access3(inode: &Inode, cred: &Cred, wanted: u32) -> u32 {
    let has = granted(inode, cred);
    let when = |bits: u32, granted: u32| if has & bits == bits { granted } else { 0 };
    let allowed = if inode.is_dir() {
        when(READ, access::READ)
            | when(EXEC, access::LOOKUP)
            | when(WRITE | EXEC, access::MODIFY | access::EXTEND | access::DELETE)
    } else {
        when(READ, access::READ) | when(WRITE, access::MODIFY | access::EXTEND) | when(EXEC, access::EXECUTE)
    };
    allowed & wanted
}

/// The mode of a file after someone wrote to it: as a local file system does, set-user-id and set-group-id go,
/// unless the superuser wrote.
pub(crate) fn mode_after_write(inode: &Inode, cred: &Cred) -> u32 {
    if is_root(cred) { inode.mode } else { mode_without_privileges(inode.mode, inode.gid, cred) }
}

/// The mode of a file after its owner or group changed. Set-group-id without group execution means mandatory
/// locking, not privilege, and stays for those who might set it.
pub(crate) fn mode_without_privileges(mode: u32, gid: u32, cred: &Cred) -> u32 {
    let drop_setgid = mode & GROUP_EXEC != 0 || !(is_root(cred) || in_group(cred, gid));
    mode & !(SETUID | if drop_setgid { SETGID } else { 0 })
}

/// The mode of a new file: set-group-id as a privilege only for a group that the caller is in, which a set-group-id
/// directory's need not be.
pub(crate) fn mode_of_new(mode: u32, gid: u32, cred: &Cred) -> u32 {
    let mode = mode & MODE_MASK;
    if mode & GROUP_EXEC == 0 { mode } else { mode_allowed(mode, gid, cred) }
}

/// The set-group-id bit of a mode that the caller asks for: only for a group that the caller is in.
pub(crate) fn mode_allowed(mode: u32, gid: u32, cred: &Cred) -> u32 {
    let drop_setgid = !(is_root(cred) || in_group(cred, gid));
    mode & MODE_MASK & !(if drop_setgid { SETGID } else { 0 })
}
