//! Answers: what a program hands back, and the one way to hand it back.
//!
//! A [`Responder`] is used up by its answer. One that is dropped unanswered closes the connection, so that no
//! request is ever silently lost on a living one (over UDP the datagram is dropped: the client asks again).

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use crate::xdr::{Encoder, HEADROOM};

/// RFC 5531 section 9: msg_type REPLY.
const REPLY: u32 = 1;
/// accept_stat, RFC 5531 section 9.
const SUCCESS: u32 = 0;
const PROG_UNAVAIL: u32 = 1;
const PROG_MISMATCH: u32 = 2;
const PROC_UNAVAIL: u32 = 3;
const GARBAGE_ARGS: u32 = 4;
const SYSTEM_ERR: u32 = 5;
/// reply_stat and reject_stat, RFC 5531 section 9.
const MSG_DENIED: u32 = 1;
const RPC_MISMATCH: u32 = 0;
const AUTH_ERROR: u32 = 1;
/// The bit of a record mark that says "last fragment", RFC 5531 section 11.
const LAST_FRAGMENT: u32 = 1 << 31;
/// Length of a record mark, bytes.
const MARK: usize = 4;

/// auth_stat, RFC 5531 section 9.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AuthStat {
    /// AUTH_BADCRED: the credential does not decode.
    BadCred = 1,
    /// AUTH_REJECTEDCRED: a shorthand that is not known: send the whole credential.
    RejectedCred = 2,
    /// AUTH_BADVERF: the verifier does not decode.
    BadVerf = 3,
    /// AUTH_TOOWEAK: a flavour that is not accepted here. Of the possible values it is the one after which a
    /// Linux client gives up at once, where AUTH_REJECTEDCRED makes it try again.
    TooWeak = 5,
}

/// A procedure's results: encoded values and, for READ, the data itself, sent as it is.
#[derive(Debug)]
pub struct ReplyBody {
    head: BytesMut,
    payload: Bytes,
}

impl From<Encoder> for ReplyBody {
    fn from(results: Encoder) -> Self {
        Self { head: results.into_inner(), payload: Bytes::new() }
    }
}

impl ReplyBody {
    /// Results that end with an opaque whose *length is already the last value in* `results` and whose bytes
    /// are `payload`. Padding is added; the bytes are not copied.
    pub fn with_payload(results: Encoder, payload: Bytes) -> Self {
        Self { head: results.into_inner(), payload }
    }

    /// The results alone (without the payload), as they were encoded.
    pub fn results(&self) -> &[u8] {
        self.head.get(HEADROOM..).unwrap_or_default()
    }

    /// The data that follows the results, without padding.
    pub fn payload(&self) -> &Bytes {
        &self.payload
    }
}

/// A reply as it goes out, record mark first. Over UDP the mark is left out.
#[derive(Debug)]
pub struct Wire {
    head: Bytes,
    payload: Bytes,
}

impl Wire {
    /// Record mark, RPC header, results.
    pub(crate) fn head(&self) -> &Bytes {
        &self.head
    }

    /// Data that follows; empty but for READ.
    pub(crate) fn payload(&self) -> &Bytes {
        &self.payload
    }

    /// Zero bytes that follow the data.
    pub(crate) fn pad(&self) -> &'static [u8] {
        const ZEROS: &[u8] = &[0; 3];
        let pad = self.payload.len().wrapping_neg() % 4;
        ZEROS.get(..pad).unwrap_or_default()
    }

    /// Bytes on the wire, mark and padding and all.
    pub fn len(&self) -> usize {
        self.head.len().saturating_add(self.payload.len()).saturating_add(self.pad().len())
    }

    /// Never: there is always a header.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The message in one piece, without the record mark: a datagram, or what a test wants to look at.
    pub fn to_datagram(&self) -> Bytes {
        if self.payload.is_empty() {
            return self.head.slice(MARK.min(self.head.len())..);
        }
        let mut all = BytesMut::with_capacity(self.len());
        all.put_slice(self.head.get(MARK..).unwrap_or_default());
        all.put_slice(&self.payload);
        all.put_slice(self.pad());
        all.freeze()
    }

    /// Fills the headroom of `body` with the mark and `header` (six words).
    fn new(body: ReplyBody, header: [u32; 6]) -> Self {
        let ReplyBody { mut head, payload } = body;
        let mut wire = Self { head: Bytes::new(), payload };
        let record = head.len().saturating_add(wire.len()).saturating_sub(MARK);
        let mark = LAST_FRAGMENT | u32::try_from(record).expect("a reply is bounded far below 2 GiB");
        let words = std::iter::once(mark).chain(header);
        for (place, word) in head.chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_be_bytes());
        }
        wire.head = head.freeze();
        wire
    }

    /// MSG_ACCEPTED with an AUTH_NONE verifier.
    fn accepted(xid: u32, stat: u32, body: ReplyBody) -> Self {
        Self::new(body, [xid, REPLY, 0, 0, 0, stat])
    }

    /// MSG_DENIED: the message is these words.
    fn denied(words: &[u32]) -> Self {
        let mark = LAST_FRAGMENT | u32::try_from(words.len().saturating_mul(4)).unwrap_or_default();
        let mut head = BytesMut::with_capacity(HEADROOM);
        head.put_u32(mark);
        words.iter().for_each(|word| head.put_u32(*word));
        Self { head: head.freeze(), payload: Bytes::new() }
    }
}

/// What became of a call.
#[derive(Debug)]
pub enum Outcome {
    /// Send this.
    Reply(Wire),
    /// Nothing may be said: close the connection.
    Close,
}

/// Where an answer goes: a connection, or a datagram's sender.
pub trait ReplySink: Send + Sync {
    /// Called once a call, from any thread; must not block. `request_bytes` is what the call was accounted with.
    fn settle(&self, request_bytes: usize, outcome: Outcome);
}

/// The duty to answer one call.
#[must_use = "a call is answered, or its connection is closed"]
pub struct Responder {
    xid: u32,
    request_bytes: usize,
    sink: Option<Arc<dyn ReplySink>>,
}

impl Responder {
    /// A call's responder. `request_bytes` is handed back to the sink with the answer.
    pub fn new(xid: u32, request_bytes: usize, sink: Arc<dyn ReplySink>) -> Self {
        Self { xid, request_bytes, sink: Some(sink) }
    }

    fn settle(mut self, outcome: Outcome) {
        if let Some(sink) = self.sink.take() {
            sink.settle(self.request_bytes, outcome);
        }
    }

    fn failed(self, stat: u32) {
        let xid = self.xid;
        self.settle(Outcome::Reply(Wire::accepted(xid, stat, Encoder::with_capacity(0).into())));
    }

    /// SUCCESS, with these results.
    pub fn accept(self, body: impl Into<ReplyBody>) {
        let xid = self.xid;
        self.settle(Outcome::Reply(Wire::accepted(xid, SUCCESS, body.into())));
    }

    /// PROG_UNAVAIL: no such program here.
    pub fn prog_unavail(self) {
        self.failed(PROG_UNAVAIL);
    }

    /// PROG_MISMATCH: the program has versions `low` to `high` only.
    pub fn prog_mismatch(self, low: u32, high: u32) {
        let mut versions = Encoder::with_capacity(8);
        versions.u32(low).u32(high);
        let xid = self.xid;
        self.settle(Outcome::Reply(Wire::accepted(xid, PROG_MISMATCH, versions.into())));
    }

    /// PROC_UNAVAIL: the program has no such procedure.
    pub fn proc_unavail(self) {
        self.failed(PROC_UNAVAIL);
    }

    /// GARBAGE_ARGS: the arguments do not decode.
    pub fn garbage_args(self) {
        self.failed(GARBAGE_ARGS);
    }

    /// SYSTEM_ERR: the server could not even try.
    pub fn system_err(self) {
        self.failed(SYSTEM_ERR);
    }

    /// RPC_MISMATCH: only RPC version 2 is spoken here.
    pub(crate) fn rpc_mismatch(self) {
        let words = [self.xid, REPLY, MSG_DENIED, RPC_MISMATCH, 2, 2];
        self.settle(Outcome::Reply(Wire::denied(&words)));
    }

    /// AUTH_ERROR with an auth_stat.
    pub(crate) fn auth_error(self, stat: AuthStat) {
        let words = [self.xid, REPLY, MSG_DENIED, AUTH_ERROR, stat as u32];
        self.settle(Outcome::Reply(Wire::denied(&words)));
    }

    /// No answer: this node may not speak for the export (any more). The connection is closed, and the client
    /// asks whoever serves the address next.
    pub fn close(self) {
        self.settle(Outcome::Close);
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        if let Some(sink) = self.sink.take() {
            sink.settle(self.request_bytes, Outcome::Close);
        }
    }
}

#[cfg(test)]
#[path = "reply_tests.rs"]
mod tests;
