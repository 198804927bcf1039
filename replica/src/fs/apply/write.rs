//! WRITE.

use proto::op::{Cred, Write};

use super::tx::{Effect, Tx};
use super::{Done, Stop};
use crate::fs::inode::Kind;
use crate::fs::{FILE_SIZE_MAX, Status, perm};

/// RFC 1813 section 3.3.7. Nothing written changes nothing, as write(2) has it.
pub(super) fn write(tx: &mut Tx<'_>, cred: &Cred, op: &Write, len: usize) -> Result<Done, Stop> {
    let inode = tx.subject(op.file.as_ref())?;
    match inode.kind {
        Kind::File { .. } => {}
        Kind::Dir { .. } => return Err(Status::IsDir.into()),
        Kind::Symlink | Kind::Special { .. } => return Err(Status::Inval.into()),
    }
    perm::need_file_write(&inode, cred)?;
    let count = u32::try_from(len).map_err(|_| Status::Inval)?;
    let end = op.offset.checked_add(len as u64).filter(|end| *end <= FILE_SIZE_MAX);
    let end = end.ok_or(Status::FBig)?;
    if len == 0 {
        return Ok(Done::default());
    }
    let now = tx.now();
    tx.update(inode.file, |inode| {
        inode.size = inode.size.max(end);
        inode.used = inode.used.saturating_add(len as u64).min(inode.size);
        inode.mode = perm::mode_after_write(inode, cred);
        inode.mtime_ns = now;
        inode.ctime_ns = now;
        inode.kind = Kind::File { exclusive: None };
    })?;
    tx.effect(Effect::Write { file: inode.file, offset: op.offset });
    Ok(Done { count, ..Done::default() })
}
