//! `hanfs bench`: what replication costs. One node without a peer and a replicated pair with a witness, as
//! processes of this machine, take turns under the same load.
//!
//! `workload` names the loads, `scene` makes what they work on, `script` says what is called and what has to be
//! answered, `wire` encodes and decodes, `connection` keeps a window of calls outstanding, `measure` is one run,
//! `stats`, `machine` and `report` make figures of it; here is the order of things.
//!
//! Both contenders run all the time and are loaded one at a time, workload by workload, in an order that
//! changes with each round, so that whatever else the machine does hits both alike. A run in which a call fails
//! does not count, and makes the whole benchmark fail. Every process is killed by its id at the end.

mod connection;
mod machine;
mod measure;
mod report;
mod scene;
mod script;
mod stats;
#[cfg(test)]
mod tests;
mod wire;
mod workload;

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::Severity;
use crate::cluster::{self, Cluster, Layout};
use crate::config::Durability;
use measure::{Servers, measure};
use report::{Report, Row};
use scene::Scene;
use stats::Sample;
use workload::{SHAPES, Shape};

pub use workload::Workload;

/// For processes to start and elect; some 2 s are usual.
const START_PATIENCE: Duration = Duration::from_secs(60);
/// Runs that may fail before it is no use going on.
const FAILURES_MAX: usize = 5;
/// What is exported.
const EXPORT: &str = "/bench";

/// How figures are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// For a terminal.
    Table,
    /// For programs.
    Json,
    /// For docs/benchmarks.md.
    Markdown,
}

/// `hanfs bench`'s options.
#[derive(Debug)]
pub struct Options {
    /// Of one run.
    pub time: Duration,
    /// Runs of each row.
    pub rounds: u32,
    /// None: all.
    pub only: Vec<Workload>,
    /// Of the exports.
    pub durability: Durability,
    /// How figures are shown.
    pub form: Form,
    /// In which directory a new one is made; none: the one for temporary files.
    pub dir: Option<PathBuf>,
}

/// Measures, or stops where it is.
pub async fn run(options: Options) -> anyhow::Result<ExitCode> {
    let mut terminated = signal(SignalKind::terminate())?;
    let mut hung_up = signal(SignalKind::hangup())?;
    tokio::select! {
        code = compare(&options) => code,
        _ = tokio::signal::ctrl_c() => stopped(),
        _ = terminated.recv() => stopped(),
        _ = hung_up.recv() => stopped(),
    }
}

fn stopped() -> anyhow::Result<ExitCode> {
    eprintln!("Stopped; all processes of the benchmark are ended.");
    Ok(Severity::Unknown.into())
}

/// A directory that is removed in the end, unless somebody has to look into it.
struct Scratch {
    path: PathBuf,
    keep: bool,
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.keep {
            eprintln!("Logs and files are left in {}.", self.path.display());
        } else if let Err(error) = std::fs::remove_dir_all(&self.path) {
            eprintln!("hanfs: remove {}: {error}", self.path.display());
        }
    }
}

async fn compare(options: &Options) -> anyhow::Result<ExitCode> {
    // Dropped last, after the processes that use it.
    let mut scratch = Scratch { path: cluster::new_dir(options.dir.as_deref(), "hanfs-bench")?, keep: false };
    let report = rounds(options, &scratch.path).await;
    scratch.keep = !report.as_ref().is_ok_and(|report| report.failures.is_empty());
    let report = report?;
    match options.form {
        Form::Table => print!("{}", report.text()),
        Form::Json => println!("{}", report.json()),
        Form::Markdown => print!("{}", report.markdown()),
    }
    let passed = report.failures.is_empty();
    Ok(if passed { Severity::Ok.into() } else { Severity::Critical.into() })
}

async fn rounds(options: &Options, dir: &Path) -> anyhow::Result<Report> {
    let fdatasync_us = machine::fdatasync_us(dir).with_context(|| format!("write to {}", dir.display()))?;
    let mut contenders = [
        Contender::start("the unreplicated node", &layout(false, options.durability), &dir.join("alone"))
            .await?,
        Contender::start("the pair", &layout(true, options.durability), &dir.join("pair")).await?,
    ];
    let mut report = Report {
        machine: machine::describe(dir),
        fdatasync_us,
        durability: options.durability,
        seconds: options.time.as_secs_f64(),
        rounds: options.rounds,
        rows: rows(&options.only),
        failures: Vec::new(),
    };
    let bar = bar(u64::from(options.rounds) * report.rows.len() as u64);
    for round in 0..options.rounds {
        for row in &mut report.rows {
            bar.set_message(row.workload.name());
            for turn in 0..2 {
                // Who goes first changes: the other one is measured while the first still tidies up.
                let which = (turn + round as usize) % 2;
                let samples = if which == 0 { &mut row.unreplicated } else { &mut row.replicated };
                let Some(contender) = contenders.get_mut(which) else { continue };
                match contender.measure(row.workload, row.shape, options.time).await {
                    Ok(sample) => samples.push(sample),
                    Err(error) => {
                        let name = row.workload.name();
                        report.failures.push(format!("{name}, {}, round {round}: {error:#}", contender.name));
                        if report.failures.len() >= FAILURES_MAX {
                            return Ok(report);
                        }
                        contender.prepare().await?;
                    }
                }
            }
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    Ok(report)
}

fn rows(only: &[Workload]) -> Vec<Row> {
    let wanted = Workload::value_variants().iter().filter(|w| only.is_empty() || only.contains(w));
    let row = |workload, shape| Row { workload, shape, unreplicated: Vec::new(), replicated: Vec::new() };
    // One shape after the other: `remove` of a shape needs what `create` of the same shape made.
    let wanted: Vec<Workload> = wanted.copied().collect();
    SHAPES.iter().flat_map(|shape| wanted.iter().map(|w| row(*w, *shape))).collect()
}

fn bar(rows: u64) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(rows);
    if let Ok(style) = ProgressStyle::with_template("  {bar:30} {percent:>3}%  {msg}") {
        bar.set_style(style);
    }
    bar
}

fn layout(pair: bool, durability: Durability) -> Layout {
    Layout {
        net: if pair { [127, 0, 73] } else { [127, 0, 72] },
        nodes: if pair { &["a", "b"] } else { &["a"] },
        witness: pair,
        exports: &[(EXPORT, "a")],
        durability,
    }
}

/// A cluster and what the load works on in it.
struct Contender {
    name: &'static str,
    cluster: Cluster,
    mirrored: bool,
    scene: Option<Arc<Scene>>,
    scenes: u32,
}

impl Contender {
    async fn start(name: &'static str, layout: &Layout, dir: &Path) -> anyhow::Result<Self> {
        let cluster = Cluster::start(layout, dir).with_context(|| format!("start {name}"))?;
        let mirrored = layout.nodes.len() > 1;
        let mut contender = Self { name, cluster, mirrored, scene: None, scenes: 0 };
        contender.prepare().await?;
        Ok(contender)
    }

    /// Waits until all is well and makes a new directory to work in.
    async fn prepare(&mut self) -> anyhow::Result<()> {
        self.cluster.wait_healthy(START_PATIENCE).await.with_context(|| self.name)?;
        let target = self.cluster.target(EXPORT)?;
        let name = format!("scene{}", self.scenes);
        self.scenes += 1;
        let scene = tokio::task::spawn_blocking(move || Scene::prepare(&target, &name)).await?;
        let scene =
            scene.with_context(|| format!("prepare {}:\n{}", self.name, self.cluster.last_words()))?;
        self.scene = Some(Arc::new(scene));
        Ok(())
    }

    async fn measure(&mut self, workload: Workload, shape: Shape, time: Duration) -> anyhow::Result<Sample> {
        self.cluster.check()?;
        let Some(scene) = self.scene.clone() else { bail!("{} has nothing to work on", self.name) };
        let servers = Servers {
            primary: self.cluster.server_ids(0),
            backup: self.mirrored.then(|| self.cluster.server_ids(1)),
        };
        let run = move || measure(&scene, workload, shape, time, &servers);
        Ok(tokio::task::spawn_blocking(run).await??)
    }
}
