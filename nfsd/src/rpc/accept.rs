//! Accepts connections, at most as many as the limit says.
//!
//! Where there are more, the connection that has been idle for the longest time is closed: its client, if it
//! still lives, reconnects when it has something to say. Where none is idle, the new one waits, and with it all
//! that come after it in the listener's backlog. So a crowd of idle connections keeps nobody out, and one of
//! busy ones is not disturbed.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use replica::clock::monotonic_ns;
use tokio::net::{TcpListener, TcpStream};

use super::connection::Connection;
use super::tcp::{Task, set_options};
use crate::service::{Phase, Shared, Tuple};

/// How long to wait before accepting again when the host is out of descriptors or memory.
const RETRY: Duration = Duration::from_millis(100);
/// How often to look again for an idle connection when all are busy.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Accepts until the service ends, or the listener does: the guardian shuts it down where it takes an address away
/// that no driver removes.
pub(crate) async fn listen(listener: TcpListener, service: Arc<Shared>) {
    loop {
        match service.phase() {
            Phase::Ended(_) => return,
            Phase::Draining => {
                service.phase_other_than(Phase::Draining).await;
            }
            Phase::Running => {
                tokio::select! {
                    accepted = listener.accept() => match accepted {
                        Err(error) if is_shut_down(&error) => return,
                        accepted => accept(accepted, &service).await,
                    },
                    _ = service.phase_other_than(Phase::Running) => {}
                }
            }
        }
    }
}

/// accept(2): EINVAL from a socket that does not listen (any more).
fn is_shut_down(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EINVAL)
}

async fn accept(accepted: io::Result<(TcpStream, SocketAddr)>, service: &Arc<Shared>) {
    let (stream, client) = match accepted {
        Ok(accepted) => accepted,
        Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => return,
        Err(error) => {
            tracing::warn!(%error, "accept a connection; trying again");
            tokio::time::sleep(RETRY).await;
            return;
        }
    };
    while service.is_full() {
        if matches!(service.phase(), Phase::Ended(_)) {
            return;
        }
        let freed = service.progress_made();
        service.evict();
        // The time is the bound: a notification that is missed, or a connection that only becomes idle, is
        // found at the next look.
        _ = tokio::time::timeout(LOOK_AGAIN, freed).await;
    }
    if let Err(error) = start(stream, client, service) {
        tracing::debug!(%client, %error, "connection ended before it began");
    }
}

fn start(stream: TcpStream, client: SocketAddr, service: &Arc<Shared>) -> io::Result<()> {
    static NEXT_ID: AtomicU64 = AtomicU64::new(1);
    set_options(&stream, service.limits())?;
    let tuple = Tuple { client, server: stream.local_addr()? };
    let id = NEXT_ID.fetch_add(1, Relaxed);
    let connection = Arc::new(Connection::new(id, tuple, service.budget().clone()));
    service.add(&connection);
    tokio::spawn(Task::new(stream, connection, service.clone()).run());
    Ok(())
}

/// Closes idle connections, where the limits say so, until the service ends.
pub(crate) async fn close_idle(service: Arc<Shared>) {
    let idle = Duration::from_secs(service.limits().idle_s);
    let ended = async {
        let mut phase = service.phase();
        while !matches!(phase, Phase::Ended(_)) {
            phase = service.phase_other_than(phase).await;
        }
    };
    let sweep = async {
        loop {
            tokio::time::sleep(idle / 4).await;
            let idle_ns = u64::try_from(idle.as_nanos()).unwrap_or(u64::MAX);
            service.close_idle(monotonic_ns().saturating_sub(idle_ns));
        }
    };
    tokio::select! {
        () = ended => {}
        () = sweep => {}
    }
}
