//! Tests of the state machine as a whole.

mod differential;
mod durability;
mod harness;
mod host;
mod locks;
mod locks_limits;
mod locks_model;
mod model;
mod mounts;
mod permissions;
mod posix;
mod power;
mod quota;
mod random;
mod readdir;
mod retransmission;
mod semantics;
