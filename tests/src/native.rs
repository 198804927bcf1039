//! A native client in the lab: hanfs's own, in the clients' network namespace. It waits for nothing but the servers, so its pauses
//! are theirs, where those of an emulated machine are also its own.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use hanfs::client::{Stats, StatsSnapshot, Target};
use tokio::sync::oneshot;

use crate::pair::Load;
use crate::probe::{PORT, enter};

/// Between two rounds.
const REST: Duration = Duration::from_millis(5);

/// See the module. It works until [`Self::finish`].
pub struct Native {
    /// What it went through.
    pub stats: Arc<Stats>,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<usize>,
}

/// What it did, and found.
pub struct NativeSaw {
    /// All of its calls.
    pub stats: StatsSnapshot,
    /// Files that were read back.
    pub files: usize,
}

impl Native {
    /// Mounts an export and begins, in a directory whose name begins with `label`.
    pub fn start(path: &str, vip: Ipv4Addr, label: &str) -> Self {
        let target = Target { address: vip.into(), port: PORT, path: path.to_owned() };
        let (label, (said, hear)) = (label.to_owned(), mpsc::channel());
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            enter("net");
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("make a runtime").block_on(async {
                let load = Load::start_paced(&target, &label, 1, REST).await;
                said.send(load.stats.clone()).expect("somebody started it");
                let _ = stopped.await;
                load.finish().await.verify().await
            })
        });
        let stats = hear.recv().expect("it mounts");
        Self { stats, stop, thread }
    }

    /// The longest call since the last look, ms.
    pub fn longest_ms(&self) -> u64 {
        let longest = self.stats.snapshot().longest;
        self.stats.forget_longest();
        longest.map_or(0, |pause| pause.took.as_millis() as u64)
    }

    /// Ends it. Fails the test if it saw an error, or if not everything that it was told is there, once.
    pub fn finish(self) -> NativeSaw {
        let _ = self.stop.send(());
        let files = self.thread.join().expect("no error, and everything as it was acknowledged");
        NativeSaw { stats: self.stats.snapshot(), files }
    }
}
