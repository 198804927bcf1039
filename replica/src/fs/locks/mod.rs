//! Byte-range locks and share reservations: replicated state, so that a takeover changes nothing that a client sees.
//!
//! Everything here happens inside `apply` and follows from the operation and the table alone. The table is in memory;
//! each change of it is also a row, so that checkpoints, copies and the digest have it, and it is made anew from the
//! rows at each open. It does not know the wire, a clock or who serves.
//!
//! `range` is arithmetic, `table` what there is, `row` how it is written down. A `plan::Plan` is one operation's
//! changes: `lock` has LOCK, UNLOCK, CANCEL and the call-back's answer, `share` the DOS shares, `client` what happens
//! to all that a client has. `wait` decides who must wait, who is granted and what would be a deadlock. `read` and
//! `view` are for the front end.
//!
//! What holds between entries:
//! - Ranges of two owners that overlap are both shared.
//! - Ranges of one owner in one file never overlap, and those that touch differ in kind.
//! - Nobody waits without an obstacle: another's range, or a waiter that was overtaken too often (`wait`).
//! - A range, share or waiter has a client, and a file that exists.

mod client;
mod lock;
mod plan;
mod range;
mod read;
mod row;
mod share;
mod table;
mod view;
mod wait;

pub(super) use plan::{Plan, Target};
pub use read::GrantWaker;
pub(super) use read::{Locks, check_file};
pub use view::{HostView, LockStatus, LockView, LocksView, Owner, PendingGrant, ShareView, WaiterView};

/// Longest cookie, bytes: what every lockd accepts (NLM_MAXCOOKIELEN).
pub const COOKIE_MAX: usize = 32;
/// Longest owner handle, bytes. The protocol allows 1,024; Linux writes a number, `@` and a host name of 64.
pub const OH_MAX: usize = 255;
/// Longest caller_name that is kept, bytes; longer ones are cut, as it names nobody but to people.
pub const CALLER_NAME_MAX: usize = 255;

// Limits are part of the replicated format: both nodes must refuse the same operation.

/// Ranges and shares of one export. With names of usual length a range takes less than 500 bytes of memory.
pub const HELD_MAX: u64 = 65_536;
/// Ranges and shares of one client; what the undoing of its unconfirmed grants would bring back counts, too.
pub const HELD_PER_CLIENT_MAX: u64 = 16_384;
/// Ranges of one file: with the next limit but one it bounds what one operation looks at.
pub const HELD_PER_FILE_MAX: usize = 4_096;
/// Waiters of one file, and grants that are not confirmed yet.
pub const WAITERS_PER_FILE_MAX: usize = 1_024;
/// Waiters of one export, and grants that are not confirmed yet.
pub const WAITERS_MAX: u64 = 8_192;
/// The same of one client.
pub const WAITERS_PER_CLIENT_MAX: u64 = 1_024;
/// Clients that are remembered. The longest known one that has nothing makes room.
pub const HOSTS_MAX: usize = 4_096;
/// How often others may get what a waiter waits for before they have to wait behind it.
pub const OVERTAKEN_MAX: u16 = 64;

const _: () = assert!(HELD_PER_CLIENT_MAX < HELD_MAX && WAITERS_PER_CLIENT_MAX < WAITERS_MAX);
