//! `hanfs serve`: the guardian's configuration, from the cluster's.

use std::ffi::OsString;
use std::process::ExitCode;

use failover::guardian::{
    Driver, GuardianConfig, GuardianExport, GuardianPeer, GuardianTiming, ServerCommand,
};
use failover::net::Port;

use super::identity::Identity;
use super::priority;
use crate::config::Config;
use crate::config::model;
use crate::tls::{Credentials, Principal};

/// Runs until the server ends for good or a signal asks for it.
pub fn serve(config: Config, node: String) -> anyhow::Result<ExitCode> {
    priority::raise();
    let credentials = Credentials::load(&config.tls_files(&Principal::Node(node.clone())))?;
    let identity = Identity::new(*config.cluster.as_bytes(), &node)?;
    let peer = match config.peer_of(&node) {
        Some(peer) => Some(GuardianPeer {
            endpoint: credentials.endpoint(&Principal::Node(peer.name.clone()), peer.peer_address())?,
            hello: identity.hello(Vec::new(), bytes::Bytes::new()),
        }),
        None => None,
    };
    let guardian = GuardianConfig {
        server: ServerCommand {
            program: "/proc/self/exe".into(),
            args: ["server", "--config"]
                .map(OsString::from)
                .into_iter()
                .chain([config.path.clone().into_os_string()])
                .chain(["--node".into(), node.into()])
                .collect(),
            envs: Vec::new(),
        },
        sentinel: ServerCommand {
            program: "/proc/self/exe".into(),
            args: vec!["sentinel".into()],
            envs: Vec::new(),
        },
        exports: exports(&config),
        ports: ports(config.network),
        driver: match config.network.driver {
            model::Driver::Netlink => Driver::Netlink,
            model::Driver::Loopback => Driver::Loopback,
        },
        peer,
        timing: GuardianTiming::default(),
    };
    Ok(ExitCode::from(failover::guardian::run(guardian)?))
}

/// `hanfs sentinel`: needs no configuration.
pub fn sentinel() -> ExitCode {
    ExitCode::from(failover::sentinel::run())
}

/// The guardian's part of every export.
pub(super) fn exports(config: &Config) -> Vec<GuardianExport> {
    let of =
        |e: &model::Export| GuardianExport { id: e.id, vip: e.vip.address, interface: e.interface.clone() };
    config.exports.iter().map(of).collect()
}

fn ports(network: model::Network) -> Vec<Port> {
    let nfs = [Port::tcp, Port::udp].map(|port| port(network.nfs_port));
    let portmap = [Port::tcp, Port::udp].map(|port| port(network.portmap_port));
    // On the well-known port the host's rpcbind can stand in, see `rpcbind`; on another one nobody can.
    let stand_in = network.portmap_port == nfsd::rpcbind::PORT;
    let portmap = portmap.map(|port| if stand_in { port.optional() } else { port });
    nfs.into_iter().chain(portmap).filter(|port| port.number != 0).collect()
}
