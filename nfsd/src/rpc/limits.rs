//! How much clients may make the server keep. What exceeds a limit waits or is refused, never dropped.

use crate::service::Ending;

/// Bounds on records, calls and connections of one [`crate::server::Server`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest record, bytes: the largest WRITE (rtmax and wtmax are 1 MiB) with header, credential and
    /// arguments, which take less than 4 KiB.
    pub record_bytes_max: usize,
    /// Most fragments of one record, empty ones included. Real clients send one; libtirpc one per 64 KiB.
    pub fragments_max: u32,
    /// Calls of one connection that are taken and whose replies are not written yet; beyond it the connection
    /// is not read. A Linux client has 65,536 slots, but uses more than 128 only when the server is slow.
    pub calls_in_flight_max: usize,
    /// Requests and replies of one connection that are in memory, bytes; beyond it the connection is not read.
    /// It is exceeded by one record or one reply at most.
    pub connection_bytes_max: usize,
    /// The same, over all connections. A connection with nothing in flight may always have one call, so that a
    /// few clients that do not read their replies cannot stop the others.
    pub total_bytes_max: usize,
    /// Most connections, over all services. While there are more, those that wait are not served, unless an
    /// idle one can be closed in their favour.
    pub connections_max: usize,
    /// Close a connection with nothing in flight after so many seconds; 0: never (a Linux client closes its
    /// idle connections itself, after 5 minutes).
    pub idle_s: u64,
    /// Close a connection in the middle of a record that does not grow by [`Self::record_step_bytes`], nor ends, within
    /// so many milliseconds; 0: never. Only while it is read.
    pub record_stall_ms: u64,
    /// See [`Self::record_stall_ms`]. A client that wants to hold memory with half a record has to pay for it.
    pub record_step_bytes: usize,
    /// By how much the answers to datagrams may exceed what was asked, bytes per second and service, where anybody
    /// could have asked; what is more is not sent.
    pub udp_excess_bytes_per_s: u64,
    /// Close a connection whose client acknowledges or reads nothing of what was sent to it, milliseconds.
    /// Linux clients give up on their side after 180 s.
    pub stalled_ms: u64,
    /// What a client hears of a connection that is closed without an answer, because its export is not served here any
    /// more. A FIN that leaves after the address has would stay behind as a half-closed socket, and when the
    /// address comes back that socket, not a listener, answers for the client's connection: 60 s and more of
    /// silence. So nothing, where whoever serves next tickles the client; a reset where nobody does.
    pub unserved: Ending,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            record_bytes_max: (1 << 20) + (4 << 10),
            fragments_max: 1024,
            calls_in_flight_max: 128,
            connection_bytes_max: 32 << 20,
            total_bytes_max: 256 << 20,
            connections_max: 1024,
            idle_s: 0,
            record_stall_ms: 30_000,
            record_step_bytes: 64 << 10,
            udp_excess_bytes_per_s: 64 << 10,
            stalled_ms: 180_000,
            unserved: Ending::Reset,
        }
    }
}
