//! A built-in NFSv3 client, for the demo and for measuring.
//!
//! `retry` carries one call at a time and behaves as a kernel's does: a call is encoded once, and after a
//! broken connection the same bytes with the same xid are sent again until they are answered. `session` is
//! `nfs3_client` on top of it, with the few operations that a tree of files needs; `locks` is NLM. Nothing is cached.

mod locks;
mod retry;
mod session;
#[cfg(test)]
mod tests;

pub use locks::{LockClient, LockError};
pub use retry::{Patience, Pause, RetryIo, Stats, StatsSnapshot};
pub use session::{ClientError, DirEntry, Session, Target};
