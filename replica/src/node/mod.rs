//! One voter of one export's Raft group, sans-IO: `step(now, input) -> outputs`.
//!
//! raft-rs (crate `raft`) decides about terms, logs and commits. Everything around it that real time, a data-less third
//! voter and asynchronous disks need is here: `voter` puts it together; `ready` is what must be persisted before what is
//! said; `storage` the log as raft-rs sees it; `applying` the way to the state machine; `proposals` the way in. `election`,
//! `lease` and `tenure` are leadership in real time; `peer` is the other node, `witness_edge` the third voter, `gate` decides
//! when it stands in for the backup; `verdict` is the arbiter's word in its place; `recovering` is what a lost page cache
//! costs; `own_disk` whether this node's disk keeps up. `wire` translates messages.
//!
//! It never reads a clock, touches a disk or a socket, blocks, or draws a random number. raft-rs gets no ticks, makes no
//! snapshots, and there are no configuration changes.

mod applying;
mod config;
mod election;
mod gate;
mod io;
mod lease;
mod own_disk;
mod peer;
mod proposals;
mod ready;
mod recovering;
#[cfg(test)]
mod sim;
mod status;
mod storage;
mod tenure;
mod verdict;
mod voter;
mod wire;
mod witness_edge;

pub use config::{CLOCK_DRIFT_PER_MILLE, Durability, NodeConfig, Third, Timing, promise_covers};
pub use io::{Input, Output, Restored, Verdict, VerdictKind};
pub use status::{GateState, NodeStatus, OwnDisk, Role};
pub use voter::Node;
