//! Clients that behave as Linux's NFS client does: `docs/design.md`'s owed behaviour, measured and read in its source.
//!
//! One mount is one TCP connection of one client to one export's virtual IP. A call keeps its xid until it is answered:
//! it is sent again on each new connection, and after 60 s on a living one. A reset brings a new connection at once, from
//! the same port; a lost SYN is sent again after 1, 3 and 7 s, a refused one after a flat 3 s; unacknowledged data by
//! TCP's own timer; and **nothing** is sent for a call that was acknowledged and not answered, until those 60 s.

pub mod slot;

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::ops::Op;
use slot::Slot;

/// A call that is not answered yet.
#[derive(Debug)]
pub struct Pending {
    /// Whose it is.
    pub slot: usize,
    /// What it asks.
    pub op: Op,
    /// As sent.
    pub record: Bytes,
    /// Counts how often it was sent: a timer of an earlier time is void.
    pub sent: u64,
    /// When it was first sent.
    pub asked: u64,
}

/// Where a mount's connection stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Link {
    /// None, and none is being made.
    Idle,
    /// SYN sent.
    Connecting(u64),
    /// Established.
    Up(u64),
}

/// One mounted export.
pub struct Mount {
    /// Which export.
    pub export: usize,
    /// Its connection.
    pub link: Link,
    /// Its source port, kept over reconnections.
    pub port: u16,
    /// The next call's xid.
    pub xid: u32,
    /// By xid: in the order in which they were made.
    pub calls: BTreeMap<u32, Pending>,
    /// Who makes calls.
    pub slots: Vec<Slot>,
}

/// A client host.
pub struct Client {
    /// Its mounts.
    pub mounts: Vec<Mount>,
}
