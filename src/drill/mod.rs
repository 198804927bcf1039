//! `hanfs drill`: a real takeover and giveback under a load of its own, and what a client saw of it.
//!
//! `probe` is the load, `verdict` the judgement; here are the orders and the waiting. Nothing is moved before every check of
//! `takeover --check` has passed; whatever happens then, the probe's directory is removed. What was moved and does not
//! come back by itself stays where it is, and the drill says so.

mod probe;
mod verdict;

use std::net::{IpAddr, TcpListener};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use proto::admin::{CrashRequest, ExportStatus, TakeoverReport, TakeoverRequest, TakeoverResult};

use crate::cli::AdminLink;
use crate::client::Target;
use crate::config::{Config, Driver, Export};
use probe::{Place, Probe};
pub use verdict::{Findings, Move, Outcome};

/// Load before the first move, and between and after the moves.
const SETTLE: Duration = Duration::from_secs(1);
/// Between two looks at a node's status.
const LOOK: Duration = Duration::from_millis(50);

/// What to do.
#[derive(Debug, Clone)]
pub struct Options {
    /// Path or id.
    pub export: String,
    /// Kill the primary's server instead of asking it.
    pub crash: bool,
    /// The drill ends after this long, with whatever has happened.
    pub time: Duration,
    /// What clients may have to wait at a planned move.
    pub pause_max: Duration,
    /// And at a crash.
    pub crash_pause_max: Duration,
    /// Directory of the export in which the probe makes its own; empty: the root.
    pub below: String,
}

/// Who serves the export, and who is to.
struct Sides {
    from: String,
    to: String,
}

struct Drill<'a> {
    link: &'a AdminLink,
    options: &'a Options,
    export: Export,
    sides: Sides,
    /// All that moves: in a planned drill the export alone, in a crash all that the primary serves.
    paths: Vec<String>,
    until: Instant,
}

/// Does it. An error is why it could not be done; what came of one that was done is the outcome.
pub async fn run(link: &AdminLink, options: &Options) -> anyhow::Result<Outcome> {
    let drill = Drill::prepare(link, options).await?;
    let place = drill.place();
    let vip = drill.export.vip.address;
    let starting = Probe::start(place);
    let mut probe =
        starting.await.with_context(|| format!("start the probe on {vip}:{}", drill.export.path))?;
    eprintln!(
        "{} is on {}; the probe works in {}. Takeover by {}, then back.",
        drill.export.path,
        drill.sides.from,
        probe.directory(),
        drill.sides.to
    );
    let mut outcome = Outcome { export: drill.export.path.clone(), ..Outcome::default() };
    tokio::select! {
        () = drill.moves(&mut probe, &mut outcome) => {}
        _ = tokio::signal::ctrl_c() => outcome.others.push("interrupted".to_owned()),
    }
    outcome.findings = probe.finish().await;
    Ok(outcome)
}

/// The refusal of a check, in words.
fn refusal(results: &[TakeoverResult]) -> Option<String> {
    let failed = results.iter().flat_map(|result| {
        result.checks.iter().filter(|check| !check.ok).map(|check| {
            let why = if check.detail.is_empty() { String::new() } else { format!(" ({})", check.detail) };
            format!("{}: not so: {}{why}", result.export, check.name)
        })
    });
    let failed: Vec<String> = failed.collect();
    (!failed.is_empty()).then(|| failed.join("; "))
}

impl<'a> Drill<'a> {
    /// Finds out who is who, and whether all is well enough.
    async fn prepare(link: &'a AdminLink, options: &'a Options) -> anyhow::Result<Self> {
        let config = link.config();
        let export = config.export(&options.export).cloned();
        let export = export.ok_or_else(|| anyhow!("there is no export {}", options.export))?;
        if config.nodes.len() < 2 {
            bail!("a cluster of one node has nothing to take over");
        }
        let mut served: Vec<(String, Vec<String>)> = Vec::new();
        for node in &config.nodes {
            let status = link.status_of(&node.name).await?;
            let leads = status.exports.iter().filter(|e| e.role == "primary" && e.serving);
            served.push((node.name.clone(), leads.map(|e| e.path.clone()).collect()));
        }
        let found = served.into_iter().find(|(_, paths)| paths.contains(&export.path));
        let (from, served) =
            found.ok_or_else(|| anyhow!("{} is served by nobody: see `hanfs status`", export.path))?;
        let to = config.peer_of(&from).map(|n| n.name.clone()).unwrap_or_default();
        let paths = if options.crash { served } else { vec![export.path.clone()] };
        let until = Instant::now() + options.time;
        let drill = Self { link, options, export, sides: Sides { from, to }, paths, until };
        let checks = drill.order(&drill.sides.to, &drill.paths, true).await?;
        match refusal(&checks) {
            None => Ok(drill),
            Some(why) => bail!("{} cannot take over: {why}", drill.sides.to),
        }
    }

    fn place(&self) -> Place {
        let config = self.link.config();
        let target = Target {
            address: self.export.vip.address,
            port: config.network.nfs_port,
            path: self.export.path.clone(),
        };
        Place { target, source: own_address(config), below: self.options.below.clone() }
    }

    /// There and back.
    async fn moves(&self, probe: &mut Probe, outcome: &mut Outcome) {
        tokio::time::sleep(SETTLE).await;
        let Sides { from, to } = &self.sides;
        let there = self.one(probe, format!("takeover by {to}"), to, self.options.crash).await;
        let done = there.failure.is_none();
        outcome.moves.push(there);
        if !done {
            return;
        }
        if let Err(why) = self.can_return().await {
            outcome.others.push(format!("{from} does not get its exports back: {why}"));
            return;
        }
        outcome.moves.push(self.one(probe, format!("back to {from}"), from, false).await);
        for path in self.paths.iter().filter(|path| **path != self.export.path) {
            let done = self.order(from, std::slice::from_ref(path), false).await;
            match done.as_deref() {
                Ok([result]) if result.ok => {}
                Ok([result]) => outcome.others.push(format!("{path} stays on {to}: {}", result.message)),
                Ok(_) => outcome.others.push(format!("{path} stays on {to}")),
                Err(error) => outcome.others.push(format!("{path} stays on {to}: {error:#}")),
            }
        }
    }

    fn left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }

    /// One move, and everything that is measured of it.
    async fn one(&self, probe: &mut Probe, what: String, to: &str, crash: bool) -> Move {
        let pause_max = if crash { self.options.crash_pause_max } else { self.options.pause_max };
        let mut seen = Move { what, crash, pause_max, ..Move::default() };
        let before = self.report(to).await.map_or(0, |report| report.at_ns);
        probe.forget_pause();
        let ordered = if crash { self.crash().await } else { self.take_over(to).await };
        if let Err(error) = ordered {
            seen.failure = Some(format!("{error:#}"));
            return seen;
        }
        match probe.pause(self.left()).await {
            Ok(pause) => seen.pause = Some(pause),
            Err(why) => {
                seen.failure = Some(why);
                return seen;
            }
        }
        seen.report = self.finished(to, before).await;
        if seen.report.is_none() {
            seen.failure = Some(format!("{to} does not say that it has taken over"));
        }
        tokio::time::sleep(SETTLE).await;
        // Late pauses count, and late clients come back.
        if let Ok(pause) = probe.pause(self.left()).await {
            seen.pause = seen.pause.max(Some(pause));
        }
        if let Some(report) = self.report(to).await.filter(|report| report.at_ns != before) {
            seen.report = Some(report);
        }
        seen.lock_held = probe.lock_is_held().await;
        seen
    }

    async fn order(
        &self,
        node: &str,
        exports: &[String],
        check: bool,
    ) -> anyhow::Result<Vec<TakeoverResult>> {
        let mut client = self.link.connect(node).await?;
        let request = TakeoverRequest { exports: exports.to_vec(), check, ..TakeoverRequest::default() };
        let reply = client.takeover(request).await.map_err(|s| anyhow!("node {node}: {}", s.message()))?;
        Ok(reply.into_inner().results)
    }

    async fn take_over(&self, node: &str) -> anyhow::Result<()> {
        let results = self.order(node, std::slice::from_ref(&self.export.path), false).await?;
        match results.iter().find(|result| !result.ok) {
            None => Ok(()),
            Some(failed) => Err(anyhow!("{}", failed.message)),
        }
    }

    async fn crash(&self) -> anyhow::Result<()> {
        let mut client = self.link.connect(&self.sides.from).await?;
        match client.crash(CrashRequest { confirmed: true }).await {
            Err(status)
                if matches!(status.code(), tonic::Code::PermissionDenied | tonic::Code::Unimplemented) =>
            {
                bail!("node {}: {}", self.sides.from, status.message())
            }
            // It may be dead before its answer has left.
            _ => Ok(()),
        }
    }

    async fn status(&self, node: &str) -> Option<ExportStatus> {
        let status = self.link.status_of(node).await.ok()?;
        status.exports.into_iter().find(|e| e.path == self.export.path)
    }

    async fn report(&self, node: &str) -> Option<TakeoverReport> {
        self.status(node).await?.last_takeover
    }

    /// The new primary's report of a takeover after that one, once it is complete.
    async fn finished(&self, node: &str, before_ns: u64) -> Option<TakeoverReport> {
        loop {
            let report = self.report(node).await.filter(|report| report.at_ns != before_ns);
            if report.as_ref().is_some_and(|r| r.first_reply_us != 0) || self.left().is_zero() {
                return report;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until the old primary can have its exports back.
    async fn can_return(&self) -> anyhow::Result<()> {
        loop {
            let checks = self.order(&self.sides.from, &self.paths, true).await;
            let why = match checks {
                Ok(checks) => match refusal(&checks) {
                    None => return Ok(()),
                    Some(why) => anyhow!(why),
                },
                Err(error) => error,
            };
            if self.left().is_zero() {
                return Err(why);
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// On a node the probe must not come from the virtual IP, which goes away with the takeover and is what the kernel chooses
/// for a connection to it: so from the node's own address. Elsewhere the kernel chooses.
fn own_address(config: &Config) -> Option<IpAddr> {
    if config.network.driver == Driver::Loopback {
        return None;
    }
    config.nodes.iter().map(|node| node.address.ip()).find(|ip| TcpListener::bind((*ip, 0)).is_ok())
}
