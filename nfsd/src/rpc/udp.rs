//! The same programs over UDP: one datagram, one call; the answer leaves from the socket it was sent to, so from
//! the virtual IP. Nothing is queued for sending: what the socket does not take is lost, as datagrams may be,
//! and the client asks again.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::net::UdpSocket;

use super::call::Transport;
use super::header::{self, Message};
use super::reply::{Outcome, ReplySink, Responder};
use super::tcp::CALL_BYTES;
use crate::service::{Phase, Shared};

/// Largest datagram, bytes: what an IPv4 packet can hold.
pub const DATAGRAM_BYTES_MAX: usize = 65_507;
/// Calls taken from UDP and not answered yet; beyond it nothing is received.
const IN_FLIGHT_MAX: usize = 256;
/// How often to look whether fewer are in flight.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Where one datagram's answer goes.
struct Sender {
    socket: Arc<UdpSocket>,
    service: Arc<Shared>,
    client: SocketAddr,
}

impl ReplySink for Sender {
    fn settle(&self, request_bytes: usize, outcome: Outcome) {
        if let Outcome::Reply(wire) = outcome
            && let Err(error) = self.socket.try_send_to(&wire.to_datagram(), self.client)
        {
            tracing::debug!(client = %self.client, bytes = wire.len(), %error, "send a datagram");
        }
        self.service.udp_end(request_bytes);
    }
}

/// Serves a socket until the service ends.
pub(crate) async fn serve(socket: UdpSocket, service: Arc<Shared>) {
    let socket = Arc::new(socket);
    let mut buf = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        match service.phase() {
            Phase::Ended(_) => return,
            Phase::Draining => {
                service.phase_other_than(Phase::Draining).await;
                continue;
            }
            Phase::Running => {}
        }
        if service.udp_in_flight() >= IN_FLIGHT_MAX || service.budget().is_exhausted() {
            _ = tokio::time::timeout(LOOK_AGAIN, service.progress_made()).await;
            continue;
        }
        let received = tokio::select! {
            received = socket.recv_from(&mut buf) => received,
            _ = service.phase_other_than(Phase::Running) => continue,
        };
        match received {
            Ok((n, client)) => take(buf.get(..n).unwrap_or_default(), client, &socket, &service),
            // An ICMP error for an earlier answer: that client is gone, the socket is not.
            Err(error) => tracing::debug!(%error, "receive a datagram"),
        }
    }
}

/// Hands one datagram to its program.
fn take(datagram: &[u8], client: SocketAddr, socket: &Arc<UdpSocket>, service: &Arc<Shared>) {
    let bytes = datagram.len().saturating_add(CALL_BYTES);
    service.udp_begin(bytes);
    // As in tcp.rs: in flight first, then a look at the phase. The client asks again.
    if service.phase() != Phase::Running {
        service.udp_end(bytes);
        return;
    }
    let responder = |xid| {
        let (socket, service) = (socket.clone(), service.clone());
        Responder::new(xid, bytes, Arc::new(Sender { socket, service, client }))
    };
    match header::decode(&Bytes::copy_from_slice(datagram), client, Transport::Udp) {
        Message::Call(call) => {
            let responder = responder(call.xid);
            service.dispatch(call, responder);
        }
        Message::Refused { xid, why } => why.answer(responder(xid)),
        Message::NotACall => service.udp_end(bytes),
    }
}
