//! What the guardian is told, and what can go wrong with it.

use std::ffi::OsString;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use replica::ids::ExportId;

use crate::net::listen::ListenError;
use crate::net::{Port, VipError};

/// Which VIP driver.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Driver {
    /// Addresses come and go on an interface. Needs CAP_NET_ADMIN and CAP_NET_RAW.
    Netlink,
    /// Only listeners come and go. Needs nothing.
    Loopback,
}

/// An export that this node may serve, at home or for its peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuardianExport {
    /// Its id.
    pub id: ExportId,
    /// Its virtual IP.
    pub vip: IpAddr,
    /// Interface for the VIP; `None`: the one whose subnet contains it.
    pub interface: Option<String>,
}

/// How to start the server or the sentinel.
#[derive(Clone, Debug)]
pub struct ServerCommand {
    /// Normally `/proc/self/exe`, so that an update in place does not mix versions.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Added to the environment.
    pub envs: Vec<(OsString, OsString)>,
}

/// The other node's server.
#[derive(Clone, Debug)]
pub struct GuardianPeer {
    /// Where, with TLS and timeouts; keepalives are set by the guardian.
    pub endpoint: tonic::transport::Endpoint,
    /// Who this guardian says it is; the peer's answer must name the same cluster.
    pub hello: proto::peer::Hello,
}

/// Times. The defaults suit a lease of 500 ms.
#[derive(Clone, Copy, Debug)]
pub struct GuardianTiming {
    /// A VIP is renewed this often: a quarter of its lifetime.
    pub renew: Duration,
    /// How long after the server's death a connected peer may take over before the server is started again here.
    pub handover: Duration,
    /// How long the server may take to end cleanly after SIGTERM; then SIGKILL.
    pub stop: Duration,
    /// Longest pause before the server is started again.
    pub restart_max: Duration,
}

impl Default for GuardianTiming {
    fn default() -> Self {
        Self {
            renew: Duration::from_secs(1),
            handover: Duration::from_secs(3),
            stop: Duration::from_secs(20),
            restart_max: Duration::from_secs(5),
        }
    }
}

/// Everything the guardian needs to know.
#[derive(Clone, Debug)]
pub struct GuardianConfig {
    /// How to start the server.
    pub server: ServerCommand,
    /// How to start the sentinel: a process that calls [`crate::sentinel::run`]. Used with [`Driver::Netlink`] only.
    pub sentinel: ServerCommand,
    /// The exports of both nodes at the start; the server says when there are others.
    pub exports: Vec<GuardianExport>,
    /// Ports to serve on each VIP, at most [`GuardianConfig::PORTS_MAX`].
    pub ports: Vec<Port>,
    /// The VIP driver.
    pub driver: Driver,
    /// `None`: this node has no peer.
    pub peer: Option<GuardianPeer>,
    /// Times.
    pub timing: GuardianTiming,
}

impl GuardianConfig {
    /// Most ports of a VIP: their sockets travel to the server in one message.
    pub const PORTS_MAX: usize = crate::wire::FDS_MAX;
}

/// Why the guardian could not start or had to end.
#[derive(Debug, thiserror::Error)]
pub enum GuardianError {
    /// Part of starting up.
    #[error("{what}: {source}")]
    Start {
        /// What was tried.
        what: &'static str,
        /// The system's error.
        source: io::Error,
    },
    /// The server could not be started the first time.
    #[error("start the server {program:?}: {source}")]
    Spawn {
        /// Which program.
        program: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// Addresses or raw sockets.
    #[error(transparent)]
    Vip(#[from] VipError),
    /// Listening sockets.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// Too many ports.
    #[error("{ports} ports are configured for each address; at most {max} are possible", max = GuardianConfig::PORTS_MAX)]
    TooManyPorts {
        /// As configured.
        ports: usize,
    },
}
