//! Whether an administrator has drained this node. It is a file, so that it outlives the process:
//!
//! ```text
//! DATA/drained    when, ns since 1970, as text; no file: not drained
//! ```

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use replica::clock::wall_ns;

/// See the module.
#[derive(Debug)]
pub struct Drained {
    file: PathBuf,
    since_ns: AtomicU64,
    /// One change at a time.
    changing: Mutex<()>,
}

impl Drained {
    /// As the data directory says. A mark that cannot be read as a time is a mark all the same.
    pub fn open(data: &Path) -> io::Result<Self> {
        let file = data.join("drained");
        let since_ns = match std::fs::read_to_string(&file) {
            Ok(text) => text.trim().parse().unwrap_or(1),
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(error),
        };
        Ok(Self { file, since_ns: AtomicU64::new(since_ns), changing: Mutex::new(()) })
    }

    /// Since when, ns since 1970; 0: it is not.
    pub fn since_ns(&self) -> u64 {
        self.since_ns.load(Ordering::Acquire)
    }

    /// Sets or removes the mark, durably before this returns; on an error it is as [`Self::since_ns`] says, and may be otherwise
    /// after a power cut. One that is set keeps its time. Blocks.
    pub fn set(&self, drained: bool) -> io::Result<()> {
        let _one = self.changing.lock();
        if !drained {
            match std::fs::remove_file(&self.file) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => self.since_ns.store(0, Ordering::Release),
            }
        } else if self.since_ns() == 0 {
            let now = wall_ns().max(1);
            let new = self.file.with_extension("new");
            let mut out = File::create(&new)?;
            out.write_all(format!("{now}\n").as_bytes())?;
            out.sync_all()?;
            std::fs::rename(&new, &self.file)?;
            self.since_ns.store(now, Ordering::Release);
        }
        // Also where nothing was to be done: an attempt before may have failed here.
        match self.file.parent() {
            Some(dir) => File::open(dir)?.sync_all(),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    //! Goal: the mark is there as long as nobody removes it. Method: a directory, opened again.

    use super::*;

    #[test]
    fn the_mark_outlives_the_process() {
        let dir = tempfile::tempdir().unwrap();
        let drained = Drained::open(dir.path()).unwrap();
        assert_eq!(drained.since_ns(), 0);
        drained.set(false).unwrap();
        drained.set(true).unwrap();
        let since = drained.since_ns();
        assert!(since > 1);
        drained.set(true).unwrap();
        assert_eq!(Drained::open(dir.path()).unwrap().since_ns(), since, "the first order's time");
        drained.set(false).unwrap();
        assert_eq!((drained.since_ns(), Drained::open(dir.path()).unwrap().since_ns()), (0, 0));
        drained.set(true).unwrap();
        std::fs::remove_file(dir.path().join("drained")).unwrap();
        drained.set(false).unwrap();
        assert_eq!(drained.since_ns(), 0, "somebody else removed it");
        std::fs::write(dir.path().join("drained"), "by hand").unwrap();
        drained.set(false).unwrap();
        assert!(!dir.path().join("drained").exists(), "the file counts, not what was known of it");
        std::fs::write(dir.path().join("drained"), "by hand").unwrap();
        assert_ne!(Drained::open(dir.path()).unwrap().since_ns(), 0, "a mark that nobody understands");
    }
}
