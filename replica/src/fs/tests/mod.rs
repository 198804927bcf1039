//! Tests of the state machine as a whole.

mod differential;
mod durability;
mod harness;
mod host;
mod model;
mod mounts;
mod permissions;
mod posix;
mod quota;
mod random;
mod readdir;
mod retransmission;
mod semantics;
