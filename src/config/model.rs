//! A configuration that has passed every check: what the rest of the program reads.
//!
//! Invariants (made by `check`): one or two nodes in the order of their names; every export's home is one of
//! them; paths, ids and virtual IPs are unique; timing holds its relations; an arbiter has what it needs.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use nfsd::access::Who;
use replica::ids::ExportId;
use serde::Deserialize;
use uuid::Uuid;

use crate::tls::{Principal, TlsFiles};

/// The whole file.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where it was read.
    pub path: PathBuf,
    /// The cluster's identity.
    pub cluster: Uuid,
    /// One or two, in the order of their names.
    pub nodes: Vec<Node>,
    /// The third voter, where there is one.
    pub witness: Option<Witness>,
    /// Who decides when a node is gone.
    pub arbiter: Arbiter,
    /// In the order of the file.
    pub exports: Vec<Export>,
    /// How clients reach the exports.
    pub network: Network,
    /// Pings, leases, promises.
    pub timing: Timing,
    /// Bounds on memory and disk.
    pub limits: Limits,
    /// Where figures for Prometheus are; `None`: nowhere.
    pub metrics: Option<Metrics>,
    /// Certificates and keys.
    pub tls: Tls,
}

/// One box.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// The key under `[nodes]`.
    pub name: String,
    /// Peers, guardians and administrators reach it here.
    pub address: SocketAddr,
    /// Where given: a second address, for what nodes say to each other.
    pub replication: Option<SocketAddr>,
    /// Its data directory.
    pub data: PathBuf,
}

impl Node {
    /// Where the other node's server and guardian connect to.
    pub fn peer_address(&self) -> SocketAddr {
        self.replication.unwrap_or(self.address)
    }
}

/// The third voter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Witness {
    /// Nodes reach it here.
    pub address: SocketAddr,
    /// Its data directory.
    pub data: PathBuf,
}

/// Who decides that a node is gone when no majority of voters can.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ArbiterKind {
    /// The witness process votes.
    Witness,
    /// A command that powers the other node off, or isolates it, succeeded.
    Fence,
    /// All paths to the other node dead for the whole timeout. Two-box assumption; see the documentation.
    FailStop,
    /// An administrator, by `hanfs takeover --force`.
    None,
}

/// The arbiter and what it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arbiter {
    /// Which.
    pub kind: ArbiterKind,
    /// `fence`: program and arguments.
    pub command: Vec<String>,
    /// `fence`: how long the command may take. `fail-stop`: how long every path has to be dead.
    pub timeout_ms: u64,
}

/// What "persisted" means for an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// On the disks of both nodes before the reply.
    Disk,
    /// In the log files of both nodes before the reply, on disk soon after.
    Memory,
}

impl Durability {
    /// As in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Disk => "disk",
            Self::Memory => "memory",
        }
    }
}

/// Which callers become the anonymous user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Squash {
    /// uid 0 and gid 0.
    Root,
    /// Everybody.
    All,
    /// Nobody.
    None,
}

/// A virtual IP and the length of its network's prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vip {
    /// The address that clients mount.
    pub address: IpAddr,
    /// Bits of the network part.
    pub prefix_bits: u8,
}

impl fmt::Display for Vip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix_bits)
    }
}

/// What a client may do, and as whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    /// It may change nothing.
    pub read_only: bool,
    /// Which of its users are made anonymous.
    pub squash: Squash,
    /// uid of the anonymous user.
    pub anon_uid: u32,
    /// gid of the anonymous user.
    pub anon_gid: u32,
    /// Only from a port below 1024.
    pub secure: bool,
}

/// One entry of `clients`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// Whom it means.
    pub who: Who,
    /// The same as it is written, without the options.
    pub group: String,
    /// What they may do.
    pub access: Access,
}

/// One replicated file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    /// What clients mount.
    pub path: String,
    /// Its identity, part of every file handle.
    pub id: ExportId,
    /// Name of the node that serves it when both are well.
    pub home: String,
    /// Where it is served.
    pub vip: Vip,
    /// The interface that carries the virtual IP; else the one that has an address of the same network.
    pub interface: Option<String>,
    /// What a reply promises.
    pub durability: Durability,
    /// Nobody may change anything; this and the next four as far as `clients` does not say otherwise.
    pub read_only: bool,
    /// Who is made anonymous.
    pub squash: Squash,
    /// uid of the anonymous user.
    pub anon_uid: u32,
    /// gid of the anonymous user.
    pub anon_gid: u32,
    /// Clients are heard from ports below 1024 only.
    pub secure: bool,
    /// Who may use it, and how; `None`: everybody.
    pub clients: Option<Vec<Client>>,
    /// Bytes that its files may hold; 0: no limit.
    pub quota_bytes: u64,
    /// Files, directories and all else that it may have; 0: no limit.
    pub quota_inodes: u64,
    /// Give it back to its home this long after home is in sync again; absent: an administrator does.
    pub giveback_after_s: Option<u64>,
}

impl Export {
    /// What its own keys let a client do.
    pub fn access(&self) -> Access {
        let Self { read_only, squash, anon_uid, anon_gid, secure, .. } = *self;
        Access { read_only, squash, anon_uid, anon_gid, secure }
    }
}

/// Who moves virtual IPs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Driver {
    /// Adds and removes addresses; needs CAP_NET_ADMIN and CAP_NET_RAW.
    Netlink,
    /// Binds to addresses of the loopback network only: no privileges, one machine.
    Loopback,
}

/// How clients reach the exports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    /// Who moves virtual IPs.
    pub driver: Driver,
    /// NFS, and every other program too.
    pub nfs_port: u16,
    /// Portmapper, TCP and UDP; 0: none.
    pub portmap_port: u16,
}

/// All in ms. 3 x ping < lease, lease x 1.05 < promise < detect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// Between two pings of a leader.
    pub ping_ms: u64,
    /// A leader serves this long after a ping that a majority has answered.
    pub lease_ms: u64,
    /// A voter that heard a leader votes for nobody else this long.
    pub promise_ms: u64,
    /// A node without a sign of life, or a backup without progress, for this long is lost.
    pub detect_ms: u64,
}

/// Bounds. MB are 1024 x 1024 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Metadata kept in memory, per node.
    pub cache_mb: u64,
    /// Client connections, per node.
    pub connections: u64,
    /// Calls in progress, per node.
    pub in_flight_mb: u64,
    /// A checkpoint is written at the latest after this much log, per export.
    pub checkpoint_mb: u64,
    /// Log kept for a backup that lags, per export; past it the backup gets a new copy.
    pub wal_mb: u64,
}

/// Where each node answers `GET /metrics`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metrics {
    /// The address; `None`: that of the node.
    pub ip: Option<IpAddr>,
    /// The port.
    pub port: u16,
}

/// Certificates and keys, where they are not in the default place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// The cluster's certificate authority.
    pub ca: PathBuf,
    /// This box's certificate; absent: `keys/NAME.pem` next to the configuration.
    pub cert: Option<PathBuf>,
    /// Its key; absent: `keys/NAME.key` next to the configuration.
    pub key: Option<PathBuf>,
}

impl Config {
    /// The node of this name.
    pub fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.iter().find(|node| node.name == name)
    }

    /// The other node of the pair.
    pub fn peer_of(&self, name: &str) -> Option<&Node> {
        self.nodes.iter().find(|node| node.name != name)
    }

    /// The node that mirrors an export; a cluster of one has none.
    pub fn mirror_of(&self, export: &Export) -> Option<&Node> {
        self.peer_of(&export.home)
    }

    /// The export of this path or id.
    pub fn export(&self, path_or_id: &str) -> Option<&Export> {
        self.exports.iter().find(|e| e.path == path_or_id || e.id.to_string() == path_or_id)
    }

    /// Certificate and key of a principal: what `[tls]` says, else `keys/` next to the configuration.
    pub fn tls_files(&self, who: &Principal) -> TlsFiles {
        let keys = self.keys_dir();
        let name = who.file_name();
        TlsFiles {
            ca: self.tls.ca.clone(),
            cert: self.tls.cert.clone().unwrap_or_else(|| keys.join(format!("{name}.pem"))),
            key: self.tls.key.clone().unwrap_or_else(|| keys.join(format!("{name}.key"))),
        }
    }

    /// `keys/` next to the configuration.
    pub fn keys_dir(&self) -> PathBuf {
        self.path.parent().unwrap_or_else(|| Path::new(".")).join("keys")
    }
}
