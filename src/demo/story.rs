//! The order of things: start, write, kill, take over, restart, catch up, give back, verify, verdict.

use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressStyle};

use super::Options;
use super::load::Load;
use super::verify::verify;
use crate::cli::{Moment, Severity, takeover_line};
use crate::client::StatsSnapshot;
use crate::cluster::{self, Cluster, Layout};
use crate::config::Durability;

/// The nodes, and the exports that are at home there.
const NODES: [&str; 2] = ["a", "b"];
/// What is exported.
const EXPORTS: [&str; 2] = ["/one", "/two"];
/// Each node serves one and mirrors the other.
const LAYOUT: Layout = Layout {
    net: [127, 0, 71],
    nodes: &NODES,
    witness: true,
    exports: &[(EXPORTS[0], NODES[0]), (EXPORTS[1], NODES[1])],
    durability: Durability::Disk,
};

/// For processes to start and elect; some 2 s are usual.
const START_PATIENCE: Duration = Duration::from_secs(60);
/// For a takeover; under 1 s is usual.
const TAKEOVER_PATIENCE: Duration = Duration::from_secs(30);
/// For a restarted node to hold everything again.
const CATCH_UP_PATIENCE: Duration = Duration::from_secs(180);
/// For both nodes to apply the last operations.
const DIGEST_PATIENCE: Duration = Duration::from_secs(30);
/// Part of the writing that is done when the node is killed, %.
const KILL_AT: u64 = 35;
/// Part of the writing that is done when it starts again, %.
const RESTART_AT: u64 = 70;
/// Calls answered after an event until its pause is known to be over.
const CALLS_AFTER: u64 = 50;
/// Between two looks at the progress.
const LOOK: Duration = Duration::from_millis(20);

/// What speaks against a PASS, and what was measured.
#[derive(Default)]
struct Record {
    failures: Vec<String>,
    files: u64,
    bytes: u64,
    longest_pause: Duration,
}

struct Stage {
    cluster: Cluster,
    loads: Vec<Load>,
    bar: ProgressBar,
    record: Record,
}

/// All of it. An error is a story that could not be told to its end.
pub async fn tell(options: &Options) -> anyhow::Result<ExitCode> {
    let dir = match &options.dir {
        Some(dir) => std::path::absolute(dir).with_context(|| format!("use {}", dir.display()))?,
        None => cluster::new_dir(None, "hanfs-demo")?,
    };
    println!(
        "Two nodes and a witness, as processes of this machine; files and logs are in {}.",
        dir.display()
    );
    let cluster = Cluster::start(&LAYOUT, &dir)?;
    let mut stage = Stage { cluster, loads: Vec::new(), bar: bar(), record: Record::default() };
    let told = stage.acts().await;
    stage.bar.finish_and_clear();
    if let Err(error) = told {
        stage.record.failures.push(format!("{error:#}"));
    }
    let passed = stage.record.failures.is_empty();
    println!("\n{}", verdict(&stage.record));
    if options.keep && passed {
        keep(stage.cluster);
    } else {
        drop(stage.cluster);
        // Somebody else's directory, and what explains a failure, stay.
        if passed && options.dir.is_none() {
            std::fs::remove_dir_all(&dir).with_context(|| format!("remove {}", dir.display()))?;
        }
    }
    Ok(if passed { Severity::Ok.into() } else { Severity::Critical.into() })
}

fn bar() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(0);
    if let Ok(style) = ProgressStyle::with_template("  {bar:30} {percent:>3}%  {msg}") {
        bar.set_style(style);
    }
    bar
}

fn verdict(record: &Record) -> String {
    if record.failures.is_empty() {
        return format!(
            "PASS: {} files, {} MiB on two exports: no error, longest pause {} ms, every byte as written, both \
             replicas equal",
            record.files,
            record.bytes >> 20,
            record.longest_pause.as_millis()
        );
    }
    format!("FAIL: {}", record.failures.join("\n      "))
}

fn keep(cluster: Cluster) {
    println!("\nThe pair keeps running. As root, on this machine:");
    for path in EXPORTS {
        if let Ok(target) = cluster.target(path) {
            let port = target.port;
            println!(
                "  mount -t nfs -o vers=3,proto=tcp,port={port},mountport={port},mountproto=tcp,nolock {}:{path} /mnt",
                target.address
            );
        }
    }
    println!("How it is:\n  hanfs --config {} --node a status", cluster.config.path.display());
    let dir = cluster.dir.clone();
    let ids: Vec<String> = cluster.release().iter().map(u32::to_string).collect();
    println!("To end it:\n  kill {}; rm -r {}", ids.join(" "), shown(&dir));
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

impl Stage {
    fn say(&self, text: &str) {
        self.bar.suspend(|| println!("{text}"));
    }

    async fn acts(&mut self) -> anyhow::Result<()> {
        let began = Instant::now();
        let line = self.cluster.wait_healthy(START_PATIENCE).await?;
        self.say(&format!("After {:.1} s {line}", began.elapsed().as_secs_f64()));
        self.start_writing().await?;
        self.wait_for_progress(KILL_AT).await?;
        self.crash().await?;
        self.wait_for_progress(RESTART_AT).await?;
        self.come_back().await?;
        self.give_back().await?;
        self.stop_writing().await;
        self.read_back().await?;
        self.compare_replicas().await
    }

    async fn start_writing(&mut self) -> anyhow::Result<()> {
        for (seed, path) in (1..).zip(EXPORTS) {
            self.loads.push(Load::start(self.cluster.target(path)?, seed).await?);
        }
        let units = self.loads.iter().map(|l| l.tree.units()).sum();
        self.bar.set_length(units);
        self.record.files = self.loads.iter().map(|l| l.tree.files()).sum();
        self.record.bytes = self.loads.iter().map(|l| l.tree.bytes()).sum();
        self.say(&format!(
            "Writing {} files, {} MiB, over NFS to {} and {}.",
            self.record.files,
            self.record.bytes >> 20,
            EXPORTS[0],
            EXPORTS[1]
        ));
        Ok(())
    }

    fn show_progress(&self) {
        self.bar.set_position(self.loads.iter().map(Load::units).sum());
        let bytes: u64 = self.loads.iter().map(Load::bytes).sum();
        self.bar.set_message(format!("{} MiB written", bytes >> 20));
    }

    /// Until so much of the writing is done, in percent, or all of it has ended.
    async fn wait_for_progress(&mut self, percent: u64) -> anyhow::Result<()> {
        let all: u64 = self.loads.iter().map(|l| l.tree.units()).sum();
        loop {
            self.show_progress();
            self.cluster.check()?;
            let done: u64 = self.loads.iter().map(Load::units).sum();
            if done * 100 >= all * percent || self.loads.iter().all(Load::written) {
                return Ok(());
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Every client has been answered since; then the slowest call is known.
    async fn wait_for_calls(&self, before: &[StatsSnapshot]) -> anyhow::Result<()> {
        let until = Instant::now() + TAKEOVER_PATIENCE;
        for (load, before) in self.loads.iter().zip(before) {
            let rounds = load.steady_rounds();
            while load.stats.snapshot().calls < before.calls + CALLS_AFTER
                || load.steady_rounds() < rounds + 2
            {
                if Instant::now() > until {
                    bail!("clients of {} get no answers: {:?}", load.target.path, load.errors());
                }
                self.show_progress();
                tokio::time::sleep(LOOK).await;
            }
        }
        Ok(())
    }

    fn measure_pauses(&self) -> Vec<StatsSnapshot> {
        self.loads.iter().for_each(|load| load.stats.forget_longest());
        self.loads.iter().map(|load| load.stats.snapshot()).collect()
    }

    fn tell_pauses(&self, before: &[StatsSnapshot]) -> Duration {
        let mut longest = Duration::ZERO;
        for (load, before) in self.loads.iter().zip(before) {
            let now = load.stats.snapshot();
            let pause = now.longest.map_or(Duration::ZERO, |pause| pause.took);
            longest = longest.max(pause);
            self.say(&format!(
                "  clients of {}: longest pause {} ms; {} connections made anew, {} calls sent again",
                load.target.path,
                pause.as_millis(),
                now.reconnects - before.reconnects,
                now.retransmissions - before.retransmissions
            ));
        }
        longest
    }

    async fn crash(&mut self) -> anyhow::Result<()> {
        let before = self.measure_pauses();
        let victims: Vec<String> = self.cluster.kill(0).iter().map(u32::to_string).collect();
        self.say(&format!(
            "kill -9 {}: node {} is gone, in the middle of it all.",
            victims.join(" "),
            NODES[0]
        ));
        let export = self.cluster.wait_served_by(NODES[1], EXPORTS[0], TAKEOVER_PATIENCE).await?;
        if let Some(line) = takeover_line(NODES[1], &export, &Moment::now()) {
            self.say(&format!("  {line}"));
        }
        self.wait_for_calls(&before).await?;
        self.record.longest_pause = self.tell_pauses(&before);
        Ok(())
    }

    async fn come_back(&mut self) -> anyhow::Result<()> {
        self.say(&format!("Node {} starts again.", NODES[0]));
        self.cluster.restart(0)?;
        let began = Instant::now();
        let mut most_behind = 0;
        for path in EXPORTS {
            loop {
                self.show_progress();
                self.cluster.check()?;
                if let Some((_, export)) = self.cluster.export_on(NODES[1], path).await {
                    most_behind = most_behind.max(export.last_index.saturating_sub(export.backup_index));
                    if export.backup_in_sync && export.solo_since_ns == 0 {
                        break;
                    }
                }
                if began.elapsed() > CATCH_UP_PATIENCE {
                    let words = self.cluster.last_words();
                    bail!("{path} is not in sync after {} s\n{words}", CATCH_UP_PATIENCE.as_secs());
                }
                tokio::time::sleep(LOOK).await;
            }
        }
        self.say(&format!(
            "  it was {most_behind} operations behind and is in sync again after {:.1} s, while the clients went on",
            began.elapsed().as_secs_f64()
        ));
        Ok(())
    }

    async fn give_back(&mut self) -> anyhow::Result<()> {
        let before = self.measure_pauses();
        let path = EXPORTS[0];
        self.say(&format!("{path} goes back to node {}.", NODES[0]));
        self.cluster.giveback(path).await?;
        let export = self.cluster.wait_served_by(NODES[0], path, TAKEOVER_PATIENCE).await?;
        if let Some(line) = takeover_line(NODES[0], &export, &Moment::now()) {
            self.say(&format!("  {line}"));
        }
        self.wait_for_calls(&before).await?;
        let pause = self.tell_pauses(&before);
        self.record.longest_pause = self.record.longest_pause.max(pause);
        Ok(())
    }

    async fn stop_writing(&mut self) {
        while !self.loads.iter().all(Load::written) {
            self.show_progress();
            tokio::time::sleep(LOOK).await;
        }
        for load in &mut self.loads {
            load.finish().await;
            let path = &load.target.path;
            self.record.failures.extend(load.errors().iter().take(5).map(|e| format!("{path}: {e}")));
            if load.unstable() > 0 {
                let text = format!("{path}: {} WRITEs were not answered as stable", load.unstable());
                self.record.failures.push(text);
            }
        }
        self.show_progress();
    }

    async fn read_back(&mut self) -> anyhow::Result<()> {
        self.say("Reading everything back.");
        for load in &self.loads {
            let path = &load.target.path;
            let found =
                verify(&load.target, &load.tree).await.with_context(|| format!("read {path} back"))?;
            self.record.failures.extend(found.told().iter().map(|d| format!("{path}: {d}")));
            self.say(&format!(
                "  {path}: {} files, {} MiB compared, {} differences",
                found.files,
                found.bytes >> 20,
                found.differences.len()
            ));
        }
        Ok(())
    }

    /// The nodes digest their state at fixed indexes; equal digests at an equal index are equal replicas.
    async fn compare_replicas(&mut self) -> anyhow::Result<()> {
        for path in EXPORTS {
            let until = Instant::now() + DIGEST_PATIENCE;
            loop {
                let (a, b) = tokio::join!(
                    self.cluster.export_on(NODES[0], path),
                    self.cluster.export_on(NODES[1], path)
                );
                if let (Some((_, a)), Some((_, b))) = (a, b)
                    && a.digest_index == b.digest_index
                    && a.digest_index != 0
                {
                    let (index, one, other) = (a.digest_index, a.digest, b.digest);
                    if one != other {
                        let text =
                            format!("{path}: the replicas differ at index {index}: {one:016x}, {other:016x}");
                        self.record.failures.push(text);
                    } else {
                        self.say(&format!("  {path}: both replicas have digest {one:016x} at index {index}"));
                    }
                    break;
                }
                if Instant::now() > until {
                    bail!("{path}: the nodes give no digests of the same index");
                }
                tokio::time::sleep(LOOK).await;
            }
        }
        Ok(())
    }
}
