//! The thread that applies committed entries, and calls back whoever proposed them here.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use parking_lot::{Condvar, Mutex};
use proto::op::{Op, Reply};

use super::keeper::KeeperJob;
use super::{Events, GroupEvent};
use crate::fs::{ApplyError, Fs};
use crate::handle::{Completion, LeaseCell, NotServing};
use crate::log::{Entry, LogIndex};
use crate::node::Input;

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

pub(super) struct Applier {
    pub fs: Arc<Fs>,
    pub lease: Arc<LeaseCell>,
    pub inputs: Sender<Input>,
    pub keeper: Sender<KeeperJob>,
    pub events: Events,
    pub backlog: Arc<Backlog>,
    /// Metadata that waits for a checkpoint, at most, bytes.
    pub pending_bytes_max: u64,
    /// `durability = "memory"`.
    pub waits_for_durable: bool,
}

impl Applier {
    pub fn run(self, jobs: Receiver<ApplyJob>) {
        if let Err(error) = self.serve(&jobs) {
            // Nobody is to be told of effects that this node could not store.
            self.lease.revoke();
            (self.events)(GroupEvent::Fatal(format!("the state machine stopped: {error}")));
        }
    }

    fn serve(&self, jobs: &Receiver<ApplyJob>) -> Result<(), ApplyError> {
        for job in jobs {
            match job {
                ApplyJob::Durable(index) => self.fs.durable(index)?,
                ApplyJob::Entries(entries) => self.entries(entries)?,
                ApplyJob::Stop => break,
            }
        }
        Ok(())
    }

    fn entries(&self, entries: Vec<(Entry, Option<Completion>)>) -> Result<(), ApplyError> {
        let mut last = 0;
        // Answered together: a connection that hears of one reply at a time makes a system call for each.
        let mut answers: Vec<(Completion, Arc<Reply>)> = Vec::new();
        for (entry, done) in entries {
            let cost = entry.cost();
            let applied = self.one(&entry);
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
        self.wait_for_checkpoint();
        let witness_identity = self.fs.witness_identity();
        let _ = self.inputs.send(Input::Applied { index: last, witness_identity });
        if self.fs.checkpoint_due() {
            let _ = self.keeper.send(KeeperJob::Checkpoint);
        }
        Ok(())
    }

    /// What changed since the last checkpoint is in memory: where the disk is slower than the changes, they wait. Not with
    /// effects that wait for durability themselves, which is news that comes through this very queue.
    fn wait_for_checkpoint(&self) {
        if self.waits_for_durable {
            return;
        }
        if self.fs.pending_bytes() <= self.pending_bytes_max {
            return;
        }
        let _ = self.keeper.send(KeeperJob::Checkpoint);
        while self.fs.pending_bytes() > self.pending_bytes_max && self.fs.checkpoint_due() {
            std::thread::sleep(CHECKPOINT_LOOK);
        }
    }

    fn one(&self, entry: &Entry) -> Result<Option<Arc<Reply>>, ApplyError> {
        if entry.op.is_empty() {
            self.fs.apply(entry.index, entry.term, None, &entry.payload)?;
            return Ok(None);
        }
        let op = <Op as prost::Message>::decode(entry.op.clone())
            .map_err(|_| ApplyError::Undecodable { index: entry.index })?;
        self.fs.apply(entry.index, entry.term, Some(&op), &entry.payload).map(Some)
    }
}

fn answer(answers: &mut Vec<(Completion, Arc<Reply>)>) {
    for (done, reply) in answers.drain(..) {
        done(Ok(reply));
    }
}
