//! Does this node's own disk keep up? It is asked of two things: what was given to the log and is not persisted, and what
//! was given to the state machine and is not applied.
//!
//! What counts is progress, as for the peer's (see `peer`): a disk that answers late is slow, one that answers nothing for
//! `stall` hangs. Silence is judged only in a tick, after everything that was received has been heard, and counts only while
//! the loop ran without a gap. A disk that was slow is called so for a while: what hangs on it must not change with every
//! fdatasync. The node says where its disk stands and decides nothing by it: that a primary hands over is the failover
//! policy's decision.

use super::config::Timing;
use super::io::Output;
use super::status::OwnDisk;
use super::voter::Node;

/// A disk is called slow for this long after it last was.
const SOUND_AFTER_NS: u64 = 30_000_000_000;
/// The state machine may take this many times as long as the log: it waits for whole checkpoints where the disk is merely
/// slower than the changes.
const APPLY_PATIENCE: u64 = 10;

/// The oldest of what waits for the disk.
#[derive(Debug, Default)]
struct Oldest {
    /// Which one, and since when it is the oldest.
    waits: Option<(u64, u64)>,
}

impl Oldest {
    /// Notes what is the oldest now. Returns how long the one before had to wait, where it waits no more.
    fn observe(&mut self, now: u64, which: Option<u64>) -> u64 {
        let before = self.waits.filter(|(before, _)| Some(*before) != which);
        if self.waits.map(|(before, _)| before) != which {
            self.waits = which.map(|which| (which, now));
        }
        before.map_or(0, |(_, since)| now.saturating_sub(since))
    }

    fn since(&self) -> Option<u64> {
        self.waits.map(|(_, since)| since)
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Watch {
    persist: Oldest,
    apply: Oldest,
    /// The last time that something had taken too long.
    slow_at: Option<u64>,
    state: OwnDisk,
}

impl Watch {
    /// The loop was away: what the disk did meanwhile was not heard.
    pub fn was_away(&mut self, now: u64) {
        for oldest in [&mut self.persist, &mut self.apply] {
            oldest.waits = oldest.waits.map(|(which, _)| (which, now));
        }
    }

    /// When each hangs, if nothing moves.
    fn hangs_at(&self, timing: Timing) -> u64 {
        let at = |oldest: &Oldest, limit: u64| oldest.since().map_or(u64::MAX, |s| s.saturating_add(limit));
        at(&self.persist, timing.stall_ns).min(at(&self.apply, apply_limit(timing)))
    }

    /// Since when something waits for the disk and nothing has moved.
    pub fn waits_since(&self) -> Option<u64> {
        self.persist.since().into_iter().chain(self.apply.since()).min()
    }

    fn sound_at(&self) -> Option<u64> {
        self.slow_at.map(|at| at.saturating_add(SOUND_AFTER_NS))
    }
}

fn apply_limit(timing: Timing) -> u64 {
    timing.stall_ns.saturating_mul(APPLY_PATIENCE)
}

impl Node {
    /// Follows what the disk has done.
    pub(super) fn observe_disk(&mut self) {
        let (now, timing) = (self.now, self.cfg.timing);
        let persisted = self.disk.persist.observe(now, self.persistence.oldest());
        let applied = self.disk.apply.observe(now, self.applying.oldest());
        // So late that this node, as backup, would have counted as lost.
        if persisted >= timing.detect_ns || applied >= apply_limit(timing) {
            self.disk.slow_at = Some(now);
        }
    }

    /// Says where the disk stands, where that has changed.
    pub(super) fn tick_disk(&mut self, out: &mut Vec<Output>) {
        let now = self.now;
        let state = if now >= self.disk.hangs_at(self.cfg.timing) {
            self.disk.slow_at = Some(now);
            OwnDisk::Hangs
        } else if self.disk.sound_at().is_some_and(|at| now < at) {
            OwnDisk::Slow
        } else {
            OwnDisk::Sound
        };
        let before = std::mem::replace(&mut self.disk.state, state);
        if before == state {
            return;
        }
        let (level, text) = match (before, state) {
            (_, OwnDisk::Hangs) => (tracing::Level::WARN, "this node's disk hangs"),
            (OwnDisk::Hangs, _) => (tracing::Level::INFO, "this node's disk answers again"),
            (_, OwnDisk::Slow) => (tracing::Level::INFO, "this node's disk is slow"),
            (_, OwnDisk::Sound) => (tracing::Level::INFO, "this node's disk is no longer slow"),
        };
        self.event(out, level, text);
    }

    pub(super) fn disk_hangs(&self) -> bool {
        self.disk.state == OwnDisk::Hangs
    }

    pub(super) fn own_disk(&self) -> OwnDisk {
        self.disk.state
    }

    /// When the disk is to be looked at, if nothing else happens.
    pub(super) fn disk_deadline(&self) -> u64 {
        match self.disk.state {
            OwnDisk::Hangs => u64::MAX,
            OwnDisk::Slow => {
                self.disk.hangs_at(self.cfg.timing).min(self.disk.sound_at().unwrap_or(u64::MAX))
            }
            OwnDisk::Sound => self.disk.hangs_at(self.cfg.timing),
        }
    }
}
