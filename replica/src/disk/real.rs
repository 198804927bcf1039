//! The host's own file system.

use std::fs;
use std::io::{self, ErrorKind, IoSlice};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::{Disk, File};

/// Parts given to one pwritev, at most: Linux's UIO_MAXIOV.
const PARTS_MAX: usize = 1024;

/// A directory of the host.
#[derive(Debug, Clone)]
pub struct RealDisk {
    root: PathBuf,
}

impl RealDisk {
    /// Stands for `root`, which `create_dir("")` makes where it is missing.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    fn full(&self, path: &Path) -> io::Result<PathBuf> {
        if path.components().all(|c| matches!(c, Component::Normal(_))) {
            return Ok(self.locate(path));
        }
        Err(io::Error::new(ErrorKind::InvalidInput, format!("{} leads out of its directory", path.display())))
    }
}

impl Disk for RealDisk {
    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn File>> {
        let file = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(create)
            .truncate(false)
            .open(self.full(path)?)?;
        Ok(Arc::new(RealFile { file }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(self.full(from)?, self.full(to)?)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(self.full(path)?)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        make_dir(&self.full(path)?)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        let mut names = fs::read_dir(self.full(path)?)?
            .map(|entry| entry.map(|e| PathBuf::from(e.file_name())))
            .collect::<io::Result<Vec<_>>>()?;
        names.sort();
        Ok(names)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        fs::File::open(self.full(path)?)?.sync_all()
    }

    fn below(&self, path: &Path) -> Arc<dyn Disk> {
        Arc::new(Self { root: self.locate(path) })
    }

    fn locate(&self, path: &Path) -> PathBuf {
        // Joining an empty path would only add a slash.
        if path.as_os_str().is_empty() { self.root.clone() } else { self.root.join(path) }
    }
}

/// `create_dir_all`, with each new name synced in its parent.
fn make_dir(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    let parent = match dir.parent() {
        Some(p) if !p.as_os_str().is_empty() => p,
        _ => Path::new("."),
    };
    make_dir(parent)?;
    match fs::create_dir(dir) {
        Err(e) if e.kind() == ErrorKind::AlreadyExists && dir.is_dir() => {}
        other => other?,
    }
    fs::File::open(parent)?.sync_all()
}

#[derive(Debug)]
struct RealFile {
    file: fs::File,
}

impl File for RealFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while let Some(rest) = buf.get_mut(done..).filter(|r| !r.is_empty()) {
            match self.file.read_at(rest, offset.saturating_add(done as u64)) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(done)
    }

    fn write_at(&self, parts: &[&[u8]], mut offset: u64) -> io::Result<()> {
        for group in parts.chunks(PARTS_MAX) {
            let mut slices: Vec<IoSlice<'_>> =
                group.iter().filter(|p| !p.is_empty()).map(|p| IoSlice::new(p)).collect();
            let mut rest = slices.as_mut_slice();
            while !rest.is_empty() {
                match rustix::io::pwritev(&self.file, rest, offset) {
                    Ok(0) => return Err(ErrorKind::WriteZero.into()),
                    Ok(n) => {
                        offset = offset.saturating_add(n as u64);
                        IoSlice::advance_slices(&mut rest, n);
                    }
                    Err(rustix::io::Errno::INTR) => {}
                    Err(e) => return Err(e.into()),
                }
            }
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn allocated(&self) -> io::Result<u64> {
        // st_blocks counts 512-byte units whatever the file system's block is (stat(2)).
        Ok(self.file.metadata()?.blocks().saturating_mul(512))
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}
