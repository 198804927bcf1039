//! A service with a program made for tests, and a plain blocking client.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use bytes::Bytes;
use nfsd::rpc::{Call, Program, ReplyBody, Responder};
use nfsd::server::{Limits, Listen, OnAccept, Registry, Server, Service};
use nfsd::xdr::Encoder;
use parking_lot::Mutex;
use tokio::runtime::Runtime;

/// How long a test waits for what must happen.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The test program's number; versions 2 to 4.
pub const PROGRAM: u32 = 400_000;
pub const NULL: u32 = 0;
/// Returns its arguments.
pub const ECHO: u32 = 1;
/// Is answered by [`Tester::release`], not before.
pub const HOLD: u32 = 2;
/// Its responder is dropped.
pub const FORGET: u32 = 3;
/// Returns as many bytes as its argument says.
pub const BULK: u32 = 4;
/// Blocks its connection's task until [`Tester::gate`] is unlocked: what comes behind it waits in the buffer.
pub const BLOCK: u32 = 5;

#[derive(Default)]
pub struct Tester {
    pub held: Mutex<Vec<(u32, Responder)>>,
    pub calls: AtomicUsize,
    pub gate: Mutex<()>,
}

impl Tester {
    pub fn calls(&self) -> usize {
        self.calls.load(SeqCst)
    }

    /// Answers a held call with its xid, from the test's thread.
    pub fn release(&self, index: usize) {
        let (xid, responder) = self.held.lock().remove(index);
        let mut reply = Encoder::new();
        reply.u32(xid);
        responder.accept(reply);
    }
}

impl Program for Tester {
    fn call(&self, call: Call, responder: Responder) {
        self.calls.fetch_add(1, SeqCst);
        match call.procedure {
            NULL => responder.accept(Encoder::new()),
            ECHO => responder.accept(ReplyBody::with_payload(Encoder::new(), call.args.clone())),
            HOLD => self.held.lock().push((call.xid, responder)),
            FORGET => drop(responder),
            BULK => match call.decoder().u32() {
                Ok(len) => {
                    let mut reply = Encoder::new();
                    reply.u32(len);
                    responder.accept(ReplyBody::with_payload(reply, Bytes::from(vec![7; len as usize])));
                }
                Err(_) => responder.garbage_args(),
            },
            BLOCK => {
                drop(self.gate.lock());
                responder.accept(Encoder::new());
            }
            _ => responder.proc_unavail(),
        }
    }
}

pub struct Bench {
    pub runtime: Runtime,
    pub tester: Arc<Tester>,
    pub server: Server,
    pub service: Service,
    pub tcp: SocketAddr,
    pub udp: SocketAddr,
}

impl Bench {
    pub fn new(limits: Limits) -> Self {
        Self::with(limits, Arc::new(|_| Box::pin(async {})))
    }

    pub fn with(limits: Limits, on_accept: OnAccept) -> Self {
        Self::at(Ipv4Addr::LOCALHOST.into(), limits, on_accept)
    }

    pub fn at(ip: IpAddr, limits: Limits, on_accept: OnAccept) -> Self {
        let runtime = runtime();
        let server = Server::new(limits);
        let (tester, service, tcp, udp) = serve(&server, &runtime, ip, on_accept);
        Self { runtime, tester, server, service, tcp, udp }
    }

    /// Another service of the same node.
    pub fn another(&self) -> (Arc<Tester>, Service, SocketAddr) {
        let on_accept: OnAccept = Arc::new(|_| Box::pin(async {}));
        let (tester, service, tcp, _) =
            serve(&self.server, &self.runtime, Ipv4Addr::LOCALHOST.into(), on_accept);
        (tester, service, tcp)
    }

    pub fn client(&self) -> Client {
        Client::connect(self.tcp)
    }
}

pub fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// Sockets of a virtual IP for the programs of `nfs_port`.
pub fn listen(ip: IpAddr, nfs_port: u16, on_accept: OnAccept) -> (Listen, SocketAddr, SocketAddr) {
    let (tcp_socket, udp_socket) = (TcpListener::bind((ip, 0)).unwrap(), UdpSocket::bind((ip, 0)).unwrap());
    let (tcp, udp) = (tcp_socket.local_addr().unwrap(), udp_socket.local_addr().unwrap());
    let listen =
        Listen { exports: vec![], tcp: vec![tcp_socket], udp: vec![udp_socket], nfs_port, on_accept };
    (listen, tcp, udp)
}

fn serve(
    server: &Server,
    runtime: &Runtime,
    ip: IpAddr,
    on_accept: OnAccept,
) -> (Arc<Tester>, Service, SocketAddr, SocketAddr) {
    let tester = Arc::new(Tester::default());
    let (listen, tcp, udp) = listen(ip, 2049, on_accept);
    let registry = Registry::new().with(PROGRAM, 2..=4, tester.clone());
    let service = server.serve_registry(registry, listen, runtime.handle()).unwrap();
    (tester, service, tcp, udp)
}

/// Waits for another thread to make `condition` true.
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A call's message with AUTH_NONE.
pub fn message(xid: u32, program: u32, version: u32, procedure: u32, args: &[u8]) -> Vec<u8> {
    let mut e = Encoder::new();
    e.u32(xid).u32(0).u32(2).u32(program).u32(version).u32(procedure).u64(0).u64(0).fixed(args);
    e.as_slice().to_vec()
}

/// Puts a record mark in front.
pub fn record(message: &[u8]) -> Vec<u8> {
    let mark = message.len() as u32 | 1 << 31;
    [&mark.to_be_bytes(), message].concat()
}

/// A call of the test program, as a record.
pub fn call(xid: u32, procedure: u32, args: &[u8]) -> Vec<u8> {
    record(&message(xid, PROGRAM, 3, procedure, args))
}

pub fn words(bytes: &[u8]) -> Vec<u32> {
    bytes.chunks(4).map(|w| u32::from_be_bytes(w.try_into().unwrap())).collect()
}

pub struct Client(pub TcpStream);

impl Client {
    pub fn connect(to: SocketAddr) -> Self {
        let stream = TcpStream::connect(to).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self(stream)
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).unwrap();
    }

    /// The next reply, without its mark; None where the connection is closed instead.
    pub fn reply(&mut self) -> Option<Vec<u8>> {
        let mut mark = [0; 4];
        match self.0.read_exact(&mut mark) {
            Ok(()) => {}
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => panic!("no reply and no close"),
            Err(_) => return None,
        }
        let mark = u32::from_be_bytes(mark);
        assert!(mark >> 31 == 1, "a reply of several fragments");
        let mut reply = vec![0; (mark & !(1 << 31)) as usize];
        self.0.read_exact(&mut reply).unwrap();
        Some(reply)
    }

    /// The next reply's xid and results; it must be a success.
    pub fn success(&mut self) -> (u32, Vec<u8>) {
        let reply = self.reply().expect("closed instead of answered");
        let head = words(&reply[..24]);
        assert_eq!(head[1..], [1, 0, 0, 0, 0], "not accepted with SUCCESS");
        (head[0], reply[24..].to_vec())
    }

    pub fn null(&mut self, xid: u32) {
        self.send(&call(xid, NULL, b""));
        assert_eq!(self.success(), (xid, vec![]));
    }

    pub fn is_closed(&mut self) -> bool {
        self.reply().is_none()
    }
}
