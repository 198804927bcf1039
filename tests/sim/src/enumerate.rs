//! Every short sequence of operations, with a crash at every point of it where something becomes durable.
//!
//! Goal: whatever was answered before the crash is there after it, whatever was not is there wholly or not at all, and the
//! two replicas agree. Method: one client, one export, a quiet network. A sequence is run once without a crash to count the
//! changes and syncs that each host's disk sees meanwhile; then once more for each of them and each host, with that
//! machine's power lost there: what comes after it does not reach the disk. The client sends again until it is answered, and
//! every answer must be what it would be without the crash, whoever serves then.

use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use replica::node::{Durability, Third};
use replica::planted::{self, Planted};

pub use crate::checks::private::Step;
use crate::run::{BACK_NS, Failure};
use crate::swarm::{Faults, Setup};
use crate::world::{MS, World};

/// What there is before the sequence: a file with content, and a directory.
const BEFORE: [Step; 3] = [Step::Create("n1"), Step::Write("n1"), Step::Mkdir("n2")];

/// The operations of a sequence.
pub const STEPS: [Step; 10] = [
    Step::Create("n3"),
    Step::Create("n1"),
    Step::Write("n1"),
    Step::Cut("n1"),
    Step::Remove("n1"),
    Step::Rename("n1", "n3"),
    Step::Mkdir("n3"),
    Step::Rmdir("n2"),
    Step::Link("n1", "n3"),
    Step::Remove("n3"),
];

/// What was enumerated.
#[derive(Clone, Debug, Default)]
pub struct Enumerated {
    /// Sequences.
    pub sequences: u64,
    /// Crashes.
    pub crashes: u64,
    /// What was wrong: the first.
    pub failure: Option<(String, Failure)>,
}

/// All sequences of one and of two operations.
pub fn sequences() -> Vec<Vec<Step>> {
    let one = STEPS.iter().map(|a| vec![*a]);
    let two = STEPS.iter().flat_map(|a| STEPS.iter().map(|b| vec![*a, *b]));
    one.chain(two).collect()
}

fn setup(durability: Durability) -> Setup {
    Setup {
        seed: 1,
        third: Third::Witness,
        durability,
        exports: 1,
        clients: 1,
        slots: 1,
        faults: Faults::default(),
        trouble_every: 1_000 * MS,
        trouble_ns: 0,
        // Small: a checkpoint comes within the sequence.
        checkpoint_bytes: 1,
        segment_bytes: 64 << 10,
        wal_bytes_max: 1 << 20,
        giveback_ns: None,
        think_ns: MS,
        strikes: false,
    }
}

/// Where a machine loses power: which host, at the how manyth change of its disk after the sequence began.
pub type Crash = Option<(usize, u64)>;

/// Runs one sequence; the changes that each host's disk saw.
pub fn one(steps: &[Step], crash: Crash, durability: Durability) -> Result<[u64; 2], Failure> {
    let mut world = World::new(setup(durability), false);
    let outcome =
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| sequence(&mut world, steps, crash)));
    replica::clock::real();
    replica::random::real();
    if outcome.is_err() {
        world.fail("a panic");
    }
    match world.failure.clone() {
        None => Ok(outcome.unwrap_or_default()),
        Some(why) => Err(Failure { why, tail: world.trace.tail() }),
    }
}

fn sequence(world: &mut World, steps: &[Step], crash: Crash) -> [u64; 2] {
    world.slot().give(&BEFORE);
    run_while(world, 10_000 * MS, |world| !world.slot().is_idle() || world.unanswered() > 0);
    // Quiet: everything that went before is checkpointed.
    let next = world.now + 200 * MS;
    world.run_until(next);
    let changes = |world: &World| [0, 1].map(|h: usize| world.hosts[h].disk.changes());
    let before = changes(world);
    if let Some((h, at)) = crash {
        world.halting = Some(h);
        world.hosts[h].disk.halt_after(at);
    }
    world.slot().give(steps);
    world.begin_again();
    run_while(world, BACK_NS, |world| !world.slot().is_idle() || world.unanswered() > 0);
    // What follows the answers: a checkpoint.
    let next = world.now + 100 * MS;
    world.run_until(next);
    let after = changes(world);
    // A point that was never reached is a crash after everything.
    world.halted();
    run_while(world, 2 * BACK_NS, |world| world.well().is_err());
    if let Err(why) = world.well() {
        world.fail(why);
    }
    world.working = false;
    world.begin_again();
    run_while(world, BACK_NS, |world| !world.all_over());
    if !world.all_over() {
        world.fail("what was made is not read back");
    }
    let next = world.now + 500 * MS;
    world.run_until(next);
    if world.failure.is_none() {
        world.check_content(0);
    }
    [0, 1].map(|h: usize| after[h] - before[h])
}

fn run_while(world: &mut World, at_most: u64, mut goes_on: impl FnMut(&mut World) -> bool) {
    let until = world.now + at_most;
    while world.failure.is_none() && world.now < until && goes_on(world) {
        let next = world.now + 5 * MS;
        world.run_until(next);
    }
}

/// Every crash of every one of these sequences, on all cores, up to the first failure; with a bug in the product's code.
pub fn all(sequences: &[Vec<Step>], durability: Durability, bug: Option<Planted>) -> Enumerated {
    let (next, sum) = (AtomicUsize::new(0), Mutex::new(Enumerated::default()));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                planted::plant(bug);
                while let Some(steps) = sequences.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let (crashes, failure) = every_crash(steps, durability);
                    let mut sum = sum.lock();
                    sum.sequences += 1;
                    sum.crashes += crashes;
                    if sum.failure.is_some() {
                        return;
                    }
                    sum.failure = failure;
                }
            });
        }
    });
    sum.into_inner()
}

/// One sequence: how many crashes, and what the first failure was.
fn every_crash(steps: &[Step], durability: Durability) -> (u64, Option<(String, Failure)>) {
    let points = match one(steps, None, durability) {
        Ok(points) => points,
        Err(failure) => return (0, Some((format!("{steps:?} without a crash"), failure))),
    };
    let mut crashes = 0;
    for (h, points) in points.into_iter().enumerate() {
        for at in 0..=points {
            crashes += 1;
            if let Err(failure) = one(steps, Some((h, at)), durability) {
                let what = format!("{steps:?}, host {h} loses power at change {at}");
                return (crashes, Some((what, failure)));
            }
        }
    }
    (crashes, None)
}
