//! What a cluster on loopback addresses consists of, and which addresses and ports it gets.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;

use anyhow::Context;
use uuid::Uuid;

use crate::config::{Driver, Durability};
use crate::init::{Plan, PlanExport, PlanNode};

/// First ports tried; a cluster that runs already has its own.
const PEER_PORT: u16 = 7471;
const NFS_PORT: u16 = 20_490;
/// Ports tried.
const PORTS_MAX: u16 = 100;
/// Last byte of the first node's address; the second node's follows.
const NODE: u8 = 1;
/// Last byte of the witness's address.
const WITNESS: u8 = 3;
/// Last byte of the first virtual IP; the others follow.
const VIP: u8 = 11;

/// A cluster to be.
#[derive(Debug, Clone)]
pub struct Layout {
    /// The first bytes of its addresses, 127 in front. Clusters that run at a time have different ones.
    pub net: [u8; 3],
    /// One or two names, in their order.
    pub nodes: &'static [&'static str],
    /// With a witness?
    pub witness: bool,
    /// Paths, each with its home node.
    pub exports: &'static [(&'static str, &'static str)],
    /// Of all exports.
    pub durability: Durability,
}

impl Layout {
    fn address(&self, last: u8) -> Ipv4Addr {
        let [a, b, c] = self.net;
        Ipv4Addr::new(a, b, c, last)
    }

    /// The same as a plan, with files in `dir` and ports that are free now.
    pub fn plan(&self, dir: &Path) -> anyhow::Result<Plan> {
        let nodes: Vec<_> = self.nodes.iter().zip(NODE..).map(|(n, last)| (*n, self.address(last))).collect();
        let witness = self.witness.then(|| self.address(WITNESS));
        let vips: Vec<Ipv4Addr> =
            self.exports.iter().zip(VIP..).map(|(_, last)| self.address(last)).collect();
        let peers: Vec<Ipv4Addr> = nodes.iter().map(|(_, ip)| *ip).chain(witness).collect();
        let peer_port = free_port(&peers, PEER_PORT)?;
        let address = |ip: Ipv4Addr| SocketAddr::new(IpAddr::V4(ip), peer_port);
        let node = |(name, ip): &(&str, Ipv4Addr)| PlanNode {
            name: (*name).to_owned(),
            address: address(*ip),
            data: dir.join(name),
        };
        let export = |((path, home), vip): (&(&str, &str), &Ipv4Addr)| PlanExport {
            path: (*path).to_owned(),
            id: Uuid::new_v4(),
            home: (*home).to_owned(),
            vip: format!("{vip}/8"),
            durability: self.durability,
        };
        Ok(Plan {
            cluster: Uuid::new_v4(),
            nodes: nodes.iter().map(node).collect(),
            witness: witness.map(|ip| (address(ip), dir.join("witness"))),
            exports: self.exports.iter().zip(&vips).map(export).collect(),
            driver: Driver::Loopback,
            nfs_port: free_port(&vips, NFS_PORT)?,
            portmap_port: 0,
        })
    }
}

/// A port that nobody uses on any of these addresses.
fn free_port(addresses: &[Ipv4Addr], first: u16) -> anyhow::Result<u16> {
    let free = |port: u16| addresses.iter().all(|ip| TcpListener::bind((*ip, port)).is_ok());
    (first..first.saturating_add(PORTS_MAX))
        .find(|port| free(*port))
        .with_context(|| format!("no free port from {first} on {addresses:?}: is the loopback network up?"))
}
