//! One TCP connection: one task that reads, hands calls to their programs, and writes replies.
//!
//! Programs that answer at once do so on this task, and all replies of one read leave in one vectored write,
//! straight away; the task sleeps only when there is nothing to write, or the socket takes no more. Replies that
//! come later, from other threads, are queued and wake the task once; a batch of them leaves in one write, too.
//!
//! Backpressure: beyond a limit on calls or bytes in flight the connection is not read until replies have been
//! *written*. So a client that does not read its replies is not read either, and costs what the limits say. A
//! call that was taken is answered, or the connection is closed; nothing is dropped. A record that is still coming
//! in counts with what has come of it, and has to get on: else half a record would hold memory for ever.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::os::fd::AsRawFd;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use replica::clock::monotonic_ns;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;

use super::call::Transport;
use super::connection::Connection;
use super::header::{self, Message};
use super::limits::Limits;
use super::record::{CHUNK_BYTES, RecordError, RecordReader};
use super::reply::{Responder, Wire};
use crate::server::NFS_PROGRAM;
use crate::service::{BoxFuture, Ending, Phase, Shared};

/// What a call costs besides its record, bytes: header fields, responder, queue entries.
pub(super) const CALL_BYTES: usize = 512;
/// Replies of this many bytes are written before more calls of the same read are taken.
const FLUSH_BYTES: usize = 256 << 10;
/// Buffers of one vectored write: some 20 READs, or 64 small replies.
const SLICES_MAX: usize = 64;
/// Keepalive: first probe after, and between probes, and how many. A client that is gone without a word is found out
/// after 120 s, or when `TCP_USER_TIMEOUT` ends, which Linux prefers where it is set.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_PROBES: u32 = 6;

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum End {
    #[error("the client closed it")]
    Eof,
    #[error("the client closed it in the middle of a record")]
    Truncated,
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error("a record is not an RPC call")]
    NotACall,
    #[error("closed unanswered, stalled, or to make room")]
    Closed,
    #[error("the service ended")]
    Service(Ending),
}

/// Sets what every connection needs. `TCP_USER_TIMEOUT` bounds how long a client may leave a reply
/// unacknowledged or its window shut.
///
/// `SO_LINGER` of 0 is for the close that nobody decides: where this process is killed its kernel sends an RST, and a
/// Linux client reconnects at once. After a FIN it would still be closing its end when the address moves, and if the
/// new host's RST meets that, the client's calls sleep for 3 s (`call_connect_status`). A close that is decided
/// says how, in [`prepare_close`].
pub(crate) fn set_options(stream: &TcpStream, limits: &Limits) -> io::Result<()> {
    let socket = SockRef::from(stream);
    socket.set_tcp_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_PROBES);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_linger(Some(Duration::ZERO))?;
    socket.set_tcp_user_timeout(Some(Duration::from_millis(limits.stalled_ms)))
}

/// The task's own state.
pub(crate) struct Task {
    stream: TcpStream,
    connection: Arc<Connection>,
    service: Arc<Shared>,
    /// Runs before the first byte is read.
    accepting: Option<BoxFuture>,
    reader: RecordReader,
    incoming: Incoming,
    /// A record that came while the service was draining; taken if it resumes.
    held: Option<Bytes>,
    writing: VecDeque<Wire>,
    /// Bytes of the first of `writing` that are written.
    sent: usize,
    eof: bool,
}

/// The record that has begun and is not whole yet.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Incoming {
    Nothing,
    /// The connection is not read: the record keeps its bytes, but its time does not run.
    Paused,
    /// It had so many bytes when its time last began.
    Running(usize),
}

/// What became of an attempt to take calls.
enum Took {
    /// Something: write replies, come back.
    Some,
    /// Nothing now: some waker is registered.
    Nothing,
}

impl Task {
    pub(crate) fn new(stream: TcpStream, connection: Arc<Connection>, service: Arc<Shared>) -> Self {
        let accepting = Some(service.on_accept(connection.tuple));
        let reader = RecordReader::new(service.limits());
        let writing = VecDeque::new();
        Self {
            stream,
            connection,
            service,
            accepting,
            reader,
            incoming: Incoming::Nothing,
            held: None,
            writing,
            sent: 0,
            eof: false,
        }
    }

    /// Serves the connection to its end.
    pub(crate) async fn run(mut self) {
        let end = poll_fn(|cx| self.poll(cx)).await;
        tracing::debug!(client = %self.connection.tuple.client, calls = self.connection.calls_total(), %end,
            "connection ended");
        match end {
            End::Service(ending) => prepare_close(&self.stream, ending),
            End::Closed => prepare_close(&self.stream, self.service.limits().unserved),
            End::Eof | End::Truncated | End::Io(_) | End::Record(_) | End::NotACall => {
                prepare_close(&self.stream, Ending::Close);
            }
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        loop {
            let phase = self.service.phase();
            if let Phase::Ended(ending) = phase {
                return Poll::Ready(End::Service(ending));
            }
            match self.poll_once(cx, phase) {
                Err(end) => return Poll::Ready(end),
                Ok(Took::Some) => {}
                Ok(Took::Nothing) => {
                    let service = &self.service;
                    if self.connection.sleep(cx.waker(), || service.phase() != phase) {
                        return Poll::Pending;
                    }
                }
            }
        }
    }

    /// Writes what there is to write, then takes what may be taken.
    fn poll_once(&mut self, cx: &mut Context<'_>, phase: Phase) -> Result<Took, End> {
        if !self.connection.collect(&mut self.writing) {
            return Err(End::Closed);
        }
        if let Some(accepting) = &mut self.accepting {
            if accepting.as_mut().poll(cx).is_pending() {
                return Ok(Took::Nothing);
            }
            self.accepting = None;
        }
        if let Poll::Ready(Err(error)) = self.poll_flush(cx) {
            return Err(error.into());
        }
        if self.connection.calls() == 0 {
            if phase == Phase::Draining {
                self.service.progress();
            }
            if self.eof {
                return Err(if self.reader.is_mid_record() { End::Truncated } else { End::Eof });
            }
        }
        if phase == Phase::Running && !self.eof {
            return self.take_calls(cx);
        }
        self.pause_incoming();
        Ok(Took::Nothing)
    }

    /// Writes until nothing is left or the socket takes no more.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.writing.is_empty() {
            // Before the client can have them: whoever is answered later was active later.
            self.connection.touch();
            let n = {
                let mut slices = [IoSlice::new(&[]); SLICES_MAX];
                let filled = fill(&mut slices, &self.writing, self.sent);
                let slices = slices.get(..filled).unwrap_or_default();
                ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, slices))?
            };
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent = self.sent.saturating_add(n);
            while let Some(first) = self.writing.front() {
                let Some(beyond) = self.sent.checked_sub(first.len()) else { break };
                self.sent = beyond;
                self.connection.written(first);
                if self.connection.is_first_reply() {
                    self.service.replied(self.connection.tuple.client.ip());
                }
                self.writing.pop_front();
            }
        }
        Poll::Ready(Ok(()))
    }

    /// May another call be taken? If not, a waker is registered: with the budget, or (own limits) with the
    /// outbox and the socket, because only a written reply changes that.
    fn may_take(&self, cx: &Context<'_>) -> bool {
        let limits = self.service.limits();
        let calls = self.connection.calls();
        calls < limits.calls_in_flight_max
            && self.connection.bytes() < limits.connection_bytes_max
            && (calls == 0 || !self.service.budget().poll_exhausted(self.connection.id, cx))
    }

    /// Takes the calls that were received; receives more where there are none.
    fn take_calls(&mut self, cx: &mut Context<'_>) -> Result<Took, End> {
        let mut took = Took::Nothing;
        let before = self.connection.bytes();
        while self.connection.bytes() < before.saturating_add(FLUSH_BYTES) {
            if !self.may_take(cx) {
                self.pause_incoming();
                return Ok(took);
            }
            let record = match self.held.take() {
                Some(record) => Some(record),
                None => self.reader.next_record()?,
            };
            match record {
                Some(record) => {
                    self.finished();
                    if !self.take_call(record)? {
                        return Ok(took);
                    }
                    took = Took::Some;
                }
                None if matches!(took, Took::Some) => return Ok(took),
                None => return self.receive(cx),
            }
        }
        Ok(took)
    }

    /// Reads once.
    fn receive(&mut self, cx: &mut Context<'_>) -> Result<Took, End> {
        self.note_incoming();
        // Dropping the future loses nothing: it has read, or it has not.
        let n = match pin!(self.stream.read_buf(self.reader.space())).poll(cx) {
            Poll::Ready(outcome) => outcome?,
            Poll::Pending => {
                self.reader.rest();
                return Ok(Took::Nothing);
            }
        };
        self.connection.touch();
        self.eof = n == 0;
        Ok(Took::Some)
    }

    /// A record may have begun, but is not whole: what has come of it counts, and it has to get on. What fits in the
    /// receive buffer for small records does not count: every connection may have one.
    fn note_incoming(&mut self) {
        let bytes = self.reader.unfinished_bytes();
        if bytes == 0 {
            return;
        }
        let step = self.service.limits().record_step_bytes;
        let waits = matches!(self.incoming, Incoming::Running(before) if bytes < before.saturating_add(step));
        if !waits {
            self.incoming = Incoming::Running(bytes);
            self.connection.set_unfinished_ns(monotonic_ns());
        }
        if bytes > CHUNK_BYTES {
            self.connection.hold(bytes);
        }
    }

    /// The record is whole.
    fn finished(&mut self) {
        if self.incoming != Incoming::Nothing {
            self.incoming = Incoming::Nothing;
            self.connection.hold(0);
            self.connection.set_unfinished_ns(0);
        }
    }

    /// Nothing is read for now, so its client cannot get on.
    fn pause_incoming(&mut self) {
        if let Incoming::Running(_) = self.incoming {
            self.incoming = Incoming::Paused;
            self.connection.set_unfinished_ns(0);
        }
    }

    /// Hands one record to its program; false: the service has begun to drain, the record waits.
    fn take_call(&mut self, record: Bytes) -> Result<bool, End> {
        let bytes = record.len().saturating_add(CALL_BYTES);
        // First in flight, then a look at the phase; drain() does it the other way round. So either it sees
        // this call, or this sees that it has begun.
        self.connection.begin(bytes);
        if self.service.phase() != Phase::Running {
            self.connection.undo_begin(bytes);
            self.held = Some(record);
            return Ok(false);
        }
        let responder = |xid| Responder::new(xid, bytes, self.connection.clone());
        match header::decode(&record, self.connection.tuple, Transport::Tcp) {
            Message::Call(call) => {
                self.connection.count_call();
                if call.program == NFS_PROGRAM && call.procedure != 0 {
                    self.connection.carries_nfs();
                }
                let responder = responder(call.xid);
                self.service.dispatch(call, responder);
            }
            Message::Refused { xid, why } => why.answer(responder(xid)),
            Message::NotACall => {
                self.connection.undo_begin(bytes);
                return Err(End::NotACall);
            }
        }
        Ok(true)
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.connection.end(&mut self.writing);
        self.service.remove(&self.connection);
    }
}

/// Fills `slices` with what is to be written, less the first `sent` bytes; returns how many were used.
fn fill<'a>(slices: &mut [IoSlice<'a>], writing: &'a VecDeque<Wire>, sent: usize) -> usize {
    let mut skip = sent;
    let parts = writing.iter().flat_map(|w| [&w.head()[..], &w.payload()[..], w.pad()]);
    let rest = parts.filter_map(|part| {
        let unsent = part.get(skip..).unwrap_or_default();
        skip = skip.saturating_sub(part.len());
        (!unsent.is_empty()).then_some(unsent)
    });
    slices.iter_mut().zip(rest).map(|(slice, part)| *slice = IoSlice::new(part)).count()
}

/// Makes the coming close send what `ending` says.
fn prepare_close(stream: &TcpStream, ending: Ending) {
    let silent = ending == Ending::Silent && set_repair(stream).is_ok();
    let reset = ending == Ending::Reset || (ending == Ending::Silent && !silent);
    if !reset && let Err(error) = SockRef::from(stream).set_linger(None) {
        tracing::debug!(%error, "unset SO_LINGER");
    }
}

/// Puts a socket into repair mode, in which closing it sends nothing. Needs CAP_NET_ADMIN.
fn set_repair(stream: &TcpStream) -> io::Result<()> {
    let on: libc::c_int = 1;
    let len = libc::socklen_t::try_from(size_of_val(&on)).map_err(io::Error::other)?;
    // SAFETY: the descriptor is open for as long as `stream` lives; `on` is a readable int of `len` bytes.
    let rc = unsafe {
        libc::setsockopt(
            stream.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_REPAIR,
            std::ptr::from_ref(&on).cast(),
            len,
        )
    };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    //! Goal: a client that vanished without a word does not keep its connection, and what it holds, for ever.
    //! Method: the options, read back from a real socket.
    use super::*;

    #[tokio::test]
    async fn a_vanished_client_is_noticed_within_minutes() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        set_options(&stream, &Limits::default()).unwrap();
        let socket = SockRef::from(&stream);
        assert!(socket.keepalive().unwrap() && socket.tcp_nodelay().unwrap());
        let probes = socket.tcp_keepalive_interval().unwrap() * socket.tcp_keepalive_retries().unwrap();
        assert!(socket.tcp_keepalive_time().unwrap() + probes <= Duration::from_secs(180));
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_secs(180)));
    }
}
