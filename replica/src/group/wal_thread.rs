//! The thread that owns the log: appends whatever has gathered, then one fdatasync for all of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use super::apply::{ApplyJob, Backlog};
use super::{Events, GroupEvent};
use crate::log::{Entry, LogIndex, StableState};
use crate::node::Input;
use crate::wal::{Wal, WalError};

/// Without a demand, what was written is fdatasync'ed after this long: bounds what `"memory"` may lose.
const LAZY_SYNC: Duration = Duration::from_millis(20);
/// Pause between two steps of preparing a spare segment, so that the disk is not kept from others.
const SPARE_STEP: Duration = Duration::from_millis(10);
/// Under load, one step for every so many bytes appended: the spare is there before the segment is full.
const STEP_BYTES: usize = 4 << 20;
/// A new log prepares its first spare before anything else.
const FIRST_SPARE_BYTES: u64 = 128 << 20;
/// Nothing to do: look again after this long all the same.
const IDLE: Duration = Duration::from_secs(3600);
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

pub(super) struct Logger {
    pub wal: Wal,
    pub inputs: Sender<Input>,
    /// Where durability is news to the state machine (`durability = "memory"`).
    pub apply: Option<Sender<ApplyJob>>,
    pub events: Events,
    pub bytes: Arc<AtomicU64>,
    pub backlog: Arc<Backlog>,
}

/// What has been written since the last fdatasync.
#[derive(Default)]
struct Unsynced {
    seq: Option<u64>,
    last_index: Option<LogIndex>,
    demanded: bool,
    since: Option<Instant>,
}

impl Unsynced {
    /// How long it may wait yet; nothing waits where nothing was written.
    fn left(&self) -> Option<Duration> {
        self.since.map(|since| LAZY_SYNC.saturating_sub(since.elapsed()))
    }
}

impl Logger {
    pub fn run(mut self, jobs: Receiver<WalJob>) {
        if let Err(error) = self.serve(&jobs) {
            (self.events)(GroupEvent::Fatal(format!("the log failed: {error}")));
        }
    }

    fn serve(&mut self, jobs: &Receiver<WalJob>) -> Result<(), WalError> {
        let mut unsynced = Unsynced::default();
        let mut spare_missing = true;
        // Zeroing whole segments in the middle of a load would stall it: the first spare is made before.
        while spare_missing && self.wal.bytes() < FIRST_SPARE_BYTES {
            spare_missing = self.wal.prepare_spare()?;
        }
        let mut since_step = 0;
        // Everything up to here has been called durable. What is written below it again, after a truncation, is not;
        // it counts only once it is, so that no effect precedes its entry.
        let mut called_durable = self.wal.reader().last_index();
        loop {
            let idle_wait = if spare_missing { SPARE_STEP } else { IDLE };
            let wait = unsynced.left().unwrap_or(idle_wait);
            let first = match jobs.recv_timeout(wait) {
                Ok(job) => Some(job),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => Some(WalJob::Stop),
            };
            let idle = first.is_none();
            for job in first.into_iter().chain(jobs.try_iter()).take(BATCH_MAX) {
                match job {
                    WalJob::Persist { seq, state, entries, sync } => {
                        self.wal.append(state.as_ref(), &entries)?;
                        unsynced.seq = Some(seq);
                        unsynced.since.get_or_insert_with(Instant::now);
                        let rewritten = entries.first().is_some_and(|e| e.index <= called_durable);
                        unsynced.demanded |= sync || rewritten;
                        since_step += entries.iter().map(Entry::cost).sum::<usize>();
                        if let Some(last) = entries.last() {
                            unsynced.last_index = Some(last.index);
                        }
                    }
                    WalJob::Cut(upto) => {
                        self.wal.cut(upto)?;
                        let _ = self.inputs.send(Input::LogCut { first: self.wal.reader().first_index() });
                    }
                    WalJob::Stop => {
                        self.sync(&mut unsynced)?;
                        return Ok(());
                    }
                }
            }
            if let Some(seq) = unsynced.seq {
                self.backlog.wait_for_room();
                if !unsynced.demanded {
                    let _ = self.inputs.send(Input::Written { seq });
                }
            }
            if unsynced.demanded || unsynced.left().is_some_and(|left| left.is_zero()) {
                called_durable = called_durable.max(unsynced.last_index.unwrap_or(0));
                self.sync(&mut unsynced)?;
            }
            // After a cut or a new segment there may be room for a spare again: looking costs nothing.
            if idle || !spare_missing || since_step >= STEP_BYTES {
                spare_missing = self.wal.prepare_spare()?;
                since_step = 0;
            }
            self.bytes.store(self.wal.bytes(), Ordering::Relaxed);
        }
    }

    fn sync(&mut self, unsynced: &mut Unsynced) -> Result<(), WalError> {
        let Some(seq) = unsynced.seq else { return Ok(()) };
        self.wal.sync()?;
        if let (Some(apply), Some(index)) = (&self.apply, unsynced.last_index) {
            let _ = apply.send(ApplyJob::Durable(index));
        }
        let _ = self.inputs.send(Input::Durable { seq });
        *unsynced = Unsynced::default();
        Ok(())
    }
}
