//! The host's own file system.

use std::fs;
use std::fs::TryLockError;
use std::io::{self, ErrorKind, IoSlice};
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use rustix::fs::SeekFrom;
use rustix::io::Errno;

use super::{Disk, File, Space, Volume};

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

    fn remove_tree(&self, path: &Path) -> io::Result<()> {
        match fs::remove_dir_all(self.full(path)?) {
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        make_dir(&self.full(path)?)
    }

    fn make_dir(&self, path: &Path) -> io::Result<()> {
        match fs::create_dir(self.full(path)?) {
            Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(()),
            other => other,
        }
    }

    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        let mut names = fs::read_dir(self.full(path)?)?
            .map(|entry| entry.map(|e| PathBuf::from(e.file_name())))
            .collect::<io::Result<Vec<_>>>()?;
        names.sort();
        Ok(names)
    }

    fn file_len(&self, path: &Path) -> io::Result<u64> {
        Ok(fs::metadata(self.full(path)?)?.len())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        fs::File::open(self.full(path)?)?.sync_all()
    }

    fn volume(&self) -> io::Result<Arc<dyn Volume>> {
        Ok(Arc::new(RealVolume { root: fs::File::open(&self.root)? }))
    }

    fn space(&self) -> io::Result<Space> {
        let host = rustix::fs::statvfs(&self.root)?;
        Ok(Space {
            total_bytes: host.f_blocks.saturating_mul(host.f_frsize),
            free_bytes: host.f_bavail.saturating_mul(host.f_frsize),
            free_files: (host.f_files > 0).then_some(host.f_favail),
        })
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
struct RealVolume {
    root: fs::File,
}

impl Volume for RealVolume {
    fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::syncfs(&self.root)?)
    }
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

    fn read_into(&self, buf: &mut Vec<u8>, mut offset: u64) -> io::Result<()> {
        while buf.len() < buf.capacity() {
            match rustix::io::pread(&self.file, rustix::buffer::spare_capacity(buf), offset) {
                Ok(0) => break,
                Ok(n) => offset = offset.saturating_add(n as u64),
                Err(Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }

    fn write_at(&self, parts: &[&[u8]], mut offset: u64) -> io::Result<()> {
        if let [part] = parts {
            return self.file.write_all_at(part, offset);
        }
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
                    Err(Errno::INTR) => {}
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

    fn data_after(&self, offset: u64) -> io::Result<Option<Range<u64>>> {
        let seek = |from| match rustix::fs::seek(&self.file, from) {
            Ok(at) => Ok(Some(at)),
            // Past the end, or only a hole follows.
            Err(Errno::NXIO) => Ok(None),
            Err(error) => Err(io::Error::from(error)),
        };
        // The position is this descriptor's, shared by threads: only what each call returns counts.
        let Some(start) = seek(SeekFrom::Data(offset))? else { return Ok(None) };
        Ok(seek(SeekFrom::Hole(start))?.map(|end| start..end))
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn try_lock(&self) -> io::Result<bool> {
        match self.file.try_lock() {
            Ok(()) => Ok(true),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn unlock(&self) -> io::Result<()> {
        self.file.unlock()
    }
}
