//! One TCP connection with a window of outstanding calls, driven by one thread.
//!
//! Each slot of the window has at most one call outstanding. The loop sends what all slots have queued in one
//! vectored write, waits once, reads once, and lets each slot whose reply is there make its next call. So a
//! window of calls costs a few system calls, and the thread never waits for anything but the server.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Read};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};

use super::script::{Script, Step};
use super::wire::{Call, Failure, Reply, padding, record_bytes};

/// Where nothing comes for so long, something is wrong with the server.
const SILENCE: Duration = Duration::from_secs(30);
/// Payloads from this size on are sent from where they lie, bytes.
const IN_PLACE: usize = 32 << 10;
/// The receive buffer, bytes: some replies of the largest kind.
const RECEIVE_BYTES: usize = 4 << 20;
/// Less room than this is not worth a read, bytes.
const ROOM_MIN: usize = 256 << 10;
/// Buffers of one vectored write.
const SLICES_MAX: usize = 32;

/// Transaction ids are unique in this process: the server's reply cache knows a client by its address, without
/// the port, so two connections of one host share their ids.
static XID: AtomicU32 = AtomicU32::new(1);

/// When to make no more calls. A sequence of calls that has begun is ended in any case.
#[derive(Debug, Clone, Copy)]
pub enum Until {
    /// At this time.
    Time(Instant),
    /// When the script has no more.
    Done,
}

/// What a connection did.
#[derive(Debug, Default)]
pub struct Tally {
    /// Calls answered.
    pub calls: u64,
    /// Bytes of data read or written.
    pub bytes: u64,
    /// Directory entries listed.
    pub entries: u64,
    /// Of each call, ns.
    pub latencies_ns: Vec<u64>,
}

#[derive(Clone, Copy)]
struct Outstanding {
    xid: u32,
    sent: Instant,
}

/// See the module.
pub struct Connection {
    stream: TcpStream,
    /// Records being encoded.
    open: BytesMut,
    /// What is to be sent, in order.
    queue: VecDeque<Bytes>,
    received: Vec<u8>,
    start: usize,
    end: usize,
}

impl Connection {
    /// Connects.
    pub fn open(to: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&to, SILENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SILENCE))?;
        let received = vec![0; RECEIVE_BYTES];
        Ok(Self { stream, open: BytesMut::new(), queue: VecDeque::new(), received, start: 0, end: 0 })
    }

    /// One call, alone; returns what `results` makes of its results.
    pub fn call<T>(
        &mut self,
        (program, procedure, name): (u32, u32, &'static str),
        arguments: impl FnOnce(&mut Call<'_>),
        results: impl FnOnce(&mut Reply<'_>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let xid = XID.fetch_add(1, Ordering::Relaxed);
        let mut call = Call::new(&mut self.open, xid, program, procedure);
        arguments(&mut call);
        call.end(0);
        loop {
            self.exchange()?;
            let Some(record) = self.next_record()? else { continue };
            let (answered, mut reply) = Reply::new(self.received.get(record).unwrap_or_default())?;
            if answered != xid {
                return Err(Failure::Broken("to no call of ours"));
            }
            reply.accepted(name)?;
            return results(&mut reply);
        }
    }

    /// Lets a script make its calls, `window` at a time.
    pub fn run(&mut self, script: &mut Script<'_>, window: usize, until: Until) -> Result<Tally, Failure> {
        let mut tally = Tally::default();
        let mut slots: Vec<Option<Outstanding>> = vec![None; window];
        let mut live = 0;
        for (slot, place) in slots.iter_mut().enumerate() {
            *place = self.next_call(script, slot);
            live += usize::from(place.is_some());
        }
        while live > 0 {
            self.exchange()?;
            while let Some(record) = self.next_record()? {
                let (xid, mut reply) = Reply::new(self.received.get(record).unwrap_or_default())?;
                let found = slots.iter().position(|s| s.is_some_and(|s| s.xid == xid));
                let slot = found.ok_or(Failure::Broken("to no call of ours"))?;
                let now = Instant::now();
                let place = slots.get_mut(slot).and_then(Option::take);
                let took = place.map_or(Duration::ZERO, |s| now - s.sent);
                tally.latencies_ns.push(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
                let done = script.check(slot, &mut reply)?;
                tally.calls += 1;
                tally.bytes += done.bytes;
                tally.entries += done.entries;
                let over = matches!(until, Until::Time(end) if now >= end) && done.last;
                let next = if over { None } else { self.next_call(script, slot) };
                live -= usize::from(next.is_none());
                if let Some(place) = slots.get_mut(slot) {
                    *place = next;
                }
            }
        }
        Ok(tally)
    }

    /// Queues a slot's next call; none: there is none.
    fn next_call(&mut self, script: &mut Script<'_>, slot: usize) -> Option<Outstanding> {
        let Step { procedure, payload } = script.next(slot)?;
        let xid = XID.fetch_add(1, Ordering::Relaxed);
        let mut call = Call::new(&mut self.open, xid, super::wire::NFS, procedure.number());
        script.arguments(slot, &mut call);
        match payload {
            None => call.end(0),
            Some(data) if data.len() < IN_PLACE => {
                call.opaque(&data);
                call.end(0);
            }
            Some(data) => {
                call.u32(data.len() as u32);
                call.end(data.len() + padding(data.len()));
                self.queue.push_back(self.open.split().freeze());
                self.open.extend_from_slice(&[0; 3][..padding(data.len())]);
                self.queue.push_back(data);
            }
        }
        Some(Outstanding { xid, sent: Instant::now() })
    }

    /// Sends what the socket takes of what is queued, then waits until there is something to read, and reads it,
    /// or until the socket takes more.
    fn exchange(&mut self) -> Result<(), Failure> {
        self.send()?;
        if !self.queue.is_empty() {
            let timeout = Timespec { tv_sec: SILENCE.as_secs() as i64, tv_nsec: 0 };
            let mut fds = [PollFd::new(&self.stream, PollFlags::IN | PollFlags::OUT)];
            if poll(&mut fds, Some(&timeout)).map_err(io::Error::from)? == 0 {
                return Err(Failure::Io(io::ErrorKind::TimedOut.into()));
            }
            if !fds.iter().any(|fd| fd.revents().intersects(!PollFlags::OUT)) {
                return Ok(());
            }
        }
        self.receive()
    }

    fn send(&mut self) -> Result<(), Failure> {
        if !self.open.is_empty() {
            self.queue.push_back(self.open.split().freeze());
        }
        while !self.queue.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let filled = slices.iter_mut().zip(&self.queue).map(|(s, b)| *s = IoSlice::new(b)).count();
            let slices = slices.get(..filled).unwrap_or_default();
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            let mut sent = match sendmsg(&self.stream, slices, &mut SendAncillaryBuffer::default(), flags) {
                Ok(sent) => sent,
                Err(rustix::io::Errno::AGAIN) => break,
                Err(error) => return Err(Failure::Io(error.into())),
            };
            while let Some(first) = self.queue.front_mut() {
                let part = sent.min(first.len());
                first.advance(part);
                sent -= part;
                if !first.is_empty() {
                    break;
                }
                self.queue.pop_front();
            }
        }
        Ok(())
    }

    /// Reads once, waiting for something.
    fn receive(&mut self) -> Result<(), Failure> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.received.len() - self.end < ROOM_MIN {
            self.received.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        let room = self.received.get_mut(self.end..).unwrap_or_default();
        match self.stream.read(room) {
            Ok(0) => Err(Failure::Io(io::ErrorKind::UnexpectedEof.into())),
            Ok(bytes) => {
                self.end += bytes;
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                Err(Failure::Io(io::ErrorKind::TimedOut.into()))
            }
            Err(error) => Err(Failure::Io(error)),
        }
    }

    /// Where the next whole record is in the receive buffer.
    fn next_record(&mut self) -> Result<Option<std::ops::Range<usize>>, Failure> {
        let received = self.received.get(self.start..self.end).unwrap_or_default();
        let record = record_bytes(received)?.filter(|bytes| *bytes <= received.len());
        Ok(record.map(|bytes| {
            let start = self.start;
            self.start += bytes;
            start..self.start
        }))
    }
}
