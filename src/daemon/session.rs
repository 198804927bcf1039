//! The session with the other node: one stream, both ways, for everything that the two say to each other.
//!
//! A session is up once each side has had the other's [`Hello`] and found it to be of the same cluster, protocol and
//! expected name. What comes on an earlier session never counts: a session that ends takes its queue with it, and
//! every group hears `PeerDown`. The node whose name sorts first dials; the other accepts.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use proto::peer::{ClientTuple, Frame, GroupFrame, Hello, frame, peer_client::PeerClient};
use replica::clock::{monotonic_ns, wall_ns};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::Streaming;
use tonic::transport::Endpoint;

use super::identity::Identity;

/// Between two attempts to reach the peer.
const REDIAL: Duration = Duration::from_millis(200);
/// A peer that does not confirm a client's connection for this long does not hold the client up.
const TUPLE_WAIT: Duration = Duration::from_secs(1);
/// A whole image part or a batch of entries fits, with room.
pub const MESSAGE_BYTES_MAX: usize = 32 << 20;

/// What a session brings.
pub trait Listener: Send + Sync + 'static {
    /// Say hello: what each group holds at this instant.
    fn hello(&self) -> Hello;
    /// The session is up; this is what the peer says of itself.
    fn up(&self, hello: Hello);
    /// It is over.
    fn down(&self, why: &str);
    /// For one group.
    fn group(&self, frame: GroupFrame);
    /// A client of the peer's.
    fn tuple(&self, tuple: ClientTuple);
    /// An administrator has drained the peer, or ended that.
    fn drained(&self);
}

/// The link to the other node, whichever session carries it now.
pub struct PeerLink {
    identity: Identity,
    peer: String,
    listener: Arc<dyn Listener>,
    current: Mutex<Current>,
    sessions: AtomicU64,
    tuple_seq: AtomicU64,
    /// When a frame came last, on the monotonic clock, ns; 0: never.
    heard_ns: AtomicU64,
}

#[derive(Default)]
struct Current {
    session: u64,
    frames: Option<mpsc::UnboundedSender<Frame>>,
    up: bool,
    since_ns: u64,
    error: String,
    /// Digest of the peer's configuration, as it said last.
    peer_config: bytes::Bytes,
    /// Its version, as it said in its last Hello.
    peer_version: String,
    /// Since when it is drained, as it said last; 0: it is not.
    peer_drained_ns: u64,
    /// Tuples that the peer has not confirmed yet.
    unconfirmed: HashMap<u64, oneshot::Sender<()>>,
}

/// For `status`.
pub struct LinkState {
    /// Is it up?
    pub up: bool,
    /// Since when it is, or is not; ns since 1970.
    pub since_ns: u64,
    /// Why it is not.
    pub error: String,
}

/// Longest digest of a configuration that is remembered, in bytes.
const DIGEST_BYTES_MAX: usize = 64;
/// Longest version that is remembered, in bytes.
const VERSION_BYTES_MAX: usize = 64;

impl PeerLink {
    /// A link to the node named `peer`; nothing is connected yet.
    pub fn new(identity: Identity, peer: String, listener: Arc<dyn Listener>) -> Arc<Self> {
        Arc::new(Self {
            identity,
            peer,
            listener,
            current: Mutex::new(Current { since_ns: wall_ns(), ..Current::default() }),
            sessions: AtomicU64::new(0),
            tuple_seq: AtomicU64::new(0),
            heard_ns: AtomicU64::new(0),
        })
    }

    /// Sends a group's messages; without a session they are lost, which Raft expects.
    pub fn send(&self, frame: GroupFrame) {
        let current = self.current.lock();
        if let (true, Some(frames)) = (current.up, &current.frames) {
            let _ = frames.send(Frame { kind: Some(frame::Kind::Group(frame)) });
        }
    }

    /// Tells the peer of a client's connection and waits until it knows, or has no part in this.
    pub async fn tuple(&self, mut tuple: ClientTuple) {
        let (done, known) = oneshot::channel();
        let seq;
        {
            let mut current = self.current.lock();
            let (true, Some(frames)) = (current.up, current.frames.clone()) else { return };
            seq = self.tuple_seq.fetch_add(1, Ordering::Relaxed) + 1;
            tuple.seq = seq;
            current.unconfirmed.insert(seq, done);
            let _ = frames.send(Frame { kind: Some(frame::Kind::Tuple(tuple)) });
        }
        if tokio::time::timeout(TUPLE_WAIT, known).await.is_err() {
            self.current.lock().unconfirmed.remove(&seq);
        }
    }

    /// Ends the session, if there is one: the next one starts with a new handshake.
    pub fn reset(&self, why: &str) {
        let session = self.current.lock().session;
        tracing::info!(peer = self.peer, why, "session reset");
        self.end(session, why);
    }

    /// For `status`.
    pub fn state(&self) -> LinkState {
        let current = self.current.lock();
        LinkState { up: current.up, since_ns: current.since_ns, error: current.error.clone() }
    }

    /// Digest of the configuration that the peer runs with, as it said last; empty: it never said.
    pub fn peer_config(&self) -> bytes::Bytes {
        self.current.lock().peer_config.clone()
    }

    fn set_peer_config(&self, digest: bytes::Bytes) {
        if digest.len() <= DIGEST_BYTES_MAX {
            self.current.lock().peer_config = digest;
        }
    }

    /// Tells the peer which configuration this node runs with from now on. Without a session, the next Hello does.
    pub fn say_config(&self, digest: bytes::Bytes) {
        let current = self.current.lock();
        if let (true, Some(frames)) = (current.up, &current.frames) {
            let _ = frames.send(Frame { kind: Some(frame::Kind::ConfigDigest(digest)) });
        }
    }

    /// The peer's version, as it said in its last Hello; empty: it never said.
    pub fn peer_version(&self) -> String {
        self.current.lock().peer_version.clone()
    }

    /// Since when the peer is drained, as it said last, ns since 1970; 0: it is not.
    pub fn peer_drained_ns(&self) -> u64 {
        self.current.lock().peer_drained_ns
    }

    /// When the peer was heard last, on the monotonic clock, ns; 0: never.
    pub fn heard_ns(&self) -> u64 {
        self.heard_ns.load(Ordering::Relaxed)
    }

    /// Tells the peer that this node is drained since then, or (0) not any more. Without a session, the next Hello does.
    pub fn say_drained(&self, since_ns: u64) {
        let current = self.current.lock();
        if let (true, Some(frames)) = (current.up, &current.frames) {
            let _ = frames.send(Frame { kind: Some(frame::Kind::DrainedSinceNs(since_ns)) });
        }
    }

    /// Is a session up?
    pub fn is_up(&self) -> bool {
        self.current.lock().up
    }

    /// A new session's outgoing frames, its Hello first.
    fn begin(&self) -> (u64, mpsc::UnboundedReceiver<Frame>) {
        let session = self.sessions.fetch_add(1, Ordering::Relaxed) + 1;
        let (frames, outgoing) = mpsc::unbounded_channel();
        let _ = frames.send(Frame { kind: Some(frame::Kind::Hello(self.listener.hello())) });
        let before = {
            let mut current = self.current.lock();
            let before = current.up.then_some(current.session);
            current.session = session;
            current.frames = Some(frames);
            before
        };
        if before.is_some() {
            self.fell("a newer session took its place");
        }
        (session, outgoing)
    }

    fn end(&self, session: u64, why: &str) {
        {
            let mut current = self.current.lock();
            if current.session != session || current.frames.is_none() {
                return;
            }
            current.frames = None;
            current.error = why.to_owned();
            current.unconfirmed.clear();
            if !current.up {
                return;
            }
        }
        self.fell(why);
    }

    fn fell(&self, why: &str) {
        {
            let mut current = self.current.lock();
            current.up = false;
            current.since_ns = wall_ns();
            current.error = why.to_owned();
            current.unconfirmed.clear();
        }
        self.listener.down(why);
    }

    fn is_current(&self, session: u64) -> bool {
        let current = self.current.lock();
        current.session == session && current.frames.is_some()
    }

    /// Reads a session to its end.
    async fn read(&self, session: u64, incoming: &mut Streaming<Frame>) -> String {
        let mut greeted = false;
        loop {
            let frame = match incoming.message().await {
                Ok(Some(Frame { kind: Some(kind) })) => kind,
                Ok(Some(Frame { kind: None })) => continue,
                Ok(None) => return format!("node {} closed the session", self.peer),
                Err(status) => {
                    return format!("the session with node {} broke: {}", self.peer, status.message());
                }
            };
            if !self.is_current(session) {
                return "superseded".to_owned();
            }
            self.heard_ns.store(monotonic_ns(), Ordering::Relaxed);
            match frame {
                frame::Kind::Hello(hello) if !greeted => {
                    if let Err(why) = self.identity.check(&hello, &self.peer) {
                        self.refuse(session, &why);
                        return why;
                    }
                    greeted = true;
                    self.set_peer_config(hello.config_digest.clone());
                    {
                        let mut current = self.current.lock();
                        current.up = true;
                        current.since_ns = wall_ns();
                        current.error.clear();
                        current.peer_drained_ns = hello.drained_since_ns;
                        if hello.hanfs_version.len() <= VERSION_BYTES_MAX {
                            current.peer_version.clone_from(&hello.hanfs_version);
                        }
                    }
                    self.listener.up(hello);
                }
                frame::Kind::Refused(why) => return format!("node {} refused the session: {why}", self.peer),
                _ if !greeted => return format!("node {} did not say hello", self.peer),
                frame::Kind::Hello(_) => return format!("node {} said hello twice", self.peer),
                frame::Kind::ConfigDigest(digest) => self.set_peer_config(digest),
                frame::Kind::DrainedSinceNs(since_ns) => {
                    self.current.lock().peer_drained_ns = since_ns;
                    self.listener.drained();
                }
                frame::Kind::Group(group) => self.listener.group(group),
                frame::Kind::Tuple(tuple) => {
                    let seq = tuple.seq;
                    self.listener.tuple(tuple);
                    self.reply(session, frame::Kind::TupleAck(seq));
                }
                frame::Kind::TupleAck(seq) => {
                    if let Some(done) = self.current.lock().unconfirmed.remove(&seq) {
                        let _ = done.send(());
                    }
                }
            }
        }
    }

    fn refuse(&self, session: u64, why: &str) {
        self.reply(session, frame::Kind::Refused(why.to_owned()));
    }

    fn reply(&self, session: u64, kind: frame::Kind) {
        let current = self.current.lock();
        if let (true, Some(frames)) = (current.session == session, &current.frames) {
            let _ = frames.send(Frame { kind: Some(kind) });
        }
    }

    /// The accepting side: the stream to answer with. The session lives until either stream ends.
    pub fn accept(self: &Arc<Self>, mut incoming: Streaming<Frame>) -> UnboundedReceiverStream<Frame> {
        let (session, outgoing) = self.begin();
        let link = self.clone();
        tokio::spawn(async move {
            let why = link.read(session, &mut incoming).await;
            tracing::info!(peer = link.peer, why, "session ended");
            link.end(session, &why);
        });
        UnboundedReceiverStream::new(outgoing)
    }

    /// The dialling side: for ever.
    pub async fn dial(self: Arc<Self>, endpoint: Endpoint) {
        loop {
            let started = monotonic_ns();
            let why = self.dial_once(&endpoint).await;
            self.not_up(why);
            let took = Duration::from_nanos(monotonic_ns() - started);
            tokio::time::sleep(REDIAL.saturating_sub(took)).await;
        }
    }

    fn not_up(&self, why: String) {
        let mut current = self.current.lock();
        if !current.up && current.error != why {
            tracing::info!(peer = self.peer, why, "no session");
            current.error = why;
        }
    }

    async fn dial_once(&self, endpoint: &Endpoint) -> String {
        let channel = match endpoint.connect().await {
            Ok(channel) => channel,
            Err(error) => return format!("cannot reach node {}: {}", self.peer, root_cause(&error)),
        };
        let (session, outgoing) = self.begin();
        let mut client = PeerClient::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        let why = match client.session(UnboundedReceiverStream::new(outgoing)).await {
            Ok(response) => {
                let why = self.read(session, &mut response.into_inner()).await;
                tracing::info!(peer = self.peer, why, "session ended");
                why
            }
            Err(status) => format!("node {} refused the session: {}", self.peer, status.message()),
        };
        self.end(session, &why);
        why
    }
}

/// The innermost of an error's causes: what an administrator can act on.
pub fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
