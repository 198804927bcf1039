//! The mount list's operations. They ask for no permission: the front end lists only what it granted.

use std::io;

use bytes::Bytes;
use proto::op::{MountAdd, MountRemove};

use super::tx::Tx;
use super::{Done, Stop};
use crate::fs::Status;
use crate::fs::mounts::{MOUNT_PATH_MAX, MOUNTS_MAX, client_prefix, decode, encode};
use crate::fs::rows::MOUNT_TAG;

/// RFC 1813 section 5.2.1. What is listed already becomes the newest; when the list is full the oldest goes.
pub(super) fn add(tx: &mut Tx<'_>, op: &MountAdd) -> Result<Done, Stop> {
    let mut key = client_prefix(&op.client).ok_or(Status::Inval)?;
    if op.path.is_empty() {
        return Err(Status::Inval.into());
    }
    if op.path.len() > MOUNT_PATH_MAX {
        return Err(Status::NameTooLong.into());
    }
    key.extend_from_slice(&op.path);
    if tx.row(&key)?.is_none() {
        if tx.meta.mounts >= MOUNTS_MAX {
            drop_oldest(tx)?;
        }
        tx.meta.mounts += 1;
    }
    let row = encode(tx.meta.applied);
    tx.set_row(key.into(), Some(row));
    Ok(Done::default())
}

/// RFC 1813 sections 5.2.3 (a path) and 5.2.4 (no path: all of this client).
pub(super) fn remove(tx: &mut Tx<'_>, op: &MountRemove) -> Result<Done, Stop> {
    let mut key = client_prefix(&op.client).ok_or(Status::Inval)?;
    if op.path.is_empty() {
        for key in listed(tx, &key)? {
            drop_row(tx, key);
        }
        return Ok(Done::default());
    }
    key.extend_from_slice(&op.path);
    if tx.row(&key)?.is_some() {
        drop_row(tx, key.into());
    }
    Ok(Done::default())
}

fn drop_row(tx: &mut Tx<'_>, key: Bytes) {
    tx.set_row(key, None);
    tx.meta.mounts = tx.meta.mounts.saturating_sub(1);
}

/// Keys with this prefix, [`MOUNTS_MAX`] at most.
fn listed(tx: &Tx<'_>, prefix: &[u8]) -> Result<Vec<Bytes>, Stop> {
    let mut keys = Vec::new();
    tx.walk(prefix, &mut |key, _| {
        if !key.starts_with(prefix) {
            return false;
        }
        keys.push(Bytes::copy_from_slice(key));
        true
    })?;
    Ok(keys)
}

/// One walk over the list, and only where it is full.
fn drop_oldest(tx: &mut Tx<'_>) -> Result<(), Stop> {
    let mut oldest: io::Result<Option<(u64, Bytes)>> = Ok(None);
    tx.walk(&[MOUNT_TAG], &mut |key, row| {
        match (decode(row), &mut oldest) {
            (Err(error), _) => oldest = Err(error),
            (Ok(age), Ok(found)) if found.as_ref().is_none_or(|(least, _)| age < *least) => {
                *found = Some((age, Bytes::copy_from_slice(key)));
            }
            (Ok(_), _) => {}
        }
        oldest.is_ok()
    })?;
    if let Some((_, key)) = oldest? {
        drop_row(tx, key);
    }
    Ok(())
}
