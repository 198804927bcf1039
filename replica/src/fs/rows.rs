//! The rows of the metadata store: their keys, and how inodes and directory entries are encoded.
//!
//! All rows share one ordered key space. The first byte of a key says what the row is; numbers in keys are
//! big-endian, so that the store's order is the number's order. Numbers in values are little-endian.
//!
//! ```text
//! 'm'                                   meta: where the state machine stands (meta.rs)
//! 'i' | file id 8                       inode
//! 's' | file id 8                       target of a symbolic link: its bytes
//! 'n' | directory 8 | name 1..255       entry by name:   | cookie 8 | file id 8 |
//! 'c' | directory 8 | cookie 8          entry by cookie: | file id 8 | name 1..255 |
//! 'r' | sequence 8                      reply cache (reply_cache.rs)
//! 'H', 'L', 'W'                         clients of locks, locks, waiters (locks/row.rs)
//! ```
//!
//! An entry has two rows because LOOKUP asks by name and READDIR goes on from a cookie; rows of one directory
//! lie together, so both are a short walk in the store.
//!
//! Rows come from this node's own disk or from a peer's image, so decoding is checked; a row that cannot be
//! decoded is an error of the store, never a panic.

use std::io;

use bytes::Bytes;

use crate::ids::FileId;

/// Key of the meta row.
pub(crate) const META_KEY: &[u8] = b"m";
/// First byte of a reply cache row's key.
pub(crate) const REPLY_TAG: u8 = b'r';

/// A row that does not decode: a defect of the disk or of hanfs.
pub(crate) fn corrupt(what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!(
            "{what} in meta.redb is damaged: remove this export's directory, it is rebuilt from the peer"
        ),
    )
}

fn tagged(tag: u8, id: u64) -> [u8; 9] {
    let mut key = [0; 9];
    let (head, tail) = key.split_at_mut(1);
    head.fill(tag);
    tail.copy_from_slice(&id.to_be_bytes());
    key
}

/// Key of an inode row.
pub(crate) fn inode_key(file: FileId) -> [u8; 9] {
    tagged(b'i', file.0)
}

/// Key of a symbolic link's target.
pub(crate) fn symlink_key(file: FileId) -> [u8; 9] {
    tagged(b's', file.0)
}

/// Key of a reply cache row.
pub(crate) fn reply_key(sequence: u64) -> [u8; 9] {
    tagged(REPLY_TAG, sequence)
}

/// Key of an entry by name.
pub(crate) fn name_key(dir: FileId, name: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(9 + name.len());
    key.extend_from_slice(&tagged(b'n', dir.0));
    key.extend_from_slice(name);
    key
}

/// Key of an entry by cookie.
pub(crate) fn cookie_key(dir: FileId, cookie: u64) -> [u8; 17] {
    let mut key = [0; 17];
    let (head, tail) = key.split_at_mut(9);
    head.copy_from_slice(&tagged(b'c', dir.0));
    tail.copy_from_slice(&cookie.to_be_bytes());
    key
}

/// Takes little-endian numbers off the front of a value.
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
    what: &'static str,
}

impl<'a> Fields<'a> {
    /// `what` names the row in errors.
    pub(crate) fn new(rest: &'a [u8], what: &'static str) -> Self {
        Self { rest, what }
    }

    /// The next `N` bytes.
    pub(crate) fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or_else(|| corrupt(self.what))?;
        self.rest = rest;
        Ok(*head)
    }

    /// As many bytes.
    pub(crate) fn take(&mut self, len: usize) -> io::Result<&'a [u8]> {
        let (head, rest) = self.rest.split_at_checked(len).ok_or_else(|| corrupt(self.what))?;
        self.rest = rest;
        Ok(head)
    }

    /// The next byte.
    pub(crate) fn u8(&mut self) -> io::Result<u8> {
        self.array::<1>().map(u8::from_le_bytes)
    }

    /// The next u16.
    pub(crate) fn u16(&mut self) -> io::Result<u16> {
        self.array().map(u16::from_le_bytes)
    }

    /// The next u32.
    pub(crate) fn u32(&mut self) -> io::Result<u32> {
        self.array().map(u32::from_le_bytes)
    }

    /// The next u64.
    pub(crate) fn u64(&mut self) -> io::Result<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// What is left.
    pub(crate) fn rest(self) -> &'a [u8] {
        self.rest
    }
}

/// What a directory entry says, found by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// READDIR's position of it.
    pub cookie: u64,
    /// What it names.
    pub file: FileId,
}

impl Entry {
    /// The value of the row by name.
    pub(crate) fn encode_by_name(&self) -> Bytes {
        let mut value = Vec::with_capacity(16);
        value.extend_from_slice(&self.cookie.to_le_bytes());
        value.extend_from_slice(&self.file.0.to_le_bytes());
        value.into()
    }

    /// Reads the row by name.
    pub(crate) fn decode_by_name(value: &[u8]) -> io::Result<Self> {
        let mut fields = Fields::new(value, "a directory entry");
        Ok(Self { cookie: fields.u64()?, file: FileId(fields.u64()?) })
    }

    /// The value of the row by cookie.
    pub(crate) fn encode_by_cookie(&self, name: &[u8]) -> Bytes {
        let mut value = Vec::with_capacity(8 + name.len());
        value.extend_from_slice(&self.file.0.to_le_bytes());
        value.extend_from_slice(name);
        value.into()
    }

    /// Reads the row by cookie, and the name in it.
    pub(crate) fn decode_by_cookie(key: &[u8], value: &Bytes) -> io::Result<(Self, Bytes)> {
        let mut key_fields = Fields::new(key, "a directory entry");
        key_fields.array::<9>()?;
        let cookie = u64::from_be_bytes(key_fields.array()?);
        let mut fields = Fields::new(value, "a directory entry");
        let file = FileId(fields.u64()?);
        Ok((Self { cookie, file }, value.slice_ref(fields.rest())))
    }
}
