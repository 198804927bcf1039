//! ONC RPC version 2 (RFC 5531): calls come in as records, programs answer them in any order, from any thread.
//!
//! `record` cuts a TCP stream into records, `header` decodes call headers, `registry` finds the program, `call`
//! and `reply` are what a program sees, `tcp` and `udp` own the sockets, `limits` says how much a client may
//! make the server keep, `budget` and `connection` count it, `accept` and `crowd` bound the connections, and `excess`
//! what datagrams may make it send. `offline` is all of it without sockets, for fuzzing.

pub(crate) mod accept;
pub(crate) mod budget;
mod call;
pub(crate) mod connection;
pub(crate) mod crowd;
pub(crate) mod excess;
pub(crate) mod header;
pub(crate) mod limits;
#[doc(hidden)]
pub mod offline;
pub(crate) mod record;
mod registry;
mod reply;
pub(crate) mod tcp;
pub(crate) mod udp;

pub use call::{Call, Cred, Transport};
pub use limits::Limits;
pub use registry::{Program, Registry, Versions};
pub use reply::{Outcome, ReplyBody, ReplySink, Responder, Wire};
