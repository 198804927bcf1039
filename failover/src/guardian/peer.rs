//! The guardian's stream to the other node's server: events out, orders in. Reconnects for ever.

use std::time::Duration;

use proto::peer::guardian_order::Kind as OrderKind;
use proto::peer::peer_client::PeerClient;
use proto::peer::{GuardianEvent, Hello, PEER_VERSION, guardian_event};
use replica::ids::ExportId;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::config::GuardianPeer;

/// Pauses between attempts to connect: a death must be reported within the detection time, so never long.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// An attempt to connect ends after this.
const CONNECT: Duration = Duration::from_secs(1);
/// HTTP/2 pings: while the stream counts as connected a dead server's VIP stays up, so a cut must show soon.
const KEEPALIVE_INTERVAL: Duration = Duration::from_millis(250);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_millis(750);
/// Events on their way to the peer; more are dropped, and the peer learns the state when it connects again.
const EVENTS: usize = 1024;

/// What comes from the stream.
#[derive(Debug)]
pub(super) enum PeerSignal {
    /// Connected; say here what there is to say, Hello first.
    Up(mpsc::Sender<GuardianEvent>),
    /// An order to take the VIP down.
    Release(ExportId),
    /// The peer holds the VIP now.
    Taken(ExportId),
    /// The stream ended.
    Down,
}

/// Keeps a stream to the peer as long as somebody listens.
pub(super) async fn keep(peer: GuardianPeer, signals: mpsc::Sender<PeerSignal>) {
    let endpoint = peer
        .endpoint
        .connect_timeout(CONNECT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true);
    let mut pause = PAUSE_MIN;
    let mut last_error = String::new();
    while !signals.is_closed() {
        let error = match attempt(&endpoint, &peer.hello, &signals).await {
            Ok(()) => {
                pause = PAUSE_MIN;
                "the stream ended".to_owned()
            }
            Err(e) => e,
        };
        // Once per change, not once per attempt.
        if error != last_error {
            tracing::info!(%error, "no connection to the peer's server");
            last_error = error;
        }
        tokio::time::sleep(pause).await;
        pause = pause.saturating_mul(2).min(PAUSE_MAX);
    }
}

/// One connection, from start to end; an error if it never got anywhere.
async fn attempt(
    endpoint: &tonic::transport::Endpoint,
    hello: &Hello,
    signals: &mpsc::Sender<PeerSignal>,
) -> Result<(), String> {
    let channel = endpoint.connect().await.map_err(|e| describe(&e))?;
    let (tx, rx) = mpsc::channel(EVENTS);
    let first = GuardianEvent { kind: Some(guardian_event::Kind::Hello(hello.clone())) };
    tx.try_send(first).map_err(|e| e.to_string())?;
    let mut client = PeerClient::new(channel);
    let call = client.guardian(ReceiverStream::new(rx));
    let answer = tokio::time::timeout(CONNECT, call).await.map_err(|_| "no answer from the peer's server")?;
    let mut orders = answer.map_err(|s| s.message().to_owned())?.into_inner();
    let order = tokio::time::timeout(CONNECT, orders.message()).await;
    let order =
        order.map_err(|_| "the peer's server does not say who it is")?.map_err(|s| s.message().to_owned())?;
    match order.and_then(|o| o.kind) {
        Some(OrderKind::Hello(theirs)) => check(hello, &theirs)?,
        _ => return Err("the peer's server does not start with a Hello".into()),
    }
    tracing::info!("connected to the peer's server");
    if signals.send(PeerSignal::Up(tx)).await.is_err() {
        return Ok(());
    }
    while let Ok(Some(order)) = orders.message().await {
        let signal = match order.kind {
            Some(OrderKind::Release(id)) => export_id(&id).map(PeerSignal::Release),
            Some(OrderKind::Taken(id)) => export_id(&id).map(PeerSignal::Taken),
            Some(OrderKind::Hello(_)) | None => None,
        };
        if let Some(signal) = signal
            && signals.send(signal).await.is_err()
        {
            return Ok(());
        }
    }
    let _ = signals.send(PeerSignal::Down).await;
    Ok(())
}

fn check(ours: &Hello, theirs: &Hello) -> Result<(), String> {
    if theirs.cluster != ours.cluster {
        return Err(format!(
            "the peer ({:?}) belongs to another cluster; correct the peer's address",
            theirs.node
        ));
    }
    if theirs.version != PEER_VERSION {
        let (v, w) = (theirs.version, PEER_VERSION);
        return Err(format!(
            "the peer speaks version {v} of the protocol, this node {w}; update the older one"
        ));
    }
    Ok(())
}

fn export_id(bytes: &[u8]) -> Option<ExportId> {
    bytes.try_into().ok().map(ExportId)
}

/// tonic's own text is "transport error"; the reason is behind it.
fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(e) = source {
        text = format!("{text}: {e}");
        source = e.source();
    }
    text
}
