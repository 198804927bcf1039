//! The real driver: addresses through rtnetlink, announcements and tickles through raw sockets.
//!
//! An address is added as a host address (/32, /128) with a lifetime of [`LIFETIME_S`] and has to be renewed;
//! where even the guardian is gone, the kernel takes the address away by itself. An address that was
//! configured as a VIP and is found at start is a leftover and is removed.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;

use rtnetlink::packet_core::ErrorMessage;
use rtnetlink::packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, CacheInfo,
};
use rtnetlink::packet_route::link::{LinkAttribute, LinkLayerType};
use tokio_stream::StreamExt;

use super::packet::{ArpForm, MAC_BROADCAST, Mac, gratuitous_arp, tickle, unsolicited_na};
use super::raw::{FrameSocket, PacketSocket};
use super::{Tuple, Vip, VipError};

/// How long the kernel keeps a VIP that nobody renews, in seconds. Short, because that is how long a host whose
/// guardian was killed still answers ARP; four renewals long, so that a starved guardian does not lose it.
pub const LIFETIME_S: u32 = 4;

/// A VIP as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VipConfig {
    /// The address.
    pub vip: IpAddr,
    /// Name of the interface; `None`: the one with the narrowest subnet that contains the address.
    pub interface: Option<String>,
}

/// Where an address was put.
#[derive(Clone, Copy, Debug)]
struct Place {
    interface: u32,
    /// `None`: an interface without Ethernet addresses, where nothing needs to be announced.
    mac: Option<Mac>,
}

/// See the module.
#[derive(Debug)]
pub struct NetlinkVip {
    handle: rtnetlink::Handle,
    frames: FrameSocket,
    packets: PacketSocket,
    configured: HashMap<IpAddr, Option<String>>,
    places: HashMap<IpAddr, Place>,
    connection: tokio::task::JoinHandle<()>,
}

impl NetlinkVip {
    /// Opens all sockets. Must be called within a tokio runtime.
    pub fn open(configured: impl IntoIterator<Item = VipConfig>) -> Result<Self, VipError> {
        let raw = |what| move |source| VipError::Raw { what, source };
        let (connection, handle, _) = rtnetlink::new_connection().map_err(raw("open a netlink socket"))?;
        Ok(Self {
            handle,
            frames: FrameSocket::open().map_err(raw("open a packet socket"))?,
            packets: PacketSocket::open().map_err(raw("open a raw IP socket"))?,
            configured: configured.into_iter().map(|c| (c.vip, c.interface)).collect(),
            places: HashMap::new(),
            connection: tokio::spawn(connection),
        })
    }

    /// Every address of the host that `wanted` picks.
    async fn addresses(
        &self,
        vip: IpAddr,
        wanted: impl Fn(&AddressMessage) -> bool,
    ) -> Result<Vec<AddressMessage>, VipError> {
        let mut found = Vec::new();
        let mut all = pin!(self.handle.address().get().execute());
        while let Some(message) = all.next().await {
            let message = message.map_err(failed("list addresses for", vip))?;
            if wanted(&message) {
                found.push(message);
            }
        }
        Ok(found)
    }

    /// Removes the address wherever it is; true if it was anywhere.
    async fn remove(&self, vip: IpAddr) -> Result<bool, VipError> {
        let found = self.addresses(vip, |m| local(m) == Some(vip)).await?;
        let held = !found.is_empty();
        for message in found {
            match self.handle.address().del(message).execute().await {
                Ok(()) => {}
                // It expired in between.
                Err(rtnetlink::Error::NetlinkError(e)) if code(&e) == libc::EADDRNOTAVAIL => {}
                Err(e) => return Err(failed("delete", vip)(e)),
            }
        }
        Ok(held)
    }

    /// The interface for an address.
    async fn place(&self, vip: IpAddr) -> Result<Place, VipError> {
        let name = self.configured.get(&vip).ok_or(VipError::Unconfigured { vip })?;
        let links = self.handle.link().get();
        let links = match name {
            Some(name) => links.match_name(name.clone()),
            None => {
                let near = self.addresses(vip, |m| contains(m, vip)).await?;
                let best = near.iter().max_by_key(|m| m.header.prefix_len);
                links.match_index(best.ok_or(VipError::NoInterface { vip })?.header.index)
            }
        };
        let mut links = pin!(links.execute());
        let unknown = || VipError::UnknownInterface { vip, name: name.clone().unwrap_or_default() };
        let link = match links.next().await {
            Some(Ok(link)) => link,
            Some(Err(rtnetlink::Error::NetlinkError(e))) if code(&e) == libc::ENODEV => return Err(unknown()),
            Some(Err(e)) => return Err(failed("find an interface for", vip)(e)),
            None => return Err(unknown()),
        };
        let mac = link.attributes.iter().find_map(|a| match a {
            LinkAttribute::Address(mac) => Mac::try_from(mac.as_slice()).ok(),
            _ => None,
        });
        let ethernet = link.header.link_layer_type == LinkLayerType::Ether;
        Ok(Place { interface: link.header.index, mac: mac.filter(|_| ethernet) })
    }
}

impl Drop for NetlinkVip {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Vip for NetlinkVip {
    fn floats(&self) -> bool {
        true
    }

    fn configure(&mut self, vip: IpAddr, interface: Option<String>) {
        self.configured.insert(vip, interface);
        self.places.remove(&vip);
    }

    fn unconfigure(&mut self, vip: IpAddr) {
        self.configured.remove(&vip);
        self.places.remove(&vip);
    }

    async fn clear_stale(&mut self) -> Result<Vec<IpAddr>, VipError> {
        let mut found = Vec::new();
        for vip in self.configured.keys() {
            if self.remove(*vip).await? {
                found.push(*vip);
            }
        }
        Ok(found)
    }

    async fn forget(&mut self, vip: IpAddr) -> Result<usize, VipError> {
        super::leftover::destroy(vip).map_err(|source| VipError::Raw { what: "end old connections", source })
    }

    async fn add(&mut self, vip: IpAddr) -> Result<(), VipError> {
        let place = match self.places.get(&vip) {
            Some(place) => *place,
            None => self.place(vip).await?,
        };
        let mut request = self.handle.address().add(place.interface, vip, full_prefix(vip)).replace();
        let message = request.message_mut();
        let mut lifetime = CacheInfo::default();
        lifetime.ifa_valid = LIFETIME_S;
        lifetime.ifa_preferred = LIFETIME_S;
        if vip.is_ipv6() {
            // No duplicate address detection: it would take a second, and finds the node that just failed.
            // Deprecated from the start: the host itself never chooses a VIP as source (RFC 6724 rule 3).
            message.header.flags |= AddressHeaderFlags::Nodad;
            message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
            lifetime.ifa_preferred = 0;
        }
        message.attributes.push(AddressAttribute::CacheInfo(lifetime));
        let added = request.execute().await.map_err(failed("add", vip));
        match added {
            Ok(()) => self.places.insert(vip, place),
            // The interface may have been made anew under another index: look again next time.
            Err(_) => self.places.remove(&vip),
        };
        added
    }

    async fn delete(&mut self, vip: IpAddr) -> Result<bool, VipError> {
        self.places.remove(&vip);
        self.remove(vip).await
    }

    async fn announce(&mut self, vip: IpAddr) -> Result<(), VipError> {
        let place = self.places.get(&vip).ok_or(VipError::Unconfigured { vip })?;
        let Some(mac) = place.mac else { return Ok(()) };
        let send = |to: Mac, frame: &[u8]| {
            let what = "announce the address";
            self.frames.send(place.interface, to, frame).map_err(|source| VipError::Raw { what, source })
        };
        match vip {
            IpAddr::V4(v4) => {
                send(MAC_BROADCAST, &gratuitous_arp(mac, v4, ArpForm::Request))?;
                send(MAC_BROADCAST, &gratuitous_arp(mac, v4, ArpForm::Reply))
            }
            IpAddr::V6(v6) => {
                let frame = unsolicited_na(mac, v6);
                let to = frame.first_chunk().copied().unwrap_or(MAC_BROADCAST);
                send(to, &frame)
            }
        }
    }

    async fn tickle(&mut self, vip: IpAddr, tuples: &[Tuple]) -> Result<usize, VipError> {
        let mut sent = 0;
        let mut first_error = None;
        for tuple in tuples {
            let Some(packet) = tickle(SocketAddr::new(vip, tuple.server_port), tuple.client) else {
                continue;
            };
            // One client without a route must not keep the others waiting.
            match self.packets.send(tuple.client.ip().to_canonical(), &packet) {
                Ok(()) => sent += 1,
                Err(e) => first_error = first_error.or(Some(e)),
            }
        }
        match first_error {
            Some(source) if sent == 0 => Err(VipError::Raw { what: "send tickles", source }),
            _ => Ok(sent),
        }
    }
}

fn failed(verb: &'static str, vip: IpAddr) -> impl Fn(rtnetlink::Error) -> VipError {
    move |e| {
        let text = match e {
            rtnetlink::Error::NetlinkError(e) => e.to_io().to_string(),
            other => other.to_string(),
        };
        VipError::Netlink { verb, vip, text }
    }
}

/// The errno in a netlink error, positive.
fn code(e: &ErrorMessage) -> i32 {
    e.raw_code().saturating_neg()
}

pub(super) fn full_prefix(vip: IpAddr) -> u8 {
    if vip.is_ipv4() { 32 } else { 128 }
}

/// The host's own address in an address message: IFA_LOCAL where there is one (on point-to-point links
/// IFA_ADDRESS is the other end's).
fn local(message: &AddressMessage) -> Option<IpAddr> {
    let mut address = None;
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(a) => return Some(*a),
            AddressAttribute::Address(a) => address = Some(*a),
            _ => {}
        }
    }
    address
}

/// Is the VIP within the subnet of this address? A host address has none.
pub(super) fn contains(message: &AddressMessage, vip: IpAddr) -> bool {
    let prefix = message.header.prefix_len;
    prefix > 0
        && prefix < full_prefix(vip)
        && match (local(message), vip) {
            (Some(IpAddr::V4(a)), IpAddr::V4(v)) => {
                (u32::from(a) ^ u32::from(v)).leading_zeros() >= u32::from(prefix)
            }
            (Some(IpAddr::V6(a)), IpAddr::V6(v)) => {
                (u128::from(a) ^ u128::from(v)).leading_zeros() >= u32::from(prefix)
            }
            _ => false,
        }
}
