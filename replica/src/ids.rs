//! Newtypes for what must not be mixed up.

use std::fmt;
use std::str::FromStr;

/// An export's identity: a UUID, the same for its whole life, part of every file handle.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ExportId(pub [u8; 16]);

impl fmt::Display for ExportId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, b) in self.0.iter().enumerate() {
            if matches!(i, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{b:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for ExportId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ExportId {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        let hex: Vec<u8> = s.bytes().filter(|b| *b != b'-').collect();
        let wrong = || format!("{s:?} is not a UUID");
        if hex.len() != 32 {
            return Err(wrong());
        }
        let mut id = [0; 16];
        for (i, pair) in hex.chunks(2).enumerate() {
            let pair = std::str::from_utf8(pair).map_err(|_| wrong())?;
            id[i] = u8::from_str_radix(pair, 16).map_err(|_| wrong())?;
        }
        Ok(Self(id))
    }
}

/// A file of one export: allocated in `apply`, counted up from [`FileId::ROOT`], never reused.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct FileId(pub u64);

impl FileId {
    /// The export's root directory.
    pub const ROOT: Self = Self(1);
}

/// A file handle without its export (RFC 1813 section 2.5): the same bytes on both nodes, for ever.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Handle {
    /// The file.
    pub file: FileId,
    /// Log index of the operation that made it: a restored export cannot answer to a stranger's handle.
    pub generation: u64,
}

impl From<Handle> for proto::op::Handle {
    fn from(h: Handle) -> Self {
        Self { file_id: h.file.0, generation: h.generation }
    }
}

impl From<&proto::op::Handle> for Handle {
    fn from(h: &proto::op::Handle) -> Self {
        Self { file: FileId(h.file_id), generation: h.generation }
    }
}

/// Raft ids of a group's three voters. They never change.
pub mod voter {
    /// The export's home node.
    pub const HOME: u64 = 1;
    /// The export's mirror node.
    pub const MIRROR: u64 = 2;
    /// The witness, or the stand-in for it.
    pub const WITNESS: u64 = 3;
}
