//! Goal: the simulator finds what it is for. Method: bugs planted in the product's code, one at a time, under faults of the
//! kinds that can show them; each must be found within a stated number of seeds. The same seeds find nothing without it.

use hanfs_sim::run::{run, run_planted};
use hanfs_sim::swarm::{Faults, Setup};
use replica::node::{Durability, Third};
use replica::planted::Planted;

/// A bug, under what it shows, and within how many seeds.
struct Plan {
    bug: Planted,
    seeds: u64,
    durability: Durability,
    third: Third,
    faults: Faults,
}

const NONE: Faults = Faults {
    kill: false,
    power: false,
    power_both: false,
    pause: false,
    cut: false,
    one_way: false,
    clog: false,
    clients: false,
    witness: false,
    slow_disk: false,
    disk_error: false,
    clocks: false,
    plan: false,
    wipe: false,
};

const DISK: (Durability, Third) = (Durability::Disk, Third::Witness);
const MEMORY: (Durability, Third) = (Durability::Memory, Third::Witness);

fn plan(bug: Planted, seeds: u64, (durability, third): (Durability, Third), faults: Faults) -> Plan {
    Plan { bug, seeds, durability, third, faults }
}

/// Each bug with a mixture of faults in which it matters.
fn plans() -> Vec<Plan> {
    let crashes = Faults { kill: true, power: true, ..NONE };
    let outages = Faults { kill: true, power: true, power_both: true, cut: true, ..NONE };
    let pauses = Faults { pause: true, cut: true, clog: true, clocks: true, ..NONE };
    let solo = Faults { power: true, cut: true, witness: true, slow_disk: true, kill: true, ..NONE };
    vec![
        plan(Planted::ReplyBeforeCommit, 40, DISK, Faults { slow_disk: true, ..outages }),
        plan(Planted::SkipLogSync, 40, DISK, outages),
        plan(Planted::AcknowledgeBeforeWritten, 40, DISK, Faults { slow_disk: true, ..outages }),
        plan(Planted::IgnoreLease, 40, DISK, pauses),
        plan(Planted::KeepAddress, 40, DISK, pauses),
        plan(Planted::LocalClockInApply, 5, DISK, Faults { clocks: true, ..crashes }),
        plan(Planted::RandomInApply, 5, DISK, crashes),
        plan(Planted::ReplyCacheNotReplicated, 40, DISK, crashes),
        plan(Planted::WitnessCountsAsCopy, 40, DISK, Faults { slow_disk: true, ..solo }),
        plan(Planted::CutPastCheckpoint, 20, DISK, crashes),
        plan(Planted::IgnoreRecovering, 80, MEMORY, solo),
        plan(Planted::LeaseFromReceiveTime, 80, DISK, Faults { clog: true, ..pauses }),
        plan(Planted::ServeBeforeApplied, 40, DISK, Faults { slow_disk: true, ..crashes }),
        plan(Planted::CheckpointBeforeContent, 40, DISK, outages),
        plan(Planted::UnlinkBeforeCheckpoint, 80, DISK, crashes),
        plan(Planted::VoteWithinPromise, 40, DISK, Faults { one_way: true, ..pauses }),
    ]
}

fn setup(plan: &Plan, seed: u64) -> Setup {
    let third = plan.third;
    let durability = plan.durability;
    Setup { third, durability, faults: plan.faults, exports: 1, clients: 2, slots: 2, ..Setup::of(seed) }
}

#[test]
fn each_planted_bug_is_found() {
    let only = std::env::var("SIM_PLANTED").unwrap_or_default();
    let mut missed = Vec::new();
    for plan in plans().iter().filter(|plan| format!("{:?}", plan.bug).contains(&only)) {
        let found = (0..plan.seeds).find_map(|seed| {
            run_planted(setup(plan, seed), plan.bug, false).failure.map(|failure| (seed, failure.why))
        });
        match found {
            Some((seed, why)) => println!("{:?}: seed {seed}: {}", plan.bug, &why[..why.len().min(160)]),
            None => missed.push(plan.bug),
        }
    }
    assert!(missed.is_empty(), "planted and not found: {missed:?}");
}

/// Goal: it is the bug that is found. Method: the first seeds of every mixture, without it.
#[test]
fn without_a_bug_nothing_is_found() {
    for plan in plans() {
        for seed in 0..3 {
            let failure = run(setup(&plan, seed), false).failure;
            assert!(
                failure.is_none(),
                "{:?}, seed {seed}: {}",
                plan.bug,
                failure.map_or(String::new(), |f| f.text(seed))
            );
        }
    }
}
