//! The hub: the one task that carries out what the failover policy decides.
//!
//! Everything that happens to the node as a whole comes in as a [`HubInput`], in one queue; the hub tells the policy,
//! and the policy's outputs go out: to the groups, to this node's guardian (virtual IPs, sockets), to the
//! peer's guardian, and to the front end. What takes time runs in a task of its own and comes back as an input.

mod faults;
mod groups;
mod orders;
mod serve;
mod takeovers;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use failover::link::{GuardianLink, LinkEvent, RaiseError};
use failover::net::Tuple;
use failover::net::listen::Listeners;
use failover::policy::{Fault, Order, Policy, PolicyExport, PolicyInput, PolicyOutput, Report, Side};
use parking_lot::{Mutex, RwLock};
use proto::peer::{
    ClientTuple, GroupFrame, GuardianOrder, NodeFault, StateDigest, guardian_event, guardian_order,
};
use replica::clock::{monotonic_ns, wall_ns};
use replica::group::GroupEvent;
use replica::ids::ExportId;
use replica::node::{Input, Verdict, VerdictKind};
use tokio::sync::{mpsc, oneshot};

use crate::config::model::{self, Arbiter};
use crate::daemon::copy;
use crate::daemon::export::{Export, State};
use crate::daemon::front::Front;
use crate::daemon::pauses::{Pauses, Watch};
use crate::daemon::reload::Reloader;
use crate::daemon::session::PeerLink;
use crate::daemon::tuples::Tuples;
use crate::daemon::verdict;
use crate::events::{Events, Level};

/// The lease is told to the guardian this often; well below any lease.
const LEASE_TICK: Duration = Duration::from_millis(25);
/// Calls in flight get this long to be answered before a planned takeover goes on.
const DRAIN_MAX: Duration = Duration::from_secs(1);
/// How long the hub sleeps where the policy has no deadline.
const IDLE: Duration = Duration::from_secs(3600);
/// At a stop, handing over may take this long; what is still served then is taken over as after a crash.
const HAND_OVER_MAX: Duration = Duration::from_secs(3);
/// How often connections that ended are looked for.
const RECONCILE_NS: u64 = 1_000_000_000;
/// Digests remembered per export: the backup is some seconds behind at most.
const DIGESTS_KEPT: usize = 64;
/// Pause after a copy that failed.
const COPY_RETRY_NS: u64 = 2_000_000_000;

/// All exports of this node. They come and go while it runs.
pub struct Exports {
    by_id: RwLock<BTreeMap<ExportId, Arc<Export>>>,
}

impl Exports {
    /// Of these.
    pub fn new(exports: impl IntoIterator<Item = Arc<Export>>) -> Arc<Self> {
        let by_id = exports.into_iter().map(|e| (e.id(), e)).collect();
        Arc::new(Self { by_id: RwLock::new(by_id) })
    }

    /// One of them.
    pub fn get(&self, id: ExportId) -> Option<Arc<Export>> {
        self.by_id.read().get(&id).cloned()
    }

    /// All as of now, by id.
    pub fn all(&self) -> Vec<Arc<Export>> {
        self.by_id.read().values().cloned().collect()
    }

    /// There is one more.
    pub fn insert(&self, export: Arc<Export>) {
        self.by_id.write().insert(export.id(), export);
    }

    /// There is one less.
    pub fn remove(&self, id: ExportId) -> Option<Arc<Export>> {
        self.by_id.write().remove(&id)
    }
}

/// Where the answer to an administrator goes.
pub type Answer = oneshot::Sender<Result<(), String>>;

/// What the hub is told.
pub enum HubInput {
    /// From a group.
    Group(ExportId, GroupEvent),
    /// A session with the peer is up.
    SessionUp {
        /// Its server process.
        process_id: u64,
    },
    /// It ended.
    SessionDown,
    /// The primary's log no longer reaches back to what this node has.
    CopyFromPeer(ExportId),
    /// A copy ended; with what only this node had before, if anything.
    CopyDone(ExportId, Result<Option<String>, String>),
    /// The peer's digest of the export's state.
    PeerDigest(ExportId, StateDigest),
    /// The peer wants to have the export.
    HandOver(ExportId),
    /// The peer does not hand the export over: why.
    HandOverRefused(ExportId, String),
    /// What the peer says is wrong with it.
    PeerFault(ExportId, NodeFault),
    /// The interface of the export's virtual IP has a carrier, or none.
    ClientNetwork(ExportId, bool),
    /// The peer is about to hand the export over.
    HandOverComes {
        /// Which export.
        export: ExportId,
        /// It has let its clients wait for this long, us.
        drained_for_us: u64,
        /// They wait because of a fault.
        for_fault: bool,
    },
    /// An administrator has drained the peer, or ended that.
    PeerDrained,
    /// A virtual IP is off this host: close what was connected to it.
    Dropped(ExportId),
    /// A client connected to the peer.
    PeerTuple(ExportId, Tuple, bool),
    /// A client connected here.
    Accepted(ExportId, Tuple, oneshot::Sender<()>),
    /// The peer's guardian is connected.
    PeerGuardianUp(mpsc::UnboundedSender<GuardianOrder>),
    /// It says something.
    PeerGuardian(guardian_event::Kind),
    /// It is gone.
    PeerGuardianDown(mpsc::UnboundedSender<GuardianOrder>),
    /// Our guardian has raised a virtual IP, or not.
    Raised(ExportId, Result<Listeners, RaiseError>),
    /// The calls in flight are answered, or their time is over.
    Drained(ExportId),
    /// The arbiter has spoken about the peer; `Err`: what to tell the administrator.
    Verdict(Result<VerdictKind, String>),
    /// An administrator wants this node to serve the export.
    TakeOver(ExportId, Answer),
    /// An administrator wants the peer to serve it.
    GiveAway(ExportId, Answer),
    /// An administrator wants this node to serve whatever the other has.
    Force(ExportId, Answer),
    /// There is one more export; its group starts when this is queued.
    Added(PolicyExport, Box<model::Export>),
    /// An export is gone from the configuration: end its service and give its address up, then say so.
    Removed(ExportId, oneshot::Sender<()>),
    /// An export's options are others now; say so when they are in force.
    Options(ExportId, oneshot::Sender<()>),
    /// Hand over what can be handed over, then stop.
    Stop,
}

/// What the hub shows to `status`.
#[derive(Default)]
pub struct HubView {
    /// Raft id of the leader, per export.
    pub leaders: HashMap<ExportId, Option<u64>>,
    /// Why the arbiter did not let this node go on alone, the last time it was asked.
    pub verdicts: HashMap<ExportId, String>,
    /// The virtual IP is on this node.
    pub vip: HashMap<ExportId, bool>,
    /// The last takeover that ended here.
    pub takeovers: HashMap<ExportId, proto::admin::TakeoverReport>,
    /// Client connections.
    pub connections: HashMap<ExportId, u64>,
    /// The peer's guardian is connected.
    pub peer_guardian: bool,
    /// Index of the last checkpoint, and when it was seen first, ns since 1970.
    pub checkpoints: HashMap<ExportId, (u64, u64)>,
    /// What is wrong with this node.
    pub faults: HashMap<ExportId, Fault>,
    /// The last words of the peer's server, until there is another one.
    pub peer_says: Option<String>,
}

impl HubView {
    /// An export is gone.
    fn forget(&mut self, id: ExportId) {
        self.leaders.remove(&id);
        self.verdicts.remove(&id);
        self.vip.remove(&id);
        self.takeovers.remove(&id);
        self.connections.remove(&id);
        self.checkpoints.remove(&id);
        self.faults.remove(&id);
    }
}

/// See the module.
pub struct Hub {
    /// Its queue, for tasks that come back.
    pub inputs: mpsc::UnboundedSender<HubInput>,
    /// What decides.
    pub policy: Policy,
    /// All exports.
    pub exports: Arc<Exports>,
    /// The session.
    pub peer: Option<Arc<PeerLink>>,
    /// The other node's name and where copies come from.
    pub peer_endpoint: Option<(String, tonic::transport::Endpoint)>,
    /// This node's name.
    pub node: String,
    /// This node's guardian.
    pub guardian: Arc<GuardianLink>,
    /// NFS.
    pub front: Front,
    /// Who says that the peer is gone.
    pub arbiter: Arbiter,
    /// History.
    pub events: Arc<Events>,
    /// For `status`.
    pub view: Arc<Mutex<HubView>>,
    /// Connections.
    pub tuples: Tuples,
    /// Takeovers whose length for clients is not known yet.
    pub watch: Watch,
    /// And all that were.
    pub pauses: Arc<Pauses>,
    /// When this node began to drain an export.
    pub draining: HashMap<ExportId, u64>,
    /// Orders to the peer's guardian.
    pub orders: Option<mpsc::UnboundedSender<GuardianOrder>>,
    /// Listeners that wait for the policy's word to serve.
    pub raised: HashMap<ExportId, Listeners>,
    /// Administrators who wait for an export to be served here, or there.
    pub waiting: Vec<Waiting>,
    /// Exports whose verdict is asked for; the arbiter is asked one question about the peer at a time.
    pub asking: HashSet<ExportId>,
    /// After a copy that failed: no other before this, on the monotonic clock, ns.
    pub copy_not_before_ns: u64,
    /// When connections that ended are looked for again, on the monotonic clock, ns.
    pub reconcile_ns: u64,
    /// The address is always on this host (loopback): clients notice nothing unless their connections are reset.
    pub vip_stays: bool,
    /// Digests of this node's state at the last few indexes where they are compared.
    pub digests: HashMap<ExportId, VecDeque<(u64, u64)>>,
    /// The peer's server process of the last session.
    pub peer_process_id: u64,
    /// Virtual IPs on their way down.
    pub dropping: HashMap<ExportId, u32>,
    /// Services to be closed when theirs is down; true: with a reset.
    pub closing: HashMap<ExportId, bool>,
    /// Which backups are in sync, as the policy knows it.
    pub in_sync: HashMap<ExportId, bool>,
    /// Why the group refused the transfer that it was asked for.
    pub no_transfer: Option<&'static str>,
    /// Exports whose virtual IP's interface has no carrier here: false.
    pub networks: HashMap<ExportId, bool>,
    /// It is about to end.
    pub stopping: bool,
    /// Reads the configuration anew.
    pub reloader: Arc<Reloader>,
}

/// An administrator who waits for an export to be served by one side.
pub struct Waiting {
    export: ExportId,
    side: Side,
    answer: Answer,
}
impl Hub {
    /// Runs until it is told to stop or the guardian is gone. Returns whether the stop was asked for.
    pub async fn run(mut self, mut queue: mpsc::UnboundedReceiver<HubInput>) -> bool {
        let mut leases = tokio::time::interval(LEASE_TICK);
        leases.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let guardian = self.guardian.clone();
        let mut stop_at = None;
        loop {
            let until = self.policy.deadline().map(|at| at.saturating_sub(monotonic_ns()));
            let wait = until.map_or(IDLE, Duration::from_nanos);
            tokio::select! {
                biased;
                _ = leases.tick() => {
                    self.leases();
                    self.sync_states();
                    self.watch_replies();
                    if monotonic_ns() >= self.reconcile_ns {
                        self.reconcile_ns = monotonic_ns() + RECONCILE_NS;
                        self.reconcile();
                        self.send_digests();
                        self.see_checkpoints();
                    }
                }
                event = guardian.next_event() => match event {
                    LinkEvent::GuardianGone => return false,
                    LinkEvent::Released { export } => {
                        self.set_vip(export, false);
                        self.policy(PolicyInput::VipLost { export });
                    }
                    LinkEvent::VipLost { export, why } => {
                        self.log(Level::Warning, Some(export), format!("the virtual IP was taken down: {why}"));
                        self.set_vip(export, false);
                        self.policy(PolicyInput::VipLost { export });
                    }
                    LinkEvent::Reload => {
                        tokio::spawn(self.reloader.clone().reload_on_signal());
                    }
                },
                input = queue.recv() => match input {
                    Some(HubInput::Stop) => stop_at = stop_at.or_else(|| Some(self.begin_stop())),
                    Some(input) => self.input(input),
                    None => return false,
                },
                () = tokio::time::sleep(wait) => self.policy(PolicyInput::Tick),
            }
            if stop_at.is_some_and(|at| tokio::time::Instant::now() >= at || self.nothing_is_served()) {
                self.stop().await;
                return true;
            }
        }
    }

    fn input(&mut self, input: HubInput) {
        if matches!(input, HubInput::HandOver(_) | HubInput::GiveAway(..)) {
            // Whoever gives the order has seen a status that is newer than the last tick's.
            self.sync_states();
        }
        match input {
            HubInput::Group(export, event) => self.group(export, event),
            HubInput::SessionUp { process_id } => {
                self.peer_process_id = process_id;
                self.set_givebacks();
                self.view.lock().peer_says = None;
                self.say_faults();
                for export in self.exports.all() {
                    for tuple in self.tuples.own(export.id()) {
                        self.tell_peer(export.id(), tuple, false, None);
                    }
                }
            }
            HubInput::SessionDown => {}
            HubInput::CopyFromPeer(export) => {
                if monotonic_ns() >= self.copy_not_before_ns {
                    self.copy(export);
                }
            }
            HubInput::CopyDone(export, outcome) => self.copied(export, outcome),
            HubInput::HandOver(export) if self.in_sync.get(&export) != Some(&true) => {
                let why = "the backup is not in sync".to_owned();
                self.log(Level::Warning, Some(export), format!("not handed over: {why}"));
                self.refuse_peer(export, why);
            }
            HubInput::HandOverRefused(export, why) => self.refused(export, &why),
            HubInput::PeerFault(export, fault) => {
                self.policy(PolicyInput::PeerFault { export, fault: Fault::from_proto(fault) });
            }
            HubInput::ClientNetwork(export, up) => self.client_network(export, up),
            HubInput::HandOver(export) => self.policy(PolicyInput::Order(Order::HandOver { export })),
            HubInput::HandOverComes { export, drained_for_us, for_fault } => {
                let waited_ns = drained_for_us.saturating_mul(1000);
                self.watch.handed_over(export, waited_ns, for_fault, monotonic_ns());
                self.policy(PolicyInput::TransferComing { export, for_fault });
            }
            HubInput::PeerDrained => {
                self.set_givebacks();
                self.policy(PolicyInput::Tick);
            }
            HubInput::Dropped(export) => self.dropped(export),
            HubInput::PeerDigest(export, theirs) => self.compare_digests(export, theirs),
            HubInput::PeerTuple(export, tuple, closed) => self.tuples.at_peer(export, tuple, closed),
            HubInput::Accepted(export, tuple, known) => {
                self.tuples.accepted(export, tuple);
                self.watch.accepted(export, tuple.client.ip());
                self.tell_peer(export, tuple, false, Some(known));
            }
            HubInput::PeerGuardianUp(orders) => {
                self.orders = Some(orders);
                self.view.lock().peer_guardian = true;
                self.policy(PolicyInput::PeerGuardianUp);
            }
            HubInput::PeerGuardianDown(orders) => {
                if self.orders.as_ref().is_some_and(|current| current.same_channel(&orders)) {
                    self.orders = None;
                    self.view.lock().peer_guardian = false;
                    self.policy(PolicyInput::PeerGuardianDown);
                }
            }
            HubInput::PeerGuardian(event) => self.peer_guardian(event),
            HubInput::Raised(export, outcome) => self.raised(export, outcome),
            HubInput::Drained(export) => self.policy(PolicyInput::Drained { export }),
            HubInput::Verdict(verdict) => {
                for export in std::mem::take(&mut self.asking) {
                    self.verdict(export, verdict.clone());
                }
            }
            HubInput::TakeOver(export, answer) => {
                if let Some(why) = self.would_come_back(export, Side::Own) {
                    let _ = answer.send(Err(why));
                    return;
                }
                self.wait(export, Side::Own, answer);
                self.policy(PolicyInput::Order(Order::Takeover { export }));
            }
            HubInput::GiveAway(export, answer) if self.in_sync.get(&export) != Some(&true) => {
                let _ = answer.send(Err("the other node is not in sync: see `hanfs status`".to_owned()));
            }
            HubInput::GiveAway(export, answer) => {
                if let Some(why) = self.would_come_back(export, Side::Peer) {
                    let _ = answer.send(Err(why));
                    return;
                }
                self.wait(export, Side::Peer, answer);
                self.policy(PolicyInput::Order(Order::HandOver { export }));
            }
            HubInput::Force(export, answer) => {
                self.wait(export, Side::Own, answer);
                self.verdict(export, Ok(VerdictKind::Force));
            }
            HubInput::Added(export, config) => {
                self.front.configure(&config);
                let id = export.id;
                self.policy.add(export);
                if self.peer_is_drained() {
                    self.policy.set_giveback(id, None);
                }
            }
            HubInput::Removed(export, done) => self.removed(export, done),
            HubInput::Options(export, done) => {
                self.options(export);
                let _ = done.send(());
            }
            // Taken care of by `run`.
            HubInput::Stop => {}
        }
    }

    fn peer_guardian(&mut self, event: guardian_event::Kind) {
        match event {
            guardian_event::Kind::Hello(_) => {}
            guardian_event::Kind::Ping(_) => self.policy(PolicyInput::PeerGuardianHeard),
            // Of an earlier process: the one that is connected now is alive.
            guardian_event::Kind::ServerGone(id) if id != self.peer_process_id => {}
            guardian_event::Kind::ServerGone(_) => {
                self.log(Level::Warning, None, "the other node's server process died".to_owned());
                self.peer_server_gone();
                self.policy(PolicyInput::PeerServerGone);
            }
            guardian_event::Kind::ServerSays(text) => self.peer_says(text),
            guardian_event::Kind::ServerUp(_) => self.policy(PolicyInput::PeerServerUp),
            guardian_event::Kind::Tuple(tuple) => {
                if let Some((export, tuple, closed)) = tuple_of(&tuple) {
                    self.tuples.at_peer(export, tuple, closed);
                }
            }
            guardian_event::Kind::Released(released) => {
                if let Some(export) = crate::daemon::service::export_id(&released.export) {
                    self.policy(PolicyInput::PeerReleased { export, held: released.held });
                }
            }
        }
    }

    /// One input for the policy, and everything that follows from it.
    fn policy(&mut self, input: PolicyInput) {
        let mut outputs = Vec::new();
        self.policy.step(monotonic_ns(), input, &mut outputs);
        for output in outputs {
            self.carry_out(output);
        }
    }

    fn carry_out(&mut self, output: PolicyOutput) {
        match output {
            PolicyOutput::Campaign { export, lease_void } => {
                self.to_group(export, Input::Campaign { lease_void });
            }
            PolicyOutput::ReleaseAtPeer { export } => {
                self.order(guardian_order::Kind::Release(bytes::Bytes::copy_from_slice(&export.0)));
            }
            PolicyOutput::AnnounceTaken { export } => {
                self.order(guardian_order::Kind::Taken(bytes::Bytes::copy_from_slice(&export.0)));
            }
            PolicyOutput::Raise { export } => self.raise(export),
            PolicyOutput::Repeat { export } => {
                let (guardian, tuples) = (self.guardian.clone(), self.tuples.to_tickle(export));
                tokio::spawn(async move { guardian.tickle(export, &tuples).await });
            }
            PolicyOutput::StartServing { export } => self.start_serving(export),
            PolicyOutput::StopServing { export, silently } => {
                self.watch.ended(export);
                self.draining.remove(&export);
                self.stop_serving(export, !silently);
            }
            PolicyOutput::Drop { export } => self.drop_vip(export),
            PolicyOutput::Drain { export } => {
                self.draining.insert(export, monotonic_ns());
                self.front.drain(export, DRAIN_MAX);
            }
            PolicyOutput::Transfer { export, fault_for_ns } => self.transfer(export, fault_for_ns),
            PolicyOutput::Resume { export } => {
                self.draining.remove(&export);
                self.front.resume(export);
                let why = self.no_transfer.take().unwrap_or("the other node did not take it");
                self.refuse_everybody(export, why);
            }
            PolicyOutput::AskHandOver { export } => {
                if self.peer.as_ref().is_some_and(|p| p.is_up())
                    && let Some(export) = self.exports.get(export)
                {
                    export.to_peer(GroupFrame { hand_over: true, ..GroupFrame::default() });
                } else {
                    self.answer(export, Side::Own, &Err("the nodes are not connected".to_owned()));
                    self.policy(PolicyInput::HandOverRefused { export });
                }
            }
            PolicyOutput::RefuseHandOver { export } => {
                self.refuse_everybody(export, "this node does not serve it at the moment");
            }
            PolicyOutput::SayFault { export, fault } => self.say_fault(export, fault),
            PolicyOutput::Yields { export, fault } => self.yields(export, fault),
            PolicyOutput::GivebackWithheld { export, failures } => self.log(
                Level::Warning,
                Some(export),
                format!(
                    "not given back by itself: its home failed {failures} times lately; \
                     when it is sound, use `hanfs giveback`"
                ),
            ),
            PolicyOutput::Report { export, report } => self.report(export, report),
        }
    }

    fn to_group(&self, id: ExportId, input: Input) {
        if let Some(export) = self.exports.get(id) {
            export.input(input);
        }
    }

    fn order(&self, kind: guardian_order::Kind) {
        if let Some(orders) = &self.orders {
            let _ = orders.send(GuardianOrder { kind: Some(kind) });
        }
    }

    fn log(&self, level: Level, export: Option<ExportId>, text: String) {
        let path = export.and_then(|id| self.exports.get(id)).map(|e| e.config().path.clone());
        let path = path.unwrap_or_default();
        match level {
            Level::Info => tracing::info!(export = path, "{text}"),
            Level::Warning => tracing::warn!(export = path, "{text}"),
            Level::Error => tracing::error!(export = path, "{text}"),
        }
        self.events.append(level, &path, text);
    }
}

fn level_of(level: tracing::Level) -> Level {
    match level {
        tracing::Level::ERROR => Level::Error,
        tracing::Level::WARN => Level::Warning,
        _ => Level::Info,
    }
}

fn ip_bytes(ip: std::net::IpAddr) -> bytes::Bytes {
    match ip {
        std::net::IpAddr::V4(ip) => bytes::Bytes::copy_from_slice(&ip.octets()),
        std::net::IpAddr::V6(ip) => bytes::Bytes::copy_from_slice(&ip.octets()),
    }
}

/// A tuple as it came over the wire; `None` where it makes no sense.
pub fn tuple_of(tuple: &ClientTuple) -> Option<(ExportId, Tuple, bool)> {
    let export = crate::daemon::service::export_id(&tuple.export)?;
    let ip: std::net::IpAddr = if let Ok(v4) = <[u8; 4]>::try_from(&tuple.client[..]) {
        v4.into()
    } else {
        <[u8; 16]>::try_from(&tuple.client[..]).ok()?.into()
    };
    let client = (ip, u16::try_from(tuple.client_port).ok()?).into();
    let server_port = u16::try_from(tuple.server_port).ok()?;
    Some((export, Tuple { client, server_port }, tuple.closed))
}
