//! Addresses, sockets, clients: what it takes to serve an export here, and to stop.

use super::*;

impl Hub {
    pub(super) fn leases(&self) {
        for export in self.exports.all() {
            if let Some(until) = export.with_group(replica::group::Group::lease_until_ns)
                && until > 0
            {
                self.guardian.lease(export.id(), until);
            }
        }
    }

    pub(super) fn raise(&self, id: ExportId) {
        if let Some(until) =
            self.exports.get(id).and_then(|e| e.with_group(replica::group::Group::lease_until_ns))
        {
            self.guardian.lease(id, until);
        }
        let (guardian, inputs) = (self.guardian.clone(), self.inputs.clone());
        let tuples = self.tuples.to_tickle(id);
        // Asked for here and now, so that requests keep their order; only the answer is waited for.
        let raising = guardian.raise(id, tuples);
        tokio::spawn(async move {
            let outcome = raising.await;
            let _ = inputs.send(HubInput::Raised(id, outcome));
        });
    }

    pub(super) fn drop_vip(&mut self, id: ExportId) {
        self.raised.remove(&id);
        self.set_vip(id, false);
        *self.dropping.entry(id).or_default() += 1;
        let (guardian, inputs) = (self.guardian.clone(), self.inputs.clone());
        let dropping = guardian.drop_vip(id, false);
        tokio::spawn(async move {
            dropping.await;
            let _ = inputs.send(HubInput::Dropped(id));
        });
    }

    /// Connections are closed once the address is off this host, so that no client hears of it.
    pub(super) fn stop_serving(&mut self, id: ExportId, reset: bool) {
        if self.dropping.get(&id).is_some_and(|drops| *drops > 0) {
            self.closing.insert(id, reset);
        } else {
            self.close(id, reset);
        }
    }

    pub(super) fn close(&mut self, id: ExportId, reset: bool) {
        self.front.stop(id, reset || self.vip_stays);
        // Whoever was connected has to be tickled, by whichever node serves next.
        self.tuples.moved_away(id);
    }

    pub(super) fn dropped(&mut self, id: ExportId) {
        if let Some(drops) = self.dropping.get_mut(&id) {
            *drops = drops.saturating_sub(1);
            if *drops == 0
                && let Some(reset) = self.closing.remove(&id)
            {
                self.close(id, reset);
            }
        }
    }

    /// Forgets connections that have ended, here and at the peer.
    pub(super) fn reconcile(&mut self) {
        for export in self.exports.all() {
            let id = export.id();
            let open = self.front.tuples(id);
            for tuple in self.tuples.ended(id, &open) {
                self.tell_peer(id, tuple, true, None);
            }
        }
    }

    pub(super) fn raised(&mut self, id: ExportId, outcome: Result<Listeners, RaiseError>) {
        match outcome {
            // It was removed meanwhile, and its address goes again.
            _ if !self.policy.knows(id) => {}
            Ok(listeners) => {
                self.set_vip(id, true);
                self.raised.insert(id, listeners);
                self.policy(PolicyInput::Raised { export: id, ok: true });
            }
            // The later request is answered too.
            Err(RaiseError::Superseded) => {}
            Err(error) => {
                self.log(Level::Error, Some(id), format!("the virtual IP cannot be raised: {error}"));
                self.policy(PolicyInput::Raised { export: id, ok: false });
            }
        }
    }

    pub(super) fn start_serving(&mut self, id: ExportId) {
        let (Some(export), Some(listeners)) = (self.exports.get(id), self.raised.remove(&id)) else { return };
        // What was to be closed is replaced.
        self.closing.remove(&id);
        match self.front.start(&export, listeners) {
            Ok(()) => self.answer(id, Side::Own, &Ok(())),
            Err(why) => {
                self.log(Level::Error, Some(id), format!("cannot serve: {why}"));
                self.policy(PolicyInput::VipLost { export: id });
                self.drop_vip(id);
            }
        }
    }

    /// An export's options have changed.
    pub(super) fn options(&mut self, id: ExportId) {
        self.set_giveback(id);
        if let Some(export) = self.exports.get(id) {
            self.front.configure(&export.config());
        }
        self.policy(PolicyInput::Tick);
    }

    /// An export is gone from the configuration. Its clients see their connections closed while the address is still there,
    /// so that none waits for an answer that a takeover would bring.
    pub(super) fn removed(&mut self, id: ExportId, done: oneshot::Sender<()>) {
        self.policy.remove(id);
        self.front.stop(id, true);
        self.front.forget(id);
        self.answer(id, Side::Own, &Err("the export was removed".to_owned()));
        self.answer(id, Side::Peer, &Err("the export was removed".to_owned()));
        self.raised.remove(&id);
        self.closing.remove(&id);
        self.dropping.remove(&id);
        self.asking.remove(&id);
        self.digests.remove(&id);
        self.in_sync.remove(&id);
        self.tuples.forget(id);
        self.watch.forget(id);
        self.draining.remove(&id);
        self.view.lock().forget(id);
        let dropping = self.guardian.drop_vip(id, true);
        tokio::spawn(async move {
            dropping.await;
            let _ = done.send(());
        });
    }

    pub(super) fn tell_peer(
        &self,
        export: ExportId,
        tuple: Tuple,
        closed: bool,
        known: Option<oneshot::Sender<()>>,
    ) {
        let Some(peer) = self.peer.clone() else { return };
        // A peer that is lost confirms nothing, however long its connection takes to be found out: no client waits for it.
        // (It is told all the same, and of everybody when it is back.)
        let raft = self.exports.get(export).and_then(|e| e.with_group(|g| g.node_status()));
        let known = known.filter(|_| raft.is_some_and(|r| r.in_sync));
        let tuple = ClientTuple {
            seq: 0,
            export: bytes::Bytes::copy_from_slice(&export.0),
            client: ip_bytes(tuple.client.ip()),
            client_port: u32::from(tuple.client.port()),
            server_port: u32::from(tuple.server_port),
            closed,
        };
        tokio::spawn(async move {
            peer.tuple(tuple).await;
            if let Some(known) = known {
                let _ = known.send(());
            }
        });
    }

    pub(super) fn set_vip(&self, id: ExportId, held: bool) {
        self.view.lock().vip.insert(id, held);
    }
}
