//! Who serves what: one [`Policy`] per node, told what happens, saying what to do.
//!
//! It is a state machine: no clock, no thread, no I/O. Times are CLOCK_MONOTONIC in ns and come from the caller,
//! who calls [`Policy::step`] with each event and with [`PolicyInput::Tick`] when [`Policy::deadline`] comes.
//!
//! What holds:
//! - It never decides who leads: Raft does. It asks for an election only where the leader is known to be dead,
//!   and for a transfer only on an order, for a giveback, where the address cannot be raised here, or where this
//!   node has a fault that the other one, in sync, has not.
//! - A fault counts as over only after a while, an export does not go home to a node with one, and of two nodes with one
//!   neither is handed what the other has: so nothing goes to and fro.
//! - An address is raised only while the group says that this node serves, and the other node's guardian, where
//!   it can be heard, is asked first to take it down. The wait is bounded: by the rules of election the
//!   other node's lease is over.
//! - When this node does not serve any more, the address goes first and connections are closed silently after.

mod health;
mod machine;
mod types;

pub use machine::Policy;
pub use types::{
    Cause, Fault, GUARDIAN_PING_NS, Order, PolicyConfig, PolicyExport, PolicyInput, PolicyOutput,
    PolicyTiming, Report, Side,
};
