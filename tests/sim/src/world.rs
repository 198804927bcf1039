//! The simulated world: two hosts, a witness, clients, the network between them, and a queue of what happens when.

use std::collections::{BTreeMap, VecDeque};

use replica::node::{Durability, GateState, Third, Timing};
use replica::planted::{Planted, planted};
use replica::witness::{WitnessState, WitnessVoter};

use crate::checks::Checks;
use crate::checks::objects::Shared;
use crate::client::slot::Slot;
use crate::client::{Client, Link, Mount, Pending};
use crate::host::Host;
use crate::host::copy::Copy;
use crate::host::server::export_path;
use crate::net::{Conn, Net, Session};
use crate::ops::{self, Answer, Op};
use crate::queue::{Event, Queue};
use crate::rng::Rng;
pub use crate::swarm::Setup;
use crate::trace::Trace;

/// One millisecond in ns.
pub const MS: u64 = 1_000_000;
/// Planted: so many states of the witness are not durable.
const WITNESS_FORGETS: usize = 8;

/// What a run came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Calls that came to a server, retransmissions and all.
    pub calls: u64,
    /// Answers that left one.
    pub answers: u64,
    /// Operations that clients were answered.
    pub operations: u64,
    /// Of them, on what is shared: in histories that were checked.
    pub shared: u64,
    /// Calls sent again.
    pub retransmissions: u64,
    /// Connections reset.
    pub resets: u64,
    /// Frames between the nodes.
    pub frames: u64,
    /// Exports that began to be served.
    pub takeovers: u64,
    /// Of them, transfers.
    pub transfers: u64,
    /// Verdicts.
    pub verdicts: u64,
    /// Faults, by kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// Simulated time, ns.
    pub simulated_ns: u64,
    /// Longest time that an operation took, ns.
    pub longest_ns: u64,
}

/// The witness process: a voter per export.
pub struct Witness {
    identity: u64,
    voters: Option<Vec<WitnessVoter>>,
    disk: Vec<Option<WitnessState>>,
    /// Newer than that, and lost with it.
    unsynced: Vec<VecDeque<Option<WitnessState>>>,
}

/// See the module.
pub struct World {
    /// What is run.
    pub setup: Setup,
    /// True time, ns.
    pub now: u64,
    /// All chance.
    pub rng: Rng,
    /// What happened.
    pub trace: Trace,
    /// What will.
    pub queue: Queue,
    /// The two boxes.
    pub hosts: Vec<Host>,
    /// The third vote.
    pub witness: Witness,
    /// Between the servers.
    pub session: Session,
    /// Who asks.
    pub clients: Vec<Client>,
    /// Their connections, by number.
    pub conns: BTreeMap<u64, Conn>,
    /// The next one's number.
    pub next_conn: u64,
    /// Where the network sends an address's packets.
    pub route: Vec<usize>,
    /// Wires.
    pub net: Net,
    /// What must hold.
    pub checks: Checks,
    /// Histories of what clients share, by export.
    pub shared: Vec<Shared>,
    /// What it came to.
    pub stats: Stats,
    /// Faults still come.
    pub trouble: bool,
    /// Clients still begin new work.
    pub working: bool,
    /// Copies on their way, by receiving host and export.
    pub copies: BTreeMap<(usize, usize), Copy>,
    /// The disk of this host stops for good at a point that was chosen: that is a loss of power there.
    pub halting: Option<usize>,
    /// The first thing that was wrong.
    pub failure: Option<String>,
    /// Never driven: nobody is there whom the lock manager could call.
    pub runtime: tokio::runtime::Runtime,
}

impl World {
    /// Two boxes with empty disks are switched on; clients mount.
    pub fn new(setup: Setup, print: bool) -> Self {
        let mut rng = Rng::new(setup.seed);
        let hosts = (0..2).map(|_| Host::new(&mut rng, &setup)).collect();
        let (exports, clients) = (setup.exports, setup.clients);
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("make a runtime");
        let mut world = Self {
            now: 1,
            rng,
            trace: Trace::new(print),
            queue: Queue::default(),
            hosts,
            witness: Witness {
                identity: 77,
                voters: None,
                disk: vec![None; exports],
                unsynced: vec![VecDeque::new(); exports],
            },
            session: Session::default(),
            clients: Vec::new(),
            conns: BTreeMap::new(),
            next_conn: 1,
            route: (0..exports).map(|e| e % 2).collect(),
            net: Net::new(clients),
            checks: Checks { two_addresses_since: vec![None; exports], ..Checks::default() },
            shared: (0..exports).map(|_| Shared::default()).collect(),
            stats: Stats::default(),
            trouble: true,
            working: true,
            copies: BTreeMap::new(),
            halting: None,
            failure: None,
            runtime,
            setup,
        };
        world.trace.say(0, format!("{:?}", world.setup));
        world.start_witness();
        world.power_on(0);
        world.power_on(1);
        world.at(MS, Event::Connect);
        world.make_clients();
        world
    }

    fn make_clients(&mut self) {
        let mut number = 0;
        for c in 0..self.setup.clients {
            let mut mounts = Vec::new();
            for export in 0..self.setup.exports {
                let slots = (0..self.setup.slots).map(|_| {
                    number += 1;
                    Slot::new(number, export_path(export))
                });
                let port = u16::try_from(self.rng.between(665, 1023)).unwrap_or(700);
                let xid = u32::try_from(self.rng.next() >> 33).unwrap_or(0);
                mounts.push(Mount {
                    export,
                    link: Link::Idle,
                    port,
                    xid,
                    calls: BTreeMap::new(),
                    slots: slots.collect(),
                });
            }
            self.clients.push(Client { mounts });
            for mount in 0..self.setup.exports {
                for slot in 0..self.setup.slots {
                    let wait = self.rng.between(1, 2_000) * MS;
                    self.at(wait, Event::Think(c, mount, slot));
                }
            }
        }
    }

    /// After so long.
    pub fn at(&mut self, delay: u64, event: Event) {
        self.queue.push(self.now + delay, event);
    }

    /// For a person.
    pub fn say(&mut self, text: impl Into<String>) {
        self.trace.say(self.now, text);
    }

    /// Something is wrong. The run ends; what comes after the first is of no interest.
    pub fn fail(&mut self, why: impl Into<String>) {
        let why = why.into();
        self.say(format!("WRONG: {why}"));
        self.failure.get_or_insert(why);
    }

    /// Runs up to this true time, or until something is wrong.
    pub fn run_until(&mut self, until: u64) {
        while self.failure.is_none()
            && let Some((at, event)) = self.queue.pop(until)
        {
            self.now = at;
            self.net.tick(at);
            self.happen(event);
        }
        self.now = self.now.max(until);
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Turn(h, life) => {
                self.trace.event(self.now, "turn", &[h as u64, life]);
                self.turn(h, life);
            }
            Event::Sync(h, life, export) => {
                self.trace.event(self.now, "sync", &[h as u64, life, export as u64]);
                self.synced(h, life, export);
            }
            Event::Tick(h, life) => self.tick(h, life),
            Event::Local(h, life, what) => {
                self.trace.event(self.now, "local", &[h as u64, life]);
                self.local_comes(h, life, what);
            }
            Event::Guardian(h, life) => self.guardian_wakes(h, life),
            Event::GuardianDial(h) => self.guardian_dials(h),
            Event::GuardianSays { from, link, what } => self.guardian_said(from, link, what),
            Event::GuardianHears { guardian, link, what } => self.guardian_hears(guardian, link, what),
            Event::GuardianLinkDown { guardian, link } => self.guardian_link_down(guardian, link),
            Event::Connect => self.connect(),
            Event::SessionDown(2, session) => self.session_found_out(session),
            Event::SessionDown(h, number) => self.session_down(h, number),
            Event::Frame { to, session, frame } => {
                self.trace.event(self.now, "frame", &[to as u64, session]);
                self.frame_comes(to, session, frame);
            }
            Event::ToWitness(h, life, export, request) => self.witness_asked(h, life, export, &request),
            Event::FromWitness(h, life, export, reply) => self.witness_answers(h, life, export, reply),
            Event::Up(conn, packet) => self.arrives(conn, packet),
            Event::Down(conn, h, boot, packet) => self.client_hears(conn, h, boot, packet),
            Event::Rto(conn, seq, tries) => self.rto(conn, seq, tries),
            Event::SynAgain(conn, tries) => self.syn_again(conn, tries),
            Event::Dial(client, mount) => self.dial(client, mount),
            Event::CallAgain(client, mount, xid, sent) => self.call_again(client, mount, xid, sent),
            Event::Think(client, mount, slot) => self.think(client, mount, slot),
            Event::Copy(h, export) => self.copy(h, export),
            Event::PowerOn(h) => self.power_on(h),
            Event::Trouble => self.trouble_comes(),
            Event::Strike => self.looks_for_strike(),
            Event::Blow(h) => self.blow(h),
        }
    }

    // Clients.

    /// A slot makes its next call.
    fn think(&mut self, client: usize, mount: usize, slot: usize) {
        let m = &mut self.clients[client].mounts[mount];
        let export = m.export;
        if !self.working && m.slots[slot].is_busy() {
            m.slots[slot].wind_up();
        }
        let Some((op, shared)) = m.slots[slot].next(&mut self.rng) else { return };
        m.xid = m.xid.wrapping_add(1);
        let xid = m.xid;
        let record = op.record(xid);
        m.slots[slot].place = shared.then(|| self.shared[export].asked(self.now, &op));
        m.calls.insert(xid, Pending { slot, op, record, sent: 0, asked: self.now });
        self.send_call(client, mount, xid);
    }

    /// An answer has come to a client.
    pub fn reply(&mut self, client: usize, mount: usize, reply: &[u8]) {
        let Some(xid) = reply.first_chunk::<4>().map(|x| u32::from_be_bytes(*x)) else { return };
        let m = &mut self.clients[client].mounts[mount];
        // To a call that was answered before: the client's kernel drops it.
        let Some(call) = m.calls.remove(&xid) else { return };
        let answer = call.op.answer(reply);
        let slot = &mut m.slots[call.slot];
        let excused = self.setup.faults.disk_error && call.op.disk_says_no(&answer);
        // What a failing disk refused was not done, or may be asked again: its history has no answer.
        let outcome = if excused { Ok(()) } else { slot.answered(&call.op, &answer) };
        let place = slot.place.take().filter(|_| !excused);
        let export = m.export;
        self.trace.event(self.now, "answer", &[client as u64, mount as u64, u64::from(xid)]);
        if self.trace.prints() {
            self.say(format!("client {client}, export {export}: {:?} -> {answer:?}", call.op));
        }
        let may_lose_locks = self.setup.durability == Durability::Memory || self.setup.faults.wipe;
        if answer == Answer::Failed(ops::GRACE) && matches!(call.op, Op::Lock(..)) && may_lose_locks {
            self.shared[export].locks_lost = true;
        }
        if let Some(place) = place {
            self.shared[export].answered(self.now, &place, answer);
            self.stats.shared += 1;
        }
        self.stats.operations += 1;
        self.stats.longest_ns = self.stats.longest_ns.max(self.now - call.asked);
        if let Err(why) = outcome {
            self.fail(format!("client {client}, export {export}: {why}"));
        }
        let wait = self.rng.between(self.setup.think_ns / 4, self.setup.think_ns * 2);
        self.at(wait, Event::Think(client, mount, call.slot));
    }

    // The witness.

    /// It starts from what it has on disk.
    pub fn start_witness(&mut self) {
        if self.witness.voters.is_some() || self.setup.third != Third::Witness {
            return;
        }
        let promise = Timing::default().promise_ns;
        let disk = &self.witness.disk;
        let voters =
            disk.iter().map(|state| WitnessVoter::new(self.now, self.witness.identity, promise, *state));
        self.witness.voters = Some(voters.collect());
        self.say("the witness starts");
    }

    /// Its process dies.
    pub fn kill_witness(&mut self) {
        self.witness.unsynced.iter_mut().for_each(VecDeque::clear);
        if self.witness.voters.take().is_some() {
            self.say("the witness is dead");
        }
    }

    /// It has a new, empty directory.
    pub fn replace_witness(&mut self) {
        self.kill_witness();
        self.witness.identity += 1;
        self.witness.disk.fill(None);
        self.start_witness();
    }

    fn witness_asked(&mut self, h: usize, life: u64, export: usize, request: &proto::peer::WitnessRequest) {
        let Some(voter) = self.witness.voters.as_mut().and_then(|v| v.get_mut(export)) else { return };
        let (state, reply) = voter.step(self.now, request);
        if state.is_some() {
            // Durable before the answer; a crash in between only loses the answer.
            let unsynced = &mut self.witness.unsynced[export];
            unsynced.push_back(state);
            // Planted: the last few are not durable, and the next start finds what was there before.
            let kept = if planted(Planted::WitnessForgets) { WITNESS_FORGETS } else { 0 };
            while unsynced.len() > kept
                && let Some(state) = unsynced.pop_front()
            {
                self.witness.disk[export] = state;
            }
        }
        if self.now >= self.net.witness_cut_until[h] && !self.rng.one_in(self.net.witness_loss) {
            let delay = self.rng.between(50_000, 3 * MS);
            self.at(delay, Event::FromWitness(h, life, export, reply));
        }
    }

    // Machines.

    /// The machine is switched on and boots.
    pub fn power_on(&mut self, h: usize) {
        if !self.hosts[h].on {
            self.hosts[h].on = true;
            self.hosts[h].boot += 1;
            self.say(format!("host {h} boots"));
            self.guardian_begins(h);
        } else if self.hosts[h].guardian.ended {
            self.say(format!("host {h}: an administrator starts hanfs again"));
            self.guardian_begins(h);
        }
    }

    /// The machine loses power: what was not synced survives or not, as the seed says.
    pub fn lose_power(&mut self, h: usize) {
        if !self.hosts[h].on {
            return;
        }
        self.say(format!("host {h} loses power"));
        self.hosts[h].on = false;
        self.kill_server(h, false);
        self.hosts[h].guardian.ended = true;
        for address in &mut self.hosts[h].guardian.addresses {
            address.up = false;
        }
        self.hosts[h].sockets.clear();
        self.hosts[h].disk_hangs_until = 0;
        self.guardian_link_ends(h);
        self.guardian_link_ends(1 - h);
        // The other side's TCP finds out by itself.
        if self.session.number % 2 == 1 {
            self.session.silent = true;
            let session = self.session.number;
            let delay = self.rng.between(200, 4_000) * MS;
            self.at(delay, Event::SessionDown(2, session));
        }
        let seed = self.rng.next();
        self.hosts[h].disk.crash(seed);
    }

    /// The machine whose disk stopped loses power there, and comes back.
    pub fn halted(&mut self) {
        if let Some(h) = self.halting.take() {
            self.lose_power(h);
            let delay = self.rng.between(300, 1_500) * MS;
            self.at(delay, Event::PowerOn(h));
        }
    }

    /// A store of this node cannot be opened.
    pub fn cannot_start(&mut self, h: usize, export: usize, why: &str) {
        if self.halting == Some(h) {
            return;
        }
        if self.checks.disk_failed[h] {
            self.say(format!("host {h} cannot start export {export}: {why}"));
            self.checks.doomed[h] = true;
            return;
        }
        self.fail(format!("host {h} cannot start export {export}: {why}"));
    }

    /// The product gave up. It may where its disk failed.
    pub fn check_fatal(&mut self, h: usize, why: &str) {
        if self.halting != Some(h) && !self.checks.disk_failed[h] {
            self.fail(format!("host {h} gave up, and its disk is sound: {why}"));
        }
    }

    // What is asked of it in the end.

    /// Is everything served, with both copies? Who serves what; or why not.
    pub fn well(&mut self) -> Result<(), String> {
        for export in 0..self.setup.exports {
            let mut serving = Vec::new();
            for h in 0..2 {
                let local = self.hosts[h].local(self.now);
                let Some(run) = self.group(h, export) else {
                    return Err(format!("export {export} does not run on host {h}"));
                };
                if local < run.parts.group.lease_until_ns() {
                    serving.push(h);
                }
            }
            let [leader] = serving[..] else {
                return Err(format!("export {export} is served by {} hosts", serving.len()));
            };
            let Some(run) = self.group(leader, export) else { continue };
            let status = run.parts.group.node_status();
            if !status.in_sync || status.gate != GateState::Closed || status.recovering {
                return Err(format!("export {export}: the leader is not in sync: {status:?}"));
            }
            if !self.hosts[leader].guardian.addresses[export].up {
                return Err(format!("export {export}: its address is not on host {leader}, which leads"));
            }
        }
        Ok(())
    }

    /// Calls that are not answered.
    pub fn unanswered(&self) -> usize {
        self.clients.iter().flat_map(|c| &c.mounts).map(|m| m.calls.len()).sum()
    }

    /// The only slot, of a run by a script.
    pub fn slot(&mut self) -> &mut Slot {
        &mut self.clients[0].mounts[0].slots[0]
    }

    /// It has something to do again.
    pub fn begin_again(&mut self) {
        self.at(1, Event::Think(0, 0, 0));
    }

    /// Has everybody read everything back?
    pub fn all_over(&self) -> bool {
        self.clients.iter().flat_map(|c| &c.mounts).flat_map(|m| &m.slots).all(Slot::is_over)
    }
}
