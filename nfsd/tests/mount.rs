//! Goal: what a mounting client needs before its first NFS call: the ports, the root's handle, and clear
//! errors; that an export is not shown behind another's address, nor anything of it to whom its access list
//! does not admit; and that the list of mounts is the replicated one. Method: a real server over loopback TCP
//! and UDP with real file systems, clients of two addresses; messages made by hand.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use nfsd::access::{Access, AccessList, Net, Rule, Who};
use nfsd::exports::{ExportPolicy, Shown};
use nfsd::handle;
use nfsd::names::{Known, Names};
use nfsd::server::{Limits, Listen, Server, Service};
use nfsd::xdr::{Decoder, Encoder};
use proto::op::{Create, Cred, Mkdir, OP_VERSION, Op, Sattr, op::Kind};
use replica::fs::{Fs, FsOptions};
use replica::handle::{GroupHandle, LeaseCell, Proposal};
use replica::ids::{ExportId, FileId, Handle};
use socket2::{Domain, Socket, Type};
use tokio::runtime::Runtime;

const PATIENCE: Duration = Duration::from_secs(20);
const PORTMAP: (u32, u32) = (100_000, 2);
const MOUNT: (u32, u32) = (100_005, 3);

struct Export {
    id: ExportId,
    lease: Arc<LeaseCell>,
    shown: Shown,
    _dir: tempfile::TempDir,
}

/// An export with `dir/sub` and `file` in it, its lease, and a thread that applies what is proposed; where
/// `committing` is false nothing that is proposed is ever committed.
fn export(number: u8, path: &str, committing: bool) -> Export {
    let dir = tempfile::tempdir().unwrap();
    let fs = Arc::new(Fs::open(dir.path(), FsOptions::default()).unwrap());
    let root = Handle { file: FileId::ROOT, generation: 0 };
    let apply = |index: u64, kind: Kind| {
        let cred = Some(Cred { uid: 0, gid: 0, gids: vec![] });
        let op = Op { version: OP_VERSION, clock_ns: index, cred, kind: Some(kind), ..Op::default() };
        let reply = fs.apply(index, 1, Some(&op), &Bytes::new()).unwrap();
        assert_eq!(reply.status, 0);
        let made = reply.attr.unwrap();
        Handle { file: FileId(made.file_id), generation: made.generation }
    };
    // Closed to everybody but its owner, to show that whoever mounts is root.
    let attr = || Some(Sattr { mode: Some(0o700), uid: Some(1000), ..Default::default() });
    let mkdir = |dir: Handle, name: &'static str| {
        Kind::Mkdir(Mkdir { dir: Some(dir.into()), name: Bytes::from_static(name.as_bytes()), attr: attr() })
    };
    let made = apply(1, mkdir(root, "dir"));
    apply(2, mkdir(made, "sub"));
    let file = Create { dir: Some(root.into()), name: Bytes::from_static(b"file"), ..Default::default() };
    apply(3, Kind::Create(Create { attr: attr(), ..file }));

    let lease = Arc::new(LeaseCell::default());
    lease.extend(u64::MAX);
    let (proposals, inbox) = crossbeam_channel::unbounded::<Proposal>();
    let its = fs.clone();
    if committing {
        std::thread::spawn(move || {
            for (index, proposal) in (4..).zip(inbox) {
                let reply = its.apply(index, 1, Some(&proposal.op), &proposal.payload);
                its.durable(index).unwrap();
                (proposal.done)(Ok(reply.expect("the entry applies")));
            }
        });
    }
    let id = ExportId([number; 16]);
    let handle = GroupHandle::new(id, path.to_owned(), fs, lease.clone(), proposals);
    let access = Access::new(AccessList::everybody(ExportPolicy::default(), false), Names::nobody());
    Export { id, lease, shown: Shown { handle, access }, _dir: dir }
}

struct Bench {
    _runtime: Runtime,
    _services: Vec<Service>,
    /// TCP and UDP address of the first export's service, then of the second's.
    at: Vec<(SocketAddr, SocketAddr)>,
    exports: Vec<Export>,
}

/// Two exports, each behind its own address.
fn bench() -> Bench {
    serve(vec![export(1, "/srv/one", true), export(2, "/srv/two", true)])
}

fn serve(exports: Vec<Export>) -> Bench {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let server = Server::new(Limits::default());
    let (mut at, mut services) = (vec![], vec![]);
    for export in &exports {
        server.add_export(export.shown.clone());
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        at.push((tcp.local_addr().unwrap(), udp.local_addr().unwrap()));
        let listen = Listen {
            exports: vec![export.id],
            tcp: vec![tcp],
            udp: vec![udp],
            nfs_port: 2049,
            on_accept: Arc::new(|_| Box::pin(async {})),
        };
        services.push(server.serve(listen, runtime.handle()).unwrap());
    }
    Bench { _runtime: runtime, _services: services, at, exports }
}

fn message(program: (u32, u32), procedure: u32, args: &Encoder) -> Vec<u8> {
    let mut e = Encoder::new();
    e.u32(7).u32(0).u32(2).u32(program.0).u32(program.1).u32(procedure).u64(0).u64(0);
    e.fixed(args.as_slice());
    e.as_slice().to_vec()
}

fn over_udp(to: SocketAddr, message: &[u8]) -> Bytes {
    over_udp_from(Ipv4Addr::LOCALHOST, to, message)
}

fn over_udp_from(client: Ipv4Addr, to: SocketAddr, message: &[u8]) -> Bytes {
    let socket = UdpSocket::bind((client, 0)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.connect(to).unwrap();
    socket.send(message).unwrap();
    let mut buf = [0; 4096];
    let n = socket.recv(&mut buf).unwrap();
    Bytes::copy_from_slice(&buf[..n])
}

/// None: the connection was closed instead.
fn over_tcp(to: SocketAddr, message: &[u8]) -> Option<Bytes> {
    over_tcp_from(Ipv4Addr::LOCALHOST, to, message)
}

fn connect_from(client: Ipv4Addr, to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((client, 0)).into()).unwrap();
    socket.connect(&to.into()).unwrap();
    socket.into()
}

fn over_tcp_from(client: Ipv4Addr, to: SocketAddr, message: &[u8]) -> Option<Bytes> {
    let mut stream = connect_from(client, to);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mark = message.len() as u32 | 1 << 31;
    stream.write_all(&[&mark.to_be_bytes(), message].concat()).unwrap();
    let mut mark = [0; 4];
    stream.read_exact(&mut mark).ok()?;
    let mut reply = vec![0; (u32::from_be_bytes(mark) & !(1 << 31)) as usize];
    stream.read_exact(&mut reply).ok()?;
    Some(reply.into())
}

/// The same answer over both transports, without its header.
fn ask(to: (SocketAddr, SocketAddr), program: (u32, u32), procedure: u32, args: &Encoder) -> Bytes {
    ask_from(Ipv4Addr::LOCALHOST, to, program, procedure, args)
}

fn ask_from(
    client: Ipv4Addr,
    to: (SocketAddr, SocketAddr),
    program: (u32, u32),
    procedure: u32,
    args: &Encoder,
) -> Bytes {
    let message = message(program, procedure, args);
    let tcp = over_tcp_from(client, to.0, &message).expect("closed instead of answered");
    assert_eq!(over_udp_from(client, to.1, &message), tcp, "UDP and TCP differ");
    let accepted: Vec<u8> = [7u32, 1, 0, 0, 0, 0].iter().flat_map(|w| w.to_be_bytes()).collect();
    assert_eq!(tcp[..24], accepted);
    tcp.slice(24..)
}

fn path(path: &[u8]) -> Encoder {
    let mut args = Encoder::new();
    args.opaque(path);
    args
}

/// MNT: the directory, or mountstat3.
fn mnt(to: (SocketAddr, SocketAddr), dir: &[u8]) -> Result<(ExportId, Handle), u32> {
    mnt_from(Ipv4Addr::LOCALHOST, to, dir)
}

fn mnt_from(client: Ipv4Addr, to: (SocketAddr, SocketAddr), dir: &[u8]) -> Result<(ExportId, Handle), u32> {
    mountres(&ask_from(client, to, MOUNT, 1, &path(dir)))
}

fn mountres(reply: &Bytes) -> Result<(ExportId, Handle), u32> {
    let mut d = Decoder::new(reply);
    match d.u32().unwrap() {
        0 => {
            let found = handle::decode(&d.opaque(64).unwrap()).unwrap();
            assert_eq!((d.u32(), d.u32(), d.remaining()), (Ok(1), Ok(1), 0), "flavours: AUTH_SYS only");
            Ok(found)
        }
        stat => {
            assert_eq!(d.remaining(), 0);
            Err(stat)
        }
    }
}

fn getport(to: (SocketAddr, SocketAddr), program: u32, version: u32, protocol: u32) -> u32 {
    let mut args = Encoder::new();
    args.u32(program).u32(version).u32(protocol).u32(0);
    Decoder::new(&ask(to, PORTMAP, 3, &args)).u32().unwrap()
}

#[test]
fn the_portmapper_knows_each_program_over_both_transports() {
    let bench = bench();
    let at = bench.at[0];
    for protocol in [6, 17] {
        assert_eq!(getport(at, 100_003, 3, protocol), 2049);
        assert_eq!(getport(at, 100_005, 3, protocol), 2049);
        assert_eq!(getport(at, 100_000, 2, protocol), 111);
        assert_eq!(getport(at, 100_005, 1, protocol), 2049, "MOUNT itself says that v1 is not here");
        assert_eq!(getport(at, 100_227, 3, protocol), 0, "NFSACL is not here");
    }
    assert_eq!(getport(at, 100_003, 3, 1), 0, "no such transport");
    let dump = ask(at, PORTMAP, 4, &Encoder::new());
    assert_eq!(dump.len(), 18 * 20 + 4, "eighteen mappings and the end");
    let mut set = Encoder::new();
    set.u32(100_003).u32(3).u32(6).u32(666);
    for procedure in [1, 2] {
        assert_eq!(ask(at, PORTMAP, procedure, &set)[..], [0; 4], "the table was changed by anybody");
    }
    assert_eq!(getport(at, 100_003, 3, 6), 2049);
    for version in [1, 5] {
        let rpcbind = over_udp(at.1, &message((100_000, version), 3, &Encoder::new()));
        assert_eq!(rpcbind[20..], [0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 4], "PROG_MISMATCH {{2,4}}");
    }
    assert_eq!(over_udp(at.1, &message(PORTMAP, 3, &Encoder::new()))[23], 4, "GARBAGE_ARGS");
}

#[test]
fn a_client_asking_for_v4_or_acls_is_sent_to_v3() {
    let bench = bench();
    let at = bench.at[0].0;
    for version in [2, 4] {
        let reply = over_tcp(at, &message((100_003, version), 0, &Encoder::new())).unwrap();
        assert_eq!(reply[20..], [0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 3], "PROG_MISMATCH {{3,3}}");
    }
    let acl = over_tcp(at, &message((100_227, 3), 0, &Encoder::new())).unwrap();
    assert_eq!(acl[20..], [0, 0, 0, 1], "PROG_UNAVAIL");
}

#[test]
fn an_export_and_the_directories_below_it_can_be_mounted() {
    let bench = bench();
    let (at, id) = (bench.at[0], bench.exports[0].id);
    let root = Handle { file: FileId::ROOT, generation: 0 };
    for name in ["/srv/one", "/srv/one/", "//srv/./one", "srv/one"] {
        assert_eq!(mnt(at, name.as_bytes()), Ok((id, root)), "{name}");
    }
    let (_, sub) = mnt(at, b"/srv/one/dir/sub").unwrap();
    let cred = Cred { uid: 0, gid: 0, gids: vec![] };
    let fs = bench.exports[0].shown.handle.fs();
    let (_, dir) = mnt(at, b"/srv/one/dir").unwrap();
    assert_eq!(fs.lookup(&cred, dir, b"sub").unwrap().attr.file_id, sub.file.0);
}

#[test]
fn what_cannot_be_mounted_says_why() {
    let bench = bench();
    let at = bench.at[0];
    assert_eq!(mnt(at, b"/srv/two"), Err(2), "shown behind another export's address");
    assert_eq!(mnt(at, b"/srv"), Err(2));
    assert_eq!(mnt(at, b"/srv/onee"), Err(2));
    assert_eq!(mnt(at, b""), Err(2));
    assert_eq!(mnt(at, b"/srv/one/none"), Err(2), "NOENT");
    assert_eq!(mnt(at, b"/srv/one/file"), Err(20), "NOTDIR");
    assert_eq!(mnt(at, b"/srv/one/file/x"), Err(20), "NOTDIR");
    assert_eq!(mnt(at, b"/srv/one/dir/../../.."), Err(22), "INVAL");
    assert_eq!(mnt(at, b"/srv/one/d\0r"), Err(22), "INVAL");
    let long = [b"/srv/one/", &[b'x'; 256][..]].concat();
    assert_eq!(mnt(at, &long), Err(63), "NAMETOOLONG");
    assert_eq!(mnt(at, &[b'/'; 1025]), Err(63), "NAMETOOLONG");
    assert_eq!(over_tcp(at.0, &message(MOUNT, 1, &path(&[b'/'; 9000]))).unwrap()[23], 4, "GARBAGE_ARGS");
    assert_eq!(over_tcp(at.0, &message(MOUNT, 6, &path(b"/"))).unwrap()[23], 3, "PROC_UNAVAIL");
}

#[test]
fn without_the_lease_a_mount_is_not_answered() {
    let bench = bench();
    bench.exports[0].lease.revoke();
    let mount = message(MOUNT, 1, &path(b"/srv/one"));
    assert_eq!(over_tcp(bench.at[0].0, &mount), None, "a deposed primary answered");
    assert!(mnt(bench.at[1], b"/srv/two").is_ok(), "the other export is served");
}

#[test]
fn exports_and_mounts_are_listed() {
    let bench = bench();
    let at = bench.at[0];
    let mut list = Encoder::new();
    list.bool(true).opaque(b"/srv/one").bool(false).bool(false);
    assert_eq!(ask(at, MOUNT, 5, &Encoder::new())[..], *list.as_slice(), "EXPORT");
    let dump = || ask(at, MOUNT, 2, &Encoder::new());
    let empty = &[0; 4][..];
    assert_eq!(dump(), empty);
    mnt(at, b"/srv/one").unwrap();
    let mut list = Encoder::new();
    list.bool(true).opaque(b"127.0.0.1").opaque(b"/srv/one").bool(false);
    assert_eq!(dump()[..], *list.as_slice(), "one line for one client and path");
    ask(at, MOUNT, 3, &path(b"/srv/one"));
    assert_eq!(dump(), empty, "UMNT");
    mnt(at, b"/srv/one/dir").unwrap();
    ask(at, MOUNT, 4, &Encoder::new());
    assert_eq!(dump(), empty, "UMNTALL");
}

/// DUMP: clients and paths.
fn mounts(to: (SocketAddr, SocketAddr), client: Ipv4Addr) -> Vec<(String, String)> {
    let reply = ask_from(client, to, MOUNT, 2, &Encoder::new());
    let (mut d, mut all) = (Decoder::new(&reply), vec![]);
    while d.bool().unwrap() {
        let mut text = || String::from_utf8(d.opaque(1024).unwrap().to_vec()).unwrap();
        all.push((text(), text()));
    }
    all
}

const OTHER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

fn rule(who: Who, group: &str) -> Rule {
    Rule { who, group: group.to_owned(), policy: ExportPolicy::default(), secure: false }
}

#[test]
fn the_list_of_mounts_is_the_replicated_one() {
    let bench = bench();
    let (at, fs) = (bench.at[0], bench.exports[0].shown.handle.fs());
    mnt(at, b"/srv/one").unwrap();
    mnt_from(OTHER, at, b"/srv/one/dir").unwrap();
    mnt_from(OTHER, at, b"/srv/one").unwrap();
    assert!(mnt_from(OTHER, at, b"/srv/one/none").is_err());
    let line = |client: &str, path: &str| (client.to_owned(), path.to_owned());
    let expected =
        [line("127.0.0.1", "/srv/one"), line("127.0.0.2", "/srv/one/dir"), line("127.0.0.2", "/srv/one")];
    assert_eq!(mounts(at, OTHER), expected, "what MNT answered, and nothing that it refused");
    let replicated: Vec<_> = fs
        .mounts()
        .into_iter()
        .map(|(ip, path)| (ip.to_string(), String::from_utf8(path.to_vec()).unwrap()))
        .collect();
    assert_eq!(replicated, expected, "in the state that a takeover keeps");
    assert!(mounts(bench.at[1], OTHER).is_empty(), "the other export's clients are its own");

    // Nobody unmounts for another, and what is not mounted changes nothing.
    let before = fs.progress().applied;
    ask_from(OTHER, at, MOUNT, 3, &path(b"/srv/one/dir/sub"));
    ask_from(OTHER, at, MOUNT, 3, &path(b""));
    assert_eq!((fs.progress().applied, fs.mounts().len()), (before, 3));
    ask_from(OTHER, at, MOUNT, 3, &path(b"/srv/one"));
    assert_eq!(mounts(at, OTHER), expected[..2]);
    ask_from(OTHER, at, MOUNT, 4, &Encoder::new());
    assert_eq!(mounts(at, OTHER), expected[..1], "UMNTALL");
}

#[test]
fn a_mount_that_cannot_be_committed_is_not_answered() {
    let bench = serve(vec![export(1, "/srv/one", false)]);
    assert_eq!(over_tcp(bench.at[0].0, &message(MOUNT, 1, &path(b"/srv/one"))), None);
}

#[test]
fn a_client_outside_the_list_learns_nothing() {
    let bench = bench();
    let (at, export) = (bench.at[0], &bench.exports[0]);
    mnt(at, b"/srv/one").unwrap();
    export
        .shown
        .access
        .replace([rule(Who::Net(Net::host(Ipv4Addr::LOCALHOST.into())), "127.0.0.1")].into_iter().collect());
    let long = [b'/'; 1025];
    for dir in [
        &b"/srv/one"[..],
        b"/srv/one/dir",
        b"/srv/one/none",
        b"/srv/one/file",
        b"/srv/one/..",
        b"/x",
        b"",
        &long,
    ] {
        assert_eq!(mnt_from(OTHER, at, dir), Err(13), "{}", String::from_utf8_lossy(dir));
    }
    assert_eq!(mounts(at, OTHER), [], "who has mounted is told to those who may");
    ask_from(OTHER, at, MOUNT, 4, &Encoder::new());
    assert_eq!(mounts(at, Ipv4Addr::LOCALHOST).len(), 1);
    assert!(mnt(at, b"/srv/one/dir").is_ok());
    assert_eq!(mnt(at, b"/x"), Err(2), "who is admitted hears what is wrong");
    assert!(mnt_from(OTHER, bench.at[1], b"/srv/two").is_ok(), "the other export has a list of its own");

    export.shown.access.replace(AccessList::everybody(ExportPolicy::default(), true));
    assert_eq!(mnt(at, b"/srv/one"), Err(13), "`secure`, and the port is above 1023");
}

#[test]
fn showmount_sees_whom_an_export_admits() {
    let bench = bench();
    let net = Net::new([10, 0, 0, 0].into(), 24).unwrap();
    let rules = [rule(Who::Net(net), "10.0.0.0/24"), rule(Who::Wildcard("*.lab".into()), "*.lab")];
    bench.exports[0].shown.access.replace(rules.into_iter().collect());
    let mut list = Encoder::new();
    list.bool(true)
        .opaque(b"/srv/one")
        .bool(true)
        .opaque(b"10.0.0.0/24")
        .bool(true)
        .opaque(b"*.lab")
        .bool(false);
    list.bool(false);
    assert_eq!(ask(bench.at[0], MOUNT, 5, &Encoder::new())[..], *list.as_slice());
}

#[test]
fn mnt_waits_for_the_clients_name() {
    let (asked, questions) = std::sync::mpsc::channel();
    let names = Names::new(Box::new(move |ip, _| _ = asked.send(ip)));
    let mut one = export(1, "/srv/one", true);
    let list = || [rule(Who::Wildcard("*.lab".into()), "*.lab")].into_iter().collect();
    one.shown.access = Access::new(list(), names.clone());
    let bench = serve(vec![one]);
    let at = bench.at[0];
    let mount = message(MOUNT, 1, &path(b"/srv/one"));
    let waiting = std::thread::spawn(move || over_tcp_from(OTHER, at.0, &mount));
    assert_eq!(questions.recv().unwrap(), IpAddr::from(OTHER));
    let learn = |name: &str| {
        let addresses = [(OTHER.into(), vec![name.to_owned()].into())].into();
        names.learn(Known { addresses, ..Known::default() });
    };
    learn("c2.lab");
    let reply = waiting.join().unwrap().expect("an answer").slice(24..);
    assert_eq!(mountres(&reply).map(|(id, _)| id), Ok(bench.exports[0].id));
    learn("c2.elsewhere");
    assert_eq!(mnt_from(OTHER, at, b"/srv/one"), Err(13));
    // Whose name nobody tells within the time is refused: it asks again when there is a name server.
    names.learn(Known::default());
    let reply = over_tcp_from(OTHER, at.0, &message(MOUNT, 1, &path(b"/srv/one"))).expect("an answer");
    assert_eq!(mountres(&reply.slice(24..)), Err(13));
}
