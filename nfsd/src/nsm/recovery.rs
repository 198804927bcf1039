//! Grace: where lock state cannot be proved complete, clients are told to claim their locks again.
//!
//! That an export is in grace is replicated state; the first entry of a primary whose copy may lack
//! something puts it there (`Incarnation.locks_lost`), so before the export is served. This task, one per export and service, sees it, tells every client that has held locks
//! (SM_NOTIFY, from the virtual IP that the client mounted and under that name), and ends the grace when they have had
//! time. A takeover within the grace begins anew: hearing it twice makes a client claim twice, which harms nobody.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proto::op::op::Kind;
use proto::op::{self, OP_VERSION, Op};
use replica::clock::wall_ns;
use replica::handle::GroupHandle;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::program::{PROGRAM, VERSION, procedure};
use crate::nlm::{Outward, Patience, PeerService, address};
use crate::rpc::Transport;
use crate::service::{Phase, Shared};
use crate::xdr::Encoder;

/// How long clients have to claim their locks: knfsd's grace period.
pub const GRACE: Duration = Duration::from_secs(90);
/// How often to look whether a grace began.
const LOOK: Duration = Duration::from_secs(1);
/// Clients that are told at once.
const TOLD_MAX: usize = 32;
/// Pause after a client that did not answer; it doubles up to the longest. It is tried until the grace ends.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(15);

/// Runs until the service ends.
pub(crate) async fn run(group: GroupHandle, outward: Arc<Outward>, service: Arc<Shared>, time: Duration) {
    loop {
        match service.phase() {
            Phase::Ended(_) => return,
            Phase::Draining => {
                service.phase_other_than(Phase::Draining).await;
            }
            Phase::Running if group.fs().in_grace() && group.serving() => {
                grace(&group, &outward, &service, time).await;
            }
            Phase::Running => {
                _ = tokio::time::timeout(LOOK, service.phase_other_than(Phase::Running)).await;
            }
        }
    }
}

/// One grace, from now to its end, or to the end of the service's running.
async fn grace(group: &GroupHandle, outward: &Arc<Outward>, service: &Shared, time: Duration) {
    let until = Instant::now() + time;
    let mut told = notify_all(group, outward, until);
    let (export, clients) = (group.path(), told.len());
    tracing::warn!(
        export,
        clients,
        seconds = time.as_secs(),
        "lock state was lost: clients are told to claim their locks"
    );
    while Instant::now() < until {
        tokio::select! {
            () = tokio::time::sleep_until(until.min(Instant::now() + LOOK)) => {}
            Some(_) = told.join_next() => {}
            _ = service.phase_other_than(Phase::Running) => return,
        }
        if !group.fs().in_grace() {
            return;
        }
    }
    end_grace(group).await;
}

/// Tells every monitored client of an export that locks were lost; each until it answers, or `until`.
pub(crate) fn notify_all(group: &GroupHandle, outward: &Arc<Outward>, until: Instant) -> JoinSet<()> {
    let places = Arc::new(Semaphore::new(TOLD_MAX));
    let state = state_now();
    let hosts = group.fs().lock_hosts();
    let mut told = JoinSet::new();
    for client in hosts.iter().filter(|host| host.monitored).filter_map(|host| address(&host.client)) {
        let (outward, places) = (outward.clone(), places.clone());
        told.spawn(async move {
            _ = tokio::time::timeout_at(until, notify(&outward, client, state, &places)).await;
        });
    }
    told
}

/// A state number that is odd (up) and differs from that of any earlier notification: the wall clock's seconds.
fn state_now() -> u32 {
    let seconds = wall_ns() / 1_000_000_000;
    // 31 bits: some clients keep it in a signed integer.
    (seconds as u32 & 0x7fff_ffff) | 1
}

/// SM_NOTIFY to one client, until it answers.
async fn notify(outward: &Outward, client: IpAddr, state: u32, places: &Semaphore) {
    // By this name the client monitors the server: the address that it mounted.
    let name = outward.source_for(client).map(|ip| ip.to_string()).unwrap_or_default();
    let mut args = Encoder::new();
    args.opaque(name.as_bytes()).u32(state);
    let service = PeerService { client, program: PROGRAM, version: VERSION, transport: Transport::Udp };
    let mut pause = PAUSE_MIN;
    loop {
        let Ok(place) = places.acquire().await else { return };
        match outward.call(service, procedure::NOTIFY, &args, Patience::Repeat).await {
            (_, Ok(_)) => return,
            (_, Err(error)) => tracing::debug!(%client, %error, "tell a client that locks were lost"),
        }
        drop(place);
        tokio::time::sleep(pause).await;
        pause = pause.saturating_mul(2).min(PAUSE_MAX);
    }
}

/// From here on new locks are granted again. If it does not get into the log, the next look finds the grace still on.
async fn end_grace(group: &GroupHandle) {
    let kind = Kind::GraceEnd(op::GraceEnd {});
    let op = Op { version: OP_VERSION, clock_ns: wall_ns(), kind: Some(kind), ..Op::default() };
    let (done, wait) = oneshot::channel();
    let tell = move |fate: Result<_, _>| {
        let _ = done.send(fate.is_ok());
    };
    group.propose(op, Bytes::new(), Box::new(tell));
    _ = wait.await;
}
