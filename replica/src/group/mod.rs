//! An export's Raft group at work: the threads around the sans-IO [`crate::node::Node`] and their queues.
//!
//! ```text
//! front end --proposals--> loop --Persist--> wal ---Written/Durable---> loop
//!                           |  ^                                         |
//! peer, witness <--events---'  '---inputs--- peer, witness               '--Apply--> apply --completions--> front end
//!                                                                                      '--due--> checkpoint
//! ```
//!
//! The loop owns the node and never touches a disk; `wal` owns the log and batches its fdatasyncs; `apply` is the only
//! writer of the state machine; `keeper` makes checkpoints and fetches old entries for a lagging backup. A thread that meets a
//! failed disk says [`GroupEvent::Fatal`] and stops: the process hands over and exits, nothing is retried.
//!
//! Each thread is a loop around a worker that never waits ([`Parts`]): a simulator gives them turns in one thread, in any order.

mod apply;
mod keeper;
mod parts;
mod pins;
mod run;
#[cfg(test)]
mod tests;
mod wal_thread;

use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::Sender;
use parking_lot::Mutex;
use proto::peer::{GroupFrame, GroupHello, WitnessRequest};

use crate::disk::RealDisk;
use crate::fs::{Fs, FsOptions, FsProgress, OpenError};
use crate::handle::{GroupHandle, LeaseCell};
use crate::ids::ExportId;
use crate::log::{LogIndex, Term};
use crate::node::{Input, NodeConfig, NodeStatus};
use crate::wal::{WalError, WalOptions, WalReader};

pub use apply::Applier;
pub use keeper::Keeper;
pub use parts::Parts;
pub(crate) use parts::WAL_DIR;
pub use pins::{LogPin, Pins};
pub use run::Driver;
pub use wal_thread::Logger;

/// What a group is started with.
#[derive(Clone, Debug)]
pub struct GroupConfig {
    /// The export.
    pub id: ExportId,
    /// Its path name.
    pub path: String,
    /// Its directory on this node: `wal/`, `meta.redb`, `content/`.
    pub dir: PathBuf,
    /// This node's name, for the incarnation entry.
    pub node_name: String,
    /// The host's boot id.
    pub boot_id: String,
    /// Raft, leases and timing.
    pub node: NodeConfig,
    /// The state machine.
    pub fs: FsOptions,
    /// The log.
    pub wal: WalOptions,
    /// Log kept for a backup that lags, at most, bytes. Past it the backup is copied anew.
    pub wal_bytes_max: u64,
}

/// What a group tells the server around it. Delivered from the group's threads: must not block.
#[derive(Debug)]
pub enum GroupEvent {
    /// For the peer, on the current session.
    ToPeer(GroupFrame),
    /// For the witness.
    ToWitness(WitnessRequest),
    /// Close the session with the peer and shake hands anew: what and why.
    ResetPeer(String),
    /// The peer lacks what the log no longer has: it must be copied.
    PeerNeedsImage,
    /// This node lacks what the leader's log no longer has, or belongs to a lost history: copy it anew.
    NeedImage(String),
    /// Who leads changed, as far as known here (a raft id).
    Leader(Option<u64>),
    /// This node serves the export from now on.
    Serving {
        /// In this term.
        term: Term,
    },
    /// It does not serve it any more.
    NotServing,
    /// The order to transfer is refused; nothing has changed.
    NoTransfer(&'static str),
    /// The peer is lost and nobody stands in: ask the arbiter.
    AskVerdict,
    /// For the event history.
    Log {
        /// How bad.
        level: tracing::Level,
        /// One sentence.
        text: String,
    },
    /// The group has stopped for good: this node's disk or state is not to be trusted.
    Fatal(String),
}

/// Receives a group's events.
pub type Events = Arc<dyn Fn(GroupEvent) + Send + Sync>;

/// Why a group cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The log.
    #[error(transparent)]
    Wal(#[from] WalError),
    /// The state machine.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The log begins after the state ends.
    #[error(
        "{dir}: the log begins after entry {base} but the checkpoint ends at entry {checkpoint}: this copy has a hole. \
         Move the directory aside and restart: the peer copies it back"
    )]
    Hole {
        /// The export's directory.
        dir: String,
        /// The entry before the log's first.
        base: LogIndex,
        /// The checkpoint.
        checkpoint: LogIndex,
    },
    /// The log ends before the state does.
    #[error(
        "{dir}: the log ends at entry {last} but the checkpoint at entry {checkpoint}: the log was lost or replaced. \
         Move the directory aside and restart: the peer copies it back"
    )]
    ShortLog {
        /// The export's directory.
        dir: String,
        /// The log's last entry.
        last: LogIndex,
        /// The checkpoint.
        checkpoint: LogIndex,
    },
    /// The state machine's disk.
    #[error("prepare the replay: {0}")]
    Replay(crate::fs::ApplyError),
    /// A thread.
    #[error("start a thread: {0}")]
    Thread(std::io::Error),
}

/// What the loop shows of its node after each turn.
struct View {
    status: NodeStatus,
    hello: GroupHello,
}

/// What a turn of one of a group's workers came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Nothing was queued, and nothing was due.
    Idle,
    /// Something was done; there may be more.
    Worked,
    /// It cannot go on before another worker has: come again then.
    Held,
    /// It takes no more turns: it was told to stop, or has said [`GroupEvent::Fatal`].
    Stopped,
}

/// A running group. Dropping it without [`Group::stop`] leaves the threads to end by themselves, as a crash would.
pub struct Group {
    handle: GroupHandle,
    fs: Arc<Fs>,
    lease: Arc<LeaseCell>,
    inputs: Sender<Input>,
    view: Arc<Mutex<View>>,
    reader: WalReader,
    pins: Pins,
    wal_bytes: Arc<std::sync::atomic::AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl Group {
    /// Opens the export's stores, replays the log and takes part in the group.
    pub fn start(config: GroupConfig, events: Events) -> Result<Self, StartError> {
        let path = config.path.clone();
        let disk = Arc::new(RealDisk::new(&config.dir));
        let Parts { mut group, driver, logger, applier, keeper } = Parts::open(disk, config, events)?;
        let spawn = |name: &str, body: Box<dyn FnOnce() + Send>| {
            std::thread::Builder::new().name(format!("{name} {path}")).spawn(body).map_err(StartError::Thread)
        };
        group.threads = vec![
            spawn("wal", Box::new(move || logger.run()))?,
            spawn("apply", Box::new(move || applier.run()))?,
            spawn("keeper", Box::new(move || keeper.run()))?,
            spawn("loop", Box::new(move || driver.run()))?,
        ];
        Ok(group)
    }

    /// What the front end needs.
    pub fn handle(&self) -> GroupHandle {
        self.handle.clone()
    }

    /// Something happened at the edge.
    pub fn input(&self, input: Input) {
        // A stopped loop hears nothing more, which is what it would do with it.
        let _ = self.inputs.send(input);
    }

    /// Raft's view, as of the loop's last turn.
    pub fn node_status(&self) -> NodeStatus {
        self.view.lock().status.clone()
    }

    /// What to say of this group in a handshake.
    pub fn hello(&self) -> GroupHello {
        self.view.lock().hello.clone()
    }

    /// The state machine's view.
    pub fn progress(&self) -> FsProgress {
        self.fs.progress()
    }

    /// Is there room on this node's disk for what grows?
    pub fn has_room(&self) -> bool {
        self.fs.has_room()
    }

    /// The other node has room, and will get the export: see [`Fs::has_room`].
    pub fn set_room_elsewhere(&self, elsewhere: bool) {
        self.fs.set_room_elsewhere(elsewhere);
    }

    /// End of the lease, 0 where there is none.
    pub fn lease_until_ns(&self) -> u64 {
        self.lease.until_ns()
    }

    /// The log's disk space, bytes.
    pub fn wal_bytes(&self) -> u64 {
        self.wal_bytes.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Bytes of the log behind an entry, as far as they are kept.
    pub fn log_bytes_after(&self, index: LogIndex) -> u64 {
        self.reader.bytes_after(index)
    }

    /// How many locks and shares are held, and how many wait.
    pub fn lock_counts(&self) -> (u64, u64) {
        self.fs.lock_counts()
    }

    /// First and last index of the log.
    pub fn log_range(&self) -> (LogIndex, LogIndex) {
        (self.reader.first_index(), self.reader.last_index())
    }

    /// What a copy of this export is made from.
    pub fn source(&self) -> crate::image::Source {
        crate::image::Source {
            fs: self.fs.clone(),
            reader: self.reader.clone(),
            pins: self.pins.clone(),
            status: self.node_status(),
        }
    }

    /// Clean stop: hands nothing over (do that before), lets the log be marked as cleanly stopped, writes a last
    /// checkpoint and ends the threads.
    pub fn stop(mut self) {
        self.input(Input::Stop);
        let threads = std::mem::take(&mut self.threads);
        drop(self.inputs);
        for thread in threads {
            let _ = thread.join();
        }
    }
}
