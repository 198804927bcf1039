//! A client of this host's rpcbind: DUMP, SET and UNSET of version 4 (RFC 1833 section 2), blocking, one call after the
//! other.
//!
//! The way in is rpcbind's Unix socket, through which it knows that the caller is root. Older ones without it take
//! 127.0.0.1 and a port below 1024 for the same.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use nfsd::mount;
use nfsd::server::NFS_PROGRAM;
use nfsd::xdr::{Decoder, Encoder, XdrError};
use socket2::{Domain, Socket, Type};

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// Longest answer that is read, bytes: some 1,000 registrations.
const REPLY_BYTES_MAX: usize = 64 << 10;
/// Longest text of a registration, bytes.
const STRING_MAX: usize = 256;
/// Most registrations that are read.
const ENTRIES_MAX: usize = 4096;
/// Ports that only root can use, from above: where `rresvport` looks, too.
const PRIVILEGED: std::ops::RangeInclusive<u16> = 512..=1023;

const RPCBVERS4: u32 = 4;
const PROC_SET: u32 = 1;
const PROC_UNSET: u32 = 2;
const PROC_DUMP: u32 = 4;

/// Where the host's rpcbind is.
#[derive(Clone, Debug)]
pub struct Door {
    /// Its Unix socket.
    pub path: PathBuf,
    /// Its TCP port.
    pub tcp: SocketAddr,
}

impl Default for Door {
    fn default() -> Self {
        Self { path: "/run/rpcbind.sock".into(), tcp: (Ipv4Addr::LOCALHOST, nfsd::rpcbind::PORT).into() }
    }
}

/// A registration: `rpcb`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Program number.
    pub program: u32,
    /// Version.
    pub version: u32,
    /// `tcp`, `udp`, `tcp6`, `udp6`.
    pub netid: String,
    /// Universal address.
    pub address: String,
    /// Who registered it. In SET a user's number, which rpcbind replaces by what it knows.
    pub owner: String,
}

impl Entry {
    /// Of the same program, version and transport: there can be one only.
    pub fn names_the_same(&self, other: &Self) -> bool {
        (self.program, self.version, &self.netid) == (other.program, other.version, &other.netid)
    }

    fn encode(&self, e: &mut Encoder) {
        e.u32(self.program).u32(self.version).opaque(self.netid.as_bytes());
        e.opaque(self.address.as_bytes()).opaque(self.owner.as_bytes());
    }

    fn decode(d: &mut Decoder<'_>) -> Result<Self, XdrError> {
        let (program, version) = (d.u32()?, d.u32()?);
        let mut text = || d.opaque(STRING_MAX).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        Ok(Self { program, version, netid: text()?, address: text()?, owner: text()? })
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.program {
            NFS_PROGRAM => "NFS, ",
            mount::PROGRAM => "MOUNT, ",
            nfsd::nlm::PROGRAM => "locks, ",
            nfsd::nsm::PROGRAM => "the status monitor, ",
            _ => "",
        };
        write!(f, "{name}program {} version {} over {},", self.program, self.version, self.netid)
    }
}

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

impl Door {
    /// Opens a connection.
    pub fn open(&self) -> Result<Client, String> {
        let unix = match self.unix() {
            Ok(stream) => return Ok(Client { stream: Box::new(stream), xid: 0 }),
            Err(error) => error,
        };
        match self.privileged() {
            Ok(stream) => Ok(Client { stream: Box::new(stream), xid: 0 }),
            Err(tcp) => {
                Err(format!("rpcbind is not there: {}: {unix}; {}: {tcp}", self.path.display(), self.tcp))
            }
        }
    }

    fn unix(&self) -> io::Result<UnixStream> {
        let stream = UnixStream::connect(&self.path)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(stream)
    }

    fn privileged(&self) -> io::Result<TcpStream> {
        let mut last = io::Error::from(io::ErrorKind::AddrInUse);
        for port in PRIVILEGED.rev() {
            let socket = Socket::new(Domain::for_address(self.tcp), Type::STREAM, None)?;
            match socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into()) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => continue,
                Err(error) => return Err(error),
            }
            match socket.connect_timeout(&self.tcp.into(), PATIENCE) {
                Ok(()) => {
                    let stream = TcpStream::from(socket);
                    stream.set_read_timeout(Some(PATIENCE))?;
                    stream.set_write_timeout(Some(PATIENCE))?;
                    return Ok(stream);
                }
                // The port's last connection still lingers.
                Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => last = error,
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }
}

/// A connection to rpcbind.
pub struct Client {
    stream: Box<dyn Stream>,
    xid: u32,
}

impl Client {
    /// RPCBPROC_SET: true: registered.
    pub fn set(&mut self, entry: &Entry) -> Result<bool, String> {
        let reply = self.call(PROC_SET, |e| entry.encode(e))?;
        Decoder::new(&reply).bool().map_err(odd)
    }

    /// RPCBPROC_UNSET: true: it was registered, and is no more.
    pub fn unset(&mut self, entry: &Entry) -> Result<bool, String> {
        let reply = self.call(PROC_UNSET, |e| entry.encode(e))?;
        Decoder::new(&reply).bool().map_err(odd)
    }

    /// RPCBPROC_DUMP: everything that is registered.
    pub fn dump(&mut self) -> Result<Vec<Entry>, String> {
        let reply = self.call(PROC_DUMP, |_| {})?;
        let mut d = Decoder::new(&reply);
        let mut entries = Vec::new();
        while d.bool().map_err(odd)? {
            if entries.len() == ENTRIES_MAX {
                return Err(format!("rpcbind has more than {ENTRIES_MAX} registrations"));
            }
            entries.push(Entry::decode(&mut d).map_err(odd)?);
        }
        Ok(entries)
    }

    fn call(&mut self, procedure: u32, arguments: impl FnOnce(&mut Encoder)) -> Result<Bytes, String> {
        self.xid = self.xid.wrapping_add(1);
        let mut e = Encoder::new();
        e.u32(self.xid).u32(0).u32(2).u32(nfsd::rpcbind::PROGRAM).u32(RPCBVERS4).u32(procedure);
        // Credential and verifier: AUTH_NONE.
        e.u64(0).u64(0);
        arguments(&mut e);
        let reply = self.exchange(e.as_slice()).map_err(|error| format!("ask rpcbind: {error}"))?;
        self.results(&reply).map_err(odd)?.ok_or_else(|| "rpcbind refuses a call of version 4".to_owned())
    }

    /// One record there, one back (RFC 5531 section 11).
    fn exchange(&mut self, message: &[u8]) -> io::Result<Bytes> {
        let mark = u32::try_from(message.len()).map_err(io::Error::other)? | 1 << 31;
        self.stream.write_all(&[&mark.to_be_bytes(), message].concat())?;
        let mut reply = Vec::new();
        loop {
            let mut mark = [0; 4];
            self.stream.read_exact(&mut mark)?;
            let mark = u32::from_be_bytes(mark);
            let len = usize::try_from(mark & !(1 << 31)).map_err(io::Error::other)?;
            let start = reply.len();
            if start.saturating_add(len) > REPLY_BYTES_MAX {
                return Err(io::Error::other(format!("an answer of more than {REPLY_BYTES_MAX} bytes")));
            }
            reply.resize(start.saturating_add(len), 0);
            self.stream.read_exact(reply.get_mut(start..).unwrap_or_default())?;
            if mark >> 31 == 1 {
                return Ok(reply.into());
            }
            if len == 0 {
                return Err(io::Error::other("an empty fragment"));
            }
        }
    }

    /// What follows a reply's header (RFC 5531 section 9); `None`: it is no success.
    fn results(&self, reply: &Bytes) -> Result<Option<Bytes>, XdrError> {
        let mut d = Decoder::new(reply);
        let accepted = (d.u32()?, d.u32()?, d.u32()?) == (self.xid, 1, 0);
        if !accepted {
            return Ok(None);
        }
        let _flavour = d.u32()?;
        d.opaque(400)?;
        Ok((d.u32()? == 0).then(|| d.rest()))
    }
}

fn odd(error: XdrError) -> String {
    format!("rpcbind's answer is not one: {error}")
}
