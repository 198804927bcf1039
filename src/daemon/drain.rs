//! Draining this node, ending that, and the crash of a drill: orders about the node as a whole.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proto::admin::{DrainReply, DrainRequest, TakeoverResult};
use replica::ids::ExportId;
use rustix::process::{Signal, getpid, kill_process};

use super::admin::AdminService;
use super::export::Export;
use super::hub::HubInput;
use super::session::PeerLink;
use crate::events::Level;

/// Between two looks at what this node leads, and at what the peer says.
const LOOK: Duration = Duration::from_millis(20);
/// A mark that the peer set at the same time is known here by then.
const PEER_SAYS: Duration = Duration::from_millis(300);
/// Where both nodes were marked at once, one takes its mark back within this time.
const PEER_YIELDS: Duration = Duration::from_secs(2);
/// A giveback that the peer had begun before it knew of the mark has arrived by then: 1 s of draining, and the transfer.
const ARRIVES: Duration = Duration::from_millis(1500);
/// Where nobody is known to lead an export, no longer than this is waited for it to be this node.
const UNDECIDED_MAX: Duration = Duration::from_secs(5);

/// A crash waits this long, so that its order can be answered.
const CRASH_AFTER: Duration = Duration::from_millis(20);

impl AdminService {
    /// Marks this node and moves all that it serves, or ends that. The error says why nothing was done.
    pub(super) async fn drain(&self, request: &DrainRequest) -> Result<DrainReply, String> {
        let results = if request.undrain {
            self.end_drain(request.giveback).await?
        } else {
            self.begin_drain().await?
        };
        Ok(DrainReply { node: self.node.clone(), drained_since_ns: self.drained.since_ns(), results })
    }

    async fn begin_drain(&self) -> Result<Vec<TakeoverResult>, String> {
        let Some(peer) = &self.peer else {
            return Err("there is no other node that could serve instead".to_owned());
        };
        let other = self.other();
        if peer.peer_drained_ns() != 0 {
            return Err(format!("node {other} is drained: `hanfs undrain {other}` first"));
        }
        let served: Vec<Arc<Export>> = self.exports.all().into_iter().filter(leads).collect();
        for export in &served {
            if !export.with_group(|g| g.node_status().in_sync).unwrap_or(false) {
                let path = &export.config().path;
                return Err(format!(
                    "{path}: node {other} is not in sync, see `hanfs status`; nothing was changed"
                ));
            }
        }
        let before = self.drained.since_ns() != 0;
        self.mark(true).await?;
        if !before && self.both_drained(peer).await {
            self.mark(false).await?;
            return Err(format!("node {other} is being drained at the same time; nothing was changed"));
        }
        Ok(self.give_all_away().await)
    }

    /// Was the peer marked in the same moment, and does this node have to yield? Each node knows its own mark first, so both may
    /// have gone on; the second by name takes its mark back.
    async fn both_drained(&self, peer: &PeerLink) -> bool {
        let is = |marked: bool| move || (peer.peer_drained_ns() != 0) == marked;
        if !within(PEER_SAYS, is(true)).await {
            return false;
        }
        self.node > self.other() || !within(PEER_YIELDS, is(false)).await
    }

    /// Moves what this node leads, and what comes to lead meanwhile: a giveback may have been under way. One that does not go is tried
    /// once.
    async fn give_all_away(&self) -> Vec<TakeoverResult> {
        let marked = Instant::now();
        let mut results: HashMap<ExportId, TakeoverResult> = HashMap::new();
        loop {
            let all = self.exports.all();
            let failed = |e: &Arc<Export>| results.get(&e.id()).is_some_and(|result| !result.ok);
            let served: Vec<Arc<Export>> = all.iter().filter(|e| leads(e) && !failed(e)).cloned().collect();
            if served.is_empty() {
                let wait = if all.iter().any(undecided) { UNDECIDED_MAX } else { ARRIVES };
                if marked.elapsed() >= wait {
                    break;
                }
            }
            for export in served {
                let outcome = self.order(|answer| HubInput::GiveAway(export.id(), answer)).await;
                results.insert(export.id(), result(&export, outcome));
            }
            tokio::time::sleep(LOOK).await;
        }
        let mut results: Vec<TakeoverResult> = results.into_values().collect();
        results.sort_by(|one, other| one.export.cmp(&other.export));
        results
    }

    fn other(&self) -> String {
        self.current.config().peer_of(&self.node).map(|n| n.name.clone()).unwrap_or_default()
    }

    async fn end_drain(&self, giveback: bool) -> Result<Vec<TakeoverResult>, String> {
        let home: Vec<Arc<Export>> = if giveback {
            let here = |e: &Arc<Export>| e.config().home == self.node && !leads(e);
            self.exports.all().into_iter().filter(here).collect()
        } else {
            Vec::new()
        };
        for export in &home {
            if !export.with_group(|g| g.node_status().in_sync).unwrap_or(false) {
                let path = &export.config().path;
                return Err(format!(
                    "{path}: this node is not in sync, see `hanfs status`; nothing was changed"
                ));
            }
        }
        self.mark(false).await?;
        let mut results = Vec::new();
        for export in home {
            let outcome = self.order(|answer| HubInput::TakeOver(export.id(), answer)).await;
            results.push(result(&export, outcome));
        }
        Ok(results)
    }

    async fn mark(&self, drained: bool) -> Result<(), String> {
        let (before, file) = (self.drained.since_ns() != 0, self.drained.clone());
        let done = tokio::task::spawn_blocking(move || file.set(drained)).await.map_err(|e| e.to_string())?;
        // Also after an error: what is known here the peer is to know.
        if let Some(peer) = &self.peer {
            peer.say_drained(self.drained.since_ns());
        }
        done.map_err(|e| format!("write the mark in the data directory: {e}"))?;
        if before != drained {
            let text = if drained {
                "drained: nothing is given back to this node by itself"
            } else {
                "not drained any more"
            };
            tracing::info!("{text}");
            self.events.append(Level::Info, "", text);
        }
        Ok(())
    }

    /// Why an order that would make the drained node serve is refused; `to_peer`: the other node would.
    pub(super) fn refused_for_drain(&self, to_peer: bool) -> Option<String> {
        let (since_ns, name) = if to_peer {
            (self.peer.as_ref().map_or(0, |peer| peer.peer_drained_ns()), self.other())
        } else {
            (self.drained.since_ns(), self.node.clone())
        };
        (since_ns != 0).then(|| format!("node {name} is drained: `hanfs undrain {name}` first"))
    }

    /// Ends this process as SIGKILL does, in a moment.
    pub(super) fn crash_soon(&self) {
        tracing::warn!("an administrator's drill kills this server");
        self.events.append(Level::Warning, "", "an administrator's drill kills this server");
        tokio::spawn(async {
            tokio::time::sleep(CRASH_AFTER).await;
            let _ = kill_process(getpid(), Signal::KILL);
        });
    }
}

/// Does this node lead it?
fn leads(export: &Arc<Export>) -> bool {
    export.with_group(|g| g.node_status().leader == Some(export.me)).unwrap_or(false)
}

/// Does this node know nobody who leads it?
fn undecided(export: &Arc<Export>) -> bool {
    export.with_group(|g| g.node_status().leader.is_none()).unwrap_or(false)
}

/// Does it become so within that time?
async fn within(wait: Duration, is_so: impl Fn() -> bool) -> bool {
    let until = Instant::now() + wait;
    while !is_so() {
        if Instant::now() >= until {
            return false;
        }
        tokio::time::sleep(LOOK).await;
    }
    true
}

fn result(export: &Export, outcome: Result<(), String>) -> TakeoverResult {
    TakeoverResult {
        export: export.config().path.clone(),
        ok: outcome.is_ok(),
        message: outcome.err().unwrap_or_else(|| "moved".to_owned()),
        ..TakeoverResult::default()
    }
}
