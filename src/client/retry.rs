//! A connection that does not break: it reconnects and retransmits.
//!
//! It sits below `nfs3_client`'s RPC layer, which writes a whole call and then reads its reply. The call's
//! record is kept until its reply is complete; a connection that ends, or stays silent for too long, is
//! replaced, and the record goes out again as it was (RFC 5531 section 8: same xid, so that the server can
//! tell a retransmission from a new call). Only a complete reply with that xid is handed up.

use std::future::Future;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nfs3_client::io::{AsyncRead, AsyncWrite};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{sleep, timeout};

/// Largest reply taken, bytes: a READ of 1 MiB, or a directory of the same size, and room.
const REPLY_BYTES_MAX: usize = 4 << 20;
/// Set in a record's mark when it is the last fragment (RFC 5531 section 11).
const LAST_FRAGMENT: u32 = 0x8000_0000;

/// How long to wait for what.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For a connection to be accepted.
    pub connect: Duration,
    /// Between two attempts to connect.
    pub reconnect_after: Duration,
    /// For an answer on a living connection; then it is replaced. A kernel waits 60 s.
    pub answer: Duration,
    /// For an answer altogether; then the call fails.
    pub give_up: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(1),
            reconnect_after: Duration::from_millis(10),
            answer: Duration::from_secs(5),
            give_up: Duration::from_secs(60),
        }
    }
}

/// A call that took long.
#[derive(Debug, Clone, Copy)]
pub struct Pause {
    /// When it was sent first.
    pub from: Instant,
    /// Until its reply was there.
    pub took: Duration,
}

/// What a set of connections has been through.
#[derive(Debug, Default)]
pub struct Stats(Mutex<StatsSnapshot>);

/// A reading of [`Stats`].
#[derive(Debug, Default, Clone, Copy)]
pub struct StatsSnapshot {
    /// Calls answered.
    pub calls: u64,
    /// Connections made after the first.
    pub reconnects: u64,
    /// Calls that were sent again.
    pub retransmissions: u64,
    /// The slowest call.
    pub longest: Option<Pause>,
}

impl Stats {
    /// What there is so far.
    pub fn snapshot(&self) -> StatsSnapshot {
        *self.0.lock()
    }

    /// Begins a new measurement of the longest pause.
    pub fn forget_longest(&self) {
        self.0.lock().longest = None;
    }

    fn answered(&self, from: Instant) {
        let took = from.elapsed();
        let mut stats = self.0.lock();
        stats.calls += 1;
        if stats.longest.is_none_or(|longest| longest.took < took) {
            stats.longest = Some(Pause { from, took });
        }
    }
}

/// The connection.
pub struct RetryIo {
    server: SocketAddr,
    /// Where connections come from; `None`: the kernel chooses.
    source: Option<IpAddr>,
    patience: Patience,
    stats: Arc<Stats>,
    stream: Option<TcpStream>,
    connected_before: bool,
    /// The call in progress, its mark included; empty when there is none.
    call: Vec<u8>,
    call_sent: bool,
    called_at: Instant,
    /// The reply with a mark of its own, as if it had come in one fragment, and what of it has been read.
    reply: Vec<u8>,
    reply_read: usize,
}

impl RetryIo {
    /// To a server; the first call connects.
    pub fn new(server: SocketAddr, patience: Patience, stats: Arc<Stats>) -> Self {
        Self {
            server,
            source: None,
            patience,
            stats,
            stream: None,
            connected_before: false,
            call: Vec::new(),
            call_sent: false,
            called_at: Instant::now(),
            reply: Vec::new(),
            reply_read: 0,
        }
    }

    /// Connects from this address of the host.
    #[must_use]
    pub fn from(mut self, source: Option<IpAddr>) -> Self {
        self.source = source;
        self
    }

    fn begin(&mut self, record: &[u8]) {
        self.call.clear();
        self.call.extend_from_slice(record);
        self.call_sent = false;
        self.called_at = Instant::now();
        self.reply.clear();
        self.reply_read = 0;
    }

    /// Sends the call and waits for its reply, over as many connections as it takes.
    async fn complete(&mut self) -> io::Result<()> {
        loop {
            let error = match timeout(self.patience.answer, self.attempt()).await {
                Ok(Ok(reply)) => {
                    self.reply = reply;
                    self.stats.answered(self.called_at);
                    return Ok(());
                }
                Ok(Err(error)) if error.kind() == ErrorKind::InvalidData => return Err(error),
                Ok(Err(error)) => error,
                Err(_) => io::Error::new(ErrorKind::TimedOut, "no answer on a living connection"),
            };
            self.stream = None;
            if self.called_at.elapsed() >= self.patience.give_up {
                let text = format!(
                    "no answer from {} for {} s: {error}",
                    self.server,
                    self.called_at.elapsed().as_secs()
                );
                return Err(io::Error::new(ErrorKind::TimedOut, text));
            }
            sleep(self.patience.reconnect_after).await;
        }
    }

    /// One try. A failure leaves nothing behind: the connection is dropped by the caller.
    async fn attempt(&mut self) -> io::Result<Vec<u8>> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => self.connect().await?,
        };
        if self.call_sent {
            self.stats.0.lock().retransmissions += 1;
        }
        self.call_sent = true;
        stream.write_all(&self.call).await?;
        let xid = self.call.get(4..8).unwrap_or_default();
        loop {
            let reply = read_record(&mut stream).await?;
            if reply.get(4..8) == Some(xid) {
                self.stream = Some(stream);
                return Ok(reply);
            }
        }
    }

    async fn connect(&mut self) -> io::Result<TcpStream> {
        let socket = match self.server {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        if let Some(source) = self.source {
            socket.bind(SocketAddr::new(source, 0))?;
        }
        let stream = timeout(self.patience.connect, socket.connect(self.server))
            .await
            .map_err(|_| io::Error::new(ErrorKind::TimedOut, "nobody accepts the connection"))??;
        stream.set_nodelay(true)?;
        if self.connected_before {
            self.stats.0.lock().reconnects += 1;
        }
        self.connected_before = true;
        Ok(stream)
    }
}

/// A whole record, its fragments joined under one mark.
async fn read_record(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut record = vec![0; 4];
    loop {
        let mark = stream.read_u32().await?;
        let bytes = (mark & !LAST_FRAGMENT) as usize;
        let start = record.len();
        let end = start.saturating_add(bytes);
        if end > REPLY_BYTES_MAX {
            let text = format!("a reply of more than {REPLY_BYTES_MAX} bytes: this is no NFS server");
            return Err(io::Error::new(ErrorKind::InvalidData, text));
        }
        record.resize(end, 0);
        if let Some(fragment) = record.get_mut(start..) {
            stream.read_exact(fragment).await?;
        }
        if mark & LAST_FRAGMENT != 0 {
            break;
        }
    }
    let mark = LAST_FRAGMENT | (record.len() - 4) as u32;
    for (to, from) in record.iter_mut().zip(mark.to_be_bytes()) {
        *to = from;
    }
    Ok(record)
}

impl AsyncWrite for RetryIo {
    /// Takes a whole record: `nfs3_client` writes each call in one piece.
    fn async_write(&mut self, buf: &[u8]) -> impl Future<Output = io::Result<usize>> + Send {
        self.begin(buf);
        std::future::ready(Ok(buf.len()))
    }
}

impl AsyncRead for RetryIo {
    async fn async_read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.reply.is_empty() {
            self.complete().await?;
        }
        let rest = self.reply.get(self.reply_read..).unwrap_or_default();
        if rest.is_empty() {
            return Err(io::Error::new(ErrorKind::UnexpectedEof, "nothing is left of the reply"));
        }
        let n = rest.len().min(buf.len());
        if let (Some(to), Some(from)) = (buf.get_mut(..n), rest.get(..n)) {
            to.copy_from_slice(from);
        }
        self.reply_read += n;
        Ok(n)
    }
}
