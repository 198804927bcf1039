//! Accepts connections, over all services at most as many as the limit says.
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
    let connection = match prepare(&stream, client, service) {
        Ok(connection) => connection,
        Err(error) => {
            tracing::debug!(%client, %error, "connection ended before it began");
            return;
        }
    };
    loop {
        let somebody_left = service.crowd().somebody_left();
        if service.crowd().enter(&connection) {
            break;
        }
        if matches!(service.phase(), Phase::Ended(_)) {
            return;
        }
        service.evict();
        // The time is the bound: a notification that is missed, or a connection that only becomes idle, is
        // found at the next look.
        _ = tokio::time::timeout(LOOK_AGAIN, somebody_left).await;
    }
    service.add(&connection);
    tokio::spawn(Task::new(stream, connection, service.clone()).run());
}

fn prepare(stream: &TcpStream, client: SocketAddr, service: &Shared) -> io::Result<Arc<Connection>> {
    static NEXT_ID: AtomicU64 = AtomicU64::new(1);
    set_options(stream, service.limits())?;
    let tuple = Tuple { client, server: stream.local_addr()? };
    let id = NEXT_ID.fetch_add(1, Relaxed);
    Ok(Arc::new(Connection::new(id, tuple, service.budget().clone())))
}

/// Closes idle and stalled connections, where the limits say so, until the service ends.
pub(crate) async fn sweep(service: Arc<Shared>) {
    let limits = service.limits();
    let idle = (limits.idle_s > 0).then(|| Duration::from_secs(limits.idle_s));
    let stall = (limits.record_stall_ms > 0).then(|| Duration::from_millis(limits.record_stall_ms));
    let Some(shorter) = idle.into_iter().chain(stall).min() else { return };
    // How long ago, on the monotonic clock; 0, so never, where there is no such limit.
    let before = |limit: Option<Duration>| {
        let ns = limit.map_or(u64::MAX, |limit| u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX));
        monotonic_ns().saturating_sub(ns)
    };
    let ended = async {
        let mut phase = service.phase();
        while !matches!(phase, Phase::Ended(_)) {
            phase = service.phase_other_than(phase).await;
        }
    };
    let sweep = async {
        loop {
            tokio::time::sleep(shorter / 4).await;
            service.close_overdue(before(idle), before(stall));
        }
    };
    tokio::select! {
        () = ended => {}
        () = sweep => {}
    }
}
