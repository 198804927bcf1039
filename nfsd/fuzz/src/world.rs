//! What calls are sent to: the programs of a service with one export, a second export that it does not show, and a
//! thread of one that applies what is proposed, at once, as a group does.
//!
//! Every input starts from the same state: whatever changed it makes the next input begin with new file systems.

use std::cell::RefCell;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use crossbeam_channel::Receiver;
use nfsd::access::{Access, AccessList};
use nfsd::exports::{ExportPolicy, Shown, Squash};
use nfsd::handle;
use nfsd::names::Names;
use nfsd::rpc::offline::take;
use nfsd::rpc::{Limits, Outcome, Registry, ReplySink, Transport};
use nfsd::server::{Server, Tuple};
use parking_lot::Mutex;
use proto::op::op::Kind;
use proto::op::{Create, Cred, Incarnation, Link, Mkdir, Mknod, OP_VERSION, Op, Sattr, Symlink, Write};
use replica::fs::{Fs, FsOptions, ftype};
use replica::handle::{GroupHandle, LeaseCell, Proposal};
use replica::ids::{ExportId, FileId, Handle};

use super::memory;

/// The export that the service shows.
pub const SHOWN: ExportId = ExportId([1; 16]);
/// The export that it does not show: nothing of it may ever be seen.
pub const HIDDEN: ExportId = ExportId([2; 16]);
/// The shown export's path.
pub const PATH: &str = "/srv/shown";
/// In a name and in the content of the hidden export.
pub const SECRET: &[u8] = b"of the other export, not of this one";

/// Most memory that one call may hold, bytes: the largest READ, once as read and once as sent, and the largest listing.
const HELD_MAX: usize = 6 << 20;

/// Who calls, by AUTH_SYS uid; None: AUTH_NONE.
pub const CALLERS: [Option<u32>; 3] = [Some(0), Some(1000), None];

/// Collects answers.
#[derive(Default)]
pub struct Answers(Mutex<Vec<Option<Bytes>>>);

impl ReplySink for Answers {
    fn settle(&self, _request_bytes: usize, outcome: Outcome) {
        self.0.lock().push(match outcome {
            Outcome::Reply(wire) => Some(wire.to_datagram()),
            Outcome::Close => None,
        });
    }
}

/// Both ends of every call.
pub const TUPLE: Tuple = Tuple {
    client: SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 700)),
    server: SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 2049)),
};

impl Answers {
    /// The one answer, where there was a call; none where there was not.
    pub fn only(&self, is_call: bool) -> Option<Bytes> {
        let mut answers = std::mem::take(&mut *self.0.lock());
        assert_eq!(answers.len(), usize::from(is_call), "a call is answered once");
        let answer = answers.pop()?;
        Some(answer.expect("the connection was closed on a call of a served export"))
    }
}

/// A handle's bytes: the root (0), or the objects in the order in which [`Volume::fill`] makes them (1 and up): `dir`,
/// `file`, `link`, `fifo`, `dir/inner`, `closed`, `closed/file`.
pub fn object(export: ExportId, number: u64) -> [u8; handle::HANDLE_BYTES] {
    let generation = if number == 0 { 0 } else { number + 1 };
    handle::encode(export, Handle { file: FileId(number + 1), generation })
}

/// One export's file system, and what is proposed to it.
struct Volume {
    fs: Arc<Fs>,
    inbox: Receiver<Proposal>,
    group: GroupHandle,
    _dir: tempfile::TempDir,
}

impl Volume {
    fn new(id: ExportId, path: &str) -> Self {
        // In memory where there is such a place: file systems are made by the thousand, and synced when made.
        let memory = Path::new("/dev/shm");
        let place = if memory.is_dir() { memory.into() } else { std::env::temp_dir() };
        let dir = tempfile::tempdir_in(place).expect("make a directory");
        let fs = Arc::new(Fs::open(dir.path(), FsOptions::default()).expect("open a file system"));
        let lease = Arc::new(LeaseCell::default());
        lease.extend(u64::MAX);
        let (proposals, inbox) = crossbeam_channel::unbounded();
        let group = GroupHandle::new(id, path.into(), fs.clone(), lease, proposals);
        let volume = Self { fs, inbox, group, _dir: dir };
        volume.fill();
        volume
    }

    fn apply(&self, op: &Op, payload: &Bytes) -> Arc<proto::op::Reply> {
        let index = self.fs.progress().applied + 1;
        let reply = self.fs.apply(index, 1, Some(op), payload).expect("the entry applies");
        self.fs.durable(index).expect("mark the entry durable");
        reply
    }

    /// Applies what was proposed, and says so.
    fn run(&self) {
        for proposal in self.inbox.try_iter() {
            let reply = self.apply(&proposal.op, &proposal.payload);
            (proposal.done)(Ok(reply));
        }
    }

    /// Makes the objects that seeds name, in the order of their numbers.
    fn fill(&self) {
        let cred = Some(Cred { uid: 0, gid: 0, gids: vec![] });
        let op = |clock_ns, kind| Op {
            version: OP_VERSION,
            clock_ns,
            cred: cred.clone(),
            kind: Some(kind),
            ..Op::default()
        };
        let mut clock = 1_000_000_000;
        let mut make = |kind: Kind, payload: &[u8]| {
            clock += 1;
            let reply = self.apply(&op(clock, kind), &Bytes::copy_from_slice(payload));
            assert_eq!(reply.status, 0, "the world cannot be made");
        };
        let at = |number: u64| {
            let generation = if number == 0 { 0 } else { number + 1 };
            Some(Handle { file: FileId(number + 1), generation }.into())
        };
        let named = |name: &'static str| Bytes::from_static(name.as_bytes());
        let mode = |mode| Some(Sattr { mode: Some(mode), ..Sattr::default() });
        let file =
            |dir, name| Create { dir: at(dir), name: named(name), attr: mode(0o666), ..Create::default() };
        make(Kind::Incarnation(Incarnation { verifier: 7, node: "fuzz".into(), locks_lost: false }), b"");
        make(Kind::Mkdir(Mkdir { dir: at(0), name: named("dir"), attr: mode(0o777) }), b"");
        make(Kind::Create(file(0, "file")), b"");
        make(
            Kind::Symlink(Symlink {
                dir: at(0),
                name: named("link"),
                attr: mode(0o777),
                target: named("dir/inner"),
            }),
            b"",
        );
        let fifo = Mknod {
            dir: at(0),
            name: named("fifo"),
            file_type: ftype::FIFO,
            attr: mode(0o644),
            ..Mknod::default()
        };
        make(Kind::Mknod(fifo), b"");
        make(Kind::Create(file(1, "inner")), b"");
        make(Kind::Mkdir(Mkdir { dir: at(0), name: named("closed"), attr: mode(0o700) }), b"");
        make(Kind::Create(file(6, "file")), b"");
        make(Kind::Write(Write { file: at(2), offset: 0 }), b"content");
        make(Kind::Link(Link { file: at(2), dir: at(1), name: named("file") }), b"");
    }
}

/// See the module's documentation.
pub struct World {
    shown: Volume,
    hidden: Volume,
    registry: Registry,
    server: Server,
    runtime: tokio::runtime::Runtime,
    /// Entries applied before the first call.
    made: (u64, u64),
}

impl World {
    fn new() -> Self {
        let (shown, hidden) = (Volume::new(SHOWN, PATH), Volume::new(HIDDEN, "/srv/hidden"));
        let cred = Some(Cred { uid: 0, gid: 0, gids: vec![] });
        let root = Handle { file: FileId::ROOT, generation: 0 };
        let name = Bytes::from_static(SECRET);
        let file = Create { dir: Some(root.into()), name, ..Create::default() };
        let op =
            Op { version: OP_VERSION, clock_ns: 1, cred, kind: Some(Kind::Create(file)), ..Op::default() };
        hidden.apply(&op, &Bytes::new());
        let kind = Some(Kind::Write(Write {
            file: Some(Handle { file: FileId(3), generation: 3 }.into()),
            offset: 0,
        }));
        hidden.apply(&Op { kind, ..op }, &Bytes::from_static(SECRET));

        let server = Server::new(Limits::default());
        let policy = ExportPolicy { squash: Squash::None, ..ExportPolicy::default() };
        for volume in [&shown, &hidden] {
            let access = Access::new(AccessList::everybody(policy, false), Names::nobody());
            server.add_export(Shown { handle: volume.group.clone(), access });
        }
        // Never driven: nobody is there whom the lock manager could call.
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("make a runtime");
        let registry = server.registry(&[SHOWN], 2049, runtime.handle()).expect("the export was added");
        let made = (shown.fs.progress().applied, hidden.fs.progress().applied);
        Self { shown, hidden, registry, server, runtime, made }
    }

    /// One call; its answer. `record` has no mark.
    pub fn call(&self, record: &Bytes, transport: Transport) -> Option<Bytes> {
        let answers = Arc::new(Answers::default());
        memory::bounded("answer a call", HELD_MAX, || {
            let is_call = take(&self.registry, record, TUPLE, transport, answers.clone());
            self.shown.run();
            let answer = answers.only(is_call);
            let leaked = answer.as_ref().is_some_and(|a| a.windows(SECRET.len()).any(|w| w == SECRET));
            assert!(!leaked || record.windows(SECRET.len()).any(|w| w == SECRET), "another export's data");
            answer
        })
    }

    /// Nothing changed?
    fn is_new(&self) -> bool {
        self.shown.fs.progress().applied == self.made.0
    }

    /// The shown export is a file system still, the hidden one is what it was.
    fn check(&self) {
        assert!(self.hidden.inbox.is_empty(), "something was proposed to an export that is not shown");
        assert_eq!(self.hidden.fs.progress().applied, self.made.1);
        if !self.is_new() {
            let seen = check_dir(&self.shown.fs, self.shown.fs.root(), 0);
            assert!(seen < self.shown.fs.progress().files + 64, "more names than files and links");
        }
    }
}

/// Walks a tree: each entry's file is there, and a directory has as many links as it must. Returns names seen.
fn check_dir(fs: &Fs, dir: Handle, depth: usize) -> u64 {
    assert!(depth < 64, "a directory below itself");
    let root = Cred { uid: 0, gid: 0, gids: vec![] };
    let mut entries = Vec::new();
    let listed = fs.readdir(&root, dir, 2, &mut |entry| {
        entries.push(entry.clone());
        true
    });
    let (attr, end) = listed.expect("a directory is listed");
    assert!(end, "a listing without an end");
    let (mut below, mut seen) = (0, entries.len() as u64);
    for entry in entries {
        let handle = Handle { file: FileId(entry.attr.file_id), generation: entry.attr.generation };
        assert_eq!(fs.lookup(&root, dir, &entry.name).expect("what is listed is found").attr, entry.attr);
        if entry.attr.file_type == ftype::DIR {
            below += 1;
            seen += check_dir(fs, handle, depth + 1);
        }
    }
    assert_eq!(attr.nlink, 2 + below, "links of a directory");
    seen
}

thread_local! {
    static WORLD: RefCell<Option<World>> = const { RefCell::new(None) };
}

/// Lends `work` a world where nothing has happened yet, and looks at what is left of it.
pub fn with(work: impl FnOnce(&World)) {
    WORLD.with_borrow_mut(|kept| {
        // Taken out: what panicked is not used again.
        let mut world = kept.take().filter(World::is_new).unwrap_or_else(World::new);
        // The programs' own memory starts anew in any case.
        let registry = world.server.registry(&[SHOWN], 2049, world.runtime.handle());
        world.registry = registry.expect("the export was added");
        work(&world);
        world.check();
        *kept = Some(world);
    });
}

/// A call's record.
pub fn record(xid: u32, program: (u32, u32, u32), caller: Option<u32>, args: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(args.len() + 72);
    let mut words = |words: &[u32]| words.iter().for_each(|word| out.extend_from_slice(&word.to_be_bytes()));
    words(&[xid, 0, 2, program.0, program.1, program.2]);
    match caller {
        // AUTH_SYS: stamp, no machine name, uid, gid, no groups.
        Some(uid) => words(&[1, 20, 0, 0, uid, uid, 0]),
        None => words(&[0, 0]),
    }
    words(&[0, 0]);
    out.extend_from_slice(args);
    Bytes::from(out)
}
