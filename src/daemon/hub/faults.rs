//! What is wrong with this node, or with the other one, short of being dead: looked for, told, and answered to who asked.

use replica::node::{NodeStatus, OwnDisk};

use super::*;

impl Hub {
    /// The worst that is wrong with this node for an export. Nothing is known of a group that does not run: what was known
    /// stays.
    pub(super) fn look_for_faults(&mut self, export: &Export, group: Option<&(NodeStatus, bool)>) {
        let id = export.id();
        let Some((raft, has_room)) = group else { return };
        let disk = match raft.own_disk {
            OwnDisk::Sound => None,
            OwnDisk::Slow => Some(Fault::SlowDisk),
            OwnDisk::Hangs => Some(Fault::DiskHangs),
        };
        let room = (!has_room).then_some(Fault::NoRoom);
        let network = (self.networks.get(&id) == Some(&false)).then_some(Fault::NoClientNetwork);
        let stopping = self.stopping.then_some(Fault::Stopping);
        let fault = disk.max(room).max(network).max(stopping);
        self.policy(PolicyInput::OwnFault { export: id, fault });
        let elsewhere = self.policy.room_elsewhere(id);
        export.with_group(|g| g.set_room_elsewhere(elsewhere));
    }

    pub(super) fn client_network(&mut self, id: ExportId, up: bool) {
        self.networks.insert(id, up);
        let text = if up { "the client network is back" } else { "the client network is lost: no carrier" };
        self.log(if up { Level::Info } else { Level::Warning }, Some(id), text.to_owned());
        self.sync_states();
    }

    /// To the other node, and for `status`.
    pub(super) fn say_fault(&mut self, id: ExportId, fault: Option<Fault>) {
        {
            let mut view = self.view.lock();
            match fault {
                Some(fault) => view.faults.insert(id, fault),
                None => view.faults.remove(&id),
            };
        }
        if let Some(export) = self.exports.get(id) {
            export.to_peer(GroupFrame { fault: Some(Fault::to_proto(fault)), ..GroupFrame::default() });
        }
        match fault {
            // What the others are, their finders have said.
            Some(fault) => {
                let level = if fault == Fault::NoRoom { Level::Warning } else { Level::Info };
                self.log(level, Some(id), format!("node {}: {fault}", self.node));
            }
            None => self.log(Level::Info, Some(id), format!("node {} is sound again", self.node)),
        }
    }

    /// A new session: the other node knows nothing, or something old.
    pub(super) fn say_faults(&mut self) {
        for export in self.exports.all() {
            let fault = Fault::to_proto(self.policy.own_fault(export.id()));
            export.to_peer(GroupFrame { fault: Some(fault), ..GroupFrame::default() });
        }
    }

    /// Why an order to serve an export on that side would be undone at once.
    pub(super) fn would_come_back(&self, id: ExportId, side: Side) -> Option<String> {
        let (own, peer) = (self.policy.own_fault(id), self.policy.peer_fault(id));
        let (there, here, name) = match side {
            Side::Own => (own, peer, self.node.as_str()),
            Side::Peer => (peer, own, self.peer_name()),
        };
        let fault = there.filter(|fault| *fault == Fault::Stopping || fault.yields_to(here))?;
        if fault == Fault::Stopping {
            return Some(format!("node {name}: {fault}"));
        }
        Some(format!(
            "node {name}: {fault}: it would hand it over again (a fault counts for 30 s after its end)"
        ))
    }

    pub(super) fn yields(&mut self, id: ExportId, fault: Fault) {
        let peer = self.peer_name();
        let text = format!("handed over to node {peer}, which is better off: node {}: {fault}", self.node);
        self.log(Level::Warning, Some(id), text);
    }

    /// The group does not transfer: nothing has changed.
    pub(super) fn no_transfer(&mut self, id: ExportId, why: &'static str) {
        self.no_transfer = Some(why);
        self.policy(PolicyInput::TransferFailed { export: id });
        self.no_transfer = None;
    }

    /// Whoever wanted the export to be handed over hears why it is not, here and at the other node.
    pub(super) fn refuse_everybody(&mut self, id: ExportId, why: &str) {
        self.answer(id, Side::Peer, &Err(why.to_owned()));
        self.refuse_peer(id, why.to_owned());
    }

    pub(super) fn refuse_peer(&self, id: ExportId, why: String) {
        if let Some(export) = self.exports.get(id) {
            export.to_peer(GroupFrame { refused: why, ..GroupFrame::default() });
        }
    }

    /// The other node does not hand over.
    pub(super) fn refused(&mut self, id: ExportId, why: &str) {
        let answer = format!("node {} does not hand it over: {why}", self.peer_name());
        self.answer(id, Side::Own, &Err(answer));
        let leader = self.view.lock().leaders.get(&id).copied().flatten();
        if self.exports.get(id).is_some_and(|export| leader != Some(export.me)) {
            self.watch.not_handed_over(id);
        }
        self.policy(PolicyInput::HandOverRefused { export: id });
    }

    /// The other node's server is about to end.
    pub(super) fn peer_says(&mut self, text: String) {
        self.log(Level::Warning, None, format!("node {} stopped: {text}", self.peer_name()));
        self.view.lock().peer_says = Some(text);
    }

    fn peer_name(&self) -> &str {
        self.peer_endpoint.as_ref().map_or("", |(name, _)| name)
    }
}
