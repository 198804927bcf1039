//! The arbiter's verdict, where no witness process votes.

use std::time::Duration;

use failover::arbiter;
use replica::node::VerdictKind;
use tokio::sync::mpsc;

use super::hub::HubInput;
use crate::config::model::{Arbiter, ArbiterKind};

/// Asks for a verdict about the peer; the answer comes back as [`HubInput::Verdict`]. `alive` says whether any path to the
/// peer shows a sign of life.
pub fn ask(
    config: &Arbiter,
    peer: String,
    alive: impl Fn() -> bool + Send + 'static,
    hub: mpsc::UnboundedSender<HubInput>,
) {
    let timeout = Duration::from_millis(config.timeout_ms);
    let config = config.clone();
    tokio::spawn(async move {
        let verdict = match config.kind {
            ArbiterKind::Witness => Err("the witness decides, and it did not vote for this node".to_owned()),
            ArbiterKind::None => {
                Err("no arbiter is configured: wait for the peer, or use `hanfs takeover --force`".to_owned())
            }
            ArbiterKind::Fence => fence(&config.command, timeout, &peer).await,
            ArbiterKind::FailStop => silence(timeout, &peer, alive).await,
        };
        let _ = hub.send(HubInput::Verdict(verdict));
    });
}

async fn fence(command: &[String], timeout: Duration, peer: &str) -> Result<VerdictKind, String> {
    let report = arbiter::fence(command, timeout, peer).await;
    if report.fenced {
        return Ok(VerdictKind::Fence);
    }
    let code = report.code.map_or_else(|| "no exit code".to_owned(), |code| format!("exit code {code}"));
    Err(format!(
        "node {peer} could not be fenced ({code} after {} ms): {}",
        report.took.as_millis(),
        report.output.trim()
    ))
}

/// Every path must stay silent for the whole time.
async fn silence(timeout: Duration, peer: &str, alive: impl Fn() -> bool) -> Result<VerdictKind, String> {
    const LOOK: Duration = Duration::from_millis(20);
    let end = tokio::time::Instant::now() + timeout;
    while tokio::time::Instant::now() < end {
        if alive() {
            return Err(format!("node {peer} is heard again"));
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(VerdictKind::FailStop)
}
