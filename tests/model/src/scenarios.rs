//! The runs: small ones for every change, larger ones by hand, and one for each broken rule.

use stateright::{CheckerBuilder, Model};

use crate::config::{Budget, Config, Durability, Rule};
use crate::properties::{ADDRESS, COMMITTED, ELECTED, LEASE, PARKED, SOLO, TERM};

/// A run, and how many states it must have.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// What it is about.
    pub name: &'static str,
    /// Its bounds.
    pub config: Config,
    /// Steps from the beginning, at most.
    pub depth: Option<usize>,
    /// Different states that are reachable in it, all of which are looked at.
    pub states: usize,
}

impl Scenario {
    /// The checker, set to its bounds. Where a depth is given only one thread keeps the order, and with it the count.
    pub fn checker(&self) -> CheckerBuilder<Config> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let checker = self.config.clone().checker();
        match self.depth {
            Some(depth) => checker.target_max_depth(depth),
            None => checker.threads(threads),
        }
    }
}

const NONE: Budget = Budget {
    entries: 0,
    kills: 0,
    power: 0,
    wipes: 0,
    resets: 0,
    gates: 0,
    transfers: 0,
    witness_restarts: 0,
    witness_wipes: 0,
    links: 0,
};

const EACH_ONCE: Budget = Budget {
    entries: 1,
    kills: 1,
    power: 1,
    wipes: 1,
    resets: 1,
    gates: 1,
    transfers: 1,
    witness_restarts: 1,
    witness_wipes: 1,
    links: 1,
};

/// For every change.
pub fn quick() -> Vec<Scenario> {
    let disk = Config { progress: true, ..Config::new(Durability::Disk) };
    let memory = Config { progress: true, ..Config::new(Durability::Memory) };
    let run = |name, config: &Config, budget, states| Scenario {
        name,
        config: Config { budget, ..config.clone() },
        depth: None,
        states,
    };
    let cold = Config { cold: true, ..disk.clone() };
    let address = Config { addresses: true, progress: false, ..disk.clone() };
    vec![
        run("kill", &disk, Budget { kills: 1, ..NONE }, 87_435),
        run("reset", &disk, Budget { resets: 1, ..NONE }, 55_427),
        run("power", &memory, Budget { power: 1, ..NONE }, 90_360),
        run("gate", &memory, Budget { gates: 1, ..NONE }, 210_691),
        run("transfer", &disk, Budget { transfers: 1, ..NONE }, 61_228),
        run("witness", &disk, Budget { witness_wipes: 1, ..NONE }, 81_942),
        run("disk", &disk, Budget { wipes: 1, ..NONE }, 109_613),
        run("cold", &cold, NONE, 94_360),
        run("address", &address, Budget { kills: 1, links: 1, ..NONE }, 396_039),
    ]
}

/// By hand: minutes, and a gigabyte.
pub fn deep() -> Vec<Scenario> {
    let disk = Config::new(Durability::Disk);
    let memory = Config::new(Durability::Memory);
    let run = |name, config: &Config, budget, depth, states| Scenario {
        name,
        config: Config { budget, ..config.clone() },
        depth,
        states,
    };
    let address = Config { addresses: true, ..disk.clone() };
    let longer = Config { lease: 2, promise: 2, queue: 2, ..disk.clone() };
    let later = Config { terms: 3, ..memory.clone() };
    let all = Config { terms: 3, queue: 2, addresses: true, ..memory.clone() };
    vec![
        run("kills", &disk, Budget { kills: 2, resets: 1, ..NONE }, None, 785_693),
        run("lease", &longer, NONE, None, 3_496_794),
        run("terms", &later, NONE, None, 345_215),
        run("solo", &disk, Budget { entries: 1, gates: 1, kills: 1, ..NONE }, Some(16), 604_305),
        run("power", &memory, Budget { entries: 1, power: 2, ..NONE }, Some(16), 166_483),
        run("solo-power", &memory, Budget { entries: 1, gates: 1, power: 1, ..NONE }, Some(16), 620_913),
        run("transfer", &disk, Budget { transfers: 1, gates: 1, ..NONE }, None, 628_422),
        run("restart", &disk, Budget { gates: 1, witness_restarts: 1, ..NONE }, None, 436_738),
        run("witness", &disk, Budget { entries: 1, gates: 1, witness_wipes: 1, ..NONE }, Some(16), 405_018),
        run("disk", &disk, Budget { entries: 1, wipes: 1, gates: 1, ..NONE }, Some(16), 511_628),
        run("address", &address, Budget { kills: 1, links: 1, gates: 1, ..NONE }, Some(16), 575_832),
        run("everything", &all, EACH_ONCE, Some(10), 1_181_174),
    ]
}

/// A broken rule, bounds in which that shows, and the property that fails.
pub fn breakages() -> Vec<(Rule, Config, &'static str)> {
    let disk = Config::new(Durability::Disk);
    let memory = Config::new(Durability::Memory);
    let address = Config { addresses: true, ..disk.clone() };
    let case = |rule, config: &Config, budget, property| {
        (rule, Config { budget, broken: Some(rule), ..config.clone() }, property)
    };
    vec![
        case(
            Rule::WitnessIdentity,
            &disk,
            Budget { entries: 1, gates: 1, witness_wipes: 1, ..NONE },
            COMMITTED,
        ),
        case(Rule::VotesSynced, &disk, Budget { power: 1, ..NONE }, TERM),
        case(Rule::RecoveringNotByWitness, &memory, Budget { entries: 1, power: 1, ..NONE }, COMMITTED),
        case(Rule::RecoveringToTheLastEntry, &memory, Budget { entries: 1, power: 1, ..NONE }, SOLO),
        case(Rule::GateClosesAboveSent, &memory, Budget { entries: 1, gates: 1, ..NONE }, SOLO),
        case(
            Rule::MarkGoesBeforeGateCloses,
            &memory,
            Budget { entries: 1, gates: 1, power: 1, ..NONE },
            SOLO,
        ),
        case(Rule::PairNeverDecreases, &disk, Budget { entries: 1, gates: 1, ..NONE }, ELECTED),
        case(Rule::DurableBeforeWitness, &memory, Budget { entries: 1, gates: 1, power: 1, ..NONE }, ELECTED),
        case(Rule::LeaseFromSendTime, &disk, Budget { gates: 1, ..NONE }, LEASE),
        case(Rule::PromiseAfterRestart, &disk, Budget { witness_restarts: 1, gates: 1, ..NONE }, LEASE),
        case(Rule::TransferGivesLeaseUp, &disk, Budget { transfers: 1, gates: 1, ..NONE }, LEASE),
        case(Rule::BlankVotesForNobody, &disk, Budget { entries: 1, wipes: 1, gates: 1, ..NONE }, ELECTED),
        case(Rule::AddressGoesWithLease, &address, Budget { links: 1, ..NONE }, ADDRESS),
        case(Rule::ParkOnlyWhileConnected, &address, Budget { links: 1, kills: 1, gates: 1, ..NONE }, PARKED),
    ]
}
