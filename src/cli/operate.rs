//! `hanfs takeover` and `hanfs giveback`.

use std::process::ExitCode;

use proto::admin::admin_client::AdminClient;
use proto::admin::{TakeoverReply, TakeoverRequest, TakeoverResult};
use tonic::transport::Channel;

use super::admin::{AdminLink, Severity, refused};
use super::args::{GivebackArgs, TakeoverArgs};
use super::print;
use super::setup::Setup;
use super::time::millis;

/// The node that is asked takes over, so there is no falling back to the other one.
pub async fn takeover(setup: &Setup, args: &TakeoverArgs) -> anyhow::Result<ExitCode> {
    let link = AdminLink::open(setup)?;
    let node = link.first().to_owned();
    let mut client = link.connect(&node).await?;
    let request = TakeoverRequest {
        exports: args.exports.clone(),
        all: args.all,
        check: args.check,
        force: args.force,
        confirmed: false,
        giveback: false,
    };
    let reply = call(&node, &mut client, request.clone()).await?;
    if args.check {
        print(&checks(&reply, &node));
        return Ok(severity(&reply, Severity::Warning).into());
    }
    if !args.force {
        print(&results(&reply));
        return Ok(severity(&reply, Severity::Critical).into());
    }
    print(&discards(&reply, &node));
    if !args.yes {
        print("Nothing was done. To go ahead, say the same with --yes.\n");
        return Ok(Severity::Warning.into());
    }
    let reply = call(&node, &mut client, TakeoverRequest { confirmed: true, ..request }).await?;
    print(&results(&reply));
    Ok(severity(&reply, Severity::Critical).into())
}

/// Either node can give the order.
pub async fn giveback(setup: &Setup, args: &GivebackArgs) -> anyhow::Result<ExitCode> {
    let link = AdminLink::open(setup)?;
    let (node, mut client, note) = link.connect_any().await?;
    if let Some(note) = note {
        eprintln!("hanfs: {note}");
    }
    let request = TakeoverRequest {
        exports: args.exports.clone(),
        all: args.all,
        giveback: true,
        ..TakeoverRequest::default()
    };
    let reply = call(&node, &mut client, request).await?;
    print(&results(&reply));
    Ok(severity(&reply, Severity::Critical).into())
}

async fn call(
    node: &str,
    client: &mut AdminClient<Channel>,
    request: TakeoverRequest,
) -> anyhow::Result<TakeoverReply> {
    let reply = client.takeover(request).await.map_err(|status| refused(node, &status))?;
    Ok(reply.into_inner())
}

fn severity(reply: &TakeoverReply, failed: Severity) -> Severity {
    if reply.results.iter().all(|result| result.ok) { Severity::Ok } else { failed }
}

/// One line an export, with the checks that failed below it.
pub fn results(reply: &TakeoverReply) -> String {
    let mut text = String::new();
    for result in &reply.results {
        if result.ok {
            let took =
                if result.took_us > 0 { format!(" ({})", millis(result.took_us)) } else { String::new() };
            text.push_str(&format!("{}: {}{took}\n", result.export, result.message));
        } else {
            text.push_str(&format!("{}: FAILED{}\n", result.export, after_colon(&result.message)));
            text.push_str(&check_lines(result, false));
        }
    }
    nothing_if_empty(text)
}

/// `--check`: every precondition of every export.
pub fn checks(reply: &TakeoverReply, node: &str) -> String {
    let mut text = String::new();
    for result in &reply.results {
        let word = if result.ok { "can take it over" } else { "cannot take it over" };
        text.push_str(&format!("{}: {node} {word}{}\n", result.export, after_colon(&result.message)));
        text.push_str(&check_lines(result, true));
    }
    nothing_if_empty(text)
}

fn check_lines(result: &TakeoverResult, passed_too: bool) -> String {
    let shown = result.checks.iter().filter(|check| passed_too || !check.ok);
    shown
        .map(|check| {
            let word = if check.ok { "pass" } else { "FAIL" };
            format!("  {word}  {}{}\n", check.name, after_colon(&check.detail))
        })
        .collect()
}

fn after_colon(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(": {text}") }
}

/// `--force`: what would be lost.
pub fn discards(reply: &TakeoverReply, node: &str) -> String {
    let mut text = String::new();
    for result in &reply.results {
        let cost = match result.would_discard.as_str() {
            "" => "discards nothing that this node knows of",
            cost => cost,
        };
        text.push_str(&format!("{}: forced takeover by {node}: {cost}\n", result.export));
    }
    nothing_if_empty(text)
}

fn nothing_if_empty(text: String) -> String {
    if text.is_empty() { "no export is concerned\n".to_owned() } else { text }
}
