//! What a cluster is to be, and its files.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use hanfs::config::{Config, Driver, Durability};
use hanfs::init::{self, Plan, PlanExport, PlanNode};
use uuid::Uuid;

/// Names of nodes.
pub const NODES: [&str; 2] = ["a", "b"];
/// Exports; the first is at home on `a`, the second on `b`.
pub const EXPORTS: [&str; 2] = ["/one", "/two"];
/// Peers and administrators.
const PEER_PORT: u16 = 7400;
/// Clients.
const NFS_PORT: u16 = 20_490;
/// Longer than the product's defaults: a machine that runs tests is busier than one that serves files, and no
/// scenario is about a takeover that nobody caused.
pub const TIMING: &str =
    "ping_ms = 50\nlease_ms = 1500\npromise_ms = 1600\ndetect_ms = 1700\nstall_ms = 6000";

/// See the module.
#[derive(Clone)]
pub struct Shape {
    /// 1 or 2.
    pub nodes: usize,
    /// A witness process.
    pub witness: bool,
    /// How many of [`EXPORTS`].
    pub exports: usize,
    /// Of every export.
    pub durability: Durability,
    /// Lines of `[arbiter]`; with a witness: none.
    pub arbiter: String,
    /// Lines of `[limits]`.
    pub limits: &'static str,
    /// Lines of `[timing]`.
    pub timing: &'static str,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            nodes: 2,
            witness: true,
            exports: 1,
            durability: Durability::Disk,
            arbiter: String::new(),
            limits: "cache_mb = 16",
            timing: TIMING,
        }
    }
}

impl Shape {
    /// Two nodes, no witness, and these lines of `[arbiter]`.
    pub fn with_arbiter(lines: impl Into<String>) -> Self {
        Self { witness: false, arbiter: lines.into(), ..Self::default() }
    }

    /// Writes configuration and keys into a directory. Returns where the configuration is.
    pub fn write(&self, dir: &Path) -> PathBuf {
        let written = init::write(&self.plan(dir), dir).expect("make the cluster's files");
        let text = std::fs::read_to_string(&written.config).expect("read the configuration");
        std::fs::write(&written.config, self.adapt(&text)).expect("write the configuration");
        Config::load(&written.config).expect("a valid configuration");
        written.config
    }

    fn adapt(&self, text: &str) -> String {
        let mut text = text
            .replace("[timing]\n", &format!("[timing]\n{}\n", self.timing))
            .replace("[limits]\n", &format!("[limits]\n{}\n", self.limits));
        if !self.arbiter.is_empty() {
            text = text.replace("kind = \"none\"", &self.arbiter);
        }
        text
    }

    fn plan(&self, dir: &Path) -> Plan {
        let ip = addresses();
        let peer = |last| SocketAddr::new(IpAddr::V4(ip(last)), PEER_PORT);
        let names = NODES.iter().take(self.nodes);
        let exports = EXPORTS.iter().zip(NODES).take(self.exports);
        Plan {
            cluster: Uuid::new_v4(),
            nodes: (1..)
                .zip(names)
                .map(|(last, name)| PlanNode {
                    name: (*name).to_owned(),
                    address: peer(last),
                    data: dir.join(name),
                })
                .collect(),
            witness: self.witness.then(|| (peer(3), dir.join("witness"))),
            exports: (4..)
                .zip(exports)
                .map(|(last, (path, home))| PlanExport {
                    path: (*path).to_owned(),
                    id: Uuid::new_v4(),
                    home: home.to_owned(),
                    vip: format!("{}/8", ip(last)),
                    durability: self.durability,
                })
                .collect(),
            driver: Driver::Loopback,
            nfs_port: NFS_PORT,
            portmap_port: 0,
        }
    }
}

/// Loopback addresses that no other test has, by their last few bits (0 to 7). Of this process's id and a counter, and tried.
fn addresses() -> impl Fn(u8) -> Ipv4Addr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let cluster = NEXT.fetch_add(1, Ordering::Relaxed);
        // 127.128.0.0 to 127.255.255.255, eight addresses a cluster.
        let block = std::process::id().wrapping_mul(32).wrapping_add(cluster) & 0xf_ffff;
        let base = 0x7f80_0000 | block << 3;
        let address = move |last: u8| Ipv4Addr::from(base | u32::from(last));
        let free =
            |last| [PEER_PORT, NFS_PORT].iter().all(|port| TcpListener::bind((address(last), *port)).is_ok());
        if (1..8).all(free) {
            return address;
        }
        assert!(cluster < 1000, "no free loopback addresses: is the loopback network up?");
    }
}
