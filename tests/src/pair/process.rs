//! One process of a cluster: start, kill, end, look at.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::binary;

/// A process and, if it is a guardian, its server. Both are killed when it is dropped.
pub struct Process {
    /// Where its output goes; a process that is started again goes on in the same file.
    pub log: PathBuf,
    child: Child,
}

impl Process {
    /// Starts the program under test.
    pub fn start(args: &[&str], log: &Path) -> Self {
        let out = File::options().create(true).append(true).open(log).expect("open a log");
        let child = Command::new(binary::hanfs())
            .args(args)
            .stdin(Stdio::null())
            .stdout(out.try_clone().expect("share the log"))
            .stderr(out)
            .spawn()
            .expect("start hanfs");
        Self { log: log.to_owned(), child }
    }

    /// The server below a guardian.
    pub fn server(&self) -> Option<u32> {
        children(self.child.id()).first().copied()
    }

    /// SIGKILL to the server alone; returns its id.
    pub fn kill_server(&self) -> u32 {
        let server = self.server().expect("the guardian has a server");
        signal(server, Signal::KILL);
        server
    }

    /// SIGSTOP to the server alone: its kernel goes on acknowledging what clients and peer send, nobody reads it.
    pub fn stop_server(&self) {
        signal(self.server().expect("the guardian has a server"), Signal::STOP);
    }

    /// SIGCONT after [`Self::stop_server`].
    pub fn continue_server(&self) {
        signal(self.server().expect("the guardian has a server"), Signal::CONT);
    }

    /// SIGHUP: read the configuration anew.
    pub fn hang_up(&self) {
        signal(self.child.id(), Signal::HUP);
    }

    /// SIGKILL to all of it.
    pub fn kill(mut self) {
        self.end();
    }

    /// SIGTERM, and how it ended. Fails the test if that takes too long.
    pub fn terminate(self, patience: Duration) -> ExitStatus {
        signal(self.child.id(), Signal::TERM);
        self.wait(patience)
    }

    /// How it ended by itself. Fails the test if it does not.
    pub fn wait(mut self, patience: Duration) -> ExitStatus {
        let until = Instant::now() + patience;
        loop {
            if let Some(status) = self.child.try_wait().expect("ask for its status") {
                return status;
            }
            assert!(
                Instant::now() < until,
                "still running after {} s: {}",
                patience.as_secs(),
                self.log.display()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// It has ended.
    pub fn ended(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|status| status.is_some())
    }

    /// Peak resident memory of the server so far, bytes (VmHWM, proc(5)).
    pub fn server_peak_bytes(&self) -> u64 {
        let pid = self.server().expect("the guardian has a server");
        let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("read /proc");
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("VmHWM in /proc");
        let kib: u64 = line.split_whitespace().next().and_then(|n| n.parse().ok()).expect("a number");
        kib << 10
    }

    fn end(&mut self) {
        let mut victims = vec![self.child.id()];
        victims.extend(children(self.child.id()));
        if !self.ended() {
            victims.into_iter().for_each(|pid| signal(pid, Signal::KILL));
        }
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // Gone already is as good.
        let _ = kill_process(pid, signal);
    }
}

fn children(parent: u32) -> Vec<u32> {
    // The server may be started by any thread of the guardian.
    let tasks = fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten().filter_map(Result::ok);
    let text: String = tasks
        .filter_map(|t| fs::read_to_string(t.path().join("children")).ok())
        .collect::<Vec<_>>()
        .join(" ");
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}
