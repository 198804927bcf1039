//! Names of directory entries: any bytes but `/` and NUL, 1 to [`NAME_MAX`] of them.

use super::{NAME_MAX, Status};

/// Refuses what cannot be a name: NFS3ERR_ACCES for bytes that the server cannot handle and for no name at all
/// (RFC 1813 section 3.2), NFS3ERR_NAMETOOLONG.
pub(crate) fn check(name: &[u8]) -> Result<(), Status> {
    if name.len() > NAME_MAX {
        return Err(Status::NameTooLong);
    }
    if name.is_empty() || name.iter().any(|byte| matches!(byte, b'/' | 0)) {
        return Err(Status::Acces);
    }
    Ok(())
}

/// `.` or `..`: there without an entry, and never to be made or removed.
pub(crate) fn is_dot(name: &[u8]) -> bool {
    matches!(name, b"." | b"..")
}
