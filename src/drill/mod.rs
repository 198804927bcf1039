//! `hanfs drill`: a real takeover and giveback under a load of its own, and what a client saw of it.
//!
//! `probe` is the load, `verdict` the judgement; here are the orders and the waiting. Nothing is moved before every check of
//! `takeover --check` has passed; whatever happens then, the probe's directory is removed, within a time and as far as a second
//! Ctrl-C lets it. What was moved and does not come back stays where it is, and the drill says so.

mod address;
mod probe;
mod verdict;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use proto::admin::{CrashRequest, ExportStatus, TakeoverReport, TakeoverRequest, TakeoverResult};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::cli::AdminLink;
use crate::client::Target;
use crate::config::Export;
use probe::{Place, Probe};
pub use verdict::{Findings, Move, Outcome};

/// Load before the first move, and between and after the moves.
const SETTLE: Duration = Duration::from_secs(1);
/// For the probe to compare and remove everything.
const FINISH_MAX: Duration = Duration::from_secs(30);
/// Going back is tried for so long at least, whatever time the way there took.
const RETURN_MIN: Duration = Duration::from_secs(10);
/// For what has gone back to be served there.
const SERVED_MAX: Duration = Duration::from_secs(3);
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
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for Ctrl-C")?;
    let mut probe = Probe::new(drill.place());
    let mut outcome = Outcome { export: drill.export.path.clone(), ..Outcome::default() };
    let worked = tokio::select! {
        worked = drill.work(&mut probe, &mut outcome) => worked,
        _ = interrupt.recv() => {
            outcome.others.push("interrupted".to_owned());
            Ok(())
        }
    };
    outcome.findings = finish(probe, &mut interrupt).await;
    if let Err(error) = worked {
        let leftover = outcome.findings.leftover.map(|text| format!("; {text}")).unwrap_or_default();
        bail!("{error:#}{leftover}");
    }
    tokio::select! {
        stays = drill.stays() => outcome.others.extend(stays),
        _ = interrupt.recv() => outcome.others.push("interrupted again: see `hanfs status` for who serves what".to_owned()),
    }
    Ok(outcome)
}

/// Until it is done, a second Ctrl-C, or for as long as that may take.
async fn finish(mut probe: Probe, interrupt: &mut Signal) -> Findings {
    let late = format!("that took longer than {} s", FINISH_MAX.as_secs());
    let broken_off = tokio::select! {
        done = tokio::time::timeout(FINISH_MAX, probe.finish()) => done.err().map(|_| late),
        _ = interrupt.recv() => Some("interrupted".to_owned()),
    };
    probe.findings(broken_off.as_deref())
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
        Place {
            target,
            source: address::own(config, self.export.vip.address),
            below: self.options.below.clone(),
        }
    }

    /// The probe, and what is done to it. An error is why it could not begin.
    async fn work(&self, probe: &mut Probe, outcome: &mut Outcome) -> anyhow::Result<()> {
        let Self { export, sides, .. } = self;
        let place = || format!("start the probe on {}:{}", export.vip.address, export.path);
        probe.start().await.with_context(place)?;
        eprintln!(
            "{} is on {}; the probe works in {}. Takeover by {}, then back.",
            export.path,
            sides.from,
            probe.directory(),
            sides.to
        );
        self.moves(probe, outcome).await;
        Ok(())
    }

    /// There and back; back also where only the probe had trouble.
    async fn moves(&self, probe: &mut Probe, outcome: &mut Outcome) {
        tokio::time::sleep(SETTLE).await;
        let Sides { from, to } = &self.sides;
        // Where it is given back by itself, that may have happened before the first move is judged.
        let home_before = self.last_takeover(from).await;
        let there_before = self.last_takeover(to).await;
        let there = self.one(probe, format!("takeover by {to}"), to, there_before, self.options.crash).await;
        let obeyed = there.obeyed;
        outcome.moves.push(there);
        if !obeyed {
            return;
        }
        if let Err(why) = self.can_return().await {
            outcome.others.push(format!("{from} does not get its exports back: {why}"));
            return;
        }
        outcome.moves.push(self.one(probe, format!("back to {from}"), from, home_before, false).await);
        for path in self.paths.iter().filter(|path| **path != self.export.path) {
            let done = self.order(from, std::slice::from_ref(path), false).await;
            let why = match done {
                Ok(results) => results.into_iter().find(|result| !result.ok).map(|result| result.message),
                Err(error) => Some(format!("{error:#}")),
            };
            outcome.others.extend(why.map(|why| format!("{path} does not go back to {from}: {why}")));
        }
    }

    /// Who serves what, as both nodes say; a node that does not answer serves nothing.
    async fn served(&self) -> HashMap<String, String> {
        let mut served = HashMap::new();
        for node in [&self.sides.to, &self.sides.from] {
            for path in self.served_by(node).await {
                served.insert(path, node.clone());
            }
        }
        served
    }

    async fn served_by(&self, node: &str) -> Vec<String> {
        let exports = self.link.status_of(node).await.map(|status| status.exports).unwrap_or_default();
        let serving = exports.into_iter().filter(|e| e.role == "primary" && e.serving);
        serving.map(|e| e.path).collect()
    }

    /// What is not where it was, and what brings it back.
    async fn stays(&self) -> Vec<String> {
        let until = Instant::now() + SERVED_MAX;
        loop {
            let served = self.served().await;
            let (config, from) = (self.link.config(), &self.sides.from);
            let is_home = |path: &str| config.export(path).is_some_and(|export| export.home == *from);
            let stays = stays(from, &self.paths, &served, is_home);
            if stays.is_empty() || Instant::now() >= until {
                return stays;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    fn left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }

    /// One move, and everything that is measured of it.
    ///
    /// `before` is when the last takeover by that node was. It may serve again already.
    async fn one(&self, probe: &mut Probe, what: String, to: &str, before: u64, crash: bool) -> Move {
        let pause_max = if crash { self.options.crash_pause_max } else { self.options.pause_max };
        let mut seen = Move { what, crash, pause_max, ..Move::default() };
        let done_already = self.served_by(to).await.contains(&self.export.path);
        if !done_already {
            probe.forget_pause();
        }
        let ordered = if crash { self.crash().await } else { self.take_over(to).await };
        if let Err(error) = ordered {
            seen.failure = Some(format!("{error:#}"));
            return seen;
        }
        seen.obeyed = true;
        match probe.pause(self.left().max(SETTLE)).await {
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
        if let Ok(pause) = probe.pause(self.left().max(SETTLE)).await {
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

    /// When that was; 0: never.
    async fn last_takeover(&self, node: &str) -> u64 {
        self.report(node).await.map_or(0, |report| report.at_ns)
    }

    /// The new primary's report of a takeover after that one, once it is complete. It stays incomplete where the export has gone back by
    /// itself before a client was answered.
    async fn finished(&self, node: &str, before_ns: u64) -> Option<TakeoverReport> {
        loop {
            let report = self.report(node).await.filter(|report| report.at_ns != before_ns);
            let complete = |r: &TakeoverReport| r.first_reply_us != 0;
            if report.as_ref().is_some_and(complete) || self.left().is_zero() {
                return report;
            }
            if report.is_some() && !self.served_by(node).await.contains(&self.export.path) {
                return report;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until the old primary can have its exports back, those that it does not serve again already.
    async fn can_return(&self) -> anyhow::Result<()> {
        let until = self.until.max(Instant::now() + RETURN_MIN);
        loop {
            let home = self.served_by(&self.sides.from).await;
            let away: Vec<String> = self.paths.iter().filter(|path| !home.contains(path)).cloned().collect();
            if away.is_empty() {
                return Ok(());
            }
            let checks = self.order(&self.sides.from, &away, true).await;
            let why = match checks {
                Ok(checks) => match refusal(&checks) {
                    None => return Ok(()),
                    Some(why) => anyhow!(why),
                },
                Err(error) => error,
            };
            if Instant::now() >= until {
                return Err(why);
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// Of each path that `from` does not serve: where it is, and the order that brings it back.
fn stays(
    from: &str,
    paths: &[String],
    served: &HashMap<String, String>,
    is_home: impl Fn(&str) -> bool,
) -> Vec<String> {
    let one = |path: &String| {
        let back = format!("hanfs --node {from} takeover {path}");
        let order = if is_home(path) { format!("hanfs giveback {path}") } else { back };
        match served.get(path) {
            Some(node) if node == from => None,
            Some(node) => Some(format!("{path} stays on {node}: `{order}`")),
            None => {
                Some(format!("{path} is served by nobody that answers: see `hanfs status`, then `{order}`"))
            }
        }
    };
    paths.iter().filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    //! Goal: who has drilled knows what is not where it was. Method: what both nodes serve, by hand.

    use super::*;

    #[test]
    fn what_is_not_where_it_was_is_told() {
        let paths: Vec<String> = ["/one", "/two", "/three", "/four"].map(String::from).into();
        let served = [("/one", "a"), ("/two", "b"), ("/three", "b")];
        let served = served.map(|(path, node)| (path.to_owned(), node.to_owned())).into();
        assert_eq!(
            stays("a", &paths, &served, |path| path == "/two"),
            [
                "/two stays on b: `hanfs giveback /two`",
                "/three stays on b: `hanfs --node a takeover /three`",
                "/four is served by nobody that answers: see `hanfs status`, then `hanfs --node a takeover /four`",
            ]
        );
    }
}
