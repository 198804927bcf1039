//! The worker for what takes its time: checkpoints, and old entries for a backup that lags.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use super::{Events, GroupEvent, Turn};
use crate::clock::monotonic_ns;
use crate::fs::Fs;
use crate::log::LogIndex;
use crate::node::Input;
use crate::wal::{WalError, WalReader};

/// A quiet export is checkpointed after this long: a restart replays little, and removed content is unlinked.
const CHECKPOINT_AFTER: Duration = Duration::from_secs(30);
/// The same where the disk is full.
const CHECKPOINT_AFTER_FULL: Duration = Duration::from_secs(1);

pub(super) enum KeeperJob {
    Checkpoint,
    Fetch {
        from: LogIndex,
        to: LogIndex,
        max_bytes: usize,
    },
    /// A last checkpoint, then the end.
    Stop,
}

/// Makes checkpoints and fetches old entries, as a worker without a thread.
pub struct Keeper {
    pub(super) fs: Arc<Fs>,
    pub(super) reader: WalReader,
    pub(super) jobs: Receiver<KeeperJob>,
    pub(super) inputs: Sender<Input>,
    pub(super) events: Events,
    /// Since when it has had nothing to do.
    pub(super) idle_since_ns: u64,
    /// The first step of a checkpoint is done.
    pub(super) frozen: bool,
    pub(super) stopped: bool,
}

impl Keeper {
    pub(super) fn run(mut self) {
        while !self.stopped {
            let wait = Duration::from_nanos(self.deadline().saturating_sub(monotonic_ns()));
            match self.jobs.recv_timeout(wait) {
                Ok(job) => self.job(job),
                Err(RecvTimeoutError::Timeout) => self.idled(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Does one job that is queued, or else what is due by now. To be called when [`Self::is_ready`] or at
    /// [`Self::deadline`]. A checkpoint that is asked for takes two turns: others may apply, and a crash may come, between its
    /// two steps, as they may where each worker has its thread.
    pub fn turn(&mut self) -> Turn {
        if self.stopped {
            return Turn::Stopped;
        }
        if std::mem::take(&mut self.frozen) {
            let outcome = self.checkpoint();
            self.done(outcome);
            return if self.stopped { Turn::Stopped } else { Turn::Worked };
        }
        match self.jobs.try_recv() {
            Ok(KeeperJob::Checkpoint) if self.fs.checkpoint_due() => {
                self.fs.begin_checkpoint();
                self.frozen = true;
            }
            Ok(job) => self.job(job),
            Err(_) if monotonic_ns() >= self.deadline() => self.idled(),
            Err(_) => return Turn::Idle,
        }
        if self.stopped { Turn::Stopped } else { Turn::Worked }
    }

    /// When a quiet export is to be checkpointed, on [`monotonic_ns`].
    pub fn deadline(&self) -> u64 {
        let patience = self.patience().as_nanos();
        self.idle_since_ns.saturating_add(u64::try_from(patience).unwrap_or(u64::MAX))
    }

    /// Something is queued that a turn would take.
    pub fn is_ready(&self) -> bool {
        self.frozen || !self.jobs.is_empty()
    }

    /// It was told to stop or has failed, and takes no more turns.
    pub fn is_stopped(&self) -> bool {
        self.stopped
    }

    fn job(&mut self, job: KeeperJob) {
        let outcome = match job {
            // Asked for more than once before it was made: the later ones find nothing due.
            KeeperJob::Checkpoint if !self.fs.checkpoint_due() => Ok(()),
            KeeperJob::Checkpoint => self.checkpoint(),
            KeeperJob::Fetch { from, to, max_bytes } => self.fetch(from, to, max_bytes),
            KeeperJob::Stop => {
                self.stopped = true;
                if let Err(error) = self.checkpoint() {
                    (self.events)(GroupEvent::Log { level: tracing::Level::WARN, text: error });
                }
                Ok(())
            }
        };
        self.done(outcome);
    }

    fn idled(&mut self) {
        let outcome = self.tidy_up();
        self.done(outcome);
    }

    fn done(&mut self, outcome: Result<(), String>) {
        if let Err(error) = outcome {
            self.stopped = true;
            (self.events)(GroupEvent::Fatal(error));
        }
        self.idle_since_ns = monotonic_ns();
    }

    /// How long changes may wait for a checkpoint that is not due by their size. On a full disk not long: what was removed
    /// gives its space back with the checkpoint.
    fn patience(&self) -> Duration {
        if self.fs.has_room() { CHECKPOINT_AFTER } else { CHECKPOINT_AFTER_FULL }
    }

    fn tidy_up(&self) -> Result<(), String> {
        let state = self.fs.progress();
        if state.applied > state.checkpoint { self.checkpoint() } else { Ok(()) }
    }

    fn checkpoint(&self) -> Result<(), String> {
        let index = self.fs.checkpoint().map_err(|e| format!("the checkpoint failed: {e}"))?;
        let _ = self.inputs.send(Input::Checkpointed { index });
        Ok(())
    }

    fn fetch(&self, from: LogIndex, to: LogIndex, max_bytes: usize) -> Result<(), String> {
        match self.reader.entries(from, to, max_bytes) {
            Ok(entries) => {
                let _ = self.inputs.send(Input::Fetched(entries));
                Ok(())
            }
            // Cut since it was asked for: the node will see that the peer needs a copy.
            Err(WalError::Compacted { .. }) => {
                let _ = self.inputs.send(Input::Fetched(Vec::new()));
                Ok(())
            }
            Err(error) => Err(format!("reading the log failed: {error}")),
        }
    }
}
