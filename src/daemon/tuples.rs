//! Clients' connections to each virtual IP, as far as this node knows: its own, and the peer's, which it tickles when it takes over.

use std::collections::{HashMap, HashSet};

use failover::net::Tuple;
use replica::ids::ExportId;

/// Connections remembered per export and node, at most; far above any connection limit. Past it, any
/// one gives way: its client finds out by itself.
const TUPLES_MAX: usize = 65_536;

/// See the module.
#[derive(Debug, Default)]
pub struct Tuples {
    own: HashMap<ExportId, HashSet<Tuple>>,
    peers: HashMap<ExportId, HashSet<Tuple>>,
    /// Those of `own` that were there at the last look.
    seen: HashMap<ExportId, HashSet<Tuple>>,
}

fn insert(map: &mut HashMap<ExportId, HashSet<Tuple>>, export: ExportId, tuple: Tuple) {
    let set = map.entry(export).or_default();
    if set.len() >= TUPLES_MAX
        && let Some(any) = set.iter().next().copied()
    {
        set.remove(&any);
    }
    set.insert(tuple);
}

impl Tuples {
    /// A connection was accepted here.
    pub fn accepted(&mut self, export: ExportId, tuple: Tuple) {
        insert(&mut self.own, export, tuple);
        // It has come back: nothing to tickle any more.
        if let Some(set) = self.peers.get_mut(&export) {
            set.retain(|known| known.client != tuple.client);
        }
    }

    /// The peer has accepted one.
    pub fn at_peer(&mut self, export: ExportId, tuple: Tuple, closed: bool) {
        if closed {
            if let Some(set) = self.peers.get_mut(&export) {
                set.remove(&tuple);
            }
        } else {
            insert(&mut self.peers, export, tuple);
        }
    }

    /// Of those accepted here before the last call of this, the ones that are not `open` any more; they are
    /// forgotten. (One that was accepted since may not be in `open` yet.)
    pub fn ended(&mut self, export: ExportId, open: &HashSet<Tuple>) -> Vec<Tuple> {
        let own = self.own.entry(export).or_default();
        let seen = self.seen.entry(export).or_default();
        let ended: Vec<Tuple> =
            own.iter().filter(|t| seen.contains(t) && !open.contains(t)).copied().collect();
        own.retain(|t| !ended.contains(t));
        seen.clone_from(own);
        ended
    }

    /// The export is the peer's from now on. Whoever was connected here comes back to this host at the next
    /// takeover under the same port, if the kernel is Linux's: worth a tickle even if the peer could not say so.
    pub fn moved_away(&mut self, export: ExportId) {
        for tuple in self.own.remove(&export).unwrap_or_default() {
            insert(&mut self.peers, export, tuple);
        }
    }

    /// Whom to tickle at a takeover: everybody who was connected to the peer and has not come back, and whoever was connected to an
    /// earlier server on this host.
    pub fn to_tickle(&self, export: ExportId) -> Vec<Tuple> {
        self.peers.get(&export).into_iter().flatten().copied().collect()
    }

    /// The export is gone, and so is everybody who was connected to it.
    pub fn forget(&mut self, export: ExportId) {
        for map in [&mut self.own, &mut self.peers, &mut self.seen] {
            map.remove(&export);
        }
    }

    /// Everything accepted here, for a peer that has just connected.
    pub fn own(&self, export: ExportId) -> Vec<Tuple> {
        self.own.get(&export).into_iter().flatten().copied().collect()
    }
}
