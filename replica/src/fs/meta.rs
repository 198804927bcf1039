//! The meta row: where the state machine stands. Kept in memory, written with each checkpoint.
//!
//! ```text
//! | format 1 | applied 8 | term 8 | next file id 8 | last time ns 8 | write verifier 8 | witness identity 8 |
//! | digest 8 | digest index 8 | digest at that index 8 | files 8 | bytes 8 |
//! | quota bytes 8 | quota inodes 8 | mounts 8 |                                   from format 2 on
//! ```

use std::io;

use bytes::Bytes;

use super::Quota;
use super::rows::{Fields, corrupt};
use crate::ids::FileId;
use crate::log::{LogIndex, Term};

/// Format of the row; every older one is read too.
const FORMAT: u8 = 2;

/// Everything in the state that is not a row of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Meta {
    /// Last applied entry.
    pub applied: LogIndex,
    /// Its term.
    pub term: Term,
    /// Id of the next file. Ids are never reused.
    pub next_file: FileId,
    /// The last time that any inode was given: the next is later.
    pub last_ns: u64,
    /// The incarnation's write verifier.
    pub verifier: u64,
    /// Identity of the adopted witness; 0: none.
    pub witness: u64,
    /// Rolling digest as of `applied`.
    pub digest: u64,
    /// Where nodes last compared.
    pub digest_index: LogIndex,
    /// The digest there.
    pub digest_at_index: u64,
    /// Inodes.
    pub files: u64,
    /// Bytes of content, as shown in attributes.
    pub bytes: u64,
    /// What `files` and `bytes` may grow to.
    pub quota: Quota,
    /// Entries of the mount list.
    pub mounts: u64,
}

impl Meta {
    /// A new export: nothing but its root directory.
    pub(crate) fn new() -> Self {
        Self {
            applied: 0,
            term: 0,
            next_file: FileId(FileId::ROOT.0 + 1),
            last_ns: 0,
            verifier: 0,
            witness: 0,
            digest: 0,
            digest_index: 0,
            digest_at_index: 0,
            files: 1,
            bytes: 0,
            quota: Quota::default(),
            mounts: 0,
        }
    }

    /// The row.
    pub(crate) fn encode(&self) -> Bytes {
        let fields = [
            self.applied,
            self.term,
            self.next_file.0,
            self.last_ns,
            self.verifier,
            self.witness,
            self.digest,
            self.digest_index,
            self.digest_at_index,
            self.files,
            self.bytes,
            self.quota.bytes,
            self.quota.inodes,
            self.mounts,
        ];
        let mut row = Vec::with_capacity(1 + fields.len() * 8);
        row.push(FORMAT);
        fields.iter().for_each(|field| row.extend_from_slice(&field.to_le_bytes()));
        row.into()
    }

    /// Reads the row.
    pub(crate) fn decode(row: &[u8]) -> io::Result<Self> {
        let mut fields = Fields::new(row, "the meta row");
        let format = fields.u8()?;
        if !(1..=FORMAT).contains(&format) {
            return Err(corrupt("the meta row"));
        }
        let mut meta = Self {
            applied: fields.u64()?,
            term: fields.u64()?,
            next_file: FileId(fields.u64()?),
            last_ns: fields.u64()?,
            verifier: fields.u64()?,
            witness: fields.u64()?,
            digest: fields.u64()?,
            digest_index: fields.u64()?,
            digest_at_index: fields.u64()?,
            files: fields.u64()?,
            bytes: fields.u64()?,
            quota: Quota::default(),
            mounts: 0,
        };
        if format >= 2 {
            meta.quota = Quota { bytes: fields.u64()?, inodes: fields.u64()? };
            meta.mounts = fields.u64()?;
        }
        Ok(meta)
    }
}

#[cfg(test)]
mod tests {
    //! Goal: the row format never changes by accident, and rows of older formats are read. Method: a golden row for
    //! each format.

    use super::*;

    fn sample() -> Meta {
        Meta {
            applied: 1,
            term: 2,
            next_file: FileId(3),
            last_ns: 4,
            verifier: 5,
            witness: 6,
            digest: 7,
            digest_index: 8,
            digest_at_index: 9,
            files: 10,
            bytes: 11,
            quota: Quota { bytes: 12, inodes: 13 },
            mounts: 14,
        }
    }

    fn golden(format: u8, fields: u64) -> Vec<u8> {
        let mut row = vec![format];
        (1..=fields).for_each(|n| row.extend_from_slice(&n.to_le_bytes()));
        row
    }

    #[test]
    fn golden_row() {
        let golden = golden(2, 14);
        assert_eq!(sample().encode(), golden);
        assert_eq!(Meta::decode(&golden).unwrap(), sample());
        for cut in 0..golden.len() {
            assert!(Meta::decode(&golden[..cut]).is_err(), "{cut}");
        }
    }

    #[test]
    fn older_and_newer_formats() {
        let before = Meta { quota: Quota::default(), mounts: 0, ..sample() };
        assert_eq!(Meta::decode(&golden(1, 11)).unwrap(), before);
        assert!(Meta::decode(&golden(0, 14)).is_err());
        assert!(Meta::decode(&golden(3, 14)).is_err());
    }
}
