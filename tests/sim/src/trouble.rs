//! Faults: one at a time, of the kinds that the seed chose; and in between, people and process managers who repair.

use crate::queue::Event;
use crate::world::{MS, World};
use replica::node::Durability;

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

    fn fault(&mut self, kind: &'static str) {
        self.trace.say(self.now, format!("fault: {kind}"));
        *self.stats.faults.entry(kind).or_default() += 1;
    }

    /// `"memory"` covers the loss of one machine's memory at a time, once all is well again.
    fn may_lose_power(&mut self) -> bool {
        self.setup.durability == Durability::Disk || self.well().is_ok()
    }

    fn one_fault(&mut self) {
        let h = self.rng.index(2);
        let f = self.setup.faults;
        let running = self.hosts[h].on && self.hosts[h].process.is_some();
        match self.rng.between(0, 15) {
            0 | 1 if f.kill && running => {
                self.fault("process killed");
                self.kill_server(h, false);
            }
            2 | 3 if f.power && self.hosts[h].on && self.may_lose_power() => {
                self.fault("power lost");
                self.lose_power(h);
                let delay = self.rng.between(500, 6_000) * MS;
                self.at(delay, Event::PowerOn(h));
            }
            4 if f.power_both && self.setup.durability == Durability::Disk => {
                self.fault("power lost on both");
                for h in 0..2 {
                    self.lose_power(h);
                    let delay = self.rng.between(500, 3_000) * MS;
                    self.at(delay, Event::PowerOn(h));
                }
            }
            5 if f.pause && running => {
                self.fault("process stopped for a while");
                self.hosts[h].paused_until = self.now + self.rng.between(20, 2_500) * MS;
                let until = self.hosts[h].paused_until;
                let life = self.hosts[h].life;
                self.queue.push(until + 1, Event::Turn(h, life));
            }
            6 if f.cut => {
                self.fault("nodes cut off from each other");
                self.net.nodes_cut_until = self.now + self.rng.between(50, 3_000) * MS;
                if self.rng.one_in(2) {
                    self.disconnect();
                }
                self.guardian_link_ends(0);
                self.guardian_link_ends(1);
            }
            7 if f.one_way => {
                self.fault("one direction cut");
                self.net.one_way_until[h] = self.now + self.rng.between(50, 3_000) * MS;
            }
            8 if f.clog => {
                self.fault("link clogged");
                self.net.clogged_until = self.now + self.rng.between(200, 3_000) * MS;
            }
            9 if f.clients => {
                self.fault("client cut off from a host");
                let client = self.rng.index(self.setup.clients);
                self.net.client_cut_until[client][h] = self.now + self.rng.between(50, 4_000) * MS;
            }
            10 if f.clients => {
                self.fault("clients lose packets");
                self.net.client_loss = self.rng.between(0, 1) * self.rng.between(5, 60);
            }
            11 if f.witness => match self.rng.between(0, 3) {
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
                    self.net.witness_loss = self.rng.between(0, 1) * self.rng.between(4, 50);
                }
                _ => {
                    self.fault("witness cut off from a host");
                    self.net.witness_cut_until[h] = self.now + self.rng.between(100, 3_000) * MS;
                }
            },
            12 if f.slow_disk => {
                if self.rng.one_in(2) {
                    self.fault("disk hangs");
                    self.hosts[h].disk_hangs_until = self.now + self.rng.between(50, 2_500) * MS;
                } else {
                    self.fault("disk slow");
                    self.hosts[h].disk_slow = self.rng.between(1, 60);
                }
            }
            13 if f.plan => {
                let export = self.rng.index(self.setup.exports);
                for h in 0..2 {
                    let up = self.hosts[h].process.as_ref();
                    if up.is_some_and(|p| p.policy.is_up(crate::host::server::export_id(export))) {
                        self.fault("planned takeover");
                        self.order_over(h, export);
                        return;
                    }
                }
            }
            14 if f.disk_error && running && self.well().is_ok() => {
                self.fault("fdatasync fails");
                self.checks.disk_failed[h] = true;
                self.hosts[h].disk.fail_next_sync();
            }
            15 if f.clocks => {
                self.fault("wall clock jumps");
                let ahead = self.hosts[h].wall_ahead;
                let jump = self.rng.between(0, 20_000) * MS;
                self.hosts[h].wall_ahead = if self.rng.one_in(2) { ahead + jump } else { ahead.saturating_sub(jump) };
            }
            _ => {}
        }
    }

    /// What people and process managers do. `all`: everything that can be repaired is.
    pub fn repair(&mut self, all: bool) {
        for h in 0..2 {
            if all || self.rng.one_in(3) {
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
        }
    }
}
