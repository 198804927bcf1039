//! Administrators who wait, and the order to stop.

use super::*;

impl Hub {
    /// Tells the administrators who wait for the export to be served by that side.
    pub(super) fn answer(&mut self, id: ExportId, side: Side, outcome: &Result<(), String>) {
        for waiting in std::mem::take(&mut self.waiting) {
            if waiting.export == id && waiting.side == side {
                let _ = waiting.answer.send(outcome.clone());
            } else {
                self.waiting.push(waiting);
            }
        }
    }

    pub(super) fn wait(&mut self, export: ExportId, side: Side, answer: Answer) {
        self.waiting.push(Waiting { export, side, answer });
    }

    /// Everything that is served here goes to the peer first, as in a planned takeover, and none of it comes back. Returns when
    /// that has taken long enough.
    pub(super) fn begin_stop(&mut self) -> tokio::time::Instant {
        self.stopping = true;
        for export in self.exports.all() {
            self.policy(PolicyInput::OwnFault { export: export.id(), fault: Some(Fault::Stopping) });
        }
        for export in self.exports.all() {
            let export = export.id();
            if self.can_hand_over(export) {
                self.policy(PolicyInput::Order(Order::HandOver { export }));
            }
        }
        tokio::time::Instant::now() + HAND_OVER_MAX
    }

    /// It is served here, and the peer could. One that is about to end is handed nothing.
    fn can_hand_over(&self, export: ExportId) -> bool {
        self.policy.is_up(export)
            && self.in_sync.get(&export) == Some(&true)
            && self.policy.peer_fault(export) != Some(Fault::Stopping)
    }

    pub(super) fn nothing_is_served(&self) -> bool {
        !self.exports.all().iter().any(|export| self.can_hand_over(export.id()))
    }

    /// The groups stop cleanly.
    pub(super) async fn stop(&mut self) {
        self.guardian.stopping().await;
        for export in self.exports.all() {
            self.guardian.drop_vip(export.id(), false).await;
            self.front.stop(export.id(), false);
            let _ = tokio::task::spawn_blocking(move || {
                // For good: no reload, and no copy that ends now, starts it again.
                export.retire();
                export.stop(State::Stopped("the server is stopping".to_owned()));
            })
            .await;
        }
    }
}
