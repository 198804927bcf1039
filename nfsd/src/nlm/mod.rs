//! The network lock manager, program 100021: version 4 (RFC 1813 appendix II), and versions 1 and 3 (X/Open XNFS
//! chapter 10) for clients that still ask for them.
//!
//! It holds no lock: locks are replicated state of the export (`replica::fs`), and what is here turns calls into
//! operations on it and their outcomes into answers, as `nfs3` does. So a takeover changes nothing that a client
//! can see, and nothing here has to be recovered.
//!
//! `args` and `results` are the wire. `program` dispatches; `change` is what becomes an operation, `test` what is
//! answered from applied state. The other direction, from the server to its clients: `caller` makes a call from the
//! virtual IP, `ports` finds out where to, `granter` tells those who waited that they have their lock (it lives as long
//! as its service), `outward` is what these share. The status monitor (`crate::nsm`) uses them too.

mod args;
mod caller;
mod change;
mod granter;
mod outward;
mod ports;
mod program;
mod results;
mod test;

pub(crate) use args::NotifyArgs;
pub(crate) use change::{client_of, free_all};
pub(crate) use granter::run as grant;
pub(crate) use outward::{Outward, Patience, address};
pub(crate) use ports::Service as PeerService;
pub use program::{Nlm, PROGRAM, VERSIONS};
