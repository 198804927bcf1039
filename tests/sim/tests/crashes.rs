//! Goal and method: see `hanfs_sim::enumerate`. Every sequence of up to two operations is enumerated in `"disk"`; three
//! operations, and `"memory"`, are sampled. `SIM_SEQUENCES` bounds how many of each.

use hanfs_sim::enumerate::{STEPS, all, sequences};
use replica::node::Durability;
use replica::planted::Planted;

fn enumerate(sequences: &[Vec<hanfs_sim::enumerate::Step>], durability: Durability) {
    let sum = all(sequences, durability, None);
    println!("{durability:?}: {} sequences, {} crashes", sum.sequences, sum.crashes);
    if let Some((what, failure)) = sum.failure {
        panic!("{what}: {}\n{}", failure.why, failure.tail.join("\n"));
    }
    assert!(sum.crashes > 10 * sum.sequences, "too few points for a crash: {sum:?}");
}

fn bound() -> usize {
    std::env::var("SIM_SEQUENCES").ok().and_then(|text| text.parse().ok()).unwrap_or(usize::MAX)
}

#[test]
fn every_crash_of_every_sequence_of_up_to_two() {
    let all = sequences();
    enumerate(&all[..bound().min(all.len())], Durability::Disk);
}

#[test]
fn sampled_sequences_of_three() {
    let three = (0..STEPS.len()).map(|i| {
        let step = |n: usize| STEPS[(i * 7 + n * 3) % STEPS.len()];
        vec![step(0), step(1), step(2)]
    });
    let three: Vec<_> = three.take(bound()).collect();
    enumerate(&three, Durability::Disk);
}

/// Goal: the enumeration finds what it is for. Method: bugs in the product's code, under sequences of one operation.
#[test]
fn planted_bugs_are_found() {
    let one: Vec<_> = STEPS.iter().map(|step| vec![*step]).collect();
    for bug in [Planted::SkipLogSync, Planted::CheckpointBeforeContent] {
        let found = all(&one, Durability::Disk, Some(bug)).failure;
        println!("{bug:?}: {:?}", found.as_ref().map(|(what, failure)| (what, &failure.why)));
        assert!(found.is_some(), "{bug:?} is not found");
    }
}
