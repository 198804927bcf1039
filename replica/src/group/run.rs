//! The loop: the one owner of a group's [`Node`]. It turns queues into steps and outputs into queues, and waits for nothing else.
//!
//! [`Driver::turn`] never blocks; the thread around it only waits for the next one to be due.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, never, select_biased};
use parking_lot::Mutex;
use proto::op::{AdoptWitness, Incarnation, OP_VERSION, Op, op};

use super::apply::{ApplyJob, Backlog};
use super::keeper::KeeperJob;
use super::pins::Pins;
use super::wal_thread::WalJob;
use super::{Events, GroupConfig, GroupEvent, Turn, View};
use crate::clock::{monotonic_ns, wall_ns};
use crate::handle::{Completion, LeaseCell, NotServing, Proposal};
use crate::log::{Entry, LogIndex, Term};
use crate::node::{Input, Node, Output};
use crate::planted::{Planted, planted};
use crate::random::random_u64;

/// Proposals that go into one step, at most: bounds how long a ping waits behind them.
const PROPOSALS_MAX: usize = 256;
/// Bytes of them.
const PROPOSAL_BYTES_MAX: usize = 8 << 20;
/// Inputs taken before outputs are looked after.
const INPUTS_MAX: usize = 256;

pub(super) struct Queues {
    pub inputs: Receiver<Input>,
    pub proposals: Receiver<Proposal>,
    pub wal: Sender<WalJob>,
    pub apply: Sender<ApplyJob>,
    pub keeper: Sender<KeeperJob>,
}

pub(super) struct Shared {
    pub lease: Arc<LeaseCell>,
    pub view: Arc<Mutex<View>>,
    pub pins: Pins,
    pub wal_bytes: Arc<AtomicU64>,
    pub backlog: Arc<Backlog>,
}

/// A proposal that has its place in the log and waits to be applied.
struct Pending {
    index: LogIndex,
    term: Term,
    done: Completion,
}

/// The owner of a group's node, as a worker without a thread.
pub struct Driver {
    node: Node,
    queues: Queues,
    shared: Shared,
    events: Events,
    node_name: String,
    wal_bytes_max: u64,
    /// Proposed, by rising index.
    pending: VecDeque<Pending>,
    /// Refused by the node for now: they go first when it has room.
    waiting: VecDeque<Proposal>,
    checkpoint: LogIndex,
    cut: LogIndex,
    outputs: Vec<Output>,
    /// The step under way proposes an operation of the group's own.
    internal: bool,
    stopped: bool,
}

impl Driver {
    pub(super) fn new(
        node: Node,
        config: &GroupConfig,
        checkpoint: LogIndex,
        queues: Queues,
        shared: Shared,
        events: Events,
    ) -> Self {
        Self {
            node,
            queues,
            shared,
            events,
            node_name: config.node_name.clone(),
            wal_bytes_max: config.wal_bytes_max,
            pending: VecDeque::new(),
            waiting: VecDeque::new(),
            checkpoint,
            cut: 0,
            outputs: Vec::new(),
            internal: false,
            stopped: false,
        }
    }

    pub(super) fn run(mut self) {
        while !self.stopped {
            let (input, proposal) = self.wait();
            self.turn_with(input, proposal);
        }
    }

    /// Waits for something to do, until the node's deadline: an input, a proposal, or neither.
    fn wait(&self) -> (Option<Input>, Option<Proposal>) {
        let wait = Duration::from_nanos(self.deadline().saturating_sub(monotonic_ns()));
        // While the node has no room for what is waiting, no more is taken: that is the backpressure.
        let proposals = if self.waiting.is_empty() { self.queues.proposals.clone() } else { never() };
        select_biased! {
            recv(self.queues.inputs) -> input => (Some(input.unwrap_or(Input::Stop)), None),
            recv(proposals) -> proposal => (None, proposal.ok()),
            default(wait) => (None, None),
        }
    }

    /// Takes inputs that are queued, proposes what there is room for, tells the node the time, and lets go of log that is
    /// not needed. To be called when [`Self::is_ready`] or at [`Self::deadline`]; a call too many does no harm.
    pub fn turn(&mut self) -> Turn {
        if self.stopped { Turn::Stopped } else { self.turn_with(None, None) }
    }

    /// When the node wants to be told the time again, on [`monotonic_ns`].
    pub fn deadline(&self) -> u64 {
        self.node.deadline()
    }

    /// Something is queued that a turn would take.
    pub fn is_ready(&self) -> bool {
        !self.queues.inputs.is_empty() || (self.waiting.is_empty() && !self.queues.proposals.is_empty())
    }

    /// It was told to stop, has told the others, and takes no more turns.
    pub fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// The node, for checks.
    pub fn node(&self) -> &Node {
        &self.node
    }

    fn turn_with(&mut self, input: Option<Input>, proposal: Option<Proposal>) -> Turn {
        let idle = input.is_none() && proposal.is_none() && !self.is_ready();
        let turn = if idle { Turn::Idle } else { Turn::Worked };
        if let Some(input) = input {
            self.input(input);
        }
        for _ in 0..INPUTS_MAX {
            let Ok(input) = self.queues.inputs.try_recv() else { break };
            self.input(input);
        }
        self.propose(proposal);
        self.step(Input::Tick);
        self.cut_log();
        *self.shared.view.lock() = View { status: self.node.status(), hello: self.node.hello() };
        if !self.stopped {
            return turn;
        }
        self.fail_pending();
        for proposal in self.waiting.drain(..).chain(self.queues.proposals.try_iter()) {
            (proposal.done)(Err(NotServing));
        }
        Turn::Stopped
    }

    fn input(&mut self, input: Input) {
        match input {
            Input::Checkpointed { index } => self.checkpoint = index,
            Input::Stop => {
                self.shared.lease.revoke();
                self.step(Input::Stop);
                self.stopped = true;
                let _ = self.queues.wal.send(WalJob::Stop);
                let _ = self.queues.apply.send(ApplyJob::Stop);
                let _ = self.queues.keeper.send(KeeperJob::Stop);
            }
            other => self.step(other),
        }
    }

    fn propose(&mut self, first: Option<Proposal>) {
        // What waits for room goes first and alone.
        let retry = !self.waiting.is_empty();
        let mut batch: Vec<Proposal> = self.waiting.drain(..).chain(first).collect();
        let mut bytes: usize = batch.iter().map(|p| p.payload.len()).sum();
        while !retry && batch.len() < PROPOSALS_MAX && bytes < PROPOSAL_BYTES_MAX {
            let Ok(proposal) = self.queues.proposals.try_recv() else { break };
            bytes += proposal.payload.len();
            batch.push(proposal);
        }
        if batch.is_empty() {
            return;
        }
        let data = batch.iter().map(|p| (encode(&p.op), p.payload.clone())).collect();
        self.waiting = batch.into();
        self.step(Input::Propose(data));
    }

    /// One step, and everything that follows from it.
    fn step(&mut self, input: Input) {
        let mut outputs = std::mem::take(&mut self.outputs);
        self.node.step(monotonic_ns(), input, &mut outputs);
        for output in outputs.drain(..) {
            self.output(output);
        }
        if self.outputs.is_empty() {
            self.outputs = outputs;
        }
    }

    fn output(&mut self, output: Output) {
        match output {
            Output::Persist { seq, state, entries, sync } => {
                self.to_wal(WalJob::Persist { seq, state, entries, sync });
            }
            Output::Send(frame) => (self.events)(GroupEvent::ToPeer(frame)),
            Output::Witness(request) => (self.events)(GroupEvent::ToWitness(request)),
            Output::Apply(entries) => self.apply(entries),
            Output::Proposed { first, term, count } => self.proposed(first, term, count),
            Output::Refused { leader } => {
                // A follower's refusal is final; a leader without room takes them later, in order.
                if !leader {
                    for proposal in self.waiting.drain(..) {
                        (proposal.done)(Err(NotServing));
                    }
                }
            }
            Output::Lease { until_ns } => self.shared.lease.extend(until_ns),
            Output::LeaseRevoked => self.shared.lease.revoke(),
            Output::Fetch { from, to, max_bytes } => {
                let _ = self.queues.keeper.send(KeeperJob::Fetch { from, to, max_bytes });
            }
            Output::Leader { id } => (self.events)(GroupEvent::Leader(id)),
            Output::NeedIncarnation { locks_lost } => self.internal(op::Kind::Incarnation(Incarnation {
                verifier: random(),
                node: self.node_name.clone(),
                locks_lost,
            })),
            Output::NeedAdoption { identity } => {
                self.internal(op::Kind::AdoptWitness(AdoptWitness { identity }));
            }
            Output::Serving { term } => (self.events)(GroupEvent::Serving { term }),
            Output::NotServing => {
                self.shared.lease.revoke();
                self.fail_pending();
                (self.events)(GroupEvent::NotServing);
            }
            Output::NoTransfer { why } => (self.events)(GroupEvent::NoTransfer(why)),
            Output::ResetPeer { why } => (self.events)(GroupEvent::ResetPeer(why)),
            Output::PeerNeedsImage => (self.events)(GroupEvent::PeerNeedsImage),
            Output::NeedImage { why } => (self.events)(GroupEvent::NeedImage(why)),
            Output::AskVerdict => (self.events)(GroupEvent::AskVerdict),
            Output::Event { level, text } => (self.events)(GroupEvent::Log { level, text }),
        }
    }

    /// The front of `waiting` has its place in the log.
    fn proposed(&mut self, first: LogIndex, term: Term, count: usize) {
        if self.internal {
            return;
        }
        let accepted = count.min(self.waiting.len());
        for (index, proposal) in (first..).zip(self.waiting.drain(..accepted)) {
            self.pending.push_back(Pending { index, term, done: proposal.done });
        }
    }

    fn apply(&mut self, entries: Vec<Entry>) {
        let mut jobs = Vec::with_capacity(entries.len());
        for entry in entries {
            // Entries that another leader put in the place of ours: our proposers are not told that it was done.
            while let Some(old) = self.pending.pop_front_if(|p| p.index < entry.index) {
                (old.done)(Err(NotServing));
            }
            let ours = self.pending.front().is_some_and(|p| p.index == entry.index);
            let done = if ours { self.pending.pop_front() } else { None };
            let done = match done {
                Some(p) if p.term == entry.term => Some(p.done),
                Some(p) => {
                    (p.done)(Err(NotServing));
                    None
                }
                None => None,
            };
            self.shared.backlog.add(entry.cost());
            jobs.push((entry, done));
        }
        let _ = self.queues.apply.send(ApplyJob::Entries(jobs));
    }

    fn fail_pending(&mut self) {
        for pending in self.pending.drain(..) {
            (pending.done)(Err(NotServing));
        }
    }

    /// An operation of the group's own.
    fn internal(&mut self, kind: op::Kind) {
        let op = Op { version: OP_VERSION, clock_ns: wall_ns(), kind: Some(kind), ..Op::default() };
        self.internal = true;
        self.step(Input::Propose(vec![(encode(&op), bytes::Bytes::new())]));
        self.internal = false;
    }

    fn to_wal(&self, job: WalJob) {
        // A log thread that is gone has said why; the process is about to end.
        let _ = self.queues.wal.send(job);
    }

    /// Lets go of the log below the checkpoint, except what the backup still needs (within its limit) and what a copy
    /// that is being made needs.
    fn cut_log(&mut self) {
        // Planted: what is applied is taken for checkpointed.
        let past = if planted(Planted::CutPastCheckpoint) { self.node.hello().applied_index } else { 0 };
        let mut upto = self.checkpoint.max(past).min(self.shared.pins.lowest());
        if self.shared.wal_bytes.load(Ordering::Relaxed) < self.wal_bytes_max
            && let Some(needed_after) = self.node.peer_needs_after()
        {
            upto = upto.min(needed_after);
        }
        if upto > self.cut {
            self.cut = upto;
            self.to_wal(WalJob::Cut(upto));
        }
    }
}

fn encode(op: &Op) -> bytes::Bytes {
    prost::Message::encode_to_vec(op).into()
}

fn random() -> u64 {
    // The kernel's generator cannot fail once the host has booted; a clock is still unlike the last verifier.
    random_u64().unwrap_or_else(|_| wall_ns())
}
