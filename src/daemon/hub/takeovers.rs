//! What a takeover was for clients, and what must not be given back.

use replica::node::OwnDisk;

use super::*;

impl Hub {
    /// Who leads has changed, as far as it is known here.
    pub(super) fn leader_changed(&mut self, id: ExportId, before: Option<Side>, leader: Option<Side>) {
        match leader {
            Some(Side::Peer) => self.watch.led_by_peer(id),
            None if before == Some(Side::Peer) => self.lost(id),
            _ => {}
        }
    }

    /// The process that served what the peer leads is dead.
    pub(super) fn peer_server_gone(&mut self) {
        for export in self.exports.all() {
            let leader = self.view.lock().leaders.get(&export.id()).copied().flatten();
            if leader.is_some_and(|leader| leader != export.me) {
                self.lost(export.id());
            }
        }
    }

    fn lost(&mut self, id: ExportId) {
        let now = monotonic_ns();
        let heard = self.peer.as_ref().map_or(0, |peer| peer.heard_ns());
        self.watch.lost(id, if heard == 0 { now } else { heard }, now);
    }

    /// Hands the leadership over, and says for how long clients have been waiting: since the drain began, or since a fault keeps
    /// them from being answered. A disk that hangs has been waited for since before that is seen.
    pub(super) fn transfer(&mut self, id: ExportId, fault_for_ns: Option<u64>) {
        let now = monotonic_ns();
        let drained_ns = self.draining.remove(&id).map_or(0, |began| now.saturating_sub(began));
        let Some(export) = self.exports.get(id) else { return };
        let raft = export.with_group(|g| g.node_status()).filter(|raft| raft.own_disk == OwnDisk::Hangs);
        let hangs_ns = raft.and_then(|raft| raft.disk_waits_since_ns).map(|at| now.saturating_sub(at));
        let waited_ns = fault_for_ns.map_or(drained_ns, |seen_ns| seen_ns.max(hangs_ns.unwrap_or(0)));
        export.to_peer(GroupFrame {
            handing_over: true,
            drained_for_us: waited_ns / 1000,
            for_fault: fault_for_ns.is_some(),
            ..GroupFrame::default()
        });
        export.input(Input::Transfer);
    }

    /// The virtual IP is up here.
    pub(super) fn report(&mut self, id: ExportId, report: Report) {
        let tickled = self.tuples.to_tickle(id);
        let text = format!(
            "served by this node ({}): elected after {} ms, address released after {} ms, raised after {} ms, \
             {} clients tickled",
            report.cause,
            report.elected_us / 1000,
            report.released_us / 1000,
            report.vip_us / 1000,
            tickled.len(),
        );
        self.log(Level::Info, Some(id), text);
        self.pauses.takeover(id, report.cause);
        let shown = self.watch.raised(id, report, &tickled, monotonic_ns(), wall_ns());
        self.view.lock().takeovers.insert(id, shown);
    }

    /// Have the clients of a takeover been answered, have they come back?
    pub(super) fn watch_replies(&mut self) {
        let front = &self.front;
        let news = self.watch.look(monotonic_ns(), |id, known| front.first_reply_ns(id, known));
        for (id, news) in news {
            if let Some((cause, pause_us)) = news.pause {
                self.pauses.pause(id, cause, pause_us);
                let text = format!("the first client was answered after a pause of {} ms", pause_us / 1000);
                self.log(Level::Info, Some(id), text);
            }
            self.view.lock().takeovers.insert(id, news.report);
        }
    }

    /// When each export's checkpoint was written, to the second.
    pub(super) fn see_checkpoints(&self) {
        let now = wall_ns();
        for export in self.exports.all() {
            let Some(progress) = export.with_group(replica::group::Group::progress) else { continue };
            let mut view = self.view.lock();
            let seen = view.checkpoints.entry(export.id()).or_insert((progress.checkpoint, now));
            if seen.0 != progress.checkpoint {
                *seen = (progress.checkpoint, now);
            }
        }
    }

    pub(super) fn peer_is_drained(&self) -> bool {
        self.peer.as_ref().is_some_and(|peer| peer.peer_drained_ns() != 0)
    }

    /// An export goes home by itself when its options say so, and never to a node that is drained.
    pub(super) fn set_giveback(&mut self, id: ExportId) {
        let drained = self.peer_is_drained();
        let configured = self.exports.get(id).and_then(|export| export.config().giveback_after_s);
        let delay_ns = configured.filter(|_| !drained).map(|s| s.saturating_mul(1_000_000_000));
        self.policy.set_giveback(id, delay_ns);
    }

    /// The same for all.
    pub(super) fn set_givebacks(&mut self) {
        for export in self.exports.all() {
            self.set_giveback(export.id());
        }
    }
}
