//! One run: the pair comes up, faults come, faults end, service is back in time, everything is read back and compared.

use std::panic::{AssertUnwindSafe, catch_unwind};

use replica::planted::{self, Planted};

use crate::queue::Event;
use crate::swarm::Setup;
use crate::world::{MS, Stats, World};

/// Seeds that show what docs/simulation.md calls open: a fault whose end is an error for a person, where more is to come.
/// 102: a log's fdatasync fails, the server is started again without a boot of the machine, and the power goes: what the kernel
/// took for written is not there.
pub const OPEN: [u64; 1] = [102];

/// A new pair serves after so long.
const BEGIN_NS: u64 = 3_000 * MS;
/// After the last fault, everything is served with both copies within this time: what hangs has ended, a recovering
/// node has waited for its peer, both sides of a stream have noticed, and a server that died often was started again.
pub const BACK_NS: u64 = 15_000 * MS;
/// After so long each node has noticed that the other one is gone.
const NOTICED_NS: u64 = 2_000 * MS;
/// After that every call is answered within this time: the client's own 60 s, and room for a SYN.
pub const ANSWERED_NS: u64 = 75_000 * MS;

/// A run's outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Counts.
    pub stats: Stats,
    /// Hash of everything that happened.
    pub trace: u64,
    /// What was wrong, with the last lines of the trace.
    pub failure: Option<Failure>,
}

/// What was wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// In one sentence.
    pub why: String,
    /// The trace's end.
    pub tail: Vec<String>,
}

impl Failure {
    /// The failure as a person needs it: what, and the line that reruns it.
    pub fn text(&self, seed: u64) -> String {
        format!(
            "seed {seed}: {}\n{}\nAgain, with every step:\n  cargo run -p hanfs-sim -- --seed {seed} --trace",
            self.why,
            self.tail.join("\n")
        )
    }
}

/// Runs a seed.
pub fn run_seed(seed: u64, print: bool) -> Outcome {
    run(Setup::of(seed), print)
}

/// Runs what is set up, with a bug in the product's code.
pub fn run_planted(setup: Setup, bug: Planted, print: bool) -> Outcome {
    planted::plant(Some(bug));
    let outcome = run(setup, print);
    planted::plant(None);
    outcome
}

/// Runs what is set up.
pub fn run(setup: Setup, print: bool) -> Outcome {
    let mut world = World::new(setup, print);
    // A panic in the product's code is a failure as any other, with its trace.
    let panic = catch_unwind(AssertUnwindSafe(|| all(&mut world))).err();
    replica::clock::real();
    replica::random::real();
    if let Some(panic) = panic {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
        world.fail(format!("a panic: {}", text.unwrap_or_default()));
    }
    world.stats.simulated_ns = world.now;
    let failure = world.failure.clone().map(|why| Failure { why, tail: world.trace.tail() });
    Outcome { stats: world.stats.clone(), trace: world.trace.digest(), failure }
}

fn all(world: &mut World) {
    world.run_until(BEGIN_NS);
    if let Err(why) = world.well() {
        world.fail(format!("a new pair does not serve: {why}"));
    }
    world.at(0, Event::Trouble);
    if world.setup.strikes {
        world.at(0, Event::Strike);
    }
    let until = world.now + world.setup.trouble_ns;
    world.run_until(until);
    world.trouble = false;
    world.say("no more faults");
    world.repair(true);
    back(world);
    world.working = false;
    let until = world.now + ANSWERED_NS;
    while world.failure.is_none() && world.now < until && !world.all_over() {
        let next = world.now + 500 * MS;
        world.run_until(next);
        world.repair(true);
    }
    if world.failure.is_none() && !world.all_over() {
        let calls: Vec<String> = world
            .clients
            .iter()
            .flat_map(|c| &c.mounts)
            .flat_map(|m| {
                m.calls
                    .iter()
                    .map(|(xid, call)| format!("export {} xid {xid} {:?}, {:?}", m.export, call.op, m.link))
            })
            .collect();
        world.fail(format!("{} calls are not answered: {calls:?}", world.unanswered()));
    }
    // Both have applied everything by then.
    if world.failure.is_none() {
        back(world);
    }
    for export in 0..world.setup.exports {
        if world.failure.is_none() {
            world.check_content(export);
        }
        if world.failure.is_none()
            && let Err(why) = world.shared[export].check()
        {
            world.fail(format!("export {export}: {why}"));
        }
    }
}

/// Service is back in time, and stays: what was broken in the last moment is not noticed at once.
fn back(world: &mut World) {
    let until = world.now + BACK_NS;
    let mut well_since = None;
    while world.failure.is_none() {
        let next = world.now + 250 * MS;
        world.run_until(next);
        world.repair(true);
        match world.well() {
            Ok(()) => {
                let since = *well_since.get_or_insert(world.now);
                if world.now >= since + NOTICED_NS {
                    return;
                }
            }
            Err(why) if world.now >= until => {
                world.fail(format!("{} s after all faults ended: {why}", BACK_NS / 1_000 / MS));
            }
            Err(_) => well_since = None,
        }
    }
}
