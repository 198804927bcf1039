//! The network status monitor, program 100024 version 1 (X/Open XNFS chapter 11): who has restarted.
//!
//! Both directions. `program`: a client that has restarted says so (NOTIFY), and what it held is free. `recovery`: where
//! lock state cannot be proved complete, the export is in grace (replicated state), and the clients that have held locks
//! are told to claim them again.

mod program;
mod recovery;

pub use program::{Nsm, PROGRAM, VERSION};
pub use recovery::GRACE;
pub(crate) use recovery::run as recover;
