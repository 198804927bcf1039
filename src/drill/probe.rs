//! The probe: clients of their own, in a directory of their own, that know what has to be there.
//!
//! Each worker makes files under fresh names, GUARDED and EXCLUSIVE in turn, writes, reads back, renames, removes, makes and
//! removes directories; one more holds a lock. Every call is sent until it is answered, as a kernel does, so that an
//! answer that only a second execution can give shows: see [`blame`]. What was acknowledged is compared when it is
//! removed, and at the end.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nfs3_client::nfs3_types::nfs3::{nfs_fh3, nfsstat3};
use parking_lot::Mutex;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::verdict::Findings;
use crate::client::{ClientError, LockClient, Patience, Session, Stats, Target};
use crate::demo::content::fill;

/// Connections that work.
const WORKERS: u64 = 2;
/// Files that a worker keeps until the end; then it compares and removes the oldest for each new one.
const KEPT_MAX: usize = 100;
/// Files have 1 byte to 16 KiB.
const BYTES_MAX: u64 = 16 << 10;
/// Between two rounds: it is to notice pauses, not to measure throughput.
const REST: Duration = Duration::from_millis(2);
/// Findings after which the workers stop: they would only repeat themselves.
const FINDINGS_MAX: usize = 100;
/// Between two looks at whether the workers get on.
const LOOK: Duration = Duration::from_millis(5);
/// Rounds that every worker has to finish before a pause counts as over: one may have been under way.
const ROUNDS_AFTER: u64 = 2;
/// Owners of the lock: who holds it, and who asks.
const HOLDER: u32 = 1;
const OTHER: u32 = 2;
/// The locked file.
const LOCK_FILE: &str = "lock";

/// As a Linux client after a tickle: it connects again at once. The first SYN to an address on its way may be lost.
fn patience() -> Patience {
    Patience { connect: Duration::from_millis(250), ..Patience::default() }
}

/// What an answer means that is not a success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// Only a second execution can be answered like this.
    Duplicate,
    /// Something acknowledged is not there.
    Lost,
    /// An application would have been told.
    Error,
}

/// The probe's names are fresh and nobody else uses them: so what it makes cannot be there, what it removes or renames cannot
/// be gone, and what was acknowledged is found.
pub fn blame(operation: &str, status: nfsstat3) -> Blame {
    match (operation, status) {
        ("CREATE" | "MKDIR", nfsstat3::NFS3ERR_EXIST) => Blame::Duplicate,
        ("REMOVE" | "RMDIR" | "RENAME", nfsstat3::NFS3ERR_NOENT) => Blame::Duplicate,
        (
            "LOOKUP" | "READ" | "WRITE" | "SETATTR" | "GETATTR",
            nfsstat3::NFS3ERR_NOENT | nfsstat3::NFS3ERR_STALE,
        ) => Blame::Lost,
        _ => Blame::Error,
    }
}

impl Findings {
    /// Takes an error in.
    fn add(&mut self, place: &str, error: &ClientError) {
        let text = format!("{place}: {error}");
        match error.status().map(|(operation, status)| blame(operation, status)) {
            Some(Blame::Duplicate) => self.duplicates.push(text),
            Some(Blame::Lost) => self.lost.push(text),
            Some(Blame::Error) | None => self.errors.push(text),
        }
    }

    fn count(&self) -> usize {
        self.errors.len() + self.duplicates.len() + self.lost.len()
    }
}

/// Where the probe works.
#[derive(Debug, Clone)]
pub struct Place {
    /// The export.
    pub target: Target,
    /// Where the probe's connections come from; `None`: the kernel chooses.
    pub source: Option<IpAddr>,
    /// Directory of the export in which it makes its own; empty: the root.
    pub below: String,
}

/// See the module.
pub struct Probe {
    place: Place,
    name: String,
    stats: Arc<Stats>,
    stop: Arc<AtomicBool>,
    rounds: Vec<Arc<AtomicU64>>,
    workers: JoinSet<Worker>,
    lock: Result<Held, String>,
    /// Of all workers, also of one that does not come back.
    findings: Arc<Mutex<Findings>>,
    directory: Directory,
}

/// What became of its directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Directory {
    NotMade,
    /// It may be there: nobody has been heard to say so.
    Asked,
    Made,
    Removed,
}

/// The lock.
struct Held {
    holder: LockClient,
    file: nfs_fh3,
}

/// One connection and what it knows.
struct Worker {
    number: u64,
    session: Session,
    dir: nfs_fh3,
    kept: VecDeque<u64>,
    findings: Arc<Mutex<Findings>>,
}

type Result<T, E = ClientError> = std::result::Result<T, E>;

async fn open(place: &Place, stats: &Arc<Stats>) -> Result<(Session, nfs_fh3)> {
    let mut session = Session::mount_from(&place.target, place.source, patience(), stats).await?;
    let mut dir = session.root();
    for name in place.below.split('/').filter(|name| !name.is_empty()) {
        dir = session.lookup(&dir, name).await?;
    }
    Ok((session, dir))
}

impl Probe {
    /// One that has done nothing yet.
    pub fn new(place: Place) -> Self {
        let random = Uuid::new_v4().simple().to_string();
        Self {
            place,
            name: format!(".hanfs-drill-{}", random.get(..8).unwrap_or(&random)),
            stats: Arc::default(),
            stop: Arc::default(),
            rounds: Vec::new(),
            workers: JoinSet::new(),
            lock: Err("not tried".to_owned()),
            findings: Arc::default(),
            directory: Directory::NotMade,
        }
    }

    /// Makes its directory and begins. Where that fails, or is broken off, [`Self::finish`] removes what there is.
    pub async fn start(&mut self) -> Result<()> {
        let (mut session, base) = open(&self.place, &self.stats).await?;
        self.directory = Directory::Asked;
        let top = session.mkdir(&base, &self.name).await?;
        self.directory = Directory::Made;
        let top = &top;
        let file = session.create_new(top, LOCK_FILE).await?;
        let mut holder = self.lock_client();
        let locked = holder.lock(&file, HOLDER).await;
        self.lock = locked.map(|()| Held { holder, file }).map_err(|e| e.to_string());
        for number in 0..WORKERS {
            let (mut session, _) = open(&self.place, &self.stats).await?;
            let dir = session.mkdir(top, &worker_name(number)).await?;
            let (rounds, stop) = (Arc::new(AtomicU64::new(0)), self.stop.clone());
            self.rounds.push(rounds.clone());
            let (kept, findings) = (VecDeque::new(), self.findings.clone());
            let worker = Worker { number, session, dir, kept, findings };
            self.workers.spawn(worker.run(rounds, stop));
        }
        Ok(())
    }

    fn lock_client(&self) -> LockClient {
        LockClient::new(&self.place.target, self.place.source, patience(), &self.stats)
    }

    /// Its directory, as a client sees it in the export.
    pub fn directory(&self) -> String {
        let below = self.place.below.trim_matches('/');
        if below.is_empty() { format!("/{}", self.name) } else { format!("/{below}/{}", self.name) }
    }

    /// From now on a new longest pause is measured.
    pub fn forget_pause(&self) {
        self.stats.forget_longest();
    }

    /// The longest pause, once every worker has got on; the error says that one has not in that time.
    pub async fn pause(&self, within: Duration) -> Result<Duration, String> {
        let until = Instant::now() + within;
        let goals: Vec<u64> =
            self.rounds.iter().map(|r| r.load(Ordering::Relaxed).saturating_add(ROUNDS_AFTER)).collect();
        while self.rounds.iter().zip(&goals).any(|(rounds, goal)| rounds.load(Ordering::Relaxed) < *goal) {
            if Instant::now() >= until {
                return Err(format!("the probe gets no answer, for {} s now", within.as_secs()));
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(self.stats.snapshot().longest.map(|pause| pause.took).unwrap_or_default())
    }

    /// Does the server know of the probe's lock? `None`: there is none, or nobody can say.
    pub async fn lock_is_held(&mut self) -> Option<bool> {
        let file = self.lock.as_ref().ok()?.file.clone();
        self.lock_client().is_locked_for(&file, OTHER).await.ok()
    }

    /// Ends the work, compares everything and removes it. May be broken off: see [`Self::findings`].
    pub async fn finish(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.workers.join_next().await {
            match ended {
                Ok(mut worker) => worker.compare_all().await,
                Err(error) => {
                    let text = format!("a worker of the probe stopped: {error}");
                    self.findings.lock().errors.push(text);
                }
            }
        }
        if let Ok(held) = &mut self.lock
            && let Err(error) = held.holder.unlock(&held.file, HOLDER).await
        {
            self.findings.lock().errors.push(error.to_string());
        }
        match self.clean().await {
            Ok(()) => self.directory = Directory::Removed,
            Err(error) => self.findings.lock().leftover = Some(self.leftover(&error.to_string())),
        }
    }

    /// What there was; `broken_off` says why the end of [`Self::finish`] was not waited for, if it was not. Ends the work that still
    /// goes on.
    pub fn findings(mut self, broken_off: Option<&str>) -> Findings {
        let mut findings = std::mem::take(&mut *self.findings.lock());
        let working = self.workers.len();
        self.workers.abort_all();
        if let Some(why) = broken_off {
            if working > 0 {
                findings
                    .errors
                    .push(format!("{working} of the probe's connections got no answer at the end"));
            }
            let there = matches!(self.directory, Directory::Asked | Directory::Made);
            if there && findings.leftover.is_none() {
                findings.leftover = Some(self.leftover(why));
            }
        }
        findings.no_lock = self.lock.as_ref().err().cloned();
        let stats = self.stats.snapshot();
        findings.calls = stats.calls;
        findings.reconnects = stats.reconnects;
        findings.retransmissions = stats.retransmissions;
        findings
    }

    fn leftover(&self, why: &str) -> String {
        let directory = self.directory();
        let lock = if self.lock.is_ok() { ", and its file may be locked" } else { "" };
        format!("{directory} could not be removed{lock}: {why}; remove it by hand")
    }

    async fn clean(&self) -> Result<()> {
        if self.directory == Directory::NotMade {
            return Ok(());
        }
        let (mut session, base) = open(&self.place, &self.stats).await?;
        let top = match session.lookup(&base, &self.name).await {
            Err(ClientError::Status { status: nfsstat3::NFS3ERR_NOENT, .. })
                if self.directory == Directory::Asked =>
            {
                return Ok(());
            }
            found => found?,
        };
        for worker in session.list(&top).await? {
            if worker.name == LOCK_FILE {
                session.remove(&top, LOCK_FILE).await?;
                continue;
            }
            let dir = session.lookup(&top, &worker.name).await?;
            for entry in session.list(&dir).await? {
                // Files by far the most; what is left of a directory has nothing in it.
                if session.remove(&dir, &entry.name).await.is_err() {
                    session.rmdir(&dir, &entry.name).await?;
                }
            }
            session.rmdir(&top, &worker.name).await?;
        }
        session.rmdir(&base, &self.name).await
    }
}

fn worker_name(number: u64) -> String {
    format!("worker{number}")
}

fn file_name(round: u64) -> String {
    format!("file{round}")
}

fn content(worker: u64, round: u64) -> Vec<u8> {
    // A prime, so that sizes do not repeat soon.
    let mut data = vec![0; (1 + round.wrapping_mul(7919) % BYTES_MAX) as usize];
    fill(worker << 48 | round, 0, &mut data);
    data
}

impl Worker {
    async fn run(mut self, rounds: Arc<AtomicU64>, stop: Arc<AtomicBool>) -> Self {
        let mut round = 0;
        while !stop.load(Ordering::Relaxed) && self.findings.lock().count() < FINDINGS_MAX {
            if let Err(error) = self.round(round).await {
                self.findings.lock().add(&self.name(round), &error);
            }
            round += 1;
            rounds.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(REST).await;
        }
        self
    }

    fn name(&self, round: u64) -> String {
        format!("{}/{}", worker_name(self.number), file_name(round))
    }

    async fn round(&mut self, round: u64) -> Result<()> {
        let (new, name, data) = (format!("new{round}"), file_name(round), content(self.number, round));
        let (session, dir) = (&mut self.session, &self.dir);
        let file = if round.is_multiple_of(2) {
            session.create_new(dir, &new).await?
        } else {
            let file = session.create_exclusive(dir, &new, round.to_be_bytes()).await?;
            session.set_mode(&file, 0o644).await?;
            file
        };
        if !session.write(&file, 0, &data).await? {
            self.findings.lock().errors.push(format!("{name}: a WRITE was not answered as stable"));
        }
        session.rename(dir, &new, dir, &name).await?;
        self.findings.lock().written += 1;
        self.kept.push_back(round);
        self.compare(round).await?;
        if round.is_multiple_of(3) {
            let directory = format!("dir{round}");
            self.session.mkdir(&self.dir, &directory).await?;
            self.session.rmdir(&self.dir, &directory).await?;
        }
        if self.kept.len() > KEPT_MAX
            && let Some(oldest) = self.kept.pop_front()
        {
            self.compare(oldest).await?;
            self.session.remove(&self.dir, &file_name(oldest)).await?;
        }
        Ok(())
    }

    /// A file is what was acknowledged.
    async fn compare(&mut self, round: u64) -> Result<()> {
        let file = self.session.lookup(&self.dir, &file_name(round)).await?;
        let (read, _) = self.session.read(&file, 0, BYTES_MAX as u32).await?;
        self.findings.lock().compared += 1;
        if read != content(self.number, round) {
            let place = self.name(round);
            self.findings.lock().lost.push(format!("{place}: not the bytes that were acknowledged"));
        }
        Ok(())
    }

    /// Ends where nobody answers: every file would take as long.
    async fn compare_all(&mut self) {
        for round in std::mem::take(&mut self.kept) {
            let compared = self.compare(round).await;
            let mut findings = self.findings.lock();
            if let Err(error) = &compared {
                findings.add(&self.name(round), error);
            }
            let answered = compared.err().is_none_or(|error| error.status().is_some());
            if !answered || findings.count() >= FINDINGS_MAX {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    //! Goal: what an answer shows is called by its name. Method: answers by hand.

    use super::*;

    #[test]
    fn only_a_second_execution_is_a_duplicate() {
        let (exist, noent) = (nfsstat3::NFS3ERR_EXIST, nfsstat3::NFS3ERR_NOENT);
        for operation in ["CREATE", "MKDIR"] {
            assert_eq!(blame(operation, exist), Blame::Duplicate);
            assert_eq!(blame(operation, noent), Blame::Error, "its directory is gone");
        }
        for operation in ["REMOVE", "RMDIR", "RENAME"] {
            assert_eq!(blame(operation, noent), Blame::Duplicate);
            assert_eq!(blame(operation, nfsstat3::NFS3ERR_IO), Blame::Error);
        }
        assert_eq!(blame("LOOKUP", noent), Blame::Lost);
        assert_eq!(blame("READ", nfsstat3::NFS3ERR_STALE), Blame::Lost);
        assert_eq!(blame("WRITE", nfsstat3::NFS3ERR_NOSPC), Blame::Error);
    }

    #[test]
    fn what_may_be_left_over_is_told() {
        use Directory::{Asked, Made, NotMade, Removed};
        let target = Target { address: IpAddr::from([127, 0, 0, 1]), port: 0, path: "/one".to_owned() };
        let place = Place { target, source: None, below: "a/b/".to_owned() };
        for (directory, told) in [(NotMade, false), (Asked, true), (Made, true), (Removed, false)] {
            let leftover = |broken_off| {
                let mut probe = Probe::new(place.clone());
                probe.directory = directory;
                (probe.directory(), probe.findings(broken_off).leftover)
            };
            let (name, left) = leftover(Some("interrupted"));
            assert!(name.starts_with("/a/b/.hanfs-drill-"), "{name}");
            let expected = format!("{name} could not be removed: interrupted; remove it by hand");
            assert_eq!(left, told.then_some(expected), "{directory:?}");
            assert_eq!(leftover(None).1, None, "it came to its end");
        }
    }

    #[test]
    fn files_of_a_worker_differ_from_each_other() {
        assert_ne!(content(0, 1), content(1, 1));
        assert_ne!(content(0, 1), content(0, 2));
        assert!((0..100).all(|round| (1..=BYTES_MAX).contains(&(content(0, round).len() as u64))));
    }
}
