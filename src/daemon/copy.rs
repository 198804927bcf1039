//! A copy of an export on its way: the serving side as a stream, the receiving side as a task.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use proto::peer::{ImagePart, ImageRequest, peer_client::PeerClient};
use replica::group::{Group, LogPin};
use replica::image::{self, ImageError, Place, Receiver};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tonic::transport::Endpoint;

use super::export::Export;
use super::session::MESSAGE_BYTES_MAX;

/// A receiver that does not take part this long after its copy's end must be copied again.
const JOIN_MAX: Duration = Duration::from_secs(120);
/// How often it is looked for.
const JOIN_LOOK: Duration = Duration::from_millis(200);
/// Parts on their way, at most: bounds memory to as many MiB.
const PARTS_MAX: usize = 8;

/// Serves a copy of an export that leads here.
pub fn serve(export: Arc<Export>) -> ReceiverStream<Result<ImagePart, Status>> {
    let (parts, stream) = mpsc::channel(PARTS_MAX);
    tokio::task::spawn_blocking(move || {
        let source = export.with_group(|group| group.node_status().serving.then(|| group.source())).flatten();
        let outcome = source.map(|source| {
            image::send(source, &mut |part| parts.blocking_send(Ok(part)).map_err(|_| ImageError::Closed))
        });
        let error = match outcome {
            Some(Ok((end, pin))) => {
                drop(parts);
                return keep_until_joined(&export, end, pin);
            }
            Some(Err(ImageError::Closed)) => return,
            Some(Err(error)) => error.to_string(),
            None => "this node does not serve the export".to_owned(),
        };
        let _ = parts.blocking_send(Err(Status::internal(error)));
    });
    ReceiverStream::new(stream)
}

/// The log after a copy's end must be there when the receiver asks for it.
fn keep_until_joined(export: &Export, end: u64, pin: LogPin) {
    let until = Instant::now() + JOIN_MAX;
    let joined = || export.with_group(|g| g.node_status().peer_match >= end).unwrap_or(true);
    while Instant::now() < until && !joined() {
        std::thread::sleep(JOIN_LOOK);
    }
    drop(pin);
}

/// Replaces this node's copy of an export by the peer's: stops the group that [`Export::begin_copy`] gave, receives,
/// puts the copy in place, starts again. On an
/// error the old copy runs again (and the leader will say again what it lacks).
pub async fn receive(
    export: Arc<Export>,
    group: Group,
    endpoint: Endpoint,
    node: String,
) -> anyhow::Result<()> {
    tokio::task::spawn_blocking(move || group.stop()).await?;
    let outcome = transfer(&export, endpoint, node).await;
    let starting = export.clone();
    let started = tokio::task::spawn_blocking(move || starting.start()).await?;
    outcome?;
    started.map_err(anyhow::Error::msg)
}

async fn transfer(export: &Arc<Export>, endpoint: Endpoint, node: String) -> anyhow::Result<()> {
    let channel = endpoint.connect().await.context("connect for the copy")?;
    let mut client = PeerClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let request = ImageRequest { export: bytes::Bytes::copy_from_slice(&export.id().0), node };
    let mut parts = client.image(request).await.context("ask for the copy")?.into_inner();
    let (queue, mut queued) = mpsc::channel::<ImagePart>(PARTS_MAX);
    let target = export.clone();
    let writer = tokio::task::spawn_blocking(move || -> anyhow::Result<bool> {
        let Some(start) = queued.blocking_recv() else { bail!("the copy is empty") };
        let place = Place::of(target.dir());
        let old = image::old_vote(&place);
        let mut receiver = Receiver::begin(&place, &old, start)?;
        while let Some(part) = queued.blocking_recv() {
            if receiver.part(part)? {
                return Ok(true);
            }
            target.copying(receiver.progress());
        }
        Ok(false)
    });
    let mut broken = None;
    loop {
        match parts.message().await {
            Ok(Some(part)) => {
                if queue.send(part).await.is_err() {
                    break;
                }
            }
            Ok(None) => break,
            Err(status) => {
                broken = Some(status);
                break;
            }
        }
    }
    drop(queue);
    let whole = writer.await??;
    if let Some(status) = broken {
        bail!("the copy broke off: {}", status.message());
    }
    if !whole {
        bail!("the copy ended before its end");
    }
    Ok(())
}
