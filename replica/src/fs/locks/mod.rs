//! Byte-range locks and share reservations: replicated state, so that a takeover changes nothing that a client sees.

mod read;
mod view;

pub use read::GrantWaker;
pub use view::{
    HostView, LockStatus, LockView, LocksView, Owner, PendingGrant, ShareView, WaiterView,
};

/// Longest cookie, bytes: what every lockd accepts (NLM_MAXCOOKIELEN).
pub const COOKIE_MAX: usize = 32;
/// Longest owner handle, bytes. The protocol's netobj may have 1,024; Linux writes 20 and a host name.
pub const OH_MAX: usize = 1024;
/// Longest caller_name, bytes: LM_MAXSTRLEN.
pub const CALLER_NAME_MAX: usize = 1024;
