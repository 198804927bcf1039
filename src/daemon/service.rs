//! What this node answers to the other one: sessions, copies, and the other node's guardian.

use std::pin::Pin;
use std::sync::Arc;

use proto::peer::{
    Frame, GuardianEvent, GuardianOrder, ImagePart, ImageRequest, guardian_event, guardian_order, peer_server,
};
use replica::ids::ExportId;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, UnboundedReceiverStream};
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};

use super::copy;
use super::hub::{Exports, HubInput};
use super::identity::Identity;
use super::session::PeerLink;
use crate::tls::{Principal, caller};

/// See the module.
pub struct PeerService {
    /// Who we are.
    pub identity: Identity,
    /// Name of the only node that is let in.
    pub peer: String,
    /// The session.
    pub link: Arc<PeerLink>,
    /// What can be copied.
    pub exports: Arc<Exports>,
    /// Who decides.
    pub hub: mpsc::UnboundedSender<HubInput>,
}

impl PeerService {
    fn admit<T>(&self, request: &Request<T>) -> Result<(), Status> {
        match caller(request) {
            Some(Principal::Node(name)) if name == self.peer => Ok(()),
            Some(other) => Err(Status::permission_denied(format!("{other} is not this node's peer"))),
            None => Err(Status::unauthenticated("no certificate of this cluster")),
        }
    }
}

/// The id in a message.
pub fn export_id(bytes: &[u8]) -> Option<ExportId> {
    bytes.try_into().ok().map(ExportId)
}

#[tonic::async_trait]
impl peer_server::Peer for PeerService {
    type SessionStream = Pin<Box<dyn Stream<Item = Result<Frame, Status>> + Send>>;
    type ImageStream = ReceiverStream<Result<ImagePart, Status>>;
    type GuardianStream = Pin<Box<dyn Stream<Item = Result<GuardianOrder, Status>> + Send>>;

    async fn session(
        &self,
        request: Request<Streaming<Frame>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        self.admit(&request)?;
        Ok(Response::new(Box::pin(self.link.accept(request.into_inner()).map(Ok))))
    }

    async fn image(&self, request: Request<ImageRequest>) -> Result<Response<Self::ImageStream>, Status> {
        self.admit(&request)?;
        let export = export_id(&request.get_ref().export)
            .and_then(|id| self.exports.get(id))
            .ok_or_else(|| Status::not_found("no such export"))?;
        Ok(Response::new(copy::serve(export)))
    }

    async fn guardian(
        &self,
        request: Request<Streaming<GuardianEvent>>,
    ) -> Result<Response<Self::GuardianStream>, Status> {
        self.admit(&request)?;
        let mut events = request.into_inner();
        let first = events.message().await?.and_then(|event| event.kind);
        let Some(guardian_event::Kind::Hello(hello)) = first else {
            return Err(Status::failed_precondition("the first event must be a hello"));
        };
        self.identity.check(&hello, &self.peer).map_err(Status::failed_precondition)?;
        let (orders, stream) = mpsc::unbounded_channel();
        let _ = orders.send(GuardianOrder {
            kind: Some(guardian_order::Kind::Hello(self.identity.hello(Vec::new(), bytes::Bytes::new()))),
        });
        let hub = self.hub.clone();
        let _ = hub.send(HubInput::PeerGuardianUp(orders.clone()));
        tokio::spawn(async move {
            while let Ok(Some(event)) = events.message().await {
                if let Some(kind) = event.kind {
                    let _ = hub.send(HubInput::PeerGuardian(kind));
                }
            }
            let _ = hub.send(HubInput::PeerGuardianDown(orders));
        });
        Ok(Response::new(Box::pin(UnboundedReceiverStream::new(stream).map(Ok))))
    }
}
