//! The server process: starting it, and how soon it is started again.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::Signal;
use tokio::process::{Child, Command};

use super::config::ServerCommand;
use crate::link::{ENV_FD, ENV_PROCESS_ID};
use crate::wire::{Channel, ToServer};

/// A server that ran this long has earned a restart without a pause.
const STEADY: Duration = Duration::from_secs(60);
/// First pause after a restart at once did not help.
const BACKOFF_FIRST: Duration = Duration::from_millis(500);

/// A running server.
#[derive(Debug)]
pub(super) struct Server {
    /// The process; killed when this is dropped.
    pub(super) child: Child,
    /// Our end of the socketpair.
    pub(super) channel: Channel,
    /// Its random name towards the peer.
    pub(super) process_id: u64,
    /// It closed its end of the socketpair.
    pub(super) closed: bool,
    /// SIGKILL at this time (CLOCK_MONOTONIC, ns).
    pub(super) kill_at_ns: Option<u64>,
    /// It said that it ends of its own accord.
    pub(super) stopping: bool,
    started: Instant,
}

impl Server {
    /// Starts it. The kernel kills it when this thread ends.
    pub(super) fn spawn(command: &ServerCommand) -> io::Result<Self> {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        let process_id = random();
        let guardian = rustix::process::getpid();
        let fd = theirs.as_raw_fd();
        let mut run = Command::new(&command.program);
        run.args(&command.args)
            .envs(command.envs.iter().map(|(k, v)| (k, v)))
            .env(ENV_FD, OsString::from(fd.to_string()))
            .env(ENV_PROCESS_ID, OsString::from(process_id.to_string()))
            .kill_on_drop(true);
        // SAFETY: only system calls, no allocation, no locks: allowed between fork and exec. The descriptor is
        // owned by the closure and so open.
        unsafe {
            run.pre_exec(move || {
                rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
                // The guardian may have died before the line above.
                if rustix::process::getppid() != Some(guardian) {
                    return Err(io::ErrorKind::Interrupted.into());
                }
                inherit(&theirs)
            });
        }
        let child = run.spawn()?;
        Ok(Self {
            child,
            channel: Channel::new(ours)?,
            process_id,
            closed: false,
            kill_at_ns: None,
            stopping: false,
            started: Instant::now(),
        })
    }

    /// Passes an order on. A server that does not take its orders is as good as dead.
    pub(super) fn tell(&mut self, message: &ToServer, fds: &[std::os::fd::BorrowedFd<'_>]) {
        if let Err(error) = self.channel.try_send(&message.encode(), fds) {
            tracing::warn!(%error, "the server does not take its orders; killing it");
            self.kill();
        }
    }

    /// SIGKILL; its end is noticed as any other.
    pub(super) fn kill(&mut self) {
        if let Err(error) = self.child.start_kill() {
            tracing::debug!(%error, "kill the server");
        }
    }

    /// SIGTERM: end cleanly.
    pub(super) fn terminate(&self) {
        let pid =
            self.child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid
            && let Err(error) = rustix::process::kill_process(pid, Signal::TERM)
        {
            tracing::debug!(%error, "pass SIGTERM to the server");
        }
    }

    /// How long it has been running.
    pub(super) fn age(&self) -> Duration {
        self.started.elapsed()
    }
}

/// Lets a descriptor survive exec.
pub(super) fn inherit(fd: &OwnedFd) -> io::Result<()> {
    rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::empty())?;
    Ok(())
}

/// A name that no other process of either node has had. Without the kernel's randomness: the time, which
/// repeats on neither.
fn random() -> u64 {
    getrandom::u64().unwrap_or_else(|_| replica::clock::wall_ns())
}

/// How soon a server is started again: at once the first time, then after growing pauses.
#[derive(Debug)]
pub(super) struct Restarts {
    in_a_row: u32,
    max: Duration,
}

impl Restarts {
    pub(super) fn new(max: Duration) -> Self {
        Self { in_a_row: 0, max }
    }

    /// The pause after a server that ran for `age`.
    pub(super) fn next_pause(&mut self, age: Duration) -> Duration {
        if age >= STEADY {
            self.in_a_row = 0;
        }
        let pause = match self.in_a_row.checked_sub(1) {
            None => Duration::ZERO,
            Some(n) => BACKOFF_FIRST.saturating_mul(1 << n.min(16)).min(self.max),
        };
        self.in_a_row = self.in_a_row.saturating_add(1);
        pause
    }
}

#[cfg(test)]
mod tests {
    //! Goal: a server that crashes once is back at once; one that crashes always does not eat the host.
    //! Method: the pauses, as plain values.
    use super::*;

    #[test]
    fn pauses_grow_and_a_steady_server_starts_over() {
        let mut restarts = Restarts::new(Duration::from_secs(5));
        let ms: Vec<u128> = (0..7).map(|_| restarts.next_pause(Duration::from_secs(1)).as_millis()).collect();
        assert_eq!(ms, [0, 500, 1000, 2000, 4000, 5000, 5000]);
        assert_eq!(restarts.next_pause(STEADY), Duration::ZERO);
    }
}
