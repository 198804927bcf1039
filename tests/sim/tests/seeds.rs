//! Goal: no mixture of faults that the pair covers makes a client see a lost, doubled or torn operation, two servers at once, or
//! a service that does not come back. Method: seeds, each a run of its own with the faults that it chooses; a failure
//! prints its seed and the line that reruns it. `SIM_SEEDS` says how many, `SIM_FROM` from which one on.

use hanfs_sim::cli::many;
use hanfs_sim::run::{OPEN, run_seed};

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[test]
fn seeds() {
    let sum = many(number("SIM_FROM", 0), number("SIM_SEEDS", 1000), 0, true, None, true);
    println!("{}", sum.text());
    let unknown: Vec<_> = sum.failures.iter().filter(|(seed, _)| !OPEN.contains(seed)).collect();
    assert!(unknown.is_empty(), "seeds that fail: {unknown:?}");
    assert!(sum.stats.operations > sum.seeds * 100, "the runs do next to nothing");
    assert!(sum.stats.takeovers > sum.seeds, "the runs hardly ever take over");
}

/// Goal: a run can be repeated, step by step. Method: the same seed twice gives one hash of everything that happened, and
/// another seed another.
#[test]
fn the_same_seed_is_the_same_run() {
    for seed in 0..4 {
        let (first, second) = (run_seed(seed, false), run_seed(seed, false));
        assert_eq!(first.trace, second.trace, "seed {seed}");
        assert_eq!(first.stats, second.stats, "seed {seed}");
        assert_ne!(first.trace, run_seed(seed + 100, false).trace);
    }
}
