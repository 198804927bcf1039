//! Who serves what: policy, guardian, virtual IPs, tickles, arbiter.
//!
//! - [`policy`]: decides, per node, which export is raised, dropped, taken over or given back. Sans-IO.
//! - [`guardian`]: the parent process. Owns listening sockets and virtual IPs, watches the server process, and
//!   has a lease deadline of its own.
//! - [`sentinel`]: the process that takes the virtual IPs away when even the guardian is killed.
//! - [`link`]: the server's side of its guardian.
//! - [`net`]: the machine's edge: addresses, announcements, tickles, listening sockets.
//! - [`arbiter`]: where the third vote comes from when there is no witness process.

pub mod arbiter;
pub mod guardian;
pub mod link;
pub mod net;
pub mod policy;
pub mod sentinel;
mod wire;
