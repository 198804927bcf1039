//! What is known of host names: addresses of the names in access lists, and names of clients' addresses.
//!
//! A snapshot that a resolver outside replaces; reading it takes no lock and never waits for a name server. A
//! name or an address that is not in it is *unknown*: nobody has answered yet. One that is in it with an
//! empty list is known to have nothing.

use std::collections::HashMap;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use tokio::sync::Notify;

/// What name servers have said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// By name, in lower case without a dot at the end: its addresses, in canonical form.
    pub hosts: HashMap<String, Vec<IpAddr>>,
    /// By address, in canonical form: the names, in lower case, that lead back to it. A name that does not is
    /// its owner's claim only and must not be here.
    pub addresses: HashMap<IpAddr, Arc<[String]>>,
}

impl Known {
    /// Is the address this host's? `None`: unknown.
    pub fn is_host(&self, name: &str, ip: IpAddr) -> Option<bool> {
        self.hosts.get(name).map(|addresses| addresses.contains(&ip))
    }

    /// Confirmed names of an address. `None`: unknown.
    pub fn names_of(&self, ip: IpAddr) -> Option<&[String]> {
        self.addresses.get(&ip).map(|names| &names[..])
    }
}

/// How sure it is that an address is its sender's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Proof {
    /// A datagram or a list says so: anybody can make that up.
    Claimed,
    /// A TCP connection stands.
    Proven,
}

/// Asks for the names of an address. It must not block, and may forget what it is asked: it is asked again.
pub type Want = Box<dyn Fn(IpAddr, Proof) + Send + Sync>;

/// What is known, and the way to learn more.
pub struct Names {
    known: ArcSwap<Known>,
    changed: Notify,
    want: Want,
}

impl Names {
    /// Knows nothing yet; `want` leads to the resolver.
    pub fn new(want: Want) -> Arc<Self> {
        Arc::new(Self { known: ArcSwap::default(), changed: Notify::new(), want })
    }

    /// For lists without names: there is no resolver.
    pub fn nobody() -> Arc<Self> {
        Self::new(Box::new(|_, _| {}))
    }

    /// What is known now.
    pub fn known(&self) -> Arc<Known> {
        self.known.load_full()
    }

    pub(crate) fn load(&self) -> Guard<Arc<Known>> {
        self.known.load()
    }

    /// From now on this is known. Nothing happens where it is no news.
    pub fn learn(&self, known: Known) {
        if **self.known.load() != known {
            self.known.store(Arc::new(known));
            self.changed.notify_waiters();
        }
    }

    /// Somebody would like to know the names of an address.
    pub(crate) fn want(&self, ip: IpAddr, proof: Proof) {
        (self.want)(ip, proof);
    }

    /// Waits until `condition` holds, looking whenever something is learnt.
    pub(crate) async fn when(&self, condition: impl Fn() -> bool) {
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            if condition() {
                return;
            }
            changed.await;
        }
    }
}
