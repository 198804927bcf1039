//! `hanfs exercise`: works on exports for a while through the built-in client, and says what the applications
//! of a client would have noticed.
//!
//! `work` is what each connection does and how it is read back; here is the clock, the report, and the verdict.
//! It writes into one new directory of each export and removes it at the end, except where something was wrong.

mod report;
#[cfg(test)]
mod tests;
mod work;

use std::net::IpAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::Severity;
use crate::client::Target;
use report::Report;
use work::Party;

/// Between two lines of progress.
const LINE: Duration = Duration::from_secs(1);

/// What to work on, and for how long.
#[derive(Debug)]
pub struct Options {
    /// `ADDRESS:/EXPORT`, each.
    pub exports: Vec<String>,
    /// Where NFS and MOUNT answer.
    pub port: u16,
    /// How long.
    pub time: Duration,
}

/// Works, reads back, judges. Ctrl-C and SIGTERM end the work early, not the judgement.
pub async fn run(options: Options) -> anyhow::Result<ExitCode> {
    let mut parties = Vec::new();
    for text in &options.exports {
        let target = target(text, options.port)?;
        println!("Mounting {text}.");
        parties.push(Party::start(target).await.with_context(|| format!("begin on {text}"))?);
    }
    let mut reports: Vec<Report> = parties.iter().map(|p| Report::new(&p.target.path)).collect();
    println!("Working on {} for {} s.", options.exports.join(" and "), options.time.as_secs());
    watch(&parties, &mut reports, options.time).await?;
    println!("Reading everything back.");
    for (party, report) in parties.into_iter().zip(&mut reports) {
        party.finish(report).await;
        println!("{}", report.text());
    }
    println!("\n{}", report::verdict(&reports));
    let passed = reports.iter().all(Report::passed);
    Ok(if passed { Severity::Ok.into() } else { Severity::Critical.into() })
}

/// A line each second, until the time is over or somebody has enough.
async fn watch(parties: &[Party], reports: &mut [Report], time: Duration) -> anyhow::Result<()> {
    let mut terminated = signal(SignalKind::terminate())?;
    let began = Instant::now();
    let mut lines = tokio::time::interval_at(tokio::time::Instant::now() + LINE, LINE);
    while began.elapsed() < time {
        tokio::select! {
            _ = lines.tick() => {}
            _ = tokio::signal::ctrl_c() => break,
            _ = terminated.recv() => break,
        }
        let seen: Vec<String> =
            parties.iter().zip(&mut *reports).map(|(p, r)| r.interval(began, p.snapshot())).collect();
        println!("{:>4} s  {}", began.elapsed().as_secs(), seen.join("  |  "));
    }
    Ok(())
}

/// An export as `mount` names it; an IPv6 address is in brackets.
fn target(text: &str, port: u16) -> anyhow::Result<Target> {
    let parsed = text.split_once(":/").and_then(|(host, path)| {
        let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        let address: IpAddr = host.parse().ok()?;
        Some(Target { address, port, path: format!("/{path}") })
    });
    parsed.ok_or_else(|| anyhow!("{text:?}: expected ADDRESS:/EXPORT, as in 10.77.0.10:/export"))
}
