//! Blows at the worst moment. What chance seldom hits within a few ms is aimed at: a primary that goes on alone while its backup
//! is catching up loses the backup and the witness, goes on for some ms more, and dies; the witness may restart in
//! between, and of what it was asked something arrives late or twice. Then the backup must not lead without what it lacks.

use replica::node::{GateState, Role};

use crate::queue::Event;
use crate::world::{MS, World};

/// Between two looks.
const LOOK_NS: u64 = MS;
/// After a blow there is none for so long: the pair is to come into that state again.
const REST_NS: u64 = 2_500 * MS;

impl World {
    /// Is it such a moment? Sometimes it is taken.
    pub fn looks_for_strike(&mut self) {
        if !self.trouble {
            return;
        }
        let moment = (0..2).find(|h| self.leads_alone_with_a_backup(*h));
        let Some(h) = moment.filter(|_| self.rng.one_in(5)) else {
            self.at(LOOK_NS, Event::Strike);
            return;
        };
        self.fault("a blow at a primary that goes on alone");
        let apart = self.rng.between(500, 9_000) * MS;
        self.net.nodes_cut_until = self.now + apart;
        self.disconnect();
        self.guardian_link_ends(0);
        self.guardian_link_ends(1);
        if self.rng.one_in(2) {
            self.net.witness_loss = 3;
        }
        let left = self.rng.between(0, 40) * MS;
        self.at(left, Event::Blow(h));
        self.at(REST_NS, Event::Strike);
    }

    /// It dies, and perhaps the witness with it.
    pub fn blow(&mut self, h: usize) {
        self.net.witness_cut_until[h] = self.now + 1_000 * MS;
        if self.rng.one_in(2) {
            self.kill_witness();
        }
        self.lose_power(h);
        let delay = self.rng.between(1_000, 4_000) * MS;
        self.at(delay, Event::PowerOn(h));
        self.start_witness();
        self.net.witness_loss = 0;
    }

    fn leads_alone_with_a_backup(&mut self, h: usize) -> bool {
        (0..self.setup.exports).any(|export| {
            let Some(run) = self.group(h, export) else { return false };
            let status = run.parts.group.node_status();
            // Just closed counts: what was wrong about that shows only then.
            let alone = status.gate != GateState::Closed || status.stand_in;
            status.role == Role::Leader && status.peer_connected && alone
        })
    }
}
