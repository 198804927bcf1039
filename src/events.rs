//! A node's history: what `hanfs events` shows. Stored in sled.
//!
//! It holds what a power cut may take (sled's `flush` does not reach the disk on Linux), and nothing depends
//! on it: appending never blocks and never fails, a history that cannot be opened is set aside and begun
//! anew. One thread owns all writing. Ids rise; the newest [`EVENTS_MAX`] are kept.
//!
//! Keys are the id as 8 bytes, big endian, so that the order of keys is the order of time; values are encoded
//! `admin::Event`.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use prost::Message;
use proto::admin::{Event, EventsRequest};
use replica::clock::wall_ns;
use tokio::sync::{Notify, mpsc};
use tokio_stream::wrappers::ReceiverStream;

/// Events kept: months of an ordinary cluster, about 2 MB.
pub const EVENTS_MAX: u64 = 10_000;
/// Events waiting for the writer; more at once are dropped and counted.
const QUEUE_EVENTS_MAX: usize = 1024;
/// Longest text of an event, bytes.
const TEXT_BYTES_MAX: usize = 2048;
/// sled's page cache, bytes (its default is 1 GiB).
const CACHE_BYTES: u64 = 4 << 20;
/// Events read at once for a follower.
const BATCH_EVENTS: usize = 64;
/// A process that is ending holds the store's lock a moment longer than its last words.
const LOCK_TRIES: u32 = 40;
const LOCK_RETRY: Duration = Duration::from_millis(50);
/// How often a follower's thread looks whether its stream is still wanted.
const FOLLOW_CHECK: Duration = Duration::from_millis(500);

/// How much an event matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Normal life.
    Info,
    /// Protection is reduced, or was for a while.
    Warning,
    /// Somebody has to act.
    Error,
}

impl Level {
    /// As in `admin::Event`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// Why there is no history.
#[derive(Debug, thiserror::Error)]
pub enum EventsError {
    /// sled says no, also to a new one.
    #[error("open the event history {}: {source}; nothing else needs it, it may be deleted", path.display())]
    Open {
        /// Its directory.
        path: PathBuf,
        /// Why.
        source: sled::Error,
    },
    /// A damaged history could not be moved out of the way.
    #[error("set the damaged event history {} aside: {source}; it may be deleted", path.display())]
    SetAside {
        /// Its directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// The history. Dropping it writes what waits.
pub struct Events {
    db: sled::Db,
    queue: Option<SyncSender<Event>>,
    dropped: Arc<AtomicU64>,
    writer: Option<JoinHandle<()>>,
}

impl Events {
    /// Opens or makes the history in a directory.
    pub fn open(dir: &Path) -> Result<Self, EventsError> {
        let fail = |source| EventsError::Open { path: dir.to_owned(), source };
        let db = match open_db(dir) {
            Ok(db) => db,
            Err(sled::Error::Io(source)) => return Err(fail(sled::Error::Io(source))),
            Err(error) => {
                let aside = dir.with_extension(format!("damaged-{}", wall_ns() / 1_000_000_000));
                tracing::warn!(%error, aside = %aside.display(), "the event history is damaged: a new one begins");
                fs::rename(dir, &aside)
                    .map_err(|source| EventsError::SetAside { path: dir.to_owned(), source })?;
                open_db(dir).map_err(fail)?
            }
        };
        let (queue, waiting) = sync_channel(QUEUE_EVENTS_MAX);
        let dropped = Arc::new(AtomicU64::new(0));
        let mut writer = Writer::new(db.clone(), dropped.clone()).map_err(fail)?;
        let writer = std::thread::Builder::new()
            .name("events".to_owned())
            .spawn(move || writer.run(&waiting))
            .map_err(|e| fail(sled::Error::Io(e)))?;
        Ok(Self { db, queue: Some(queue), dropped, writer: Some(writer) })
    }

    /// A place of another kind in the same store, of which the same holds: a power cut may take its end.
    pub fn beside(&self, name: &str) -> sled::Result<sled::Tree> {
        self.db.open_tree(name)
    }

    /// Adds an event; `export` is its path, or empty. Never blocks.
    pub fn append(&self, level: Level, export: &str, text: impl Into<String>) {
        let mut text = text.into();
        let end = (0..=TEXT_BYTES_MAX.min(text.len())).rev().find(|i| text.is_char_boundary(*i));
        text.truncate(end.unwrap_or(0));
        let event = Event {
            id: 0,
            at_ns: wall_ns(),
            level: level.as_str().to_owned(),
            export: export.to_owned(),
            text,
        };
        let accepted = self.queue.as_ref().is_some_and(|queue| queue.try_send(event).is_ok());
        if !accepted {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Events with an id above `after`, oldest first, at most `limit`.
    pub fn after(&self, after: u64, limit: usize) -> Vec<Event> {
        read_after(&self.db, after, limit)
    }

    /// The newest events, oldest first, at most `limit`.
    pub fn newest(&self, limit: usize) -> Vec<Event> {
        let mut events: Vec<Event> = readable(self.db.iter().rev()).take(limit).collect();
        events.reverse();
        events
    }

    /// What the admin interface answers: the newest `limit` (`after` = 0) or the first `limit` above `after`,
    /// and with `follow` all that come. Must be called in a tokio runtime.
    pub fn answer(&self, request: &EventsRequest) -> ReceiverStream<Event> {
        let limit = (request.limit as usize).min(EVENTS_MAX as usize);
        let old = if request.after == 0 { self.newest(limit) } else { self.after(request.after, limit) };
        let after = match old.first() {
            Some(event) => event.id.saturating_sub(1),
            None => self.last_id().max(request.after),
        };
        if request.follow {
            return self.follow(after);
        }
        let (out, stream) = mpsc::channel(BATCH_EVENTS);
        tokio::spawn(async move {
            for event in old {
                if out.send(event).await.is_err() {
                    return;
                }
            }
        });
        ReceiverStream::new(stream)
    }

    fn last_id(&self) -> u64 {
        self.db.last().ok().and_then(id_of).unwrap_or(0)
    }

    /// All events with an id above `after`, those to come included, until the stream is dropped. Must be
    /// called in a tokio runtime.
    pub fn follow(&self, after: u64) -> ReceiverStream<Event> {
        let (out, stream) = mpsc::channel(BATCH_EVENTS);
        let news = Arc::new(Notify::new());
        let closed = Arc::new(AtomicBool::new(false));
        let subscriber = self.db.watch_prefix([]);
        watch(subscriber, news.clone(), closed.clone());
        let db = self.db.clone();
        tokio::spawn(async move {
            deliver(&db, after, &out, &news, &closed).await;
            closed.store(true, Ordering::Relaxed);
        });
        ReceiverStream::new(stream)
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        drop(self.queue.take());
        if let Some(writer) = self.writer.take() {
            // A panic in there has already been reported by the thread itself.
            let _ = writer.join();
        }
    }
}

fn open_db(dir: &Path) -> sled::Result<sled::Db> {
    let config = sled::Config::new()
        .path(dir)
        .cache_capacity(CACHE_BYTES)
        .mode(sled::Mode::LowSpace)
        .flush_every_ms(Some(1000));
    let mut tries = LOCK_TRIES;
    loop {
        match config.open() {
            Err(sled::Error::Io(_)) if tries > 0 => tries -= 1,
            done => return done,
        }
        std::thread::sleep(LOCK_RETRY);
    }
}

/// Without what does not decode, up to the first row that cannot be read: sled says the error of a damaged page again and again.
fn readable(
    rows: impl Iterator<Item = sled::Result<(sled::IVec, sled::IVec)>>,
) -> impl Iterator<Item = Event> {
    rows.map_while(Result::ok).filter_map(|(_, value)| Event::decode(value.as_ref()).ok())
}

fn read_after(db: &sled::Db, after: u64, limit: usize) -> Vec<Event> {
    let Some(first) = after.checked_add(1) else { return Vec::new() };
    readable(db.range(first.to_be_bytes()..)).take(limit).collect()
}

fn id_of(row: Option<(sled::IVec, sled::IVec)>) -> Option<u64> {
    row.and_then(|(key, _)| Some(u64::from_be_bytes(key.as_ref().try_into().ok()?)))
}

/// A slow reader must not fill sled's own queue of the subscriber, which would block the writer: this thread
/// does nothing but empty it.
fn watch(mut subscriber: sled::Subscriber, news: Arc<Notify>, closed: Arc<AtomicBool>) {
    let started = std::thread::Builder::new().name("events-follow".to_owned()).spawn({
        let (news, closed) = (news.clone(), closed.clone());
        move || {
            while !closed.load(Ordering::Relaxed) {
                match subscriber.next_timeout(FOLLOW_CHECK) {
                    Ok(_) => news.notify_one(),
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => break,
                }
            }
            closed.store(true, Ordering::Relaxed);
            news.notify_one();
        }
    });
    if let Err(error) = started {
        tracing::warn!(%error, "start a thread to follow events");
        closed.store(true, Ordering::Relaxed);
        news.notify_one();
    }
}

async fn deliver(db: &sled::Db, after: u64, out: &mpsc::Sender<Event>, news: &Notify, closed: &AtomicBool) {
    let mut last = after;
    loop {
        let batch = read_after(db, last, BATCH_EVENTS);
        let caught_up = batch.is_empty();
        for event in batch {
            last = event.id;
            if out.send(event).await.is_err() {
                return;
            }
        }
        if caught_up {
            if closed.load(Ordering::Relaxed) {
                return;
            }
            tokio::select! {
                () = news.notified() => {}
                () = out.closed() => return,
            }
        }
    }
}

/// Owner of all changes to the history.
struct Writer {
    db: sled::Db,
    dropped: Arc<AtomicU64>,
    first: u64,
    next: u64,
    failing: bool,
}

impl Writer {
    fn new(db: sled::Db, dropped: Arc<AtomicU64>) -> sled::Result<Self> {
        let last = id_of(db.last()?).unwrap_or(0);
        let first = id_of(db.first()?).unwrap_or(1);
        Ok(Self { db, dropped, first, next: last.saturating_add(1), failing: false })
    }

    fn run(&mut self, waiting: &Receiver<Event>) {
        while let Ok(event) = waiting.recv() {
            let lost = self.dropped.swap(0, Ordering::Relaxed);
            if lost > 0 {
                self.write(Event {
                    id: 0,
                    at_ns: event.at_ns,
                    level: Level::Warning.as_str().to_owned(),
                    export: String::new(),
                    text: format!(
                        "{lost} events came faster than they could be written and are missing here"
                    ),
                });
            }
            self.write(event);
        }
        if let Err(error) = self.db.flush() {
            tracing::warn!(%error, "flush the event history");
        }
    }

    fn write(&mut self, mut event: Event) {
        event.id = self.next;
        let done = self.db.insert(self.next.to_be_bytes(), event.encode_to_vec()).and_then(|_| self.trim());
        match done {
            Ok(()) => {
                self.next = self.next.saturating_add(1);
                self.failing = false;
            }
            Err(error) => {
                if !self.failing {
                    tracing::warn!(%error, "write to the event history; events are missing there");
                }
                self.failing = true;
            }
        }
    }

    fn trim(&mut self) -> sled::Result<()> {
        while self.next.saturating_sub(self.first) >= EVENTS_MAX {
            self.db.remove(self.first.to_be_bytes())?;
            self.first = self.first.saturating_add(1);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
