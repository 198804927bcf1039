//! What must be synced at the next checkpoint.
//!
//! A few files are remembered, open, and each is fdatasync'ed. From [`FILES_MAX`] on nothing is remembered: one
//! syncfs of the host's file system takes the place of thousands of journal commits (and memory stays bounded).
//! syncfs reports a failed write-back of any file since the directory was opened, on Linux 5.8 and later.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::context;
use super::parts::{HostDir, Part};
use crate::disk::{Disk, File, Volume};

/// Files synced one by one; they stay open until then. Measured on ext4: 16 new files one by one take longer than
/// one syncfs of a thousand, but syncfs also writes what is none of this export's.
const FILES_MAX: usize = 16;

/// Files and names changed since the last checkpoint.
pub(super) struct Dirty {
    /// Open since the start, so that no write-back error escapes it.
    volume: Arc<dyn Volume>,
    changed: Mutex<Changed>,
    bytes: AtomicU64,
}

enum Changed {
    Few { files: BTreeMap<Part, Arc<dyn File>>, dirs: BTreeSet<HostDir>, root: bool },
    Many,
}

impl Default for Changed {
    fn default() -> Self {
        Self::Few { files: BTreeMap::new(), dirs: BTreeSet::new(), root: false }
    }
}

impl Dirty {
    /// An earlier process, which was killed, may have left names and data that it never synced. Replay writes the data
    /// again but finds the names there already, so the first sync is of everything.
    pub(super) fn new(volume: Arc<dyn Volume>) -> Self {
        Self { volume, changed: Mutex::new(Changed::Many), bytes: AtomicU64::new(0) }
    }

    /// A file's bytes or length have changed.
    pub(super) fn file(&self, part: Part, open: &Arc<dyn File>, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let mut changed = self.changed.lock();
        if let Changed::Few { files, .. } = &mut *changed {
            files.entry(part).or_insert_with(|| open.clone());
            if files.len() > FILES_MAX {
                *changed = Changed::Many;
            }
        }
    }

    /// A name in one of the directories has come or gone, and perhaps the directory is new.
    pub(super) fn name(&self, dir: HostDir, new_dir: bool) {
        if let Changed::Few { dirs, root, .. } = &mut *self.changed.lock() {
            dirs.insert(dir);
            *root |= new_dir;
        }
    }

    /// The part need not be synced after all.
    pub(super) fn forget(&self, part: Part) {
        if let Changed::Few { files, .. } = &mut *self.changed.lock() {
            files.remove(&part);
        }
    }

    #[cfg(test)]
    pub(super) fn knows(&self, part: Part) -> bool {
        match &*self.changed.lock() {
            Changed::Few { files, .. } => files.contains_key(&part),
            Changed::Many => true,
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// All that was marked before the call is durable on return; what is marked meanwhile is the next call's.
    pub(super) fn sync(&self, disk: &dyn Disk) -> io::Result<()> {
        self.bytes.store(0, Ordering::Relaxed);
        let changed = std::mem::take(&mut *self.changed.lock());
        let (files, dirs, root) = match changed {
            Changed::Few { files, dirs, root } => (files, dirs, root),
            Changed::Many => {
                return self.volume.sync().map_err(context("syncfs", disk, Path::new("")));
            }
        };
        for (part, open) in files {
            open.sync().map_err(|e| context("fdatasync", disk, &part.path())(e))?;
        }
        for changed in dirs {
            let path = changed.path();
            disk.sync_dir(&path).map_err(context("fsync", disk, &path))?;
        }
        if root {
            let path = Path::new("");
            disk.sync_dir(path).map_err(context("fsync", disk, path))?;
        }
        Ok(())
    }
}
