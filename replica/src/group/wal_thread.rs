//! The worker that owns the log: appends whatever has gathered, then one fdatasync for all of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use super::apply::{ApplyJob, Backlog};
use super::{Events, GroupEvent, Turn};
use crate::clock::monotonic_ns;
use crate::log::{Entry, LogIndex, StableState};
use crate::node::Input;
use crate::planted::{Planted, planted};
use crate::wal::{Wal, WalError};

/// Without a demand, what was written is fdatasync'ed after this long: bounds what `"memory"` may lose.
const LAZY_SYNC_NS: u64 = 20_000_000;
/// Pause between two steps of preparing a spare segment, so that the disk is not kept from others.
const SPARE_STEP_NS: u64 = 10_000_000;
/// Under load, one step for every so many bytes appended: the spare is there before the segment is full.
const STEP_BYTES: usize = 4 << 20;
/// A new log prepares its first spare before anything else.
const FIRST_SPARE_BYTES: u64 = 128 << 20;
/// Nothing to do: look again after this long all the same.
const IDLE_NS: u64 = 3600 * 1_000_000_000;
/// Jobs appended before their fdatasync, at most: bounds how long the first waits for the last.
const BATCH_MAX: usize = 256;

pub(super) enum WalJob {
    Persist {
        seq: u64,
        state: Option<StableState>,
        entries: Vec<Entry>,
        sync: bool,
    },
    /// Entries up to this one are not needed any more.
    Cut(LogIndex),
    Stop,
}

/// The one owner of the log, as a worker without a thread.
pub struct Logger {
    pub(super) wal: Wal,
    pub(super) jobs: Receiver<WalJob>,
    pub(super) inputs: Sender<Input>,
    /// Where durability is news to the state machine (`durability = "memory"`).
    pub(super) apply: Option<Sender<ApplyJob>>,
    pub(super) events: Events,
    pub(super) bytes: Arc<AtomicU64>,
    pub(super) backlog: Arc<Backlog>,
    pub(super) progress: Progress,
}

/// How far the log's owner is with what it was given.
pub(super) struct Progress {
    unsynced: Unsynced,
    /// Everything up to here has been called durable. What is written below it again, after a truncation, is not; it
    /// counts only once it is, so that no effect precedes its entry.
    called_durable: LogIndex,
    spare_missing: bool,
    /// Bytes appended since the last step towards a spare.
    since_step: usize,
    /// Nothing was queued when it last looked.
    idle: bool,
    /// When it last did anything.
    last_ns: u64,
    stopped: bool,
}

impl Progress {
    pub fn new(durable: LogIndex) -> Self {
        Self {
            unsynced: Unsynced::default(),
            called_durable: durable,
            spare_missing: true,
            since_step: 0,
            idle: false,
            last_ns: monotonic_ns(),
            stopped: false,
        }
    }
}

/// What has been written since the last fdatasync.
#[derive(Default)]
struct Unsynced {
    seq: Option<u64>,
    last_index: Option<LogIndex>,
    demanded: bool,
    since_ns: Option<u64>,
}

impl Unsynced {
    /// Until when it may wait; nothing waits where nothing was written.
    fn due_ns(&self) -> Option<u64> {
        self.since_ns.map(|since| since.saturating_add(LAZY_SYNC_NS))
    }
}

impl Logger {
    pub(super) fn run(mut self) {
        self.prepare();
        while !self.progress.stopped {
            let wait = Duration::from_nanos(self.deadline().saturating_sub(monotonic_ns()));
            let first = match self.jobs.recv_timeout(wait) {
                Ok(job) => Some(job),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => Some(WalJob::Stop),
            };
            self.append(first);
            while self.sync_if_due() == Turn::Held {
                self.backlog.wait_for_room();
            }
        }
    }

    /// Before the first job: zeroing whole segments in the middle of a load would stall it, so a new log makes its first
    /// spare now.
    pub fn prepare(&mut self) {
        while !self.progress.stopped && self.progress.spare_missing && self.wal.bytes() < FIRST_SPARE_BYTES {
            let step = self.spare_step();
            self.done(step);
        }
    }

    /// Appends what has gathered. To be called when [`Self::is_ready`] or at [`Self::deadline`]; then
    /// [`Self::sync_if_due`], until that is not [`Turn::Held`]. What is between the two calls is what a crash may take.
    pub fn append_gathered(&mut self) -> Turn {
        if self.progress.stopped {
            return Turn::Stopped;
        }
        self.append(None);
        match self.progress {
            Progress { stopped: true, .. } => Turn::Stopped,
            Progress { idle: true, .. } => Turn::Idle,
            _ => Turn::Worked,
        }
    }

    /// Says what was written, makes it durable where that is demanded or due by now, and goes on with a spare segment where
    /// there is time. [`Turn::Held`]: nothing of it, the state machine has to catch up first.
    pub fn sync_if_due(&mut self) -> Turn {
        if self.progress.stopped {
            return Turn::Stopped;
        }
        if self.progress.unsynced.seq.is_some() && !self.backlog.has_room() {
            return Turn::Held;
        }
        let outcome = self.acknowledge().and_then(|()| self.tidy_up());
        self.done(outcome);
        if self.progress.stopped { Turn::Stopped } else { Turn::Worked }
    }

    /// When there is something to do without a job, on [`monotonic_ns`].
    pub fn deadline(&self) -> u64 {
        self.progress.unsynced.due_ns().unwrap_or_else(|| {
            let idle_ns = if self.progress.spare_missing { SPARE_STEP_NS } else { IDLE_NS };
            self.progress.last_ns.saturating_add(idle_ns)
        })
    }

    /// Something is queued that a turn would take.
    pub fn is_ready(&self) -> bool {
        !self.jobs.is_empty()
    }

    /// Something is written that a crash of the machine may take.
    pub fn is_unsynced(&self) -> bool {
        self.progress.unsynced.seq.is_some()
    }

    /// The fdatasync is not only due some time: somebody waits for it.
    pub fn is_sync_demanded(&self) -> bool {
        self.progress.unsynced.demanded
    }

    /// It was told to stop or has failed, and takes no more turns.
    pub fn is_stopped(&self) -> bool {
        self.progress.stopped
    }

    fn append(&mut self, first: Option<WalJob>) {
        let outcome = self.append_all(first);
        self.done(outcome);
    }

    fn append_all(&mut self, first: Option<WalJob>) -> Result<(), WalError> {
        self.progress.idle = true;
        let mut next = first;
        for _ in 0..BATCH_MAX {
            let Some(job) = next.take().or_else(|| self.jobs.try_recv().ok()) else { break };
            self.progress.idle = false;
            match job {
                WalJob::Persist { seq, state, entries, sync } => {
                    self.persist(seq, state.as_ref(), &entries, sync)?;
                }
                WalJob::Cut(upto) => {
                    self.wal.cut(upto)?;
                    let _ = self.inputs.send(Input::LogCut { first: self.wal.reader().first_index() });
                }
                WalJob::Stop => {
                    self.progress.stopped = true;
                    return self.sync();
                }
            }
        }
        Ok(())
    }

    fn persist(
        &mut self,
        seq: u64,
        state: Option<&StableState>,
        entries: &[Entry],
        sync: bool,
    ) -> Result<(), WalError> {
        self.wal.append(state, entries)?;
        let rewritten = entries.first().is_some_and(|e| e.index <= self.progress.called_durable);
        let unsynced = &mut self.progress.unsynced;
        unsynced.seq = Some(seq);
        unsynced.since_ns.get_or_insert_with(monotonic_ns);
        unsynced.demanded |= sync || rewritten;
        if let Some(last) = entries.last() {
            unsynced.last_index = Some(last.index);
        }
        self.progress.since_step += entries.iter().map(Entry::cost).sum::<usize>();
        Ok(())
    }

    fn acknowledge(&mut self) -> Result<(), WalError> {
        let Unsynced { seq, demanded, .. } = self.progress.unsynced;
        if let Some(seq) = seq
            && !demanded
        {
            let _ = self.inputs.send(Input::Written { seq });
        }
        if demanded || self.progress.unsynced.due_ns().is_some_and(|due| monotonic_ns() >= due) {
            return self.sync();
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), WalError> {
        let Unsynced { seq: Some(seq), last_index, .. } = self.progress.unsynced else { return Ok(()) };
        // Planted: written is taken for durable.
        if !planted(Planted::SkipLogSync) {
            self.wal.sync()?;
        }
        self.progress.called_durable = self.progress.called_durable.max(last_index.unwrap_or(0));
        if let (Some(apply), Some(index)) = (&self.apply, last_index) {
            let _ = apply.send(ApplyJob::Durable(index));
        }
        let _ = self.inputs.send(Input::Durable { seq });
        self.progress.unsynced = Unsynced::default();
        Ok(())
    }

    fn tidy_up(&mut self) -> Result<(), WalError> {
        let Progress { idle, spare_missing, since_step, .. } = self.progress;
        // After a cut or a new segment there may be room for a spare again: looking costs nothing.
        if idle || !spare_missing || since_step >= STEP_BYTES {
            self.spare_step()?;
            self.progress.since_step = 0;
        }
        self.bytes.store(self.wal.bytes(), Ordering::Relaxed);
        if self.progress.unsynced.seq.is_none() {
            self.progress.last_ns = monotonic_ns();
        }
        Ok(())
    }

    fn spare_step(&mut self) -> Result<(), WalError> {
        self.progress.spare_missing = self.wal.prepare_spare()?;
        Ok(())
    }

    fn done(&mut self, outcome: Result<(), WalError>) {
        if let Err(error) = outcome {
            self.progress.stopped = true;
            (self.events)(GroupEvent::Fatal(format!("the log failed: {error}")));
        }
    }
}
