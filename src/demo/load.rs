//! The clients: some write the tree, one keeps working on files of its own until it is told to stop.
//!
//! Every operation that is not idempotent (CREATE GUARDED, MKDIR, REMOVE, RENAME, LINK) has to succeed once
//! and only once, so a retransmission that the server took for a new call shows as an error here.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use nfs3_client::nfs3_types::nfs3::nfs_fh3;
use parking_lot::Mutex;
use tokio::task::JoinSet;

use super::content::{FileSpec, PIECE_BYTES, PIECE_UNITS, Tree, fill};
use crate::client::{ClientError, Patience, Session, Stats, Target};

/// Connections that write small files, per export.
const SMALL_WRITERS: usize = 2;
/// Bytes of a file that the steady client writes.
const STEADY_BYTES: usize = 4096;
/// Between two rounds of the steady client.
const STEADY_PAUSE: Duration = Duration::from_millis(5);
/// Directory of the steady client.
const STEADY_DIR: &str = "steady";

/// One export's clients.
pub struct Load {
    /// The export.
    pub target: Target,
    /// What is written.
    pub tree: Tree,
    /// What its connections went through.
    pub stats: Arc<Stats>,
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
}

#[derive(Default)]
struct Shared {
    units: AtomicU64,
    bytes: AtomicU64,
    unstable: AtomicU64,
    steady_rounds: AtomicU64,
    writers: AtomicU64,
    stop: AtomicBool,
    errors: Mutex<Vec<String>>,
}

impl Shared {
    fn done(&self, units: u64, bytes: u64) {
        self.units.fetch_add(units, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn wrote(&self, stable: bool) {
        self.unstable.fetch_add(u64::from(!stable), Ordering::Relaxed);
    }

    fn failed(&self, what: &str, error: &ClientError) {
        self.errors.lock().push(format!("{what}: {error}"));
    }
}

struct Job {
    dir: nfs_fh3,
    file: FileSpec,
}

impl Load {
    /// Mounts the export, makes the directories, and starts the writers.
    pub async fn start(target: Target, seed: u64) -> Result<Self, ClientError> {
        let tree = Tree::new(seed);
        let stats = Arc::new(Stats::default());
        let shared = Arc::new(Shared::default());
        let mut tasks = JoinSet::new();

        let mut session = Session::mount(&target, Patience::default(), &stats).await?;
        let root = session.root();
        let mut small = VecDeque::new();
        for dir in &tree.dirs {
            let handle = session.mkdir(&root, &dir.name).await?;
            shared.done(1, 0);
            small.extend(dir.files.iter().map(|file| Job { dir: handle.clone(), file: file.clone() }));
        }
        let steady = session.mkdir(&root, STEADY_DIR).await?;
        tasks.spawn(keep_busy(session, steady, shared.clone()));

        let small = Arc::new(Mutex::new(small));
        for _ in 0..SMALL_WRITERS {
            let session = Session::mount(&target, Patience::default(), &stats).await?;
            shared.writers.fetch_add(1, Ordering::Relaxed);
            tasks.spawn(write_small(session, small.clone(), shared.clone()));
        }
        let session = Session::mount(&target, Patience::default(), &stats).await?;
        shared.writers.fetch_add(1, Ordering::Relaxed);
        tasks.spawn(write_large(session, tree.large.clone(), shared.clone()));
        Ok(Self { target, tree, stats, shared, tasks })
    }

    /// How much of the tree is written, of [`Tree::units`].
    pub fn units(&self) -> u64 {
        self.shared.units.load(Ordering::Relaxed)
    }

    /// Bytes written.
    pub fn bytes(&self) -> u64 {
        self.shared.bytes.load(Ordering::Relaxed)
    }

    /// The tree is written, or its writers have given up.
    pub fn written(&self) -> bool {
        self.shared.writers.load(Ordering::Relaxed) == 0
    }

    /// Rounds of the steady client.
    pub fn steady_rounds(&self) -> u64 {
        self.shared.steady_rounds.load(Ordering::Relaxed)
    }

    /// WRITEs that were not answered FILE_SYNC, so that a client would owe a COMMIT.
    pub fn unstable(&self) -> u64 {
        self.shared.unstable.load(Ordering::Relaxed)
    }

    /// What went wrong so far.
    pub fn errors(&self) -> Vec<String> {
        self.shared.errors.lock().clone()
    }

    /// Ends the steady client and waits for everybody.
    pub async fn finish(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            if let Err(error) = ended {
                self.shared.errors.lock().push(format!("a client stopped: {error}"));
            }
        }
    }
}

async fn write_small(mut session: Session, jobs: Arc<Mutex<VecDeque<Job>>>, shared: Arc<Shared>) {
    loop {
        let job = jobs.lock().pop_front();
        let Some(job) = job else { break };
        if let Err(error) = small_file(&mut session, &job, &shared).await {
            shared.failed(&job.file.name, &error);
        }
        shared.done(job.file.units(), job.file.bytes);
    }
    shared.writers.fetch_sub(1, Ordering::Relaxed);
}

/// As an editor or a compiler writes a file: under another name first.
async fn small_file(session: &mut Session, job: &Job, shared: &Shared) -> Result<(), ClientError> {
    let (dir, file) = (&job.dir, &job.file);
    let temporary = format!("{}.tmp", file.name);
    let mut data = vec![0; file.bytes as usize];
    fill(file.seed, 0, &mut data);
    let handle = session.create_new(dir, &temporary).await?;
    shared.wrote(session.write(&handle, 0, &data).await?);
    session.rename(dir, &temporary, dir, &file.name).await?;
    if file.linked {
        session.link(&handle, dir, &file.link_name()).await?;
    }
    if file.symlinked {
        session.symlink(dir, &file.symlink_name(), &file.name).await?;
    }
    if file.scratch {
        let scratch = format!("{}.scratch", file.name);
        session.create_new(dir, &scratch).await?;
        session.remove(dir, &scratch).await?;
    }
    Ok(())
}

async fn write_large(mut session: Session, files: Vec<FileSpec>, shared: Arc<Shared>) {
    for file in files {
        if let Err(error) = large_file(&mut session, &file, &shared).await {
            shared.failed(&file.name, &error);
        }
    }
    shared.writers.fetch_sub(1, Ordering::Relaxed);
}

async fn large_file(session: &mut Session, file: &FileSpec, shared: &Shared) -> Result<(), ClientError> {
    let root = session.root();
    let handle = session.create_new(&root, &file.name).await?;
    let mut offset = 0;
    while offset < file.bytes {
        let mut data = vec![0; PIECE_BYTES.min(file.bytes - offset) as usize];
        fill(file.seed, offset, &mut data);
        shared.wrote(session.write(&handle, offset, &data).await?);
        shared.done(PIECE_UNITS, data.len() as u64);
        offset += data.len() as u64;
    }
    Ok(())
}

/// A client that never rests, so that each pause is somebody's pause.
async fn keep_busy(mut session: Session, dir: nfs_fh3, shared: Arc<Shared>) {
    let mut round = 0;
    while !shared.stop.load(Ordering::Relaxed) {
        if let Err(error) = steady_round(&mut session, &dir, round).await {
            shared.failed(&format!("steady client, round {round}"), &error);
            break;
        }
        round += 1;
        shared.steady_rounds.store(round, Ordering::Relaxed);
        tokio::time::sleep(STEADY_PAUSE).await;
    }
    let root = session.root();
    if let Err(error) = session.rmdir(&root, STEADY_DIR).await {
        shared.failed("steady client, at the end", &error);
    }
}

async fn steady_round(session: &mut Session, dir: &nfs_fh3, round: u64) -> Result<(), ClientError> {
    let mut data = vec![0; STEADY_BYTES];
    fill(round, 0, &mut data);
    let inner = session.mkdir(dir, "d").await?;
    let file = session.create_new(&inner, "new").await?;
    session.write(&file, 0, &data).await?;
    session.rename(&inner, "new", &inner, "f").await?;
    let (read, _) = session.read(&file, 0, STEADY_BYTES as u32).await?;
    if read != data {
        let what = "other bytes than were written a moment ago";
        return Err(ClientError::Broken { operation: "READ", name: format!("round {round}"), what });
    }
    session.remove(&inner, "f").await?;
    session.rmdir(dir, "d").await
}
