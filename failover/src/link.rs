//! The server's side of its guardian.
//!
//! The server never opens a listening socket of its own: it asks the guardian to raise an export's VIP and gets
//! the sockets. It keeps the guardian's lease deadline going with [`GuardianLink::lease`]. When the guardian is
//! gone the server must exit: nobody else would take the address down in time.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::sync::Arc;

use parking_lot::Mutex;
use replica::ids::ExportId;
use rustix::io::FdFlags;
use rustix::net::SocketType;
use tokio::sync::{mpsc, oneshot};

use crate::guardian::GuardianExport;
use crate::net::Tuple;
use crate::net::listen::Listeners;
use crate::wire::{Channel, TUPLES_PER_MESSAGE_MAX, ToGuardian, ToServer};

/// Environment: number of the inherited descriptor.
pub const ENV_FD: &str = "HANFS_GUARDIAN_FD";
/// Environment: what the guardian calls this server process, a random number in decimal. It is the
/// `process_id` of the server's own Hello, so that a peer that hears of a death knows whose.
pub const ENV_PROCESS_ID: &str = "HANFS_PROCESS_ID";

/// Exit code of a server that must not be started again: bad configuration, damaged data (EX_CONFIG, sysexits).
pub const EXIT_FATAL: u8 = 78;

/// The VIP was not raised.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RaiseError {
    /// The guardian said why not.
    #[error("{0}")]
    Refused(String),
    /// A newer request for the same export took this one's place; its own answer is what counts, so this is
    /// neither a success nor a failure.
    #[error("another request for the same export came after this one")]
    Superseded,
    /// The guardian is gone.
    #[error("the guardian process is gone")]
    GuardianGone,
}

/// What the guardian has to say unasked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkEvent {
    /// The peer ordered the VIP down; it is. Close the export's connections silently.
    Released {
        /// Which export.
        export: ExportId,
    },
    /// The VIP is off this host although nobody ordered it. Close the export's connections silently.
    VipLost {
        /// Which export.
        export: ExportId,
        /// Why, in a sentence.
        why: String,
    },
    /// The guardian was asked (SIGHUP) to have the configuration read anew.
    Reload,
    /// The guardian is gone: exit at once.
    GuardianGone,
}

type RaiseReply = Result<Listeners, RaiseError>;

#[derive(Default)]
struct Waiting {
    /// In the order of the requests, as the guardian answers them; `None`: nobody waits for this one any more.
    raises: HashMap<ExportId, VecDeque<Option<oneshot::Sender<RaiseReply>>>>,
    drops: HashMap<ExportId, Vec<oneshot::Sender<()>>>,
    /// Lists of exports that were sent and not answered yet.
    lists: VecDeque<oneshot::Sender<String>>,
    gone: bool,
}

/// The connection to the guardian; share it by reference or [`Arc`].
pub struct GuardianLink {
    channel: Arc<Channel>,
    waiting: Arc<Mutex<Waiting>>,
    events: tokio::sync::Mutex<mpsc::UnboundedReceiver<LinkEvent>>,
    /// Requests that must keep their order; a few per export at a time.
    outgoing: mpsc::UnboundedSender<Vec<u8>>,
    reader: tokio::task::JoinHandle<()>,
    process_id: u64,
}

impl GuardianLink {
    /// The link that the environment names; `None` where this process has no guardian. Takes the descriptor, so
    /// call it once, within a tokio runtime.
    pub fn from_env() -> io::Result<Option<Self>> {
        let Some(fd) = std::env::var_os(ENV_FD) else { return Ok(None) };
        let wrong =
            || io::Error::new(io::ErrorKind::InvalidInput, format!("{ENV_FD}={fd:?} is no open socket"));
        let fd: i32 = fd.to_str().and_then(|s| s.parse().ok()).filter(|fd| *fd > 2).ok_or_else(wrong)?;
        // SAFETY: the guardian passed this descriptor to this process for this purpose; nothing else here owns
        // it, and it is checked below before anything relies on it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        if rustix::net::sockopt::socket_type(&fd).ok() != Some(SocketType::SEQPACKET) {
            // Not ours: leave it to whoever it belongs to.
            std::mem::forget(fd);
            return Err(wrong());
        }
        rustix::io::fcntl_setfd(&fd, FdFlags::CLOEXEC)?;
        let process_id = std::env::var(ENV_PROCESS_ID).ok().and_then(|s| s.parse().ok()).unwrap_or_default();
        Self::from_fd(fd, process_id).map(Some)
    }

    /// The link over a socket at hand; must be called within a tokio runtime.
    pub fn from_fd(fd: OwnedFd, process_id: u64) -> io::Result<Self> {
        let channel = Arc::new(Channel::new(fd)?);
        let waiting = Arc::new(Mutex::new(Waiting::default()));
        let (tx, rx) = mpsc::unbounded_channel();
        let reader = tokio::spawn(read(channel.clone(), waiting.clone(), tx));
        let (outgoing, queue) = mpsc::unbounded_channel();
        tokio::spawn(write(channel.clone(), queue));
        Ok(Self { channel, waiting, events: tokio::sync::Mutex::new(rx), outgoing, reader, process_id })
    }

    /// What the guardian calls this process: the `process_id` for this server's Hello.
    pub fn process_id(&self) -> u64 {
        self.process_id
    }

    /// Raises the export's VIP, announces it, and tickles these connections. Needs a lease that the guardian
    /// knows of. The sockets are non-blocking.
    ///
    /// The request is on its way when this returns; the future only waits for the answer. So requests are obeyed
    /// in the order of the calls, whoever waits for which.
    pub fn raise(
        &self,
        export: ExportId,
        tuples: Vec<Tuple>,
    ) -> impl Future<Output = Result<Listeners, RaiseError>> + Send + use<> {
        let (tx, rx) = oneshot::channel();
        let mut waiting = self.waiting.lock();
        if !waiting.gone {
            let all = waiting.raises.entry(export).or_default();
            for older in all.iter_mut().filter_map(Option::take) {
                let _ = older.send(Err(RaiseError::Superseded));
            }
            all.push_back(Some(tx));
            let mut parts = tuples.chunks(TUPLES_PER_MESSAGE_MAX).map(<[Tuple]>::to_vec);
            self.queue(&ToGuardian::Raise { export, tuples: parts.next().unwrap_or_default() });
            parts.for_each(|tuples| self.queue(&ToGuardian::Tickle { export, tuples }));
        }
        async move { rx.await.unwrap_or(Err(RaiseError::GuardianGone)) }
    }

    /// Takes the export's VIP down; with `reset`, connections that nobody accepted yet are reset first. Close
    /// what belongs to the export when the future is done, not before: with the address off this host nothing
    /// of it reaches a client. In the order of the calls, as [`Self::raise`].
    pub fn drop_vip(&self, export: ExportId, reset: bool) -> impl Future<Output = ()> + Send + use<> {
        let (tx, rx) = oneshot::channel();
        let mut waiting = self.waiting.lock();
        if !waiting.gone {
            waiting.drops.entry(export).or_default().push(tx);
            self.queue(&ToGuardian::Drop { export, reset });
        }
        async move {
            let _ = rx.await;
        }
    }

    /// This server may serve the export until then (CLOCK_MONOTONIC, [`replica::clock::monotonic_ns`]); a later
    /// call replaces it, 0 ends it. Never waits; false if the guardian did not take it, so say it again.
    pub fn lease(&self, export: ExportId, until_ns: u64) -> bool {
        self.channel.try_send(&ToGuardian::Lease { export, until_ns }.encode(), &[]).is_ok()
    }

    /// Tells the guardian of every export that there is from now on, at most `EXPORTS_MAX`: what is gone loses its
    /// address and sockets, what is new can be raised. The error says in sentences what failed; the rest is done.
    ///
    /// As with [`Self::raise`], the list is on its way when this returns.
    pub fn exports(
        &self,
        exports: Vec<GuardianExport>,
    ) -> impl Future<Output = Result<(), String>> + Send + use<> {
        let (tx, rx) = oneshot::channel();
        let mut waiting = self.waiting.lock();
        if !waiting.gone {
            waiting.lists.push_back(tx);
            self.queue(&ToGuardian::Exports { exports });
        }
        async move {
            match rx.await {
                Ok(text) if text.is_empty() => Ok(()),
                Ok(text) => Err(text),
                Err(_) => Err(RaiseError::GuardianGone.to_string()),
            }
        }
    }

    /// Announces the VIP again and tickles these connections.
    pub async fn tickle(&self, export: ExportId, tuples: &[Tuple]) {
        if tuples.is_empty() {
            self.say(&ToGuardian::Tickle { export, tuples: Vec::new() }).await;
        }
        for some in tuples.chunks(TUPLES_PER_MESSAGE_MAX) {
            self.say(&ToGuardian::Tickle { export, tuples: some.to_vec() }).await;
        }
    }

    /// This server is about to end, and this is why; the peer hears it from the guardian, before it hears of the end. Never waits.
    pub fn last_words(&self, text: String) {
        let _ = self.channel.try_send(&ToGuardian::Says { text }.encode(), &[]);
    }

    /// This server is about to exit of its own accord, cleanly: the guardian ends too.
    pub async fn stopping(&self) {
        self.say(&ToGuardian::Stopping).await;
    }

    /// The next event. After [`LinkEvent::GuardianGone`] there is nothing else.
    pub async fn next_event(&self) -> LinkEvent {
        self.events.lock().await.recv().await.unwrap_or(LinkEvent::GuardianGone)
    }

    /// To be sent in order. The writer is there as long as this is.
    fn queue(&self, message: &ToGuardian) {
        let _ = self.outgoing.send(message.encode());
    }

    /// A failure to send means that the guardian is gone, which the reader finds out by itself.
    async fn say(&self, message: &ToGuardian) {
        if let Err(error) = self.channel.send(&message.encode()).await {
            tracing::debug!(%error, "send to the guardian");
        }
    }
}

impl Drop for GuardianLink {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

async fn write(channel: Arc<Channel>, mut outgoing: mpsc::UnboundedReceiver<Vec<u8>>) {
    while let Some(message) = outgoing.recv().await {
        if let Err(error) = channel.send(&message).await {
            tracing::debug!(%error, "send to the guardian");
            return;
        }
    }
}

async fn read(channel: Arc<Channel>, waiting: Arc<Mutex<Waiting>>, events: mpsc::UnboundedSender<LinkEvent>) {
    while let Ok(Some((bytes, fds))) = channel.recv().await {
        let Some(message) = ToServer::decode(&bytes) else {
            tracing::error!("the guardian is of another version of hanfs; stop both and start again");
            break;
        };
        handle(message, fds, &waiting, &events);
    }
    let mut waiting = waiting.lock();
    waiting.gone = true;
    // The waiters see their sender dropped.
    waiting.raises.clear();
    waiting.drops.clear();
    waiting.lists.clear();
    let _ = events.send(LinkEvent::GuardianGone);
}

fn handle(
    message: ToServer,
    fds: Vec<OwnedFd>,
    waiting: &Mutex<Waiting>,
    events: &mpsc::UnboundedSender<LinkEvent>,
) {
    let answer = |export: ExportId, reply: RaiseReply| {
        let mut waiting = waiting.lock();
        if let Some(Some(tx)) = waiting.raises.get_mut(&export).and_then(VecDeque::pop_front) {
            let _ = tx.send(reply);
        }
    };
    match message {
        ToServer::Raised { export, tcp, udp } => answer(export, sort(fds, tcp, udp)),
        ToServer::Refused { export, text } => answer(export, Err(RaiseError::Refused(text))),
        ToServer::Dropped { export } => {
            for tx in waiting.lock().drops.remove(&export).unwrap_or_default() {
                let _ = tx.send(());
            }
        }
        ToServer::Released { export } => {
            let _ = events.send(LinkEvent::Released { export });
        }
        ToServer::Exports { text } => {
            if let Some(tx) = waiting.lock().lists.pop_front() {
                let _ = tx.send(text);
            }
        }
        ToServer::Reload => {
            let _ = events.send(LinkEvent::Reload);
        }
        ToServer::VipLost { export, text } => {
            let _ = events.send(LinkEvent::VipLost { export, why: text });
        }
    }
}

/// TCP listeners first; a descriptor that is not what it should be means that the kernel ran out of them.
fn sort(fds: Vec<OwnedFd>, tcp: u8, udp: u8) -> RaiseReply {
    if fds.len() != usize::from(tcp) + usize::from(udp) {
        let text =
            "sockets were lost on the way from the guardian: raise the limit of open files (ulimit -n)";
        return Err(RaiseError::Refused(text.into()));
    }
    let mut listeners = Listeners::default();
    for (i, fd) in fds.into_iter().enumerate() {
        if rustix::net::sockopt::socket_type(fd.as_fd()).is_err() {
            return Err(RaiseError::Refused("the guardian passed something that is no socket".into()));
        }
        if i < usize::from(tcp) {
            listeners.tcp.push(fd.into());
        } else {
            listeners.udp.push(fd.into());
        }
    }
    Ok(listeners)
}

#[cfg(test)]
mod tests {
    //! Goal: the server's requests are obeyed in the order it made them, and it hears of its guardian's end.
    //! Method: this side against a bare socket that stands for the guardian.
    use super::*;
    use rustix::net::{AddressFamily, SocketFlags, socketpair};

    const EXPORT: ExportId = ExportId([3; 16]);

    fn pair() -> (GuardianLink, Channel) {
        let (a, b) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        (GuardianLink::from_fd(a, 5).unwrap(), Channel::new(b).unwrap())
    }

    async fn heard(guardian: &Channel) -> ToGuardian {
        ToGuardian::decode(&guardian.recv().await.unwrap().unwrap().0).unwrap()
    }

    #[tokio::test]
    async fn requests_keep_the_order_of_the_calls_and_many_tuples_all_arrive() {
        let (link, guardian) = pair();
        let tuple =
            |i: usize| Tuple { client: ([10, 0, 0, 1], u16::try_from(i).unwrap()).into(), server_port: 2049 };
        let many: Vec<Tuple> = (0..2 * TUPLES_PER_MESSAGE_MAX + 1).map(tuple).collect();
        let dropped = link.drop_vip(EXPORT, false);
        let raised = link.raise(EXPORT, many.clone());
        let dropped_again = link.drop_vip(EXPORT, true);
        // Waited for the other way round.
        let waiting = tokio::spawn(async move {
            dropped_again.await;
            dropped.await;
            raised.await
        });
        assert_eq!(heard(&guardian).await, ToGuardian::Drop { export: EXPORT, reset: false });
        let mut got = Vec::new();
        loop {
            match heard(&guardian).await {
                ToGuardian::Raise { tuples, .. } | ToGuardian::Tickle { tuples, .. } => got.extend(tuples),
                other => {
                    assert_eq!(other, ToGuardian::Drop { export: EXPORT, reset: true });
                    break;
                }
            }
        }
        assert_eq!(got, many);
        guardian.try_send(&ToServer::Dropped { export: EXPORT }.encode(), &[]).unwrap();
        let text = "no interface".to_owned();
        guardian.try_send(&ToServer::Refused { export: EXPORT, text: text.clone() }.encode(), &[]).unwrap();
        assert_eq!(waiting.await.unwrap().unwrap_err(), RaiseError::Refused(text));
    }

    #[tokio::test]
    async fn the_end_of_the_guardian_wakes_everybody() {
        let (link, guardian) = pair();
        let raised = link.raise(EXPORT, Vec::new());
        let superseding = link.raise(EXPORT, Vec::new());
        assert_eq!(raised.await.unwrap_err(), RaiseError::Superseded);
        drop(guardian);
        assert_eq!(superseding.await.unwrap_err(), RaiseError::GuardianGone);
        assert_eq!(link.next_event().await, LinkEvent::GuardianGone);
        assert_eq!(link.raise(EXPORT, Vec::new()).await.unwrap_err(), RaiseError::GuardianGone);
        link.drop_vip(EXPORT, false).await;
    }

    /// The address went down in between, so the first answer's sockets may be dead.
    #[tokio::test]
    async fn an_answer_belongs_to_its_own_request() {
        let (link, guardian) = pair();
        let first = link.raise(EXPORT, Vec::new());
        let dropped = link.drop_vip(EXPORT, false);
        let second = link.raise(EXPORT, Vec::new());
        guardian.try_send(&ToServer::Raised { export: EXPORT, tcp: 0, udp: 0 }.encode(), &[]).unwrap();
        guardian.try_send(&ToServer::Dropped { export: EXPORT }.encode(), &[]).unwrap();
        let text = "no interface".to_owned();
        guardian.try_send(&ToServer::Refused { export: EXPORT, text: text.clone() }.encode(), &[]).unwrap();
        assert_eq!(first.await.unwrap_err(), RaiseError::Superseded);
        dropped.await;
        assert_eq!(second.await.unwrap_err(), RaiseError::Refused(text));
    }

    /// A socket or two lost on the way (descriptor limit) must not look like a raised address.
    #[tokio::test]
    async fn missing_sockets_are_a_refusal() {
        let (link, guardian) = pair();
        let raised = link.raise(EXPORT, Vec::new());
        guardian.try_send(&ToServer::Raised { export: EXPORT, tcp: 1, udp: 1 }.encode(), &[]).unwrap();
        assert!(matches!(raised.await, Err(RaiseError::Refused(_))));
    }
}
