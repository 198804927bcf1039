//! Connections accepted while no server is there. They are not read: the client's calls wait in the
//! kernel, and the peer that takes over tickles the client away from here.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};

use replica::ids::ExportId;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::net::Tuple;
use crate::net::listen::reset_when_closed;

/// Connections parked at most; more stay in the kernel's queues, where they are not refused either.
pub(super) const PARKED_MAX: usize = 8192;
/// Connections accepted but not yet looked at.
const QUEUE: usize = 64;
/// Pause after a failed accept (out of descriptors), so that it does not spin.
const ACCEPT_PAUSE: std::time::Duration = std::time::Duration::from_millis(100);

/// A parked connection.
#[derive(Debug)]
pub(super) struct Parked {
    pub(super) export: ExportId,
    pub(super) tuple: Tuple,
    pub(super) stream: TcpStream,
}

/// Accepts on any number of listeners.
#[derive(Debug)]
pub(super) struct Parking {
    tasks: JoinSet<()>,
    tx: mpsc::Sender<Parked>,
    rx: mpsc::Receiver<Parked>,
}

impl Parking {
    pub(super) fn new() -> Self {
        let (tx, rx) = mpsc::channel(QUEUE);
        Self { tasks: JoinSet::new(), tx, rx }
    }

    /// Accepts on a copy of this listener from now on.
    pub(super) fn watch(&mut self, export: ExportId, listener: &TcpListener) -> io::Result<()> {
        let port = listener.local_addr()?.port();
        let listener = tokio::net::TcpListener::from_std(listener.try_clone()?)?;
        let tx = self.tx.clone();
        self.tasks.spawn(async move {
            loop {
                let room = match tx.reserve().await {
                    Ok(room) => room,
                    Err(_) => return,
                };
                match listener.accept().await {
                    Ok((stream, client)) => {
                        let client = SocketAddr::new(client.ip().to_canonical(), client.port());
                        let tuple = Tuple { client, server_port: port };
                        if let Ok(stream) = stream.into_std() {
                            // A guardian that is killed must not say FIN for it: see `net::listen::reset_when_closed`.
                            reset_when_closed(&stream);
                            room.send(Parked { export, tuple, stream });
                        }
                    }
                    Err(error) => {
                        tracing::debug!(%error, "accept while there is no server");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        });
        Ok(())
    }

    /// The next connection. Cancel-safe.
    pub(super) async fn next(&mut self) -> Parked {
        match self.rx.recv().await {
            Some(parked) => parked,
            // Not possible while this holds a sender.
            None => std::future::pending().await,
        }
    }

    /// Stops accepting everywhere; what was accepted already still comes out of [`Self::next`].
    pub(super) fn stop(&mut self) {
        self.tasks.abort_all();
    }
}
