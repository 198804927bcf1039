//! Goal: a change is done once and answered alike however often it is sent, wherever its call or its reply was lost, before, in
//! and after a takeover. Method: every kind of change that must not happen twice, as bytes, over connections of the test's own;
//! a loss at each point of its way; then somebody else undoes the change, and the call is sent again, from all sides: each answer
//! is the first one's bytes, attributes included, and the directory is left as it is, ctimes included.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hanfs_tests::pair::cluster::{ONE, PATIENCE};
use hanfs_tests::pair::{Cluster, Shape};
use hanfs_tests::raw::{HEADER_BYTES, MOUNT, NFS, Raw, call, pack, status};
use nfs3_types::nfs3::*;
use nfs3_types::xdr_codec::{Opaque, Unpack};

const GETATTR: u32 = 1;
const SETATTR: u32 = 2;
const LOOKUP: u32 = 3;
const WRITE: u32 = 7;
const CREATE: u32 = 8;
const MKDIR: u32 = 9;
const SYMLINK: u32 = 10;
const MKNOD: u32 = 11;
const REMOVE: u32 = 12;
const RMDIR: u32 = 13;
const RENAME: u32 = 14;
const LINK: u32 = 15;
const READDIRPLUS: u32 = 17;

/// For one try of a call; then it is sent again on another connection.
const TRY: Duration = Duration::from_secs(5);
/// How often calls in progress are tried to be seen.
const ATTEMPTS: usize = 5;
/// How long each connection is looked at that must be silent.
const SILENCE: Duration = Duration::from_millis(2);
/// So slow to notice a silent peer that a test can look at calls in progress. A server that died is reported by its guardian.
const SLOW: &str = "ping_ms = 50\nlease_ms = 5000\npromise_ms = 5500\ndetect_ms = 6000";
/// What a node says that has waited for its peer for too long.
const WORDS_OF_WAITING: [&str; 1] = ["the lease ran out"];
/// Digests are compared at multiples of this many entries.
const DIGEST_EVERY: u64 = 1024;

/// A change that must not happen twice, in a directory of its own.
struct Change {
    name: String,
    dir: nfs_fh3,
    /// The call, with its record mark.
    record: Vec<u8>,
    /// The directory before it.
    before: String,
    /// Names in the directory after it.
    once: Vec<&'static str>,
    /// What somebody else does afterwards, so that a second execution would succeed, or would be seen.
    undo: (u32, Vec<u8>),
    /// Bytes at the end of its reply that are the answering primary's and not the call's: the verifier of WRITE, which says
    /// nothing where the reply says FILE_SYNC (RFC 1813 section 3.3.7).
    verifier: usize,
}

impl Change {
    /// The part of its reply that is the same for ever.
    fn lasting<'a>(&self, reply: &'a [u8]) -> &'a [u8] {
        &reply[..reply.len().saturating_sub(self.verifier)]
    }
}

/// A change that was done and undone.
struct Done {
    change: Change,
    reply: Vec<u8>,
    /// The directory, as every retransmission has to leave it.
    tree: String,
}

struct Bench {
    cluster: Cluster,
    server: SocketAddr,
    root: nfs_fh3,
    xid: u32,
}

fn at<'a>(dir: &nfs_fh3, name: &'a str) -> diropargs3<'a> {
    diropargs3 { dir: dir.clone(), name: filename3::from(name.as_bytes()) }
}

fn create(dir: &nfs_fh3, name: &str) -> Vec<u8> {
    pack(&CREATE3args { where_: at(dir, name), how: createhow3::GUARDED(sattr3::default()) })
}

fn mkdir(dir: &nfs_fh3, name: &str) -> Vec<u8> {
    pack(&MKDIR3args { where_: at(dir, name), attributes: sattr3::default() })
}

fn remove(dir: &nfs_fh3, name: &str) -> Vec<u8> {
    pack(&REMOVE3args { object: at(dir, name) })
}

fn rmdir(dir: &nfs_fh3, name: &str) -> Vec<u8> {
    pack(&RMDIR3args { object: at(dir, name) })
}

fn write(file: &nfs_fh3, data: &[u8]) -> Vec<u8> {
    let (file, count, data) = (file.clone(), data.len() as u32, Opaque::borrowed(data));
    pack(&WRITE3args { file, offset: 0, count, stable: stable_how::FILE_SYNC, data })
}

fn set_mode(file: &nfs_fh3, mode: u32, guard: sattrguard3) -> Vec<u8> {
    let new_attributes = sattr3 { mode: Nfs3Option::Some(mode), ..sattr3::default() };
    pack(&SETATTR3args { object: file.clone(), new_attributes, guard })
}

impl Bench {
    async fn start(timing: &'static str) -> Self {
        let cluster = Cluster::start(&Shape { timing, ..Shape::default() }).await;
        let target = cluster.target(ONE);
        let server = SocketAddr::new(target.address, target.port);
        let mut bench = Self { cluster, server, root: nfs_fh3::default(), xid: 0x0ace_0000 };
        let path = Opaque::borrowed(ONE.as_bytes());
        let mounted = bench.ok(MOUNT, 1, &pack(&path));
        bench.root = Opaque::unpack(&mut &mounted[..]).map(|(data, _)| nfs_fh3 { data }).expect("a handle");
        bench
    }

    fn connect(&self) -> Raw {
        Raw::connect(self.server, TRY).expect("connect")
    }

    /// A connection that the server has read from.
    fn connect_and_talk(&mut self) -> Raw {
        self.xid += 1;
        let mut connection = self.connect();
        connection.ask(&call(self.xid, NFS, 0, &[])).expect("the reply of NULL");
        connection
    }

    /// As a client does: sends a call, over new connections too, until it is answered.
    fn again(&self, record: &[u8]) -> Vec<u8> {
        let until = Instant::now() + PATIENCE;
        loop {
            match Raw::connect(self.server, TRY).and_then(|mut connection| connection.ask(record)) {
                Ok(reply) => return reply,
                Err(error) => {
                    assert!(Instant::now() < until, "no answer: {error}\n{}", self.cluster.last_words())
                }
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn record(&mut self, program: u32, procedure: u32, args: &[u8]) -> Vec<u8> {
        self.xid += 1;
        call(self.xid, program, procedure, args)
    }

    /// A new call, which must succeed; its results after the status.
    fn ok(&mut self, program: u32, procedure: u32, args: &[u8]) -> Vec<u8> {
        let record = self.record(program, procedure, args);
        let reply = self.again(&record);
        assert_eq!(status(&reply), Some(0), "procedure {procedure} of {program}");
        reply[HEADER_BYTES + 4..].to_vec()
    }

    fn nfs(&mut self, procedure: u32, args: &[u8]) -> Vec<u8> {
        self.ok(NFS, procedure, args)
    }

    fn lookup(&mut self, dir: &nfs_fh3, name: &str) -> nfs_fh3 {
        let found = self.nfs(LOOKUP, &pack(&LOOKUP3args { what: at(dir, name) }));
        nfs_fh3::unpack(&mut &found[..]).expect("a handle").0
    }

    fn new_dir(&mut self, name: &str) -> nfs_fh3 {
        let root = self.root.clone();
        self.nfs(MKDIR, &mkdir(&root, name));
        self.lookup(&root, name)
    }

    fn new_file(&mut self, dir: &nfs_fh3, name: &str) -> nfs_fh3 {
        self.nfs(CREATE, &create(dir, name));
        self.lookup(dir, name)
    }

    fn list(&mut self, dir: &nfs_fh3) -> Vec<entryplus3<'static>> {
        let (cookieverf, count) = (cookieverf3::default(), 32 << 10);
        let args =
            READDIRPLUS3args { dir: dir.clone(), cookie: 0, cookieverf, dircount: count, maxcount: count };
        let listed = self.nfs(READDIRPLUS, &pack(&args));
        let (listed, _) = READDIRPLUS3resok::unpack(&mut &listed[..]).expect("a listing");
        let mut entries = listed.reply.entries.into_inner();
        // The parent changes with every case that is prepared.
        entries.retain(|entry| entry.name.as_ref() != b"..");
        entries
    }

    /// Names, handles and attributes of a directory's entries and of itself.
    fn tree(&mut self, dir: &nfs_fh3) -> String {
        self.list(dir).iter().map(|entry| format!("{entry:?}\n")).collect()
    }

    fn names(&mut self, dir: &nfs_fh3) -> Vec<String> {
        let names = self.list(dir).into_iter();
        let mut names: Vec<String> =
            names.map(|entry| String::from_utf8_lossy(entry.name.as_ref()).into_owned()).collect();
        names.retain(|name| name != ".");
        names.sort();
        names
    }

    /// One change of each kind, prepared and not yet sent.
    fn changes(&mut self, label: &str) -> Vec<Change> {
        let mut all = Vec::new();
        let mut add = |bench: &mut Self, name: &str, dir: &nfs_fh3, call: (u32, Vec<u8>), once, undo| {
            let record = bench.record(NFS, call.0, &call.1);
            let before = bench.tree(dir);
            let (name, dir, verifier) =
                (format!("{label}: {name}"), dir.clone(), if call.0 == WRITE { 8 } else { 0 });
            all.push(Change { name, dir, record, before, once, undo, verifier });
        };
        let dir = &self.new_dir(&format!("{label}-create"));
        add(self, "CREATE guarded", dir, (CREATE, create(dir, "f")), vec!["f"], (REMOVE, remove(dir, "f")));
        let dir = &self.new_dir(&format!("{label}-exclusive"));
        let how = createhow3::EXCLUSIVE(createverf3([7; 8]));
        let exclusive = pack(&CREATE3args { where_: at(dir, "f"), how });
        add(self, "CREATE exclusive", dir, (CREATE, exclusive), vec!["f"], (REMOVE, remove(dir, "f")));
        let dir = &self.new_dir(&format!("{label}-mkdir"));
        add(self, "MKDIR", dir, (MKDIR, mkdir(dir, "d")), vec!["d"], (RMDIR, rmdir(dir, "d")));
        let dir = &self.new_dir(&format!("{label}-symlink"));
        let symlink_data = nfspath3::from(&b"target"[..]);
        let symlink = symlinkdata3 { symlink_attributes: sattr3::default(), symlink_data };
        let symlink = pack(&SYMLINK3args { where_: at(dir, "s"), symlink });
        add(self, "SYMLINK", dir, (SYMLINK, symlink), vec!["s"], (REMOVE, remove(dir, "s")));
        let dir = &self.new_dir(&format!("{label}-mknod"));
        let fifo = pack(&MKNOD3args { where_: at(dir, "p"), what: mknoddata3::NF3FIFO(sattr3::default()) });
        add(self, "MKNOD", dir, (MKNOD, fifo), vec!["p"], (REMOVE, remove(dir, "p")));
        let dir = &self.new_dir(&format!("{label}-remove"));
        self.new_file(dir, "f");
        add(self, "REMOVE", dir, (REMOVE, remove(dir, "f")), vec![], (CREATE, create(dir, "f")));
        let dir = &self.new_dir(&format!("{label}-rmdir"));
        self.nfs(MKDIR, &mkdir(dir, "d"));
        add(self, "RMDIR", dir, (RMDIR, rmdir(dir, "d")), vec![], (MKDIR, mkdir(dir, "d")));
        // Somebody else's new file of the old name is not renamed away.
        let dir = &self.new_dir(&format!("{label}-rename"));
        self.new_file(dir, "a");
        let rename = pack(&RENAME3args { from: at(dir, "a"), to: at(dir, "b") });
        add(self, "RENAME", dir, (RENAME, rename), vec!["b"], (CREATE, create(dir, "a")));
        let dir = &self.new_dir(&format!("{label}-link"));
        let file = self.new_file(dir, "f");
        let link = pack(&LINK3args { file, link: at(dir, "l") });
        add(self, "LINK", dir, (LINK, link), vec!["f", "l"], (REMOVE, remove(dir, "l")));
        let dir = &self.new_dir(&format!("{label}-setattr"));
        let file = &self.new_file(dir, "f");
        let attr = self.nfs(GETATTR, &pack(&GETATTR3args { object: file.clone() }));
        let ctime = fattr3::unpack(&mut &attr[..]).expect("attributes").0.ctime;
        let guarded = set_mode(file, 0o600, Nfs3Option::Some(ctime));
        let open = set_mode(file, 0o644, Nfs3Option::None);
        add(self, "SETATTR guarded", dir, (SETATTR, guarded), vec!["f"], (SETATTR, open));
        let dir = &self.new_dir(&format!("{label}-write"));
        let file = &self.new_file(dir, "f");
        add(self, "WRITE", dir, (WRITE, write(file, b"older")), vec!["f"], (WRITE, write(file, b"newer")));
        all
    }

    /// Nothing of it has happened.
    fn assert_not_done(&mut self, change: &Change) {
        assert_eq!(self.tree(&change.dir), change.before, "{}: happened", change.name);
    }

    /// It has happened, and its reply was lost: the call is answered as it would have been the first time (as it was, where the
    /// test knows). Then somebody else undoes it.
    fn settle(&mut self, change: Change, known: Option<Vec<u8>>) -> Done {
        let reply = self.again(&change.record);
        if let Some(known) = known {
            assert_eq!(change.lasting(&reply), change.lasting(&known), "{}: another reply", change.name);
        }
        assert_eq!(status(&reply), Some(0), "{}: sent again", change.name);
        assert_eq!(self.names(&change.dir), change.once, "{}", change.name);
        assert_ne!(self.tree(&change.dir), change.before, "{}: no effect", change.name);
        let (procedure, args) = &change.undo;
        self.nfs(*procedure, args);
        let tree = self.tree(&change.dir);
        Done { change, reply, tree }
    }

    fn settle_all(&mut self, changes: Vec<Change>) -> Vec<Done> {
        changes.into_iter().map(|change| self.settle(change, None)).collect()
    }

    /// Each call sent again gets the same bytes and does nothing: twice on a connection without waiting, from the port of a
    /// connection that was reset, and on two connections at once.
    fn assert_remembered(&mut self, all: &[Done], when: &str) {
        for Done { change, reply, tree } in all {
            let ask = |connection: &mut Raw, how: &str| {
                let got = connection.receive();
                let got = got.unwrap_or_else(|e| panic!("{}, {when}, {how}: {e}", change.name));
                let (got, reply) = (change.lasting(&got), change.lasting(reply));
                assert_eq!(got, reply, "{}: another reply {when}, {how}", change.name);
            };
            let mut first = self.connect();
            first.send(&[&change.record[..], &change.record].concat()).expect("send it twice");
            ask(&mut first, "on a new connection");
            ask(&mut first, "on the same connection");
            let from = first.local().expect("a port");
            first.reset().expect("reset the connection");
            let mut same = Raw::connect_from(from, self.server, TRY).expect("connect from the same port");
            let mut other = self.connect();
            assert_ne!(other.local().expect("a port"), from);
            same.send(&change.record).expect("send");
            other.send(&change.record).expect("send");
            ask(&mut same, "from the same port");
            ask(&mut other, "from another port");
            assert_eq!(self.tree(&change.dir), *tree, "{}: a second effect {when}", change.name);
        }
    }

    async fn index_of(&self, what: fn(&proto::admin::ExportStatus) -> u64) -> u64 {
        self.cluster.export("a", ONE).await.map(|export| what(&export)).expect("a answers")
    }

    /// Waits until `a` has so many entries more than `before`.
    async fn wait_index(&self, what: fn(&proto::admin::ExportStatus) -> u64, index: u64) {
        self.cluster
            .wait("a has the calls", async || {
                self.cluster.export("a", ONE).await.is_some_and(|export| what(&export) >= index)
            })
            .await;
    }

    /// The server of `a` dies, `b` takes over.
    async fn kill_primary(&self) {
        self.cluster.node("a").kill_server();
        self.cluster.wait_served("b", ONE).await;
    }

    /// Back to `a`.
    async fn give_back(&self) {
        self.cluster.wait_mirrored("b", ONE).await;
        let result = self.cluster.take_over("a", ONE).await;
        assert!(result.ok, "giveback: {result:?}");
        self.cluster.wait_mirrored("a", ONE).await;
    }

    /// Done with: both replicas are the same.
    async fn end(mut self) {
        let root = self.root.clone();
        let file = self.new_file(&root, "filler");
        let mut connection = self.connect();
        for _ in 0..DIGEST_EVERY {
            let record = self.record(NFS, WRITE, &write(&file, b"data"));
            let reply = connection.ask(&record).expect("a reply");
            assert_eq!(status(&reply), Some(0));
        }
        self.cluster.assert_equal_digests("at the end").await;
        self.cluster.assert_same_on_disk();
        self.cluster.assert_calm_logs();
    }
}

/// Calls on their way: in the log of `a`, and nowhere else as far as anybody answered.
struct InProgress {
    changes: Vec<Change>,
    /// Of each change: the original's connection, on which it was sent twice, and another one on which it was sent again.
    connections: Vec<(Raw, Raw)>,
}

impl Bench {
    /// Sends every change while `b` cannot say that it has them: after `stop` its server is stopped, or its node gone. A machine
    /// may be too slow: `a` misses the other voters before the test has looked. Then all goes on, and it is tried again.
    async fn send_in_vain(
        &mut self,
        label: &str,
        stop: fn(&mut Cluster),
        go_on: fn(&mut Cluster),
    ) -> InProgress {
        for attempt in 0..ATTEMPTS {
            match self.try_in_vain(&format!("{label}{attempt}"), stop).await {
                Ok(under_way) => return under_way,
                Err(changes) => {
                    println!("{label}: too slow to look, try {attempt}");
                    go_on(&mut self.cluster);
                    self.settle_all(changes);
                    self.cluster.bring_home().await;
                }
            }
        }
        panic!("{label}: this machine is too slow to look at calls in progress");
    }

    /// The changes alone where something was committed, or a connection closed, meanwhile.
    async fn try_in_vain(&mut self, label: &str, stop: fn(&mut Cluster)) -> Result<InProgress, Vec<Change>> {
        let changes = self.changes(label);
        let mut connections: Vec<(Raw, Raw)> =
            changes.iter().map(|_| (self.connect_and_talk(), self.connect_and_talk())).collect();
        let before = self.index_of(|export| export.last_index).await;
        stop(&mut self.cluster);
        for (change, (original, other)) in changes.iter().zip(&mut connections) {
            let sent = [&change.record[..], &change.record].concat();
            if original.send(&sent).and_then(|()| other.send(&change.record)).is_err() {
                return Err(changes);
            }
        }
        let (all, until) = (before + 3 * changes.len() as u64, Instant::now() + TRY);
        while self.index_of(|export| export.last_index).await < all {
            if Instant::now() > until {
                return Err(changes);
            }
        }
        let silent = are_silent(&connections);
        let committed = self.index_of(|export| export.commit_index).await > before;
        match silent {
            Ok(true) if !committed => Ok(InProgress { changes, connections }),
            Ok(false) if !committed => panic!("{label}: answered, and committed nowhere"),
            _ => Err(changes),
        }
    }
}

fn are_silent(connections: &[(Raw, Raw)]) -> io::Result<bool> {
    let mut all = connections.iter().flat_map(|(original, other)| [original, other]);
    all.try_fold(true, |silent, connection| Ok(silent && connection.is_silent(SILENCE)?))
}

/// The server of `b` reads nothing any more; its kernel does.
fn stop_backup(cluster: &mut Cluster) {
    cluster.node("b").stop_server();
}

/// After [`stop_backup`].
fn continue_backup(cluster: &mut Cluster) {
    cluster.node("b").continue_server();
}

/// Nobody but `a` is there, and it cannot go solo.
fn leave_alone(cluster: &mut Cluster) {
    cluster.kill_witness();
    cluster.kill_node("b");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_answered_is_answered_alike_for_ever() {
    let mut bench = Bench::start(hanfs_tests::pair::shape::TIMING).await;
    let mut all = Vec::new();
    for change in bench.changes("answered") {
        let mut connection = bench.connect();
        let reply = connection.ask(&change.record).expect("a reply");
        let second = connection.ask(&change.record).expect("a reply");
        assert_eq!(reply, second, "{}: again on the same connection", change.name);
        all.push(bench.settle(change, Some(reply)));
    }
    bench.assert_remembered(&all, "by the same primary");
    bench.kill_primary().await;
    bench.assert_remembered(&all, "by the new primary");
    bench.give_back().await;
    bench.assert_remembered(&all, "after the giveback");
    bench.cluster.kill_node("a");
    bench.cluster.wait_served("b", ONE).await;
    bench.assert_remembered(&all, "by a new primary that is alone");
    bench.cluster.start_node("a");
    bench.give_back().await;
    bench.assert_remembered(&all, "by a node that was away");
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_was_lost_before_it_was_read_is_done_once() {
    let mut bench = Bench::start(hanfs_tests::pair::shape::TIMING).await;
    for label in ["half", "unread"] {
        let changes = bench.changes(label);
        let mut connections: Vec<Raw> = changes.iter().map(|_| bench.connect_and_talk()).collect();
        if label == "unread" {
            bench.cluster.node("a").stop_server();
        }
        for (change, connection) in changes.iter().zip(&mut connections) {
            // Acknowledged by the kernel in any case.
            let sent = if label == "half" { change.record.len() / 2 } else { change.record.len() };
            connection.send(&change.record[..sent]).expect("send");
        }
        bench.kill_primary().await;
        changes.iter().for_each(|change| bench.assert_not_done(change));
        let all = bench.settle_all(changes);
        bench.assert_remembered(&all, "by the new primary");
        bench.give_back().await;
        bench.assert_remembered(&all, "after the giveback");
    }
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_in_progress_is_done_once() {
    let mut bench = Bench::start(SLOW).await;
    // Alone and without a third vote.
    bench.cluster.expect_in_logs(&WORDS_OF_WAITING);

    // Duplicates wait for their original, and all get its answer.
    let under_way = bench.send_in_vain("waiting", stop_backup, continue_backup).await;
    bench.cluster.node("b").continue_server();
    let mut all = Vec::new();
    for (change, (mut original, mut other)) in under_way.changes.into_iter().zip(under_way.connections) {
        let [first, second, third] =
            [original.receive(), original.receive(), other.receive()].map(|reply| reply.expect("a reply"));
        assert!(first == second && first == third, "{}: answers differ", change.name);
        all.push(bench.settle(change, Some(first)));
    }
    bench.assert_remembered(&all, "by the same primary");

    // The primary dies; what it had sent is in the new one's socket.
    let under_way = bench.send_in_vain("sent", stop_backup, continue_backup).await;
    bench.cluster.node("a").kill_server();
    bench.cluster.node("b").continue_server();
    all.extend(bench.settle_all(under_way.changes));
    bench.cluster.wait_served("b", ONE).await;
    bench.assert_remembered(&all, "by the new primary");
    bench.give_back().await;

    // Both die; only the old primary's log has it.
    let under_way = bench.send_in_vain("alone", leave_alone, Cluster::start_all).await;
    bench.cluster.node("a").kill_server();
    bench.cluster.start_all();
    all.extend(bench.settle_all(under_way.changes));
    bench.cluster.bring_home().await;
    bench.assert_remembered(&all, "after both had died");

    // The new primary never had it: it is done there for the first time, and the old one gives its own up.
    let under_way = bench.send_in_vain("never", leave_alone, Cluster::start_all).await;
    bench.cluster.kill_node("a");
    bench.cluster.start_witness();
    bench.cluster.start_node("b");
    bench.cluster.wait_served("b", ONE).await;
    under_way.changes.iter().for_each(|change| bench.assert_not_done(change));
    all.extend(bench.settle_all(under_way.changes));
    bench.cluster.start_node("a");
    bench.give_back().await;
    bench.assert_remembered(&all, "by a primary that had it first and lost it");
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_whose_reply_was_lost_is_done_once() {
    let mut bench = Bench::start(SLOW).await;
    bench.cluster.expect_in_logs(&WORDS_OF_WAITING);

    // The reply lies in the client's kernel; nobody has read it when the connection ends and the server dies.
    let changes = bench.changes("unread");
    let mut replies = Vec::new();
    for change in &changes {
        let mut connection = bench.connect();
        connection.send(&change.record).expect("send");
        replies.push(connection.peek().expect("a reply"));
        connection.reset().expect("reset the connection");
    }
    bench.kill_primary().await;
    let mut all: Vec<Done> =
        changes.into_iter().zip(replies).map(|(change, reply)| bench.settle(change, Some(reply))).collect();
    bench.assert_remembered(&all, "by the new primary");
    bench.give_back().await;

    // The client is gone when the reply is to be sent.
    let under_way = bench.send_in_vain("gone", stop_backup, continue_backup).await;
    let last = bench.index_of(|export| export.last_index).await;
    for (original, other) in under_way.connections {
        original.reset().expect("reset a connection");
        other.reset().expect("reset a connection");
    }
    bench.cluster.node("b").continue_server();
    bench.wait_index(|export| export.commit_index, last).await;
    bench.kill_primary().await;
    for change in &under_way.changes {
        assert_eq!(bench.names(&change.dir), change.once, "{}: committed and then lost", change.name);
    }
    all.extend(bench.settle_all(under_way.changes));
    bench.assert_remembered(&all, "by the new primary");
    bench.give_back().await;
    bench.assert_remembered(&all, "after the giveback");
    bench.end().await;
}
