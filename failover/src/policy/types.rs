//! The policy's inputs, outputs and configuration.

use std::fmt;

use replica::ids::ExportId;

/// One of the two data nodes, as seen from this one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// This node.
    Own,
    /// The other one.
    Peer,
}

/// What keeps a node from serving an export well, the lesser first. Of several the worst one counts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Fault {
    /// Its disk answers late.
    SlowDisk,
    /// Clients reach it again, but did not a moment ago. Never seen as such: what a lost client network counts as after its end.
    NetworkBack,
    /// It has no room for what grows.
    NoRoom,
    /// Its disk does not answer.
    DiskHangs,
    /// Clients do not reach it.
    NoClientNetwork,
    /// It is about to end, and has ordered what it serves to the other node.
    Stopping,
}

impl Fault {
    /// Is the service better off on a node with that fault, or none? A node with more than a slow disk is handed nothing, except
    /// where nobody at all is served here. So of two bad nodes neither gets what the other one has.
    pub fn yields_to(self, other: Option<Self>) -> bool {
        match self {
            Self::SlowDisk | Self::NetworkBack | Self::Stopping => false,
            Self::NoRoom | Self::DiskHangs => other <= Some(Self::SlowDisk),
            Self::NoClientNetwork => other < Some(self),
        }
    }

    /// In the peer's protocol.
    pub fn to_proto(fault: Option<Self>) -> proto::peer::NodeFault {
        use proto::peer::node_fault::Kind;
        let kind = match fault {
            None => Kind::None,
            Some(Self::SlowDisk) => Kind::SlowDisk,
            Some(Self::NoRoom) => Kind::NoRoom,
            Some(Self::DiskHangs) => Kind::DiskHangs,
            Some(Self::NoClientNetwork) => Kind::NoClientNetwork,
            Some(Self::Stopping) => Kind::Stopping,
            Some(Self::NetworkBack) => Kind::NetworkBack,
        };
        proto::peer::NodeFault { kind: kind.into() }
    }

    /// From the peer's protocol. What is not known is no fault.
    pub fn from_proto(fault: proto::peer::NodeFault) -> Option<Self> {
        use proto::peer::node_fault::Kind;
        match fault.kind() {
            Kind::None => None,
            Kind::SlowDisk => Some(Self::SlowDisk),
            Kind::NoRoom => Some(Self::NoRoom),
            Kind::DiskHangs => Some(Self::DiskHangs),
            Kind::NoClientNetwork => Some(Self::NoClientNetwork),
            Kind::Stopping => Some(Self::Stopping),
            Kind::NetworkBack => Some(Self::NetworkBack),
        }
    }
}

impl fmt::Display for Fault {
    /// What is wrong with a node, after its name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SlowDisk => "its disk is slow",
            Self::NoRoom => "its disk has no room left",
            Self::DiskHangs => "its disk hangs",
            Self::NoClientNetwork => "it has no client network",
            Self::NetworkBack => "its client network has been back for less than 30 s",
            Self::Stopping => "it is stopping",
        })
    }
}

/// An export that both nodes hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PolicyExport {
    /// Its id.
    pub id: ExportId,
    /// Where it is at home.
    pub home: Side,
    /// It goes home by itself when its home has been in sync for so long; `None`: only on an order.
    pub giveback_delay_ns: Option<u64>,
}

/// Times and limits; times in ns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PolicyTiming {
    /// How long to wait for the other guardian's word that the address is off its host.
    pub release_wait_ns: u64,
    /// A guardian that has not been heard for so long is ordered but not waited for: its host is gone. Some pings of
    /// [`GUARDIAN_PING_NS`], and less than it takes to notice that the host's server is gone.
    pub guardian_silent_ns: u64,
    /// Announcements and tickles are repeated so long after the address was raised. Not sooner than 500 ms after
    /// one another: a Linux client answers only one in that time.
    pub repeat_after_ns: [u64; 3],
    /// Pause before the address is raised again after a failure.
    pub raise_again_ns: u64,
    /// After so many failures in a row a peer that is in sync gets the export.
    pub raise_failures_max: u32,
    /// How long calls in flight may take before a transfer goes on without them.
    pub drain_wait_ns: u64,
    /// A transfer that shows no effect in this time has failed.
    pub transfer_wait_ns: u64,
    /// A home that failed more often than this within [`Self::failures_window_ns`] gets nothing back by itself.
    pub failures_max: u32,
    /// See [`Self::failures_max`].
    pub failures_window_ns: u64,
    /// A client network must be lost for so long: where both nodes lose it, the second one's word is to come first.
    pub network_wait_ns: u64,
    /// A client network that has been back for so long is one: where both nodes lost it, nobody is served meanwhile.
    pub network_sound_ns: u64,
    /// A fault counts as over when it has been for so long.
    pub sound_after_ns: u64,
    /// After a hand-over for a fault that came to nothing; doubled each time, up to [`Self::YIELD_DOUBLINGS_MAX`] times. And,
    /// not doubled, after any transfer that came to nothing, before an export goes home by itself.
    pub yield_again_ns: u64,
}

impl PolicyTiming {
    /// See [`Self::yield_again_ns`].
    pub const YIELD_DOUBLINGS_MAX: u32 = 6;
}

const MS: u64 = 1_000_000;

/// A guardian lets the other node hear of it this often, in ns.
pub const GUARDIAN_PING_NS: u64 = 100 * MS;

impl Default for PolicyTiming {
    fn default() -> Self {
        Self {
            release_wait_ns: 300 * MS,
            guardian_silent_ns: 4 * GUARDIAN_PING_NS,
            repeat_after_ns: [600 * MS, 1_200 * MS, 3_000 * MS],
            raise_again_ns: 1_000 * MS,
            raise_failures_max: 3,
            drain_wait_ns: 1_000 * MS,
            transfer_wait_ns: 3_000 * MS,
            failures_max: 3,
            failures_window_ns: 3_600_000 * MS,
            network_wait_ns: 300 * MS,
            network_sound_ns: 2_000 * MS,
            sound_after_ns: 30_000 * MS,
            yield_again_ns: 10_000 * MS,
        }
    }
}

/// What the policy is told at the start.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PolicyConfig {
    /// Every export with a copy here.
    pub exports: Vec<PolicyExport>,
    /// Times and limits.
    pub timing: PolicyTiming,
}

/// An administrator's order about one export.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// This node is to serve it.
    Takeover {
        /// Which export.
        export: ExportId,
    },
    /// The other node is to serve it (its [`PolicyOutput::AskHandOver`] arrived here).
    HandOver {
        /// Which export.
        export: ExportId,
    },
    /// Its home node is to serve it.
    Giveback {
        /// Which export.
        export: ExportId,
    },
}

/// What happens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PolicyInput {
    /// The group leads here, has applied its own first entry of this term, and has a lease.
    GroupServing {
        /// Which export.
        export: ExportId,
        /// In which term.
        term: u64,
    },
    /// The group does not lead here any more, or its lease is over or given up.
    GroupNotServing {
        /// Which export.
        export: ExportId,
    },
    /// Who leads the group, as this node knows; `None` also when the leader is not heard any more.
    GroupRole {
        /// Which export.
        export: ExportId,
        /// The leader.
        leader: Option<Side>,
    },
    /// The primary's backup is in sync, or not any more.
    InSync {
        /// Which export.
        export: ExportId,
        /// In sync.
        in_sync: bool,
    },
    /// The other guardian saw its server process die.
    PeerServerGone,
    /// The other guardian has a running server (again).
    PeerServerUp,
    /// The other guardian is connected.
    PeerGuardianUp,
    /// The other guardian is not connected any more.
    PeerGuardianDown,
    /// The connected one says that it is there. One that never does is not missed.
    PeerGuardianHeard,
    /// The other guardian: the address is off its host.
    PeerReleased {
        /// Which export.
        export: ExportId,
        /// It was on it until then.
        held: bool,
    },
    /// What came of [`PolicyOutput::Raise`].
    Raised {
        /// Which export.
        export: ExportId,
        /// The address is up.
        ok: bool,
    },
    /// The own guardian lost the address, or took it down on the peer's order.
    VipLost {
        /// Which export.
        export: ExportId,
    },
    /// An administrator wants something.
    Order(Order),
    /// After [`PolicyOutput::Drain`]: nothing is in flight any more.
    Drained {
        /// Which export.
        export: ExportId,
    },
    /// The leader is handing the leadership to this node: no crash, then.
    TransferComing {
        /// Which export.
        export: ExportId,
        /// For a fault that kept its clients from being answered.
        for_fault: bool,
    },
    /// It does not: neither what it announced nor what it was asked for will come.
    HandOverRefused {
        /// Which export.
        export: ExportId,
    },
    /// What is wrong with this node now, as it is seen.
    OwnFault {
        /// For which export.
        export: ExportId,
        /// The worst there is.
        fault: Option<Fault>,
    },
    /// What the other node says is wrong with it ([`PolicyOutput::SayFault`] there).
    PeerFault {
        /// For which export.
        export: ExportId,
        /// The worst there is.
        fault: Option<Fault>,
    },
    /// After [`PolicyOutput::Transfer`]: the group says that it will not happen.
    TransferFailed {
        /// Which export.
        export: ExportId,
    },
    /// Time has passed.
    Tick,
}

/// Why an export came to be served here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    /// It was led by the other node, which was lost.
    Crash,
    /// Handed over by the other node for a fault that kept clients from being answered.
    Fault,
    /// On an order, or given back.
    Planned,
    /// The other node did not lead it before, as far as this process knows.
    Start,
}

impl Cause {
    /// As in the admin interface.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Crash => "crash",
            Self::Fault => "fault",
            Self::Planned => "planned",
            Self::Start => "start",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How long the phases of a takeover took, in us since the failure was noticed or the order came; 0: did not happen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Report {
    /// Why.
    pub cause: Cause,
    /// Until this node served.
    pub elected_us: u64,
    /// Until the other guardian had taken the address down.
    pub released_us: u64,
    /// Until the address was up here.
    pub vip_us: u64,
}

impl Report {
    /// As the admin interface shows it. `at_ns`: wall clock.
    pub fn to_proto(self, at_ns: u64, first_reply_us: u64, tickled: u32) -> proto::admin::TakeoverReport {
        proto::admin::TakeoverReport {
            at_ns,
            cause: self.cause.as_str().into(),
            elected_us: self.elected_us,
            released_us: self.released_us,
            vip_us: self.vip_us,
            first_reply_us,
            tickled,
            ..proto::admin::TakeoverReport::default()
        }
    }
}

/// What to do, in this order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PolicyOutput {
    /// Stand for election now.
    Campaign {
        /// Which export.
        export: ExportId,
        /// The leader's process is dead, so its lease protects nobody.
        lease_void: bool,
    },
    /// Order the other guardian to take the address down; answer with [`PolicyInput::PeerReleased`].
    ReleaseAtPeer {
        /// Which export.
        export: ExportId,
    },
    /// Raise the address here, announce, tickle; answer with [`PolicyInput::Raised`].
    Raise {
        /// Which export.
        export: ExportId,
    },
    /// Accept and read on the listeners that came with the address.
    StartServing {
        /// Which export.
        export: ExportId,
    },
    /// Tell the other guardian that the address is here.
    AnnounceTaken {
        /// Which export.
        export: ExportId,
    },
    /// Announce again, tickle who has not reconnected.
    Repeat {
        /// Which export.
        export: ExportId,
    },
    /// Take the address down here, closing nothing.
    Drop {
        /// Which export.
        export: ExportId,
    },
    /// Stop accepting and close the export's connections and listeners, after a `Drop` before it is done.
    StopServing {
        /// Which export.
        export: ExportId,
        /// So that no client hears of it.
        silently: bool,
    },
    /// Stop reading requests, let those in flight end; answer with [`PolicyInput::Drained`].
    Drain {
        /// Which export.
        export: ExportId,
    },
    /// Read requests again: the transfer did not happen.
    Resume {
        /// Which export.
        export: ExportId,
    },
    /// Tell the other node and the administrator what is wrong with this one.
    SayFault {
        /// For which export.
        export: ExportId,
        /// The worst there is, as it counts.
        fault: Option<Fault>,
    },
    /// The export is handed over because of this.
    Yields {
        /// Which export.
        export: ExportId,
        /// What is wrong with this node.
        fault: Fault,
    },
    /// [`Order::HandOver`] cannot be carried out: this node does not serve the export, or is only about to.
    RefuseHandOver {
        /// Which export.
        export: ExportId,
    },
    /// Hand leadership to the other node.
    Transfer {
        /// Which export.
        export: ExportId,
        /// For a fault that keeps clients from being answered: for how long it has been seen.
        fault_for_ns: Option<u64>,
    },
    /// Ask the other node's policy for [`Order::HandOver`].
    AskHandOver {
        /// Which export.
        export: ExportId,
    },
    /// The home is in sync for long enough but failed too often: only an order gives it back.
    GivebackWithheld {
        /// Which export.
        export: ExportId,
        /// How often it failed within the window.
        failures: u32,
    },
    /// A takeover is complete.
    Report {
        /// Which export.
        export: ExportId,
        /// Its phases.
        report: Report,
    },
}
