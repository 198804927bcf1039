//! The sentinel: a small process beside the server that has nothing to do until its guardian is killed.
//!
//! Guardian and server can be killed together while their host lives. Its kernel would then refuse the clients' SYNs for as long
//! as the virtual IPs (VIPs) have left to live there, and a refused Linux client sleeps for 3 s. So a third process has
//! copies of all listening sockets, which therefore go on listening, and takes the VIPs off the host as soon as it sees that the
//! guardian is gone; only then it lets go of the sockets. To a client that is a takeover as any other.
//!
//! What holds:
//! - It waits on one socket for the guardian. At its end without a goodbye, and at no other time, it touches a VIP: only one that
//!   the guardian had said it was about to raise, and had not said it has lowered.
//! - It accepts and answers nothing, and knows nothing of leases: it cannot make anything be served.
//! - It outlives its guardian by [`OUTLIVES_MAX`] at most; after that the kernel has taken the VIPs by itself.
//! - A guardian that is started anew cannot have the ports before this process has let go of them, so the two
//!   never disagree about a VIP.
//! - No thread, no runtime, and nothing to be opened or asked for when the time has come.
//!
//! The guardian says, one datagram per message:
//!
//! ```text
//! 1 Hold    | VIP 16   + descriptors    its listening sockets, in place of those it had
//! 2 Raising | VIP 16                    from now on it may be on this host
//! 3 Lowered | VIP 16                    it is not
//! 4 Forget  | VIP 16                    it is nobody's any more
//! 5 Goodbye | 16 zeros                  the guardian ends, and has left nothing behind
//!
//! VIP: IPv4 mapped into IPv6
//! ```

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::io::FdFlags;
use rustix::net::{RecvFlags, SocketType};

use crate::net::netlink::LIFETIME_S;
use crate::net::withdraw::Withdraw;
use crate::wire::{mapped, recv};

/// Environment: number of the inherited descriptor.
pub const ENV_FD: &str = "HANFS_SENTINEL_FD";
/// How long it tries to take the VIPs down where the kernel refuses: so long they can be there without it.
pub const OUTLIVES_MAX: Duration = Duration::from_secs(LIFETIME_S as u64);
/// Pause between two attempts.
const AGAIN: Duration = Duration::from_millis(20);
/// What it is called in lists of processes; 15 bytes at most.
const NAME: &std::ffi::CStr = c"hanfs-sentinel";

/// Guardian to sentinel. See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ToSentinel {
    Hold { vip: IpAddr },
    Raising { vip: IpAddr },
    Lowered { vip: IpAddr },
    Forget { vip: IpAddr },
    Goodbye,
}

impl ToSentinel {
    pub(crate) fn encode(self) -> Vec<u8> {
        let (kind, vip) = match self {
            Self::Hold { vip } => (1, mapped(vip)),
            Self::Raising { vip } => (2, mapped(vip)),
            Self::Lowered { vip } => (3, mapped(vip)),
            Self::Forget { vip } => (4, mapped(vip)),
            Self::Goodbye => (5, [0; 16]),
        };
        [&[kind], &vip[..]].concat()
    }

    /// `None`: not a message of ours.
    fn decode(message: &[u8]) -> Option<Self> {
        let (kind, vip) = message.split_first()?;
        let vip = Ipv6Addr::from(<[u8; 16]>::try_from(vip).ok()?);
        let vip = IpAddr::from(vip).to_canonical();
        Some(match kind {
            1 => Self::Hold { vip },
            2 => Self::Raising { vip },
            3 => Self::Lowered { vip },
            4 => Self::Forget { vip },
            5 => Self::Goodbye,
            _ => return None,
        })
    }
}

/// What it knows of one VIP.
#[derive(Debug, Default)]
struct Held {
    /// Never looked at: that they are open is all.
    listeners: Vec<OwnedFd>,
    /// It may be on this host.
    up: bool,
}

/// How the guardian ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Goodbye,
    /// Killed, with these VIPs on the host.
    Killed(Vec<IpAddr>),
}

/// Waits for the guardian's end and does what is to be done then; returns the process's exit code. For a process of its own that
/// the guardian has started.
pub fn run() -> u8 {
    match watch() {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("hanfs sentinel: {error}");
            1
        }
    }
}

fn watch() -> io::Result<()> {
    let guardian = from_env()?;
    ignore_signals();
    let _ = rustix::thread::set_name(NAME);
    let mut kernel = Withdraw::open()?;
    let mut held = BTreeMap::new();
    match follow(&guardian, &mut held)? {
        End::Goodbye => Ok(()),
        End::Killed(vips) => {
            let outcome = withdraw(&mut kernel, &vips);
            // Not before: a SYN that comes while an address is here must find a listener.
            drop(held);
            if let Ok(taken) = &outcome
                && *taken > 0
            {
                eprintln!("hanfs sentinel: the guardian was killed; {taken} virtual IPs are off this host");
            }
            outcome.map(drop)
        }
    }
}

/// Learns what the guardian says until its end.
fn follow(guardian: &OwnedFd, held: &mut BTreeMap<IpAddr, Held>) -> io::Result<End> {
    loop {
        let (bytes, fds) = match recv(guardian.as_fd(), RecvFlags::empty()) {
            Ok(message) => message,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) if e.kind() == io::ErrorKind::ConnectionReset => (Vec::new(), Vec::new()),
            Err(e) => return Err(e),
        };
        if bytes.is_empty() {
            let up = held.iter().filter(|(_, h)| h.up).map(|(vip, _)| *vip);
            return Ok(End::Killed(up.collect()));
        }
        match ToSentinel::decode(&bytes) {
            Some(ToSentinel::Hold { vip }) => held.entry(vip).or_default().listeners = fds,
            Some(ToSentinel::Raising { vip }) => held.entry(vip).or_default().up = true,
            Some(ToSentinel::Lowered { vip }) => held.entry(vip).or_default().up = false,
            Some(ToSentinel::Forget { vip }) => drop(held.remove(&vip)),
            Some(ToSentinel::Goodbye) => return Ok(End::Goodbye),
            None => {
                let text = "the guardian is of another version of hanfs";
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            }
        }
    }
}

/// Until it is done, but not longer than the kernel keeps the VIPs.
fn withdraw(kernel: &mut Withdraw, vips: &[IpAddr]) -> io::Result<usize> {
    let until = Instant::now() + OUTLIVES_MAX;
    loop {
        match kernel.withdraw(vips) {
            Err(_) if Instant::now() < until => std::thread::sleep(AGAIN),
            done => return done,
        }
    }
}

fn from_env() -> io::Result<OwnedFd> {
    let wrong =
        || io::Error::new(io::ErrorKind::InvalidInput, "only a guardian starts it (`hanfs serve` does)");
    let fd = std::env::var(ENV_FD).ok().and_then(|fd| fd.parse().ok());
    let fd: i32 = fd.filter(|fd| *fd > 2).ok_or_else(wrong)?;
    // SAFETY: the guardian passed this descriptor to this process for this purpose; nothing else here owns it, and it is
    // checked below before anything relies on it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    if rustix::net::sockopt::socket_type(&fd).ok() != Some(SocketType::SEQPACKET) {
        // Not ours: leave it to whoever it belongs to.
        std::mem::forget(fd);
        return Err(wrong());
    }
    rustix::io::fcntl_setfd(&fd, FdFlags::CLOEXEC)?;
    Ok(fd)
}

/// A service manager that stops a node may tell each of its processes. The guardian's goodbye is what ends this one.
fn ignore_signals() {
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
        // SAFETY: no handler is installed, and nothing else in this process cares about these signals.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}

#[cfg(test)]
mod tests {
    //! Goal: the sentinel takes down what a killed guardian had up, no more and no less, and nothing after a goodbye.
    //! Method: a real socketpair with the test as the guardian. (The process and the kernel are in `tests/netns.rs`.)
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::BorrowedFd;

    use rustix::net::{AddressFamily, SocketFlags, socketpair};

    use super::*;

    const ONE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
    const TWO: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2));

    fn ends(messages: &[(ToSentinel, &[BorrowedFd<'_>])]) -> (io::Result<End>, BTreeMap<IpAddr, Held>) {
        let kind = SocketType::SEQPACKET;
        let (ours, theirs) = socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).unwrap();
        for (message, fds) in messages {
            crate::wire::send_now(ours.as_fd(), &message.encode(), fds).unwrap();
        }
        drop(ours);
        let mut held = BTreeMap::new();
        (follow(&theirs, &mut held), held)
    }

    #[test]
    fn what_may_be_up_at_the_end_is_taken_down() {
        let say = |messages: &[ToSentinel]| {
            let messages: Vec<_> = messages.iter().map(|m| (*m, &[][..])).collect();
            ends(&messages).0.unwrap()
        };
        use ToSentinel::{Forget, Goodbye, Hold, Lowered, Raising};
        let killed = |vips: &[IpAddr]| End::Killed(vips.to_vec());
        assert_eq!(say(&[]), killed(&[]));
        assert_eq!(say(&[Hold { vip: ONE }]), killed(&[]), "its sockets alone say nothing");
        assert_eq!(say(&[Raising { vip: ONE }, Raising { vip: TWO }]), killed(&[ONE, TWO]));
        assert_eq!(say(&[Raising { vip: ONE }, Hold { vip: ONE }]), killed(&[ONE]));
        assert_eq!(say(&[Raising { vip: ONE }, Raising { vip: TWO }, Lowered { vip: ONE }]), killed(&[TWO]));
        assert_eq!(say(&[Raising { vip: ONE }, Forget { vip: ONE }]), killed(&[]));
        assert_eq!(say(&[Raising { vip: ONE }, Goodbye]), End::Goodbye);
    }

    #[test]
    fn it_holds_the_last_sockets_of_an_address_and_no_others() {
        let listener = || TcpListener::bind("127.0.0.1:0").unwrap();
        let (old, new) = (listener(), listener());
        let addresses = [&old, &new].map(|l| l.local_addr().unwrap());
        let hold = ToSentinel::Hold { vip: ONE };
        let (end, held) = ends(&[(hold, &[old.as_fd()]), (hold, &[new.as_fd()])]);
        assert_eq!(end.unwrap(), End::Killed(vec![]));
        drop((old, new));
        assert!(TcpStream::connect(addresses[0]).is_err(), "replaced, so closed");
        let mut waits = TcpStream::connect(addresses[1]).expect("it listens although nobody accepts");
        waits.write_all(b"a call").unwrap();
        drop(held);
        assert!(waits.read(&mut [0]).is_err(), "reset when it lets go");
    }

    #[test]
    fn what_is_no_message_ends_it_without_touching_anything() {
        assert_eq!(ToSentinel::decode(&[]), None);
        assert_eq!(ToSentinel::decode(&[1; 16]), None);
        assert_eq!(ToSentinel::decode(&[1; 18]), None);
        assert_eq!(ToSentinel::decode(&[6; 17]), None);
        let vip = TWO;
        for message in
            [ToSentinel::Hold { vip }, ToSentinel::Forget { vip }, ToSentinel::Raising { vip: ONE }]
        {
            assert_eq!(ToSentinel::decode(&message.encode()), Some(message));
        }
    }
}
