//! The same programs over UDP: one datagram, one call; the answer leaves from the socket it was sent to, so from
//! the virtual IP. Nothing is queued for sending: what the socket does not take is lost, as datagrams may be,
//! and the client asks again. The same becomes of an answer that would make this server somebody's amplifier, see
//! `excess`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::net::UdpSocket;

use super::call::Transport;
use super::header::{self, Message};
use super::reply::{Outcome, ReplySink, Responder};
use super::tcp::CALL_BYTES;
use crate::service::{Phase, Shared, Tuple};

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
    /// Bytes of the call.
    asked: usize,
    /// The program called; `None` where the call is refused before that is looked at.
    program: Option<u32>,
}

impl ReplySink for Sender {
    fn settle(&self, request_bytes: usize, outcome: Outcome) {
        if let Outcome::Reply(wire) = outcome {
            if !self.service.admits_datagram(self.program, self.asked, wire.len()) {
                tracing::debug!(client = %self.client, bytes = wire.len(), "too many large answers to datagrams");
            } else if let Err(error) = self.socket.try_send_to(&wire.to_datagram(), self.client) {
                tracing::debug!(client = %self.client, bytes = wire.len(), %error, "send a datagram");
            }
        }
        self.service.udp_end(request_bytes);
    }
}

/// Serves a socket until the service ends.
pub(crate) async fn serve(socket: UdpSocket, service: Arc<Shared>) {
    let server = match socket.local_addr() {
        Ok(server) => server,
        Err(error) => return tracing::error!(%error, "ask a socket for its address; it is not served"),
    };
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
            Ok((n, client)) => {
                take(buf.get(..n).unwrap_or_default(), Tuple { client, server }, &socket, &service);
            }
            // An ICMP error for an earlier answer: that client is gone, the socket is not.
            Err(error) => tracing::debug!(%error, "receive a datagram"),
        }
    }
}

/// Hands one datagram to its program.
fn take(datagram: &[u8], tuple: Tuple, socket: &Arc<UdpSocket>, service: &Arc<Shared>) {
    let bytes = datagram.len().saturating_add(CALL_BYTES);
    service.udp_begin(bytes);
    // As in tcp.rs: in flight first, then a look at the phase. The client asks again.
    if service.phase() != Phase::Running {
        service.udp_end(bytes);
        return;
    }
    let responder = |xid, program| {
        let (socket, service) = (socket.clone(), service.clone());
        let sender = Sender { socket, service, client: tuple.client, asked: datagram.len(), program };
        Responder::new(xid, bytes, Arc::new(sender))
    };
    match header::decode(&Bytes::copy_from_slice(datagram), tuple, Transport::Udp) {
        Message::Call(call) => {
            let responder = responder(call.xid, Some(call.program));
            service.dispatch(call, responder);
        }
        Message::Refused { xid, why } => why.answer(responder(xid, None)),
        Message::NotACall => service.udp_end(bytes),
    }
}
