//! The thread for what takes its time: checkpoints, and old entries for a backup that lags.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use super::{Events, GroupEvent};
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

pub(super) struct Keeper {
    pub fs: Arc<Fs>,
    pub reader: WalReader,
    pub inputs: Sender<Input>,
    pub events: Events,
}

impl Keeper {
    pub fn run(self, jobs: Receiver<KeeperJob>) {
        loop {
            let outcome = match jobs.recv_timeout(self.patience()) {
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => self.tidy_up(),
                Ok(job) => match job {
                    // Asked for more than once before it was made: the later ones find nothing due.
                    KeeperJob::Checkpoint if !self.fs.checkpoint_due() => Ok(()),
                    KeeperJob::Checkpoint => self.checkpoint(),
                    KeeperJob::Fetch { from, to, max_bytes } => self.fetch(from, to, max_bytes),
                    KeeperJob::Stop => {
                        if let Err(error) = self.checkpoint() {
                            (self.events)(GroupEvent::Log { level: tracing::Level::WARN, text: error });
                        }
                        return;
                    }
                },
            };
            if let Err(error) = outcome {
                (self.events)(GroupEvent::Fatal(error));
                return;
            }
        }
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
