//! What a seed chooses: which faults there are at all, how often, and how the pair is configured. A run with a few kinds of
//! faults goes further into each than one with all of them (swarm testing, Groce et al. 2012).

use replica::node::{Durability, Third};

use crate::rng::Rng;
use crate::world::MS;

/// Which kinds of faults a run has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// The server process is killed.
    pub kill: bool,
    /// A machine loses power.
    pub power: bool,
    /// Both do at once.
    pub power_both: bool,
    /// The server process is stopped for a while.
    pub pause: bool,
    /// The nodes do not reach each other.
    pub cut: bool,
    /// Only one way.
    pub one_way: bool,
    /// Links are slow.
    pub clog: bool,
    /// Clients lose packets, or a host.
    pub clients: bool,
    /// The witness is out of reach, restarted, replaced, or loses calls.
    pub witness: bool,
    /// Disks are slow, or hang.
    pub slow_disk: bool,
    /// An fdatasync or a read fails, or the disk is full.
    pub disk_error: bool,
    /// Clocks differ and jump.
    pub clocks: bool,
    /// Planned takeovers.
    pub plan: bool,
    /// A node loses its disk.
    pub wipe: bool,
}

/// What is run.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Everything comes from it.
    pub seed: u64,
    /// Who casts the third vote.
    pub third: Third,
    /// What an acknowledgement means.
    pub durability: Durability,
    /// How many exports.
    pub exports: usize,
    /// How many clients; each mounts every export.
    pub clients: usize,
    /// Calls under way of a client and export, at most.
    pub slots: usize,
    /// Faults.
    pub faults: Faults,
    /// Mean time between two of them, ns.
    pub trouble_every: u64,
    /// Faults come for this long, ns of the world.
    pub trouble_ns: u64,
    /// See `FsOptions`.
    pub checkpoint_bytes: u64,
    /// See `WalOptions`.
    pub segment_bytes: u64,
    /// See `GroupConfig`.
    pub wal_bytes_max: u64,
    /// See `PolicyExport`.
    pub giveback_ns: Option<u64>,
    /// Mean time between two calls of a slot, ns.
    pub think_ns: u64,
    /// Blows at the worst moment: see `strike`. No seed chooses them by itself.
    pub strikes: bool,
}

impl Setup {
    /// What this seed says.
    pub fn of(seed: u64) -> Self {
        let mut rng = Rng::new(seed ^ 0x5357_4152_4d00);
        let mut some = |n: u64| rng.one_in(n);
        let faults = Faults {
            kill: some(2),
            power: some(2),
            power_both: some(4),
            pause: some(3),
            cut: some(2),
            one_way: some(4),
            clog: some(4),
            clients: some(3),
            witness: some(3),
            slow_disk: some(3),
            disk_error: some(6),
            clocks: some(3),
            plan: some(2),
            wipe: some(5),
        };
        let third = if rng.one_in(3) { Third::StandIn } else { Third::Witness };
        let durability = if rng.one_in(3) { Durability::Memory } else { Durability::Disk };
        Self {
            seed,
            third,
            durability,
            exports: usize::try_from(rng.between(1, 2)).unwrap_or(1),
            clients: usize::try_from(rng.between(1, 3)).unwrap_or(1),
            slots: usize::try_from(rng.between(1, 2)).unwrap_or(1),
            faults,
            trouble_every: rng.between(200, 2_000) * MS,
            trouble_ns: 16_000 * MS,
            checkpoint_bytes: rng.between(4, 64) << 10,
            segment_bytes: 64 << 10,
            wal_bytes_max: 1 << 20,
            giveback_ns: rng.one_in(2).then_some(2_000 * MS),
            think_ns: rng.between(5, 60) * MS,
            strikes: false,
        }
    }

    /// The product may say things that ask for a person.
    pub fn expects_errors(&self) -> bool {
        self.faults.disk_error || self.faults.wipe
    }
}
