//! A full copy of an export for a node that is empty or past the log's horizon (Raft thesis section 5, with the content
//! copied while it is served).
//!
//! The source sends its metadata as of its last checkpoint c, the content as it happens to be (fuzzy), and the log
//! from c+1 to e, its applied index at the end. The receiver builds a new directory beside the old one and only when all of it is durable
//! puts it in the old one's place; then it starts the group there as after any restart: replaying c+1..e makes the content
//! exact, because effects are blind physical writes and file ids are never reused. Until then it has no part in Raft: it
//! neither votes nor acknowledges.

mod kept;
mod receiver;
mod source;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::disk::{Disk, RealDisk};
use crate::wal::WalOptions;

pub use kept::{KEPT_COPY, kept_dir};
pub use receiver::{ImageProgress, OldVote, Receiver, install, old_vote};
pub use source::{Sending, Sent, Source, send};

/// Bytes of one part, at most (one part is one message of the stream).
const PART_BYTES: usize = 1 << 20;

/// Why a copy failed. The export's old directory, if any, is as it was.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The other side is gone.
    #[error("the other node closed the stream")]
    Closed,
    /// What came makes no sense: another version, or a bug.
    #[error("the copy is malformed: {0}")]
    Malformed(&'static str),
    /// What was in the source's log at the beginning is not committed: the source may not lead any more.
    #[error("the source's log does not get applied; it may have lost its lead")]
    Stalled,
    /// A store of this node.
    #[error("{what}: {source}")]
    Store {
        /// Verb and noun.
        what: &'static str,
        /// What it said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

fn store<E: Into<Box<dyn std::error::Error + Send + Sync>>>(
    what: &'static str,
) -> impl FnOnce(E) -> ImageError {
    move |source| ImageError::Store { what, source: source.into() }
}

/// Where an export's directory is, or is to be: a name on a disk, beside which copies come in. `divergent` on that disk is where
/// what is kept of replaced copies goes.
#[derive(Clone, Debug)]
pub struct Place {
    disk: Arc<dyn Disk>,
    name: PathBuf,
    wal: WalOptions,
}

impl Place {
    /// On this disk, under this name. A copy's log is made with these options.
    pub fn new(disk: Arc<dyn Disk>, name: impl Into<PathBuf>, wal: WalOptions) -> Self {
        Self { disk, name: name.into(), wal }
    }

    /// `DATA/exports/UUID`, a directory of the host's.
    pub fn of(dir: &Path) -> Self {
        let or_here = |dir: Option<&Path>| {
            dir.filter(|d| !d.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned()
        };
        let exports = or_here(dir.parent());
        let name =
            Path::new(exports.file_name().unwrap_or_default()).join(dir.file_name().unwrap_or_default());
        Self::new(Arc::new(RealDisk::new(or_here(exports.parent()))), name, WalOptions::default())
    }

    /// The directory of all exports.
    fn parent(&self) -> &Path {
        self.name.parent().unwrap_or(Path::new(""))
    }

    fn sibling(&self, suffix: &str) -> PathBuf {
        let mut name = self.name.as_os_str().to_owned();
        name.push(".");
        name.push(suffix);
        name.into()
    }
}
