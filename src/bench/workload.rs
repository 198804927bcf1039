//! What is measured: the rows of the table.

use clap::ValueEnum;

/// A kind of load. The order is that of the table; `create` and `smallfile` make what `remove` removes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Workload {
    /// NULL: the price of RPC alone
    Null,
    /// GETATTR of random files
    Getattr,
    /// LOOKUP of random files
    Lookup,
    /// READ of 4 KiB at random places
    Randread4k,
    /// READ of 1 MiB after 1 MiB
    Seqread1m,
    /// WRITE of 4 KiB at random places, FILE_SYNC
    Randwrite4kSync,
    /// WRITE of 4 KiB at random places, UNSTABLE
    Randwrite4k,
    /// WRITE of 1 MiB after 1 MiB, UNSTABLE
    Seqwrite1m,
    /// CREATE, guarded
    Create,
    /// CREATE, WRITE of 8 KiB FILE_SYNC, GETATTR: what unpacking an archive does
    Smallfile,
    /// MKDIR and RMDIR
    Mkdir,
    /// RENAME forth and back
    Rename,
    /// REMOVE of files that were made before
    Remove,
    /// READDIRPLUS, whole listings of 2,000 entries
    Readdirplus,
}

/// What a row counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Calls; CPU per 10,000.
    Calls,
    /// MiB of data; CPU per GiB.
    Mib,
    /// Directory entries; CPU per 10,000.
    Entries,
}

impl Unit {
    /// Of the rate.
    pub fn rate(self) -> &'static str {
        match self {
            Self::Calls => "calls/s",
            Self::Mib => "MiB/s",
            Self::Entries => "entries/s",
        }
    }

    /// What CPU seconds are per.
    pub fn cpu(self) -> &'static str {
        match self {
            Self::Calls => "10k calls",
            Self::Mib => "GiB",
            Self::Entries => "10k entries",
        }
    }

    /// So many of what the rate counts are one of what CPU seconds are per.
    pub fn cpu_scale(self) -> f64 {
        match self {
            Self::Calls | Self::Entries => 10_000.0,
            Self::Mib => 1024.0,
        }
    }
}

impl Workload {
    /// The name on the command line and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Getattr => "getattr",
            Self::Lookup => "lookup",
            Self::Randread4k => "randread4k",
            Self::Seqread1m => "seqread1m",
            Self::Randwrite4kSync => "randwrite4k-sync",
            Self::Randwrite4k => "randwrite4k",
            Self::Seqwrite1m => "seqwrite1m",
            Self::Create => "create",
            Self::Smallfile => "smallfile",
            Self::Mkdir => "mkdir",
            Self::Rename => "rename",
            Self::Remove => "remove",
            Self::Readdirplus => "readdirplus",
        }
    }

    /// What its row counts.
    pub fn unit(self) -> Unit {
        match self {
            Self::Seqread1m | Self::Seqwrite1m => Unit::Mib,
            Self::Readdirplus => Unit::Entries,
            _ => Unit::Calls,
        }
    }
}

/// How the load comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// TCP connections, a thread each.
    pub connections: usize,
    /// Calls outstanding on each.
    pub window: usize,
}

/// Throughput: enough calls at a time for the log to write many with one fdatasync.
pub const BUSY: Shape = Shape { connections: 2, window: 16 };
/// Latency: the next call after the reply.
pub const SINGLE: Shape = Shape { connections: 1, window: 1 };
/// In this order, for each workload.
pub const SHAPES: [Shape; 2] = [BUSY, SINGLE];
