//! A node's data directory: whose it is, and that only one process uses it.
//!
//! ```text
//! DATA/node.toml       format, cluster, node (or "witness"): checked at each start, never overwritten
//! DATA/drained         an administrator has drained this node: see `drained`
//! DATA/lock            flock'ed while a process uses the directory
//! DATA/events/         the event history
//! DATA/exports/UUID/   wal/, meta.redb, content/
//! DATA/exports/UUID.removed/   of an export that was removed: kept until somebody deletes it
//! ```

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use replica::ids::ExportId;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

/// Format of the directory that this build makes and reads.
const FORMAT: u32 = 1;
/// A killed process is gone after this long; with GiBs of memory it takes tenths of a second.
const LOCK_MAX: Duration = Duration::from_secs(2);
/// How often the lock is tried.
const LOCK_LOOK: Duration = Duration::from_millis(20);

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Owner {
    format: u32,
    cluster: String,
    node: String,
}

/// A data directory in use by this process.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    _lock: File,
}

impl DataDir {
    /// Opens it, or makes it where there is none. An error names the file and the remedy; nothing is overwritten.
    pub fn open(path: &Path, cluster: &str, node: &str) -> anyhow::Result<Self> {
        std::fs::create_dir_all(path)
            .with_context(|| format!("make the data directory {}", path.display()))?;
        let lock_path = path.join("lock");
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path)
            .with_context(|| format!("open {}", lock_path.display()))?;
        if !locked(&lock) {
            bail!(
                "{} is in use by another hanfs process: stop that one first, or give this one a `data` directory of its own",
                path.display()
            );
        }
        let owner = Owner { format: FORMAT, cluster: cluster.to_owned(), node: node.to_owned() };
        check_owner(path, &owner)?;
        std::fs::create_dir_all(path.join("exports"))?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// Of an export.
    pub fn export(&self, id: ExportId) -> PathBuf {
        self.path.join("exports").join(id.to_string())
    }

    /// Sets the directory of a removed export aside, or deletes it. Returns where it is now. The group has stopped.
    pub fn remove_export(&self, id: ExportId, destroy: bool) -> std::io::Result<Option<PathBuf>> {
        let (dir, aside) = (self.export(id), self.removed(id));
        if !dir.exists() {
            return Ok(None);
        }
        let exports = self.path.join("exports");
        // Gone under its own name first: a crash in the middle leaves no half of an export behind.
        std::fs::rename(&dir, &aside)?;
        File::open(&exports)?.sync_all()?;
        if destroy {
            std::fs::remove_dir_all(&aside)?;
            return Ok(None);
        }
        Ok(Some(aside))
    }

    /// An export that was removed comes back under its id: what was set aside is its data again. True if there was any.
    pub fn restore_export(&self, id: ExportId) -> std::io::Result<bool> {
        let (dir, aside) = (self.export(id), self.removed(id));
        if dir.exists() || !aside.exists() {
            return Ok(false);
        }
        std::fs::rename(&aside, &dir)?;
        File::open(self.path.join("exports"))?.sync_all()?;
        Ok(true)
    }

    fn removed(&self, id: ExportId) -> PathBuf {
        self.path.join("exports").join(format!("{id}.removed"))
    }

    /// Of a witness's groups.
    pub fn witness(&self) -> PathBuf {
        self.path.join("witness")
    }

    /// Itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Of the event history.
    pub fn events(&self) -> PathBuf {
        self.path.join("events")
    }
}

/// A process that was killed holds its lock until the kernel is done with it; whoever is started in its place is not to
/// take it for another one.
fn locked(lock: &File) -> bool {
    let until = Instant::now() + LOCK_MAX;
    loop {
        if flock(lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
            return true;
        }
        if Instant::now() >= until {
            return false;
        }
        std::thread::sleep(LOCK_LOOK);
    }
}

fn check_owner(path: &Path, owner: &Owner) -> anyhow::Result<()> {
    let file = path.join("node.toml");
    let text = match std::fs::read_to_string(&file) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return claim(path, &file, owner),
        Err(e) => return Err(e).with_context(|| format!("read {}", file.display())),
    };
    let found: toml::Table = toml::from_str(&text)
        .with_context(|| format!("{} is damaged: restore it, or point `data` elsewhere", file.display()))?;
    let format = found.get("format").and_then(toml::Value::as_integer).unwrap_or(0);
    if format != i64::from(FORMAT) {
        bail!(
            "{} says format {format}, this hanfs reads format {FORMAT}: use the hanfs that made it, or a newer one",
            file.display()
        );
    }
    let found: Owner = toml::from_str(&text)
        .with_context(|| format!("{} is damaged: restore it, or point `data` elsewhere", file.display()))?;
    if found.cluster != owner.cluster {
        bail!(
            "{} belongs to cluster {}, the configuration to {}: correct `cluster` or `data`",
            path.display(),
            found.cluster,
            owner.cluster
        );
    }
    if found.node != owner.node {
        bail!(
            "{} belongs to node {}, this is node {}: correct `data` or --node",
            path.display(),
            found.node,
            owner.node
        );
    }
    Ok(())
}

/// A directory without an owner must be empty: it is made this node's.
fn claim(path: &Path, file: &Path, owner: &Owner) -> anyhow::Result<()> {
    let stranger = std::fs::read_dir(path)?
        .filter_map(Result::ok)
        .find(|e| !matches!(e.file_name().to_str(), Some("lock" | "lost+found" | "node.toml.new")));
    if let Some(stranger) = stranger {
        bail!(
            "{} has no node.toml but holds {}: it is no data directory of hanfs; point `data` at an empty one",
            path.display(),
            stranger.file_name().to_string_lossy()
        );
    }
    let new = path.join("node.toml.new");
    let mut out = File::create(&new)?;
    out.write_all(toml::to_string(owner)?.as_bytes())?;
    out.sync_all()?;
    std::fs::rename(&new, file)?;
    File::open(path)?.sync_all()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    //! Goal: no process ever works on a directory that is another's. Method: open it as everybody else.

    use super::*;

    const CLUSTER: &str = "6f2c0000-0000-4000-8000-000000000001";

    fn error(path: &Path, cluster: &str, node: &str) -> String {
        format!("{:#}", DataDir::open(path, cluster, node).unwrap_err())
    }

    #[test]
    fn a_directory_serves_one_process_of_one_node() {
        let dir = tempfile::tempdir().unwrap();
        let held = DataDir::open(dir.path(), CLUSTER, "a").unwrap();
        assert!(error(dir.path(), CLUSTER, "a").contains("in use by another hanfs process"));
        drop(held);
        assert!(error(dir.path(), CLUSTER, "b").contains("belongs to node a, this is node b"));
        let other = CLUSTER.replace('6', "7");
        assert!(error(dir.path(), &other, "a").contains("belongs to cluster"));
        DataDir::open(dir.path(), CLUSTER, "a").unwrap();
    }

    /// Goal: an export that was removed by mistake comes back whole.
    #[test]
    fn a_removed_export_is_set_aside_and_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(dir.path(), CLUSTER, "a").unwrap();
        let id = ExportId([5; 16]);
        assert_eq!(data.remove_export(id, false).unwrap(), None, "it never ran here");
        let file = data.export(id).join("precious");
        std::fs::create_dir_all(data.export(id)).unwrap();
        std::fs::write(&file, "x").unwrap();
        let aside = data.remove_export(id, false).unwrap().unwrap();
        assert!(!data.export(id).exists() && aside.join("precious").exists());
        assert!(data.restore_export(id).unwrap());
        assert!(file.exists() && !aside.exists());
        assert!(!data.restore_export(id).unwrap());
        assert_eq!(data.remove_export(id, true).unwrap(), None);
        assert!(!data.export(id).exists() && !aside.exists());
    }

    #[test]
    fn what_is_not_ours_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("precious"), "x").unwrap();
        assert!(error(dir.path(), CLUSTER, "a").contains("holds precious"));
        assert!(!dir.path().join("node.toml").exists());

        let dir = tempfile::tempdir().unwrap();
        drop(DataDir::open(dir.path(), CLUSTER, "a").unwrap());
        let file = dir.path().join("node.toml");
        let text = std::fs::read_to_string(&file).unwrap().replace("format = 1", "format = 2\nnew = true");
        std::fs::write(&file, text).unwrap();
        assert!(error(dir.path(), CLUSTER, "a").contains("says format 2, this hanfs reads format 1"));
    }
}
