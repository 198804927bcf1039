//! Bugs on purpose, for the simulators: what nobody finds when it is planted is not checked at all.
//!
//! Each is one condition at the place in the product where that mistake would be made. Which one is made is chosen per
//! thread ([`plant`]). Without the feature `sim` none can be chosen: [`planted`] is a constant, and the product has none of
//! the conditions.

/// A mistake that the product could make.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Planted {
    /// A leader applies and answers what only its own log has.
    ReplyBeforeCommit,
    /// What was written to the log is called durable without an fdatasync.
    SkipLogSync,
    /// A vote leaves before it is durable.
    VoteBeforeSync,
    /// A backup acknowledges entries before its log has them.
    AcknowledgeBeforeWritten,
    /// Replies leave although the lease is over.
    IgnoreLease,
    /// A guardian keeps the address when its lease is over.
    KeepAddress,
    /// Applying looks at this node's clock.
    LocalClockInApply,
    /// Applying draws a random number.
    RandomInApply,
    /// Replies are kept for retransmissions only where the call came in.
    ReplyCacheNotReplicated,
    /// The witness vouches although the gate is closed: it counts as a copy.
    WitnessCountsAsCopy,
    /// The gate closes before the backup has everything that the witness vouched for.
    CloseGateEarly,
    /// The witness is told of entries that are not durable here.
    VouchBeforeDurable,
    /// The witness's pair may go back.
    WitnessPairDecreases,
    /// The witness answers before its state is durable.
    WitnessForgets,
    /// The log is cut past the checkpoint.
    CutPastCheckpoint,
    /// A node that lost its tail with its page cache takes itself for complete.
    IgnoreRecovering,
    /// A lease counts from when the answer came, not from when the ping was sent.
    LeaseFromReceiveTime,
    /// A new primary serves before it has applied its own incarnation.
    ServeBeforeApplied,
    /// A checkpoint becomes durable before the content that it covers.
    CheckpointBeforeContent,
    /// Content is unlinked before the checkpoint that covers its removal.
    UnlinkBeforeCheckpoint,
    /// What the peer acknowledged on an earlier connection still counts.
    CountOldAcknowledgements,
    /// What was promised to a leader is forgotten with a restart.
    ForgetPromise,
    /// A vote is given to another although a leader holds a promise.
    VoteWithinPromise,
    /// Records of an earlier session of the log are taken for this one's.
    ReplayStaleTail,
    /// The mark of being the only copy goes before the backup is level.
    UnmarkSoloEarly,
    /// A backup asks for a verdict although its primary may have gone on alone.
    AskBehindOpenGate,
}

impl Planted {
    /// All of them.
    pub const ALL: [Self; 26] = [
        Self::ReplyBeforeCommit,
        Self::SkipLogSync,
        Self::VoteBeforeSync,
        Self::AcknowledgeBeforeWritten,
        Self::IgnoreLease,
        Self::KeepAddress,
        Self::LocalClockInApply,
        Self::RandomInApply,
        Self::ReplyCacheNotReplicated,
        Self::WitnessCountsAsCopy,
        Self::CloseGateEarly,
        Self::VouchBeforeDurable,
        Self::WitnessPairDecreases,
        Self::WitnessForgets,
        Self::CutPastCheckpoint,
        Self::IgnoreRecovering,
        Self::LeaseFromReceiveTime,
        Self::ServeBeforeApplied,
        Self::CheckpointBeforeContent,
        Self::UnlinkBeforeCheckpoint,
        Self::CountOldAcknowledgements,
        Self::ForgetPromise,
        Self::VoteWithinPromise,
        Self::ReplayStaleTail,
        Self::UnmarkSoloEarly,
        Self::AskBehindOpenGate,
    ];
}

#[cfg(any(test, feature = "sim"))]
pub use self::switch::{plant, planted};

/// No mistake is made in the product.
#[cfg(not(any(test, feature = "sim")))]
#[inline(always)]
#[must_use]
pub const fn planted(_bug: Planted) -> bool {
    false
}

#[cfg(not(any(test, feature = "sim")))]
const _: () = {
    let mut rest: &[Planted] = &Planted::ALL;
    while let [bug, others @ ..] = rest {
        assert!(!planted(*bug), "the product makes no mistake on purpose");
        rest = others;
    }
};

#[cfg(any(test, feature = "sim"))]
mod switch {
    use std::cell::Cell;

    use super::Planted;

    thread_local! {
        static BUG: Cell<Option<Planted>> = const { Cell::new(None) };
    }

    /// From now on this thread makes this mistake and no other; `None`: no mistake.
    pub fn plant(bug: Option<Planted>) {
        BUG.set(bug);
    }

    /// Does this thread make this mistake?
    #[must_use]
    pub fn planted(bug: Planted) -> bool {
        BUG.get() == Some(bug)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a mistake is made only where it was chosen, and all can be. Method: choose each, here, and ask for all, here and
    /// in another thread.
    #[test]
    fn one_mistake_at_a_time_and_only_here() {
        for bug in Planted::ALL {
            plant(Some(bug));
            let made: Vec<Planted> = Planted::ALL.into_iter().filter(|bug| planted(*bug)).collect();
            assert_eq!(made, [bug]);
            let elsewhere = std::thread::spawn(move || planted(bug)).join().expect("a thread that asks");
            assert!(!elsewhere);
        }
        plant(None);
        assert!(!Planted::ALL.into_iter().any(planted));
    }
}
