//! One run: one workload, one shape, one server, for a while.

use std::time::{Duration, Instant};

use super::connection::{Connection, Tally, Until};
use super::machine::cpu_seconds;
use super::scene::Scene;
use super::script::Script;
use super::stats::{Sample, percentile};
use super::wire::Failure;
use super::workload::{Shape, Workload};

/// Whose CPU time counts.
#[derive(Debug, Clone, Default)]
pub struct Servers {
    /// The primary's server process.
    pub primary: Vec<u32>,
    /// The backup's, where there is one.
    pub backup: Option<Vec<u32>>,
}

struct Cpu {
    primary: f64,
    backup: Option<f64>,
    load: f64,
}

impl Servers {
    fn cpu(&self) -> Cpu {
        Cpu {
            primary: cpu_seconds(&self.primary),
            backup: self.backup.as_deref().map(cpu_seconds),
            load: cpu_seconds(&[std::process::id()]),
        }
    }
}

/// Connects, makes calls for so long, waits for the last replies.
pub fn measure(
    scene: &Scene,
    workload: Workload,
    shape: Shape,
    time: Duration,
    servers: &Servers,
) -> Result<Sample, Failure> {
    if workload == Workload::Remove {
        scene.provide_removable()?;
    }
    let connections = (0..shape.connections).map(|_| scene.connect()).collect::<Result<Vec<_>, _>>()?;
    let scripts = (0..shape.connections).map(|lane| {
        let script = Script::new(scene, workload, lane, shape.window, None);
        if workload == Workload::Remove {
            script.with_removable(scene.take_removable(lane, shape.connections))
        } else {
            script
        }
    });
    let pairs: Vec<(Connection, Script<'_>)> = connections.into_iter().zip(scripts).collect();

    let before = servers.cpu();
    let began = Instant::now();
    let until = Until::Time(began + time);
    let outcomes: Vec<Result<Tally, Failure>> = std::thread::scope(|scope| {
        let run = |(mut connection, mut script): (Connection, Script<'_>)| {
            let tally = connection.run(&mut script, shape.window, until)?;
            let mut removable = scene.removable.lock();
            removable.extend(script.made.iter().map(|(number, _)| *number));
            removable.extend(script.into_removable());
            Ok(tally)
        };
        let threads: Vec<_> = pairs.into_iter().map(|pair| scope.spawn(move || run(pair))).collect();
        let lost = || Err(Failure::Broken("a thread of the load panicked"));
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| lost())).collect()
    });
    let seconds = began.elapsed().as_secs_f64();
    let after = servers.cpu();
    let tallies = outcomes.into_iter().collect::<Result<Vec<_>, _>>()?;
    Ok(sample(tallies, seconds, &before, &after))
}

fn sample(tallies: Vec<Tally>, seconds: f64, before: &Cpu, after: &Cpu) -> Sample {
    let mut latencies: Vec<u64> = tallies.iter().flat_map(|t| t.latencies_ns.iter().copied()).collect();
    latencies.sort_unstable();
    Sample {
        calls: tallies.iter().map(|t| t.calls).sum(),
        bytes: tallies.iter().map(|t| t.bytes).sum(),
        entries: tallies.iter().map(|t| t.entries).sum(),
        seconds,
        p50_ns: percentile(&latencies, 50),
        p99_ns: percentile(&latencies, 99),
        primary_cpu_s: after.primary - before.primary,
        backup_cpu_s: after.backup.zip(before.backup).map(|(after, before)| after - before),
        load_cpu_s: after.load - before.load,
    }
}
