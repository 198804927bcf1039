//! The mount list: who said that it mounted what (RFC 1813 sections 5.2.1 to 5.2.4).
//!
//! A list for people, not a permission: DUMP shows it, nothing is decided by it. It is replicated so that a takeover
//! does not forget it, and bounded, because a client that crashes never unmounts: when it is full the entry that was
//! mounted longest ago goes. A row's age is the log index of its last MNT.

use std::io;
use std::net::IpAddr;

use bytes::Bytes;

use super::Fs;
use super::rows::{Fields, MOUNT_TAG, corrupt};

/// Most entries of the mount list. Part of the replicated format: every replica drops the oldest at the same entry.
pub const MOUNTS_MAX: u64 = 4_096;
/// Longest path of an entry, bytes: MNTPATHLEN, RFC 1813 section 5.1.2.
pub const MOUNT_PATH_MAX: usize = 1_024;
/// Format of the rows.
const FORMAT: u8 = 1;

/// What all keys of one client begin with: `None` where the client is no address.
pub(super) fn client_prefix(client: &[u8]) -> Option<Vec<u8>> {
    let len = u8::try_from(client.len()).ok().filter(|len| matches!(len, 4 | 16))?;
    let mut key = Vec::with_capacity(2 + client.len() + MOUNT_PATH_MAX);
    key.extend_from_slice(&[MOUNT_TAG, len]);
    key.extend_from_slice(client);
    Some(key)
}

/// The value of a row.
pub(super) fn encode(index: u64) -> Bytes {
    let mut row = Vec::with_capacity(9);
    row.push(FORMAT);
    row.extend_from_slice(&index.to_le_bytes());
    row.into()
}

/// A row's age: the log index of its last MNT.
pub(super) fn decode(row: &[u8]) -> io::Result<u64> {
    let mut fields = Fields::new(row, "the mount list");
    if fields.u8()? != FORMAT {
        return Err(corrupt("the mount list"));
    }
    fields.u64()
}

fn decode_key(key: &[u8]) -> io::Result<(IpAddr, Bytes)> {
    let mut fields = Fields::new(key, "the mount list");
    fields.u8()?;
    let client = match fields.u8()? {
        4 => IpAddr::from(fields.array::<4>()?),
        16 => IpAddr::from(fields.array::<16>()?),
        _ => return Err(corrupt("the mount list")),
    };
    Ok((client, Bytes::copy_from_slice(fields.rest())))
}

impl Fs {
    /// The mount list, what was mounted longest ago first. Empty where the disk fails (the log then says so).
    pub fn mounts(&self) -> Vec<(IpAddr, Bytes)> {
        let _view = self.view.read();
        let mut rows: Vec<io::Result<(u64, (IpAddr, Bytes))>> = Vec::new();
        let walked = self.kv.range(&[MOUNT_TAG], &[MOUNT_TAG + 1], &mut |key, row| {
            rows.push(decode(row).and_then(|age| Ok((age, decode_key(key)?))));
            true
        });
        let rows: io::Result<Vec<_>> =
            walked.map_err(io::Error::from).and_then(|()| rows.into_iter().collect());
        let mut rows = rows.unwrap_or_else(|error| {
            self.read_failed(&error);
            Vec::new()
        });
        rows.sort();
        rows.into_iter().map(|(_, mount)| mount).collect()
    }
}
