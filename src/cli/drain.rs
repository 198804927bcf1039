//! `hanfs drain` and `hanfs undrain`.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use proto::admin::{DrainReply, DrainRequest, TakeoverReply};
use tonic::Code;

use super::admin::{AdminLink, Severity, refused};
use super::args::{DrainArgs, UndrainArgs};
use super::setup::Setup;
use super::{operate, print};

/// Between two attempts of `--wait`.
const AGAIN: Duration = Duration::from_secs(1);

/// `hanfs drain`.
pub async fn drain(setup: &Setup, args: &DrainArgs) -> anyhow::Result<ExitCode> {
    order(setup, args.target.as_deref(), args.wait, DrainRequest::default()).await
}

/// `hanfs undrain`.
pub async fn undrain(setup: &Setup, args: &UndrainArgs) -> anyhow::Result<ExitCode> {
    let request = DrainRequest { undrain: true, giveback: args.giveback };
    order(setup, args.target.as_deref(), args.wait, request).await
}

/// Only the node itself can do it, so there is no falling back to the other one.
async fn order(
    setup: &Setup,
    target: Option<&str>,
    wait_s: Option<u64>,
    request: DrainRequest,
) -> anyhow::Result<ExitCode> {
    let link = AdminLink::open(setup)?;
    let node = target.unwrap_or_else(|| link.first()).to_owned();
    let until = Instant::now() + Duration::from_secs(wait_s.unwrap_or(0));
    loop {
        let why = match link.connect(&node).await {
            Ok(mut client) => match client.drain(request).await {
                Ok(reply) => {
                    let reply = reply.into_inner();
                    print(&text(&reply, request));
                    let ok = reply.results.iter().all(|result| result.ok);
                    return Ok(if ok { Severity::Ok } else { Severity::Critical }.into());
                }
                Err(status) if status.code() == Code::FailedPrecondition => {
                    anyhow::anyhow!("{}", status.message())
                }
                Err(status) => return Err(refused(&node, &status)),
            },
            Err(error) => error,
        };
        if Instant::now() >= until {
            eprintln!("hanfs: {why:#}");
            return Ok(Severity::Critical.into());
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// What became of it.
pub fn text(reply: &DrainReply, request: DrainRequest) -> String {
    let node = &reply.node;
    let moved = if reply.results.is_empty() {
        String::new()
    } else {
        operate::results(&TakeoverReply { results: reply.results.clone() })
    };
    let failed = reply.results.iter().any(|result| !result.ok);
    let state = match (request.undrain, failed) {
        (true, _) => format!("{node} is not drained\n"),
        (false, false) => {
            format!("{node} is drained: it serves nothing, and nothing is given back to it by itself\n")
        }
        (false, true) => format!(
            "{node} is drained but still serves what failed: say it again, or `hanfs undrain {node}`\n"
        ),
    };
    format!("{moved}{state}")
}
