//! A box: its disk, its clocks, its kernel's sockets, its guardian, and the server process where one runs.

pub mod copy;
pub mod guardian;
pub mod hub;
pub mod server;

use std::collections::BTreeMap;

use replica::disk::SimDisk;

use crate::queue::Tuple;
use crate::world::{MS, Setup};
use guardian::Guardian;
use server::Process;

/// What the kernel has for a connection on this host.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Socket {
    /// Established; nobody has accepted it.
    Waiting,
    /// The guardian has, and reads nothing.
    Parked,
    /// The server has; true: it reads.
    Server(bool),
}

/// See the module.
pub struct Host {
    /// Its disk: what is below a directory per export is that export's.
    pub disk: SimDisk,
    /// Counts boots.
    pub boot: u64,
    /// The machine is on.
    pub on: bool,
    /// The server process.
    pub process: Option<Process>,
    /// Counts server processes: what was under way in an earlier one is gone.
    pub life: u64,
    /// The guardian; it dies with the machine only.
    pub guardian: Guardian,
    /// The machine's own clock at time 0, ns.
    clock_offset: u64,
    /// By so many parts per million it is fast.
    clock_fast_ppm: u64,
    /// What its wall clock is ahead of the world's, ns.
    pub wall_ahead: u64,
    /// The server process is stopped until then.
    pub paused_until: u64,
    /// Its disk does nothing until then.
    pub disk_hangs_until: u64,
    /// Its disk takes so many times longer.
    pub disk_slow: u64,
    /// Sockets by the client's end: which connection, and who has it.
    pub sockets: BTreeMap<Tuple, (u64, Socket)>,
    /// When the server looks next.
    pub wake_at: u64,
}

impl Host {
    /// Switched off, with an empty disk.
    pub fn new(rng: &mut crate::rng::Rng, setup: &Setup) -> Self {
        Self {
            disk: SimDisk::new(),
            boot: 0,
            on: false,
            process: None,
            life: 0,
            guardian: Guardian::new(setup.exports),
            clock_offset: rng.between(1, 1_000_000) * MS,
            clock_fast_ppm: rng.between(0, if setup.faults.clocks { 10_000 } else { 100 }),
            wall_ahead: rng.between(0, 1_000) * MS,
            paused_until: 0,
            disk_hangs_until: 0,
            disk_slow: 1,
            sockets: BTreeMap::new(),
            wake_at: u64::MAX,
        }
    }

    /// Its CLOCK_MONOTONIC at a time of the world.
    pub fn local(&self, now: u64) -> u64 {
        self.clock_offset + now + now / 1_000_000 * self.clock_fast_ppm
    }

    /// From here on product code that runs reads this host's clocks.
    pub fn set_clock(&self, now: u64) {
        const EPOCH_NS: u64 = 1_800_000_000_000_000_000;
        replica::clock::simulate(self.local(now), EPOCH_NS + now + self.wall_ahead);
    }

    /// Its boot id.
    pub fn boot_id(&self, number: usize) -> String {
        format!("boot {} of host {number}", self.boot)
    }
}
