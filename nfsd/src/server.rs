//! The door for the composition root: which exports there are, and one [`Service`] per virtual IP.
//!
//! Every program answers on every listener of a service, so that a firewall need only open 2049 and, for the
//! rpcbind's clients, 111. A service shows only the exports that it was made with.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use replica::ids::ExportId;
use tokio::runtime::Handle;

use crate::exports::{Exports, Shown};
use crate::mount::{self, Mount};
use crate::nfs3::Nfs3;
use crate::nlm::{self, Nlm, Outward};
use crate::nsm::{self, Nsm};
use crate::rpc::budget::Budget;
use crate::rpc::crowd::Crowd;
pub use crate::rpc::{Limits, Registry};
use crate::rpc::{accept, udp};
use crate::rpcbind::{self, Mapping, Protocol, Rpcbind};
use crate::service::Shared;
pub use crate::service::{BoxFuture, ConnectionInfo, Counts, DrainTimeout, Ending, OnAccept, Service, Tuple};

/// NFS, RFC 1813 section 1.2.
pub const NFS_PROGRAM: u32 = 100_003;
/// The version of NFS that is served.
pub const NFS_VERSION: u32 = 3;

/// The programs on the NFS port, with their versions: what rpcbind, ours or the host's, gives out.
pub const PROGRAMS: [(u32, u32); 6] = [
    (NFS_PROGRAM, NFS_VERSION),
    (mount::PROGRAM, mount::VERSION),
    (nlm::PROGRAM, 1),
    (nlm::PROGRAM, 3),
    (nlm::PROGRAM, 4),
    (nsm::PROGRAM, nsm::VERSION),
];

/// What a service listens on, and what it shows there.
pub struct Listen {
    /// The exports that its clients see.
    pub exports: Vec<ExportId>,
    /// Bound and listening.
    pub tcp: Vec<TcpListener>,
    /// Bound to the virtual IP, so that answers leave from it.
    pub udp: Vec<UdpSocket>,
    /// The port that rpcbind gives out for NFS and MOUNT: one of the above, ordinarily 2049.
    pub nfs_port: u16,
    /// Called with each accepted connection, before it is read.
    pub on_accept: OnAccept,
}

/// Why a service cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The export was not added.
    #[error("export {0} is not known to this server: add it before its service begins")]
    UnknownExport(ExportId),
    /// A socket cannot be used.
    #[error("register a listening socket with the runtime: {0}")]
    Socket(#[from] io::Error),
}

/// The front end of a node.
pub struct Server {
    limits: Limits,
    budget: Arc<Budget>,
    crowd: Arc<Crowd>,
    exports: Mutex<HashMap<ExportId, Shown>>,
    client_portmap_port: u16,
    grace: Duration,
}

impl Server {
    /// Shows nothing yet.
    pub fn new(limits: Limits) -> Self {
        let budget = Arc::new(Budget::new(limits.total_bytes_max));
        let crowd = Arc::new(Crowd::new(limits.connections_max));
        let (client_portmap_port, grace) = (rpcbind::PORT, nsm::GRACE);
        Self { limits, budget, crowd, exports: Mutex::default(), client_portmap_port, grace }
    }

    /// Asks clients' portmappers at another port than 111, which takes privileges to listen on.
    #[must_use]
    pub fn client_portmap_port(mut self, port: u16) -> Self {
        self.client_portmap_port = port;
        self
    }

    /// How long clients have to claim their locks where lock state was lost; else [`nsm::GRACE`].
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Services that begin from now on may show this export.
    pub fn add_export(&self, entry: impl Into<Shown>) {
        let entry = entry.into();
        self.exports.lock().insert(entry.handle.id(), entry);
    }

    /// Services that begin from now on do not know it any more.
    pub fn remove_export(&self, id: ExportId) {
        self.exports.lock().remove(&id);
    }

    /// Bytes of requests and replies in memory, over all services.
    pub fn bytes_in_flight(&self) -> usize {
        self.budget.used()
    }

    /// Begins to serve on these sockets.
    pub fn serve(&self, listen: Listen, runtime: &Handle) -> Result<Service, ServeError> {
        let exports = Arc::new(self.visible(&listen.exports)?);
        let outward = Outward::new(addresses(&listen), self.client_portmap_port, runtime.clone());
        let registry = registry(&exports, &outward, listen.nfs_port);
        let service = self.serve_registry(registry, listen, runtime)?;
        for export in exports.all() {
            let (group, shared) = (export.handle.clone(), service.shared());
            runtime.spawn(nlm::grant(group.clone(), outward.clone(), shared.clone()));
            runtime.spawn(nsm::recover(group, outward.clone(), shared.clone(), self.grace));
        }
        Ok(service)
    }

    /// Every program of a service that shows these exports, `nfs_port` being where its clients find them. It listens
    /// nowhere, so it calls nobody back.
    pub fn registry(
        &self,
        exports: &[ExportId],
        nfs_port: u16,
        runtime: &Handle,
    ) -> Result<Registry, ServeError> {
        let outward = Outward::new([], self.client_portmap_port, runtime.clone());
        Ok(registry(&Arc::new(self.visible(exports)?), &outward, nfs_port))
    }

    /// The same with any programs: `listen`'s exports and port are not looked at.
    pub fn serve_registry(
        &self,
        registry: Registry,
        listen: Listen,
        runtime: &Handle,
    ) -> Result<Service, ServeError> {
        let _context = runtime.enter();
        let tcp = listen.tcp.into_iter().map(into_tokio_tcp).collect::<io::Result<Vec<_>>>()?;
        let udp = listen.udp.into_iter().map(into_tokio_udp).collect::<io::Result<Vec<_>>>()?;
        let (limits, budget, crowd) = (self.limits.clone(), self.budget.clone(), self.crowd.clone());
        let shared = Arc::new(Shared::new(registry, limits, budget, crowd, listen.on_accept));
        for listener in tcp {
            runtime.spawn(accept::listen(listener, shared.clone()));
        }
        for socket in udp {
            runtime.spawn(udp::serve(socket, shared.clone()));
        }
        runtime.spawn(accept::sweep(shared.clone()));
        Ok(Service::new(shared))
    }

    fn visible(&self, ids: &[ExportId]) -> Result<Exports, ServeError> {
        let all = self.exports.lock();
        let entries = ids.iter().map(|id| all.get(id).cloned().ok_or(ServeError::UnknownExport(*id)));
        entries.collect::<Result<Exports, _>>()
    }
}

/// The addresses that a service listens on: clients know it by them.
fn addresses(listen: &Listen) -> Vec<IpAddr> {
    let tcp = listen.tcp.iter().filter_map(|socket| socket.local_addr().ok());
    let udp = listen.udp.iter().filter_map(|socket| socket.local_addr().ok());
    tcp.chain(udp).map(|addr| addr.ip().to_canonical()).collect()
}

/// Every program of a service.
fn registry(exports: &Arc<Exports>, outward: &Arc<Outward>, nfs_port: u16) -> Registry {
    let own = rpcbind::VERSIONS.rev().map(|version| (rpcbind::PROGRAM, version, rpcbind::PORT));
    let others = PROGRAMS.into_iter().map(|(program, version)| (program, version, nfs_port));
    let table = own.chain(others).flat_map(|(program, version, port)| {
        [Protocol::Tcp, Protocol::Udp].map(|protocol| Mapping { program, version, protocol, port })
    });
    Registry::new()
        .with(rpcbind::PROGRAM, rpcbind::VERSIONS, Rpcbind::new(table.collect()))
        .with(NFS_PROGRAM, NFS_VERSION..=NFS_VERSION, Arc::new(Nfs3::new(exports.clone())))
        .with(mount::PROGRAM, mount::VERSION..=mount::VERSION, Mount::new(exports.clone()))
        .with(nlm::PROGRAM, nlm::VERSIONS, Nlm::new(exports.clone(), outward.clone()))
        .with(nsm::PROGRAM, nsm::VERSION..=nsm::VERSION, Nsm::new(exports.clone()))
}

fn into_tokio_tcp(listener: TcpListener) -> io::Result<tokio::net::TcpListener> {
    listener.set_nonblocking(true)?;
    tokio::net::TcpListener::from_std(listener)
}

fn into_tokio_udp(socket: UdpSocket) -> io::Result<tokio::net::UdpSocket> {
    socket.set_nonblocking(true)?;
    tokio::net::UdpSocket::from_std(socket)
}
