//! The server as a caller: what all tasks of one service share that call its clients.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use super::caller::{CallError, Caller, Procedure};
use super::ports::{Ports, Service};
use crate::rpc::Transport;
use crate::xdr::Encoder;

/// Answers to asynchronous calls (the `_RES` procedures) under way, at most, per service. Those beyond it are left out:
/// the client asks again. A forged datagram thus makes this server send little.
const ANSWERS_MAX: usize = 64;

/// How patient a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// Sent once: the answer is known to be the one to this very call.
    Once,
    /// Over UDP, sent again while nobody answers.
    Repeat,
}

/// Calls clients' programs by number.
pub(crate) struct Outward {
    caller: Caller,
    ports: Ports,
    runtime: Handle,
    answers: Arc<Semaphore>,
}

impl Outward {
    /// `sources`: the addresses of the service. `portmap_port`: where clients' portmappers listen.
    pub fn new(sources: impl IntoIterator<Item = IpAddr>, portmap_port: u16, runtime: Handle) -> Arc<Self> {
        Arc::new(Self {
            caller: Caller::new(sources),
            ports: Ports::new(portmap_port),
            runtime,
            answers: Arc::new(Semaphore::new(ANSWERS_MAX)),
        })
    }

    /// The address that a client knows this server by, where it is known here.
    pub fn source_for(&self, client: IpAddr) -> Option<IpAddr> {
        self.caller.source_for(client)
    }

    /// Calls a client's program; the flag says whether the call itself may have reached it. Where the program is not
    /// there over this transport, the other is tried.
    pub async fn call(
        &self,
        service: Service,
        number: u32,
        args: &Encoder,
        patience: Patience,
    ) -> (bool, Result<Bytes, CallError>) {
        let (service, found) = match self.ports.find(&self.caller, service).await {
            Err(CallError::NotRegistered { .. }) => {
                let other = Service { transport: other(service.transport), ..service };
                (other, self.ports.find(&self.caller, other).await)
            }
            found => (service, found),
        };
        let to = match found {
            Ok(to) => to,
            Err(error) => return (false, Err(error)),
        };
        let procedure = Procedure { program: service.program, version: service.version, number };
        let answer = self.caller.call(to, service.transport, procedure, args, patience).await;
        if answer.is_err() {
            self.ports.forget(&service);
        }
        (true, answer)
    }

    /// Sends the answer to an asynchronous call, and is not interested in what becomes of it.
    pub fn answer(self: &Arc<Self>, service: Service, number: u32, args: Encoder) {
        let Ok(place) = self.answers.clone().try_acquire_owned() else {
            tracing::debug!(client = %service.client, "too many asynchronous answers under way: one left out");
            return;
        };
        let outward = self.clone();
        self.runtime.spawn(async move {
            if let (_, Err(error)) = outward.call(service, number, &args, Patience::Repeat).await {
                tracing::debug!(client = %service.client, number, %error, "answer an asynchronous lock call");
            }
            drop(place);
        });
    }
}

fn other(transport: Transport) -> Transport {
    match transport {
        Transport::Tcp => Transport::Udp,
        Transport::Udp => Transport::Tcp,
    }
}

/// An address from its 4 or 16 bytes, as the state keeps it.
pub(crate) fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(|b| Ipv4Addr::from(b).into());
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(|b| Ipv6Addr::from(b).into())).ok()
}
