//! The front end of this node: an NFS service per export that is served here, and who may use which.
//!
//! Access lists and quotas are of all configured exports, served here or not, so that names are looked up
//! before a takeover needs them. [`Front::configure`] changes them while clients are connected.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use failover::net::Tuple;
use failover::net::listen::Listeners;
use nfsd::access::{Access, AccessList, Rule};
use nfsd::exports::{ExportPolicy, Shown, Squash};
use nfsd::server::{Listen, OnAccept, Server, Service};
use proto::op::op::Kind;
use proto::op::{OP_VERSION, Op, SetQuota};
use replica::clock::wall_ns;
use replica::handle::GroupHandle;
use replica::ids::ExportId;
use tokio::sync::{mpsc, oneshot};

use super::export::Export;
use super::hub::HubInput;
use super::names::{Resolver, System};
use super::rpcbind::Portmapper;
use crate::config::model;

/// What clients may do with an export, and how much it may hold.
struct Policy {
    access: Arc<Access>,
    quota: SetQuota,
}

/// An export that is served here.
struct Served {
    service: Arc<Service>,
    handle: GroupHandle,
}

/// See the module.
pub struct Front {
    server: Server,
    services: HashMap<ExportId, Served>,
    policies: HashMap<ExportId, Policy>,
    resolver: Resolver,
    nfs_port: u16,
    portmapper: Arc<Portmapper>,
    /// Where calls are read and answered: threads of its own, so that a slow disk under a READ delays no
    /// ping.
    runtime: tokio::runtime::Handle,
    hub: mpsc::UnboundedSender<HubInput>,
}

impl Front {
    /// Serves nothing yet. `exports`: all that are configured.
    pub fn new(
        limits: nfsd::rpc::Limits,
        nfs_port: u16,
        portmapper: Arc<Portmapper>,
        runtime: tokio::runtime::Handle,
        hub: mpsc::UnboundedSender<HubInput>,
        exports: &[model::Export],
    ) -> Self {
        let resolver = Resolver::start(System, &runtime);
        let (server, services, policies) = (Server::new(limits), HashMap::new(), HashMap::new());
        let mut front = Self { server, services, policies, resolver, nfs_port, portmapper, runtime, hub };
        exports.iter().for_each(|export| front.configure(export));
        front
    }

    /// From now on this is what clients may do with the export, and how much it may hold; who is connected meets it at
    /// the next call. An export that is new can be started after this.
    pub fn configure(&mut self, config: &model::Export) {
        let quota = SetQuota { bytes: config.quota_bytes, inodes: config.quota_inodes };
        let list = access_list(config);
        let changed = match self.policies.get_mut(&config.id) {
            Some(policy) => {
                policy.access.replace(list);
                std::mem::replace(&mut policy.quota, quota) != quota
            }
            None => {
                let access = Access::new(list, self.resolver.names.clone());
                self.policies.insert(config.id, Policy { access, quota });
                false
            }
        };
        self.watch_names();
        self.propose_quota(config.id, changed);
    }

    /// The export is configured no more; it has been stopped.
    pub fn forget(&mut self, id: ExportId) {
        self.policies.remove(&id);
        self.watch_names();
    }

    fn watch_names(&self) {
        let lists = self.policies.values().map(|policy| policy.access.list());
        let hosts = lists.flat_map(|list| list.hosts().map(str::to_owned).collect::<Vec<_>>());
        self.resolver.watch(hosts.collect::<BTreeSet<_>>());
    }

    /// Begins to serve an export on these sockets.
    pub fn start(&mut self, export: &Export, listeners: Listeners) -> Result<(), String> {
        let id = export.id();
        let handle = export.with_group(|group| group.handle()).ok_or("the export does not run here")?;
        let access = self.policies.get(&id).map(|policy| policy.access.clone());
        let access = access.ok_or("the export is not configured")?;
        // Who has mounted will be heard from: begin to find out their names.
        handle.fs().mounts().iter().for_each(|(client, _)| access.expect(*client));
        self.server.add_export(Shown { handle: handle.clone(), access: access.clone() });
        self.portmapper.serving(id, &listeners);
        let listen = Listen {
            exports: vec![id],
            tcp: listeners.tcp,
            udp: listeners.udp,
            nfs_port: self.nfs_port,
            on_accept: self.on_accept(id, access),
        };
        // Before the next one begins: two would call the same waiters back.
        if let Some(before) = self.services.remove(&id) {
            before.service.close_silently();
        }
        let service = self.server.serve(listen, &self.runtime).map_err(|e| e.to_string())?;
        self.services.insert(id, Served { service: Arc::new(service), handle });
        self.propose_quota(id, false);
        Ok(())
    }

    /// Makes the configured quota the state's, where this node serves the export and the two differ. If it
    /// does not come through, another node serves by then, and proposes its own.
    /// `anyhow`: also where they are equal, for a change may be on its way to the state.
    fn propose_quota(&self, id: ExportId, anyhow: bool) {
        let (Some(served), Some(policy)) = (self.services.get(&id), self.policies.get(&id)) else { return };
        let (wanted, now) = (policy.quota, served.handle.fs().quota());
        if !anyhow && (wanted.bytes, wanted.inodes) == (now.bytes, now.inodes) {
            return;
        }
        let op = Op {
            version: OP_VERSION,
            clock_ns: wall_ns(),
            kind: Some(Kind::SetQuota(wanted)),
            ..Op::default()
        };
        let path = served.handle.path().to_owned();
        let done = Box::new(move |fate: Result<_, replica::handle::NotServing>| {
            if fate.is_ok() {
                tracing::info!(export = path, bytes = wanted.bytes, inodes = wanted.inodes, "quota set");
            }
        });
        served.handle.propose(op, bytes::Bytes::new(), done);
    }

    /// Nobody is served before the peer knows of the connection: else a takeover could not tickle the client.
    fn on_accept(&self, id: ExportId, access: Arc<Access>) -> OnAccept {
        let hub = self.hub.clone();
        Arc::new(move |tuple| {
            let hub = hub.clone();
            access.expect(tuple.client.ip());
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
        if let Some(Served { service, .. }) = self.services.remove(&id) {
            if reset {
                service.reset();
            } else {
                service.close_silently();
            }
        }
        self.server.remove_export(id);
        self.portmapper.stopped(id);
    }

    /// Takes no further calls of an export, answers those in flight, then says so.
    pub fn drain(&self, id: ExportId, within: Duration) {
        let (hub, service) = (self.hub.clone(), self.services.get(&id).map(|served| served.service.clone()));
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
        if let Some(served) = self.services.get(&id) {
            served.service.resume();
        }
    }

    /// Client connections of an export that are open now.
    pub fn tuples(&self, id: ExportId) -> HashSet<Tuple> {
        let open = self.services.get(&id).map(|served| served.service.connections()).unwrap_or_default();
        open.iter().map(|c| Tuple { client: c.tuple.client, server_port: c.tuple.server.port() }).collect()
    }

    /// When the first of these clients was answered since this node serves the export; see `Service::first_reply_ns`.
    pub fn first_reply_ns(&self, id: ExportId, among: &HashSet<IpAddr>) -> Option<u64> {
        self.services.get(&id)?.service.first_reply_ns(among)
    }

    /// How many.
    pub fn connections(&self, id: ExportId) -> u64 {
        self.services.get(&id).map_or(0, |served| served.service.counts().connections as u64)
    }
}

fn access_list(config: &model::Export) -> AccessList {
    match &config.clients {
        None => {
            let access = config.access();
            AccessList::everybody(policy(&access), access.secure)
        }
        Some(clients) => clients.iter().map(rule).collect(),
    }
}

fn rule(client: &model::Client) -> Rule {
    Rule {
        who: client.who.clone(),
        group: client.group.clone(),
        policy: policy(&client.access),
        secure: client.access.secure,
    }
}

fn policy(access: &model::Access) -> ExportPolicy {
    ExportPolicy {
        read_only: access.read_only,
        squash: match access.squash {
            model::Squash::Root => Squash::Root,
            model::Squash::All => Squash::All,
            model::Squash::None => Squash::None,
        },
        anon_uid: access.anon_uid,
        anon_gid: access.anon_gid,
    }
}
