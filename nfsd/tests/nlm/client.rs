//! A client host of its own address: it calls, and is called back.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use parking_lot::Mutex;
use socket2::{Domain, Socket, Type};

use crate::harness::*;
use crate::xdr::*;

pub const NLM: u32 = 100_021;
pub const NSM: u32 = 100_024;

pub const GRANTED: u32 = 0;
pub const DENIED: u32 = 1;
pub const NOLOCKS: u32 = 2;
pub const BLOCKED: u32 = 3;
pub const GRACE: u32 = 4;
pub const ROFS: u32 = 6;
pub const STALE_FH: u32 = 7;
pub const FBIG: u32 = 8;
pub const FAILED: u32 = 9;

pub const TEST: u32 = 1;
pub const LOCK: u32 = 2;
pub const CANCEL: u32 = 3;
pub const UNLOCK: u32 = 4;

/// How a call is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    Tcp,
    Udp,
}

/// A call that the server made.
#[derive(Clone, Debug)]
pub struct Heard {
    pub by: By,
    pub from: SocketAddr,
    pub program: u32,
    pub version: u32,
    pub procedure: u32,
    pub args: Vec<u8>,
}

/// What the client's lock manager says to GRANTED: a status, or nothing at all.
pub type Say = Option<u32>;

struct Host {
    stop: AtomicBool,
    heard: Sender<Heard>,
    /// What is said to the next calls of GRANTED; then GRANTED.
    says: Mutex<VecDeque<Say>>,
    udp_port: u16,
    tcp_port: u16,
    /// Programs over this transport only.
    only: Option<By>,
}

pub struct Client {
    pub ip: Ipv4Addr,
    server: SocketAddr,
    xid: AtomicU32,
    pub heard: Receiver<Heard>,
    host: Option<Arc<Host>>,
    name: Vec<u8>,
}

impl Client {
    /// A host 127.0.0.`number` that can be called back.
    pub fn new(bench: &Bench, number: u8) -> Self {
        Self::with(bench, number, None, &[])
    }

    /// One that has its programs over one transport only, and first says these to GRANTED.
    pub fn with(bench: &Bench, number: u8, only: Option<By>, says: &[Say]) -> Self {
        let (heard, inbox) = crossbeam_channel::unbounded();
        let ip = Ipv4Addr::new(127, 0, 0, number);
        let (udp, tcp) = (UdpSocket::bind((ip, 0)).unwrap(), TcpListener::bind((ip, 0)).unwrap());
        let host = Arc::new(Host {
            stop: AtomicBool::new(false),
            heard,
            says: Mutex::new(says.iter().copied().collect()),
            udp_port: udp.local_addr().unwrap().port(),
            tcp_port: tcp.local_addr().unwrap().port(),
            only,
        });
        let portmap = UdpSocket::bind((ip, bench.portmap_port)).unwrap();
        for socket in [portmap, udp] {
            let host = host.clone();
            std::thread::spawn(move || host.serve_udp(&socket));
        }
        let its = host.clone();
        std::thread::spawn(move || its.serve_tcp(&tcp));
        let mut client = Self::deaf(bench, number);
        (client.heard, client.host) = (inbox, Some(host));
        client
    }

    /// One that nobody can call back.
    pub fn deaf(bench: &Bench, number: u8) -> Self {
        let (_, heard) = crossbeam_channel::unbounded();
        let xid = AtomicU32::new(u32::from(number) << 24);
        let ip = Ipv4Addr::new(127, 0, 0, number);
        Self { ip, server: bench.addr, xid, heard, host: None, name: format!("host{number}").into_bytes() }
    }

    /// It calls itself this.
    pub fn named(mut self, name: &str) -> Self {
        self.name = name.as_bytes().to_vec();
        self
    }

    /// The service has moved to another port.
    pub fn follow(&mut self, bench: &Bench) {
        self.server = bench.addr;
    }

    /// An exclusive lock of bytes 0 to 9 of a file, for process 1, not waited for.
    pub fn want(&self, version: u32, fh: &[u8]) -> Want {
        let oh = [b"1@", &self.name[..]].concat();
        let (caller, fh) = (self.name.clone(), fh.to_vec());
        let lock = Lock { caller, fh, oh, svid: 1, offset: 0, length: 10 };
        Want { version, cookie: vec![7, 7], block: false, exclusive: true, reclaim: false, state: 3, lock }
    }

    fn next_xid(&self) -> u32 {
        self.xid.fetch_add(1, Ordering::Relaxed)
    }

    /// A call with an xid of the test's choice; its reply, whole.
    pub fn send(&self, by: By, message: &[u8]) -> Option<Vec<u8>> {
        match by {
            By::Udp => {
                let socket = UdpSocket::bind((self.ip, 0)).unwrap();
                socket.set_read_timeout(Some(PATIENCE)).unwrap();
                socket.send_to(message, self.server).unwrap();
                let mut reply = vec![0; 1 << 16];
                let (len, from) = socket.recv_from(&mut reply).expect("an answer");
                assert_eq!(from, self.server);
                reply.truncate(len);
                Some(reply)
            }
            By::Tcp => {
                let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
                socket.bind(&SocketAddr::from((self.ip, 0)).into()).unwrap();
                socket.connect(&self.server.into()).unwrap();
                let mut stream: TcpStream = socket.into();
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                stream.write_all(&marked(message)).unwrap();
                read_record(&mut stream)
            }
        }
    }

    /// accept_stat and results of a call as root.
    pub fn call(&self, by: By, program: u32, version: u32, procedure: u32, args: &[u8]) -> (u32, Vec<u8>) {
        self.call_as(0, by, program, version, procedure, args)
    }

    pub fn call_as(
        &self,
        uid: u32,
        by: By,
        program: u32,
        version: u32,
        procedure: u32,
        args: &[u8],
    ) -> (u32, Vec<u8>) {
        let xid = self.next_xid();
        let reply = self.send(by, &call(xid, program, version, procedure, uid, args)).expect("an answer");
        accepted(&reply, xid)
    }

    /// The status of a call that has nlm_res for results.
    pub fn stat(&self, procedure: u32, want: &Want, args: &[u8]) -> u32 {
        let (accept_stat, results) = self.call(By::Tcp, NLM, want.version, procedure, args);
        assert_eq!(accept_stat, 0);
        let mut d = In(&results);
        assert_eq!(d.bytes(), want.cookie, "the caller's cookie comes back");
        let stat = d.u32();
        d.end();
        stat
    }

    pub fn lock(&self, want: &Want) -> u32 {
        self.stat(LOCK, want, &want.lock())
    }

    /// The same over UDP: that is how it is called back, too.
    pub fn lock_over_udp(&self, want: &Want) -> u32 {
        let (accept_stat, results) = self.call(By::Udp, NLM, want.version, LOCK, &want.lock());
        assert_eq!(accept_stat, 0);
        In(&results[results.len() - 4..]).u32()
    }

    pub fn unlock(&self, want: &Want) -> u32 {
        self.stat(UNLOCK, want, &want.unlock())
    }

    pub fn cancel(&self, want: &Want) -> u32 {
        self.stat(CANCEL, want, &want.cancel())
    }

    /// The next call that the server makes.
    pub fn hear(&self) -> Heard {
        self.heard.recv_timeout(PATIENCE).expect("the server calls back")
    }

    /// The server does not call for a while. (What it would say wrongly, it says at once.)
    pub fn hears_nothing(&self) {
        if let Ok(heard) = self.heard.recv_timeout(Duration::from_millis(300)) {
            panic!("heard {heard:?}");
        }
    }

    /// What the server says must be GRANTED of this.
    pub fn hears_granted(&self, want: &Want) -> Heard {
        let heard = self.hear();
        assert_eq!((heard.program, heard.version, heard.procedure), (NLM, want.version, 5));
        assert_eq!(heard.from.ip(), VIP, "a Linux client compares it with the address that it mounted");
        let mut d = In(&heard.args);
        let _cookie = d.bytes();
        assert_eq!(d.u32(), u32::from(want.exclusive));
        assert_eq!(Lock::read(&mut d, want.version), want.lock);
        d.end();
        heard
    }

    /// Changes what is said to the next GRANTED.
    pub fn say(&self, says: &[Say]) {
        self.host.as_ref().unwrap().says.lock().extend(says);
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if let Some(host) = &self.host {
            host.stop.store(true, Ordering::Relaxed);
        }
    }
}

impl Host {
    fn serve_udp(&self, socket: &UdpSocket) {
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let mut buf = vec![0; 1 << 16];
        while !self.stop.load(Ordering::Relaxed) {
            let Ok((len, from)) = socket.recv_from(&mut buf) else { continue };
            if let Some(reply) = self.answer(&buf[..len], from, By::Udp) {
                socket.send_to(&reply, from).unwrap();
            }
        }
    }

    fn serve_tcp(&self, listener: &TcpListener) {
        listener.set_nonblocking(true).unwrap();
        while !self.stop.load(Ordering::Relaxed) {
            let Ok((mut stream, from)) = listener.accept() else {
                std::thread::sleep(Duration::from_millis(5));
                continue;
            };
            stream.set_nonblocking(false).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            if let Some(call) = read_record(&mut stream)
                && let Some(reply) = self.answer(&call, from, By::Tcp)
            {
                stream.write_all(&marked(&reply)).unwrap();
            }
        }
    }

    fn answer(&self, message: &[u8], from: SocketAddr, by: By) -> Option<Vec<u8>> {
        let mut d = In(message);
        let xid = d.u32();
        assert_eq!((d.u32(), d.u32()), (0, 2), "a call");
        let (program, version, procedure) = (d.u32(), d.u32(), d.u32());
        let _cred = (d.u32(), d.bytes(), d.u32(), d.bytes());
        if (program, procedure) == (100_000, 3) {
            return Some(success(xid, &Out::default().u32(self.getport(&mut d)).0));
        }
        let args = d.0.to_vec();
        self.heard.send(Heard { by, from, program, version, procedure, args }).ok()?;
        if (program, procedure) != (NLM, 5) {
            return Some(success(xid, &[]));
        }
        let stat = self.says.lock().pop_front().unwrap_or(Some(GRANTED))?;
        let cookie = d.bytes();
        Some(success(xid, &Out::default().bytes(&cookie).u32(stat).0))
    }

    fn getport(&self, d: &mut In<'_>) -> u32 {
        let (program, _version, protocol) = (d.u32(), d.u32(), d.u32());
        assert!([NLM, NSM].contains(&program), "program {program} is asked for");
        match protocol {
            6 if self.only != Some(By::Udp) => self.tcp_port.into(),
            17 if self.only != Some(By::Tcp) => self.udp_port.into(),
            _ => 0,
        }
    }
}

fn marked(message: &[u8]) -> Vec<u8> {
    [&(0x8000_0000 | message.len() as u32).to_be_bytes()[..], message].concat()
}

/// The next record; None where the connection was closed.
fn read_record(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut mark = [0; 4];
    stream.read_exact(&mut mark).ok()?;
    let mut record = vec![0; (u32::from_be_bytes(mark) & 0x7fff_ffff) as usize];
    stream.read_exact(&mut record).ok()?;
    Some(record)
}
