//! The other node's server, as far as a guardian sees it: the real protocol, played by a test.

use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use proto::peer::guardian_event::Kind as Event;
use proto::peer::guardian_order::Kind as Order;
use proto::peer::peer_server::{Peer, PeerServer};
use proto::peer::{ClientTuple, Frame, GuardianEvent, GuardianOrder, ImagePart, ImageRequest, VipReleased};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

use super::{EXPORT, hello};

type Orders = Arc<Mutex<Option<tokio::sync::mpsc::Sender<Result<GuardianOrder, Status>>>>>;

/// The other node's server, as far as a guardian sees it.
pub struct FakePeer {
    pub uri: String,
    events: mpsc::Receiver<Event>,
    orders: Orders,
    _runtime: tokio::runtime::Runtime,
}

struct Service {
    events: mpsc::Sender<Event>,
    orders: Orders,
}

#[tonic::async_trait]
impl Peer for Service {
    type SessionStream = ReceiverStream<Result<Frame, Status>>;
    type ImageStream = ReceiverStream<Result<ImagePart, Status>>;
    type GuardianStream = ReceiverStream<Result<GuardianOrder, Status>>;

    async fn session(&self, _: Request<Streaming<Frame>>) -> Result<Response<Self::SessionStream>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn image(&self, _: Request<ImageRequest>) -> Result<Response<Self::ImageStream>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn guardian(
        &self,
        request: Request<Streaming<GuardianEvent>>,
    ) -> Result<Response<Self::GuardianStream>, Status> {
        let (tx, rx) = tokio::sync::mpsc::channel(16);
        tx.send(Ok(GuardianOrder { kind: Some(Order::Hello(hello("bravo"))) })).await.unwrap();
        *self.orders.lock().unwrap() = Some(tx);
        let events = self.events.clone();
        let mut stream = request.into_inner();
        tokio::spawn(async move {
            while let Ok(Some(event)) = stream.message().await {
                let _ = events.send(event.kind.unwrap());
            }
        });
        Ok(Response::new(ReceiverStream::new(rx)))
    }
}

impl FakePeer {
    pub fn start() -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let uri = format!("http://{}", listener.local_addr().unwrap());
        let (tx, events) = mpsc::channel();
        let orders = Orders::default();
        let service = PeerServer::new(Service { events: tx, orders: orders.clone() });
        runtime.spawn(
            tonic::transport::Server::builder()
                .add_service(service)
                .serve_with_incoming(TcpListenerStream::new(listener)),
        );
        Self { uri, events, orders, _runtime: runtime }
    }

    /// The next event of interest.
    pub fn wait<T>(&self, what: &str, pick: impl Fn(Event) -> Option<T>) -> T {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let event = self.events.recv_timeout(left).unwrap_or_else(|_| panic!("no event: {what}"));
            if let Some(found) = pick(event) {
                return found;
            }
        }
    }

    pub fn order(&self, kind: Order) {
        let orders = self.orders.lock().unwrap();
        orders.as_ref().unwrap().blocking_send(Ok(GuardianOrder { kind: Some(kind) })).unwrap();
    }

    pub fn release(&self) -> bool {
        self.order(Order::Release(EXPORT.0.to_vec().into()));
        self.wait("the answer to a release", |e| match e {
            Event::Released(VipReleased { export, held }) if export[..] == EXPORT.0 => Some(held),
            _ => None,
        })
    }
}

pub fn gone(e: Event) -> Option<u64> {
    if let Event::ServerGone(id) = e { Some(id) } else { None }
}

pub fn up(e: Event) -> Option<u64> {
    if let Event::ServerUp(id) = e { Some(id) } else { None }
}

pub fn tuple(e: Event) -> Option<ClientTuple> {
    if let Event::Tuple(t) = e { Some(t) } else { None }
}
