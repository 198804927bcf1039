//! `hanfs drill`.

use std::process::ExitCode;
use std::time::Duration;

use super::admin::{AdminLink, Severity};
use super::args::DrillArgs;
use super::print;
use super::setup::Setup;
use crate::drill::{self, Options};

/// 0: passed, 1: failed, 2: could not be run.
pub async fn run(setup: &Setup, args: &DrillArgs) -> anyhow::Result<ExitCode> {
    match drill(setup, args).await {
        Ok(severity) => Ok(severity.into()),
        Err(error) => {
            eprintln!("hanfs: the drill was not run: {error:#}");
            Ok(Severity::Critical.into())
        }
    }
}

async fn drill(setup: &Setup, args: &DrillArgs) -> anyhow::Result<Severity> {
    let link = AdminLink::open(setup)?;
    if args.crash && !args.yes {
        anyhow::bail!(
            "--crash kills the server process of the node that serves {}: clients of all its exports will notice a pause; \
             to go ahead, say the same with --yes",
            args.export
        );
    }
    let options = Options {
        export: args.export.clone(),
        crash: args.crash,
        time: Duration::from_secs(args.seconds),
        pause_max: Duration::from_millis(args.max_pause_ms),
        crash_pause_max: Duration::from_millis(args.max_crash_pause_ms),
        below: args.dir.clone().unwrap_or_default(),
    };
    let outcome = drill::run(&link, &options).await?;
    let text = if args.json { format!("{}\n", outcome.json()) } else { outcome.text() };
    print(&text);
    Ok(if outcome.passed() { Severity::Ok } else { Severity::Warning })
}
