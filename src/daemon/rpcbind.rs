//! Who answers on port 111 of the virtual IPs: this server, or the host's own rpcbind, which then has to know where
//! NFS is.
//!
//! rpcbind listens on every address of a host. Where it runs, the guardian gets no port 111 on a virtual IP, and this
//! registers every program with it, again and again, for it may be restarted. What a server that was killed leaves
//! registered does no harm: the next one, and the other node, use the same port. Nothing is ever taken away
//! from another server that is registered there.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use failover::net::listen::Listeners;
use nfsd::rpcbind::{Protocol, uaddr};
use parking_lot::Mutex;
use replica::ids::ExportId;
use tokio::sync::Notify;

use super::rpcb_client::{Door, Entry};
use crate::config::model::Network;

/// How often the registration is looked at: rpcbind may have been restarted.
const AGAIN: Duration = Duration::from_secs(30);

/// See the module.
pub struct Portmapper {
    network: Network,
    door: Door,
    served: Mutex<BTreeMap<ExportId, Socket111>>,
    /// What came of the last attempt; `None`: there was none.
    outcome: Mutex<Option<Result<(), String>>>,
    changed: Notify,
    /// One attempt at a time; true: no more, this server is about to end.
    ended: Arc<Mutex<bool>>,
}

/// Port 111 of a virtual IP.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Socket111 {
    Ours,
    Taken { ipv6: bool },
}

impl Portmapper {
    /// Nothing is served yet.
    pub fn new(network: Network, door: Door) -> Arc<Self> {
        Arc::new(Self {
            network,
            door,
            served: Mutex::default(),
            outcome: Mutex::default(),
            changed: Notify::new(),
            ended: Arc::default(),
        })
    }

    /// An export is about to be served on these sockets.
    pub fn serving(&self, id: ExportId, listeners: &Listeners) {
        let addresses: Vec<_> = listeners.tcp.iter().filter_map(|l| l.local_addr().ok()).collect();
        let ours = self.network.portmap_port == 0
            || addresses.iter().any(|address| address.port() == self.network.portmap_port);
        let ipv6 = addresses.iter().any(|address| address.is_ipv6());
        self.served.lock().insert(id, if ours { Socket111::Ours } else { Socket111::Taken { ipv6 } });
        self.changed.notify_one();
    }

    /// An export is not served here any more. What is registered stays: the next takeover is then a little faster.
    pub fn stopped(&self, id: ExportId) {
        self.served.lock().remove(&id);
    }

    /// For `hanfs status`: `own`, `registered with the host's rpcbind`, or `none: ` and why.
    pub fn status(&self) -> String {
        match self.answer() {
            Ok(who) => who.to_owned(),
            Err(why) => format!("none: {why}"),
        }
    }

    /// What an administrator has to look at.
    pub fn problem(&self) -> Option<String> {
        let served = self.network.portmap_port != 0 && !self.served.lock().is_empty();
        self.answer().err().filter(|_| served).map(|why| {
            format!("the portmapper: clients that ask port 111 may not find what they look for: {why}")
        })
    }

    fn answer(&self) -> Result<&'static str, String> {
        if self.network.portmap_port == 0 {
            return Err("portmap_port is 0".to_owned());
        }
        if self.served.lock().is_empty() {
            return Err("no export is served here".to_owned());
        }
        if self.wanted().is_empty() {
            return Ok("own");
        }
        match self.outcome.lock().clone() {
            Some(outcome) => outcome.map(|()| "registered with the host's rpcbind"),
            None => Err("the host's rpcbind is being asked".to_owned()),
        }
    }

    /// What has to be registered: every program of ours, in the families whose port 111 is another server's.
    fn wanted(&self) -> Vec<Entry> {
        let served = self.served.lock();
        let taken = |ipv6| served.values().any(|s| *s == Socket111::Taken { ipv6 });
        self.entries([false, true].into_iter().filter(|ipv6| taken(*ipv6)))
    }

    fn entries(&self, families: impl Iterator<Item = bool>) -> Vec<Entry> {
        let owner = rustix::process::geteuid().as_raw().to_string();
        let transports = families.flat_map(|ipv6| [(Protocol::Tcp, ipv6), (Protocol::Udp, ipv6)]);
        let entries = transports.flat_map(|(protocol, ipv6)| {
            // Of every address, as the kernel's NFS server does: there is one entry for all virtual IPs. rpcbind puts an
            // address of its host in its place; mount(8), showmount(8) and the kernel look only at the port.
            let any: IpAddr = if ipv6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
            let address = uaddr::format((any, self.network.nfs_port).into());
            let netid = protocol.netid(ipv6).to_owned();
            let owner = owner.clone();
            nfsd::server::PROGRAMS.map(move |(program, version)| Entry {
                program,
                version,
                netid: netid.clone(),
                address: address.clone(),
                owner: owner.clone(),
            })
        });
        entries.collect()
    }

    /// Registers what has to be, for as long as this server lives.
    pub async fn keep(self: Arc<Self>) {
        loop {
            let wanted = self.wanted();
            if !wanted.is_empty() {
                let (door, ended) = (self.door.clone(), self.ended.clone());
                let attempt = tokio::task::spawn_blocking(move || {
                    let ended = ended.lock();
                    if *ended { Ok(()) } else { register(&door, &wanted) }
                });
                let outcome = attempt.await.unwrap_or_else(|error| Err(error.to_string()));
                self.note(outcome);
            }
            tokio::select! {
                () = tokio::time::sleep(AGAIN) => {}
                () = self.changed.notified() => {}
            }
        }
    }

    /// Says once what has changed.
    fn note(&self, outcome: Result<(), String>) {
        let before = self.outcome.lock().replace(outcome.clone());
        if before.as_ref() == Some(&outcome) {
            return;
        }
        match outcome {
            Ok(()) => tracing::info!("registered with this host's rpcbind, which has port 111"),
            Err(why) => tracing::warn!(why, "another server has port 111, and NFS is not registered with it"),
        }
    }

    /// Takes back what was registered, at a clean end.
    pub async fn unregister(&self) {
        let (door, ended, ours) = (self.door.clone(), self.ended.clone(), self.registered());
        let work = tokio::task::spawn_blocking(move || {
            *ended.lock() = true;
            if ours.is_empty() { Ok(()) } else { unregister(&door, &ours) }
        });
        if let Ok(Err(why)) = work.await {
            tracing::info!(why, "NFS stays registered with this host's rpcbind");
        }
    }

    /// What may be registered in this server's name.
    fn registered(&self) -> Vec<Entry> {
        if self.outcome.lock().is_some() { self.entries([false, true].into_iter()) } else { Vec::new() }
    }
}

/// Registers what is missing. An entry of the same programs that says another address is another server's.
fn register(door: &Door, wanted: &[Entry]) -> Result<(), String> {
    let mut client = door.open()?;
    let there = client.dump()?;
    // What is free is registered in any case: a host whose own NFS client has its lock manager there still serves files.
    let mut taken = None;
    for entry in wanted {
        match there.iter().find(|e| e.names_the_same(entry)) {
            Some(other) if other.address == entry.address => {}
            Some(other) => {
                let owner = if other.owner.is_empty() { "somebody" } else { &other.owner };
                taken.get_or_insert_with(|| {
                    format!(
                        "{entry} is registered there by {owner} at {}: another NFS server (nfsd, rpc.mountd), or this host's \
                         own NFS client (lockd, rpc.statd)? Stop it; the client can mount with nolock",
                        other.address
                    )
                });
            }
            None => {
                if !client.set(entry)? {
                    return Err(format!("rpcbind refuses to register {entry}: hanfs has to run as root"));
                }
            }
        }
    }
    taken.map_or(Ok(()), Err)
}

/// Takes away what is registered with exactly our addresses.
fn unregister(door: &Door, ours: &[Entry]) -> Result<(), String> {
    let mut client = door.open()?;
    let there = client.dump()?;
    for entry in ours {
        if there.iter().any(|e| e.names_the_same(entry) && e.address == entry.address) {
            client.unset(entry)?;
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "rpcbind_tests.rs"]
mod tests;
