//! Explores the model by hand: `hanfs-model [--deep | --broken] [NAME]`.
//!
//! Without an option the runs of every change, with `--deep` the larger ones, with `--broken` the shortest way to a failure
//! for each broken rule. NAME is one run's. The exit code is 1 if anything is not as committed.

use std::process::ExitCode;
use std::time::Instant;

use hanfs_model::{Scenario, breakages, deep, quick};
use stateright::{Checker, HasDiscoveries, Model};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let option = |name: &str| args.iter().any(|arg| arg == name);
    if option("--broken") {
        return code(show_broken());
    }
    let runs = if option("--deep") { deep() } else { quick() };
    let name = args.iter().find(|arg| !arg.starts_with("--"));
    let chosen = runs.iter().filter(|run| name.is_none_or(|name| name == run.name));
    code(chosen.map(explore).filter(|as_committed| !as_committed).count() == 0)
}

fn code(good: bool) -> ExitCode {
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn explore(run: &Scenario) -> bool {
    let began = Instant::now();
    let checker = run.checker().spawn_bfs().join();
    let (states, depth) = (checker.unique_state_count(), checker.max_depth());
    println!(
        "{:12} {states:>10} states, depth {depth:>3}, {:>6.1} s",
        run.name,
        began.elapsed().as_secs_f64()
    );
    let mut good = states == run.states;
    if !good {
        println!("  {} states are committed", run.states);
    }
    for property in run.config.properties() {
        let found = checker.discovery(property.name);
        match (property.expectation.discovery_is_failure(), found) {
            (true, Some(path)) => println!("  {}: not so, by\n{path}", property.name),
            (false, None) => println!("  {}: never", property.name),
            _ => continue,
        }
        good = false;
    }
    good
}

fn show_broken() -> bool {
    let mut good = true;
    for (rule, config, property) in breakages() {
        let checker =
            config.checker().finish_when(HasDiscoveries::AnyOf([property].into())).spawn_bfs().join();
        let states = checker.unique_state_count();
        match checker.discovery(property) {
            Some(path) => {
                println!("{rule:?}, {states} states: {property}: not so, by {:?}", path.into_actions())
            }
            None => println!("{rule:?}, {states} states: nothing found"),
        }
        good &= checker.discovery(property).is_some();
    }
    good
}
