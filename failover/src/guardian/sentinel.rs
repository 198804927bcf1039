//! The guardian's side of its [`crate::sentinel`]: starting it, telling it, and ending it in order.

use std::ffi::OsString;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

use replica::clock::monotonic_ns;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use tokio::process::{Child, Command};

use super::config::ServerCommand;
use super::server::{Restarts, inherit};
use crate::net::listen::Listeners;
use crate::sentinel::{ENV_FD, ToSentinel};
use crate::wire::Channel;

/// How long it may take to end after the goodbye; then SIGKILL.
const GOODBYE: Duration = Duration::from_millis(500);

/// A sentinel, or when there will be one again.
#[derive(Debug)]
pub(super) struct Sentinel {
    /// `None`: there never is one.
    command: Option<ServerCommand>,
    running: Option<Running>,
    restarts: Restarts,
    /// To be started at this time (CLOCK_MONOTONIC, ns) where none runs.
    start_ns: u64,
}

#[derive(Debug)]
struct Running {
    /// Not killed when this is dropped: a guardian that ends in a panic needs it most.
    child: Child,
    channel: Channel,
    started: Instant,
}

impl Sentinel {
    /// None runs so far; it is due at once. Without a command there never is one, and everything below does nothing.
    pub(super) fn new(command: Option<ServerCommand>, restart_max: Duration) -> Self {
        Self { command, running: None, restarts: Restarts::new(restart_max), start_ns: 0 }
    }

    /// When one is to be started.
    pub(super) fn start_ns(&self) -> Option<u64> {
        (self.command.is_some() && self.running.is_none()).then_some(self.start_ns)
    }

    /// Starts one; true if it runs. It has to be told everything then.
    pub(super) fn start(&mut self) -> bool {
        let Some(command) = &self.command else { return false };
        match Running::spawn(command) {
            Ok(running) => {
                self.running = Some(running);
                true
            }
            Err(error) => {
                tracing::warn!(%error, program = ?command.program, "start the sentinel");
                self.pause(Duration::ZERO);
                false
            }
        }
    }

    fn pause(&mut self, age: Duration) {
        let pause = u64::try_from(self.restarts.next_pause(age).as_nanos()).unwrap_or(u64::MAX);
        self.start_ns = monotonic_ns().saturating_add(pause);
    }

    /// It ended although nobody told it to. Cancel-safe; never, where none runs.
    pub(super) async fn ended(&mut self) {
        let Some(running) = &mut self.running else { return std::future::pending().await };
        let how = running.child.wait().await;
        let age = running.started.elapsed();
        let how = how.map_or_else(|e| e.to_string(), |s| s.to_string());
        tracing::warn!(%how, "the sentinel ended");
        self.running = None;
        self.pause(age);
    }

    /// Its copies of these sockets, in place of those it had for the address.
    pub(super) fn hold(&mut self, vip: IpAddr, listeners: Option<&Listeners>) {
        let fds = listeners.map(Listeners::descriptors).unwrap_or_default();
        self.tell(ToSentinel::Hold { vip }, &fds);
    }

    /// Before the address is added.
    pub(super) fn raising(&mut self, vip: IpAddr) {
        self.tell(ToSentinel::Raising { vip }, &[]);
    }

    /// After it was deleted.
    pub(super) fn lowered(&mut self, vip: IpAddr) {
        self.tell(ToSentinel::Lowered { vip }, &[]);
    }

    /// The address is nobody's any more.
    pub(super) fn forget(&mut self, vip: IpAddr) {
        self.tell(ToSentinel::Forget { vip }, &[]);
    }

    /// One that does not take its messages knows something wrong: it is killed, and its end is noticed as any other.
    fn tell(&mut self, message: ToSentinel, fds: &[BorrowedFd<'_>]) {
        let Some(running) = &mut self.running else { return };
        if let Err(error) = running.channel.try_send(&message.encode(), fds) {
            tracing::debug!(%error, "the sentinel does not take its messages; killing it");
            let _ = running.child.start_kill();
        }
    }

    /// The guardian ends and has left nothing behind. Returns when the ports are free.
    pub(super) async fn goodbye(mut self) {
        self.tell(ToSentinel::Goodbye, &[]);
        let Some(mut running) = self.running else { return };
        if tokio::time::timeout(GOODBYE, running.child.wait()).await.is_err() {
            let _ = running.child.kill().await;
        }
    }
}

impl Running {
    fn spawn(command: &ServerCommand) -> io::Result<Self> {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        let fd = theirs.as_fd().as_raw_fd();
        let mut run = Command::new(&command.program);
        run.args(&command.args)
            .envs(command.envs.iter().map(|(k, v)| (k, v)))
            .env(ENV_FD, OsString::from(fd.to_string()));
        // SAFETY: only system calls, no allocation, no locks: allowed between fork and exec. The descriptor is owned by the
        // closure and so open.
        unsafe {
            run.pre_exec(move || {
                // Out of the way of a terminal's signals and of whoever signals the guardian's process group.
                rustix::process::setsid()?;
                inherit(&theirs)
            });
        }
        Ok(Self { child: run.spawn()?, channel: Channel::new(ours)?, started: Instant::now() })
    }
}
