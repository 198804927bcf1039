//! Draining this node, ending that, and the crash of a drill: orders about the node as a whole.

use std::sync::Arc;
use std::time::Duration;

use proto::admin::{DrainReply, DrainRequest, TakeoverResult};
use rustix::process::{Signal, getpid, kill_process};

use super::admin::AdminService;
use super::export::Export;
use super::hub::HubInput;
use crate::events::Level;

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
        let other = self.current.config().peer_of(&self.node).map(|n| n.name.clone()).unwrap_or_default();
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
        self.mark(true)?;
        let mut results = Vec::new();
        for export in served {
            let outcome = self.order(|answer| HubInput::GiveAway(export.id(), answer)).await;
            results.push(result(&export, outcome));
        }
        Ok(results)
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
        self.mark(false)?;
        let mut results = Vec::new();
        for export in home {
            let outcome = self.order(|answer| HubInput::TakeOver(export.id(), answer)).await;
            results.push(result(&export, outcome));
        }
        Ok(results)
    }

    fn mark(&self, drained: bool) -> Result<(), String> {
        let before = self.drained.since_ns() != 0;
        self.drained.set(drained).map_err(|e| format!("write the mark in the data directory: {e}"))?;
        if let Some(peer) = &self.peer {
            peer.say_drained(self.drained.since_ns());
        }
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
            let other = self.current.config().peer_of(&self.node).map(|n| n.name.clone());
            (self.peer.as_ref().map_or(0, |peer| peer.peer_drained_ns()), other.unwrap_or_default())
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

fn result(export: &Export, outcome: Result<(), String>) -> TakeoverResult {
    TakeoverResult {
        export: export.config().path.clone(),
        ok: outcome.is_ok(),
        message: outcome.err().unwrap_or_else(|| "moved".to_owned()),
        ..TakeoverResult::default()
    }
}
