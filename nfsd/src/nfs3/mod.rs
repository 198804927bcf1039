//! NFS version 3, RFC 1813: all 22 procedures.
//!
//! `args` decodes arguments, `attr` and `reply` encode results, `program` resolves handles and dispatches.
//! `read` and `readdir` hold what is answered at once from applied state: evaluate, check the lease, send.
//! `change` holds what becomes a replicated operation: the reply leaves when it is committed and applied, and
//! only if this node still serves the export then. Nothing here knows about sockets or about Raft, and nothing
//! here looks at names or permissions: `replica::fs` does, the same way on both nodes.

mod args;
mod attr;
mod change;
mod limits;
mod program;
mod read;
mod readdir;
mod reply;

pub use limits::{DIR_BYTES_MAX, IO_BYTES_MAX};
pub use program::Nfs3;
pub(crate) use program::{Object, Refused, Request};
