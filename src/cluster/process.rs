//! Processes of this host: start, find their children, kill.

use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

/// Last lines of a log that are worth showing when a process died.
const LOG_LINES: usize = 15;

/// A process that was started here, with its own children. Killed when dropped.
pub struct Process {
    /// What it is, for people.
    pub name: String,
    /// Where its output goes.
    pub log: PathBuf,
    child: Option<Child>,
}

impl Process {
    /// Starts this program again, with other arguments, in a process group of its own: a Ctrl-C in the
    /// terminal is for the program that started it, which then ends its processes itself.
    pub fn start(name: &str, args: &[String], log: &Path) -> io::Result<Self> {
        Self::start_program(&std::env::current_exe()?, name, args, log)
    }

    /// Starts any program.
    pub fn start_program(program: &Path, name: &str, args: &[String], log: &Path) -> io::Result<Self> {
        let out = File::options().create(true).append(true).open(log)?;
        let child = Command::new(program)
            .args(args)
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .process_group(0)
            .spawn()?;
        Ok(Self { name: name.to_owned(), log: log.to_owned(), child: Some(child) })
    }

    /// Its process id, while it is ours.
    pub fn id(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// An error with the end of its log, if it is no longer there.
    pub fn check(&mut self) -> anyhow::Result<()> {
        let Some(child) = self.child.as_mut() else { return Ok(()) };
        match child.try_wait()? {
            None => Ok(()),
            Some(status) => {
                anyhow::bail!("{} ended ({status}); its last words:\n{}", self.name, self.last_words())
            }
        }
    }

    /// The end of its log.
    pub fn last_words(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
    }

    /// SIGKILL to it and all below it; returns whom, itself first.
    pub fn kill(&mut self) -> Vec<u32> {
        let Some(mut child) = self.child.take() else { return Vec::new() };
        let mut victims = vec![child.id()];
        victims.extend(descendants(child.id()));
        for id in &victims {
            kill_id(*id);
        }
        // It is dead; this only takes note of it.
        let _ = child.wait();
        victims
    }

    /// Lets it run on after this program.
    pub fn release(&mut self) {
        self.child = None;
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

fn kill_id(id: u32) {
    let pid = i32::try_from(id).ok().and_then(Pid::from_raw);
    if let Some(pid) = pid {
        // Gone already is as good.
        let _ = kill_process(pid, Signal::KILL);
    }
}

/// Children, their children, and so on, as /proc has them now.
pub fn descendants(of: u32) -> Vec<u32> {
    let parents: Vec<(u32, u32)> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let id: u32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
            Some((id, parent(&fs::read_to_string(format!("/proc/{id}/stat")).ok()?)?))
        })
        .collect();
    let mut found = vec![of];
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        found.extend(parents.iter().filter(|(id, p)| *p == parent && *id != of).map(|(id, _)| *id));
        next += 1;
    }
    found.split_off(1)
}

/// Field 4 of /proc/PID/stat (proc(5)); field 2 is a name in parentheses that may hold anything.
fn parent(stat: &str) -> Option<u32> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}
