//! A file's bytes as host files: parts of [`PART_BYTES`] each.
//!
//! ```text
//! content/<2 hex>/<16 hex file id>          part 0: all that nearly every file ever has
//! content/large/<16 hex file id>.<hex n>    part n: bytes from n x PART_BYTES on; there once it was written
//! ```
//!
//! RFC 1813 files reach 2^63 - 1 bytes (what Linux clients can name), a host's need not. Which later parts exist is
//! in memory, so that files without any pay nothing for them: no look at the disk, one relaxed load. Parts are
//! never unlinked before their file is; a truncate leaves empty ones.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::RwLock;

use super::context;
use crate::disk::Disk;
use crate::ids::FileId;

/// Bytes of a file in one host file: 8 TiB, half of what ext4 with 4 KiB blocks takes, the least of the file systems
/// that content may lie on. A write that passes the size check must never be refused by either replica's host.
pub(super) const PART_BYTES: u64 = 1 << 43;

/// One host file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Part {
    pub(super) file: FileId,
    pub(super) number: u64,
}

/// A host directory of parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum HostDir {
    /// Part 0 of the files whose ids end in this byte: ids count up, so that spreads them evenly.
    First(u8),
    /// All other parts.
    Large,
}

impl HostDir {
    /// In the content's directory.
    pub(super) fn path(self) -> PathBuf {
        match self {
            Self::First(dir) => format!("{dir:02x}").into(),
            Self::Large => "large".into(),
        }
    }
}

/// The host directory of a file's part 0.
pub(super) fn dir_of(file: FileId) -> u8 {
    file.0.to_le_bytes()[0]
}

impl Part {
    /// Where every file begins.
    pub(super) fn first(file: FileId) -> Self {
        Self { file, number: 0 }
    }

    pub(super) fn dir(self) -> HostDir {
        if self.number == 0 { HostDir::First(dir_of(self.file)) } else { HostDir::Large }
    }

    /// In the content's directory.
    pub(super) fn path(self) -> PathBuf {
        let dir = self.dir().path();
        match self.number {
            0 => dir.join(format!("{:016x}", self.file.0)),
            number => dir.join(format!("{:016x}.{number:x}", self.file.0)),
        }
    }

    /// From a name in [`HostDir::Large`].
    fn parse(name: &str) -> Option<Self> {
        let (file, number) = name.split_once('.')?;
        let file = (file.len() == 16).then(|| u64::from_str_radix(file, 16).ok())??;
        let number = u64::from_str_radix(number, 16).ok().filter(|number| *number > 0)?;
        Some(Self { file: FileId(file), number })
    }
}

/// Bytes in a row that lie in one part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stretch {
    pub(super) number: u64,
    /// Where they begin in the part.
    pub(super) at: u64,
    /// How many bytes of the whole are before them.
    pub(super) skip: usize,
    pub(super) len: usize,
}

/// `len` bytes from `offset` on, part by part.
pub(super) fn stretches(part_bytes: u64, offset: u64, len: usize) -> impl Iterator<Item = Stretch> {
    let mut skip = 0;
    std::iter::from_fn(move || {
        let rest = len.checked_sub(skip).filter(|rest| *rest > 0)?;
        let from = offset.checked_add(skip as u64)?;
        let at = from % part_bytes;
        let len = usize::try_from(part_bytes - at).unwrap_or(usize::MAX).min(rest);
        let stretch = Stretch { number: from / part_bytes, at, skip, len };
        skip += len;
        Some(stretch)
    })
}

/// Which parts but the first exist.
#[derive(Debug, Default)]
pub(super) struct LargeParts {
    any: AtomicBool,
    all: RwLock<BTreeSet<Part>>,
}

impl LargeParts {
    /// Looks at the disk, once.
    pub(super) fn open(disk: &dyn Disk) -> io::Result<Self> {
        let dir = HostDir::Large.path();
        let names = match disk.list(&dir) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::default()),
            listed => listed.map_err(context("list", disk, &dir))?,
        };
        let all: BTreeSet<Part> = names.iter().filter_map(|name| Part::parse(name.to_str()?)).collect();
        Ok(Self { any: AtomicBool::new(!all.is_empty()), all: RwLock::new(all) })
    }

    pub(super) fn insert(&self, part: Part) {
        self.all.write().insert(part);
        self.any.store(true, Ordering::Release);
    }

    pub(super) fn remove(&self, part: Part) {
        self.all.write().remove(&part);
    }

    /// Parts of the file after number `after`, in order.
    pub(super) fn of(&self, file: FileId, after: u64) -> Vec<Part> {
        if !self.any.load(Ordering::Acquire) {
            return Vec::new();
        }
        let from = Part { file, number: after.saturating_add(1) };
        let to = Part { file, number: u64::MAX };
        self.all.read().range(from..=to).copied().collect()
    }

    /// The one among them that comes first.
    pub(super) fn next(&self, file: FileId, after: u64) -> Option<u64> {
        self.of(file, after).first().map(|part| part.number)
    }

    /// Parts of the files that belong to one of the 256 directories.
    pub(super) fn in_dir(&self, dir: u8) -> Vec<Part> {
        self.all.read().iter().filter(|part| dir_of(part.file) == dir).copied().collect()
    }
}
