//! Raft's own properties, and the order of the log, its effects and its checkpoint.
//!
//! Election safety: one leader a term. Leader completeness: who serves has everything that anybody ever applied. Log
//! matching and state machine safety: `replicas` compares the state itself, by index and bit by bit.

use std::collections::BTreeMap;

use replica::fs::FsProgress;
use replica::node::{NodeStatus, Role};

use crate::world::World;

/// See the module.
#[derive(Default)]
pub struct Raft {
    /// Who led, by export, history and term.
    leaders: BTreeMap<(usize, u64, u64), usize>,
    /// The highest entry that anybody applied, by export.
    applied: BTreeMap<usize, u64>,
}

impl World {
    /// After each turn of a group.
    pub fn check_progress(&mut self, h: usize, export: usize, progress: &FsProgress, status: &NodeStatus) {
        if status.role == Role::Leader {
            let key = (export, status.history, status.term);
            let first = *self.checks.raft.leaders.entry(key).or_insert(h);
            if first != h {
                self.fail(format!("two leaders of export {export} in term {}", status.term));
            }
        }
        let highest = self.checks.raft.applied.entry(export).or_default();
        *highest = progress.applied.max(*highest);
        if progress.applied > status.last {
            self.fail(format!(
                "host {h}, export {export}: applied {} of a log that ends at {}",
                progress.applied, status.last
            ));
        }
        // Own durable log >= checkpoint; the disk's own part of it is proved by what a power loss leaves.
        if progress.checkpoint > status.durable.max(status.persisted) {
            self.fail(format!(
                "host {h}, export {export}: a checkpoint at {} of a log that is durable up to {}",
                progress.checkpoint, status.durable
            ));
        }
        self.check_replicas(h, export, progress, status.history);
    }

    /// A node begins to serve.
    pub fn check_serving(&mut self, h: usize, export: usize, term: u64) {
        let highest = self.checks.raft.applied.get(&export).copied().unwrap_or(0);
        let Some(run) = self.group(h, export) else { return };
        let status = run.parts.group.node_status();
        if status.last < highest && !status.recovering {
            self.fail(format!(
                "host {h} serves export {export} in term {term} with a log that ends at {}; entry {highest} was applied",
                status.last
            ));
        }
    }
}
