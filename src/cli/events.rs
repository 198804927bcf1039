//! `hanfs events`.

use std::process::ExitCode;

use proto::admin::{Event, EventsRequest};

use super::admin::{AdminLink, Severity, refused};
use super::args::EventsArgs;
use super::print;
use super::setup::Setup;
use super::time::Moment;

/// Shows a node's history, and waits for more if asked to.
pub async fn run(setup: &Setup, args: &EventsArgs) -> anyhow::Result<ExitCode> {
    let link = AdminLink::open(setup)?;
    let (node, mut client, note) = link.connect_any().await?;
    if let Some(note) = note {
        eprintln!("hanfs: {note}");
    }
    let request = EventsRequest { follow: args.follow, after: 0, limit: args.newest };
    let mut events = client.events(request).await.map_err(|status| refused(&node, &status))?.into_inner();
    while let Some(event) = events.message().await.map_err(|status| refused(&node, &status))? {
        if !print(&line(&event, &Moment::now())) {
            break;
        }
    }
    Ok(Severity::Ok.into())
}

/// `2026-11-22 12:03:11 WARNING /export: runs solo`.
pub fn line(event: &Event, moment: &Moment) -> String {
    let at = moment.full(event.at_ns);
    let level = event.level.to_uppercase();
    if event.export.is_empty() {
        format!("{at} {level:7} {}\n", event.text)
    } else {
        format!("{at} {level:7} {}: {}\n", event.export, event.text)
    }
}
