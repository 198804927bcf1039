//! What goes wrong, and what comes back.

use crate::config::{Config, Durability, Rule};
use crate::message::Queue;
use crate::state::{Disk, Guardian, Process, State, other};

impl State {
    /// The server process is killed. Its files are as it wrote them, and its host tells the peer.
    pub(crate) fn kill(&mut self, cfg: &Config, id: usize) {
        self.end_process(id);
        self.park(id, cfg);
        let link = self.link;
        if let Some(peer) = &mut self.nodes[other(id)].process {
            peer.gone = link;
        }
    }

    fn end_process(&mut self, id: usize) {
        self.nodes[id].process = None;
        self.reset();
        self.replies.retain(|(to, ..)| usize::from(*to) != id);
    }

    /// What was not fdatasync'ed is lost, and nobody says so.
    pub(crate) fn lose_power(&mut self, cfg: &Config, id: usize) {
        self.end_process(id);
        self.nodes[id].guardian = Guardian::default();
        let disk = &mut self.nodes[id].disk;
        let solo = disk.solo;
        disk.log = disk.log.prefix(disk.durable);
        (disk.term, disk.vote) = disk.synced_vote;
        if cfg.durability == Durability::Memory && !solo {
            disk.recovering = true;
            if self.nodes[other(id)].disk.recovering {
                self.excuse(id);
            }
        }
    }

    /// Not covered: the power loss of both in `"memory"`, where history is what the better copy still has, and the loss of
    /// the last copy's disk.
    fn excuse(&mut self, id: usize) {
        let peer = &self.nodes[other(id)].disk;
        let committed = self.seen.committed;
        let (here, there) = (committed.common(self.nodes[id].disk.log), committed.common(peer.log));
        self.seen.committed = if here.len() > there.len() { here } else { there };
    }

    /// The host is down, and its disk is replaced by an empty one.
    pub(crate) fn lose_disk(&mut self, id: usize) {
        self.end_process(id);
        self.nodes[id].guardian = Guardian::default();
        self.nodes[id].disk = Disk { blank: true, recovering: true, ..Disk::default() };
        self.excuse(id);
    }

    /// The log is fdatasync'ed before anything in it counts.
    pub(crate) fn start(&mut self, cfg: &Config, id: usize) {
        let disk = &mut self.nodes[id].disk;
        disk.durable = disk.log.len();
        disk.term = disk.term.max(disk.log.last_term());
        disk.synced_vote = (disk.term, disk.vote);
        let hold = if cfg.holds(Rule::PromiseAfterRestart) { cfg.promise } else { 0 };
        self.nodes[id].process = Some(Process::started(hold));
    }

    /// What was on its way in the session is gone.
    pub(crate) fn reset(&mut self) {
        self.session = false;
        self.queues = [Queue::default(); 2];
    }

    /// A new session: each node says who it is, and what an earlier one acknowledged is forgotten.
    pub(crate) fn connect(&mut self) {
        self.session = true;
        for node in &mut self.nodes {
            if let Some(tenure) = node.tenure_mut() {
                tenure.matched = 0;
            }
            if let Some(process) = &mut node.process {
                process.verified = 0;
                process.target = None;
                process.gone = false;
            }
        }
    }
}
