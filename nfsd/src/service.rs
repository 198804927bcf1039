//! A service: the listeners of one virtual IP, their connections, and the phases of their life.
//!
//! Running -> Draining -> (Running again, where a planned takeover is called off) -> Ended. While it drains
//! nothing is read and nothing is accepted; what was taken is answered and written. How it ends says what its
//! clients hear: an ordinary close, a reset, or nothing at all.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use replica::clock::monotonic_ns;
use tokio::sync::Notify;

use crate::rpc::budget::Budget;
use crate::rpc::connection::Connection;
use crate::rpc::crowd::Crowd;
use crate::rpc::excess::Excess;
use crate::rpc::{Call, Limits, Registry, Responder};

/// Clients whose first reply is remembered; a takeover is over for all of them when it is for some.
const FIRST_REPLIES_MAX: usize = 4096;

/// A future that the composition root hands in.
pub type BoxFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Called with each accepted connection; the connection is not read before it is done. (It replicates the
/// tuple, so that a takeover can make the client reconnect.)
pub type OnAccept = Arc<dyn Fn(Tuple) -> BoxFuture + Send + Sync>;

/// Both ends of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tuple {
    /// The client's end.
    pub client: SocketAddr,
    /// Ours: the virtual IP and the port.
    pub server: SocketAddr,
}

/// What clients hear of a service's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Ending {
    /// An ordinary close (FIN).
    Close = 2,
    /// RST: clients reconnect at once.
    Reset = 3,
    /// Nothing (where the capability allows it; else RST): the address lives elsewhere by now.
    Silent = 4,
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Close => "closed",
            Self::Reset => "reset",
            Self::Silent => "closed silently",
        })
    }
}

/// Where a service is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Running,
    Draining,
    Ended(Ending),
}

impl Phase {
    fn to_u8(self) -> u8 {
        match self {
            Self::Running => 0,
            Self::Draining => 1,
            Self::Ended(ending) => ending as u8,
        }
    }

    fn from_u8(value: u8) -> Self {
        match value {
            0 => Self::Running,
            1 => Self::Draining,
            2 => Self::Ended(Ending::Close),
            3 => Self::Ended(Ending::Reset),
            _ => Self::Ended(Ending::Silent),
        }
    }
}

/// What a service does and has done, for `status` and metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Open TCP connections.
    pub connections: usize,
    /// Accepted since the service began.
    pub accepted: u64,
    /// Idle connections, of whichever service, closed to make room for this one's.
    pub evicted: u64,
    /// Calls taken, over TCP and UDP.
    pub calls: u64,
    /// Calls whose replies are not written yet.
    pub calls_in_flight: usize,
    /// Bytes of those calls and their replies, of this service's connections.
    pub bytes_in_flight: usize,
}

/// One connection, for `status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionInfo {
    /// Both ends.
    pub tuple: Tuple,
    /// Calls taken so far.
    pub calls: u64,
    /// Calls whose replies are not written yet.
    pub calls_in_flight: usize,
    /// When bytes last came or went, on `replica::clock::monotonic_ns`.
    pub active_ns: u64,
}

/// Some calls were not answered in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{calls} calls were still unanswered when the time for draining was over")]
pub struct DrainTimeout {
    /// How many.
    pub calls: usize,
}

/// What the tasks of one service share.
pub(crate) struct Shared {
    registry: Registry,
    limits: Limits,
    budget: Arc<Budget>,
    on_accept: OnAccept,
    phase: AtomicU8,
    /// Phase changes, for those that are no connections.
    phase_changed: Notify,
    crowd: Arc<Crowd>,
    excess: Excess,
    /// A connection has ended, or a draining one has nothing in flight any more.
    progress: Notify,
    connections: Mutex<HashMap<u64, Arc<Connection>>>,
    udp_in_flight: AtomicUsize,
    calls: AtomicU64,
    accepted: AtomicU64,
    evicted: AtomicU64,
    /// When each client was first answered in NFS over TCP, on [`monotonic_ns`].
    first_replies: Mutex<HashMap<IpAddr, u64>>,
}

impl Shared {
    pub(crate) fn new(
        registry: Registry,
        limits: Limits,
        budget: Arc<Budget>,
        crowd: Arc<Crowd>,
        on_accept: OnAccept,
    ) -> Self {
        Self {
            registry,
            excess: Excess::new(limits.udp_excess_bytes_per_s),
            limits,
            budget,
            crowd,
            on_accept,
            phase: AtomicU8::new(Phase::Running.to_u8()),
            phase_changed: Notify::new(),
            progress: Notify::new(),
            connections: Mutex::default(),
            udp_in_flight: AtomicUsize::new(0),
            calls: AtomicU64::new(0),
            accepted: AtomicU64::new(0),
            evicted: AtomicU64::new(0),
            first_replies: Mutex::default(),
        }
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(crate) fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    pub(crate) fn phase(&self) -> Phase {
        Phase::from_u8(self.phase.load(SeqCst))
    }

    pub(crate) fn on_accept(&self, tuple: Tuple) -> BoxFuture {
        (self.on_accept)(tuple)
    }

    pub(crate) fn dispatch(&self, call: Call, responder: Responder) {
        self.calls.fetch_add(1, Relaxed);
        self.registry.dispatch(call, responder);
    }

    /// Waits until the phase is not `from`.
    pub(crate) async fn phase_other_than(&self, from: Phase) -> Phase {
        self.wait(&self.phase_changed, || Some(self.phase()).filter(|p| *p != from)).await
    }

    /// Waits until `condition` holds, looking whenever `notify` fires.
    async fn wait<T>(&self, notify: &Notify, mut condition: impl FnMut() -> Option<T>) -> T {
        loop {
            let mut notified = pin!(notify.notified());
            notified.as_mut().enable();
            if let Some(value) = condition() {
                return value;
            }
            notified.await;
        }
    }

    fn set_phase(&self, phase: Phase) {
        // An ended service stays so, the way it ended.
        let change = |now: u8| (!matches!(Phase::from_u8(now), Phase::Ended(_))).then(|| phase.to_u8());
        if self.phase.fetch_update(SeqCst, SeqCst, change).is_ok() {
            self.phase_changed.notify_waiters();
            let connections: Vec<_> = self.connections.lock().values().cloned().collect();
            connections.iter().for_each(|c| c.wake());
        }
    }

    /// Something happened that a draining service or a full one waits for.
    pub(crate) fn progress(&self) {
        self.progress.notify_waiters();
    }

    /// Something of the kind has happened.
    pub(crate) fn progress_made(&self) -> tokio::sync::futures::Notified<'_> {
        self.progress.notified()
    }

    /// A client had its first reply over a connection.
    pub(crate) fn replied(&self, client: IpAddr) {
        let mut first = self.first_replies.lock();
        if first.len() < FIRST_REPLIES_MAX {
            first.entry(client.to_canonical()).or_insert_with(monotonic_ns);
        }
    }

    /// A connection that the crowd has let in.
    pub(crate) fn add(&self, connection: &Arc<Connection>) {
        self.accepted.fetch_add(1, Relaxed);
        self.connections.lock().insert(connection.id, connection.clone());
    }

    pub(crate) fn remove(&self, connection: &Connection) {
        self.connections.lock().remove(&connection.id);
        self.crowd.leave(connection);
        self.progress();
    }

    pub(crate) fn crowd(&self) -> &Crowd {
        &self.crowd
    }

    /// Closes an idle connection, if there is one, to make room.
    pub(crate) fn evict(&self) {
        if self.crowd.evict() {
            self.evicted.fetch_add(1, Relaxed);
        }
    }

    /// Closes the connections that have had nothing in flight since `idle_ns`, and those whose record has not got on
    /// since `stalled_ns`.
    pub(crate) fn close_overdue(&self, idle_ns: u64, stalled_ns: u64) {
        let overdue: Vec<_> = {
            let connections = self.connections.lock();
            let is_idle = |c: &Connection| c.calls() == 0 && c.active_ns() < idle_ns;
            connections.values().filter(|c| is_idle(c) || c.is_stalled(stalled_ns)).cloned().collect()
        };
        for connection in overdue {
            if connection.close() {
                tracing::debug!(client = %connection.tuple.client, "idle or stalled connection closed");
            }
        }
    }

    /// May this answer to a datagram be sent? Always, where only those who were let in get such answers.
    pub(crate) fn admits_datagram(&self, program: Option<u32>, request: usize, reply: usize) -> bool {
        let anybody = program.is_none_or(|program| self.registry.answers_strangers(program));
        !anybody || self.excess.admits(request, reply)
    }

    /// Datagrams taken and not answered yet.
    pub(crate) fn udp_in_flight(&self) -> usize {
        self.udp_in_flight.load(SeqCst)
    }

    pub(crate) fn udp_begin(&self, bytes: usize) {
        self.udp_in_flight.fetch_add(1, SeqCst);
        self.budget.take(bytes);
    }

    pub(crate) fn udp_end(&self, bytes: usize) {
        self.budget.give_back(bytes);
        self.udp_in_flight.fetch_sub(1, SeqCst);
        self.progress();
    }

    fn calls_in_flight(&self) -> usize {
        let tcp: usize = self.connections.lock().values().map(|c| c.calls()).sum();
        tcp.saturating_add(self.udp_in_flight())
    }

    fn counts(&self) -> Counts {
        let connections = self.connections.lock();
        Counts {
            connections: connections.len(),
            accepted: self.accepted.load(Relaxed),
            evicted: self.evicted.load(Relaxed),
            calls: self.calls.load(Relaxed),
            calls_in_flight: connections.values().map(|c| c.calls()).sum::<usize>() + self.udp_in_flight(),
            bytes_in_flight: connections.values().map(|c| c.bytes()).sum(),
        }
    }
}

/// The listeners of one virtual IP and their connections. Dropping it closes them in the ordinary way.
pub struct Service {
    shared: Arc<Shared>,
}

impl Service {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// What its tasks share.
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Takes no more calls and waits until every call taken so far is answered and its reply handed to the
    /// kernel. Connections stay open, and nothing is read or accepted, until [`Self::resume`] or an ending.
    pub async fn drain(&self, time: Duration) -> Result<(), DrainTimeout> {
        let shared = &self.shared;
        shared.set_phase(Phase::Draining);
        let empty = shared.wait(&shared.progress, || (shared.calls_in_flight() == 0).then_some(()));
        let deadline = Instant::now() + time;
        let in_time = tokio::time::timeout_at(deadline.into(), empty).await;
        in_time.map_err(|_| DrainTimeout { calls: shared.calls_in_flight() })
    }

    /// Goes on after a [`Self::drain`], as if nothing had been.
    pub fn resume(&self) {
        self.shared.set_phase(Phase::Running);
    }

    /// Closes connections and listeners in the way of `ending`, unanswered calls or not.
    pub fn end(&self, ending: Ending) {
        self.shared.set_phase(Phase::Ended(ending));
    }

    /// Closes everything without a word to the clients: the address lives elsewhere by now. Without
    /// CAP_NET_ADMIN clients whom it can still reach hear an RST.
    pub fn close_silently(&self) {
        self.end(Ending::Silent);
    }

    /// Closes everything with an RST, after which Linux clients reconnect at once with the same calls.
    pub fn reset(&self) {
        self.end(Ending::Reset);
    }

    /// Waits until all connections have ended.
    pub async fn ended(&self) {
        let shared = &self.shared;
        shared.wait(&shared.progress, || shared.connections.lock().is_empty().then_some(())).await;
    }

    /// When the first of these clients was answered in NFS over TCP since the service began, on
    /// `replica::clock::monotonic_ns`. Of more than 4,096 clients the later ones are not known.
    pub fn first_reply_ns(&self, among: &HashSet<IpAddr>) -> Option<u64> {
        let first = self.shared.first_replies.lock();
        first.iter().filter(|(client, _)| among.contains(client)).map(|(_, at)| *at).min()
    }

    /// Figures for `status`.
    pub fn counts(&self) -> Counts {
        self.shared.counts()
    }

    /// The open connections, in the order in which they were accepted.
    pub fn connections(&self) -> Vec<ConnectionInfo> {
        let mut all: Vec<_> = self.shared.connections.lock().values().cloned().collect();
        all.sort_by_key(|c| c.id);
        let info = |c: &Arc<Connection>| ConnectionInfo {
            tuple: c.tuple,
            calls: c.calls_total(),
            calls_in_flight: c.calls(),
            active_ns: c.active_ns(),
        };
        all.iter().map(info).collect()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.end(Ending::Close);
    }
}
