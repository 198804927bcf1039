//! Calls to the status monitor.
//!
//! A status monitor watches hosts on behalf of the lock manager of its own host, and takes orders from nobody else: ours
//! needs none (who is to be watched is replicated with the locks), so every order gets the answer that `rpc.statd` gives
//! to strangers. What is left is NOTIFY. NSM has no authentication; as with AUTH_SYS, the network's addresses are trusted.

use std::sync::Arc;

use bytes::Bytes;
use replica::fs::locks::HostView;

use crate::exports::{Exports, Shown};
use crate::nlm::{NotifyArgs, client_of, free_all};
use crate::rpc::{Call, Program, Responder};
use crate::xdr::{self, Decoder, Encoder};

/// Program number, XNFS section 11.2.
pub const PROGRAM: u32 = 100_024;
/// The version that is served.
pub const VERSION: u32 = 1;

/// Procedure numbers, XNFS section 11.2.
pub(super) mod procedure {
    pub const NULL: u32 = 0;
    pub const STAT: u32 = 1;
    pub const MON: u32 = 2;
    pub const UNMON: u32 = 3;
    pub const UNMON_ALL: u32 = 4;
    pub const SIMU_CRASH: u32 = 5;
    pub const NOTIFY: u32 = 6;
}

/// Longest name, bytes (SM_MAXSTRLEN).
const NAME_MAX: usize = 1024;
/// Private data of MON, bytes.
const PRIV: usize = 16;
/// stat_fail, XNFS section 11.3.
const STAT_FAIL: u32 = 1;
/// Our state number: odd, so up. It does not move: a takeover is no restart. (NOTIFY carries another one, since it says
/// that something was lost.)
const STATE: u32 = 1;

/// The status monitor of one service.
pub struct Nsm {
    exports: Arc<Exports>,
}

impl Nsm {
    /// Frees locks of these exports.
    pub(crate) fn new(exports: Arc<Exports>) -> Arc<Self> {
        Arc::new(Self { exports })
    }

    /// SM_NOTIFY, XNFS section 11.3.6: the caller has restarted, and holds nothing that it took before. Who it is, its
    /// address says. If no client of that address holds locks, then also its name: a host with several addresses may
    /// notify from another one.
    fn notify(&self, call: &Call, responder: Responder) {
        let Ok(args) = NotifyArgs::decode(&mut call.decoder()) else { return responder.garbage_args() };
        tracing::info!(client = %call.client.ip(), name = %args.name.escape_ascii(), "a client has restarted");
        let client = client_of(call);
        let whose = |export: &Shown| restarted(&export.handle.fs().lock_hosts(), &client, &args.name);
        free_all(&self.exports, call, whose, args.state, responder);
    }
}

/// Which clients a notification is about. Its sender in any case (also one of whom nothing is applied yet); where that
/// has no locks, the one client that calls itself `name`, if it is one and the name says anything.
fn restarted(hosts: &[HostView], sender: &Bytes, name: &[u8]) -> Vec<Bytes> {
    let mut whose = vec![sender.clone()];
    // Clients stay known when they have nothing any more.
    let mut having = hosts.iter().filter(|host| host.held > 0 || host.waiting > 0);
    if name.is_empty() || name.starts_with(b"localhost") || having.clone().any(|host| host.client == sender) {
        return whose;
    }
    let mut named = having.by_ref().filter(|host| host.caller_name.eq_ignore_ascii_case(name));
    if let (Some(host), None) = (named.next(), named.next()) {
        whose.push(host.client.clone());
    }
    whose
}

/// A name and nothing more: STAT.
fn stat(d: &mut Decoder<'_>) -> xdr::Result<Encoder> {
    d.string(NAME_MAX)?;
    Ok(refused(STATE))
}

/// my_id: who is to be called back, and how.
fn my_id(d: &mut Decoder<'_>) -> xdr::Result<()> {
    d.string(NAME_MAX)?;
    let _program = (d.u32()?, d.u32()?, d.u32()?);
    Ok(())
}

/// MON: refused, as `rpc.statd` refuses whoever is not its own host.
fn mon(d: &mut Decoder<'_>) -> xdr::Result<Encoder> {
    d.string(NAME_MAX)?;
    my_id(d)?;
    d.fixed::<PRIV>()?;
    Ok(refused(u32::MAX))
}

/// UNMON: nothing was monitored.
fn unmon(d: &mut Decoder<'_>) -> xdr::Result<Encoder> {
    d.string(NAME_MAX)?;
    unmon_all(d)
}

/// UNMON_ALL: the same.
fn unmon_all(d: &mut Decoder<'_>) -> xdr::Result<Encoder> {
    my_id(d)?;
    let mut e = Encoder::with_capacity(4);
    e.u32(STATE);
    Ok(e)
}

/// sm_stat_res.
fn refused(state: u32) -> Encoder {
    let mut e = Encoder::with_capacity(8);
    e.u32(STAT_FAIL).u32(state);
    e
}

impl Program for Nsm {
    fn call(&self, call: Call, responder: Responder) {
        use procedure::*;
        let d = &mut call.decoder();
        let results = match call.procedure {
            NULL => Ok(Encoder::with_capacity(0)),
            STAT => stat(d),
            MON => mon(d),
            UNMON => unmon(d),
            UNMON_ALL => unmon_all(d),
            // It would have us notify everybody: not at a stranger's word. It has no results.
            SIMU_CRASH => Ok(Encoder::with_capacity(0)),
            NOTIFY => return self.notify(&call, responder),
            _ => return responder.proc_unavail(),
        };
        match results {
            Ok(results) => responder.accept(results),
            Err(_) => responder.garbage_args(),
        }
    }
}

#[cfg(test)]
mod tests {
    //! Goal: a notification frees its sender's locks and nobody else's. Method: senders and names against a list.

    use super::*;

    fn host(address: u8, name: &'static str) -> HostView {
        HostView {
            client: Bytes::from(vec![10, 0, 0, address]),
            caller_name: Bytes::from_static(name.as_bytes()),
            nsm_state: 0,
            monitored: true,
            held: 1,
            waiting: 0,
            since_ns: 0,
        }
    }

    fn freed(sender: u8, name: &str) -> Vec<u8> {
        let hosts = [host(1, "a"), host(2, "b"), host(3, "twin"), host(4, "twin"), host(5, "localhost")];
        let freed = restarted(&hosts, &Bytes::from(vec![10, 0, 0, sender]), name.as_bytes());
        freed.iter().map(|client| client[3]).collect()
    }

    #[test]
    fn address_first_then_an_unambiguous_name() {
        assert_eq!(freed(1, "a"), [1]);
        assert_eq!(freed(1, "b"), [1], "the address is known: the name says nothing");
        assert_eq!(freed(9, "B"), [9, 2], "from another of its addresses");
        assert_eq!(freed(9, "twin"), [9], "which of the two?");
        assert_eq!(freed(9, "localhost"), [9], "everybody's name");
        assert_eq!(freed(9, "nobody"), [9]);
    }
}
