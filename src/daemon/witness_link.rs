//! The link to the witness: one call per request, all on one connection. Each answer stands for itself.

use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use proto::peer::{WitnessRequest, witness_client::WitnessClient};
use replica::clock::wall_ns;
use replica::ids::ExportId;
use replica::node::Input;
use tonic::transport::{Channel, Endpoint};

use super::export::Export;
use super::hub::Exports;
use super::session::{LinkState, root_cause};

/// An answer that takes longer comes too late for any lease.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);
/// Calls under way at once, at most; further ones are dropped, as a network would.
const CALLS_MAX: usize = 256;

/// A node that leads nothing asks nothing of the witness: it looks this often whether it is there.
const PROBE: Duration = Duration::from_secs(1);

/// See the module.
pub struct WitnessLink {
    cluster: [u8; 16],
    client: WitnessClient<Channel>,
    runtime: tokio::runtime::Handle,
    exports: OnceLock<Weak<Exports>>,
    state: Mutex<LinkState>,
    slots: Arc<tokio::sync::Semaphore>,
}

impl WitnessLink {
    /// A link that connects when it is first used, and again after a failure.
    pub fn new(cluster: [u8; 16], endpoint: &Endpoint) -> Arc<Self> {
        let link = Arc::new(Self {
            cluster,
            client: WitnessClient::new(endpoint.connect_lazy()),
            runtime: tokio::runtime::Handle::current(),
            exports: OnceLock::new(),
            state: Mutex::new(LinkState { up: false, since_ns: wall_ns(), error: String::new() }),
            slots: Arc::new(tokio::sync::Semaphore::new(CALLS_MAX)),
        });
        tokio::spawn(probe(Arc::downgrade(&link)));
        link
    }

    /// Where answers go.
    pub fn connect(&self, exports: &Arc<Exports>) {
        let _ = self.exports.set(Arc::downgrade(exports));
    }

    /// For `status`.
    pub fn state(&self) -> LinkState {
        let state = self.state.lock();
        LinkState { up: state.up, since_ns: state.since_ns, error: state.error.clone() }
    }

    /// Asks the witness; the answer comes to the export as an input. Does not block.
    pub fn call(self: &Arc<Self>, export: ExportId, mut request: WitnessRequest) {
        let Ok(slot) = self.slots.clone().try_acquire_owned() else { return };
        request.cluster = bytes::Bytes::copy_from_slice(&self.cluster);
        let link = self.clone();
        self.runtime.spawn(async move {
            let _slot = slot;
            let answer = tokio::time::timeout(CALL_TIMEOUT, link.client.clone().call(request)).await;
            let input = match answer {
                Ok(Ok(reply)) => {
                    link.set(None);
                    Input::Witness(reply.into_inner())
                }
                Ok(Err(status)) => {
                    link.set(Some(format!("{}: {}", status.message(), root_cause(&status))));
                    Input::WitnessDown
                }
                Err(_) => {
                    link.set(Some("no answer".to_owned()));
                    Input::WitnessDown
                }
            };
            if let Some(export) = link.export(export) {
                export.input(input);
            }
        });
    }

    fn export(&self, id: ExportId) -> Option<Arc<Export>> {
        self.exports.get()?.upgrade()?.get(id)
    }

    fn set(&self, error: Option<String>) {
        let mut state = self.state.lock();
        let up = error.is_none();
        if state.up != up {
            state.up = up;
            state.since_ns = wall_ns();
            match &error {
                None => tracing::info!("the witness answers"),
                Some(error) => tracing::warn!(error, "the witness does not answer"),
            }
        }
        state.error = error.unwrap_or_default();
    }
}

/// A call without a question, which any witness of this cluster answers.
async fn probe(link: Weak<WitnessLink>) {
    loop {
        tokio::time::sleep(PROBE).await;
        let Some(link) = link.upgrade() else { return };
        let request = WitnessRequest {
            cluster: bytes::Bytes::copy_from_slice(&link.cluster),
            ..WitnessRequest::default()
        };
        let mut client = link.client.clone();
        match tokio::time::timeout(CALL_TIMEOUT, client.call(request)).await {
            Ok(Ok(_)) => link.set(None),
            Ok(Err(status)) => link.set(Some(format!("{}: {}", status.message(), root_cause(&status)))),
            Err(_) => link.set(Some("no answer".to_owned())),
        }
    }
}
