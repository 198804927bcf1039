//! `hanfs server`: the process that the guardian starts. It puts the parts together and waits for the end.

use std::collections::HashSet;
use std::process::ExitCode;
use std::sync::{Arc, OnceLock, Weak};

use crate::tls::incoming;
use anyhow::{Context, bail};
use failover::link::{EXIT_FATAL, GuardianLink};
use failover::policy::{Policy, PolicyConfig, PolicyExport, PolicyTiming, Side};
use nfsd::server::Ending;
use parking_lot::Mutex;
use proto::admin::admin_server::AdminServer;
use proto::peer::peer_server::PeerServer;
use proto::peer::{ClientTuple, GroupFrame, Hello};
use replica::clock::wall_ns;
use replica::fs::FsOptions;
use replica::group::GroupConfig;
use replica::ids::{ExportId, voter};
use replica::node::{Durability, Input, NodeConfig, Third, Timing};
use replica::wal::WalOptions;
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::admin::AdminService;
use super::client_network;
use super::current::Current;
use super::data_dir::DataDir;
use super::drained::Drained;
use super::export::{Edges, Export};
use super::front::Front;
use super::hub::{Exports, Hub, HubInput, HubView, tuple_of};
use super::identity::Identity;
use super::metrics;
use super::pauses::{Pauses, Watch};
use super::reload::Reloader;
use super::rpcb_client::Door;
use super::rpcbind::Portmapper;
use super::saved::Saved;
use super::service::{PeerService, export_id};
use super::session::{Listener, MESSAGE_BYTES_MAX, PeerLink};
use super::tuples::Tuples;
use super::witness_link::WitnessLink;
use crate::config::Config;
use crate::config::model::{self, ArbiterKind};
use crate::events::{Events, Level};
use crate::tls::{Credentials, Principal};

const MS: u64 = 1_000_000;
const MIB: u64 = 1 << 20;
/// Content files kept open per export, at most: more brings nothing, opening one takes microseconds.
const OPEN_FILES_MAX: u64 = 1024;
/// And at least.
const OPEN_FILES_MIN: u64 = 32;
/// Threads of the front end beyond one per core: those that wait for the disk under a READ.
const NFS_THREADS_MORE: usize = 2;

/// Runs one node's server until its guardian ends or tells it to.
pub fn server(config: Config, node: String) -> anyhow::Result<ExitCode> {
    abort_on_panic();
    raise_open_files();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start the runtime")?;
    let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let nfs = tokio::runtime::Builder::new_multi_thread()
        .thread_name("nfs")
        .worker_threads(cores + NFS_THREADS_MORE)
        .enable_all()
        .build()
        .context("start the front end's runtime")?;
    match runtime.block_on(run(config, node, nfs.handle().clone())) {
        Ok(code) => Ok(code),
        Err(error) => {
            // A configuration or a data directory that is refused will be refused again: the guardian is not to
            // start this over and over.
            tracing::error!("{error:#}");
            Ok(ExitCode::from(EXIT_FATAL))
        }
    }
}

/// As many open files as the host allows this process.
fn raise_open_files() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "raise the limit of open files");
    }
}

/// Content files kept open per export: what the process may open, less client connections, logs and databases.
fn open_files(config: &Config) -> usize {
    let allowed = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let exports = config.exports.len().max(1) as u64;
    // A quarter stays for connections where it is tight; a log, its spares and a database per export, and the rest.
    let others = config.limits.connections.min(allowed / 4) + 16 * exports + 128;
    let each = allowed.saturating_sub(others) / exports;
    usize::try_from(each.clamp(OPEN_FILES_MIN, OPEN_FILES_MAX)).unwrap_or(0)
}

/// A thread of a group that panicked leaves a node that holds its lease and does nothing: better no process. (The
/// database's own check at opening catches its panics; that is no thread of a group.)
fn abort_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        report(info);
        let thread = std::thread::current();
        let name = thread.name().unwrap_or_default();
        if ["loop ", "apply ", "wal ", "keeper "].iter().any(|group| name.starts_with(group)) {
            tracing::error!(
                thread = name,
                "a thread of a group panicked: the process ends, the other node goes on"
            );
            std::process::abort();
        }
    }));
}

async fn run(config: Config, node: String, nfs: tokio::runtime::Handle) -> anyhow::Result<ExitCode> {
    // From the first moment on: a signal that nobody expects would end the process.
    let reload = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup())?;
    // Once more, so that what runs and its digest are of one text.
    let text = Config::read(&config.path)?;
    let config = Config::parse(&config.path, &text)?;
    let current = Current::new(config.clone(), &text);
    let Some(me) = config.node(&node).cloned() else { bail!("no node {node} in {}", config.path.display()) };
    let Some(guardian) = GuardianLink::from_env()? else {
        bail!("`hanfs server` is started by `hanfs serve`: use that");
    };
    let guardian = Arc::new(guardian);
    timing(config.timing)
        .validate()
        .map_err(|why| anyhow::anyhow!("{}: [timing] {why}", config.path.display()))?;
    let credentials = Credentials::load(&config.tls_files(&Principal::Node(node.clone())))?;
    let mut identity = Identity::new(*config.cluster.as_bytes(), &node)?;
    if guardian.process_id() != 0 {
        identity.process_id = guardian.process_id();
    }
    let data = Arc::new(DataDir::open(&me.data, &config.cluster.to_string(), &node)?);
    let drained = Arc::new(Drained::open(data.path()).context("read whether this node is drained")?);
    let saved = Saved::new(data.path());
    let events = Arc::new(open_events(&data)?);
    let pauses = Arc::new(Pauses::new(events.beside("pauses")));
    events.append(Level::Info, "", format!("server started, hanfs {}", env!("CARGO_PKG_VERSION")));

    // An export that was removed and is configured again, with the same id, has its data.
    for export in &config.exports {
        if data.restore_export(export.id).with_context(|| format!("{}: bring its data back", export.path))? {
            tracing::info!(export = export.path, "the data that was set aside is back");
        }
    }
    let (hub_tx, hub_rx) = mpsc::unbounded_channel();
    let exports = Exports::new(config.exports.iter().map(|export| {
        let voter = if export.home == node { voter::HOME } else { voter::MIRROR };
        let group = group_config(&config, export, &node, voter, &data, &identity);
        Export::new(export.clone(), voter, group, hub_tx.clone())
    }));
    let peer = config.peer_of(&node).cloned();
    let link = peer.as_ref().map(|peer| {
        let sink = Arc::new(SessionSink {
            identity: identity.clone(),
            current: current.clone(),
            said: Mutex::default(),
            link: OnceLock::new(),
            exports: exports.clone(),
            hub: hub_tx.clone(),
            events: events.clone(),
            drained: drained.clone(),
            peer: peer.name.clone(),
        });
        let link = PeerLink::new(identity.clone(), peer.name.clone(), sink.clone());
        let _ = sink.link.set(Arc::downgrade(&link));
        link
    });
    let witness = match &config.witness {
        Some(witness) if peer.is_some() => {
            let endpoint = credentials.endpoint(&Principal::Witness, witness.address)?;
            let link = WitnessLink::new(identity.cluster, &endpoint);
            link.connect(&exports);
            Some(link)
        }
        _ => None,
    };

    let view = Arc::new(Mutex::new(HubView::default()));
    let portmapper = Portmapper::new(config.network, Door::default());
    tokio::spawn(portmapper.clone().keep());
    let listener = TcpListener::bind(me.address)
        .await
        .with_context(|| format!("listen on {} for the peer and administrators", me.address))?;
    let replication = match me.replication {
        Some(address) if address != me.address => Some(
            TcpListener::bind(address).await.with_context(|| format!("listen on {address} for the peer"))?,
        ),
        _ => None,
    };
    let edges = Edges { peer: link.clone(), witness: witness.clone() };
    let reloader = Arc::new(Reloader {
        node: node.clone(),
        current: current.clone(),
        data,
        identity: identity.clone(),
        exports: exports.clone(),
        edges: edges.clone(),
        hub: hub_tx.clone(),
        view: view.clone(),
        guardian: guardian.clone(),
        events: events.clone(),
        peer: match &peer {
            Some(peer) => Some((
                peer.name.clone(),
                credentials.endpoint(&Principal::Node(peer.name.clone()), peer.address)?,
            )),
            None => None,
        },
        busy: Arc::default(),
    });
    let admin = AdminService {
        current,
        reloader: reloader.clone(),
        node: node.clone(),
        started_ns: wall_ns(),
        exports: exports.clone(),
        peer: link.clone(),
        witness: witness.clone(),
        hub: hub_tx.clone(),
        view: view.clone(),
        events: events.clone(),
        portmapper: portmapper.clone(),
        drained,
        pauses: pauses.clone(),
        saved,
    };
    let peer_service = match (&link, &peer) {
        (Some(link), Some(peer)) => Some(Arc::new(PeerService {
            identity: identity.clone(),
            peer: peer.name.clone(),
            link: link.clone(),
            exports: exports.clone(),
            hub: hub_tx.clone(),
        })),
        _ => None,
    };
    // Before anybody can connect: a handshake speaks of the groups that run, and of no others.
    // The guardian may have been started with another file than this process.
    if let Err(why) = guardian.exports(super::guardian::exports(&config)).await {
        tracing::error!("{why}");
        events.append(Level::Error, "", why);
    }
    for export in exports.all() {
        export.connect(edges.clone());
        let starting = export.clone();
        if let Err(why) = tokio::task::spawn_blocking(move || starting.start()).await? {
            // The other exports go on; this one waits for a person, and says so.
            let path = export.config().path.clone();
            tracing::error!(export = path, "{why}");
            events.append(Level::Error, &path, why);
        }
    }
    for listener in [Some(listener), replication].into_iter().flatten() {
        let mut routes = credentials.server()?.add_service(AdminServer::new(admin.clone()));
        if let Some(service) = &peer_service {
            routes = routes.add_service(
                PeerServer::from_arc(service.clone())
                    .max_decoding_message_size(MESSAGE_BYTES_MAX)
                    .max_encoding_message_size(MESSAGE_BYTES_MAX),
            );
        }
        tokio::spawn(async move {
            if let Err(error) = routes.serve_with_incoming(incoming(listener)).await {
                tracing::error!(%error, "the peers' listener failed");
            }
        });
    }

    if let Some(listen) = config.metrics {
        metrics::serve(admin.clone(), listen, me.address.ip()).await;
    }
    let peer_endpoint = match &peer {
        Some(peer) => Some((
            peer.name.clone(),
            credentials.endpoint(&Principal::Node(peer.name.clone()), peer.peer_address())?,
        )),
        None => None,
    };
    if let (Some(link), Some((name, endpoint))) = (&link, &peer_endpoint)
        && node < *name
    {
        tokio::spawn(link.clone().dial(endpoint.clone()));
    }

    let hub = Hub {
        inputs: hub_tx.clone(),
        policy: Policy::new(policy_config(&config, &node)),
        exports,
        peer: link,
        peer_endpoint,
        node,
        guardian,
        front: Front::new(
            rpc_limits(config.limits, config.network.driver),
            config.network.nfs_port,
            portmapper.clone(),
            nfs,
            hub_tx.clone(),
            &config.exports,
        ),
        arbiter: config.arbiter.clone(),
        events: events.clone(),
        view,
        tuples: Tuples::default(),
        watch: Watch::default(),
        pauses,
        draining: Default::default(),
        orders: None,
        raised: Default::default(),
        peer_process_id: 0,
        waiting: Vec::new(),
        asking: Default::default(),
        digests: Default::default(),
        copy_not_before_ns: 0,
        reconcile_ns: 0,
        vip_stays: config.network.driver == model::Driver::Loopback,
        dropping: Default::default(),
        closing: Default::default(),
        in_sync: Default::default(),
        no_transfer: None,
        networks: Default::default(),
        stopping: false,
        reloader: reloader.clone(),
    };
    if config.network.driver == model::Driver::Netlink && peer.is_some() {
        tokio::spawn(client_network::watch(hub.exports.clone(), hub_tx.clone()));
    }
    tokio::spawn(stop_on_signal(hub_tx));
    tokio::spawn(reload_on_signal(reload, reloader));
    let asked = hub.run(hub_rx).await;
    if asked {
        portmapper.unregister().await;
    }
    events.append(
        Level::Info,
        "",
        if asked { "server stopped" } else { "server stopped: its guardian is gone" },
    );
    drop(events);
    Ok(if asked { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The history is worth nothing compared with the service: where it cannot be opened, this process keeps one of
/// its own.
fn open_events(data: &DataDir) -> anyhow::Result<Events> {
    match Events::open(&data.events()) {
        Ok(events) => Ok(events),
        Err(error) => {
            tracing::error!("{error}: events of this run are not kept");
            let aside = std::env::temp_dir().join(format!("hanfs-events-{}", std::process::id()));
            Ok(Events::open(&aside)?)
        }
    }
}

async fn stop_on_signal(hub: mpsc::UnboundedSender<HubInput>) {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    let _ = hub.send(HubInput::Stop);
}

async fn reload_on_signal(mut signals: tokio::signal::unix::Signal, reloader: Arc<Reloader>) {
    while signals.recv().await.is_some() {
        reloader.clone().reload_on_signal().await;
    }
}

/// How an export's group runs on this node.
pub(super) fn group_config(
    config: &Config,
    export: &model::Export,
    node: &str,
    me: u64,
    data: &DataDir,
    identity: &Identity,
) -> GroupConfig {
    let paired = config.nodes.len() > 1;
    let memory = export.durability == model::Durability::Memory;
    let share = |mb: u64| (mb * MIB / config.exports.len().max(1) as u64).max(MIB);
    GroupConfig {
        id: export.id,
        path: export.path.clone(),
        dir: data.export(export.id),
        node_name: node.to_owned(),
        boot_id: identity.boot_id.clone(),
        node: NodeConfig {
            me,
            peer: paired.then_some(if me == voter::HOME { voter::MIRROR } else { voter::HOME }),
            third: match (paired, config.arbiter.kind) {
                (false, _) | (true, ArbiterKind::None) => Third::None,
                (true, ArbiterKind::Witness) => Third::Witness,
                (true, ArbiterKind::Fence | ArbiterKind::FailStop) => Third::StandIn,
            },
            durability: if memory { Durability::Memory } else { Durability::Disk },
            timing: timing(config.timing),
            cluster: bytes::Bytes::copy_from_slice(&identity.cluster),
            export: bytes::Bytes::copy_from_slice(&export.id.0),
            ..NodeConfig::default()
        },
        fs: FsOptions {
            cache_bytes: share(config.limits.cache_mb),
            checkpoint_bytes: config.limits.checkpoint_mb * MIB,
            open_files: open_files(config),
            apply_before_durable: memory,
        },
        wal: WalOptions::default(),
        wal_bytes_max: config.limits.wal_mb * MIB,
    }
}

fn timing(t: model::Timing) -> Timing {
    Timing {
        gap_ns: (t.detect_ms * MS / 4).min(Timing::default().gap_ns),
        ping_ns: t.ping_ms * MS,
        lease_ns: t.lease_ms * MS,
        promise_ns: t.promise_ms * MS,
        detect_ns: t.detect_ms * MS,
        stall_ns: t.stall_ms * MS,
        ..Timing::default()
    }
}

fn rpc_limits(limits: model::Limits, driver: model::Driver) -> nfsd::rpc::Limits {
    nfsd::rpc::Limits {
        unserved: match driver {
            model::Driver::Netlink => Ending::Silent,
            model::Driver::Loopback => Ending::Reset,
        },
        connections_max: usize::try_from(limits.connections).unwrap_or(usize::MAX),
        total_bytes_max: usize::try_from(limits.in_flight_mb * MIB).unwrap_or(usize::MAX),
        ..nfsd::rpc::Limits::default()
    }
}

fn policy_config(config: &Config, node: &str) -> PolicyConfig {
    PolicyConfig {
        exports: config.exports.iter().map(|e| policy_export(e, node)).collect(),
        timing: PolicyTiming::default(),
    }
}

/// An export as the policy sees it.
pub(super) fn policy_export(export: &model::Export, node: &str) -> PolicyExport {
    PolicyExport {
        id: export.id,
        home: if export.home == node { Side::Own } else { Side::Peer },
        giveback_delay_ns: export.giveback_after_s.map(|s| s.saturating_mul(1000 * MS)),
    }
}

/// What a session brings, to where it belongs.
struct SessionSink {
    identity: Identity,
    current: Arc<Current>,
    /// Groups that the last Hello spoke of.
    said: Mutex<HashSet<ExportId>>,
    link: OnceLock<Weak<PeerLink>>,
    exports: Arc<Exports>,
    hub: mpsc::UnboundedSender<HubInput>,
    events: Arc<Events>,
    drained: Arc<Drained>,
    peer: String,
}

impl Listener for SessionSink {
    fn hello(&self) -> Hello {
        let all = self.exports.all();
        let spoken: Vec<_> = all.iter().filter_map(|e| Some((e.id(), e.hello()?))).collect();
        *self.said.lock() = spoken.iter().map(|(id, _)| *id).collect();
        Hello {
            drained_since_ns: self.drained.since_ns(),
            ..self.identity.hello(spoken.into_iter().map(|(_, hello)| hello).collect(), self.current.digest())
        }
    }

    fn up(&self, hello: Hello) {
        self.events.append(Level::Info, "", format!("connected with node {}", self.peer));
        let _ = self.hub.send(HubInput::SessionUp { process_id: hello.process_id });
        for group in hello.groups {
            if let Some(export) = export_id(&group.export).and_then(|id| self.exports.get(id)) {
                export.peer_up(group);
            }
        }
        // What began or changed between this node's Hello and the peer's.
        let said = std::mem::take(&mut *self.said.lock());
        for export in self.exports.all().iter().filter(|e| !said.contains(&e.id())) {
            export.say_begin();
        }
        if let Some(link) = self.link.get().and_then(Weak::upgrade) {
            link.say_config(self.current.digest());
            link.say_drained(self.drained.since_ns());
        }
    }

    fn down(&self, why: &str) {
        self.events.append(Level::Warning, "", format!("lost node {}: {why}", self.peer));
        let _ = self.hub.send(HubInput::SessionDown);
        for export in self.exports.all() {
            export.peer_down();
        }
    }

    fn group(&self, frame: GroupFrame) {
        let Some(export) = export_id(&frame.export).and_then(|id| self.exports.get(id)) else { return };
        if let Some(hello) = frame.hello.as_ref().filter(|_| frame.begins || frame.answers) {
            export.peer_begins(hello.clone(), frame.answers);
        } else if let Some(digest) = frame.digest {
            let _ = self.hub.send(HubInput::PeerDigest(export.id(), digest));
        } else if frame.copy_from_me {
            let _ = self.hub.send(HubInput::CopyFromPeer(export.id()));
        } else if frame.hand_over {
            let _ = self.hub.send(HubInput::HandOver(export.id()));
        } else if !frame.refused.is_empty() {
            let _ = self.hub.send(HubInput::HandOverRefused(export.id(), frame.refused));
        } else if let Some(fault) = frame.fault {
            let _ = self.hub.send(HubInput::PeerFault(export.id(), fault));
        } else if frame.handing_over {
            let _ = self.hub.send(HubInput::HandOverComes {
                export: export.id(),
                drained_for_us: frame.drained_for_us,
                for_fault: frame.for_fault,
            });
        } else {
            export.input(Input::Peer(Box::new(frame)));
        }
    }

    fn drained(&self) {
        let _ = self.hub.send(HubInput::PeerDrained);
    }

    fn tuple(&self, tuple: ClientTuple) {
        if let Some((export, tuple, closed)) = tuple_of(&tuple) {
            let _ = self.hub.send(HubInput::PeerTuple(export, tuple, closed));
        }
    }
}
