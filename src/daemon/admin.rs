//! The admin interface of this node. Administrators and both nodes may call it.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use proto::admin::{
    ChangeExportRequest, CrashReply, CrashRequest, DivergentReply, DivergentRequest, DrainReply,
    DrainRequest, Event, EventsRequest, LocksReply, LocksRequest, NodeChanges, PutConfigReply,
    PutConfigRequest, ReloadReply, ReloadRequest, StatusReply, StatusRequest, TakeoverReply, TakeoverRequest,
    TakeoverResult, admin_server,
};
use replica::ids::voter;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status};

use super::checks;
use super::current::Current;
use super::divergent;
use super::drained::Drained;
use super::export::Export;
use super::hub::{Answer, Exports, HubInput, HubView};
use super::locks;
use super::pauses::Pauses;
use super::reload::Reloader;
use super::rpcbind::Portmapper;
use super::saved::Saved;
use super::session::PeerLink;
use super::status;
use super::witness_link::WitnessLink;
use crate::events::Events;
use crate::tls::{Principal, caller};

/// An order that takes longer has failed, or its end is to be seen in `status`.
const ORDER_MAX: Duration = Duration::from_secs(15);

/// See the module.
#[derive(Clone)]
pub struct AdminService {
    /// What this node runs with.
    pub current: Arc<Current>,
    /// Reads it anew.
    pub reloader: Arc<Reloader>,
    /// This node's name.
    pub node: String,
    /// When the process began.
    pub started_ns: u64,
    /// All exports.
    pub exports: Arc<Exports>,
    /// The session.
    pub peer: Option<Arc<PeerLink>>,
    /// The witness.
    pub witness: Option<Arc<WitnessLink>>,
    /// Who decides.
    pub hub: mpsc::UnboundedSender<HubInput>,
    /// What it shows.
    pub view: Arc<Mutex<HubView>>,
    /// History.
    pub events: Arc<Events>,
    /// Who answers on port 111.
    pub portmapper: Arc<Portmapper>,
    /// Whether this node is drained.
    pub drained: Arc<Drained>,
    /// How long takeovers were for clients.
    pub pauses: Arc<Pauses>,
    /// What only this node had.
    pub saved: Arc<Saved>,
}

impl AdminService {
    fn chosen(&self, request: &TakeoverRequest) -> Result<Vec<Arc<Export>>, Status> {
        if request.all {
            return Ok(self.exports.all());
        }
        request.exports.iter().map(|wanted| self.export(wanted)).collect()
    }

    /// The export of this path or id.
    fn export(&self, wanted: &str) -> Result<Arc<Export>, Status> {
        let config = self.current.config();
        config.export(wanted).and_then(|e| self.exports.get(e.id)).ok_or_else(|| {
            let known: Vec<_> = config.exports.iter().map(|e| e.path.as_str()).collect();
            Status::not_found(format!("no export {wanted}; there are {}", known.join(", ")))
        })
    }

    pub(super) async fn order(&self, make: impl FnOnce(Answer) -> HubInput) -> Result<(), String> {
        let (answer, outcome) = oneshot::channel();
        self.hub.send(make(answer)).map_err(|_| "the server is stopping".to_owned())?;
        match tokio::time::timeout(ORDER_MAX, outcome).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err("the server is stopping".to_owned()),
            Err(_) => {
                Err(format!("it has not happened within {} s: see `hanfs status`", ORDER_MAX.as_secs()))
            }
        }
    }

    /// What a forced takeover gives up, as far as it can be known here.
    fn would_discard(&self, export: &Export) -> String {
        let config = self.current.config();
        let other = config.peer_of(&self.node).map_or("the other node", |n| n.name.as_str());
        match export.with_group(|g| g.node_status()) {
            None => "this node has no copy of it".to_owned(),
            Some(raft) => format!(
                "{} would be served from this node's copy as of entry {} (term {}); every change after it that only {other} has is discarded when {other} comes back, locks are not kept, and if {other} still serves, both do",
                export.config().path,
                raft.last,
                raft.term
            ),
        }
    }

    async fn one(&self, export: Arc<Export>, request: &TakeoverRequest) -> TakeoverResult {
        let started = Instant::now();
        let leader = export.with_group(|g| g.node_status().leader).flatten();
        let home_voter = voter::HOME;
        let target = if request.giveback { home_voter } else { export.me };
        let to_peer = target != export.me;
        let mut result = TakeoverResult { export: export.config().path.clone(), ..TakeoverResult::default() };
        if request.check {
            result.checks = checks::of(self, &export);
            result.ok = result.checks.iter().all(|c| c.ok);
            return result;
        }
        let drained = self.refused_for_drain(to_peer);
        let outcome = if request.force && !request.confirmed {
            result.would_discard = self.would_discard(&export);
            Err("not confirmed".to_owned())
        } else if request.force {
            self.order(|answer| HubInput::Force(export.id(), answer)).await
        } else if leader == Some(target) {
            Ok(())
        } else if let Some(why) = drained {
            Err(why)
        } else if to_peer {
            self.order(|answer| HubInput::GiveAway(export.id(), answer)).await
        } else {
            self.order(|answer| HubInput::TakeOver(export.id(), answer)).await
        };
        result.ok = outcome.is_ok();
        result.message = match outcome {
            Ok(()) if leader == Some(target) => "it is there already".to_owned(),
            Ok(()) => "done".to_owned(),
            Err(why) => why,
        };
        result.took_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        result
    }
}

/// For orders that only the other node may give.
fn admit_node<T>(request: &Request<T>, own: &str) -> Result<(), Status> {
    match caller(request) {
        Some(Principal::Node(name)) if name != own => Ok(()),
        Some(other) => Err(Status::permission_denied(format!("{other} is not this node's peer"))),
        None => Err(Status::unauthenticated("no certificate of this cluster")),
    }
}

fn admit<T>(request: &Request<T>) -> Result<(), Status> {
    match caller(request) {
        Some(Principal::Admin | Principal::Node(_)) => Ok(()),
        Some(other) => Err(Status::permission_denied(format!("{other} may not administer nodes"))),
        None => Err(Status::unauthenticated("no certificate of this cluster")),
    }
}

/// What came of a reload; a refusal is a precondition that does not hold.
fn answer(
    done: Result<Result<Vec<NodeChanges>, String>, tokio::task::JoinError>,
) -> Result<Response<ReloadReply>, Status> {
    let nodes = done.map_err(|e| Status::internal(e.to_string()))?.map_err(Status::failed_precondition)?;
    Ok(Response::new(ReloadReply { nodes }))
}

#[tonic::async_trait]
impl admin_server::Admin for AdminService {
    type EventsStream = Pin<Box<dyn Stream<Item = Result<Event, Status>> + Send>>;

    async fn status(&self, request: Request<StatusRequest>) -> Result<Response<StatusReply>, Status> {
        admit(&request)?;
        let saved = self.saved.look().await;
        Ok(Response::new(status::reply(self, &saved)))
    }

    async fn takeover(&self, request: Request<TakeoverRequest>) -> Result<Response<TakeoverReply>, Status> {
        admit(&request)?;
        let request = request.into_inner();
        let mut results = Vec::new();
        for export in self.chosen(&request)? {
            results.push(self.one(export, &request).await);
        }
        Ok(Response::new(TakeoverReply { results }))
    }

    type PutConfigStream = ReceiverStream<Result<PutConfigReply, Status>>;

    async fn reload(&self, request: Request<ReloadRequest>) -> Result<Response<ReloadReply>, Status> {
        admit(&request)?;
        let (reloader, request) = (self.reloader.clone(), request.into_inner());
        // In a task of its own: what has begun is done, whether or not the caller stays.
        let done = tokio::spawn(async move { reloader.reload(&request).await }).await;
        answer(done)
    }

    async fn change_export(
        &self,
        request: Request<ChangeExportRequest>,
    ) -> Result<Response<ReloadReply>, Status> {
        admit(&request)?;
        let (reloader, request) = (self.reloader.clone(), request.into_inner());
        let done = tokio::spawn(async move { reloader.change_export(&request).await }).await;
        answer(done)
    }

    async fn put_config(
        &self,
        request: Request<PutConfigRequest>,
    ) -> Result<Response<Self::PutConfigStream>, Status> {
        admit_node(&request, &self.node)?;
        // The two messages that there are.
        let (replies, stream) = mpsc::channel(2);
        self.reloader.put(request.into_inner(), replies).await.map_err(Status::failed_precondition)?;
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn events(&self, request: Request<EventsRequest>) -> Result<Response<Self::EventsStream>, Status> {
        admit(&request)?;
        Ok(Response::new(Box::pin(self.events.answer(&request.into_inner()).map(Ok))))
    }

    async fn drain(&self, request: Request<DrainRequest>) -> Result<Response<DrainReply>, Status> {
        admit(&request)?;
        let (node, request) = (self.clone(), request.into_inner());
        // In a task of its own: what has begun is done, whether or not the caller stays.
        let done = tokio::spawn(async move { AdminService::drain(&node, &request).await }).await;
        let done = done.map_err(|e| Status::internal(e.to_string()))?;
        done.map(Response::new).map_err(Status::failed_precondition)
    }

    async fn crash(&self, request: Request<CrashRequest>) -> Result<Response<CrashReply>, Status> {
        admit(&request)?;
        if !request.into_inner().confirmed {
            return Err(Status::failed_precondition("not confirmed"));
        }
        self.crash_soon();
        Ok(Response::new(CrashReply {}))
    }

    async fn divergent(
        &self,
        request: Request<DivergentRequest>,
    ) -> Result<Response<DivergentReply>, Status> {
        admit(&request)?;
        let config = self.current.config();
        let own = config.node(&self.node).ok_or_else(|| Status::internal("this node is not configured"))?;
        let (data, request) = (own.data.clone(), request.into_inner());
        let answered = tokio::task::spawn_blocking(move || divergent::answer(&data, &request)).await;
        let answered = answered.map_err(|e| Status::internal(e.to_string()))?;
        // So that the next status does not speak of what was removed.
        self.saved.look().await;
        answered.map(Response::new)
    }

    async fn locks(&self, request: Request<LocksRequest>) -> Result<Response<LocksReply>, Status> {
        admit(&request)?;
        let request = request.into_inner();
        let export = self.export(&request.export)?;
        let answer = tokio::time::timeout(ORDER_MAX, locks::answer(&export, &request)).await;
        let late = || format!("it has not happened within {} s: see `hanfs status`", ORDER_MAX.as_secs());
        answer.map_err(|_| Status::deadline_exceeded(late()))?.map(Response::new)
    }
}
