//! The worker that applies committed entries, and calls back whoever proposed them here.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use parking_lot::{Condvar, Mutex};
use proto::op::{Op, Reply};

use super::keeper::KeeperJob;
use super::{Events, GroupEvent, Turn};
use crate::fs::{ApplyError, Fs};
use crate::handle::{Completion, LeaseCell, NotServing};
use crate::log::{Entry, LogIndex};
use crate::node::Input;
use crate::planted::{Planted, planted};

/// Committed data that waits to be applied, at most, bytes. Past it the log thread holds its acknowledgements
/// back, so that the leader's window closes.
const BACKLOG_MAX: usize = 64 << 20;

/// Answers held back until others are ready, at most: bounds what the first of them waits.
const ANSWERS_MAX: usize = 32;
/// While changes wait for a checkpoint, how often it is looked at.
const CHECKPOINT_LOOK: Duration = Duration::from_millis(5);

/// Bytes on their way to the apply thread.
#[derive(Default)]
pub(super) struct Backlog {
    bytes: Mutex<usize>,
    room: Condvar,
}

impl Backlog {
    pub fn add(&self, bytes: usize) {
        *self.bytes.lock() += bytes;
    }

    fn sub(&self, bytes: usize) {
        let mut held = self.bytes.lock();
        *held = held.saturating_sub(bytes);
        if *held < BACKLOG_MAX {
            self.room.notify_all();
        }
    }

    pub fn has_room(&self) -> bool {
        *self.bytes.lock() < BACKLOG_MAX
    }

    pub fn wait_for_room(&self) {
        let mut held = self.bytes.lock();
        while *held >= BACKLOG_MAX {
            self.room.wait(&mut held);
        }
    }
}

pub(super) enum ApplyJob {
    /// Committed entries, each with its proposer where that is this node.
    Entries(Vec<(Entry, Option<Completion>)>),
    /// Entries up to this one are durable here.
    Durable(LogIndex),
    Stop,
}

/// News that may have to wait for a checkpoint to make room.
#[derive(Clone, Copy)]
pub(super) struct Held {
    /// Applied up to here.
    index: LogIndex,
    /// The checkpoint has been asked for.
    asked: bool,
}

/// The one writer of the state machine, as a worker without a thread.
pub struct Applier {
    pub(super) fs: Arc<Fs>,
    pub(super) lease: Arc<LeaseCell>,
    pub(super) jobs: Receiver<ApplyJob>,
    pub(super) inputs: Sender<Input>,
    pub(super) keeper: Sender<KeeperJob>,
    pub(super) events: Events,
    pub(super) backlog: Arc<Backlog>,
    /// Metadata that waits for a checkpoint, at most, bytes.
    pub(super) pending_bytes_max: u64,
    /// `durability = "memory"`.
    pub(super) waits_for_durable: bool,
    /// What was applied last and not told yet: nothing more is applied before.
    pub(super) held: Option<Held>,
    pub(super) stopped: bool,
}

impl Applier {
    pub(super) fn run(mut self) {
        while !self.stopped {
            // Nobody is left to stop it: the process is about to end.
            let Ok(job) = self.jobs.recv() else { return };
            self.job(job);
            while !self.release() {
                std::thread::sleep(CHECKPOINT_LOOK);
            }
        }
    }

    /// Does jobs that are queued, `jobs_max` at most. [`Turn::Held`]: changes wait for a checkpoint; come again after it, or
    /// a few ms later.
    pub fn turn(&mut self, jobs_max: usize) -> Turn {
        let mut turn = Turn::Idle;
        for _ in 0..jobs_max {
            if self.stopped {
                return Turn::Stopped;
            }
            if !self.release() {
                return Turn::Held;
            }
            let Ok(job) = self.jobs.try_recv() else { return turn };
            turn = Turn::Worked;
            self.job(job);
        }
        match self.release() {
            _ if self.stopped => Turn::Stopped,
            true => turn,
            false => Turn::Held,
        }
    }

    /// Something is queued that a turn would take, or is held back.
    pub fn is_ready(&self) -> bool {
        self.held.is_some() || !self.jobs.is_empty()
    }

    /// It was told to stop or has failed, and takes no more turns.
    pub fn is_stopped(&self) -> bool {
        self.stopped
    }

    fn job(&mut self, job: ApplyJob) {
        let outcome = match job {
            ApplyJob::Durable(index) => self.fs.durable(index),
            ApplyJob::Entries(entries) => self.entries(entries),
            ApplyJob::Stop => {
                self.stopped = true;
                Ok(())
            }
        };
        if let Err(error) = outcome {
            // Nobody is to be told of effects that this node could not store.
            self.stopped = true;
            self.lease.revoke();
            (self.events)(GroupEvent::Fatal(format!("the state machine stopped: {error}")));
        }
    }

    fn entries(&mut self, entries: Vec<(Entry, Option<Completion>)>) -> Result<(), ApplyError> {
        let mut last = 0;
        // Answered together: a connection that hears of one reply at a time makes a system call for each.
        let mut answers: Vec<(Completion, Arc<Reply>)> = Vec::new();
        for (entry, done) in entries {
            let cost = entry.cost();
            let applied = self.one(&entry, done.is_some());
            self.backlog.sub(cost);
            match (applied, done) {
                (Ok(Some(reply)), Some(done)) => answers.push((done, reply)),
                (Ok(_), None) => {}
                (Ok(None), Some(done)) => done(Err(NotServing)),
                (Err(error), done) => {
                    answer(&mut answers);
                    if let Some(done) = done {
                        done(Err(NotServing));
                    }
                    return Err(error);
                }
            }
            if answers.len() >= ANSWERS_MAX {
                answer(&mut answers);
            }
            last = entry.index;
        }
        answer(&mut answers);
        self.held = Some(Held { index: last, asked: false });
        Ok(())
    }

    /// What changed since the last checkpoint is in memory: where the disk is slower than the changes, they wait. Not with
    /// effects that wait for durability themselves, which is news that comes through this very queue.
    fn needs_checkpoint(&self) -> bool {
        !self.waits_for_durable && self.fs.pending_bytes() > self.pending_bytes_max
    }

    /// Says how far it is, unless that has to wait. True: the next job may be done.
    fn release(&mut self) -> bool {
        let Some(Held { index, asked }) = self.held else { return true };
        if self.needs_checkpoint() {
            if !asked {
                let _ = self.keeper.send(KeeperJob::Checkpoint);
            }
            if self.fs.checkpoint_due() {
                self.held = Some(Held { index, asked: true });
                return false;
            }
        }
        self.held = None;
        let witness_identity = self.fs.witness_identity();
        let _ = self.inputs.send(Input::Applied { index, witness_identity });
        if self.fs.checkpoint_due() {
            let _ = self.keeper.send(KeeperJob::Checkpoint);
        }
        true
    }

    fn one(&self, entry: &Entry, is_ours: bool) -> Result<Option<Arc<Reply>>, ApplyError> {
        if entry.op.is_empty() {
            self.fs.apply(entry.index, entry.term, None, &entry.payload)?;
            return Ok(None);
        }
        let mut op = <Op as prost::Message>::decode(entry.op.clone())
            .map_err(|_| ApplyError::Undecodable { index: entry.index })?;
        // Planted: who did not get the call keeps no reply to it.
        if planted(Planted::ReplyCacheNotReplicated) && !is_ours {
            op.call = None;
        }
        self.fs.apply(entry.index, entry.term, Some(&op), &entry.payload).map(Some)
    }
}

fn answer(answers: &mut Vec<(Completion, Arc<Reply>)>) {
    for (done, reply) in answers.drain(..) {
        done(Ok(reply));
    }
}
