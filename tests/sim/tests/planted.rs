//! Goal: the simulator finds what it is for. Method: bugs planted in the product's code, one at a time, under the faults that the
//! seeds choose or under those that can show it; each must be found within a stated number of seeds. `seeds` runs the same
//! seeds without a bug, and `without_a_bug_nothing_is_found` the others. `SIM_PLANTED` names one, `SIM_SEEDS` is another bound.

use std::sync::atomic::{AtomicUsize, Ordering};

use hanfs_sim::run::{OPEN, run, run_planted};
use hanfs_sim::swarm::{Faults, Setup};
use replica::node::{Durability, Third};
use replica::planted::Planted;

/// Under what a bug is looked for.
#[derive(Clone, Copy, Debug)]
enum Mixture {
    /// What the seed says.
    Any,
    /// One node alone, again and again, with a witness that dies too, and blows at the worst moment: in this durability.
    Solo(Durability),
    /// The same without a witness, where a fence gives verdicts.
    Fence(Durability),
}

/// A bug, where it is looked for, and within how many seeds it is found.
const PLANS: [(Planted, Mixture, u64); 16] = [
    (Planted::ReplyBeforeCommit, Mixture::Any, 50),
    (Planted::SkipLogSync, Mixture::Any, 50),
    (Planted::AcknowledgeBeforeWritten, Mixture::Any, 150),
    (Planted::IgnoreLease, Mixture::Any, 150),
    (Planted::LocalClockInApply, Mixture::Any, 20),
    (Planted::RandomInApply, Mixture::Any, 20),
    (Planted::ReplyCacheNotReplicated, Mixture::Any, 20),
    (Planted::CutPastCheckpoint, Mixture::Any, 20),
    (Planted::IgnoreRecovering, Mixture::Any, 200),
    (Planted::CheckpointBeforeContent, Mixture::Any, 100),
    (Planted::CountOldAcknowledgements, Mixture::Any, 50),
    (Planted::ForgetPromise, Mixture::Any, 150),
    (Planted::VoteWithinPromise, Mixture::Any, 50),
    (Planted::ReplayStaleTail, Mixture::Any, 20),
    (Planted::WitnessForgets, Mixture::Solo(Durability::Disk), 50),
    (Planted::AskBehindOpenGate, Mixture::Fence(Durability::Memory), 200),
];

/// Not found within so many seeds as things stand: which seed shows a bug changes with the product, and these show in moments of a
/// few ms. They want mixtures of their own. The mark of `UnmarkSoloEarly` goes from memory only.
const HARD: [(Planted, Mixture, u64); 10] = [
    (Planted::VoteBeforeSync, Mixture::Any, 150),
    (Planted::KeepAddress, Mixture::Any, 150),
    (Planted::WitnessCountsAsCopy, Mixture::Any, 100),
    (Planted::VouchBeforeDurable, Mixture::Any, 100),
    (Planted::LeaseFromReceiveTime, Mixture::Any, 150),
    (Planted::ServeBeforeApplied, Mixture::Any, 150),
    (Planted::UnlinkBeforeCheckpoint, Mixture::Any, 150),
    (Planted::WitnessPairDecreases, Mixture::Solo(Durability::Disk), 400),
    (Planted::CloseGateEarly, Mixture::Solo(Durability::Disk), 400),
    (Planted::UnmarkSoloEarly, Mixture::Solo(Durability::Memory), 400),
];

fn setup(mixture: Mixture, seed: u64) -> Setup {
    let any = Setup::of(seed);
    let (third, durability) = match mixture {
        Mixture::Any => return any,
        Mixture::Solo(durability) => (Third::Witness, durability),
        Mixture::Fence(durability) => (Third::StandIn, durability),
    };
    Setup {
        durability,
        third,
        exports: 1,
        faults: Faults { kill: true, cut: true, power: true, ..Faults::default() },
        trouble_every: 900_000_000,
        think_ns: 5_000_000,
        strikes: true,
        ..any
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// Looks for each of them, on all cores; which are missed.
fn hunt(plans: &[(Planted, Mixture, u64)]) -> Vec<Planted> {
    let only = std::env::var("SIM_PLANTED").unwrap_or_default();
    let (next, missed) = (AtomicUsize::new(0), std::sync::Mutex::new(Vec::new()));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                while let Some((bug, mixture, seeds)) = plans.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if !format!("{bug:?}").contains(&only) {
                        continue;
                    }
                    let closed =
                        (0..number("SIM_SEEDS").unwrap_or(*seeds)).filter(|seed| !OPEN.contains(seed));
                    let found = { closed }.find_map(|seed| {
                        let failure = run_planted(setup(*mixture, seed), *bug, false).failure?;
                        Some((seed, failure.why.chars().take(150).collect::<String>()))
                    });
                    match found {
                        Some((seed, why)) => println!("{bug:?}: seed {seed}: {why}"),
                        None => missed.lock().expect("nobody panics with it").push(*bug),
                    }
                }
            });
        }
    });
    missed.into_inner().expect("nobody panics with it")
}

#[test]
fn each_planted_bug_is_found() {
    let missed = hunt(&PLANS);
    assert!(missed.is_empty(), "planted and not found: {missed:?}");
}

/// Goal: it is the bug that is found. Method: the mixtures that no seed chooses by itself, without a bug.
#[test]
fn without_a_bug_nothing_is_found() {
    for durability in [Durability::Disk, Durability::Memory] {
        for mixture in [Mixture::Solo(durability), Mixture::Fence(durability)] {
            for seed in 0..20 {
                let failure = run(setup(mixture, seed), false).failure;
                assert!(
                    failure.is_none(),
                    "{mixture:?}: {}",
                    failure.map_or(String::new(), |f| f.text(seed))
                );
            }
        }
    }
}

/// Goal: know what is not found. Method: only where it is asked for, for it takes long: `SIM_PLANTED` names one of them.
#[test]
fn hard_bugs() {
    if std::env::var("SIM_PLANTED").is_ok() {
        println!("not found: {:?}", hunt(&HARD));
    }
}
