//! The guardian's loop: everything that happens, one at a time.

use std::os::fd::BorrowedFd;
use std::process::ExitStatus;
use std::time::Duration;

use proto::peer::{ClientTuple, GuardianEvent, VipReleased, guardian_event};
use replica::clock::monotonic_ns;
use replica::ids::ExportId;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::config::{GuardianConfig, GuardianError, GuardianExport};
use super::export::Export;
use super::parking::{PARKED_MAX, Parked, Parking};
use super::peer::{self, PeerSignal};
use super::rule::{Death, PeerState};
use super::sentinel::Sentinel;
use super::server::{Restarts, Server};
use crate::link::EXIT_FATAL;
use crate::net::listen::{ListenError, reset};
use crate::net::{Port, Tuple, Vip};
use crate::policy::GUARDIAN_PING_NS;
use crate::wire::{ToGuardian, ToServer};

/// How long an address stays after its server's death at least. Clients whose connections the kernel has reset come again at
/// once, to this host; one that is reset once more while its new connection is just coming up sleeps for 3 s
/// (Linux, `call_connect_status`). So the address moves when they are through.
const COME_AGAIN: Duration = Duration::from_millis(100);
/// A VIP that could not be taken down is tried again this often.
const LOWER_AGAIN: Duration = Duration::from_millis(100);
/// So many renewals in a row may fail before the VIP counts as lost.
const RENEWALS_FAILED_MAX: u32 = 2;
/// How long the last words to the peer may take.
const FAREWELL: Duration = Duration::from_millis(300);
/// How long a server that closed its end may take to exit.
const EXIT_GRACE: Duration = Duration::from_secs(2);
/// How long the ports may still be taken at the start, and how often that is looked at.
const PORTS_FREE: Duration = Duration::from_secs(1);
const PORTS_AGAIN: Duration = Duration::from_millis(20);
/// Longest sleep of the loop.
const IDLE: Duration = Duration::from_secs(60);

/// See the module.
pub(super) struct EventLoop<V> {
    config: GuardianConfig,
    vips: V,
    exports: Vec<Export>,
    sentinel: Sentinel,
    server: Option<Server>,
    restarts: Restarts,
    restart_pause: Duration,
    death_ns: Option<u64>,
    parking: Parking,
    peer_tx: Option<mpsc::Sender<GuardianEvent>>,
    peer_rx: mpsc::Receiver<PeerSignal>,
    peer_task: Option<JoinHandle<()>>,
    last_process_id: u64,
    tuple_seq: u64,
    renewed_ns: u64,
    pinged_ns: u64,
    /// SIGTERM or SIGINT came.
    stopping: bool,
    sigterm: Signal,
    sigint: Signal,
    sighup: Signal,
}

/// What woke the loop.
enum Wake {
    Exited(std::io::Result<ExitStatus>),
    Server(std::io::Result<Option<(Vec<u8>, Vec<std::os::fd::OwnedFd>)>>),
    Peer(Option<PeerSignal>),
    Parked(Parked),
    Sentinel,
    Stop,
    Reload,
    Time,
}

impl<V: Vip> EventLoop<V> {
    /// Clears leftovers, opens what can be opened ahead, starts the server.
    pub(super) async fn start(config: GuardianConfig, mut vips: V) -> Result<Self, GuardianError> {
        if config.ports.len() > GuardianConfig::PORTS_MAX {
            return Err(GuardianError::TooManyPorts { ports: config.ports.len() });
        }
        let start = |what| move |source| GuardianError::Start { what, source };
        let sigterm = signal(SignalKind::terminate()).map_err(start("watch for SIGTERM"))?;
        let sigint = signal(SignalKind::interrupt()).map_err(start("watch for SIGINT"))?;
        let sighup = signal(SignalKind::hangup()).map_err(start("watch for SIGHUP"))?;
        for vip in vips.clear_stale().await? {
            tracing::warn!(%vip, "the address was on this host already; removed it");
        }
        let mut exports: Vec<Export> = config.exports.iter().map(Export::new).collect();
        if vips.floats() {
            warn_of_conntrack();
            for export in &mut exports {
                open_patiently(export, &config.ports).await?;
            }
        }
        // Where the driver's addresses end with their processes there is nothing to watch over.
        let sentinel = vips.floats().then(|| config.sentinel.clone());
        let sentinel = Sentinel::new(sentinel, config.timing.restart_max);
        let server = Server::spawn(&config.server)
            .map_err(|source| GuardianError::Spawn { program: config.server.program.clone(), source })?;
        let (signals, peer_rx) = mpsc::channel(64);
        let peer_task = config.peer.clone().map(|p| tokio::spawn(peer::keep(p, signals)));
        let mut guardian = Self {
            vips,
            exports,
            sentinel,
            restarts: Restarts::new(config.timing.restart_max),
            restart_pause: Duration::ZERO,
            death_ns: None,
            parking: Parking::new(),
            peer_tx: None,
            peer_rx,
            peer_task,
            last_process_id: server.process_id,
            server: Some(server),
            tuple_seq: 0,
            renewed_ns: monotonic_ns(),
            pinged_ns: 0,
            stopping: false,
            sigterm,
            sigint,
            sighup,
            config,
        };
        guardian.start_sentinel();
        Ok(guardian)
    }

    /// Runs to the end; returns the exit code.
    pub(super) async fn run(mut self) -> Result<u8, GuardianError> {
        let code = loop {
            self.keep_time().await;
            if self.server.is_none() && self.stopping {
                break 0;
            }
            let code = match self.wait().await {
                Wake::Exited(status) => self.on_exit(status),
                Wake::Server(Ok(Some((bytes, _)))) => {
                    self.on_server(&bytes).await;
                    None
                }
                Wake::Server(_) => {
                    self.on_closed();
                    None
                }
                Wake::Peer(signal) => {
                    self.on_peer(signal).await;
                    None
                }
                Wake::Parked(parked) => {
                    self.on_parked(parked);
                    None
                }
                Wake::Sentinel => None,
                Wake::Stop => {
                    self.on_stop();
                    None
                }
                Wake::Reload => {
                    self.tell(&ToServer::Reload, &[]);
                    None
                }
                Wake::Time => None,
            };
            if let Some(code) = code {
                break code;
            }
        };
        self.end().await;
        Ok(code)
    }

    async fn wait(&mut self) -> Wake {
        let sleep = Duration::from_nanos(self.next_deadline_ns().saturating_sub(monotonic_ns()));
        let has_server = self.server.is_some();
        let has_peer = self.peer_task.is_some();
        // Both futures borrow the server, so they are one.
        let server = async {
            match &mut self.server {
                Some(Server { child, channel, closed, .. }) => tokio::select! {
                    // What it said before it died comes first.
                    biased;
                    message = channel.recv(), if !*closed => Wake::Server(message),
                    status = child.wait() => Wake::Exited(status),
                },
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            wake = server, if has_server => wake,
            signal = self.peer_rx.recv(), if has_peer => Wake::Peer(signal),
            _ = self.sigterm.recv() => Wake::Stop,
            _ = self.sigint.recv() => Wake::Stop,
            _ = self.sighup.recv() => Wake::Reload,
            parked = self.parking.next() => Wake::Parked(parked),
            () = self.sentinel.ended() => Wake::Sentinel,
            () = tokio::time::sleep(sleep) => Wake::Time,
        }
    }

    fn peer_state(&self) -> PeerState {
        match (&self.config.peer, &self.peer_tx) {
            (None, _) => PeerState::None,
            (_, Some(_)) => PeerState::Connected,
            (_, None) => PeerState::Disconnected,
        }
    }

    fn death(&self) -> Option<Death> {
        let handover = self.config.timing.handover;
        self.death_ns.map(|at_ns| Death { at_ns, handover, peer: self.peer_state() })
    }

    fn export(&mut self, id: ExportId) -> Option<&mut Export> {
        self.exports.iter_mut().find(|e| e.id == id)
    }

    /// When a dead server is to be started again.
    fn restart_ns(&self) -> Option<u64> {
        if self.server.is_some() || self.stopping {
            return None;
        }
        let busy = self.exports.iter().any(|e| e.up || e.awaits_taken);
        let pause = match self.peer_state() {
            PeerState::Connected if busy => self.restart_pause.max(self.config.timing.handover),
            _ => self.restart_pause,
        };
        Some(self.death_ns.unwrap_or(0).saturating_add(ns(pause)))
    }

    fn next_deadline_ns(&self) -> u64 {
        let death = self.death();
        let vips = self.exports.iter().filter_map(|e| e.deadline_ns(death)).map(|at| {
            // In the past: it could not be taken down.
            if at <= monotonic_ns() { monotonic_ns().saturating_add(ns(LOWER_AGAIN)) } else { at }
        });
        let renew = self
            .exports
            .iter()
            .any(|e| e.up)
            .then_some(self.renewed_ns.saturating_add(ns(self.config.timing.renew)));
        let idle = monotonic_ns().saturating_add(ns(IDLE));
        vips.chain(renew)
            .chain(self.restart_ns())
            .chain(self.server.as_ref().and_then(|s| s.kill_at_ns))
            .chain(self.sentinel.start_ns())
            .chain(self.exports.iter().filter_map(|e| e.release_at_ns))
            .chain(self.peer_tx.is_some().then(|| self.ping_ns()))
            .min()
            .unwrap_or(idle)
    }

    /// Everything that is due. Deadlines come before renewals: a guardian that slept must not renew what is over.
    async fn keep_time(&mut self) {
        let now = monotonic_ns();
        let death = self.death();
        let over: Vec<ExportId> = self
            .exports
            .iter()
            .filter(|e| e.deadline_ns(death).is_some_and(|at| at <= now))
            .map(|e| e.id)
            .collect();
        for id in over {
            self.lose(id, "the lease ran out").await;
        }
        let released: Vec<ExportId> = self
            .exports
            .iter()
            .filter(|e| e.release_at_ns.is_some_and(|at| at <= now))
            .map(|e| e.id)
            .collect();
        for id in released {
            self.release(id).await;
        }
        if now >= self.renewed_ns.saturating_add(ns(self.config.timing.renew)) {
            self.renewed_ns = now;
            self.renew().await;
        }
        if let Some(server) = self.server.as_mut().filter(|s| s.kill_at_ns.is_some_and(|at| at <= now)) {
            tracing::warn!("the server did not end in time; killing it");
            server.kill_at_ns = None;
            server.kill();
        }
        if self.restart_ns().is_some_and(|at| at <= now) {
            self.restart();
        }
        if self.sentinel.start_ns().is_some_and(|at| at <= now) {
            self.start_sentinel();
        }
        if now >= self.ping_ns() {
            self.ping(now);
        }
    }

    /// Starts it, and tells it all there is to know.
    fn start_sentinel(&mut self) {
        if !self.sentinel.start() {
            return;
        }
        for export in &self.exports {
            self.sentinel.hold(export.vip, export.listeners.as_ref());
            if export.up {
                self.sentinel.raising(export.vip);
            }
        }
    }

    /// When the peer is to hear of this guardian again.
    fn ping_ns(&self) -> u64 {
        self.pinged_ns.saturating_add(GUARDIAN_PING_NS)
    }

    /// So that the peer knows from silence that this host is gone, sooner than from its connection.
    fn ping(&mut self, now: u64) {
        self.pinged_ns = now;
        if let Some(tx) = &self.peer_tx {
            // A queue that is full says as much.
            let _ = tx.try_send(GuardianEvent { kind: Some(guardian_event::Kind::Ping(true)) });
        }
    }

    async fn renew(&mut self) {
        let mut lost = Vec::new();
        for export in self.exports.iter_mut().filter(|e| e.up && !e.lowering) {
            match self.vips.add(export.vip).await {
                Ok(()) => export.renewals_failed = 0,
                Err(error) => {
                    tracing::warn!(vip = %export.vip, %error, "renew the address");
                    export.renewals_failed = export.renewals_failed.saturating_add(1);
                    if export.renewals_failed >= RENEWALS_FAILED_MAX {
                        lost.push((export.id, error.to_string()));
                    }
                }
            }
        }
        for (id, why) in lost {
            self.lose(id, &why).await;
        }
    }

    /// Takes a VIP off this host; true if it was on it. False with `up` still set: it could not be.
    async fn lower(&mut self, id: ExportId) -> bool {
        let Some(export) = self.exports.iter_mut().find(|e| e.id == id) else { return false };
        export.lease_until_ns = 0;
        if !self.vips.floats()
            && let Some(listeners) = export.listeners.take()
        {
            listeners.unbind();
        }
        if !export.up {
            return false;
        }
        match self.vips.delete(export.vip).await {
            Ok(_) => {
                self.sentinel.lowered(export.vip);
                export.up = false;
                export.lowering = false;
                export.renewals_failed = 0;
                tracing::info!(%id, vip = %export.vip, "the address is off this host");
            }
            Err(error) => {
                if !std::mem::replace(&mut export.lowering, true) {
                    tracing::error!(%id, %error, "take the address down; trying again, and not renewing it");
                }
            }
        }
        true
    }

    /// Takes a VIP down because it must not stay, and says so.
    async fn lose(&mut self, id: ExportId, why: &str) {
        let held = self.lower(id).await;
        let Some(export) = self.export(id).filter(|e| !e.up) else { return };
        // A server that lives closes its own.
        export.reset_parked();
        if held {
            tracing::warn!(%id, why, "the address is lost");
            self.tell(&ToServer::VipLost { export: id, text: why.to_owned() }, &[]);
        }
    }

    fn tell(&mut self, message: &ToServer, fds: &[BorrowedFd<'_>]) {
        if let Some(server) = &mut self.server {
            server.tell(message, fds);
        }
    }

    /// To the peer, if it is there. A full queue means that it does not listen: it hears the state when it
    /// connects again.
    fn report(&mut self, kind: guardian_event::Kind) {
        if let Some(tx) = &self.peer_tx
            && tx.try_send(GuardianEvent { kind: Some(kind) }).is_err()
        {
            tracing::warn!("the peer does not take events");
        }
    }

    async fn on_server(&mut self, bytes: &[u8]) {
        match ToGuardian::decode(bytes) {
            Some(ToGuardian::Lease { export, until_ns }) => {
                if let Some(export) = self.export(export) {
                    export.lease_until_ns = until_ns;
                    export.leased_by_server = true;
                }
            }
            Some(ToGuardian::Raise { export, tuples }) => self.on_raise(export, &tuples).await,
            Some(ToGuardian::Drop { export, reset }) => {
                if reset && let Some(export) = self.export(export) {
                    export.sweep();
                }
                self.lower(export).await;
                self.tell(&ToServer::Dropped { export }, &[]);
            }
            Some(ToGuardian::Tickle { export, tuples }) => self.announce(export, &tuples).await,
            Some(ToGuardian::Stopping) => {
                if let Some(server) = &mut self.server {
                    server.stopping = true;
                }
            }
            Some(ToGuardian::Says { text }) => self.report(guardian_event::Kind::ServerSays(text)),
            Some(ToGuardian::Exports { exports }) => {
                let text = self.set_exports(exports).await;
                self.tell(&ToServer::Exports { text }, &[]);
            }
            None => {
                tracing::error!("the server is of another version of hanfs; killing it");
                if let Some(server) = &mut self.server {
                    server.kill();
                }
            }
        }
    }

    /// These are the exports from now on: what is gone loses its address and its sockets, what is new gets its sockets.
    /// Says what failed; everything else is done.
    async fn set_exports(&mut self, wanted: Vec<GuardianExport>) -> String {
        let mut failed = Vec::new();
        let is_wanted = |e: &Export| wanted.iter().any(|w| e.is(w));
        let gone: Vec<ExportId> = self.exports.iter().filter(|e| !is_wanted(e)).map(|e| e.id).collect();
        for id in gone {
            if let Err(text) = self.forget(id).await {
                failed.push(text);
            }
        }
        for config in &wanted {
            if self.exports.iter().any(|e| e.id == config.id) {
                continue;
            }
            match self.learn(config).await {
                Ok(export) => self.exports.push(export),
                Err(text) => failed.push(text),
            }
        }
        failed.join("; ")
    }

    /// An export is nobody's any more. On an error it is kept, and its address is tried again.
    async fn forget(&mut self, id: ExportId) -> Result<(), String> {
        self.lower(id).await;
        let Some(at) = self.exports.iter().position(|e| e.id == id) else { return Ok(()) };
        let mut export = self.exports.swap_remove(at);
        if export.up {
            let text = format!("{} cannot be taken off this host so far; check the interface", export.vip);
            self.exports.push(export);
            return Err(text);
        }
        export.sweep();
        self.vips.unconfigure(export.vip);
        self.sentinel.forget(export.vip);
        tracing::info!(%id, vip = %export.vip, "the export is removed");
        Ok(())
    }

    /// One more export: as at the start, an address that is here already is a leftover.
    async fn learn(&mut self, config: &GuardianExport) -> Result<Export, String> {
        let mut export = Export::new(config);
        self.vips.configure(config.vip, config.interface.clone());
        if self.vips.floats() {
            if self.vips.delete(config.vip).await.map_err(|e| e.to_string())? {
                tracing::warn!(vip = %config.vip, "the address was on this host already; removed it");
            }
            export.open(&self.config.ports).map_err(|e| e.to_string())?;
            self.sentinel.hold(export.vip, export.listeners.as_ref());
        }
        tracing::info!(id = %config.id, vip = %config.vip, "the export is new here");
        Ok(export)
    }

    async fn on_raise(&mut self, id: ExportId, tuples: &[Tuple]) {
        match self.raise(id).await {
            Ok(()) => {
                self.announce(id, tuples).await;
                if let Some(export) = self.export(id) {
                    // From before the restart: with the address up, these clients reconnect at once.
                    export.reset_parked();
                }
                self.pass(id);
            }
            Err(text) => {
                tracing::error!(%id, %text, "raise the address");
                self.tell(&ToServer::Refused { export: id, text }, &[]);
            }
        }
    }

    async fn raise(&mut self, id: ExportId) -> Result<(), String> {
        let Some(export) = self.exports.iter_mut().find(|e| e.id == id) else {
            return Err(format!("export {id} is not configured here"));
        };
        if export.lease_until_ns <= monotonic_ns() {
            return Err("there is no lease for it".into());
        }
        export.open(&self.config.ports).map_err(|e| e.to_string())?;
        // Again each time: a port that another server had may have come.
        self.sentinel.hold(export.vip, export.listeners.as_ref());
        if export.lowering {
            return Err("the address is being taken down, which failed so far; check the interface".into());
        }
        if !export.up {
            // What is left from last time knows nothing of what happened since.
            export.sweep();
            match self.vips.forget(export.vip).await {
                Ok(0) => {}
                Ok(left) => tracing::info!(%id, left, "ended connections of an earlier server"),
                // Their clients may wait longer; that is no reason to serve nobody.
                Err(error) => tracing::warn!(%id, %error, "connections of an earlier server may be left"),
            }
            // First: it must never be up without the sentinel's knowledge.
            self.sentinel.raising(export.vip);
            if let Err(error) = self.vips.add(export.vip).await {
                self.sentinel.lowered(export.vip);
                return Err(error.to_string());
            }
            export.up = true;
            tracing::info!(%id, vip = %export.vip, "the address is on this host");
        }
        export.awaits_taken = false;
        Ok(())
    }

    async fn announce(&mut self, id: ExportId, tuples: &[Tuple]) {
        let Some(export) = self.exports.iter().find(|e| e.id == id && e.up) else { return };
        if let Err(error) = self.vips.announce(export.vip).await {
            tracing::warn!(%id, %error, "announce");
        }
        match self.vips.tickle(export.vip, tuples).await {
            Ok(sent) => tracing::debug!(%id, sent, "tickled"),
            Err(error) => tracing::warn!(%id, %error, "tickle"),
        }
    }

    /// Hands the listeners to the server.
    fn pass(&mut self, id: ExportId) {
        let Some(listeners) = self.exports.iter().find(|e| e.id == id).and_then(|e| e.listeners.as_ref())
        else {
            return;
        };
        let fds = listeners.descriptors();
        // Both at most PORTS_MAX, checked at start.
        let (tcp, udp) = (listeners.tcp.len() as u8, listeners.udp.len() as u8);
        if let Some(server) = &mut self.server {
            server.tell(&ToServer::Raised { export: id, tcp, udp }, &fds);
        }
    }

    async fn on_peer(&mut self, signal: Option<PeerSignal>) {
        match signal {
            Some(PeerSignal::Up(tx)) => self.on_peer_up(tx),
            Some(PeerSignal::Release(id)) => {
                let at_ns = self.release_ns();
                match self.export(id) {
                    Some(export) if export.up && at_ns > monotonic_ns() => export.release_at_ns = Some(at_ns),
                    _ => self.release(id).await,
                }
            }
            Some(PeerSignal::Taken(id)) => {
                if let Some(export) = self.export(id).filter(|e| !e.up) {
                    export.awaits_taken = false;
                    export.sweep();
                }
            }
            Some(PeerSignal::Down) => self.peer_tx = None,
            None => {
                self.peer_tx = None;
                self.peer_task = None;
            }
        }
    }

    /// When an address may be released at the earliest.
    fn release_ns(&self) -> u64 {
        let death_ns = self.death_ns.filter(|_| self.server.is_none());
        death_ns.map_or(0, |at| at.saturating_add(ns(COME_AGAIN)))
    }

    /// Takes an address off this host on the peer's order, and says so.
    async fn release(&mut self, id: ExportId) {
        if let Some(export) = self.export(id) {
            export.release_at_ns = None;
        }
        let held = self.lower(id).await;
        let alive = self.server.is_some();
        if let Some(export) = self.export(id) {
            if export.up {
                // Could not be taken down; the peer goes on without an answer, in its own time.
                return;
            }
            export.awaits_taken = held && !alive;
        }
        // Clients that this host's kernel has answered but nobody has accepted: only the peer's tickle
        // makes them find out before their 60 s are over.
        let unaccepted = match self.export(id) {
            Some(export) if held && alive => export.sweep(),
            _ => Vec::new(),
        };
        for tuple in unaccepted {
            self.report_tuple(id, tuple);
        }
        if held {
            self.tell(&ToServer::Released { export: id }, &[]);
        }
        let export = id.0.to_vec().into();
        self.report(guardian_event::Kind::Released(VipReleased { export, held }));
    }

    fn on_peer_up(&mut self, tx: mpsc::Sender<GuardianEvent>) {
        self.peer_tx = Some(tx);
        self.report(match self.server {
            Some(_) => guardian_event::Kind::ServerUp(self.last_process_id),
            None => guardian_event::Kind::ServerGone(self.last_process_id),
        });
        let parked: Vec<(ExportId, Tuple)> =
            self.exports.iter().flat_map(|e| e.parked.iter().map(|(t, _)| (e.id, *t))).collect();
        for (id, tuple) in parked {
            self.report_tuple(id, tuple);
        }
    }

    fn report_tuple(&mut self, id: ExportId, tuple: Tuple) {
        self.tuple_seq = self.tuple_seq.wrapping_add(1);
        self.report(guardian_event::Kind::Tuple(ClientTuple {
            seq: self.tuple_seq,
            export: id.0.to_vec().into(),
            client: match tuple.client.ip() {
                std::net::IpAddr::V4(a) => a.octets().to_vec().into(),
                std::net::IpAddr::V6(a) => a.octets().to_vec().into(),
            },
            client_port: tuple.client.port().into(),
            server_port: tuple.server_port.into(),
            closed: false,
        }));
    }

    fn on_parked(&mut self, parked: Parked) {
        let Parked { export: id, tuple, stream } = parked;
        if self.server.is_some() {
            // Accepted at the last moment before the restart: the client is to come again.
            reset(stream);
            return;
        }
        if let Some(export) = self.export(id) {
            export.parked.push((tuple, stream));
        }
        if self.exports.iter().map(|e| e.parked.len()).sum::<usize>() >= PARKED_MAX {
            tracing::warn!("as many connections wait as can be parked; the kernel keeps the rest");
            self.parking.stop();
        }
        self.report_tuple(id, tuple);
    }

    /// The server closed its end: it is about to exit, and its exit code matters. If not, it is of no use.
    fn on_closed(&mut self) {
        if let Some(server) = &mut self.server {
            server.closed = true;
            server.kill_at_ns.get_or_insert(monotonic_ns().saturating_add(ns(EXIT_GRACE)));
        }
    }

    /// The server is dead: nobody can answer for its exports any more. Returns an exit code where the guardian
    /// ends too.
    fn on_exit(&mut self, status: std::io::Result<ExitStatus>) -> Option<u8> {
        let server = self.server.take()?;
        let code = status.as_ref().ok().and_then(ExitStatus::code);
        let how = status.map_or_else(|e| e.to_string(), |s| s.to_string());
        self.death_ns = Some(monotonic_ns());
        self.restart_pause = self.restarts.next_pause(server.age());
        self.report(guardian_event::Kind::ServerGone(server.process_id));
        for export in &mut self.exports {
            export.leased_by_server = false;
        }
        if code == Some(i32::from(EXIT_FATAL)) {
            tracing::error!("the server cannot run (see its message above); not starting it again");
            return Some(EXIT_FATAL);
        }
        if server.stopping || self.stopping {
            tracing::info!(%how, "the server ended");
            return Some(0);
        }
        tracing::error!(%how, "the server died");
        self.park();
        None
    }

    fn park(&mut self) {
        for export in self.exports.iter().filter(|e| e.up) {
            for listener in export.listeners.iter().flat_map(|l| &l.tcp) {
                if let Err(error) = self.parking.watch(export.id, listener) {
                    tracing::warn!(%error, "accept in place of the server");
                }
            }
        }
    }

    fn restart(&mut self) {
        self.parking.stop();
        for export in &mut self.exports {
            if export.awaits_taken {
                // The peer never said that it has it; the address is off this host in any case.
                export.awaits_taken = false;
                export.sweep();
            }
        }
        match Server::spawn(&self.config.server) {
            Ok(server) => {
                tracing::info!("the server is started again");
                self.last_process_id = server.process_id;
                self.server = Some(server);
                self.report(guardian_event::Kind::ServerUp(self.last_process_id));
            }
            Err(error) => {
                tracing::error!(%error, program = ?self.config.server.program, "start the server again");
                self.restart_pause = self.restarts.next_pause(Duration::ZERO);
                self.death_ns = Some(monotonic_ns());
            }
        }
    }

    fn on_stop(&mut self) {
        let again = std::mem::replace(&mut self.stopping, true);
        let Some(server) = &mut self.server else { return };
        if again {
            server.kill();
        } else {
            server.kill_at_ns = Some(monotonic_ns().saturating_add(ns(self.config.timing.stop)));
            server.terminate();
        }
    }

    /// Leaves nothing behind: addresses off, the peer told.
    async fn end(mut self) {
        self.server = None;
        for id in self.exports.iter().map(|e| e.id).collect::<Vec<_>>() {
            if self.lower(id).await {
                let export = id.0.to_vec().into();
                self.report(guardian_event::Kind::Released(VipReleased { export, held: true }));
            }
            if let Some(export) = self.export(id) {
                export.sweep();
            }
        }
        // What could not be taken down is left to the sentinel: it sees this process end without a goodbye.
        if !self.exports.iter().any(|e| e.up) {
            self.sentinel.goodbye().await;
        }
        // The stream ends when its sender is gone and everything is said.
        self.peer_tx = None;
        if let Some(task) = self.peer_task.take() {
            self.peer_rx.close();
            let _ = tokio::time::timeout(FAREWELL, task).await;
        }
    }
}

/// Opens an export's sockets at the start. The sentinel of a guardian that was killed has them until it has taken the addresses
/// down, which is no reason to give up.
async fn open_patiently(export: &mut Export, ports: &[Port]) -> Result<(), ListenError> {
    let until = monotonic_ns().saturating_add(ns(PORTS_FREE));
    loop {
        match export.open(ports) {
            Err(e) if e.source.kind() == std::io::ErrorKind::AddrInUse && monotonic_ns() < until => {
                tokio::time::sleep(PORTS_AGAIN).await;
            }
            done => return done,
        }
    }
}

/// A client answers a tickle with a packet of a connection that this host never saw begin.
fn warn_of_conntrack() {
    let loose = std::fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_tcp_loose");
    if loose.is_ok_and(|v| v.trim() == "0") {
        tracing::warn!(
            "net.netfilter.nf_conntrack_tcp_loose is 0: if a firewall rule here drops INVALID packets, clients stall \
             for 60 s at a takeover; set it to 1"
        );
    }
}

fn ns(d: Duration) -> u64 {
    u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)
}
