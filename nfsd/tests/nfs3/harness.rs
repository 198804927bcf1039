//! A real server over real sockets, with a group of one thread behind it.
//!
//! [`TestServer`] serves exports whose proposals go to a thread that applies them at once to a real
//! [`Fs`]: what a group does, less its log. Clients are `nfs3_client` (an implementation that is not ours) and
//! [`Raw`], which sends any bytes.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use crossbeam_channel::Receiver;
use nfs3_client::Nfs3Client;
use nfs3_client::tokio::TokioIo;
use nfs3_types::nfs3::nfs_fh3;
use nfs3_types::rpc::{RPC_VERSION_2, auth_unix, call_body, msg_body, opaque_auth, rpc_msg};
use nfs3_types::xdr_codec::{Opaque, Pack};
use nfsd::access::{Access, AccessList};
use nfsd::exports::{ExportPolicy, Shown, Squash};
use nfsd::names::Names;
use nfsd::server::{Limits, Listen, Server, Service};
use parking_lot::Mutex;
use proto::op::op::Kind;
use proto::op::{Incarnation, OP_VERSION, Op};
use replica::fs::{Fs, FsOptions};
use replica::handle::{GroupHandle, LeaseCell, Proposal};
use replica::ids::ExportId;
use socket2::{Domain, Socket, Type};
use tokio::runtime::Runtime;

/// The write verifier of every test's incarnation.
pub const VERIFIER: u64 = 0x1122_3344_5566_7788;

/// How long a test waits for an answer, or for a connection's end.
const PATIENCE: Duration = Duration::from_secs(60);

/// A policy that lets the tests' root be root.
pub const OPEN: ExportPolicy =
    ExportPolicy { read_only: false, squash: Squash::None, anon_uid: 65_534, anon_gid: 65_534 };

/// One export and what stands for its group.
pub struct TestExport {
    pub id: ExportId,
    pub fs: Arc<Fs>,
    pub lease: Arc<LeaseCell>,
    /// Whom it admits.
    pub access: Arc<Access>,
    /// While a test holds it, nothing is applied.
    pub gate: Arc<Mutex<()>>,
    /// Set by a test: the host's disk has no room for what is proposed from now on.
    pub full: Arc<AtomicBool>,
    applier: Option<JoinHandle<()>>,
    _dir: tempfile::TempDir,
}

impl TestExport {
    /// Makes an export, applies an incarnation's first entry, and begins to apply.
    fn start(number: u8, access: Arc<Access>) -> (Self, GroupHandle) {
        let dir = tempfile::tempdir().unwrap();
        let fs = Arc::new(Fs::open(dir.path(), FsOptions::default()).unwrap());
        let (id, lease) = (ExportId([number; 16]), Arc::new(LeaseCell::default()));
        let gate = Arc::new(Mutex::new(()));
        let incarnation =
            Kind::Incarnation(Incarnation { verifier: VERIFIER, node: "test".into(), locks_lost: false });
        let first =
            Op { version: OP_VERSION, clock_ns: 1_000_000_000, kind: Some(incarnation), ..Op::default() };
        fs.apply(1, 1, Some(&first), &Bytes::new()).unwrap();
        lease.extend(u64::MAX);
        let (proposals, inbox) = crossbeam_channel::unbounded();
        let path = format!("/export{number}");
        let handle = GroupHandle::new(id, path, fs.clone(), lease.clone(), proposals);
        let full = Arc::new(AtomicBool::new(false));
        let (its_fs, its_gate, its_full) = (fs.clone(), gate.clone(), full.clone());
        let applier = std::thread::spawn(move || apply(&its_fs, &its_gate, &its_full, &inbox));
        (Self { id, fs, lease, access, gate, full, applier: Some(applier), _dir: dir }, handle)
    }

    /// The root directory's handle, as MOUNT gives it out.
    pub fn root(&self) -> nfs_fh3 {
        fh(&nfsd::handle::encode(self.id, self.fs.root()))
    }
}

/// Applies proposals until the last handle of the group is gone.
fn apply(fs: &Fs, gate: &Mutex<()>, full: &AtomicBool, inbox: &Receiver<Proposal>) {
    for (index, mut proposal) in (2..).zip(inbox) {
        let _open = gate.lock();
        proposal.op.no_room |= full.load(Ordering::SeqCst);
        let reply = fs.apply(index, 1, Some(&proposal.op), &proposal.payload);
        fs.durable(index).unwrap();
        (proposal.done)(Ok(reply.expect("the entry applies")));
    }
}

/// TCP and UDP on the same free loopback port.
fn sockets() -> (TcpListener, UdpSocket, SocketAddr) {
    loop {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let addr = listener.local_addr().unwrap();
        match UdpSocket::bind(addr) {
            Ok(socket) => return (listener, socket, addr),
            // Some other process has it: another port, then.
            Err(e) if e.kind() == io::ErrorKind::AddrInUse => {}
            Err(e) => panic!("bind {addr}: {e}"),
        }
    }
}

/// A service of these exports on a port of its own.
fn serve(server: &Server, exports: Vec<ExportId>, runtime: &Runtime) -> (Service, SocketAddr) {
    let (listener, socket, addr) = sockets();
    let listen = Listen {
        exports,
        tcp: vec![listener],
        udp: vec![socket],
        nfs_port: addr.port(),
        on_accept: Arc::new(|_| Box::pin(async {})),
    };
    (server.serve(listen, runtime.handle()).unwrap(), addr)
}

/// A server on a loopback port.
pub struct TestServer {
    pub exports: Vec<TestExport>,
    pub addr: SocketAddr,
    runtime: Option<Runtime>,
    services: Vec<Service>,
    server: Option<Server>,
}

impl TestServer {
    /// One export where root is root.
    pub fn start() -> Self {
        Self::with(&[OPEN])
    }

    /// One export for each policy, for everybody.
    pub fn with(policies: &[ExportPolicy]) -> Self {
        let everybody = |policy: &ExportPolicy| AccessList::everybody(*policy, false);
        Self::admitting(policies.iter().map(everybody).collect(), &Names::nobody())
    }

    /// One export for each access list.
    pub fn admitting(lists: Vec<AccessList>, names: &Arc<Names>) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let server = Server::new(Limits::default());
        let mut exports = Vec::new();
        for (number, list) in (1..).zip(lists) {
            let access = Access::new(list, names.clone());
            let (export, handle) = TestExport::start(number, access.clone());
            server.add_export(Shown { handle, access });
            exports.push(export);
        }
        let ids = exports.iter().map(|e| e.id).collect();
        let (service, addr) = serve(&server, ids, &runtime);
        Self { exports, addr, runtime: Some(runtime), services: vec![service], server: Some(server) }
    }

    /// Another address, behind which only this export is shown.
    pub fn also_serve(&mut self, export: usize) -> SocketAddr {
        let server = self.server.as_ref().expect("it lives as long as its services");
        let (service, addr) = serve(server, vec![self.exports[export].id], self.runtime());
        self.services.push(service);
        addr
    }

    fn runtime(&self) -> &Runtime {
        self.runtime.as_ref().expect("it lives as long as the server")
    }

    /// The first export.
    pub fn export(&self) -> &TestExport {
        &self.exports[0]
    }

    /// The first export's root directory.
    pub fn root(&self) -> nfs_fh3 {
        self.export().root()
    }

    /// Runs a client's conversation.
    pub fn run<T>(&self, conversation: impl Future<Output = T>) -> T {
        self.runtime()
            .block_on(async { tokio::time::timeout(PATIENCE, conversation).await.expect("an answer") })
    }

    /// A client that is root, or whoever it says.
    pub async fn client_as(&self, uid: u32, gid: u32) -> Nfs3Client<TokioIo<tokio::net::TcpStream>> {
        let stream = tokio::net::TcpStream::connect(self.addr).await.unwrap();
        Nfs3Client::new_with_auth(TokioIo::new(stream), auth(uid, gid), opaque_auth::default())
    }

    /// A client that is root.
    pub async fn client(&self) -> Nfs3Client<TokioIo<tokio::net::TcpStream>> {
        self.client_as(0, 0).await
    }

    /// One call over UDP; its reply.
    pub fn call_over_udp(&self, procedure: u32, args: &[u8]) -> Vec<u8> {
        self.call_over_udp_from(Ipv4Addr::LOCALHOST, procedure, args)
    }

    /// The same, of the client that has this address of the loopback network.
    pub fn call_over_udp_from(&self, client: Ipv4Addr, procedure: u32, args: &[u8]) -> Vec<u8> {
        let socket = UdpSocket::bind((client, 0)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.send_to(&call(1, procedure, args), self.addr).unwrap();
        let mut reply = vec![0; 1 << 16];
        let (len, from) = socket.recv_from(&mut reply).expect("an answer");
        assert_eq!(from, self.addr);
        reply.truncate(len);
        reply
    }

    /// A connection for any bytes.
    pub fn raw(&self) -> Raw {
        self.raw_from(Ipv4Addr::LOCALHOST)
    }

    /// The same, of the client that has this address of the loopback network.
    pub fn raw_from(&self, client: Ipv4Addr) -> Raw {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((client, 0)).into()).unwrap();
        socket.connect(&self.addr.into()).unwrap();
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Raw { stream }
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            for service in self.services.drain(..) {
                service.reset();
                runtime.block_on(service.ended());
            }
            // With its tasks go the last handles of the groups, and with those the appliers end.
            runtime.shutdown_timeout(PATIENCE);
        }
        self.server = None;
        for export in &mut self.exports {
            let applied = export.applier.take().map(JoinHandle::join);
            assert!(std::thread::panicking() || matches!(applied, Some(Ok(()))), "the applier panicked");
        }
    }
}

/// AUTH_SYS.
pub fn auth(uid: u32, gid: u32) -> opaque_auth<'static> {
    opaque_auth::auth_unix(&auth_unix { uid, gid, ..auth_unix::default() })
}

/// nfs_fh3.
pub fn fh(bytes: &[u8]) -> nfs_fh3 {
    nfs_fh3 { data: Opaque::owned(bytes.to_vec()) }
}

/// Any value's XDR.
pub fn pack(value: &impl Pack) -> Vec<u8> {
    let mut out = Vec::new();
    value.pack(&mut out).unwrap();
    out
}

/// A call of an NFS procedure as root, without its record mark.
pub fn call(xid: u32, proc: u32, args: &[u8]) -> Vec<u8> {
    let (prog, vers) = (nfs3_types::nfs3::PROGRAM, nfs3_types::nfs3::VERSION);
    let (cred, verf) = (auth(0, 0), opaque_auth::default());
    let body = msg_body::CALL(call_body { rpcvers: RPC_VERSION_2, prog, vers, proc, cred, verf });
    let mut record = pack(&rpc_msg { xid, body });
    record.extend_from_slice(args);
    record
}

/// accept_stat of a reply that was accepted, RFC 5531 section 9.
pub fn accept_stat(reply: &[u8]) -> u32 {
    assert_eq!(&reply[4..12], [0, 0, 0, 1, 0, 0, 0, 0], "an accepted reply");
    u32::from_be_bytes(reply[20..24].try_into().unwrap())
}

/// A connection that sends any bytes.
pub struct Raw {
    pub stream: TcpStream,
}

impl Raw {
    /// Sends one record of one fragment.
    pub fn send(&mut self, record: &[u8]) {
        let mut marked = (0x8000_0000 | record.len() as u32).to_be_bytes().to_vec();
        marked.extend_from_slice(record);
        self.stream.write_all(&marked).unwrap();
    }

    /// The next reply's record; None where the server closed the connection.
    pub fn receive(&mut self) -> Option<Vec<u8>> {
        let mut mark = [0; 4];
        match self.stream.read_exact(&mut mark) {
            Ok(()) => {}
            Err(e) if matches!(e.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset) => {
                return None;
            }
            Err(e) => panic!("no answer: {e}"),
        }
        let mark = u32::from_be_bytes(mark);
        assert!(mark & 0x8000_0000 != 0, "a reply of one fragment");
        let mut record = vec![0; (mark & 0x7fff_ffff) as usize];
        self.stream.read_exact(&mut record).unwrap();
        Some(record)
    }

    /// Sends a call and waits for its reply.
    pub fn call(&mut self, xid: u32, procedure: u32, args: &[u8]) -> Vec<u8> {
        self.send(&call(xid, procedure, args));
        let reply = self.receive().expect("an answer, not a closed connection");
        assert_eq!(reply[..4], xid.to_be_bytes());
        reply
    }
}
