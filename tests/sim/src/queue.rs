//! What happens when: a queue by time, and by order of entry where times are equal.

use std::collections::BTreeMap;

use bytes::Bytes;
use proto::peer::{GroupFrame, WitnessReply, WitnessRequest};

/// Between the servers of the two nodes.
#[derive(Clone, Debug)]
pub enum PeerFrame {
    /// Of a group.
    Group(usize, Box<GroupFrame>),
    /// A client's connection was accepted, with a number; or has ended.
    Tuple(Tuple, Option<u64>),
    /// That number is known.
    TupleKnown(u64),
}

/// A client's end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tuple {
    /// Which client.
    pub client: usize,
    /// Its port.
    pub port: u16,
    /// Which export's address it is connected to.
    pub export: usize,
}

/// From a guardian to the other node's server.
#[derive(Clone, Copy, Debug)]
pub enum FromGuardian {
    /// The server process beside it, by number, is dead.
    ServerGone(u64),
    /// It runs.
    ServerUp,
    /// The address is off its host.
    Released(usize, bool),
    /// It holds, or swept away, this connection.
    Tuple(Tuple),
}

/// From a server to the other node's guardian.
#[derive(Clone, Copy, Debug)]
pub enum ToGuardian {
    /// Take the address down.
    Release(usize),
    /// The address is here.
    Taken(usize),
}

/// What comes back to a server from its own host.
#[derive(Clone, Copy, Debug)]
pub enum Local {
    /// The address is up, or could not be raised.
    Raised(usize, bool),
    /// It is down, as was asked for.
    Dropped(usize),
    /// The guardian took it down.
    VipLost(usize),
    /// The calls in flight have had their time.
    DrainEnds(usize),
    /// A connection's tuple has had its time to be confirmed.
    TupleWaited(u64),
}

/// From a client to an address.
#[derive(Clone, Debug)]
pub enum Up {
    Syn,
    Data(u64, Bytes),
    /// An answer to a tickle.
    Challenge,
}

/// From a host to a client.
#[derive(Clone, Debug)]
pub enum Down {
    SynAck,
    Ack(u64),
    Data(Bytes),
    Rst,
    Tickle,
}

/// What happens. Numbers of lives tell what was meant for an earlier one.
#[derive(Debug)]
pub enum Event {
    /// The server's workers get turns.
    Turn(usize, u64),
    /// An export's log is fdatasync'ed.
    Sync(usize, u64, usize),
    /// The server's 25 ms tick.
    Tick(usize, u64),
    Local(usize, u64, Local),
    /// The guardian looks at its deadlines.
    Guardian(usize, u64),
    /// A guardian tries to reach the other server.
    GuardianDial(usize),
    GuardianSays {
        from: usize,
        link: u64,
        what: FromGuardian,
    },
    GuardianHears {
        guardian: usize,
        link: u64,
        what: ToGuardian,
    },
    GuardianLinkDown {
        guardian: usize,
        link: u64,
    },
    /// The dialling node tries to reach the other one.
    Connect,
    SessionDown(usize, u64),
    Frame {
        to: usize,
        session: u64,
        frame: PeerFrame,
    },
    ToWitness(usize, u64, usize, WitnessRequest),
    FromWitness(usize, u64, usize, WitnessReply),
    Up(u64, Up),
    Down(u64, usize, u64, Down),
    /// TCP's own timer: sends what was not acknowledged again.
    Rto(u64, u64, u32),
    /// A SYN was not answered: which try.
    SynAgain(u64, u32),
    /// A client makes a connection.
    Dial(usize, usize),
    /// A call was not answered on a living connection.
    CallAgain(usize, usize, u32, u64),
    /// A slot makes its next call.
    Think(usize, usize, usize),
    /// A copy of an export is tried.
    Copy(usize, usize),
    /// A machine that is off is switched on.
    PowerOn(usize),
    /// Something goes wrong.
    Trouble,
    /// A look for a moment to strike at.
    Strike,
    /// The blow: this host, which led alone.
    Blow(usize),
}

/// See the module.
#[derive(Default)]
pub struct Queue {
    events: BTreeMap<(u64, u64), Event>,
    sequence: u64,
}

impl Queue {
    /// At a time.
    pub fn push(&mut self, at: u64, event: Event) {
        self.sequence += 1;
        self.events.insert((at, self.sequence), event);
    }

    /// The first, if it is not later than that.
    pub fn pop(&mut self, until: u64) -> Option<(u64, Event)> {
        let entry = self.events.first_entry().filter(|e| e.key().0 <= until)?;
        let ((at, _), event) = entry.remove_entry();
        Some((at, event))
    }
}
