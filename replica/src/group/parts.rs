//! A group before it has threads: its stores, its node, its queues and its four workers.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use crossbeam_channel::unbounded;
use parking_lot::Mutex;

use super::apply::{Applier, Backlog};
use super::keeper::Keeper;
use super::pins::Pins;
use super::run::{Driver, Queues, Shared};
use super::wal_thread::{Logger, Progress};
use super::{Events, Group, GroupConfig, StartError, View};
use crate::clock::monotonic_ns;
use crate::disk::Disk;
use crate::fs::Fs;
use crate::handle::{GroupHandle, LeaseCell};
use crate::node::{Node, Restored};
use crate::wal::{Opened, Wal};

/// Name of the log's directory in an export's directory.
pub(crate) const WAL_DIR: &str = "wal";

/// A group whose workers wait to be given turns: by a thread each ([`Group::start`]), or by a simulator, in one.
pub struct Parts {
    /// The group as the server sees it, without threads.
    pub group: Group,
    /// Owns the node.
    pub driver: Driver,
    /// Owns the log. Its [`Logger::prepare`] comes first.
    pub logger: Logger,
    /// Writes the state machine.
    pub applier: Applier,
    /// Makes checkpoints.
    pub keeper: Keeper,
}

impl Parts {
    /// Opens the export's stores below `disk`, its directory, and puts the workers together. The log that no checkpoint
    /// covers is applied by their turns.
    ///
    /// # Errors
    /// What [`Group::start`] says; the stores are as they were.
    pub fn open(disk: Arc<dyn Disk>, config: GroupConfig, events: Events) -> Result<Self, StartError> {
        let opened = Wal::open(disk.below(Path::new(WAL_DIR)), config.wal.clone())?;
        let fs = Arc::new(Fs::open_on(disk, config.fs.clone())?);
        check_no_hole(&config, &opened, &fs)?;
        // The log was fdatasync'ed when it was opened: what is replayed from it need not wait in memory.
        fs.durable(opened.last.0).map_err(StartError::Replay)?;
        let progress = fs.progress();
        let Opened { wal, reader, mut state, base, last, terms, .. } = opened;
        if fs.witness_identity() != 0 {
            state.witness = fs.witness_identity();
        }
        let restored =
            Restored { state, base, last, terms, applied: progress.applied, boot_id: config.boot_id.clone() };
        let node = Node::new(monotonic_ns(), config.node.clone(), restored);

        let lease = Arc::new(LeaseCell::default());
        let (proposals, proposals_rx) = unbounded();
        let (inputs, inputs_rx) = unbounded();
        let (wal_jobs, wal_jobs_rx) = unbounded();
        let (apply_jobs, apply_jobs_rx) = unbounded();
        let (keeper_jobs, keeper_jobs_rx) = unbounded();
        let view = Arc::new(Mutex::new(View { status: node.status(), hello: node.hello() }));
        let pins = Pins::default();
        let wal_bytes = Arc::new(AtomicU64::new(wal.bytes()));
        let backlog = Arc::new(Backlog::default());
        let handle = GroupHandle::new(config.id, config.path.clone(), fs.clone(), lease.clone(), proposals);

        let keeper = Keeper {
            fs: fs.clone(),
            reader: reader.clone(),
            jobs: keeper_jobs_rx,
            inputs: inputs.clone(),
            events: events.clone(),
            idle_since_ns: monotonic_ns(),
            frozen: false,
            stopped: false,
        };
        let applier = Applier {
            fs: fs.clone(),
            lease: lease.clone(),
            jobs: apply_jobs_rx,
            inputs: inputs.clone(),
            keeper: keeper_jobs.clone(),
            events: events.clone(),
            backlog: backlog.clone(),
            pending_bytes_max: config.fs.checkpoint_bytes.saturating_mul(2),
            waits_for_durable: config.fs.apply_before_durable,
            held: None,
            stopped: false,
        };
        let logger = Logger {
            progress: Progress::new(last.0),
            wal,
            jobs: wal_jobs_rx,
            inputs: inputs.clone(),
            apply: config.fs.apply_before_durable.then(|| apply_jobs.clone()),
            events: events.clone(),
            bytes: wal_bytes.clone(),
            backlog: backlog.clone(),
        };
        let queues = Queues {
            inputs: inputs_rx,
            proposals: proposals_rx,
            wal: wal_jobs,
            apply: apply_jobs,
            keeper: keeper_jobs,
        };
        let shared = Shared {
            lease: lease.clone(),
            view: view.clone(),
            pins: pins.clone(),
            wal_bytes: wal_bytes.clone(),
            backlog,
        };
        let driver = Driver::new(node, &config, progress.checkpoint, queues, shared, events);
        let group = Group { handle, fs, lease, inputs, view, reader, pins, wal_bytes, threads: Vec::new() };
        Ok(Self { group, driver, logger, applier, keeper })
    }
}

/// The log and the checkpoint must meet.
fn check_no_hole(config: &GroupConfig, opened: &Opened, fs: &Fs) -> Result<(), StartError> {
    let checkpoint = fs.progress().applied;
    let dir = || config.dir.display().to_string();
    let (base, last) = (opened.base.0, opened.last.0);
    if base > checkpoint {
        return Err(StartError::Hole { dir: dir(), base, checkpoint });
    }
    if last < checkpoint {
        return Err(StartError::ShortLog { dir: dir(), last, checkpoint });
    }
    Ok(())
}
