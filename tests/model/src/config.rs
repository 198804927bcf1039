//! Bounds of a run, and the rules of the design, each of which can be broken.

/// What "persisted" means, as an export's `durability`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// fdatasync'ed.
    Disk,
    /// Written; the page cache goes with the power.
    Memory,
}

/// A rule of the design. A run with one broken shows that the checker would notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// A witness that lost its directory is another one, and nobody before it is adopted.
    WitnessIdentity,
    /// Terms and votes are fdatasync'ed before they are said.
    VotesSynced,
    /// The witness does not vote for a recovering node.
    RecoveringNotByWitness,
    /// Recovering ends at the leader's last entry, not at its commit index.
    RecoveringToTheLastEntry,
    /// The gate closes only when the backup has everything that was ever sent to the witness.
    GateClosesAboveSent,
    /// The solo mark is removed before the gate closes.
    MarkGoesBeforeGateCloses,
    /// The witness's pair never decreases.
    PairNeverDecreases,
    /// The witness hears only of what is durable on the primary.
    DurableBeforeWitness,
    /// A lease counts from the send time of the ping.
    LeaseFromSendTime,
    /// After a restart a voter votes for nobody for one promise.
    PromiseAfterRestart,
    /// The lease is given up before the peer is told to stand.
    TransferGivesLeaseUp,
    /// A node that began with nothing votes only for another such node, or as a leader bids it.
    BlankVotesForNobody,
    /// The guardian takes an address down when the lease is over.
    AddressGoesWithLease,
    /// A dead server's address stays only while the peer can order it down.
    ParkOnlyWhileConnected,
}

/// How often each thing that is not bound otherwise may happen in one run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Budget {
    /// Operations of clients.
    pub entries: u8,
    /// A server process is killed; what it wrote is still in the page cache.
    pub kills: u8,
    /// A host loses its power.
    pub power: u8,
    /// A data node's disk is replaced by an empty one.
    pub wipes: u8,
    /// The session of the two nodes is reset.
    pub resets: u8,
    /// The gate opens.
    pub gates: u8,
    /// Planned transfers.
    pub transfers: u8,
    /// The witness restarts.
    pub witness_restarts: u8,
    /// The witness's directory is lost.
    pub witness_wipes: u8,
    /// The stream between guardian and peer breaks.
    pub links: u8,
}

/// A model: what the two data nodes and the witness are configured with, and the bounds of the run.
#[derive(Clone, Debug)]
pub struct Config {
    /// Of the export.
    pub durability: Durability,
    /// Everybody starts with nothing, rather than with a leader, a level backup and an adopted witness.
    pub cold: bool,
    /// Duration of a lease, ticks.
    pub lease: u8,
    /// Duration of a promise, ticks. Safe from `lease` on.
    pub promise: u8,
    /// Model virtual addresses and guardians.
    pub addresses: bool,
    /// Last term.
    pub terms: u8,
    /// Messages on their way in one direction of the session, at most.
    pub queue: usize,
    /// Of what happens by chance.
    pub budget: Budget,
    /// Check in each state that a path leads to serving again. Costs some forty steps a state.
    pub progress: bool,
    /// The rule that is broken.
    pub broken: Option<Rule>,
}

impl Config {
    /// The smallest run: nothing happens but elections.
    pub fn new(durability: Durability) -> Self {
        Self {
            durability,
            cold: false,
            lease: 1,
            promise: 1,
            addresses: false,
            terms: 2,
            queue: 1,
            budget: Budget::default(),
            progress: false,
            broken: None,
        }
    }

    /// May another witness be adopted in this run? (Only then it matters how far a backup knows what is committed: a
    /// primary serves after it has committed an entry of its own, and with that all before it.)
    pub(crate) fn adopts(&self) -> bool {
        self.cold || self.budget.witness_wipes > 0
    }

    /// Does this rule hold in this run?
    pub fn holds(&self, rule: Rule) -> bool {
        self.broken != Some(rule)
    }
}
