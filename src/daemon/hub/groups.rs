//! What the groups say: who leads, whose copy must be replaced, whether the copies are equal, and verdicts.

use super::*;

impl Hub {
    pub(super) fn group(&mut self, id: ExportId, event: GroupEvent) {
        match event {
            GroupEvent::Leader(leader) => {
                let before;
                {
                    let mut view = self.view.lock();
                    before = view.leaders.insert(id, leader).flatten();
                    if leader.is_some() {
                        view.verdicts.remove(&id);
                    }
                }
                let Some(export) = self.exports.get(id) else { return };
                let side = |id: u64| if id == export.me { Side::Own } else { Side::Peer };
                let (before, leader) = (before.map(side), leader.map(side));
                self.leader_changed(id, before, leader);
                if leader == Some(Side::Peer) {
                    self.tuples.moved_away(id);
                    self.answer(id, Side::Peer, &Ok(()));
                }
                self.policy(PolicyInput::GroupRole { export: id, leader });
            }
            GroupEvent::Serving { term } => self.policy(PolicyInput::GroupServing { export: id, term }),
            GroupEvent::NotServing => self.policy(PolicyInput::GroupNotServing { export: id }),
            // Seen in the group's status, which cannot be missed: see `sync_states`.
            GroupEvent::NeedImage(why) => {
                self.log(Level::Warning, Some(id), format!("this node's copy must be replaced: {why}"));
            }
            GroupEvent::AskVerdict => self.ask_verdict(id),
            GroupEvent::Log { level, text } => self.log(level_of(level), Some(id), text),
            GroupEvent::Fatal(what) => {
                self.log(
                    Level::Error,
                    Some(id),
                    format!(
                        "{what}; this node stops, the other one goes on. Check the disk before restarting it"
                    ),
                );
                // What this process has in memory is not to be trusted any more, least of all to hand over.
                std::process::exit(i32::from(failover::link::EXIT_FATAL));
            }
            // Not for the hub: see `Export::event`.
            GroupEvent::ToPeer(_)
            | GroupEvent::ToWitness(_)
            | GroupEvent::ResetPeer(_)
            | GroupEvent::PeerNeedsImage => {}
        }
    }

    /// Tells the policy which exports' backups came into sync or fell out of it.
    pub(super) fn sync_states(&mut self) {
        for export in self.exports.all() {
            let raft = export.with_group(|g| g.node_status()).unwrap_or_default();
            let connected = self.peer.as_ref().is_some_and(|p| p.is_up());
            if raft.needs_image && connected && monotonic_ns() >= self.copy_not_before_ns {
                self.copy(export.id());
            }
            let now = raft.in_sync;
            self.view.lock().connections.insert(export.id(), self.front.connections(export.id()));
            if self.in_sync.insert(export.id(), now) != Some(now) {
                self.policy(PolicyInput::InSync { export: export.id(), in_sync: now });
            }
        }
    }

    pub(super) fn send_digests(&mut self) {
        for export in self.exports.all() {
            let Some(state) = export.with_group(replica::group::Group::progress) else { continue };
            let known = self.digests.entry(export.id()).or_default();
            if state.digest_index != 0 && known.back().is_none_or(|(index, _)| *index != state.digest_index) {
                known.push_back((state.digest_index, state.digest_at_index));
                if known.len() > DIGESTS_KEPT {
                    known.pop_front();
                }
                let digest = StateDigest { index: state.digest_index, digest: state.digest_at_index };
                export.to_peer(GroupFrame { digest: Some(digest), ..GroupFrame::default() });
            }
        }
    }

    /// Replicas that differ at the same index: one of them is wrong, and clients have been told what the primary's says.
    pub(super) fn compare_digests(&mut self, id: ExportId, theirs: StateDigest) {
        let known = self.digests.get(&id).into_iter().flatten();
        let Some(ours) = known.filter(|(index, _)| *index == theirs.index).map(|(_, digest)| *digest).next()
        else {
            return;
        };
        if ours == theirs.digest {
            return;
        }
        self.log(
            Level::Error,
            Some(id),
            format!(
                "the two copies differ as of entry {}: the backup's is replaced by the primary's. Check the memory and \
                 disks of both boxes",
                theirs.index
            ),
        );
        self.digests.remove(&id);
        // Does nothing on the primary.
        self.copy(id);
    }

    pub(super) fn ask_verdict(&mut self, id: ExportId) {
        let first = self.asking.is_empty();
        if !self.asking.insert(id) || !first {
            return;
        }
        let Some((peer, _)) = self.peer_endpoint.clone() else { return };
        let (link, guardian) = (self.peer.clone(), self.view.clone());
        let alive = move || link.as_ref().is_some_and(|l| l.is_up()) || guardian.lock().peer_guardian;
        verdict::ask(&self.arbiter, peer, alive, self.inputs.clone());
    }

    pub(super) fn verdict(&mut self, id: ExportId, verdict: Result<VerdictKind, String>) {
        match verdict {
            Ok(kind) => {
                self.view.lock().verdicts.remove(&id);
                let Ok(history) = getrandom::u64() else { return };
                let by = match kind {
                    VerdictKind::Fence => "the other node is fenced",
                    VerdictKind::FailStop => "every path to the other node is dead",
                    VerdictKind::Force => "an administrator forces it",
                };
                self.log(Level::Warning, Some(id), format!("verdict: {by}"));
                self.to_group(id, Input::Verdict(Verdict { kind, history: history.max(1) }));
            }
            // It was asked for before somebody was found to lead.
            Err(_) if self.view.lock().leaders.get(&id).is_some_and(Option::is_some) => {}
            Err(why) => {
                self.log(Level::Warning, Some(id), format!("not served: {why}"));
                self.view.lock().verdicts.insert(id, why);
                // The group asks again when it is time.
            }
        }
    }

    pub(super) fn copy(&mut self, id: ExportId) {
        let (Some(export), Some((peer, endpoint))) = (self.exports.get(id), self.peer_endpoint.clone())
        else {
            return;
        };
        if export.with_group(|g| g.node_status().serving).unwrap_or(false) {
            return;
        }
        // The leader may ask for it while this node wants it too: it comes in once.
        let Some(group) = export.begin_copy() else { return };
        self.log(Level::Info, Some(id), format!("a copy from node {peer} begins"));
        let (inputs, node) = (self.inputs.clone(), self.node.clone());
        tokio::spawn(async move {
            let outcome = copy::receive(export, group, endpoint, node).await.map_err(|e| format!("{e:#}"));
            let _ = inputs.send(HubInput::CopyDone(id, outcome));
        });
    }

    pub(super) fn copied(&mut self, id: ExportId, outcome: Result<(), String>) {
        match outcome {
            Ok(()) => self.log(Level::Info, Some(id), "the copy is complete".to_owned()),
            Err(why) => {
                self.copy_not_before_ns = monotonic_ns() + COPY_RETRY_NS;
                self.log(Level::Warning, Some(id), format!("the copy failed: {why}"));
            }
        }
        // The group that runs now has not heard of the session.
        if let Some(peer) = &self.peer {
            peer.reset("a copy of an export has ended");
        }
    }
}
