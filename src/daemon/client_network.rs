//! Which exports' clients this host can reach, as far as the kernel can tell: the interface of the virtual IP has a carrier.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use failover::net::carrier::Carrier;
use replica::ids::ExportId;
use tokio::sync::mpsc;

use super::hub::{Exports, HubInput};

/// Exports come and go, and a change may be lost: looked at this often all the same.
const LOOK: Duration = Duration::from_secs(2);
/// Pause before the kernel is asked again that did not answer.
const RETRY: Duration = Duration::from_secs(1);

/// Tells the hub of every change, for ever. What cannot be known is taken for sound.
pub async fn watch(exports: Arc<Exports>, hub: mpsc::UnboundedSender<HubInput>) {
    let mut said = HashMap::new();
    let mut warned = false;
    loop {
        match follow(&exports, &hub, &mut said).await {
            Ok(()) => return,
            Err(error) if !std::mem::replace(&mut warned, true) => {
                tracing::warn!(%error, "the state of the interfaces is not known: a lost client network would not be noticed");
            }
            Err(_) => {}
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Until the hub is gone.
async fn follow(
    exports: &Exports,
    hub: &mpsc::UnboundedSender<HubInput>,
    said: &mut HashMap<ExportId, bool>,
) -> std::io::Result<()> {
    let mut carrier = Carrier::open()?;
    loop {
        let seen = carrier.look().await?;
        let mut now = HashMap::new();
        for export in exports.all() {
            let config = export.config();
            let up = seen.is_connected(config.vip.address, config.interface.as_deref());
            now.insert(export.id(), up);
            if said.get(&export.id()).copied().unwrap_or(true) != up
                && hub.send(HubInput::ClientNetwork(export.id(), up)).is_err()
            {
                return Ok(());
            }
        }
        *said = now;
        if let Ok(changed) = tokio::time::timeout(LOOK, carrier.changed()).await {
            changed?;
        }
    }
}
