//! The command: runs seeds on all cores and says what they came to.

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;

use replica::planted::Planted;

use crate::run::{Outcome, run_planted, run_seed};
use crate::swarm::Setup;
use crate::world::Stats;

/// Between two lines of progress.
const SAY_EVERY: Duration = Duration::from_secs(10);

/// Simulates the pair.
#[derive(Parser, Debug)]
struct Args {
    /// Runs this seed alone.
    #[arg(long)]
    seed: Option<u64>,
    /// With `--seed`: prints everything that happens.
    #[arg(long)]
    trace: bool,
    /// Runs so many seeds.
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// From this one on.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Runs until it is stopped or something is wrong.
    #[arg(long)]
    forever: bool,
    /// Threads; 0: one per core.
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Goes on after a failure.
    #[arg(long)]
    keep_going: bool,
    /// Plants this bug in the product's code, by its name in `replica::planted`.
    #[arg(long)]
    bug: Option<String>,
}

impl Args {
    fn bug(&self) -> Option<Planted> {
        let name = self.bug.as_ref()?;
        Planted::ALL.into_iter().find(|bug| format!("{bug:?}") == *name)
    }
}

/// See the module.
pub fn run() -> ExitCode {
    let args = Args::parse();
    if let Some(seed) = args.seed {
        let outcome = match args.bug() {
            Some(bug) => run_planted(Setup::of(seed), bug, args.trace),
            None => run_seed(seed, args.trace),
        };
        println!("trace {:016x}  {:?}", outcome.trace, outcome.stats);
        return report(seed, &outcome);
    }
    let count = if args.forever { u64::MAX - args.from } else { args.seeds };
    let sum = many(args.from, count, args.threads, args.keep_going, args.bug(), true);
    println!("{}", sum.text());
    if sum.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn report(seed: u64, outcome: &Outcome) -> ExitCode {
    match &outcome.failure {
        None => ExitCode::SUCCESS,
        Some(failure) => {
            eprintln!("{}", failure.text(seed));
            ExitCode::FAILURE
        }
    }
}

/// What many seeds came to.
#[derive(Debug, Default)]
pub struct Sum {
    /// Seeds that were run.
    pub seeds: u64,
    /// All of them together.
    pub stats: Stats,
    /// Real time, s.
    pub real_s: f64,
    /// Seeds that failed, and how.
    pub failures: Vec<(u64, String)>,
}

impl Sum {
    fn add(&mut self, outcome: &Outcome) {
        let (all, one) = (&mut self.stats, &outcome.stats);
        self.seeds += 1;
        for (sum, more) in [
            (&mut all.calls, one.calls),
            (&mut all.answers, one.answers),
            (&mut all.operations, one.operations),
            (&mut all.shared, one.shared),
            (&mut all.retransmissions, one.retransmissions),
            (&mut all.resets, one.resets),
            (&mut all.frames, one.frames),
            (&mut all.takeovers, one.takeovers),
            (&mut all.transfers, one.transfers),
            (&mut all.verdicts, one.verdicts),
            (&mut all.simulated_ns, one.simulated_ns),
        ] {
            *sum += more;
        }
        all.longest_ns = all.longest_ns.max(one.longest_ns);
        for (kind, count) in &one.faults {
            *all.faults.entry(kind).or_default() += count;
        }
    }

    /// As a few lines.
    pub fn text(&self) -> String {
        let s = &self.stats;
        let simulated_s = s.simulated_ns as f64 / 1e9;
        let faults: Vec<String> = s.faults.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
        format!(
            "{} seeds, {:.2} simulated hours in {:.1} s: {:.0} times real time\n\
             {} operations answered and checked, {} of them in shared histories; {} retransmissions, {} connections reset\n\
             {} exports taken into service, {} transfers, {} verdicts; longest operation {:.1} s\n\
             faults: {}\n{} failures",
            self.seeds,
            simulated_s / 3600.0,
            self.real_s,
            simulated_s / self.real_s.max(1e-9),
            s.operations,
            s.shared,
            s.retransmissions,
            s.resets,
            s.takeovers,
            s.transfers,
            s.verdicts,
            s.longest_ns as f64 / 1e9,
            faults.join(", "),
            self.failures.len()
        )
    }
}

/// Runs seeds on all cores. `say`: progress and failures go to standard error.
pub fn many(from: u64, count: u64, threads: usize, keep_going: bool, bug: Option<Planted>, say: bool) -> Sum {
    let (next, stop, begun) = (AtomicU64::new(from), AtomicBool::new(false), Instant::now());
    let sum = Mutex::new((Sum::default(), Instant::now()));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = if threads == 0 { cores } else { threads };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed - from >= count {
                        return;
                    }
                    let outcome = match bug {
                        Some(bug) => run_planted(Setup::of(seed), bug, false),
                        None => run_seed(seed, false),
                    };
                    let Ok(mut sum) = sum.lock() else { return };
                    sum.0.add(&outcome);
                    if let Some(failure) = &outcome.failure {
                        if say {
                            eprintln!("{}\n", failure.text(seed));
                        }
                        sum.0.failures.push((seed, failure.why.clone()));
                        stop.fetch_or(!keep_going, Ordering::Relaxed);
                    }
                    if say && sum.1.elapsed() >= SAY_EVERY {
                        sum.1 = Instant::now();
                        sum.0.real_s = begun.elapsed().as_secs_f64();
                        eprintln!("{}\n", sum.0.text());
                    }
                }
            });
        }
    });
    let (mut sum, _) = sum.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    sum.real_s = begun.elapsed().as_secs_f64();
    sum
}
