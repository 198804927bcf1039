//! Clients under way: each changes its own directory, remembers what was acknowledged, and reads it back later.
//!
//! MKDIR, CREATE GUARDED, RENAME, LINK and REMOVE have to succeed once and only once, so a retransmission that a server
//! took for a new call is an error here. What a worker keeps is what must be there: names, bytes, and the
//! file's handle and id as they were when it was made.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hanfs::client::{ClientError, Patience, Session, Stats, Target};
use nfs3_types::nfs3::nfs_fh3;
use tokio::task::JoinHandle;

/// Files have 1 byte to 24 KiB.
const BYTES_MAX: u64 = 24 << 10;
/// Directories that a worker keeps; then it removes the oldest for each new one.
const KEPT_MAX: usize = 120;
/// Rounds between two writes into the large file.
const LARGE_EVERY: u64 = 8;
/// One write into the large file, bytes: the largest that there is.
const PIECE_BYTES: u64 = 1 << 20;
/// Places in the large file, each with a hole of two pieces behind it.
const PLACES: u64 = 6;

/// See the module.
pub struct Load {
    target: Target,
    /// What its connections went through.
    pub stats: Arc<Stats>,
    rounds: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    workers: Vec<JoinHandle<Worker>>,
}

/// What was acknowledged.
pub struct Written {
    target: Target,
    workers: Vec<Worker>,
}

struct Worker {
    session: Session,
    name: String,
    dir: nfs_fh3,
    kept: VecDeque<Kept>,
    large: nfs_fh3,
    /// Place and the seed of its bytes.
    pieces: BTreeMap<u64, u64>,
    error: Option<String>,
}

/// A directory with a file in it.
struct Kept {
    round: u64,
    dir: nfs_fh3,
    file: nfs_fh3,
    file_id: u64,
}

type Result<T> = std::result::Result<T, ClientError>;

impl Load {
    /// So many workers, in directories whose names begin with `label`.
    pub async fn start(target: &Target, label: &str, workers: usize) -> Self {
        Self::start_paced(target, label, workers, Duration::ZERO).await
    }

    /// The same, and each rests so long after a round: for who is to notice pauses and not to wear the machine out.
    pub async fn start_paced(target: &Target, label: &str, workers: usize, rest: Duration) -> Self {
        let mut load = Self {
            target: target.clone(),
            stats: Arc::new(Stats::default()),
            rounds: Arc::default(),
            stop: Arc::default(),
            workers: Vec::new(),
        };
        for number in 0..workers {
            let worker = Worker::new(target, &load.stats, format!("{label}-{number}")).await;
            let worker = worker.expect("begin a load");
            load.workers.push(tokio::spawn(worker.run(load.rounds.clone(), load.stop.clone(), rest)));
        }
        load
    }

    /// Waits for so many rounds more, of all workers together.
    pub async fn more(&self, rounds: u64) {
        let goal = self.rounds.load(Ordering::Relaxed) + rounds;
        let until = Instant::now() + Duration::from_secs(90);
        while self.rounds.load(Ordering::Relaxed) < goal && !self.workers.iter().all(JoinHandle::is_finished)
        {
            assert!(Instant::now() < until, "the clients of {} are stuck", self.target.path);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Stops it. Fails the test if a client saw an error.
    pub async fn finish(self) -> Written {
        self.stop.store(true, Ordering::Relaxed);
        let mut workers = Vec::new();
        for worker in self.workers {
            workers.push(worker.await.expect("a worker ends"));
        }
        let errors: Vec<&String> = workers.iter().filter_map(|worker| worker.error.as_ref()).collect();
        assert!(errors.is_empty(), "clients of {} saw {errors:?}", self.target.path);
        Written { target: self.target, workers }
    }
}

impl Written {
    /// Reads everything back on a new connection: names, bytes, handles. Returns how many files there are.
    pub async fn verify(&self) -> usize {
        let mut session = mount(&self.target, &Arc::default()).await.expect("mount to read back");
        for worker in &self.workers {
            if let Err(error) = worker.verify(&mut session).await {
                panic!("{} of {}: {error}", worker.name, self.target.path);
            }
        }
        self.workers.iter().map(|worker| worker.kept.len()).sum()
    }
}

/// A session with the patience of a kernel.
pub async fn mount(target: &Target, stats: &Arc<Stats>) -> Result<Session> {
    Session::mount(target, Patience::default(), stats).await
}

/// Bytes that follow from a seed.
pub fn bytes_of(seed: u64, len: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len as usize + 8);
    while (bytes.len() as u64) < len {
        // xorshift64 (Marsaglia 2003).
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len as usize);
    bytes
}

impl Kept {
    fn dir_name(&self) -> String {
        format!("d{}", self.round)
    }

    fn linked(&self) -> bool {
        self.round.is_multiple_of(4)
    }

    fn data(&self) -> Vec<u8> {
        // A prime, so that sizes do not repeat soon.
        bytes_of(self.round + 1, 1 + self.round.wrapping_mul(7919) % BYTES_MAX)
    }
}

impl Worker {
    async fn new(target: &Target, stats: &Arc<Stats>, name: String) -> Result<Self> {
        let mut session = mount(target, stats).await?;
        let root = session.root();
        let dir = session.mkdir(&root, &name).await?;
        let large = session.create_new(&dir, "large").await?;
        let (kept, pieces) = (VecDeque::new(), BTreeMap::new());
        Ok(Self { session, name, dir, kept, large, pieces, error: None })
    }

    async fn run(mut self, rounds: Arc<AtomicU64>, stop: Arc<AtomicBool>, rest: Duration) -> Self {
        let mut round = 0;
        while !stop.load(Ordering::Relaxed) {
            if let Err(error) = self.round(round).await {
                self.error = Some(format!("{}, round {round}: {error}", self.name));
                break;
            }
            round += 1;
            rounds.fetch_add(1, Ordering::Relaxed);
            if !rest.is_zero() {
                tokio::time::sleep(rest).await;
            }
        }
        self
    }

    async fn round(&mut self, round: u64) -> Result<()> {
        let session = &mut self.session;
        let dir = session.mkdir(&self.dir, &format!("d{round}")).await?;
        let file = session.create_new(&dir, "new").await?;
        let file_id = session.getattr(&file).await?.fileid;
        let kept = Kept { round, dir, file, file_id };
        let stable = session.write(&kept.file, 0, &kept.data()).await?;
        assert!(stable, "every acknowledged WRITE is stable");
        session.rename(&kept.dir, "new", &kept.dir, "file").await?;
        if kept.linked() {
            session.link(&kept.file, &kept.dir, "link").await?;
        }
        if round.is_multiple_of(3) {
            session.create_new(&kept.dir, "gone").await?;
            session.remove(&kept.dir, "gone").await?;
        }
        self.kept.push_back(kept);
        if round.is_multiple_of(LARGE_EVERY) {
            let place = (round / LARGE_EVERY) % PLACES;
            session.write(&self.large, place * 3 * PIECE_BYTES, &bytes_of(round, PIECE_BYTES)).await?;
            self.pieces.insert(place, round);
        }
        if self.kept.len() > KEPT_MAX {
            self.remove_oldest().await?;
        }
        Ok(())
    }

    async fn remove_oldest(&mut self) -> Result<()> {
        let Some(oldest) = self.kept.pop_front() else { return Ok(()) };
        self.session.remove(&oldest.dir, "file").await?;
        if oldest.linked() {
            self.session.remove(&oldest.dir, "link").await?;
        }
        self.session.rmdir(&self.dir, &oldest.dir_name()).await
    }

    async fn verify(&self, session: &mut Session) -> Result<()> {
        let root = session.root();
        let top = session.lookup(&root, &self.name).await?;
        assert_eq!(top, self.dir, "{}: the directory's handle changed", self.name);
        let mut expected: Vec<String> =
            self.kept.iter().map(Kept::dir_name).chain(["large".to_owned()]).collect();
        expected.sort();
        assert_eq!(names(session, &top).await?, expected, "names in {}", self.name);
        for kept in &self.kept {
            self.verify_kept(session, kept).await?;
        }
        self.verify_large(session).await
    }

    async fn verify_kept(&self, session: &mut Session, kept: &Kept) -> Result<()> {
        let place = format!("{}/{}", self.name, kept.dir_name());
        let expected = if kept.linked() { vec!["file", "link"] } else { vec!["file"] };
        assert_eq!(names(session, &kept.dir).await?, expected, "names in {place}");
        assert_eq!(session.lookup(&kept.dir, "file").await?, kept.file, "{place}/file: the handle changed");
        let attr = session.getattr(&kept.file).await?;
        let data = kept.data();
        assert_eq!((attr.fileid, attr.size), (kept.file_id, data.len() as u64), "{place}/file");
        let (read, _) = session.read(&kept.file, 0, BYTES_MAX as u32).await?;
        assert!(read == data, "{place}/file does not hold what was acknowledged");
        Ok(())
    }

    async fn verify_large(&self, session: &mut Session) -> Result<()> {
        let Some(last) = self.pieces.keys().last() else { return Ok(()) };
        let size = (last * 3 + 1) * PIECE_BYTES;
        assert_eq!(session.getattr(&self.large).await?.size, size, "{}/large", self.name);
        for piece in 0..size / PIECE_BYTES {
            let expected = match self.pieces.get(&(piece / 3)) {
                Some(seed) if piece.is_multiple_of(3) => bytes_of(*seed, PIECE_BYTES),
                _ => vec![0; PIECE_BYTES as usize],
            };
            let (read, _) = session.read(&self.large, piece * PIECE_BYTES, PIECE_BYTES as u32).await?;
            assert!(read == expected, "{}/large: MiB {piece} is not what was acknowledged", self.name);
        }
        Ok(())
    }
}

async fn names(session: &mut Session, dir: &nfs_fh3) -> Result<Vec<String>> {
    let mut names: Vec<String> = session.list(dir).await?.into_iter().map(|entry| entry.name).collect();
    names.sort();
    Ok(names)
}
