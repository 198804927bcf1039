//! What is on its way: the session of the two data nodes, in order, and the calls to the witness, in any order.

use crate::log::Log;

/// Messages that a direction of the session holds, at most.
pub const QUEUE_MAX: usize = 3;

/// From one data node to the other. `age`: ticks since the ping in it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Message {
    /// A vote request.
    Stand(Candidacy),
    /// A vote.
    Vote { term: u8 },
    /// Entries from the first on (`log`), and a ping. `last` is where the leader's log ends.
    Append { term: u8, log: Log, last: u8, commit: u8, age: u8 },
    /// What is persisted of the leader's log, and a pong. `age` is [`NO_PONG`] where it is none.
    Ack { term: u8, matched: u8, age: u8, adopted: u8, recovering: bool },
    /// The sender knows a later term.
    Later { term: u8 },
    /// The leader appoints its successor.
    TimeoutNow { term: u8 },
}

/// No pong is in this acknowledgement.
pub const NO_PONG: u8 = u8::MAX;

/// What a candidate says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Candidacy {
    pub term: u8,
    /// (term, index) of its last entry.
    pub end: (u8, u8),
    pub recovering: bool,
    pub blank: bool,
    pub lease_void: bool,
    pub transfer: bool,
}

/// To the witness, from a data node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Request {
    Stand(Candidacy),
    Ping { term: u8, age: u8 },
    Vouch { term: u8, pair: (u8, u8), adopt: bool },
}

impl Request {
    pub fn term(&self) -> u8 {
        match self {
            Self::Stand(candidacy) => candidacy.term,
            Self::Ping { term, .. } | Self::Vouch { term, .. } => *term,
        }
    }
}

/// The witness's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reply {
    Vote {
        term: u8,
    },
    Pong {
        term: u8,
        age: u8,
    },
    /// The pair that it vouches for, told to the leader of `term`.
    Vouched {
        term: u8,
        pair: (u8, u8),
    },
    Later {
        term: u8,
    },
}

/// One direction of the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Queue {
    messages: [Option<Message>; QUEUE_MAX],
}

impl Queue {
    pub fn len(&self) -> usize {
        self.messages.iter().flatten().count()
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Message> {
        self.messages.iter_mut().flatten()
    }

    /// At its end, if less than `max` are on their way; else it is lost, as when the session is reset just then.
    pub fn push(&mut self, message: Message, max: usize) {
        let len = self.len();
        if len < max.min(QUEUE_MAX) {
            self.messages[len] = Some(message);
        }
    }

    pub fn pop(&mut self) -> Option<Message> {
        let first = self.messages[0].take();
        self.messages.rotate_left(1);
        first
    }
}
