//! What can go wrong with a log.

use std::io;
use std::path::PathBuf;

use crate::log::LogIndex;

/// An error of the WAL. After [`WalError::Disk`] from a [`super::Wal`], that WAL answers nothing but
/// [`WalError::Poisoned`].
#[derive(Debug, thiserror::Error)]
pub enum WalError {
    /// The disk failed: hand over and exit, never retry.
    #[error("cannot {action} {}: {source}", file.display())]
    Disk {
        /// Verb.
        action: &'static str,
        /// What it was done to.
        file: PathBuf,
        /// The host's error.
        source: io::Error,
    },
    /// An earlier write or fdatasync failed: what the disk holds is not known any more.
    #[error("the log is closed: an earlier write or fdatasync of it failed")]
    Poisoned,
    /// What had been durable is not there any more. Nothing was changed.
    #[error(
        "{} is damaged at offset {offset}: {what}. Nothing was changed. Move this export's directory aside and \
         let the peer rebuild it: hanfs copies it back", file.display()
    )]
    Damaged {
        /// The segment.
        file: PathBuf,
        /// Where in it, bytes.
        offset: u64,
        /// What was found there.
        what: String,
    },
    /// A newer hanfs wrote this log.
    #[error(
        "{} has log format {found}, this hanfs reads format {known}: install the newer hanfs again. Nothing was \
         changed", file.display()
    )]
    Version {
        /// The segment.
        file: PathBuf,
        /// Its version.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// A log is to be created where one is.
    #[error("{} holds a log already: move it aside first", dir.display())]
    Exists {
        /// Its directory.
        dir: PathBuf,
    },
    /// More bytes than one record may have. Nothing was written.
    #[error("a log record of {bytes} bytes exceeds the limit of {max} bytes")]
    TooLarge {
        /// Given.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// Entries that do not follow on what the log holds. Nothing was written.
    #[error("entry {index} cannot be appended: the log holds entries {first} to {last}")]
    NotContiguous {
        /// The entry that does not fit.
        index: LogIndex,
        /// The log's first entry.
        first: LogIndex,
        /// The log's last entry.
        last: LogIndex,
    },
    /// The entries asked for were cut: a checkpoint or an image covers them.
    #[error("the log begins at entry {first}: what was before is in the checkpoint")]
    Compacted {
        /// The first entry there is.
        first: LogIndex,
    },
    /// A segment size out of bounds.
    #[error("log segments of {given} bytes: must be between {min} and {max} bytes")]
    SegmentBytes {
        /// Asked for.
        given: u64,
        /// Least.
        min: u64,
        /// Most.
        max: u64,
    },
}
