//! Probes in the lab's network namespaces: small clients that notice what no client may see.
//!
//! Each writes a log of its own, entry by entry, through the virtual IP, and reads back the newest acknowledged entry of every
//! probe's log. On a [`Board`] they write down who acknowledged what, and when. So three things show: an acknowledged entry that is
//! gone, an answer older than what had been acknowledged before the question left, and two primaries that answer at the same time (an
//! acknowledgement's write verifier is its primary's). A [`VipWatch`] sees on which hosts an address is.
//!
//! A probe with a `host` works only while the address is on its own host, and then never leaves it: what it sees is that
//! node's server alone, whatever is cut.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nfs3_types::nfs3::{
    CREATE3args, LOOKUP3args, READ3args, WRITE3args, createhow3, diropargs3, filename3, nfs_fh3, sattr3,
    stable_how,
};
use nfs3_types::xdr_codec::{Opaque, Unpack};
use parking_lot::Mutex;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::raw::{HEADER_BYTES, MOUNT, NFS, Raw, call, pack, status};

const LOOKUP: u32 = 3;
const READ: u32 = 6;
const WRITE: u32 = 7;
const CREATE: u32 = 8;
/// NFS and MOUNT in the lab.
pub const PORT: u16 = 2049;
/// Bytes of an entry.
const ENTRY: u64 = 8;
/// Bytes of one READ of a whole log.
const PIECE: u32 = 64 << 10;
/// For a connection, and for an answer on it; then another one is tried.
const PATIENCE: Duration = Duration::from_millis(500);
/// Between two rounds: a probe looks, it does not load.
const PACE: Duration = Duration::from_millis(5);
/// Between two looks for an address.
const LOOK: Duration = Duration::from_millis(2);

/// Moves this thread into one of the lab's network namespaces: `net`, `a`, `b`, `w`.
pub fn enter(namespace: &str) {
    let file = File::open(format!("/run/netns/hanfs-{namespace}")).expect("open a namespace");
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).expect("enter a namespace");
}

/// Runs something there.
pub fn within<T: Send>(namespace: &str, run: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let there = scope.spawn(|| {
            enter(namespace);
            run()
        });
        there.join().expect("it ends without a panic")
    })
}

/// This namespace has the address.
fn is_local(address: Ipv4Addr) -> bool {
    UdpSocket::bind((address, 0)).is_ok()
}

/// An acknowledged entry.
#[derive(Debug, Clone)]
pub struct Ack {
    /// Which probe's.
    pub probe: usize,
    /// Its number.
    pub entry: u64,
    /// The write verifier of who acknowledged it.
    pub primary: [u8; 8],
    /// When the call left that was answered.
    pub sent: Instant,
    /// When its answer was there.
    pub answered: Instant,
}

/// What all probes know.
pub struct Board {
    server: SocketAddr,
    logs: Vec<Log>,
    acks: Mutex<Vec<Ack>>,
    wrong: Mutex<Vec<String>>,
}

struct Log {
    name: String,
    file: nfs_fh3,
    /// Highest entry that was acknowledged; 0: none.
    acked: AtomicU64,
    /// When the last question of its probe left that was answered.
    read: Mutex<Option<Instant>>,
}

fn value(probe: usize, entry: u64) -> [u8; 8] {
    ((probe as u64) << 56 | entry).to_be_bytes()
}

fn broken(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what.to_owned())
}

/// A call that must be answered with OK; the whole reply.
fn ask(connection: &mut Raw, xid: u32, program: u32, procedure: u32, args: &[u8]) -> io::Result<Vec<u8>> {
    let reply = connection.ask(&call(xid, program, procedure, args))?;
    match status(&reply) {
        Some(0) => Ok(reply),
        other => Err(broken(&format!("procedure {procedure} of {program} was answered with {other:?}"))),
    }
}

fn tail(reply: &[u8]) -> io::Result<[u8; 8]> {
    reply.last_chunk().copied().ok_or_else(|| broken("a short reply"))
}

impl Board {
    /// Makes a log for each probe in the root of an export; where the network is whole.
    pub fn new(path: &str, vip: Ipv4Addr, names: &[&str]) -> io::Result<Arc<Self>> {
        let server = SocketAddr::from((vip, PORT));
        let mut connection = Raw::connect(server, Duration::from_secs(5))?;
        let mounted = ask(&mut connection, 1, MOUNT, 1, &pack(&Opaque::borrowed(path.as_bytes())))?;
        let root = Opaque::unpack(&mut &mounted[HEADER_BYTES + 4..]).map_err(|_| broken("MNT"))?.0;
        let root = nfs_fh3 { data: root };
        let mut logs = Vec::new();
        for (xid, name) in (2..).zip(names) {
            let at = || diropargs3 { dir: root.clone(), name: filename3::from(name.as_bytes()) };
            let how = createhow3::GUARDED(sattr3::default());
            ask(&mut connection, xid, NFS, CREATE, &pack(&CREATE3args { where_: at(), how }))?;
            let found = ask(&mut connection, xid, NFS, LOOKUP, &pack(&LOOKUP3args { what: at() }))?;
            let file = nfs_fh3::unpack(&mut &found[HEADER_BYTES + 4..]).map_err(|_| broken("LOOKUP"))?.0;
            logs.push(Log {
                name: (*name).to_owned(),
                file,
                acked: AtomicU64::new(0),
                read: Mutex::default(),
            });
        }
        Ok(Arc::new(Self { server, logs, acks: Mutex::default(), wrong: Mutex::default() }))
    }

    /// Acknowledgements of a probe for calls that left at or after this instant.
    pub fn acks_since(&self, probe: usize, since: Instant) -> Vec<Ack> {
        let acks = self.acks.lock();
        acks.iter()
            .rev()
            .take_while(|a| a.answered >= since)
            .filter(|a| a.probe == probe && a.sent >= since)
            .cloned()
            .collect()
    }

    /// Anything that a probe sent at or after this instant was answered, a change or a question.
    pub fn is_answered_since(&self, probe: usize, since: Instant) -> bool {
        let read = *self.logs[probe].read.lock();
        read.is_some_and(|sent| sent >= since) || !self.acks_since(probe, since).is_empty()
    }

    /// What was wrong so far. Two primaries at once: one acknowledges a call that left after the next one had acknowledged another.
    pub fn wrong(&self) -> Vec<String> {
        let mut wrong = self.wrong.lock().clone();
        let acks = self.acks.lock();
        let mut first: Vec<&Ack> = Vec::new();
        for ack in acks.iter() {
            if !first.iter().any(|known| known.primary == ack.primary) {
                first.push(ack);
            }
        }
        first.sort_by_key(|ack| ack.answered);
        for ack in acks.iter() {
            let next = first.iter().skip_while(|f| f.primary != ack.primary).nth(1);
            if let Some(next) = next.filter(|next| ack.sent > next.answered) {
                let late = ack.sent - next.answered;
                wrong.push(format!(
                    "an old primary acknowledged a call {late:?} after the next one had: {ack:?}"
                ));
            }
        }
        wrong
    }

    /// How many primaries have acknowledged something.
    pub fn primaries(&self) -> usize {
        let mut seen: Vec<[u8; 8]> = self.acks.lock().iter().map(|ack| ack.primary).collect();
        seen.sort_unstable();
        seen.dedup();
        seen.len()
    }

    /// Reads all logs; fails where an acknowledged entry is not what it was. How many there are.
    pub fn verify(&self) -> io::Result<usize> {
        let mut connection = Raw::connect(self.server, Duration::from_secs(5))?;
        let mut there = Vec::new();
        for (probe, log) in self.logs.iter().enumerate() {
            let bytes = (log.acked.load(Ordering::SeqCst) + 1) * ENTRY;
            let mut data = Vec::new();
            while (data.len() as u64) < bytes {
                let args = READ3args { file: log.file.clone(), offset: data.len() as u64, count: PIECE };
                let reply = ask(&mut connection, probe as u32, NFS, READ, &pack(&args))?;
                // Status, attributes (RFC 1813 section 2.6: 84 bytes after a word), count, end of file, length.
                let read = reply.get(HEADER_BYTES + 4 + 88 + 12..).unwrap_or_default();
                if read.is_empty() {
                    break;
                }
                data.extend_from_slice(read);
            }
            there.push(data);
        }
        let acks = self.acks.lock();
        for ack in acks.iter() {
            let at = (ack.entry * ENTRY) as usize;
            let found = there.get(ack.probe).and_then(|data| data.get(at..at + ENTRY as usize));
            if found != Some(&value(ack.probe, ack.entry)) {
                return Err(broken(&format!("an acknowledged entry is gone: {ack:?}")));
            }
        }
        Ok(acks.len())
    }
}

/// A thread that looks at something until it is dropped.
struct Watcher<T> {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<T>>,
}

impl<T: Send + 'static> Watcher<T> {
    fn start(namespace: &str, run: impl FnOnce(&AtomicBool) -> T + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (namespace, seen) = (namespace.to_owned(), stop.clone());
        let thread = std::thread::spawn(move || {
            enter(&namespace);
            run(&seen)
        });
        Self { stop, thread: Some(thread) }
    }
}

impl<T> Drop for Watcher<T> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// A probe at work; it ends when this is dropped.
pub struct Probe(#[allow(dead_code, reason = "its end is what it is kept for")] Watcher<()>);

struct Work {
    board: Arc<Board>,
    probe: usize,
    /// Only while the address is on this host, from this address of it.
    host: Option<Ipv4Addr>,
    connection: Option<Raw>,
    xid: u32,
    /// The entry under way, and its call: sent as it is until it is answered.
    pending: Option<(u64, Vec<u8>)>,
}

impl Probe {
    /// The probe with this number of the board's, in a namespace; `host` as in the module.
    pub fn start(board: &Arc<Board>, probe: usize, namespace: &str, host: Option<Ipv4Addr>) -> Self {
        let board = board.clone();
        Self(Watcher::start(namespace, move |stop| {
            let xid = (probe as u32 + 1) << 28;
            let mut work = Work { board, probe, host, connection: None, xid, pending: None };
            while !stop.load(Ordering::Relaxed) {
                work.step();
                std::thread::sleep(PACE);
            }
        }))
    }
}

impl Work {
    fn step(&mut self) {
        let IpAddr::V4(vip) = self.board.server.ip() else { return };
        if self.host.is_some() && !is_local(vip) {
            self.connection = None;
            return;
        }
        if let Err(error) = self.round() {
            self.connection = None;
            if error.kind() == ErrorKind::InvalidData {
                let name = &self.board.logs[self.probe].name;
                self.board.wrong.lock().push(format!("the probe {name:?}: {error}"));
            }
        }
    }

    fn connect(&mut self) -> io::Result<&mut Raw> {
        if self.connection.is_none() {
            let from = self.host.unwrap_or(Ipv4Addr::UNSPECIFIED);
            self.connection = Some(Raw::connect_from((from, 0).into(), self.board.server, PATIENCE)?);
        }
        self.connection.as_mut().ok_or_else(|| ErrorKind::NotConnected.into())
    }

    /// Both, whatever becomes of the first: a server that cannot write any more might still answer questions.
    fn round(&mut self) -> io::Result<()> {
        let read = (0..self.board.logs.len()).try_for_each(|other| self.read_newest(other));
        if read.is_err() {
            self.connection = None;
        }
        self.write_next().and(read)
    }

    fn write_next(&mut self) -> io::Result<()> {
        let board = self.board.clone();
        let log = &board.logs[self.probe];
        let entry = log.acked.load(Ordering::SeqCst) + 1;
        let probe = self.probe;
        self.xid += 1;
        let new = || {
            let value = value(probe, entry);
            let (file, data) = (log.file.clone(), Opaque::borrowed(&value));
            let (offset, count) = (entry * ENTRY, ENTRY as u32);
            let args = WRITE3args { file, offset, count, stable: stable_how::UNSTABLE, data };
            (entry, call(self.xid, NFS, WRITE, &pack(&args)))
        };
        let (entry, record) = self.pending.take().unwrap_or_else(new);
        self.pending = Some((entry, record.clone()));
        let connection = self.connect()?;
        let sent = Instant::now();
        let reply = connection.ask(&record)?;
        let answered = Instant::now();
        if status(&reply) != Some(0) {
            return Err(broken(&format!("WRITE was answered with {:?}", status(&reply))));
        }
        self.pending = None;
        let primary = tail(&reply)?;
        board.acks.lock().push(Ack { probe, entry, primary, sent, answered });
        log.acked.store(entry, Ordering::SeqCst);
        Ok(())
    }

    /// What was acknowledged to anybody before this question leaves must be in its answer.
    fn read_newest(&mut self, other: usize) -> io::Result<()> {
        let board = self.board.clone();
        let log = &board.logs[other];
        let entry = log.acked.load(Ordering::SeqCst);
        if entry == 0 {
            return Ok(());
        }
        self.xid += 1;
        let args = READ3args { file: log.file.clone(), offset: entry * ENTRY, count: ENTRY as u32 };
        let (xid, sent) = (self.xid, Instant::now());
        let reply = ask(self.connect()?, xid, NFS, READ, &pack(&args))?;
        *board.logs[self.probe].read.lock() = Some(sent);
        if tail(&reply)? != value(other, entry) {
            return Err(broken(&format!(
                "entry {entry} of {:?} had been acknowledged and is not there",
                log.name
            )));
        }
        Ok(())
    }
}

/// From when to when an address was seen on a host; it may have been there a moment longer.
type Seen = Vec<(Instant, Instant)>;

/// Watches on which of two hosts an address is.
pub struct VipWatch {
    hosts: [Arc<Mutex<Seen>>; 2],
    _watchers: [Watcher<()>; 2],
}

impl VipWatch {
    /// In the namespaces of nodes `a` and `b`.
    pub fn start(vip: Ipv4Addr) -> Self {
        let hosts: [Arc<Mutex<Seen>>; 2] = Default::default();
        let watch = |namespace, seen: &Arc<Mutex<Seen>>| {
            let seen = seen.clone();
            Watcher::start(namespace, move |stop: &AtomicBool| {
                let mut there = false;
                while !stop.load(Ordering::Relaxed) {
                    let was = std::mem::replace(&mut there, is_local(vip));
                    let now = Instant::now();
                    let mut seen = seen.lock();
                    match seen.last_mut() {
                        Some(last) if there && was => last.1 = now,
                        _ if there => seen.push((now, now)),
                        _ => {}
                    }
                    drop(seen);
                    std::thread::sleep(LOOK);
                }
            })
        };
        let watchers = [watch("a", &hosts[0]), watch("b", &hosts[1])];
        Self { hosts, _watchers: watchers }
    }

    /// When it was first seen on node `b` after then.
    pub fn on_b_since(&self, since: Instant) -> Option<Instant> {
        self.hosts[1].lock().iter().map(|seen| seen.0).find(|from| *from >= since)
    }

    /// How long it was seen on both since then, at most in one piece.
    pub fn on_both_since(&self, since: Instant) -> Duration {
        let [a, b] = self.hosts.each_ref().map(|host| host.lock().clone());
        let pairs = a.iter().flat_map(|x| b.iter().map(move |y| (x.0.max(y.0).max(since), x.1.min(y.1))));
        pairs.map(|(from, to)| to.saturating_duration_since(from)).max().unwrap_or_default()
    }
}
