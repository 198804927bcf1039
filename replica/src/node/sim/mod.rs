//! The node and the witness in a simulated cluster: one thread, one seed, one run.
//!
//! Goal: under any mixture of faults that the mode covers, one leader a term, one lease at a time, nothing acknowledged is
//! lost, the witness never stands in for a copy that is there; and once the faults end, the pair serves again by itself.
//! Method: random faults from a seed on simulated hosts, disks and networks; `checks` looks at every step. A failure
//! prints the line that reruns it.

mod checks;
mod host;
mod rng;
mod scenarios;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{Durability, Third};
use world::{MS, Setup, World};

/// Faults are injected for this long, simulated.
const TROUBLE_NS: u64 = 15_000 * MS;
/// After that long without faults everything works.
const CALM_NS: u64 = 10_000 * MS;

/// One random fault, at most one machine's memory being lost at a time where that matters.
fn trouble(world: &mut World) {
    let h = world.rng.between(0, 1) as usize;
    let memory = world.setup.durability == Durability::Memory;
    match world.rng.between(0, 15) {
        0 | 1 => world.kill(h),
        // `"memory"` covers the loss of one machine at a time.
        2 | 3 if !memory || world.well().is_ok() => world.lose_power(h),
        4 => {
            world.kill(0);
            world.kill(1);
        }
        5 if !memory => {
            world.lose_power(0);
            world.lose_power(1);
        }
        6 | 7 => {
            world.cut_until = world.now + world.rng.between(1, 3_000) * MS;
            let silent = world.rng.one_in(2);
            let until = world.cut_until / MS;
            world.note(format!("the nodes are cut off from each other until {until} ms, silently: {silent}"));
            world.disconnect(silent);
        }
        8 => {
            let ns = world.rng.between(20, 2_000) * MS;
            world.pause(h, ns);
        }
        9 => world.witness_cut_until[h] = world.now + world.rng.between(100, 3_000) * MS,
        10 => world.kill_witness(),
        11 if world.rng.one_in(3) => world.replace_witness(),
        12 => world.hosts[h].disk_hangs_until = world.now + world.rng.between(100, 4_000) * MS,
        13 => transfer(world),
        14 if world.well().is_ok() => world.wipe(h),
        _ => {}
    }
}

fn transfer(world: &mut World) {
    for h in 0..2 {
        if world.hosts[h].holds_lease(world.now) {
            world.note(format!("host {} is asked to hand over", h + 1));
            world.input(h, super::Input::Transfer);
            return;
        }
    }
}

/// What people and process managers do: start what is down, end what hangs.
fn repair(world: &mut World, all: bool) {
    for h in 0..2 {
        if all || world.rng.one_in(3) {
            world.start(h);
        }
    }
    if all || world.rng.one_in(3) {
        world.start_witness();
    }
    if (all || world.rng.one_in(3)) && world.blackhole {
        world.disconnect(false);
    }
}

fn run(setup: Setup) -> World {
    let mut world = World::new(setup);
    world.run_until(3_000 * MS);
    let leader = world.well();
    assert!(leader.is_ok(), "a new pair serves: {leader:?}");
    while world.now < TROUBLE_NS {
        let next = world.now + world.rng.between(50, 1_500) * MS;
        world.run_until(next);
        if world.rng.one_in(2) {
            trouble(&mut world);
        } else {
            repair(&mut world, false);
        }
    }
    world.cut_until = 0;
    world.witness_cut_until = [0; 2];
    // Hanging disks and pauses end by themselves.
    for _ in 0..5 {
        repair(&mut world, true);
        let next = world.now + CALM_NS / 5;
        world.run_until(next);
        world.administer();
    }
    let before = world.checks.acknowledgements;
    let leader = world.well().unwrap_or_else(|why| panic!("after all faults ended: {why}"));
    let next = world.now + 1_000 * MS;
    world.run_until(next);
    assert!(world.checks.acknowledgements > before, "it serves and acknowledges nothing");
    world.propose_every = 1 << 40;
    let next = world.now + 1_000 * MS;
    world.run_until(next);
    world.checks.nothing_is_lost(world.hosts[leader].applied.index);
    assert_eq!(world.checks.errors, Vec::<String>::new(), "no event asks for a person");
    world
}

/// Runs a seed and, where it fails, says how to run it again.
fn run_seed(setup: Setup) -> (u64, u64) {
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let world = run(setup);
        (world.checks.acknowledgements, world.checks.solo_acknowledgements)
    }));
    match outcome {
        Ok(figures) => figures,
        Err(panic) => {
            eprintln!(
                "\n{setup:?} failed. Again, with every step:\n  SIM_TRACE=1 SIM_SEED={} cargo test -p hanfs-replica \
                 node::sim::{:?}_{:?} -- --nocapture",
                setup.seed, setup.third, setup.durability
            );
            std::panic::resume_unwind(panic)
        }
    }
}

fn seeds(third: Third, durability: Durability, count: u64) {
    if let Some(seed) = std::env::var("SIM_SEED").ok().and_then(|s| s.parse().ok()) {
        run_seed(Setup { seed, third, durability });
        return;
    }
    let count = std::env::var("SIM_SEEDS").ok().and_then(|s| s.parse().ok()).unwrap_or(count);
    let (mut all, mut solo) = (0, 0);
    for seed in 0..count {
        let (a, s) = run_seed(Setup { seed, third, durability });
        all += a;
        solo += s;
    }
    eprintln!("{third:?} {durability:?}: {count} seeds, {all} acknowledgements, {solo} of them solo");
    assert!(all > count * 1000, "the runs acknowledge next to nothing");
    assert!(solo * 50 > all, "the runs are hardly ever solo");
}

#[test]
#[allow(non_snake_case, reason = "named as what it runs")]
fn Witness_Disk() {
    seeds(Third::Witness, Durability::Disk, 75);
}

#[test]
#[allow(non_snake_case, reason = "named as what it runs")]
fn Witness_Memory() {
    seeds(Third::Witness, Durability::Memory, 75);
}

#[test]
#[allow(non_snake_case, reason = "named as what it runs")]
fn StandIn_Disk() {
    seeds(Third::StandIn, Durability::Disk, 50);
}

#[test]
#[allow(non_snake_case, reason = "named as what it runs")]
fn StandIn_Memory() {
    seeds(Third::StandIn, Durability::Memory, 50);
}
