//! Drives a cluster: starts and kills its processes, waits for what their status says.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use hanfs::cli::{AdminLink, Health, Moment, health};
use hanfs::client::Target;
use hanfs::config::Config;
use proto::admin::{ExportStatus, StatusReply, TakeoverRequest, TakeoverResult};
use tempfile::TempDir;

use super::process::Process;
use super::shape::{EXPORTS, NODES, Shape};
use super::{disk, logs};
use crate::binary;

/// For anything that is to happen: far longer than it takes, for the machine may be busy.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks.
const POLL: Duration = Duration::from_millis(50);
/// What nodes say when processes around them are killed or not up yet. It is meant for people, and expected in tests
/// that kill and start.
const WORDS_OF_KILLING: [&str; 4] = [
    "the witness does not answer",
    "the other node's server process died",
    "the server died",
    "the peer is lost: this node goes on alone",
];

/// See the module.
pub struct Cluster {
    /// Configuration, keys, data, logs.
    pub dir: PathBuf,
    /// The configuration.
    pub config: Config,
    link: AdminLink,
    configs: [PathBuf; 2],
    nodes: [Option<Process>; 2],
    witness: Option<Process>,
    expected: Vec<String>,
    _dir: TempDir,
}

impl Cluster {
    /// Its files; no process yet.
    pub fn files(shape: &Shape) -> Self {
        let mut dir = TempDir::with_prefix("hanfs-pair-").expect("make a directory");
        // What explains a failure stays, where somebody wants to look at it.
        dir.disable_cleanup(std::env::var_os("HANFS_TEST_KEEP").is_some());
        let path = shape.write(dir.path());
        let config = Config::load(&path).expect("read the configuration");
        let link = AdminLink::new(config.clone(), NODES[0].to_owned()).expect("read the keys");
        Self {
            dir: dir.path().to_owned(),
            config,
            link,
            configs: [path.clone(), path],
            nodes: [None, None],
            witness: None,
            expected: WORDS_OF_KILLING.map(str::to_owned).into(),
            _dir: dir,
        }
    }

    /// All of it started, every export served at home and mirrored.
    pub async fn start(shape: &Shape) -> Self {
        let mut cluster = Self::files(shape);
        cluster.start_all();
        cluster.bring_home().await;
        cluster
    }

    /// Each node gets a configuration file of its own, as on two boxes. Before they start.
    pub fn own_files(&mut self) {
        for (name, config) in NODES.iter().zip(&mut self.configs) {
            let dir = self.dir.join(format!("etc-{name}"));
            std::fs::create_dir_all(dir.join("keys")).expect("make a directory");
            for key in std::fs::read_dir(self.config.keys_dir()).expect("list the keys") {
                let key = key.expect("list the keys");
                std::fs::copy(key.path(), dir.join("keys").join(key.file_name())).expect("copy a key");
            }
            let own = dir.join("hanfs.toml");
            std::fs::copy(&*config, &own).expect("copy the configuration");
            *config = own;
        }
    }

    /// A node's configuration file.
    pub fn config_of(&self, name: &str) -> PathBuf {
        self.configs[index(name)].clone()
    }

    /// Looks at the first node's file again, after an order that changed it.
    pub fn reread(&mut self) {
        let path = std::mem::take(&mut self.config.path);
        self.config = Config::load(&self.configs[0]).expect("read the configuration");
        self.config.path = path;
    }

    /// Starts what does not run.
    pub fn start_all(&mut self) {
        if self.config.witness.is_some() && self.witness.is_none() {
            self.start_witness();
        }
        for (i, name) in NODES.iter().enumerate().take(self.config.nodes.len()) {
            if self.nodes[i].is_none() {
                self.start_node(name);
            }
        }
    }

    /// Starts `a` or `b`.
    pub fn start_node(&mut self, name: &str) {
        let config = self.config_of(name).display().to_string();
        let args = ["--config", &config, "--node", name, "serve"];
        self.nodes[index(name)] = Some(Process::start(&args, &self.log(name)));
    }

    /// Starts the witness.
    pub fn start_witness(&mut self) {
        let config = self.config.path.display().to_string();
        self.witness = Some(Process::start(&["--config", &config, "witness"], &self.log("witness")));
    }

    /// Where `a`, `b` or `witness` write to.
    pub fn log(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.log"))
    }

    /// A node's process.
    pub fn node(&self, name: &str) -> &Process {
        self.nodes[index(name)].as_ref().expect("the node was started")
    }

    /// SIGKILL to guardian and server.
    pub fn kill_node(&mut self, name: &str) {
        self.nodes[index(name)].take().expect("the node was started").kill();
    }

    /// SIGKILL to the witness.
    pub fn kill_witness(&mut self) {
        self.witness.take().expect("the witness was started").kill();
    }

    /// SIGKILL to everything.
    pub fn kill_all(&mut self) {
        let all = self.nodes.iter_mut().chain([&mut self.witness]);
        all.filter_map(Option::take).for_each(Process::kill);
    }

    /// SIGTERM to a node, and how it ended.
    pub fn stop_node(&mut self, name: &str) -> ExitStatus {
        self.nodes[index(name)].take().expect("the node was started").terminate(PATIENCE)
    }

    /// How a node ended that ends by itself.
    pub fn wait_end(&mut self, name: &str) -> ExitStatus {
        self.nodes[index(name)].take().expect("the node was started").wait(PATIENCE)
    }

    /// A node's data directory.
    pub fn data(&self, name: &str) -> &Path {
        &self.config.node(name).expect("a node of the cluster").data
    }

    /// An export's directory on a node.
    pub fn export_dir(&self, name: &str, path: &str) -> PathBuf {
        let export = self.config.export(path).expect("an export of the cluster");
        self.data(name).join("exports").join(export.id.to_string())
    }

    /// Where an export is mounted from.
    pub fn target(&self, path: &str) -> Target {
        let export = self.config.export(path).expect("an export of the cluster");
        Target { address: export.vip.address, port: self.config.network.nfs_port, path: path.to_owned() }
    }

    /// What a node says of itself.
    pub async fn status(&self, node: &str) -> Option<StatusReply> {
        self.link.status_of(node).await.ok()
    }

    /// What a node says about an export.
    pub async fn export(&self, node: &str, path: &str) -> Option<ExportStatus> {
        self.status(node).await?.exports.into_iter().find(|e| e.path == path)
    }

    /// The health of all of it, as `hanfs status` says it.
    pub async fn health(&self) -> Health {
        health(&self.link.views().await, &Moment::now())
    }

    /// Runs a command of the command line, as an administrator on a node would.
    pub fn hanfs(&self, node: &str, args: &[&str]) -> Output {
        Command::new(binary::hanfs())
            .args(["--config", &self.config_of(node).display().to_string(), "--node", node])
            .args(args)
            .stdin(Stdio::null())
            .output()
            .expect("run hanfs")
    }

    /// `hanfs status --json` on a node.
    pub fn status_json(&self, node: &str) -> serde_json::Value {
        let out = self.hanfs(node, &["status", "--json"]);
        serde_json::from_slice(&out.stdout).expect("JSON")
    }

    /// Takes an export over to a node, or gives it back to its home; the node that is asked is the new primary.
    pub async fn take_over(&self, node: &str, path: &str) -> TakeoverResult {
        let home = self.config.export(path).expect("an export of the cluster").home == node;
        let mut client = self.link.connect(node).await.expect("connect to the node");
        let exports = vec![path.to_owned()];
        let request = TakeoverRequest { exports, giveback: home, ..TakeoverRequest::default() };
        let reply = client.takeover(request).await.expect("an answer").into_inner();
        reply.results.into_iter().next().expect("a result")
    }

    /// Waits for something.
    pub async fn wait(&self, what: &str, mut done: impl AsyncFnMut() -> bool) {
        let until = Instant::now() + PATIENCE;
        while !done().await {
            if Instant::now() > until {
                let status = self.hanfs(NODES[0], &["status"]);
                panic!(
                    "{what}: not within {} s\n{}\n{}",
                    PATIENCE.as_secs(),
                    text(&status),
                    self.last_words()
                );
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Waits until a node serves an export.
    pub async fn wait_served(&self, node: &str, path: &str) {
        self.wait(&format!("{path} is served by {node}"), async || {
            self.export(node, path).await.is_some_and(|e| serves(&e))
        })
        .await;
    }

    /// Waits until a node serves an export and the other one mirrors it.
    pub async fn wait_mirrored(&self, node: &str, path: &str) {
        self.wait(&format!("{path} is served by {node} and mirrored"), async || {
            self.export(node, path)
                .await
                .is_some_and(|e| serves(&e) && e.backup_in_sync && e.solo_since_ns == 0)
        })
        .await;
    }

    /// Waits until a node serves each export and, in a pair, the other one mirrors it; then brings it home if the
    /// first election went the other way.
    pub async fn bring_home(&self) {
        for export in &self.config.exports {
            let mut primary = String::new();
            self.wait(&format!("{} is served and mirrored", export.path), async || {
                for node in &self.config.nodes {
                    let Some(seen) = self.export(&node.name, &export.path).await else { continue };
                    if serves(&seen) && (seen.backup_in_sync || self.config.nodes.len() == 1) {
                        primary.clone_from(&node.name);
                        return true;
                    }
                }
                false
            })
            .await;
            if primary != export.home {
                let result = self.take_over(&export.home, &export.path).await;
                assert!(result.ok, "{}: {result:?}", export.path);
            }
            if self.config.nodes.len() > 1 {
                self.wait_mirrored(&export.home, &export.path).await;
            }
        }
    }

    /// Waits until both replicas of every export stand at the same index, and compares what they are made of.
    pub async fn assert_equal_digests(&self, when: &str) {
        for export in &self.config.exports {
            let mut seen = None;
            self.wait(&format!("{}: both nodes at the same index {when}", export.path), async || {
                let a = self.export(NODES[0], &export.path).await;
                let b = self.export(NODES[1], &export.path).await;
                let (Some(a), Some(b)) = (a, b) else { return false };
                let same = a.applied_index == b.applied_index && a.digest_index == b.digest_index;
                seen = Some((a, b));
                same
            })
            .await;
            let (a, b) = seen.expect("seen at least once");
            assert!(a.digest_index > 0, "{}: too few operations to compare digests", export.path);
            assert_eq!(a.digest, b.digest, "{} differs {when}, at index {}", export.path, a.digest_index);
            assert_eq!((a.files, a.bytes_used), (b.files, b.bytes_used), "{} differs {when}", export.path);
        }
    }

    /// The digests at the last index that both have one for, while the load goes on.
    pub async fn assert_equal_digests_under_load(&self, when: &str) {
        for export in &self.config.exports {
            let mut seen = None;
            self.wait(&format!("{}: digests of the same index {when}", export.path), async || {
                let (a, b) =
                    tokio::join!(self.export(NODES[0], &export.path), self.export(NODES[1], &export.path));
                let (Some(a), Some(b)) = (a, b) else { return false };
                let same = a.digest_index == b.digest_index && a.digest_index > 0;
                seen = Some((a.digest_index, a.digest, b.digest));
                same
            })
            .await;
            let (index, a, b) = seen.expect("seen at least once");
            assert_eq!(a, b, "{} differs {when}, at index {index}", export.path);
        }
    }

    /// Stops both nodes cleanly and compares what is on their disks. Returns how many content files there are.
    pub fn assert_same_on_disk(&mut self) -> usize {
        for name in NODES {
            let status = self.stop_node(name);
            assert!(status.success(), "node {name} did not stop cleanly: {status}\n{}", self.last_words());
        }
        let paths: Vec<String> = self.config.exports.iter().map(|e| e.path.clone()).collect();
        let dirs = |node, path| self.export_dir(node, path);
        paths.iter().map(|p| disk::assert_same_content(&dirs("a", p), &dirs("b", p))).sum()
    }

    /// Lines at ERROR or WARN that hold this are what the test is about.
    pub fn expect_in_logs(&mut self, words: &[&str]) {
        self.expected.extend(words.iter().map(|word| (*word).to_owned()));
    }

    /// Nothing at ERROR or WARN beyond what was expected.
    pub fn assert_calm_logs(&self) {
        for name in ["a", "b", "witness"] {
            logs::assert_calm(&self.log(name), &self.expected);
        }
    }

    /// Waits for words in a log.
    pub async fn wait_log(&self, name: &str, words: &str) {
        let log = self.log(name);
        self.wait(&format!("{name} logs {words:?}"), async || logs::read(&log).contains(words)).await;
    }

    /// The ends of all logs.
    pub fn last_words(&self) -> String {
        ["a", "b", "witness"].map(|name| format!("--- {name}:\n{}\n", logs::tail(&self.log(name)))).concat()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.last_words());
        }
    }
}

/// It answers clients.
pub fn serves(export: &ExportStatus) -> bool {
    export.role == "primary" && export.serving && export.vip_held
}

/// A node's place.
fn index(name: &str) -> usize {
    usize::from(name == NODES[1])
}

/// Both streams of a command's output.
pub fn text(out: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr))
}

/// The first export.
pub const ONE: &str = EXPORTS[0];
/// The second export.
pub const TWO: &str = EXPORTS[1];
