//! Calls without a socket: the record reader, the header's decoder and the registry that connections use, driven by
//! hand. For fuzzing and tests, which want each of them alone, in one thread, with every answer in their hands.

use std::sync::Arc;

use bytes::Bytes;

use super::call::Transport;
use super::header::{self, Message};
use super::limits::Limits;
use super::record::RecordReader;
use super::registry::Registry;
use super::reply::{ReplySink, Responder};
use crate::service::Tuple;

/// A connection's stream of bytes, cut into records.
pub struct Records(RecordReader);

impl Records {
    /// An empty stream.
    pub fn new(limits: &Limits) -> Self {
        Self(RecordReader::new(limits))
    }

    /// Receives as much of `bytes` as there is room for, as one read does; returns how much that was.
    pub fn receive(&mut self, bytes: &[u8]) -> usize {
        let buf = self.0.space();
        let n = bytes.len().min(buf.capacity().saturating_sub(buf.len()));
        buf.extend_from_slice(bytes.get(..n).unwrap_or_default());
        n
    }

    /// The next whole record. An error closes a connection.
    pub fn next_record(&mut self) -> Result<Option<Bytes>, impl std::error::Error + use<>> {
        self.0.next_record()
    }

    /// Is it in the middle of a record?
    pub fn is_mid_record(&self) -> bool {
        self.0.is_mid_record()
    }

    /// Nothing has come for a while.
    pub fn rest(&mut self) {
        self.0.rest();
    }
}

/// Handles one record as a connection (or a datagram's socket) does. False: it is not a call, which ends a
/// connection and is passed over as a datagram; the sink hears nothing then.
pub fn take(
    registry: &Registry,
    record: &Bytes,
    tuple: Tuple,
    transport: Transport,
    sink: Arc<dyn ReplySink>,
) -> bool {
    let responder = |xid| Responder::new(xid, record.len(), sink);
    match header::decode(record, tuple, transport) {
        Message::Call(call) => {
            let responder = responder(call.xid);
            registry.dispatch(call, responder);
        }
        Message::Refused { xid, why } => why.answer(responder(xid)),
        Message::NotACall => return false,
    }
    true
}
