//! The guardian as a model: addresses, parked connections, the death of a server, orders of the peer.
//!
//! The rule when an address must go is the product's own (`failover::guardian::rule`); what is around it follows
//! `failover::guardian::EventLoop` step by step.

use failover::guardian::rule::{self, Death, PeerState};

use super::Socket;
use crate::queue::{Down, Event, FromGuardian, Local, ToGuardian, Tuple};
use crate::world::{MS, World};

/// As the product's default.
const HANDOVER_NS: u64 = 3_000 * MS;
/// A server that ran so long begins anew with its pauses.
const STEADY_NS: u64 = 60_000 * MS;
/// The first pause but for none at all.
const BACKOFF_FIRST_NS: u64 = 250 * MS;
/// The longest pause.
const BACKOFF_MAX_NS: u64 = 5_000 * MS;

/// One export's address.
#[derive(Clone, Debug, Default)]
pub struct Address {
    /// It is on this host.
    pub up: bool,
    /// The lease in hand, on the host's clock.
    lease_until: u64,
    leased_by_server: bool,
    awaits_taken: bool,
}

/// See the module.
pub struct Guardian {
    /// Counts guardians of this host.
    pub life: u64,
    /// It has ended, because the server said that it cannot run.
    pub ended: bool,
    /// By export.
    pub addresses: Vec<Address>,
    /// When the server died, on the host's clock.
    death: Option<u64>,
    started: u64,
    failures: u32,
    pause: u64,
    /// The stream to the other node's server; even: there is none.
    pub link: u64,
    /// What goes over it arrives in order.
    pub arrives: u64,
    wake_at: u64,
}

impl Guardian {
    /// Of a host that is off.
    pub fn new(exports: usize) -> Self {
        Self {
            life: 0,
            ended: true,
            addresses: vec![Address::default(); exports],
            death: None,
            started: 0,
            failures: 0,
            pause: 0,
            link: 0,
            arrives: 0,
            wake_at: u64::MAX,
        }
    }

    fn is_linked(&self) -> bool {
        self.link % 2 == 1
    }

    fn death(&self) -> Option<Death> {
        let peer = if self.is_linked() { PeerState::Connected } else { PeerState::Disconnected };
        self.death.map(|at_ns| Death { at_ns, handover: std::time::Duration::from_nanos(HANDOVER_NS), peer })
    }

    /// When this address must go, on the host's clock.
    fn deadline(&self, export: usize) -> Option<u64> {
        let address = &self.addresses[export];
        let held = rule::Held {
            up: address.up,
            lowering: false,
            lease_until_ns: address.lease_until,
            leased_by_server: address.leased_by_server,
        };
        rule::deadline_ns(held, self.death())
    }

    fn next_pause(&mut self, age: u64) -> u64 {
        if age >= STEADY_NS {
            self.failures = 0;
        }
        let pause = match self.failures.checked_sub(1) {
            None => 0,
            Some(n) => (BACKOFF_FIRST_NS << n.min(16)).min(BACKOFF_MAX_NS),
        };
        self.failures += 1;
        pause
    }

    /// When a dead server is started again, on the host's clock.
    fn restart(&self, server: bool) -> Option<u64> {
        if server || self.ended {
            return None;
        }
        let busy = self.addresses.iter().any(|a| a.up || a.awaits_taken);
        let pause = if self.is_linked() && busy { self.pause.max(HANDOVER_NS) } else { self.pause };
        Some(self.death.unwrap_or(0) + pause)
    }
}

impl World {
    /// The machine has booted.
    pub fn guardian_begins(&mut self, h: usize) {
        let local = self.hosts[h].local(self.now);
        let guardian = &mut self.hosts[h].guardian;
        let (life, link) = (guardian.life + 1, guardian.link + guardian.link % 2);
        *guardian = Guardian { life, link, ended: false, ..Guardian::new(guardian.addresses.len()) };
        guardian.death = Some(local);
        guardian.started = local;
        self.guardian_looks(h);
        self.at(5 * MS, Event::GuardianDial(h));
    }

    /// Everything that is due, and when the next look is.
    pub fn guardian_looks(&mut self, h: usize) {
        if !self.hosts[h].on || self.hosts[h].guardian.ended {
            return;
        }
        let local = self.hosts[h].local(self.now);
        for export in 0..self.setup.exports {
            if self.hosts[h].guardian.deadline(export).is_some_and(|at| at <= local) {
                self.say(format!("guardian {h}: the lease of export {export} ran out"));
                self.lose_vip(h, export);
            }
        }
        let restart = self.hosts[h].guardian.restart(self.hosts[h].process.is_some());
        if restart.is_some_and(|at| at <= local) {
            for export in 0..self.setup.exports {
                if std::mem::take(&mut self.hosts[h].guardian.addresses[export].awaits_taken) {
                    self.sweep(h, export);
                }
            }
            let local = self.hosts[h].local(self.now);
            self.hosts[h].guardian.started = local;
            self.start_server(h);
            if self.hosts[h].process.is_some() {
                self.guardian_says(h, FromGuardian::ServerUp);
            }
        }
        let host = &self.hosts[h];
        let deadlines = (0..self.setup.exports).filter_map(|e| host.guardian.deadline(e));
        let next = deadlines.chain(host.guardian.restart(host.process.is_some())).min();
        if let Some(next) = next {
            let wait = next.saturating_sub(local).max(MS / 10);
            let at = self.now + wait;
            let guardian = &mut self.hosts[h].guardian;
            if at < guardian.wake_at || guardian.wake_at <= self.now {
                guardian.wake_at = at;
                let life = guardian.life;
                self.at(wait, Event::Guardian(h, life));
            }
        }
    }

    /// The timer.
    pub fn guardian_wakes(&mut self, h: usize, life: u64) {
        if self.hosts[h].guardian.life == life {
            if self.hosts[h].guardian.wake_at <= self.now {
                self.hosts[h].guardian.wake_at = u64::MAX;
            }
            self.guardian_looks(h);
        }
    }

    /// The server says until when it may serve.
    pub fn guardian_leases(&mut self, h: usize, export: usize, until: u64) {
        let address = &mut self.hosts[h].guardian.addresses[export];
        address.lease_until = until;
        address.leased_by_server = true;
        if address.up {
            self.guardian_looks(h);
        }
    }

    /// Takes an address off the host; true: it was there.
    fn lower(&mut self, h: usize, export: usize) -> bool {
        let address = &mut self.hosts[h].guardian.addresses[export];
        address.lease_until = 0;
        let held = std::mem::take(&mut address.up);
        if held {
            self.say(format!("guardian {h}: the address of export {export} is off this host"));
        }
        held
    }

    fn lose_vip(&mut self, h: usize, export: usize) {
        let held = self.lower(h, export);
        self.close_sockets(h, export, |socket| socket == Socket::Parked);
        if held {
            self.local(h, Local::VipLost(export));
        }
    }

    /// Ends what nobody has accepted, and what is parked. Returns whose connections were not accepted.
    fn sweep(&mut self, h: usize, export: usize) -> Vec<Tuple> {
        self.close_sockets(h, export, |socket| socket == Socket::Parked);
        self.close_sockets(h, export, |socket| socket == Socket::Waiting)
    }

    /// Ends sockets; a client hears of it where the address is up. Returns whose they were.
    pub fn close_sockets(&mut self, h: usize, export: usize, which: impl Fn(Socket) -> bool) -> Vec<Tuple> {
        let up = self.hosts[h].guardian.addresses[export].up;
        let sockets = self.hosts[h].sockets.iter();
        let ended = sockets.filter(|(tuple, (_, socket))| tuple.export == export && which(*socket));
        let ended: Vec<(Tuple, u64)> = ended.map(|(tuple, (conn, _))| (*tuple, *conn)).collect();
        for (tuple, conn) in &ended {
            self.hosts[h].sockets.remove(tuple);
            if up {
                self.to_client(h, *conn, Down::Rst);
            }
        }
        ended.into_iter().map(|(tuple, _)| tuple).collect()
    }

    /// The server wants an address.
    pub fn guardian_raises(&mut self, h: usize, export: usize, tuples: &[Tuple]) {
        let local = self.hosts[h].local(self.now);
        let address = &self.hosts[h].guardian.addresses[export];
        if address.lease_until <= local {
            self.local(h, Local::Raised(export, false));
            return;
        }
        if !address.up {
            self.sweep(h, export);
            let ended = self.close_sockets(h, export, |_| true);
            if !ended.is_empty() {
                self.say(format!("guardian {h}: {} connections of an earlier server ended", ended.len()));
            }
            self.hosts[h].guardian.addresses[export].up = true;
            self.say(format!("guardian {h}: the address of export {export} is on this host"));
        }
        self.hosts[h].guardian.addresses[export].awaits_taken = false;
        self.announce(h, export, tuples);
        self.close_sockets(h, export, |socket| socket == Socket::Parked);
        self.local(h, Local::Raised(export, true));
        self.check_addresses(export);
        self.guardian_looks(h);
    }

    /// Gratuitous ARP, and tickles.
    pub fn announce(&mut self, h: usize, export: usize, tuples: &[Tuple]) {
        if !self.hosts[h].guardian.addresses[export].up {
            return;
        }
        self.route[export] = h;
        for tuple in tuples {
            self.tickle(h, *tuple);
        }
    }

    /// The server wants the address gone.
    pub fn guardian_drops(&mut self, h: usize, export: usize) {
        self.lower(h, export);
        self.local(h, Local::Dropped(export));
    }

    /// An order of the other node's server.
    pub fn guardian_hears(&mut self, h: usize, link: u64, what: ToGuardian) {
        if self.hosts[h].guardian.link != link || !self.hosts[h].on || self.hosts[h].guardian.ended {
            return;
        }
        match what {
            ToGuardian::Release(export) => {
                let held = self.lower(h, export);
                let alive = self.hosts[h].process.is_some();
                self.hosts[h].guardian.addresses[export].awaits_taken = held && !alive;
                if held && alive {
                    let waiting = self.close_sockets(h, export, |socket| socket == Socket::Waiting);
                    for tuple in waiting {
                        self.guardian_says(h, FromGuardian::Tuple(tuple));
                    }
                }
                if held {
                    self.local(h, Local::VipLost(export));
                }
                self.guardian_says(h, FromGuardian::Released(export, held));
            }
            ToGuardian::Taken(export) => {
                let address = &mut self.hosts[h].guardian.addresses[export];
                if !address.up {
                    address.awaits_taken = false;
                    self.sweep(h, export);
                }
            }
        }
        self.guardian_looks(h);
    }

    /// The server process is gone. `fatal`: it said that it cannot run.
    pub fn guardian_sees_death(&mut self, h: usize, process: u64, fatal: bool) {
        let local = self.hosts[h].local(self.now);
        let guardian = &mut self.hosts[h].guardian;
        guardian.death = Some(local);
        guardian.pause = guardian.next_pause(local.saturating_sub(guardian.started));
        for address in &mut guardian.addresses {
            address.leased_by_server = false;
        }
        self.guardian_says(h, FromGuardian::ServerGone(process));
        if fatal {
            for export in 0..self.setup.exports {
                let held = self.lower(h, export);
                self.sweep(h, export);
                if held {
                    self.guardian_says(h, FromGuardian::Released(export, true));
                }
            }
            self.hosts[h].guardian.ended = true;
            self.say(format!("guardian {h} ends: the server cannot run"));
            self.guardian_link_ends(h);
            return;
        }
        // From now on it accepts in the server's place.
        let waiting: Vec<Tuple> = self.hosts[h].sockets.keys().copied().collect();
        for tuple in waiting {
            self.guardian_parks(h, tuple);
        }
        self.guardian_looks(h);
    }

    /// A connection that nobody has accepted.
    pub fn guardian_parks(&mut self, h: usize, tuple: Tuple) {
        let up = self.hosts[h].guardian.addresses[tuple.export].up;
        if let Some((_, socket)) = self.hosts[h].sockets.get_mut(&tuple)
            && *socket == Socket::Waiting
            && up
        {
            *socket = Socket::Parked;
            self.guardian_says(h, FromGuardian::Tuple(tuple));
        }
    }

    // The stream to the other node's server.

    /// Tries to reach it, again and again.
    pub fn guardian_dials(&mut self, h: usize) {
        self.at(100 * MS, Event::GuardianDial(h));
        let reached = self.hosts[h].on
            && !self.hosts[h].guardian.ended
            && self.hosts[1 - h].process.is_some()
            && self.now >= self.hosts[1 - h].paused_until
            && self.net.nodes_reach(self.now);
        if self.hosts[h].guardian.is_linked() || !reached {
            return;
        }
        self.hosts[h].guardian.link += 1;
        self.server_input(1 - h, failover::policy::PolicyInput::PeerGuardianUp);
        match &self.hosts[h].process {
            Some(_) => self.guardian_says(h, FromGuardian::ServerUp),
            None => {
                let last = self.hosts[h].life;
                self.guardian_says(h, FromGuardian::ServerGone(last));
            }
        }
        let sockets = self.hosts[h].sockets.iter().filter(|(_, (_, socket))| *socket == Socket::Parked);
        let parked: Vec<Tuple> = sockets.map(|(tuple, _)| *tuple).collect();
        for tuple in parked {
            self.guardian_says(h, FromGuardian::Tuple(tuple));
        }
    }

    /// Over the stream, if there is one.
    fn guardian_says(&mut self, from: usize, what: FromGuardian) {
        let link = self.hosts[from].guardian.link;
        if !self.hosts[from].guardian.is_linked() {
            return;
        }
        let delay = self.net.node_delay(&mut self.rng);
        let at = (self.now + delay).max(self.hosts[from].guardian.arrives + 1);
        self.hosts[from].guardian.arrives = at;
        self.queue.push(at, Event::GuardianSays { from, link, what });
    }

    /// It ends: both sides hear of it, sooner or later.
    pub fn guardian_link_ends(&mut self, h: usize) {
        if !self.hosts[h].guardian.is_linked() {
            return;
        }
        self.hosts[h].guardian.link += 1;
        let link = self.hosts[h].guardian.link;
        let delay = self.net.node_delay(&mut self.rng);
        self.at(delay, Event::GuardianLinkDown { guardian: h, link });
        self.guardian_looks(h);
    }
}
