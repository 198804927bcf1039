//! The server process: the product's groups in turns, its policy, and its front end's dispatcher.
//!
//! What is simulated is only what the daemon's threads and sockets do: when a worker gets its turn, how long an fdatasync
//! takes, when a call is read and an answer written.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use failover::policy::{Policy, PolicyConfig, PolicyExport, PolicyTiming, Side};
use nfsd::access::{Access, AccessList};
use nfsd::exports::{ExportPolicy, Shown, Squash};
use nfsd::names::Names;
use nfsd::rpc::{Limits, Outcome, Registry, ReplySink, Transport, offline};
use nfsd::server::Server;
use parking_lot::Mutex;
use replica::disk::Disk;
use replica::fs::FsOptions;
use replica::group::{GroupConfig, GroupEvent, Parts, Turn};
use replica::ids::ExportId;
use replica::node::{Input, NodeConfig};
use replica::wal::WalOptions;

use super::Socket;
use crate::queue::{Down, Event, PeerFrame, Tuple};
use crate::world::{MS, World};

/// The daemon's tick.
const TICK_NS: u64 = 25 * MS;
/// Jobs that the state machine does in one turn.
const JOBS_MAX: usize = 64;

/// An export's group in this process.
pub struct Run {
    /// Its workers.
    pub parts: Parts,
    /// What it said since the last look.
    events: Arc<Mutex<Vec<GroupEvent>>>,
    /// An fdatasync of its log is under way.
    pub syncing: bool,
    /// Log kept for a receiver of a copy.
    pub kept: Vec<super::copy::Kept>,
}

/// Answers on their way to their connections.
type Answers = Arc<Mutex<Vec<(u64, Outcome)>>>;

struct Sink {
    conn: u64,
    answers: Answers,
}

impl ReplySink for Sink {
    fn settle(&self, _request_bytes: usize, outcome: Outcome) {
        self.answers.lock().push((self.conn, outcome));
    }
}

/// An export that is served here.
pub struct Front {
    registry: Registry,
    /// Nothing new is read.
    pub draining: bool,
    /// Calls taken and not answered.
    pub in_flight: usize,
}

/// A server process.
pub struct Process {
    /// By export; `None`: it does not run here.
    pub groups: Vec<Option<Run>>,
    /// What decides.
    pub policy: Policy,
    /// By export.
    pub fronts: Vec<Option<Front>>,
    /// What the policy knows of each backup.
    pub in_sync: Vec<Option<bool>>,
    /// Addresses on their way down, by export.
    pub dropping: Vec<u32>,
    /// Services to be closed when theirs is down.
    pub closing: Vec<bool>,
    /// Clients of the other node's, who are tickled at a takeover.
    pub peers: std::collections::BTreeSet<Tuple>,
    /// Clients accepted here.
    pub own: std::collections::BTreeSet<Tuple>,
    /// Who is waited for, by number.
    pub unconfirmed: std::collections::BTreeMap<u64, Tuple>,
    /// Received and not read, by connection.
    pub unread: std::collections::BTreeMap<u64, Vec<Bytes>>,
    answers: Answers,
    /// The other node's server process of the last session.
    pub peer_process: u64,
    /// When a copy is tried again.
    pub copy_not_before: u64,
    /// Verdicts that were asked for.
    pub asking: bool,
    /// When the daemon compares digests next.
    pub digests_at: u64,
}

/// An export's id.
pub fn export_id(export: usize) -> ExportId {
    ExportId([u8::try_from(export + 1).unwrap_or(0xff); 16])
}

/// Its number.
pub fn export_number(id: ExportId) -> usize {
    usize::from(id.0[0]).saturating_sub(1)
}

/// Its path.
pub fn export_path(export: usize) -> String {
    format!("/srv/{export}")
}

/// Where an export's files are on a host's disk.
pub fn export_dir(export: usize) -> String {
    format!("export{export}")
}

/// Which raft id a host has in an export's group: its home is 1.
pub fn raft_id(host: usize, export: usize) -> u64 {
    if host == export % 2 { 1 } else { 2 }
}

impl World {
    /// Small segments, so that logs roll over and are cut in every run.
    pub fn wal_options(&self) -> WalOptions {
        WalOptions { segment_bytes: self.setup.segment_bytes, spare_segments: 1 }
    }

    fn group_config(&self, h: usize, export: usize) -> GroupConfig {
        let id = export_id(export);
        let me = raft_id(h, export);
        let setup = &self.setup;
        GroupConfig {
            id,
            path: export_path(export),
            dir: std::path::PathBuf::from(export_dir(export)),
            node_name: ["a", "b"][h].into(),
            boot_id: self.hosts[h].boot_id(h),
            node: NodeConfig {
                me,
                peer: Some(3 - me),
                third: setup.third,
                durability: setup.durability,
                // Small, so that entries are fetched from the log and proposals have to wait.
                log_cache_bytes: 8 << 10,
                uncommitted_bytes_max: 64 << 10,
                cluster: Bytes::from_static(&[9; 16]),
                export: Bytes::copy_from_slice(&id.0),
                ..NodeConfig::default()
            },
            fs: FsOptions {
                cache_bytes: 256 << 10,
                checkpoint_bytes: setup.checkpoint_bytes,
                open_files: 8,
                apply_before_durable: setup.durability == replica::node::Durability::Memory,
            },
            wal: self.wal_options(),
            wal_bytes_max: setup.wal_bytes_max,
        }
    }

    /// Starts the server process from what is on disk.
    pub fn start_server(&mut self, h: usize) {
        if self.hosts[h].process.is_some() || !self.hosts[h].on {
            return;
        }
        self.hosts[h].life += 1;
        let life = self.hosts[h].life;
        self.say(format!("host {h}: the server starts, process {life}"));
        let exports = self.setup.exports;
        let giveback_delay_ns = self.setup.giveback_ns;
        let side = |e: usize| if e % 2 == h { Side::Own } else { Side::Peer };
        let config = PolicyConfig {
            exports: (0..exports)
                .map(|e| PolicyExport { id: export_id(e), home: side(e), giveback_delay_ns })
                .collect(),
            timing: PolicyTiming::default(),
        };
        let process = Process {
            groups: Vec::new(),
            policy: Policy::new(config),
            fronts: (0..exports).map(|_| None).collect(),
            in_sync: vec![None; exports],
            dropping: vec![0; exports],
            closing: vec![false; exports],
            peers: Default::default(),
            own: Default::default(),
            unconfirmed: Default::default(),
            unread: Default::default(),
            answers: Answers::default(),
            peer_process: 0,
            copy_not_before: 0,
            asking: false,
            digests_at: 0,
        };
        self.hosts[h].process = Some(process);
        self.hosts[h].paused_until = 0;
        self.hosts[h].wake_at = u64::MAX;
        for export in 0..exports {
            let run = self.open_group(h, export);
            let Some(process) = self.hosts[h].process.as_mut() else { return };
            process.groups.push(run);
        }
        if std::mem::take(&mut self.checks.doomed[h]) {
            return self.kill_server(h, true);
        }
        self.at(1, Event::Turn(h, life));
        self.at(TICK_NS, Event::Tick(h, life));
    }

    /// Opens an export's stores and puts its group together.
    pub fn open_group(&mut self, h: usize, export: usize) -> Option<Run> {
        self.hosts[h].set_clock(self.now);
        replica::random::simulate(self.rng.next());
        let config = self.group_config(h, export);
        let events: Arc<Mutex<Vec<GroupEvent>>> = Arc::default();
        let heard = events.clone();
        let tell = Arc::new(move |event| heard.lock().push(event));
        if let Err(error) = self.install(h, export) {
            self.cannot_start(h, export, &error);
            return None;
        }
        let disk = self.hosts[h].disk.below(std::path::Path::new(&export_dir(export)));
        match Parts::open(disk, config, tell) {
            Ok(mut parts) => {
                parts.logger.prepare();
                Some(Run { parts, events, syncing: false, kept: Vec::new() })
            }
            Err(error) => {
                self.cannot_start(h, export, &error.to_string());
                None
            }
        }
    }

    /// The server process dies, and with it what it had in memory; its sockets are closed by the kernel.
    pub fn kill_server(&mut self, h: usize, fatal: bool) {
        if self.hosts[h].process.is_none() {
            return;
        }
        // What is dropped writes nothing any more: a dead process does not.
        self.hosts[h].disk.kill();
        self.hosts[h].process = None;
        let process = self.hosts[h].life;
        self.hosts[h].life += 1;
        self.hosts[h].paused_until = 0;
        self.say(format!("host {h}: the server process {process} is dead"));
        if !self.hosts[h].on {
            return;
        }
        self.disconnect();
        self.guardian_link_ends(1 - h);
        for export in 0..self.setup.exports {
            self.close_sockets(h, export, |socket| matches!(socket, Socket::Server(_)));
        }
        self.guardian_sees_death(h, process, fatal);
    }

    /// Is this process alive and running?
    pub fn runs(&self, h: usize, life: u64) -> bool {
        self.hosts[h].life == life && self.hosts[h].process.is_some()
    }

    /// True: the process is stopped, and the event happens when it goes on.
    pub fn later(&mut self, h: usize, event: impl FnOnce() -> Event) -> bool {
        let until = self.hosts[h].paused_until;
        if self.now >= until {
            return false;
        }
        self.queue.push(until, event());
        true
    }

    /// One input for a group.
    pub fn group_input(&mut self, h: usize, export: usize, input: Input) {
        if let Some(run) = self.group(h, export) {
            run.parts.group.input(input);
            self.wake(h, 20_000);
        }
    }

    /// An export's group on a host, where it runs.
    pub fn group(&mut self, h: usize, export: usize) -> Option<&mut Run> {
        self.hosts[h].process.as_mut()?.groups.get_mut(export)?.as_mut()
    }

    /// The server gets a turn after so long, or earlier.
    pub fn wake(&mut self, h: usize, wait: u64) {
        let at = self.now + wait;
        let host = &mut self.hosts[h];
        if host.process.is_some() && (at < host.wake_at || host.wake_at <= self.now) {
            host.wake_at = at;
            let life = host.life;
            self.queue.push(at, Event::Turn(h, life));
        }
    }

    /// Turns for all workers, and everything that follows from them.
    pub fn turn(&mut self, h: usize, life: u64) {
        if !self.runs(h, life) || self.later(h, || Event::Turn(h, life)) {
            return;
        }
        if self.hosts[h].wake_at <= self.now {
            self.hosts[h].wake_at = u64::MAX;
        }
        self.hosts[h].set_clock(self.now);
        for export in 0..self.setup.exports {
            self.group_turn(h, export);
            if !self.runs(h, life) {
                return;
            }
        }
        self.policy_time(h);
        self.answers(h);
        self.check_leases();
        self.schedule(h);
    }

    /// The workers of one group.
    fn group_turn(&mut self, h: usize, export: usize) {
        self.hosts[h].set_clock(self.now);
        let now_true = self.now;
        let Some(run) = self.group(h, export) else { return };
        let Run { parts, syncing, .. } = run;
        parts.driver.turn();
        let mut sync = false;
        let now = replica::clock::monotonic_ns();
        if !*syncing && (parts.logger.is_ready() || parts.logger.deadline() <= now) {
            parts.logger.append_gathered();
            if parts.logger.is_unsynced()
                && (parts.logger.is_sync_demanded() || parts.logger.deadline() <= now)
            {
                *syncing = true;
                sync = true;
            } else {
                parts.logger.sync_if_due();
            }
        }
        parts.applier.turn(JOBS_MAX);
        if parts.keeper.is_ready() || parts.keeper.deadline() <= now {
            parts.keeper.turn();
        }
        let progress = parts.group.progress();
        let status = parts.group.node_status();
        let events = std::mem::take(&mut *run.events.lock());
        run.kept.retain(|kept| status.peer_match < kept.end && now_true < kept.until);
        if sync {
            let delay = self.disk_delay(h);
            let life = self.hosts[h].life;
            self.at(delay, Event::Sync(h, life, export));
        }
        self.check_progress(h, export, &progress, &status);
        for event in events {
            self.group_event(h, export, event);
        }
    }

    /// How long an fdatasync takes now.
    fn disk_delay(&mut self, h: usize) -> u64 {
        let usual = self.rng.between(100_000, 800_000) * self.hosts[h].disk_slow;
        usual.max(self.hosts[h].disk_hangs_until.saturating_sub(self.now))
    }

    /// An fdatasync of a log comes to its end.
    pub fn synced(&mut self, h: usize, life: u64, export: usize) {
        if !self.runs(h, life) {
            return;
        }
        self.hosts[h].set_clock(self.now);
        let Some(run) = self.group(h, export) else { return };
        let held = run.parts.logger.sync_if_due() == Turn::Held;
        run.syncing = held;
        if held {
            self.at(MS, Event::Sync(h, life, export));
        }
        self.wake(h, 5_000);
    }

    /// When the next turn is.
    fn schedule(&mut self, h: usize) {
        let host = &self.hosts[h];
        let Some(process) = &host.process else { return };
        let local = host.local(self.now);
        let mut next = process.policy.deadline().unwrap_or(u64::MAX);
        let mut ready = false;
        for run in process.groups.iter().flatten() {
            let Parts { driver, logger, applier, keeper, .. } = &run.parts;
            next = next.min(driver.deadline()).min(keeper.deadline());
            if !run.syncing {
                next = next.min(logger.deadline());
                ready |= logger.is_ready();
            }
            ready |= driver.is_ready() || applier.is_ready() || keeper.is_ready();
        }
        let wait = if ready { 10_000 } else { next.saturating_sub(local).max(50_000) };
        if wait < 1 << 50 {
            self.wake(h, wait);
        }
    }

    // The front end.

    /// Begins to serve an export.
    pub fn start_front(&mut self, h: usize, export: usize) {
        let Some(run) = self.group(h, export) else { return };
        let handle = run.parts.group.handle();
        let policy = ExportPolicy { squash: Squash::None, ..ExportPolicy::default() };
        let access = Access::new(AccessList::everybody(policy, false), Names::nobody());
        let server = Server::new(Limits::default());
        server.add_export(Shown { handle, access });
        let registry = match server.registry(&[export_id(export)], 2049, self.runtime.handle()) {
            Ok(registry) => registry,
            Err(error) => return self.fail(format!("host {h}: cannot serve export {export}: {error}")),
        };
        let Some(process) = self.hosts[h].process.as_mut() else { return };
        process.fronts[export] = Some(Front { registry, draining: false, in_flight: 0 });
        let waiting = self.hosts[h].sockets.iter();
        let waiting = waiting.filter(|(t, (_, socket))| t.export == export && *socket == Socket::Waiting);
        let waiting: Vec<Tuple> = waiting.map(|(tuple, _)| *tuple).collect();
        for tuple in waiting {
            self.accept(h, tuple);
        }
    }

    /// The server accepts a connection, and reads it once the peer knows of it.
    pub fn accept(&mut self, h: usize, tuple: Tuple) {
        let Some((conn, socket)) = self.hosts[h].sockets.get_mut(&tuple) else { return };
        *socket = Socket::Server(false);
        let conn = *conn;
        let Some(process) = self.hosts[h].process.as_mut() else { return };
        process.own.insert(tuple);
        process.peers.retain(|known| {
            (known.client, known.export) != (tuple.client, tuple.export) || known.port != tuple.port
        });
        let in_sync = process.in_sync[tuple.export] == Some(true);
        let numbered = in_sync.then_some(conn);
        if in_sync {
            process.unconfirmed.insert(conn, tuple);
            let life = self.hosts[h].life;
            self.at(1_000 * MS, Event::Local(h, life, crate::queue::Local::TupleWaited(conn)));
        }
        self.to_peer(h, PeerFrame::Tuple(tuple, numbered));
        if !in_sync {
            self.begin_reading(h, tuple);
        }
    }

    /// The peer knows of it, or has no part in this.
    pub fn tuple_known(&mut self, h: usize, conn: u64) {
        let Some(process) = self.hosts[h].process.as_mut() else { return };
        if let Some(tuple) = process.unconfirmed.remove(&conn) {
            self.begin_reading(h, tuple);
        }
    }

    fn begin_reading(&mut self, h: usize, tuple: Tuple) {
        let Some((conn, socket @ Socket::Server(false))) = self.hosts[h].sockets.get_mut(&tuple) else {
            return;
        };
        *socket = Socket::Server(true);
        let conn = *conn;
        self.read(h, tuple.export, conn);
    }

    /// A record has come in on a connection that the server has.
    pub fn received(&mut self, h: usize, tuple: Tuple, conn: u64, record: Bytes) {
        let Some(process) = self.hosts[h].process.as_mut() else { return };
        process.unread.entry(conn).or_default().push(record);
        if self.hosts[h].sockets.get(&tuple) == Some(&(conn, Socket::Server(true))) {
            self.read(h, tuple.export, conn);
        }
    }

    /// Takes the calls that have come in, unless nothing is read now.
    pub fn read(&mut self, h: usize, export: usize, conn: u64) {
        if self.now < self.hosts[h].paused_until {
            // Read when it goes on: see `resume`.
            return;
        }
        let Some(tuple) = self.conns.get(&conn).map(|c| c.tuple) else { return };
        self.hosts[h].set_clock(self.now);
        let _context = self.runtime.enter();
        let Some(process) = self.hosts[h].process.as_mut() else { return };
        let Some(front) = process.fronts[export].as_mut().filter(|front| !front.draining) else { return };
        let ends = nfsd::server::Tuple {
            client: client_address(tuple),
            server: SocketAddr::from((Ipv4Addr::new(10, 0, 9, u8::try_from(export).unwrap_or(0)), 2049)),
        };
        for record in process.unread.remove(&conn).unwrap_or_default() {
            front.in_flight += 1;
            let sink = Arc::new(Sink { conn, answers: process.answers.clone() });
            if !offline::take(&front.registry, &record, ends, Transport::Tcp, sink) {
                process.answers.lock().push((conn, Outcome::Close));
            }
        }
        self.wake(h, 10_000);
    }

    /// What came while nobody read.
    pub fn read_all(&mut self, h: usize) {
        let Some(process) = self.hosts[h].process.as_ref() else { return };
        let unread: Vec<u64> = process.unread.keys().copied().collect();
        for conn in unread {
            let Some(tuple) = self.conns.get(&conn).map(|c| c.tuple) else { continue };
            if self.hosts[h].sockets.get(&tuple) == Some(&(conn, Socket::Server(true))) {
                self.read(h, tuple.export, conn);
            }
        }
    }

    /// Writes the answers that are ready.
    fn answers(&mut self, h: usize) {
        let Some(process) = self.hosts[h].process.as_mut() else { return };
        let answers = std::mem::take(&mut *process.answers.lock());
        for (conn, outcome) in answers {
            let Some(tuple) = self.conns.get(&conn).map(|c| c.tuple) else { continue };
            if let Some(process) = self.hosts[h].process.as_mut()
                && let Some(front) = process.fronts[tuple.export].as_mut()
            {
                front.in_flight = front.in_flight.saturating_sub(1);
            }
            if self.hosts[h].sockets.get(&tuple).is_none_or(|(open, _)| *open != conn) {
                continue;
            }
            match outcome {
                Outcome::Reply(wire) => {
                    self.check_answer(h, tuple.export);
                    self.to_client(h, conn, Down::Data(wire.to_datagram()));
                }
                Outcome::Close => {
                    // Silently: whoever serves next tickles the client.
                    self.hosts[h].sockets.remove(&tuple);
                }
            }
        }
        self.drained(h);
    }

    /// Stops serving an export; no client hears of it.
    pub fn close_front(&mut self, h: usize, export: usize) {
        if let Some(process) = self.hosts[h].process.as_mut() {
            process.fronts[export] = None;
            let moved: Vec<Tuple> = process.own.iter().filter(|t| t.export == export).copied().collect();
            for tuple in moved {
                process.own.remove(&tuple);
                process.peers.insert(tuple);
            }
        }
        // With the address up (it never is, but for a bug) the clients would hear of it.
        self.close_sockets(h, export, |socket| matches!(socket, Socket::Server(_)));
    }

    /// The daemon's tick.
    pub fn tick(&mut self, h: usize, life: u64) {
        if !self.runs(h, life) || self.later(h, || Event::Tick(h, life)) {
            return;
        }
        self.at(TICK_NS, Event::Tick(h, life));
        self.hosts[h].set_clock(self.now);
        for export in 0..self.setup.exports {
            let Some(run) = self.group(h, export) else { continue };
            let until = run.parts.group.lease_until_ns();
            if until > 0 {
                self.guardian_leases(h, export, until);
            }
        }
        self.sync_states(h);
    }
}

/// A client's end.
pub fn client_address(tuple: Tuple) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::new(10, 0, 0, u8::try_from(tuple.client + 1).unwrap_or(0)), tuple.port))
}
