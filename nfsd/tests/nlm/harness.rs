//! A real server on loopback, with a group of one thread behind it that applies proposals at once to a real state
//! machine. The service can be ended and begun again on the same state, as a takeover does.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use nfsd::exports::{ExportEntry, ExportPolicy, Squash};
use nfsd::server::{Limits, Listen, Server, Service};
use proto::op::op::Kind;
use proto::op::{Create, Incarnation, OP_VERSION, Op, Sattr};
use replica::fs::{Fs, FsOptions};
use replica::handle::{GroupHandle, LeaseCell, Proposal};
use replica::ids::{ExportId, FileId, Handle};
use tokio::runtime::Runtime;

/// How long a test waits for what must come.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The address that the clients mounted.
pub const VIP: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 9);

/// The owner of every file.
pub const OWNER: u32 = 1000;

/// Waits for a condition.
pub fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub struct Bench {
    pub fs: Arc<Fs>,
    pub lease: Arc<LeaseCell>,
    pub handle: GroupHandle,
    /// Where the clients' portmappers are.
    pub portmap_port: u16,
    pub addr: SocketAddr,
    policy: ExportPolicy,
    grace: Duration,
    runtime: Option<Runtime>,
    service: Option<Service>,
    applier: Option<JoinHandle<()>>,
    _dir: tempfile::TempDir,
}

fn operation(kind: Kind) -> Op {
    Op { version: OP_VERSION, clock_ns: 1_000_000_000, kind: Some(kind), ..Op::default() }
}

fn create(name: &'static [u8], mode: u32) -> Op {
    let attr = Some(Sattr { mode: Some(mode), uid: Some(OWNER), gid: Some(OWNER), ..Sattr::default() });
    let root = Handle { file: FileId::ROOT, generation: 0 };
    let create = Create { dir: Some(root.into()), name: Bytes::from_static(name), attr, ..Create::default() };
    let cred = Some(proto::op::Cred { uid: 0, gid: 0, gids: Vec::new() });
    Op { cred, ..operation(Kind::Create(create)) }
}

fn free_port() -> u16 {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    socket.local_addr().unwrap().port()
}

impl Bench {
    pub fn new() -> Self {
        Self::with(false, Duration::from_secs(3600))
    }

    /// The files `f` (0644), `g` (0644) and `private` (0600), all of uid [`OWNER`].
    pub fn with(read_only: bool, grace: Duration) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let fs = Arc::new(Fs::open(dir.path(), FsOptions::default()).unwrap());
        let incarnation =
            Kind::Incarnation(Incarnation { verifier: 7, node: "test".into(), locks_lost: false });
        let first =
            [operation(incarnation), create(b"f", 0o644), create(b"g", 0o644), create(b"private", 0o600)];
        for (index, op) in (1..).zip(&first) {
            fs.apply(index, 1, Some(op), &Bytes::new()).unwrap();
        }
        let lease = Arc::new(LeaseCell::default());
        lease.extend(u64::MAX);
        let (proposals, inbox) = crossbeam_channel::unbounded::<Proposal>();
        let handle =
            GroupHandle::new(ExportId([1; 16]), "/export".into(), fs.clone(), lease.clone(), proposals);
        let applied = fs.clone();
        let applier = std::thread::spawn(move || {
            for (index, proposal) in (first.len() as u64 + 1..).zip(inbox) {
                let reply = applied.apply(index, 1, Some(&proposal.op), &proposal.payload);
                applied.durable(index).unwrap();
                (proposal.done)(Ok(reply.expect("the entry applies")));
            }
        });
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let policy = ExportPolicy { read_only, squash: Squash::None, ..ExportPolicy::default() };
        let addr = SocketAddr::from((VIP, 0));
        let mut bench = Self {
            fs,
            lease,
            handle,
            portmap_port: free_port(),
            addr,
            policy,
            grace,
            runtime: Some(runtime),
            service: None,
            applier: Some(applier),
            _dir: dir,
        };
        bench.serve();
        bench
    }

    /// Begins to serve, at another port.
    pub fn serve(&mut self) {
        let runtime = self.runtime.as_ref().unwrap();
        let server = Server::new(Limits::default()).client_portmap_port(self.portmap_port).grace(self.grace);
        server.add_export(ExportEntry { handle: self.handle.clone(), policy: self.policy });
        let (listener, socket) = loop {
            let listener = TcpListener::bind((VIP, 0)).unwrap();
            // Some other process may have the port over UDP: another one, then.
            if let Ok(socket) = UdpSocket::bind(listener.local_addr().unwrap()) {
                break (listener, socket);
            }
        };
        self.addr = listener.local_addr().unwrap();
        let listen = Listen {
            exports: vec![self.handle.id()],
            tcp: vec![listener],
            udp: vec![socket],
            nfs_port: self.addr.port(),
            on_accept: Arc::new(|_| Box::pin(async {})),
        };
        self.service = Some(server.serve(listen, runtime.handle()).unwrap());
    }

    /// Ends the service as a node does whose address has moved.
    pub fn stop(&mut self) {
        let service = self.service.take().expect("it serves");
        service.close_silently();
        self.runtime.as_ref().unwrap().block_on(service.ended());
    }

    /// Puts an operation into the log and waits for it.
    pub fn propose(&self, kind: Kind) {
        let (done, wait) = crossbeam_channel::bounded(1);
        let tell = Box::new(move |fate: Result<_, _>| done.send(fate.is_ok()).unwrap());
        self.handle.propose(operation(kind), Bytes::new(), tell);
        assert!(wait.recv_timeout(PATIENCE).unwrap());
    }

    /// The handle of a file.
    pub fn fh(&self, name: &[u8]) -> Vec<u8> {
        let found = self.fs.lookup(&proto::op::Cred::default(), self.fs.root(), name).unwrap();
        let file = Handle { file: FileId(found.attr.file_id), generation: found.attr.generation };
        nfsd::handle::encode(self.handle.id(), file).to_vec()
    }

    /// Who holds what, for comparisons: last octet of the client, svid, exclusive, offset, length.
    pub fn held(&self) -> Vec<(u8, u32, bool, u64, u64)> {
        let view = self.fs.locks();
        let one = |lock: &replica::fs::locks::LockView| {
            (lock.owner.client[3], lock.owner.svid, lock.exclusive, lock.offset, lock.length)
        };
        view.held.iter().map(one).collect()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        if let Some(service) = self.service.take() {
            service.reset();
        }
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(PATIENCE);
        }
        // The applier ends with the last handle, which a test may still hold: not waited for.
        drop(self.applier.take());
    }
}
