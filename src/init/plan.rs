//! What a new cluster is to be.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use uuid::Uuid;

use crate::config::{Driver, Durability};
use crate::tls::Principal;

/// Where nodes and the witness listen unless told otherwise.
const PEER_PORT: u16 = 7400;

/// A cluster to be.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Its identity.
    pub cluster: Uuid,
    /// One or two.
    pub nodes: Vec<PlanNode>,
    /// The witness's address and data directory.
    pub witness: Option<(SocketAddr, PathBuf)>,
    /// At least one.
    pub exports: Vec<PlanExport>,
    /// Who moves virtual IPs.
    pub driver: Driver,
    /// NFS, and every other program.
    pub nfs_port: u16,
    /// Portmapper; 0: none.
    pub portmap_port: u16,
}

/// A node to be.
#[derive(Debug, Clone)]
pub struct PlanNode {
    /// Its name.
    pub name: String,
    /// Where it listens to peers and administrators.
    pub address: SocketAddr,
    /// Its data directory.
    pub data: PathBuf,
}

/// An export to be.
#[derive(Debug, Clone)]
pub struct PlanExport {
    /// What clients mount.
    pub path: String,
    /// Its identity.
    pub id: Uuid,
    /// Its home node.
    pub home: String,
    /// Virtual IP with prefix length.
    pub vip: String,
    /// What a reply promises.
    pub durability: Durability,
}

/// An option of `hanfs init` that is not of the form it has to have.
#[derive(Debug, thiserror::Error)]
#[error("{option} {value:?}: expected {expected}")]
pub struct PlanError {
    option: &'static str,
    value: String,
    expected: &'static str,
}

impl Plan {
    /// From the options of `hanfs init`; ids are new ones.
    pub fn from_options(
        nodes: &[String],
        witness: Option<&str>,
        exports: &[String],
    ) -> Result<Self, PlanError> {
        let nodes = nodes.iter().map(|text| node(text)).collect::<Result<_, _>>()?;
        let witness = witness
            .map(|text| {
                let address = address(text).ok_or_else(|| PlanError {
                    option: "--witness",
                    value: text.to_owned(),
                    expected: "ADDRESS or ADDRESS:PORT, as in 10.77.0.13",
                })?;
                Ok((address, PathBuf::from("/var/lib/hanfs-witness")))
            })
            .transpose()?;
        let exports = exports.iter().map(|text| export(text)).collect::<Result<_, _>>()?;
        let (driver, nfs_port, portmap_port) = (Driver::Netlink, 2049, 111);
        Ok(Self { cluster: Uuid::new_v4(), nodes, witness, exports, driver, nfs_port, portmap_port })
    }

    /// Everybody who gets a certificate.
    pub fn principals(&self) -> Vec<Principal> {
        let mut all: Vec<Principal> = self.nodes.iter().map(|n| Principal::Node(n.name.clone())).collect();
        all.extend(self.witness.as_ref().map(|_| Principal::Witness));
        all.push(Principal::Admin);
        all
    }

    /// The address in a principal's certificate; an administrator has none.
    pub fn address_of(&self, who: &Principal) -> Option<IpAddr> {
        match who {
            Principal::Node(name) => self.nodes.iter().find(|n| n.name == *name).map(|n| n.address.ip()),
            Principal::Witness => self.witness.as_ref().map(|(address, _)| address.ip()),
            Principal::Admin => None,
        }
    }
}

fn address(text: &str) -> Option<SocketAddr> {
    text.parse().ok().or_else(|| Some(SocketAddr::new(text.parse().ok()?, PEER_PORT)))
}

fn node(text: &str) -> Result<PlanNode, PlanError> {
    let parsed = text.split_once('=').and_then(|(name, rest)| {
        Some(PlanNode { name: name.to_owned(), address: address(rest)?, data: "/var/lib/hanfs".into() })
    });
    parsed.ok_or_else(|| PlanError {
        option: "--node",
        value: text.to_owned(),
        expected: "NAME=ADDRESS or NAME=ADDRESS:PORT, as in a=10.77.0.11",
    })
}

fn export(text: &str) -> Result<PlanExport, PlanError> {
    let mut parts = text.splitn(3, ':');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(path), Some(home), Some(vip)) => Ok(PlanExport {
            path: path.to_owned(),
            id: Uuid::new_v4(),
            home: home.to_owned(),
            vip: vip.to_owned(),
            durability: Durability::Disk,
        }),
        _ => Err(PlanError {
            option: "--export",
            value: text.to_owned(),
            expected: "PATH:HOME:VIP/PREFIX, as in /export:a:10.77.0.10/24",
        }),
    }
}
