//! Faults: one at a time, of the kinds that the seed chose; and in between, people and process managers who repair.

use crate::queue::Event;
use crate::world::{MS, World};
use replica::node::{Durability, Input, Verdict, VerdictKind};

/// What can go wrong.
#[derive(Clone, Copy)]
enum Kind {
    Kill,
    Power,
    PowerBoth,
    Pause,
    Cut,
    OneWay,
    Clog,
    ClientCut,
    ClientLoss,
    Witness,
    SlowDisk,
    DiskError,
    Clock,
    Plan,
    Wipe,
}

impl World {
    /// One fault or repair, and when the next one is.
    pub fn trouble_comes(&mut self) {
        if !self.trouble {
            return;
        }
        let every = self.setup.trouble_every;
        let wait = self.rng.between(every / 4, every * 2);
        self.at(wait, Event::Trouble);
        if self.rng.one_in(3) {
            self.repair(false);
        } else {
            self.one_fault();
        }
    }

    /// Counts a fault.
    pub fn fault(&mut self, kind: &'static str) {
        self.trace.say(self.now, format!("fault: {kind}"));
        *self.stats.faults.entry(kind).or_default() += 1;
    }

    /// `"memory"` covers the loss of one machine's memory at a time, once all is well again.
    fn may_lose_power(&mut self) -> bool {
        self.setup.durability == Durability::Disk || self.well().is_ok()
    }

    /// The kinds that this run has, the frequent ones more than once.
    fn kinds(&self) -> Vec<Kind> {
        let f = self.setup.faults;
        let disk = self.setup.durability == Durability::Disk;
        let table = [
            (f.kill, Kind::Kill, 3),
            (f.power, Kind::Power, 3),
            (f.power_both && disk, Kind::PowerBoth, 1),
            (f.pause, Kind::Pause, 2),
            (f.cut, Kind::Cut, 2),
            (f.one_way, Kind::OneWay, 1),
            (f.clog, Kind::Clog, 1),
            (f.clients, Kind::ClientCut, 1),
            (f.clients, Kind::ClientLoss, 1),
            (f.witness, Kind::Witness, 2),
            (f.slow_disk, Kind::SlowDisk, 2),
            (f.disk_error, Kind::DiskError, 1),
            (f.clocks, Kind::Clock, 1),
            (f.plan, Kind::Plan, 2),
            (f.wipe, Kind::Wipe, 1),
        ];
        let chosen = table.into_iter().filter(|(chosen, ..)| *chosen);
        chosen.flat_map(|(_, kind, weight)| std::iter::repeat_n(kind, weight)).collect()
    }

    fn one_fault(&mut self) {
        let kinds = self.kinds();
        if kinds.is_empty() {
            return;
        }
        let (kind, h) = (*self.rng.pick(&kinds), self.rng.index(2));
        let running = self.hosts[h].on && self.hosts[h].process.is_some();
        match kind {
            Kind::Kill if running => {
                self.fault("process killed");
                self.kill_server(h, false);
            }
            Kind::Power if self.hosts[h].on && self.may_lose_power() => {
                self.fault("power lost");
                self.lose_power(h);
                let delay = self.rng.between(500, 6_000) * MS;
                self.at(delay, Event::PowerOn(h));
            }
            Kind::PowerBoth => {
                self.fault("power lost on both");
                for h in 0..2 {
                    self.lose_power(h);
                    let delay = self.rng.between(500, 3_000) * MS;
                    self.at(delay, Event::PowerOn(h));
                }
            }
            Kind::Pause if running => {
                self.fault("process stopped for a while");
                self.hosts[h].paused_until = self.now + self.rng.between(20, 2_500) * MS;
                let until = self.hosts[h].paused_until;
                let life = self.hosts[h].life;
                self.queue.push(until + 1, Event::Turn(h, life));
            }
            Kind::Cut => {
                self.fault("nodes cut off from each other");
                self.net.nodes_cut_until = self.now + self.rng.between(50, 3_000) * MS;
                if self.rng.one_in(2) {
                    self.disconnect();
                }
                self.guardian_link_ends(0);
                self.guardian_link_ends(1);
            }
            Kind::OneWay => {
                self.fault("one direction cut");
                self.net.one_way_until[h] = self.now + self.rng.between(50, 3_000) * MS;
            }
            Kind::Clog => {
                self.fault("link clogged");
                self.net.clogged_until = self.now + self.rng.between(200, 3_000) * MS;
            }
            Kind::ClientCut => {
                self.fault("client cut off from a host");
                let client = self.rng.index(self.setup.clients);
                self.net.client_cut_until[client][h] = self.now + self.rng.between(50, 4_000) * MS;
            }
            Kind::ClientLoss => {
                self.fault("clients lose packets");
                self.net.client_loss = self.rng.between(5, 60);
            }
            Kind::Witness => self.witness_fault(h),
            Kind::SlowDisk if self.rng.one_in(2) => {
                self.fault("disk hangs");
                self.hosts[h].disk_hangs_until = self.now + self.rng.between(50, 2_500) * MS;
            }
            Kind::SlowDisk => {
                self.fault("disk slow");
                self.hosts[h].disk_slow = self.rng.between(1, 60);
            }
            Kind::Plan => {
                let export = self.rng.index(self.setup.exports);
                let up = |world: &Self, h: usize| {
                    let process = world.hosts[h].process.as_ref();
                    process.is_some_and(|p| p.policy.is_up(crate::host::server::export_id(export)))
                };
                if let Some(h) = (0..2).find(|h| up(self, *h)) {
                    self.fault("planned takeover");
                    self.order_over(h, export);
                }
            }
            Kind::DiskError if running && self.well().is_ok() => self.disk_fault(h),
            Kind::Clock => {
                self.fault("wall clock jumps");
                let ahead = self.hosts[h].wall_ahead;
                let jump = self.rng.between(0, 20_000) * MS;
                let forwards = self.rng.one_in(2);
                self.hosts[h].wall_ahead = if forwards { ahead + jump } else { ahead.saturating_sub(jump) };
            }
            Kind::Wipe if self.hosts[h].on && self.well().is_ok() => {
                self.fault("disk replaced by an empty one");
                self.lose_power(h);
                self.hosts[h].disk.wipe();
                let delay = self.rng.between(500, 3_000) * MS;
                self.at(delay, Event::PowerOn(h));
            }
            _ => {}
        }
    }

    fn witness_fault(&mut self, h: usize) {
        match self.rng.between(0, 3) {
            0 => {
                self.fault("witness killed");
                self.kill_witness();
            }
            1 if self.well().is_ok() => {
                self.fault("witness replaced");
                self.replace_witness();
            }
            2 => {
                self.fault("witness loses calls");
                self.net.witness_loss = self.rng.between(4, 50);
            }
            _ => {
                self.fault("witness cut off from a host");
                self.net.witness_cut_until[h] = self.now + self.rng.between(100, 3_000) * MS;
            }
        }
    }

    /// A disk that fails: the process says so and ends, and people start it again, on the same disk.
    fn disk_fault(&mut self, h: usize) {
        self.checks.disk_failed[h] = true;
        match self.rng.between(0, 2) {
            0 => {
                self.fault("fdatasync fails");
                self.hosts[h].disk.fail_next_sync();
            }
            1 => {
                self.fault("read fails");
                self.hosts[h].disk.fail_next_read();
            }
            _ => {
                self.fault("disk full");
                let room = self.rng.between(0, 64 << 10);
                self.hosts[h].disk.limit_writes(Some(room));
            }
        }
    }

    /// What people and process managers do. `all`: everything that can be repaired is.
    pub fn repair(&mut self, all: bool) {
        for h in 0..2 {
            if all || self.rng.one_in(3) {
                self.hosts[h].disk.limit_writes(None);
                self.power_on(h);
                self.hosts[h].disk_slow = 1;
            }
        }
        if all || self.rng.one_in(3) {
            self.start_witness();
            self.net.witness_loss = 0;
        }
        if all || self.rng.one_in(3) {
            self.net.client_loss = 0;
        }
        if all {
            for h in 0..2 {
                self.net.one_way_until[h] = 0;
                self.net.witness_cut_until[h] = 0;
                self.hosts[h].disk_hangs_until = self.hosts[h].disk_hangs_until.min(self.now + 2_500 * MS);
            }
            self.net.nodes_cut_until = 0;
            self.net.clogged_until = 0;
            self.net.client_cut_until.fill([0; 2]);
            self.administer();
        }
    }

    /// Where nobody serves because one node's disk is new and empty, the other one is told to go on.
    fn administer(&mut self) {
        for export in 0..self.setup.exports {
            let mut blank = [false; 2];
            let mut served = false;
            for (h, blank) in blank.iter_mut().enumerate() {
                let local = self.hosts[h].local(self.now);
                let Some(run) = self.group(h, export) else { return };
                *blank = run.parts.group.node_status().blank;
                served |= local < run.parts.group.lease_until_ns();
            }
            if !served && blank[0] != blank[1] {
                let h = usize::from(blank[0]);
                self.say(format!("host {h}: an administrator tells export {export} to go on"));
                let history = self.rng.next() | 1;
                let kind = VerdictKind::Force;
                self.group_input(h, export, Input::Verdict(Verdict { kind, history }));
            }
        }
    }
}
