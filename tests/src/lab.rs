//! The lab: two nodes and a witness in network namespaces, and a virtual machine with a real Linux kernel client.
//!
//! The scripts in `tests/lab/` make it (see the README there). It needs root; everything is in namespaces of its own,
//! nothing reaches the machine's network. [`Lab`] starts the program under test in it, drives client and nodes, and takes everything
//! down when it is dropped.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::binary;

/// Home of each export, with its virtual IP.
pub const EXPORTS: [(&str, &str, &str); 2] = [("/one", "a", "10.77.0.100"), ("/two", "b", "10.77.0.101")];

/// A pause this long is of another kind than a takeover: a client that nobody tells of a lost connection waits for 60 s. It is no
/// bound on a takeover, for the machine may be slow and emulates the client. Milliseconds.
pub const PAUSE_MS_MAX: u64 = 15_000;
/// A load without an end ends all the same, seconds.
const LOAD_S_MAX: u32 = 7200;
/// An operation belongs to an event that it began this long before, seconds.
const JUST_BEFORE_S: f64 = 0.3;
/// How long a load runs before something happens to it.
const WARM_UP: Duration = Duration::from_secs(3);

/// One way for the primary of `/one`, node a, to go.
pub struct Kind {
    /// One word, for the command line.
    pub name: &'static str,
    /// In a sentence.
    pub what: &'static str,
    /// It goes.
    pub happen: fn(&mut Lab),
    /// Makes a whole again.
    pub mend: fn(&mut Lab),
}

const KINDS: [Kind; 6] = [
    Kind {
        name: "killed",
        what: "server process killed, its guardian lives",
        happen: |lab| lab.kill_server("a"),
        mend: |_| (),
    },
    Kind {
        name: "cut",
        what: "node cut off without a word, its processes live",
        happen: |lab| lab.net(&["cut", "a"]),
        mend: |lab| lab.net(&["heal", "a"]),
    },
    Kind {
        name: "node",
        what: "server and guardian killed, the host lives",
        happen: |lab| lab.kill_node("a"),
        mend: |lab| lab.start_node("a"),
    },
    Kind {
        name: "host",
        what: "host gone without a word",
        happen: |lab| lab.lose_host("a"),
        mend: |lab| lab.host_returns("a"),
    },
    Kind {
        name: "stopped",
        what: "server process stopped (SIGSTOP), later continued",
        happen: |lab| lab.stop_server("a"),
        mend: |lab| lab.continue_server("a"),
    },
    Kind {
        name: "planned",
        what: "planned takeover",
        happen: |lab| {
            // Refused, with the reason, where node a does not serve it just then: a lease lapses on a machine that is too busy.
            lab.wait("node b takes /one over", || lab.hanfs("b", &["takeover", "/one"]).status.success());
        },
        mend: |_| (),
    },
];

/// The kinds that HANFS_TAKEOVER_KINDS names (`killed,planned`); all where it does not.
pub fn kinds() -> impl Iterator<Item = &'static Kind> {
    let chosen = std::env::var("HANFS_TAKEOVER_KINDS").unwrap_or_default();
    KINDS.iter().filter(move |kind| chosen.is_empty() || chosen.split(',').any(|name| name == kind.name))
}

/// How often a test is to repeat itself: HANFS_TAKEOVERS, else `default` where the lab is wanted (HANFS_TEST_LAB, which
/// `tests/run` sets), else not at all.
pub fn times(default: usize) -> Option<usize> {
    match std::env::var("HANFS_TAKEOVERS") {
        Ok(n) => Some(n.parse().expect("HANFS_TAKEOVERS is a number")),
        Err(_) if std::env::var_os("HANFS_TEST_LAB").is_some() => Some(default),
        Err(_) => {
            println!("skipped: set HANFS_TEST_LAB=1 (needs root)");
            None
        }
    }
}

/// See the module.
pub struct Lab {
    scripts: PathBuf,
    /// Data, configuration and logs of this run.
    pub dir: PathBuf,
    nodes: [Option<Child>; 2],
    witness: Option<Child>,
    /// There is to be a witness.
    third: bool,
}

impl Lab {
    /// Makes the network, the virtual machine `c1`, and a fresh cluster that is not started yet.
    pub fn up() -> Self {
        let lab = Self::without_clients(true);
        lab.start_client("c1");
        lab
    }

    /// The same without a virtual machine: for probes (`crate::probe`). What the nodes say to each other goes over their own link.
    /// `third`: with a witness.
    pub fn without_clients(third: bool) -> Self {
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("lab");
        let root = std::env::var("HANFS_LAB_DIR").unwrap_or_else(|_| "/tmp/hanfs-lab".into());
        let dir = Path::new(&root).join("cluster");
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).expect("make the cluster's directory");
        let mut lab = Self { scripts, dir, nodes: [None, None], witness: None, third };
        lab.script("vm.py", &["stop-all"]);
        lab.script("net.sh", &["down"]);
        lab.must("net.sh", &["up"]);
        lab.configure();
        lab
    }

    fn configure(&mut self) {
        let config = self.dir.join("config");
        let mut args = vec!["init".to_owned(), "--dir".into(), config.display().to_string()];
        args.extend(["a=10.77.0.11:7400", "b=10.77.0.12:7400"].map(str::to_owned));
        if self.third {
            args.extend(["--witness", "10.77.0.13:7400"].map(str::to_owned));
        }
        for (path, home, vip) in EXPORTS {
            args.extend(["--export".into(), format!("{path}:{home}:{vip}/24")]);
        }
        let out = Command::new(binary::hanfs()).args(&args).output().expect("run hanfs init");
        assert!(out.status.success(), "hanfs init: {}", text(&out));
        let file = config.join("hanfs.toml");
        let toml = std::fs::read_to_string(&file).expect("read the configuration");
        std::fs::write(&file, adapt(&toml, &self.dir)).expect("write the configuration");
    }

    fn config(&self) -> PathBuf {
        self.dir.join("config/hanfs.toml")
    }

    fn script(&self, name: &str, args: &[&str]) -> Output {
        Command::new(self.scripts.join(name))
            .args(args)
            .stdin(Stdio::null())
            .output()
            .expect("run a script of the lab")
    }

    fn must(&self, name: &str, args: &[&str]) -> String {
        let out = self.script(name, args);
        assert!(out.status.success(), "{name} {args:?}: {}", text(&out));
        String::from_utf8_lossy(&out.stdout).into_owned()
    }

    fn spawn(&self, namespace: &str, log: &str, args: &[&str]) -> Child {
        let log =
            std::fs::File::options().create(true).append(true).open(self.dir.join(log)).expect("open a log");
        Command::new("ip")
            .args(["netns", "exec", &format!("hanfs-{namespace}")])
            .arg(binary::hanfs())
            .args(args)
            .args(["--config", &self.config().display().to_string()])
            .env("RUST_LOG", std::env::var("RUST_LOG").unwrap_or_else(|_| "info".into()))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("share the log"))
            .stderr(log)
            .spawn()
            .expect("start a process in the lab")
    }

    /// Starts node `a` or `b` (its guardian, which starts its server).
    pub fn start_node(&mut self, name: &str) {
        let child = self.spawn(name, &format!("node-{name}.log"), &["serve", "--node", name]);
        self.nodes[index(name)] = Some(child);
    }

    /// Starts the witness.
    pub fn start_witness(&mut self) {
        self.witness = Some(self.spawn("w", "witness.log", &["witness"]));
    }

    /// Starts another client VM, `c2` to `c9`.
    pub fn start_client(&self, name: &str) {
        self.must("vm.py", &["start", name]);
    }

    /// A power cut of a client; `while_off` happens; it boots again and its statd tells the servers, as after any boot. Its
    /// disk forgets everything but statd's own state, which it would have kept.
    pub fn power_cycle(&self, client: &str, while_off: impl FnOnce(&Self)) {
        let kept = self.dir.join(format!("{client}-statd"));
        let kept = kept.display().to_string();
        self.must("vm.py", &["get", client, "/var/lib/nfs", &kept]);
        self.must("vm.py", &["stop", client]);
        while_off(self);
        self.must("vm.py", &["start", client]);
        self.must("vm.py", &["put", client, &format!("{kept}/nfs"), "/var/lib"]);
        // On the way through this machine the owner became another.
        self.on(client, 60, "chown -R statd /var/lib/nfs/sm /var/lib/nfs/sm.bak && sm-notify -f");
    }

    /// SIGKILL to guardian and server of a node at once. Its sentinel has seen it when this returns.
    pub fn kill_node(&mut self, name: &str) {
        if let Some(child) = self.nodes[index(name)].take() {
            let (sentinels, servers) = parts(child.id());
            kill_all(child, servers);
            until_gone(&sentinels);
        }
    }

    /// SIGKILL to every process of a node at once, its sentinel too.
    fn kill_all_of_node(&mut self, name: &str) {
        if let Some(child) = self.nodes[index(name)].take() {
            kill_tree(child);
        }
    }

    /// A node's host is gone from one instant to the next: nothing more leaves it, not even a refusal.
    pub fn lose_host(&mut self, name: &str) {
        self.must("net.sh", &["cut", name]);
        self.kill_all_of_node(name);
    }

    /// It has booted again, with no address but its own, and its node starts.
    pub fn host_returns(&mut self, name: &str) {
        for (_, _, vip) in EXPORTS {
            let _ = Command::new("ip")
                .args(["-n", &format!("hanfs-{name}"), "address", "del", &format!("{vip}/32"), "dev", "eth0"])
                .output();
        }
        self.must("net.sh", &["heal", name]);
        self.start_node(name);
    }

    /// A command of `net.sh`.
    pub fn net(&self, args: &[&str]) {
        self.must("net.sh", args);
    }

    /// SIGKILL to the server process of a node; its guardian lives.
    pub fn kill_server(&self, name: &str) {
        self.signal_server(name, rustix::process::Signal::KILL);
    }

    /// SIGSTOP to the server process of a node: its kernel goes on acknowledging, nobody answers.
    pub fn stop_server(&self, name: &str) {
        self.signal_server(name, rustix::process::Signal::STOP);
    }

    /// SIGCONT after [`Self::stop_server`].
    pub fn continue_server(&self, name: &str) {
        self.signal_server(name, rustix::process::Signal::CONT);
    }

    fn signal_server(&self, name: &str, signal: rustix::process::Signal) {
        let guardian = self.nodes[index(name)].as_ref().expect("the node runs").id();
        parts(guardian).1.into_iter().for_each(|pid| send(pid, signal));
    }

    /// SIGKILL to the witness.
    pub fn kill_witness(&mut self) {
        if let Some(child) = self.witness.take() {
            kill_tree(child);
        }
    }

    /// Runs any command in a node's namespace; its output.
    pub fn in_node(&self, node: &str, command: &[&str]) -> String {
        let out = Command::new("ip")
            .args(["netns", "exec", &format!("hanfs-{node}")])
            .args(command)
            .stdin(Stdio::null())
            .output()
            .expect("run a command in a namespace");
        assert!(out.status.success(), "on {node}: {command:?}: {}", text(&out));
        String::from_utf8_lossy(&out.stdout).into_owned()
    }

    /// Runs a program of the cluster's in a node's namespace, as an administrator there would.
    pub fn hanfs(&self, node: &str, args: &[&str]) -> Output {
        Command::new("ip")
            .args(["netns", "exec", &format!("hanfs-{node}")])
            .arg(binary::hanfs())
            .args(args)
            .args(["--config", &self.config().display().to_string(), "--node", node])
            .stdin(Stdio::null())
            .output()
            .expect("run hanfs")
    }

    /// A node's own view, as `hanfs status --json` gives it; `None` where it does not answer.
    pub fn status(&self, node: &str) -> Option<Value> {
        let out = self.hanfs(node, &["status", "--json"]);
        let value: Value = serde_json::from_slice(&out.stdout).ok()?;
        // It falls back to the other node: that one's view is asked for by its own name.
        (value["node"] == node).then_some(value)
    }

    /// An export in a node's view.
    pub fn export(&self, node: &str, path: &str) -> Option<Value> {
        let status = self.status(node)?;
        status["exports"].as_array()?.iter().find(|e| e["path"] == path).cloned()
    }

    /// Starts everything, and waits until each export is protected and at home: on a busy machine the other node may have won
    /// its first election.
    pub fn start_all(&mut self) {
        if self.third {
            self.start_witness();
        }
        self.start_node("a");
        self.start_node("b");
        for (path, home, _) in EXPORTS {
            self.wait(&format!("{path} is protected"), || {
                ["a", "b"].iter().any(|node| self.is_served(path, node, true))
            });
            let out = self.hanfs(home, &["giveback", path]);
            assert!(out.status.success(), "{}\n{}", text(&out), self.describe());
            self.wait_served(path, home, true);
        }
    }

    /// Waits until `path` is served by `node`; with `protected`, with its backup in sync.
    pub fn wait_served(&self, path: &str, node: &str, protected: bool) {
        self.wait(&format!("{path} on {node}, protected: {protected}"), || {
            self.is_served(path, node, protected)
        });
    }

    /// See [`Self::wait_served`].
    pub fn is_served(&self, path: &str, node: &str, protected: bool) -> bool {
        let Some(export) = self.export(node, path) else { return false };
        export["serving"] == true
            && export["vip_held"] == true
            && (!protected || export["backup_in_sync"] == true)
    }

    /// Waits for something, looking a few times a second, for a minute at most.
    pub fn wait(&self, what: &str, mut done: impl FnMut() -> bool) {
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(60) {
            if done() {
                return;
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        panic!("{what}: not within a minute\n{}", self.describe());
    }

    /// What the nodes say, and the ends of the logs.
    pub fn describe(&self) -> String {
        let mut all = String::new();
        for node in ["a", "b"] {
            all += &format!("-- status of {node}\n{}\n", text(&self.hanfs(node, &["status"])));
        }
        for log in ["node-a.log", "node-b.log", "witness.log"] {
            let text = std::fs::read_to_string(self.dir.join(log)).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            let end = lines[lines.len().saturating_sub(40)..].join("\n");
            all += &format!("-- {log}\n{end}\n");
        }
        all
    }

    /// Runs a shell script on client `c1`; its output. Fails the test if the script fails.
    pub fn client(&self, timeout_s: u32, script: &str) -> String {
        self.on("c1", timeout_s, script)
    }

    /// The same on a client of that name.
    pub fn on(&self, name: &str, timeout_s: u32, script: &str) -> String {
        let out = self.access(name).run(timeout_s, script);
        assert!(out.status.success(), "on {name}: {script}\n{}\n{}", text(&out), self.describe());
        String::from_utf8_lossy(&out.stdout).into_owned()
    }

    /// Copies something of the lab's, a file or a directory, to a client's `/root`.
    pub fn put(&self, client: &str, what: &str) {
        self.must("vm.py", &["put", client, &self.scripts.join(what).display().to_string(), "/root"]);
    }

    /// A way to a client for another thread, or for who judges the outcome.
    pub fn access(&self, name: &str) -> Client {
        Client { vm: self.scripts.join("vm.py"), name: name.to_owned() }
    }

    /// Mounts every export on these clients, with no options, under `/mnt`, and puts the writer there.
    pub fn mount_all(&self, clients: &[&str]) {
        for client in clients {
            self.put(client, "writer.py");
            for (path, _, vip) in EXPORTS {
                let script = format!(
                    "mkdir -p /mnt{path} && mount -t nfs {vip}:{path} /mnt{path} && grep ' /mnt{path} nfs ' /proc/mounts"
                );
                self.on(client, 60, &script);
            }
        }
    }

    /// Has the client work on every export for some seconds, in directories of this name, while `event` happens after
    /// the first few. What its programs were told is compared with what is there, and removed. The longest pause of
    /// any of its rounds (some ten operations), ms.
    pub fn under_load(&mut self, name: &str, seconds: u32, event: impl FnOnce(&mut Self)) -> u64 {
        let client = self.access("c1");
        let script = format!(
            "w() {{ python3 /root/writer.py \"$@\"; }}
             w work /mnt/one/{name} {seconds} /root/one.json & p=$!
             w work /mnt/two/{name} {seconds} /root/two.json && wait $p && w verify /root/one.json && w verify /root/two.json &&
             rm -r /mnt/one/{name} /mnt/two/{name}"
        );
        let load = std::thread::spawn(move || client.run(seconds + 180, &script));
        std::thread::sleep(WARM_UP);
        event(self);
        let out = load.join().expect("the load ran");
        assert!(out.status.success(), "{name}: {}\n{}", text(&out), self.describe());
        let said = String::from_utf8_lossy(&out.stdout).into_owned();
        let lines = said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let pause =
            lines.filter_map(|v| v["stall_ms"].as_u64()).max().expect("the load says its longest pause");
        println!("{name}: longest pause of the client {pause} ms");
        assert!(pause < PAUSE_MS_MAX, "{name}: the client stalled for {pause} ms\n{}", self.describe());
        pause
    }

    /// Begins the same work without an end ([`Self::stop_load`]), for many events in a row.
    pub fn start_load(&self, name: &str) -> VmLoad {
        let script = format!(
            "exec 2>&1; rm -f /root/stop; w() {{ python3 /root/writer.py \"$@\"; }}
             w work /mnt/one/{name} {LOAD_S_MAX} /root/one.json /root/stop & p=$!
             w work /mnt/two/{name} {LOAD_S_MAX} /root/two.json /root/stop && wait $p &&
             w verify /root/one.json && w verify /root/two.json && rm -r /mnt/one/{name} /mnt/two/{name}"
        );
        let mut child = self.access("c1").command(LOAD_S_MAX + 600, &script);
        let mut child = child.stdout(Stdio::piped()).spawn().expect("run vm.py");
        let said = child.stdout.take().expect("its output");
        let thread = std::thread::spawn(move || {
            let mut saw = VmSaw { rounds: 0, slow: Vec::new(), said: String::new() };
            BufReader::new(said).lines().map_while(Result::ok).for_each(|line| saw.hear(&line));
            (child.wait().is_ok_and(|status| status.success()), saw)
        });
        // Not by the clock: an emulated machine may take long to begin.
        let working = format!("[ -e /mnt/one/{name}/f00002 ] && [ -e /mnt/two/{name}/f00002 ]");
        self.client(120, &format!("until {working}; do sleep 0.2; done"));
        VmLoad { name: name.to_owned(), thread }
    }

    /// Ends it; what its programs were told is compared with what is there, and removed.
    pub fn stop_load(&self, load: VmLoad) -> VmSaw {
        self.client(60, "touch /root/stop");
        let (well, saw) = load.thread.join().expect("the load ran");
        assert!(well && saw.rounds > 0, "{}: {}\n{}", load.name, saw.said, self.describe());
        saw
    }

    /// Gives every export back to its home that is not there, and waits until all are protected.
    pub fn give_back(&self) {
        for (path, home, _) in EXPORTS {
            self.wait("an export goes home", || self.hanfs(home, &["giveback", path]).status.success());
            self.wait_served(path, home, true);
        }
    }

    /// Waits until both replicas of every export stand at the same index, and compares what they are made of.
    pub fn assert_replicas_equal(&self, when: &str) {
        for (path, _, _) in EXPORTS {
            let mut seen = (Value::Null, Value::Null);
            self.wait(&format!("{path}: equal replicas {when}"), || {
                let (Some(a), Some(b)) = (self.export("a", path), self.export("b", path)) else {
                    return false;
                };
                seen = (a.clone(), b.clone());
                a["applied_index"] == b["applied_index"] && a["digest_index"] == b["digest_index"]
            });
            assert_eq!(
                seen.0["digest"], seen.1["digest"],
                "{path} differs between the nodes {when}: {seen:?}"
            );
        }
    }
}

/// A load that runs on the client VM.
pub struct VmLoad {
    name: String,
    thread: std::thread::JoinHandle<(bool, VmSaw)>,
}

/// What the client VM's programs saw.
pub struct VmSaw {
    /// Rounds of some ten operations.
    pub rounds: u64,
    /// Operations over 50 ms: when they began by our clock ([`wall_s`]; the VM's has its own idea of a second), and ms.
    slow: Vec<(f64, u64)>,
    /// Everything else.
    said: String,
}

impl VmSaw {
    /// A line, as it comes.
    fn hear(&mut self, line: &str) {
        let value: Value = serde_json::from_str(line).unwrap_or_default();
        if let Some(ms) = value["slow_ms"].as_u64() {
            self.slow.push((wall_s() - ms as f64 / 1000.0, ms));
        } else {
            self.rounds += value["rounds"].as_u64().unwrap_or_default();
            self.said += &format!("{line}\n");
        }
    }

    /// The longest operation that began between these times, ms. What waits for an event began with it or just before.
    pub fn longest_ms(&self, from: f64, to: f64) -> u64 {
        let (from, to) = (from - JUST_BEFORE_S, to - JUST_BEFORE_S);
        let during = self.slow.iter().filter(|(at, _)| (from..to).contains(at));
        during.map(|(_, ms)| *ms).max().unwrap_or_default()
    }
}

/// Seconds since 1970.
pub fn wall_s() -> f64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// A client VM.
pub struct Client {
    vm: PathBuf,
    name: String,
}

impl Client {
    /// Runs a shell script there.
    pub fn run(&self, timeout_s: u32, script: &str) -> Output {
        self.command(timeout_s, script).output().expect("run vm.py")
    }

    fn command(&self, timeout_s: u32, script: &str) -> Command {
        let mut command = Command::new(&self.vm);
        command.args(["run", "-t", &timeout_s.to_string(), &self.name, "--", script]).stdin(Stdio::null());
        command
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.kill_all_of_node("a");
        self.kill_all_of_node("b");
        self.kill_witness();
        self.script("vm.py", &["stop-all"]);
        self.script("net.sh", &["down"]);
    }
}

/// Data directories below the run's own; the peers' traffic over the replication link.
fn adapt(toml: &str, dir: &Path) -> String {
    let mut out = String::new();
    for line in toml.lines() {
        let line = match line.trim() {
            "# replication = \"IP:PORT\"" if !out.contains("10.78.0.11") => {
                "replication = \"10.78.0.11:7400\"".to_owned()
            }
            "# replication = \"IP:PORT\"" => "replication = \"10.78.0.12:7400\"".to_owned(),
            "data = \"/var/lib/hanfs\"" if !out.contains("data-a") => {
                format!("data = \"{}/data-a\"", dir.display())
            }
            "data = \"/var/lib/hanfs\"" => format!("data = \"{}/data-b\"", dir.display()),
            "data = \"/var/lib/hanfs-witness\"" => format!("data = \"{}/data-w\"", dir.display()),
            "squash = \"root\"" => "squash = \"none\"".to_owned(),
            _ => line.to_owned(),
        };
        out += &line;
        out.push('\n');
    }
    if !out.contains("squash = \"none\"") {
        out = out.replace("[[exports]]\n", "[[exports]]\nsquash = \"none\"\n");
    }
    out
}

fn index(name: &str) -> usize {
    usize::from(name == "b")
}

/// The text of a command's output, both streams.
pub fn text(out: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr))
}

fn children(parent: u32) -> Vec<u32> {
    let text = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// A guardian's children: sentinels, and servers.
fn parts(guardian: u32) -> (Vec<u32>, Vec<u32>) {
    children(guardian).into_iter().partition(|pid| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).any(|word| word == b"sentinel")
    })
}

/// Sentinels end by themselves, soon.
fn until_gone(pids: &[u32]) {
    let until = Instant::now() + Duration::from_secs(10);
    while pids.iter().any(|pid| Path::new(&format!("/proc/{pid}/exe")).exists()) {
        assert!(Instant::now() < until, "a sentinel outlives its guardian for long");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn kill(pid: u32) {
    send(pid, rustix::process::Signal::KILL);
}

fn send(pid: u32, signal: rustix::process::Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) {
        let _ = rustix::process::kill_process(pid, signal);
    }
}

/// `ip netns exec` becomes the program itself, so the child is the guardian.
fn kill_tree(child: Child) {
    let children = children(child.id());
    kill_all(child, children);
}

fn kill_all(mut child: Child, others: Vec<u32>) {
    let mut victims = vec![child.id()];
    victims.extend(others);
    victims.into_iter().for_each(kill);
    let _ = child.wait();
}
