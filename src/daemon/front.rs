//! The front end of this node: an NFS service per export that is served here.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use failover::net::Tuple;
use failover::net::listen::Listeners;
use nfsd::exports::{ExportEntry, ExportPolicy, Squash};
use nfsd::server::{Listen, OnAccept, Server, Service};
use replica::ids::ExportId;
use tokio::sync::{mpsc, oneshot};

use super::export::Export;
use super::hub::HubInput;
use crate::config::model;

/// See the module.
pub struct Front {
    server: Server,
    services: HashMap<ExportId, Arc<Service>>,
    nfs_port: u16,
    /// Where calls are read and answered: threads of its own, so that a slow disk under a READ delays no ping.
    runtime: tokio::runtime::Handle,
    hub: mpsc::UnboundedSender<HubInput>,
}

impl Front {
    /// Serves nothing yet.
    pub fn new(
        limits: nfsd::rpc::Limits,
        nfs_port: u16,
        runtime: tokio::runtime::Handle,
        hub: mpsc::UnboundedSender<HubInput>,
    ) -> Self {
        Self { server: Server::new(limits), services: HashMap::new(), nfs_port, runtime, hub }
    }

    /// Begins to serve an export on these sockets.
    pub fn start(&mut self, export: &Export, listeners: Listeners) -> Result<(), String> {
        let id = export.id();
        let handle = export.with_group(|group| group.handle()).ok_or("the export does not run here")?;
        self.server.add_export(ExportEntry { handle, policy: policy(&export.config()) });
        let listen = Listen {
            exports: vec![id],
            tcp: listeners.tcp,
            udp: listeners.udp,
            nfs_port: self.nfs_port,
            on_accept: self.on_accept(id),
        };
        let service = self.server.serve(listen, &self.runtime).map_err(|e| e.to_string())?;
        if let Some(before) = self.services.insert(id, Arc::new(service)) {
            before.close_silently();
        }
        Ok(())
    }

    /// Nobody is served before the peer knows of the connection: else a takeover could not tickle the client.
    fn on_accept(&self, id: ExportId) -> OnAccept {
        let hub = self.hub.clone();
        Arc::new(move |tuple| {
            let hub = hub.clone();
            Box::pin(async move {
                let (known, wait) = oneshot::channel();
                let tuple = Tuple { client: tuple.client, server_port: tuple.server.port() };
                if hub.send(HubInput::Accepted(id, tuple, known)).is_ok() {
                    let _ = wait.await;
                }
            })
        })
    }

    /// Stops serving an export; nothing is answered any more.
    pub fn stop(&mut self, id: ExportId, reset: bool) {
        if let Some(service) = self.services.remove(&id) {
            if reset {
                service.reset();
            } else {
                service.close_silently();
            }
        }
        self.server.remove_export(id);
    }

    /// Takes no further calls of an export, answers those in flight, then says so.
    pub fn drain(&self, id: ExportId, within: Duration) {
        let (hub, service) = (self.hub.clone(), self.services.get(&id).cloned());
        tokio::spawn(async move {
            if let Some(service) = service {
                // Calls that are still there then are not answered here but, retransmitted, by the peer.
                let _ = service.drain(within).await;
            }
            let _ = hub.send(HubInput::Drained(id));
        });
    }

    /// Takes calls again after a drain that led to nothing.
    pub fn resume(&self, id: ExportId) {
        if let Some(service) = self.services.get(&id) {
            service.resume();
        }
    }

    /// Client connections of an export that are open now.
    pub fn tuples(&self, id: ExportId) -> HashSet<Tuple> {
        let open = self.services.get(&id).map(|service| service.connections()).unwrap_or_default();
        open.iter().map(|c| Tuple { client: c.tuple.client, server_port: c.tuple.server.port() }).collect()
    }

    /// How many.
    pub fn connections(&self, id: ExportId) -> u64 {
        self.services.get(&id).map_or(0, |service| service.counts().connections as u64)
    }
}

fn policy(config: &model::Export) -> ExportPolicy {
    ExportPolicy {
        read_only: config.read_only,
        squash: match config.squash {
            model::Squash::Root => Squash::Root,
            model::Squash::All => Squash::All,
            model::Squash::None => Squash::None,
        },
        anon_uid: config.anon_uid,
        anon_gid: config.anon_gid,
    }
}
