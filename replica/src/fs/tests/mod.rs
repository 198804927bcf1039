//! Tests of the state machine as a whole.

mod durability;
mod harness;
mod locks;
mod locks_limits;
mod locks_model;
mod model;
mod permissions;
mod random;
mod readdir;
mod retransmission;
mod semantics;
