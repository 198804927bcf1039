//! An inode: the attributes of one file and what the state machine must know beyond them.
//!
//! The row is 96 bytes, little-endian, the same on both replicas:
//!
//! ```text
//! 0         1       2        4          8        12       16         20         24
//! | format 1| type 1| mode 2 | nlink 4  | uid 4  | gid 4  | major 4  | minor 4  |
//! | generation 8 | size 8 | used 8 | atime ns 8 | mtime ns 8 | ctime ns 8 |          24..72
//! | a 8 | b 8 | c 8 |                                                               72..96
//! ```
//!
//! Of a directory, a is its parent's file id, b the number of its entries and c the cookie of its next entry.
//! Of a regular file, a is the verifier of the exclusive CREATE that made it and b is 1 while that counts. All
//! else is 0. Fixed places keep decoding to a copy, as `apply` and every read decode several rows.
//!
//! `used` of a regular file is an estimate that both replicas compute alike, not what the host allocated: each
//! WRITE adds its length, and it never exceeds the size. So it is exact for files without holes, and a file
//! with holes shows at least what was last written into it.

use std::io;

use bytes::Bytes;
use proto::op::{Attr, PreAttr};

use super::ftype;
use super::rows::{Fields, corrupt};
use crate::ids::FileId;

/// Format of the row.
const FORMAT: u8 = 1;
/// Bytes of the row.
const ROW_BYTES: usize = 96;
/// What a directory's size and used say, bytes: one block, whatever is in it.
const DIR_BYTES: u64 = 4096;
/// `used` is shown in whole blocks of this many bytes, so that no tool takes a short tail for a hole.
const BLOCK_BYTES: u64 = 4096;
/// First cookie of a directory's own entries: 1 is `.`, 2 is `..`.
pub(crate) const COOKIE_FIRST: u64 = 3;

/// One inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Inode {
    /// Not in the row: the key has it.
    pub file: FileId,
    /// Log index of the operation that made it.
    pub generation: u64,
    /// Mode bits, 07777.
    pub mode: u32,
    /// Names (of a directory: 2 and one for each subdirectory).
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Of a regular file and a symbolic link, bytes.
    pub size: u64,
    /// See the module's documentation.
    pub used: u64,
    /// ns since 1970. Reading does not move it: reads do not enter the log.
    pub atime_ns: u64,
    /// ns since 1970.
    pub mtime_ns: u64,
    /// ns since 1970; another at each change.
    pub ctime_ns: u64,
    /// What it is.
    pub kind: Kind,
}

/// What an inode is, and what only such an inode has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// NF3REG.
    File {
        /// Verifier of the exclusive CREATE that made it, until the first change after that.
        exclusive: Option<u64>,
    },
    /// NF3DIR.
    Dir {
        /// `..`; the root's is itself.
        parent: FileId,
        /// Entries, without `.` and `..`.
        entries: u64,
        /// Cookie of the next entry.
        next_cookie: u64,
    },
    /// NF3LNK.
    Symlink,
    /// NF3BLK, NF3CHR, NF3SOCK, NF3FIFO.
    Special {
        /// ftype3.
        file_type: u32,
        /// specdata1.
        major: u32,
        /// specdata2.
        minor: u32,
    },
}

impl Kind {
    /// A directory without entries.
    pub(crate) fn empty_dir(parent: FileId) -> Self {
        Self::Dir { parent, entries: 0, next_cookie: COOKIE_FIRST }
    }
}

impl Inode {
    /// ftype3.
    pub(crate) fn file_type(&self) -> u32 {
        match self.kind {
            Kind::File { .. } => ftype::REG,
            Kind::Dir { .. } => ftype::DIR,
            Kind::Symlink => ftype::LNK,
            Kind::Special { file_type, .. } => file_type,
        }
    }

    /// Is it a directory?
    pub(crate) fn is_dir(&self) -> bool {
        matches!(self.kind, Kind::Dir { .. })
    }

    /// Is it a regular file?
    pub(crate) fn is_file(&self) -> bool {
        matches!(self.kind, Kind::File { .. })
    }

    /// fattr3's `used`.
    pub(crate) fn used_shown(&self) -> u64 {
        match self.kind {
            Kind::File { .. } => self.used.next_multiple_of(BLOCK_BYTES),
            Kind::Dir { .. } => DIR_BYTES,
            Kind::Symlink | Kind::Special { .. } => 0,
        }
    }

    /// fattr3, RFC 1813 section 2.6.
    pub(crate) fn attr(&self) -> Attr {
        let (major, minor) = match self.kind {
            Kind::Special { major, minor, .. } => (major, minor),
            _ => (0, 0),
        };
        Attr {
            file_id: self.file.0,
            generation: self.generation,
            file_type: self.file_type(),
            mode: self.mode,
            nlink: self.nlink,
            uid: self.uid,
            gid: self.gid,
            size: if self.is_dir() { DIR_BYTES } else { self.size },
            used: self.used_shown(),
            major,
            minor,
            atime_ns: self.atime_ns,
            mtime_ns: self.mtime_ns,
            ctime_ns: self.ctime_ns,
        }
    }

    /// wcc_attr, RFC 1813 section 2.6.
    pub(crate) fn pre_attr(&self) -> PreAttr {
        let size = if self.is_dir() { DIR_BYTES } else { self.size };
        PreAttr { size, mtime_ns: self.mtime_ns, ctime_ns: self.ctime_ns }
    }

    /// The row.
    pub(crate) fn encode(&self) -> Bytes {
        let (major, minor, a, b, c) = match self.kind {
            Kind::File { exclusive } => (0, 0, exclusive.unwrap_or(0), u64::from(exclusive.is_some()), 0),
            Kind::Dir { parent, entries, next_cookie } => (0, 0, parent.0, entries, next_cookie),
            Kind::Symlink => (0, 0, 0, 0, 0),
            Kind::Special { major, minor, .. } => (major, minor, 0, 0, 0),
        };
        let mut row = Vec::with_capacity(ROW_BYTES);
        row.push(FORMAT);
        row.push(self.file_type() as u8);
        row.extend_from_slice(&(self.mode as u16).to_le_bytes());
        for field in [self.nlink, self.uid, self.gid, major, minor] {
            row.extend_from_slice(&field.to_le_bytes());
        }
        let times = [self.atime_ns, self.mtime_ns, self.ctime_ns];
        for field in [self.generation, self.size, self.used].into_iter().chain(times).chain([a, b, c]) {
            row.extend_from_slice(&field.to_le_bytes());
        }
        debug_assert_eq!(row.len(), ROW_BYTES);
        row.into()
    }

    /// Reads a row.
    pub(crate) fn decode(file: FileId, row: &[u8]) -> io::Result<Self> {
        let mut fields = Fields::new(row, "an inode");
        if row.len() != ROW_BYTES || fields.u8()? != FORMAT {
            return Err(corrupt("an inode"));
        }
        let file_type = u32::from(fields.u8()?);
        let mode = u32::from(fields.u16()?);
        let [nlink, uid, gid, major, minor] =
            [fields.u32()?, fields.u32()?, fields.u32()?, fields.u32()?, fields.u32()?];
        let [generation, size, used] = [fields.u64()?, fields.u64()?, fields.u64()?];
        let [atime_ns, mtime_ns, ctime_ns] = [fields.u64()?, fields.u64()?, fields.u64()?];
        let [a, b, c] = [fields.u64()?, fields.u64()?, fields.u64()?];
        let kind = match file_type {
            ftype::REG => Kind::File { exclusive: (b == 1).then_some(a) },
            ftype::DIR => Kind::Dir { parent: FileId(a), entries: b, next_cookie: c },
            ftype::LNK => Kind::Symlink,
            ftype::BLK | ftype::CHR | ftype::SOCK | ftype::FIFO => Kind::Special { file_type, major, minor },
            _ => return Err(corrupt("an inode")),
        };
        Ok(Self { file, generation, mode, nlink, uid, gid, size, used, atime_ns, mtime_ns, ctime_ns, kind })
    }
}

#[cfg(test)]
mod tests {
    //! Goal: the row format never changes by accident. Method: one golden row per kind of inode, and each
    //! damaged row is refused.

    use super::*;

    fn sample(kind: Kind) -> Inode {
        Inode {
            file: FileId(7),
            generation: 0x1122,
            mode: 0o4755,
            nlink: 3,
            uid: 1000,
            gid: 100,
            size: 5000,
            used: 4097,
            atime_ns: 1,
            mtime_ns: 2,
            ctime_ns: 3,
            kind,
        }
    }

    fn hex(row: &[u8]) -> String {
        row.iter().map(|b| format!("{b:02x}")).collect()
    }

    #[test]
    fn golden_rows() {
        let head = "ed0903000000e803000064000000";
        let numbers = concat!(
            "2211000000000000881300000000000001100000000000000100000000000000",
            "02000000000000000300000000000000"
        );
        let file = sample(Kind::File { exclusive: Some(9) });
        let tail = "090000000000000001000000000000000000000000000000";
        assert_eq!(hex(&file.encode()), format!("0101{head}0000000000000000{numbers}{tail}"));
        let dir = sample(Kind::Dir { parent: FileId(1), entries: 2, next_cookie: 5 });
        let tail = "010000000000000002000000000000000500000000000000";
        assert_eq!(hex(&dir.encode()), format!("0102{head}0000000000000000{numbers}{tail}"));
        let device = sample(Kind::Special { file_type: ftype::CHR, major: 1, minor: 3 });
        assert_eq!(hex(&device.encode()), format!("0104{head}0100000003000000{numbers}{}", "0".repeat(48)));
        for inode in [file, dir, device, sample(Kind::Symlink), sample(Kind::File { exclusive: None })] {
            assert_eq!(Inode::decode(FileId(7), &inode.encode()).unwrap(), inode);
        }
    }

    #[test]
    fn damage_is_an_error() {
        let row = sample(Kind::Symlink).encode();
        for cut in 0..row.len() {
            assert!(Inode::decode(FileId(7), &row[..cut]).is_err());
        }
        for (place, byte) in [(0, 2), (1, 0), (1, 9)] {
            let mut bad = row.to_vec();
            bad[place] = byte;
            assert!(Inode::decode(FileId(7), &bad).is_err());
        }
    }
}
