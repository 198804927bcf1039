//! A guardian as a process of its own, with a fake server under it. Both are the test binary itself, started anew
//! with [`ENV_ROLE`]; each test file has a test `role` that plays the part.
#![allow(dead_code, reason = "each test file uses its own part")]

pub mod peer;

use std::ffi::OsString;
use std::fs;
use std::io::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use failover::guardian::{
    Driver, GuardianConfig, GuardianExport, GuardianPeer, GuardianTiming, ServerCommand, run,
};
use failover::link::{EXIT_FATAL, GuardianLink, LinkEvent};
use failover::net::Port;
use proto::peer::{Hello, PEER_VERSION};
use replica::clock::monotonic_ns;
use replica::ids::ExportId;

const ENV_ROLE: &str = "FAKE_ROLE";
const ENV_DIR: &str = "FAKE_DIR";
const ENV_VIP: &str = "FAKE_VIP";
const ENV_DRIVER: &str = "FAKE_DRIVER";
const ENV_PEER: &str = "FAKE_PEER";

pub const EXPORT: ExportId = ExportId([7; 16]);
pub const CLUSTER: &[u8] = b"0123456789abcdef";
pub const PORT: u16 = 32049;
pub const LEASE: Duration = Duration::from_millis(500);
/// The guardians under test wait so long for the peer to take over.
pub const HANDOVER: Duration = Duration::from_secs(2);

pub fn hello(node: &str) -> Hello {
    Hello { version: PEER_VERSION, cluster: CLUSTER.into(), node: node.into(), ..Hello::default() }
}

/// Plays the part that the environment names; returns at once in an ordinary test run.
pub fn role() {
    match std::env::var(ENV_ROLE).as_deref() {
        Ok("guardian") => guardian(),
        Ok("sentinel") => {
            let dir = PathBuf::from(std::env::var_os(ENV_DIR).unwrap());
            append(&dir, format!("sentinel {}", std::process::id()));
            std::process::exit(failover::sentinel::run().into());
        }
        Ok("server") => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            std::process::exit(runtime.block_on(server()));
        }
        _ => {}
    }
}

fn again() -> Vec<OsString> {
    ["role", "--exact", "--nocapture", "--test-threads=1"].iter().map(OsString::from).collect()
}

fn guardian() {
    let peer = std::env::var(ENV_PEER).ok().map(|uri| GuardianPeer {
        endpoint: tonic::transport::Endpoint::from_shared(uri).unwrap(),
        hello: hello("alpha"),
    });
    let driver = std::env::var(ENV_DRIVER).unwrap();
    let config = GuardianConfig {
        server: ServerCommand {
            program: "/proc/self/exe".into(),
            args: again(),
            envs: vec![(ENV_ROLE.into(), "server".into())],
        },
        sentinel: ServerCommand {
            program: "/proc/self/exe".into(),
            args: again(),
            envs: vec![(ENV_ROLE.into(), "sentinel".into())],
        },
        exports: vec![GuardianExport {
            id: EXPORT,
            vip: std::env::var(ENV_VIP).unwrap().parse().unwrap(),
            interface: None,
        }],
        ports: vec![Port::tcp(PORT), Port::udp(PORT)],
        driver: if driver == "netlink" { Driver::Netlink } else { Driver::Loopback },
        peer,
        timing: GuardianTiming { handover: HANDOVER, ..GuardianTiming::default() },
    };
    let code = run(config).unwrap_or_else(|e| {
        eprintln!("guardian: {e}");
        1
    });
    std::process::exit(code.into());
}

/// Answers each connection with its name, after it has read something. Raises the VIP while the file `raise` is
/// there at its start; ends as "fatal" when the file `fatal` is. Tells the guardian of the exports in the file `exports`
/// (a line each: a number and a VIP) whenever that changes, and raises those that are new.
async fn server() -> i32 {
    let dir = PathBuf::from(std::env::var_os(ENV_DIR).unwrap());
    let here = dir.clone();
    let log = move |line: String| append(&here, line);
    let link = std::rc::Rc::new(GuardianLink::from_env().unwrap().unwrap());
    let id = link.process_id();
    log(format!("start {} {id}", std::process::id()));
    if dir.join("fatal").exists() {
        return EXIT_FATAL.into();
    }
    let local = tokio::task::LocalSet::new();
    let leasing = link.clone();
    let leased = std::rc::Rc::new(std::cell::RefCell::new(vec![EXPORT]));
    let leases = leased.clone();
    local.spawn_local(async move {
        loop {
            for export in leases.borrow().iter() {
                leasing.lease(*export, monotonic_ns() + LEASE.as_nanos() as u64);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    let (listing, list, told) = (link.clone(), dir.join("exports"), log.clone());
    local.spawn_local(async move {
        let mut before = String::new();
        loop {
            let text = fs::read_to_string(&list).unwrap_or_default();
            if text != before {
                let exports: Vec<GuardianExport> = text.lines().map(export_of).collect();
                told(format!("exports: {:?}", listing.exports(exports.clone()).await));
                let new: Vec<ExportId> =
                    exports.iter().map(|e| e.id).filter(|id| !leased.borrow().contains(id)).collect();
                for id in new {
                    leased.borrow_mut().push(id);
                    listing.lease(id, monotonic_ns() + LEASE.as_nanos() as u64);
                    match listing.raise(id, Vec::new()).await {
                        Ok(listeners) => {
                            listeners.tcp.into_iter().for_each(|l| serve(l, listing.process_id()))
                        }
                        Err(e) => told(format!("refused: {e}")),
                    }
                }
                before = text;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let mut term = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).unwrap();
    local
        .run_until(async move {
            if dir.join("raise").exists() {
                link.lease(EXPORT, monotonic_ns() + LEASE.as_nanos() as u64);
                match link.raise(EXPORT, Vec::new()).await {
                    Ok(listeners) => listeners.tcp.into_iter().for_each(|l| serve(l, id)),
                    Err(e) => log(format!("refused: {e}")),
                }
            }
            loop {
                tokio::select! {
                    event = link.next_event() => {
                        log(format!("{event:?}"));
                        if event == LinkEvent::GuardianGone {
                            return 1;
                        }
                    }
                    _ = term.recv() => {
                        log("terminated".into());
                        link.stopping().await;
                        return 0;
                    }
                }
            }
        })
        .await
}

/// A line in the log of this test's processes.
fn append(dir: &Path, line: String) {
    let mut f = fs::OpenOptions::new().create(true).append(true).open(dir.join("log")).unwrap();
    // In one write: several processes append.
    f.write_all(format!("{line}\n").as_bytes()).unwrap();
}

/// An export as a line of the file `exports` names it.
fn export_of(line: &str) -> GuardianExport {
    let (number, vip) = line.split_once(' ').unwrap();
    GuardianExport { id: ExportId([number.parse().unwrap(); 16]), vip: vip.parse().unwrap(), interface: None }
}

fn serve(listener: std::net::TcpListener, id: u64) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    tokio::task::spawn_local(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::task::spawn_local(async move {
                let mut byte = [0];
                while stream.read_exact(&mut byte).await.is_ok() {
                    let _ = stream.write_all(&id.to_be_bytes()).await;
                }
            });
        }
    });
}

/// A running guardian; SIGKILL when dropped.
pub struct Guardian {
    pub process: Child,
    pub dir: tempfile::TempDir,
}

impl Guardian {
    pub fn start(driver: &str, vip: IpAddr, peer: Option<String>, files: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for file in files {
            fs::write(dir.path().join(file), "").unwrap();
        }
        let mut command = Command::new("/proc/self/exe");
        command
            .args(again())
            .env(ENV_ROLE, "guardian")
            .env(ENV_DIR, dir.path())
            .env(ENV_DRIVER, driver)
            .env(ENV_VIP, vip.to_string());
        if let Some(peer) = peer {
            command.env(ENV_PEER, peer);
        }
        Self { process: command.spawn().unwrap(), dir }
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// (pid, process id) of every server so far.
    pub fn servers(&self) -> Vec<(i32, u64)> {
        self.log()
            .lines()
            .filter_map(|l| {
                let mut words = l.strip_prefix("start ")?.split(' ');
                Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
            })
            .collect()
    }

    /// Pid of every sentinel so far.
    pub fn sentinels(&self) -> Vec<i32> {
        self.log().lines().filter_map(|l| l.strip_prefix("sentinel ")?.parse().ok()).collect()
    }

    /// Another list of exports, put in place as a whole.
    pub fn exports(&self, lines: &str) {
        let new = self.path("exports.new");
        fs::write(&new, lines).unwrap();
        fs::rename(new, self.path("exports")).unwrap();
    }

    pub fn path(&self, file: &str) -> PathBuf {
        self.dir.path().join(file)
    }
}

impl Drop for Guardian {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("what its processes said:\n{}", self.log());
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub fn signal(pid: i32, signal: rustix::process::Signal) {
    rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), signal).unwrap();
}

/// Real processes take real time: waits until it is so, 20 s at most.
pub fn until(what: &str, mut so: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !so() {
        assert!(start.elapsed() < Duration::from_secs(20), "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
    start.elapsed()
}

/// A process's state as the kernel shows it (proc(5)): T is stopped, Z a zombie.
pub fn state(pid: i32) -> Option<char> {
    let stat = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).ok()?;
    stat.rsplit(')').next()?.trim_start().chars().next()
}

pub fn alive(pid: i32) -> bool {
    state(pid).is_some_and(|s| s != 'Z')
}
