//! Tells clients that they have the locks they waited for (GRANTED, RFC 1813 appendix II section 5.2.5).
//!
//! Who is to be told is replicated state: a waiter is granted inside `apply` and stays pending until its client's answer
//! has gone through the log. So this task has nothing of its own to lose; a new primary's begins with what is pending.
//! It sends, again and again with growing pauses, until the client answers or no longer waits, and only while this node
//! serves. Several locks are told at once, a client that is gone delays no other.
//!
//! # Refusals
//!
//! A client refuses what it no longer waits for. It also refuses what it has already accepted: a Linux client that hears
//! GRANTED twice, because its first answer was lost, finds nobody waiting the second time. So only a refusal of the very
//! first call says that nobody has the lock, and gives it up. After any later one the lock stays: a client that gave up
//! has sent CANCEL or UNLOCK, which come through; a lock that two clients hold nobody can mend.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proto::op::op::Kind;
use proto::op::{self, OP_VERSION, Op};
use replica::clock::wall_ns;
use replica::fs::locks::{LockStatus, PendingGrant};
use replica::handle::GroupHandle;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::args::{Res, Version};
use super::change::shown;
use super::outward::{Outward, Patience, address};
use super::ports::Service as PeerService;
use super::program::{PROGRAM, procedure};
use super::results::granted_args;
use crate::handle;
use crate::rpc::Transport;
use crate::service::{Phase, Shared};
use crate::xdr::Decoder;

/// Calls under way at once, per export and per client.
const CALLS_MAX: usize = 64;
const CALLS_PER_CLIENT_MAX: usize = 4;
/// Pause after the first call that was not answered; it doubles up to the longest.
const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// After so many unanswered calls the log says that a client does not answer.
const SILENT_AFTER: u32 = 6;
/// How long to sleep where nothing is due.
const IDLE: Duration = Duration::from_secs(3600);

/// A pending grant, as this task has dealt with it.
#[derive(Default)]
struct Progress {
    /// Calls that may have reached the client.
    calls: u32,
    /// Rounds that led to nothing, whether the client was reached or not.
    failures: u32,
    /// Not before.
    due: Option<Instant>,
    /// A call, or the proposal of its answer, is under way; the client.
    running: Option<Bytes>,
}

/// What one round led to.
struct Round {
    id: u64,
    /// GRANTED may have reached the client.
    called: bool,
    /// The answer is in the state; else: try again.
    settled: bool,
}

/// Runs until the service ends.
pub(crate) async fn run(group: GroupHandle, outward: Arc<Outward>, service: Arc<Shared>) {
    let changed = Arc::new(Notify::new());
    let wake = changed.clone();
    group.fs().wake_on_grant(Some(Arc::new(move || wake.notify_one())));
    let inherited = group.fs().pending_grants().iter().map(|grant| grant.id).collect();
    let mut granter = Granter { group, outward, inherited, known: HashMap::new(), rounds: JoinSet::new() };
    loop {
        match service.phase() {
            Phase::Ended(_) => return,
            Phase::Draining => {
                service.phase_other_than(Phase::Draining).await;
                continue;
            }
            Phase::Running => {}
        }
        let next = granter.start_due();
        tokio::select! {
            () = changed.notified() => {}
            Some(round) = granter.rounds.join_next() => if let Ok(round) = round { granter.finished(&round) },
            () = tokio::time::sleep_until(next) => {}
            _ = service.phase_other_than(Phase::Running) => {}
        }
    }
}

struct Granter {
    group: GroupHandle,
    outward: Arc<Outward>,
    /// What was pending when this service began: an earlier one of this very incarnation (its lease lapsed, its address was
    /// lost) may have called these clients, who then refuse what they have accepted.
    inherited: HashSet<u64>,
    known: HashMap<u64, Progress>,
    rounds: JoinSet<Round>,
}

impl Granter {
    /// Begins what is due; says when to look again.
    fn start_due(&mut self) -> Instant {
        let now = Instant::now();
        let mut next = now + IDLE;
        if !self.group.serving() {
            // The lease comes back within moments, or the service ends.
            return now + PAUSE_MIN;
        }
        let pending = self.group.fs().pending_grants();
        let ids: HashSet<u64> = pending.iter().map(|grant| grant.id).collect();
        self.known.retain(|id, progress| progress.running.is_some() || ids.contains(id));
        let mut per_client: HashMap<Bytes, usize> = HashMap::new();
        for client in self.known.values().filter_map(|progress| progress.running.clone()) {
            *per_client.entry(client).or_default() += 1;
        }
        for grant in pending {
            let progress = self.known.entry(grant.id).or_default();
            if progress.running.is_some() {
                continue;
            }
            if let Some(due) = progress.due.filter(|due| *due > now) {
                next = next.min(due);
                continue;
            }
            let with_client = per_client.entry(grant.lock.owner.client.clone()).or_default();
            // What finds no place now is looked at again when a round has finished.
            if self.rounds.len() >= CALLS_MAX || *with_client >= CALLS_PER_CLIENT_MAX {
                continue;
            }
            *with_client += 1;
            progress.running = Some(grant.lock.owner.client.clone());
            let first = progress.calls == 0 && grant.fresh && !self.inherited.contains(&grant.id);
            self.rounds.spawn(round(self.group.clone(), self.outward.clone(), grant, first));
        }
        next
    }

    fn finished(&mut self, round: &Round) {
        let Some(progress) = self.known.get_mut(&round.id) else { return };
        let client = progress.running.take().unwrap_or_default();
        progress.calls = progress.calls.saturating_add(u32::from(round.called));
        if round.settled {
            self.known.remove(&round.id);
            return;
        }
        progress.failures = progress.failures.saturating_add(1);
        let doublings = progress.failures.saturating_sub(1).min(16);
        let pause = PAUSE_MIN.saturating_mul(1 << doublings).min(PAUSE_MAX);
        progress.due = Some(Instant::now() + pause);
        if progress.failures == SILENT_AFTER {
            let (export, client) = (self.group.path(), shown(&client));
            tracing::warn!(
                export,
                client,
                "a client does not take the lock that it waited for: it is kept for it and tried on; \
                 if the client is gone for good, `hanfs locks {export} --release {client}` frees what it holds"
            );
        }
    }
}

/// One call and what follows from its answer.
async fn round(group: GroupHandle, outward: Arc<Outward>, grant: PendingGrant, first: bool) -> Round {
    let id = grant.id;
    let (called, answer) = call(&group, &outward, &grant).await;
    let settled = match refused(answer, first) {
        Some(refused) => settle(&group, id, refused).await,
        None => false,
    };
    Round { id, called, settled }
}

/// Calls GRANTED once.
async fn call(group: &GroupHandle, outward: &Outward, grant: &PendingGrant) -> (bool, Option<LockStatus>) {
    let Some(client) = address(&grant.lock.owner.client) else { return (false, None) };
    let version = Version::of(grant.nlm_version);
    let fh = handle::encode(group.id(), grant.lock.file);
    let args = granted_args(version, &grant.id.to_be_bytes(), &fh, &grant.lock);
    let transport = if grant.udp { Transport::Udp } else { Transport::Tcp };
    let service = PeerService { client, program: PROGRAM, version: grant.nlm_version, transport };
    if !group.serving() {
        return (false, None);
    }
    match outward.call(service, procedure::GRANTED, &args, Patience::Once).await {
        (called, Ok(results)) => {
            let stat = Res::decode(&mut Decoder::new(&results)).ok();
            (called, stat.and_then(|res| LockStatus::from_u32(res.stat)))
        }
        (called, Err(error)) => {
            tracing::debug!(%client, id = grant.id, %error, "call GRANTED");
            (called, None)
        }
    }
}

/// What an answer means; `None`: call again later. See the module.
fn refused(answer: Option<LockStatus>, first: bool) -> Option<bool> {
    match answer? {
        LockStatus::Granted => Some(false),
        // The client itself has just restarted, and knows its locks again in a while.
        LockStatus::Grace => None,
        _ => Some(first),
    }
}

/// Puts the answer into the log; true where it is there.
async fn settle(group: &GroupHandle, id: u64, refused: bool) -> bool {
    let kind = Kind::LockCallback(op::LockCallback { id, refused });
    let op = Op { version: OP_VERSION, clock_ns: wall_ns(), kind: Some(kind), ..Op::default() };
    let (done, wait) = oneshot::channel();
    let tell = move |fate: Result<_, _>| {
        // The task may have ended with its service.
        let _ = done.send(fate.is_ok());
    };
    group.propose(op, Bytes::new(), Box::new(tell));
    wait.await.unwrap_or(false)
}

#[cfg(test)]
mod tests {
    //! Goal: no answer of a client takes away a lock that it may hold. Method: every answer, first and later.

    use super::*;

    #[test]
    fn only_the_first_refusal_gives_a_lock_up() {
        use LockStatus::*;
        assert_eq!(refused(Some(Granted), true), Some(false));
        assert_eq!(refused(Some(Denied), true), Some(true));
        assert_eq!(refused(Some(Denied), false), Some(false), "it may have accepted the call before");
        assert_eq!(refused(Some(Failed), false), Some(false));
        assert_eq!(refused(Some(Grace), true), None);
        assert_eq!(refused(None, true), None);
    }
}
