//! `hanfs status`.

use std::process::ExitCode;
use std::time::Duration;

use super::admin::{AdminLink, Severity};
use super::args::StatusArgs;
use super::setup::Setup;
use super::time::Moment;
use super::{is_terminal, json, print, render};

/// Between two pictures of `-w`.
const REDRAW: Duration = Duration::from_secs(1);
/// Clears a terminal and goes to its upper left corner.
const CLEAR: &str = "\x1b[H\x1b[2J";

/// Asks, shows, and exits with the health.
pub async fn run(setup: &Setup, args: &StatusArgs) -> anyhow::Result<ExitCode> {
    let link = AdminLink::open(setup)?;
    loop {
        let views = link.views().await;
        let moment = Moment::now();
        let health = render::health(&views, &moment);
        let text = if args.json {
            format!("{}\n", json::status(&views, &health))
        } else {
            render::page(&views, &health, &moment)
        };
        let clear = if args.watch && is_terminal() { CLEAR } else { "" };
        let read = print(&format!("{clear}{text}"));
        if !args.watch || !read {
            return Ok(health.severity.into());
        }
        tokio::select! {
            () = tokio::time::sleep(REDRAW) => {}
            _ = tokio::signal::ctrl_c() => return Ok(Severity::Ok.into()),
        }
    }
}
