//! What a voter is configured with, and which relations between its times must hold.

use bytes::Bytes;

/// One millisecond in ns.
const MS: u64 = 1_000_000;

/// Two hosts' monotonic clocks drift apart by less than this, parts per thousand. Real clocks keep within 0.1;
/// the rest is room for a virtual machine that is slewed.
pub const CLOCK_DRIFT_PER_MILLE: u64 = 50;

/// What "persisted" means to Raft.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Durability {
    /// fdatasync'ed on both nodes: every acknowledged operation survives the power loss of both.
    #[default]
    Disk,
    /// Written to the log file on both nodes; fdatasync'ed only where this node is the only copy.
    Memory,
}

/// Who casts the third vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Third {
    /// Nobody: without its peer a node waits, for the peer or for an administrator's verdict.
    #[default]
    None,
    /// A witness process.
    Witness,
    /// This node, after a verdict of the arbiter (`fence`, `fail-stop`).
    StandIn,
}

/// Times of leases, votes and detection, ns. All are measured on one host's own monotonic clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// A leader pings its voters this often.
    pub ping_ns: u64,
    /// A leader serves this long after it sent a ping that a quorum acknowledged.
    pub lease_ns: u64,
    /// A voter that heard its leader votes for nobody this long.
    pub promise_ns: u64,
    /// A peer that made no progress, or a leader that was silent, this long is lost.
    pub detect_ns: u64,
    /// An election that brought nothing is repeated after this; the two nodes' times differ (no ties for ever).
    pub retry_ns: u64,
    /// A transfer of leadership that took this long has failed.
    pub transfer_ns: u64,
    /// A recovering node leaves this much time to an intact peer before it stands for election itself.
    pub recovering_ns: u64,
    /// This node's own disk hangs when nothing that waits for it moves this long.
    pub stall_ns: u64,
    /// The loop was away when a step comes this much later than [`super::Node::deadline`]: what was not heard
    /// meanwhile proves nothing about the peer.
    pub gap_ns: u64,
}

impl Default for Timing {
    fn default() -> Self {
        const {
            assert!(Self::DEFAULT.ping_ns * 4 < Self::DEFAULT.lease_ns);
            assert!(
                Self::DEFAULT.lease_ns * (1000 + CLOCK_DRIFT_PER_MILLE) / 1000 < Self::DEFAULT.promise_ns
            );
            assert!(Self::DEFAULT.promise_ns <= Self::DEFAULT.detect_ns);
            assert!(Self::DEFAULT.detect_ns <= Self::DEFAULT.stall_ns);
        }
        Self::DEFAULT
    }
}

impl Timing {
    const DEFAULT: Self = Self {
        ping_ns: 50 * MS,
        lease_ns: 500 * MS,
        promise_ns: 550 * MS,
        detect_ns: 600 * MS,
        retry_ns: 150 * MS,
        transfer_ns: 1_000 * MS,
        recovering_ns: 2_000 * MS,
        stall_ns: 1_500 * MS,
        gap_ns: 150 * MS,
    };

    /// Checks the relations that safety (lease < promise) and stability (the rest) rest on.
    pub fn validate(&self) -> Result<(), String> {
        let drifted = self.lease_ns.saturating_mul(1000 + CLOCK_DRIFT_PER_MILLE) / 1000;
        if self.ping_ns < MS {
            return Err("ping_ms must be at least 1".to_owned());
        }
        if self.ping_ns.saturating_mul(3) >= self.lease_ns {
            return Err(
                "lease_ms must be more than three times ping_ms, or one lost ping ends the lease".to_owned()
            );
        }
        if drifted >= self.promise_ns {
            return Err(format!(
                "promise_ms must be more than {} ms (lease_ms and {CLOCK_DRIFT_PER_MILLE} per mille of clock drift)",
                drifted / MS
            ));
        }
        if self.detect_ns < self.promise_ns {
            return Err("detect_ms must be at least promise_ms: no vote would be granted earlier".to_owned());
        }
        if self.gap_ns >= self.detect_ns {
            return Err("gap_ms must be less than detect_ms".to_owned());
        }
        if self.stall_ns < self.detect_ns {
            return Err(
                "stall_ms must be at least detect_ms: a disk that is slow would count as one that hangs"
                    .to_owned(),
            );
        }
        if self.retry_ns < self.ping_ns || self.transfer_ns < self.ping_ns {
            return Err("retry_ms and transfer_ms must be at least ping_ms".to_owned());
        }
        Ok(())
    }
}

/// Is a voter's promise longer than a lease on another host's clock? Where it is not, the two hosts have different
/// configurations, and the voter does not answer the ping.
pub fn promise_covers(promise_ns: u64, lease_ns: u64) -> bool {
    lease_ns.saturating_mul(1000 + CLOCK_DRIFT_PER_MILLE) / 1000 < promise_ns
}

/// What a voter is configured with.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// Raft id of this node: [`crate::ids::voter::HOME`] or [`crate::ids::voter::MIRROR`].
    pub me: u64,
    /// Raft id of the other data node. None: unreplicated, the group has one voter.
    pub peer: Option<u64>,
    /// Who casts the third vote.
    pub third: Third,
    /// What "persisted" means.
    pub durability: Durability,
    /// Times.
    pub timing: Timing,
    /// Recent entries kept in memory for the peer, bytes. What is older is read back from the log.
    pub log_cache_bytes: usize,
    /// Proposals that are not committed yet, at most, bytes. Past it a proposal is refused for the moment.
    pub uncommitted_bytes_max: u64,
    /// The cluster's id, for what goes to the witness.
    pub cluster: Bytes,
    /// The export's id, likewise and for the peer's frames.
    pub export: Bytes,
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self {
            me: crate::ids::voter::HOME,
            peer: None,
            third: Third::None,
            durability: Durability::Disk,
            timing: Timing::default(),
            log_cache_bytes: 32 << 20,
            uncommitted_bytes_max: 32 << 20,
            cluster: Bytes::new(),
            export: Bytes::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: two hosts whose configurations differ never both serve. Method: promises around the lease with its drift.
    #[test]
    fn a_promise_that_is_too_short_for_a_lease_is_known() {
        assert!(promise_covers(550 * MS, 500 * MS));
        assert!(!promise_covers(525 * MS, 500 * MS));
        assert!(!promise_covers(550 * MS, 2_000 * MS));
    }

    /// Goal: times under which two nodes could serve at once are rejected. Method: break one relation each.
    #[test]
    fn unsafe_times_are_rejected() {
        let good = Timing::default();
        assert_eq!(good.validate(), Ok(()));
        let bad = [
            Timing { lease_ns: good.promise_ns, ..good },
            Timing { promise_ns: good.detect_ns + 1, ..good },
            Timing { ping_ns: good.lease_ns / 2, ..good },
            Timing { ping_ns: 0, ..good },
            Timing { gap_ns: good.detect_ns, ..good },
            Timing { retry_ns: 0, ..good },
            Timing { stall_ns: good.detect_ns - 1, ..good },
        ];
        for timing in bad {
            assert!(timing.validate().is_err(), "{timing:?}");
        }
    }
}
