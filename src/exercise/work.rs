//! What each connection does: write small files under another name, rename, read back, and replace the oldest.
//!
//! CREATE GUARDED, RENAME and REMOVE have to succeed once and only once, so a retransmission that the server took
//! for a new call shows as an error. Which files there are, and what is in them, follows from a worker's
//! number and how many rounds it did.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nfs3_client::nfs3_types::nfs3::nfs_fh3;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::report::Report;
use crate::client::{ClientError, Patience, Session, Stats, StatsSnapshot, Target};
use crate::demo::content::fill;

/// Connections to each export.
const WORKERS: u64 = 2;
/// Files of a worker; then it replaces the oldest, so that an exercise of any length fits on the disk.
const FILES_MAX: u64 = 2000;
/// Files have 1 byte to 16 KiB.
const BYTES_MAX: u64 = 16 << 10;
/// Between two rounds of a worker: it is to notice pauses, not to measure throughput.
const REST: Duration = Duration::from_millis(5);

/// One export and those who work on it.
pub struct Party {
    /// The export.
    pub target: Target,
    directory: String,
    stats: Arc<Stats>,
    stop: Arc<AtomicBool>,
    workers: JoinSet<Done>,
}

/// What a worker did.
struct Done {
    worker: u64,
    rounds: u64,
    error: Option<ClientError>,
    unstable: u64,
}

impl Party {
    /// Mounts the export, makes a directory, and begins.
    pub async fn start(target: Target) -> Result<Self, ClientError> {
        let (stats, stop) = (Arc::new(Stats::default()), Arc::new(AtomicBool::new(false)));
        let directory = format!("exercise-{}", Uuid::new_v4().simple());
        let mut session = Session::mount(&target, Patience::default(), &stats).await?;
        let root = session.root();
        let top = session.mkdir(&root, &directory).await?;
        let mut workers = JoinSet::new();
        for worker in 0..WORKERS {
            let mut session = Session::mount(&target, Patience::default(), &stats).await?;
            let dir = session.mkdir(&top, &dir_name(worker)).await?;
            workers.spawn(work(session, dir, worker, stop.clone()));
        }
        // The wait for somebody to answer at all was no pause.
        stats.forget_longest();
        Ok(Self { target, directory, stats, stop, workers })
    }

    /// What happened since the last time.
    pub fn snapshot(&self) -> StatsSnapshot {
        let now = self.stats.snapshot();
        self.stats.forget_longest();
        now
    }

    /// Stops the work, reads everything back, and cleans up if all was well.
    pub async fn finish(mut self, report: &mut Report) {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Vec::new();
        while let Some(ended) = self.workers.join_next().await {
            match ended {
                Ok(done) => all.push(done),
                Err(error) => report.failures.push(format!("a worker stopped: {error}")),
            }
        }
        for done in &all {
            report.written += done.rounds;
            report.bytes += (0..done.rounds).map(size).sum::<u64>();
            report.failures.extend(done.error.iter().map(ClientError::to_string));
            if done.unstable > 0 {
                report.failures.push(format!("{} WRITEs were not answered as stable", done.unstable));
            }
        }
        if let Err(error) = self.read_back(&all, report).await {
            report.failures.push(error.to_string());
        }
    }

    async fn read_back(&self, all: &[Done], report: &mut Report) -> Result<(), ClientError> {
        let stats = Arc::new(Stats::default());
        let mut session = Session::mount(&self.target, Patience::default(), &stats).await?;
        let root = session.root();
        let top = session.lookup(&root, &self.directory).await?;
        for done in all {
            compare(&mut session, &top, done, report).await?;
        }
        if report.passed() {
            for done in all {
                remove(&mut session, &top, done).await?;
            }
            session.rmdir(&root, &self.directory).await?;
        }
        Ok(())
    }
}

fn dir_name(worker: u64) -> String {
    format!("worker{worker}")
}

fn file_name(round: u64) -> String {
    format!("file{:04}", round % FILES_MAX)
}

/// Bytes of the file of a round.
fn size(round: u64) -> u64 {
    // A prime, so that sizes do not repeat with the names.
    1 + round.wrapping_mul(7919) % BYTES_MAX
}

fn content(worker: u64, round: u64) -> Vec<u8> {
    let mut data = vec![0; size(round) as usize];
    fill(worker << 48 | round, 0, &mut data);
    data
}

/// The rounds whose files are there after so many.
fn kept(rounds: u64) -> std::ops::Range<u64> {
    rounds.saturating_sub(FILES_MAX)..rounds
}

async fn work(mut session: Session, dir: nfs_fh3, worker: u64, stop: Arc<AtomicBool>) -> Done {
    let mut done = Done { worker, rounds: 0, error: None, unstable: 0 };
    while !stop.load(Ordering::Relaxed) {
        match round(&mut session, &dir, worker, done.rounds).await {
            Ok(stable) => done.unstable += u64::from(!stable),
            Err(error) => {
                done.error = Some(error);
                break;
            }
        }
        done.rounds += 1;
        tokio::time::sleep(REST).await;
    }
    done
}

async fn round(session: &mut Session, dir: &nfs_fh3, worker: u64, round: u64) -> Result<bool, ClientError> {
    let (name, data) = (file_name(round), content(worker, round));
    if round >= FILES_MAX {
        session.remove(dir, &name).await?;
    }
    let file = session.create_new(dir, "new").await?;
    let stable = session.write(&file, 0, &data).await?;
    session.rename(dir, "new", dir, &name).await?;
    let (read, _) = session.read(&file, 0, BYTES_MAX as u32).await?;
    if read != data {
        let what = "other bytes than were written a moment ago";
        return Err(ClientError::Broken { operation: "READ", name, what });
    }
    Ok(stable)
}

async fn compare(
    session: &mut Session,
    top: &nfs_fh3,
    done: &Done,
    report: &mut Report,
) -> Result<(), ClientError> {
    let dir = session.lookup(top, &dir_name(done.worker)).await?;
    let there = session.list(&dir).await?.len() as u64;
    let expected = done.rounds.min(FILES_MAX);
    // A worker that met an error stopped in the middle of a round.
    if there != expected && done.error.is_none() {
        report.failures.push(format!("{}: {there} files, not {expected}", dir_name(done.worker)));
    }
    for round in kept(done.rounds) {
        let name = file_name(round);
        let file = session.lookup(&dir, &name).await?;
        let (read, _) = session.read(&file, 0, BYTES_MAX as u32).await?;
        report.read += 1;
        if read != content(done.worker, round) {
            report.failures.push(format!("{}/{name} is not what was written", dir_name(done.worker)));
        }
    }
    Ok(())
}

async fn remove(session: &mut Session, top: &nfs_fh3, done: &Done) -> Result<(), ClientError> {
    let dir = session.lookup(top, &dir_name(done.worker)).await?;
    for round in kept(done.rounds) {
        session.remove(&dir, &file_name(round)).await?;
    }
    session.rmdir(top, &dir_name(done.worker)).await
}

#[cfg(test)]
mod tests {
    //! Goal: every file that a worker leaves is compared with the round that wrote it last. Method: replay the
    //! names.

    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn the_rounds_that_are_kept_are_the_last_ones_of_each_name() {
        for rounds in [0, 1, FILES_MAX - 1, FILES_MAX, FILES_MAX + 1, 3 * FILES_MAX + 7] {
            let last: BTreeMap<String, u64> = (0..rounds).map(|r| (file_name(r), r)).collect();
            let kept: BTreeMap<String, u64> = kept(rounds).map(|r| (file_name(r), r)).collect();
            assert_eq!(kept, last);
        }
    }

    #[test]
    fn a_replaced_file_has_other_bytes_than_before() {
        assert_ne!(content(0, 1), content(0, 1 + FILES_MAX));
        assert_ne!(content(0, 1), content(1, 1));
        assert!((0..3 * FILES_MAX).all(|r| (1..=BYTES_MAX).contains(&size(r))));
    }
}
