//! Is the interface of a virtual IP connected to a network? Of the kernel, by rtnetlink; needs no privileges.
//!
//! It only looks. Where an address would be put is decided as `netlink` does it: on the named interface, or on the one with
//! the narrowest subnet that contains the address.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::time::Duration;

use rtnetlink::MulticastGroup;
use rtnetlink::packet_route::address::AddressMessage;
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkMessage, Prop};
use tokio_stream::{Stream, StreamExt};

use super::netlink::contains;

/// One change says itself several times: what follows within this time belongs to it.
const SETTLE: Duration = Duration::from_millis(5);
/// So many belong to one, at most.
const SETTLE_MAX: usize = 64;

/// Tells of changes of this host's interfaces, and how they are.
pub struct Carrier {
    handle: rtnetlink::Handle,
    changes: Pin<Box<dyn Stream<Item = ()> + Send + Sync>>,
    connection: tokio::task::JoinHandle<()>,
}

/// Every interface of this host, and every address.
#[derive(Debug, Default)]
pub struct Interfaces {
    links: Vec<LinkMessage>,
    addresses: Vec<AddressMessage>,
}

impl Carrier {
    /// Listens from now on. Must be called within a tokio runtime.
    pub fn open() -> io::Result<Self> {
        let (connection, handle, changes) = rtnetlink::new_multicast_connection(&[MulticastGroup::Link])?;
        let changes = Box::pin(changes.map(|_| ()));
        Ok(Self { handle, changes, connection: tokio::spawn(connection) })
    }

    /// Returns when an interface has changed (not: an address); an error: no more will be heard.
    pub async fn changed(&mut self) -> io::Result<()> {
        let gone = || io::Error::new(io::ErrorKind::BrokenPipe, "the netlink socket is closed");
        self.changes.next().await.ok_or_else(gone)?;
        for _ in 0..SETTLE_MAX {
            if tokio::time::timeout(SETTLE, self.changes.next()).await.is_err() {
                break;
            }
        }
        Ok(())
    }

    /// How things are now.
    pub async fn look(&self) -> io::Result<Interfaces> {
        let failed = |e: rtnetlink::Error| io::Error::other(e.to_string());
        let mut seen = Interfaces::default();
        let mut links = std::pin::pin!(self.handle.link().get().execute());
        while let Some(link) = links.next().await {
            seen.links.push(link.map_err(failed)?);
        }
        let mut addresses = std::pin::pin!(self.handle.address().get().execute());
        while let Some(address) = addresses.next().await {
            seen.addresses.push(address.map_err(failed)?);
        }
        Ok(seen)
    }
}

impl Drop for Carrier {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Interfaces {
    /// Is the interface of this address up, and does it have a carrier? A named interface that is not there is not known to
    /// have lost it: true. Where no interface is in the address's subnet: false, for one that is down has no IPv6 addresses.
    pub fn is_connected(&self, vip: IpAddr, interface: Option<&str>) -> bool {
        let connected = |link: &LinkMessage| link.header.flags.contains(LinkFlags::Up | LinkFlags::LowerUp);
        if let Some(name) = interface {
            return self.links.iter().find(|link| is_named(link, name)).is_none_or(connected);
        }
        let near = self.addresses.iter().filter(|address| contains(address, vip));
        let best = near.max_by_key(|address| address.header.prefix_len);
        best.and_then(|best| self.links.iter().find(|link| link.header.index == best.header.index))
            .is_some_and(connected)
    }
}

/// By its name, or by one of its alternative names, as the kernel looks for it.
fn is_named(link: &LinkMessage, name: &str) -> bool {
    link.attributes.iter().any(|attribute| match attribute {
        LinkAttribute::IfName(own) => own == name,
        LinkAttribute::PropList(properties) => {
            properties.iter().any(|property| matches!(property, Prop::AltIfName(other) if other == name))
        }
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    //! Goal: no client network is called lost because an interface is known by another name. Method: links as the kernel
    //! describes them, made by hand.

    use super::*;

    #[test]
    fn an_interface_is_found_by_any_of_its_names() {
        let mut link = LinkMessage::default();
        link.attributes = vec![
            LinkAttribute::IfName("eth0".to_owned()),
            LinkAttribute::PropList(vec![Prop::AltIfName("enx001122334455".to_owned())]),
        ];
        let mut seen = Interfaces { links: vec![link], addresses: Vec::new() };
        let vip = "192.0.2.1".parse().unwrap();
        let mut see = |flags| {
            seen.links[0].header.flags = flags;
            ["eth0", "enx001122334455", "eth1"].map(|name| seen.is_connected(vip, Some(name)))
        };
        assert_eq!(see(LinkFlags::Up), [false, false, true], "what is not found is not known to be lost");
        assert_eq!(see(LinkFlags::Up | LinkFlags::LowerUp), [true; 3]);
    }
}
