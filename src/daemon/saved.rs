//! What `divergent` has saved, as far as it is known: for `status` and the figures, which must not wait for a disk.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::divergent::{self, Tail};

/// Who asks waits this long for the disk; then it gets what was known last.
const WAIT: Duration = Duration::from_secs(1);

/// See the module.
pub struct Saved {
    read: Box<dyn Fn() -> Vec<Tail> + Send + Sync>,
    known: Mutex<Arc<[Tail]>>,
    /// Held while the disk is read: where it hangs, one thread hangs with it.
    reading: Arc<tokio::sync::Mutex<()>>,
    wait: Duration,
}

impl Saved {
    /// Of a data directory. Reads it: blocks.
    pub fn new(data: &Path) -> Arc<Self> {
        let data = data.to_owned();
        Self::with(WAIT, move || divergent::list(&data))
    }

    fn with(wait: Duration, read: impl Fn() -> Vec<Tail> + Send + Sync + 'static) -> Arc<Self> {
        let known = Mutex::new(read().into());
        Arc::new(Self { read: Box::new(read), known, reading: Arc::default(), wait })
    }

    /// Looks again and says what is known then. Takes 1 s at most.
    pub async fn look(self: &Arc<Self>) -> Arc<[Tail]> {
        if let Ok(reading) = self.reading.clone().try_lock_owned() {
            let this = self.clone();
            let read = tokio::task::spawn_blocking(move || {
                let tails = (this.read)().into();
                *this.known.lock() = tails;
                drop(reading);
            });
            let _ = tokio::time::timeout(self.wait, read).await;
        }
        self.known.lock().clone()
    }
}

#[cfg(test)]
mod tests {
    //! Goal: a disk that hangs costs one thread, and who asks gets what was known. Method: a reader that waits to be told.

    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn a_disk_that_hangs_costs_one_thread() {
        let (go_on, wait) = mpsc::channel::<()>();
        let (wait, begun) = (Mutex::new(wait), Arc::new(AtomicUsize::new(0)));
        go_on.send(()).unwrap();
        let counted = begun.clone();
        let saved = Saved::with(Duration::from_millis(10), move || {
            counted.fetch_add(1, Ordering::Relaxed);
            let _ = wait.lock().recv();
            Vec::new()
        });
        for _ in 0..5 {
            assert!(saved.look().await.is_empty());
        }
        assert_eq!(begun.load(Ordering::Relaxed), 2, "once at the start, once to hang");
        go_on.send(()).unwrap();
        drop(saved.reading.lock().await);
        go_on.send(()).unwrap();
        saved.look().await;
        assert_eq!(begun.load(Ordering::Relaxed), 3, "it is read again");
    }
}
