//! The host's files: names, a bounded set of open ones, and effects upon them.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use quick_cache::sync::Cache;

use super::context;
use super::dirty::Dirty;
use super::pending::Effect;
use crate::fs::FILE_SIZE_MAX;
use crate::ids::FileId;

/// One directory of content.
pub(super) struct HostFiles {
    dir: PathBuf,
    open: Cache<FileId, Arc<File>>,
    dirty: Dirty,
}

/// The host directory that holds a file's content: ids count up, so their low byte spreads them evenly.
pub(super) fn dir_of(file: FileId) -> u8 {
    file.0.to_le_bytes()[0]
}

/// Path of one of the 256 host directories.
pub(super) fn dir_path(root: &Path, dir: u8) -> PathBuf {
    root.join(format!("{dir:02x}"))
}

/// Path of a file's content.
pub(super) fn file_path(root: &Path, file: FileId) -> PathBuf {
    root.join(format!("{:02x}/{:016x}", dir_of(file), file.0))
}

/// Opens a file's content for reading and writing, making it (and its directory) where it is missing. True:
/// the directory may be new.
pub(super) fn open_or_create(root: &Path, file: FileId) -> io::Result<(File, bool)> {
    let path = file_path(root, file);
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    match options.open(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        opened => return Ok((opened.map_err(context("create", &path))?, false)),
    }
    let dir = dir_path(root, dir_of(file));
    match std::fs::create_dir(&dir) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(context("create", &dir)(error)),
        _ => {}
    }
    Ok((options.open(&path).map_err(context("create", &path))?, true))
}

impl HostFiles {
    pub(super) fn open(dir: &Path, open_files: usize) -> io::Result<Self> {
        std::fs::create_dir_all(dir).map_err(context("create", dir))?;
        let root = File::open(dir).map_err(context("open", dir))?;
        check_file_size(dir)?;
        Ok(Self { dir: dir.to_owned(), open: Cache::new(open_files.max(1)), dirty: Dirty::new(root) })
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The open host file; `None` where there is none.
    pub(super) fn existing(&self, file: FileId) -> io::Result<Option<Arc<File>>> {
        if let Some(open) = self.open.get(&file) {
            return Ok(Some(open));
        }
        let path = file_path(&self.dir, file);
        match OpenOptions::new().read(true).write(true).open(&path) {
            Ok(opened) => {
                let opened = Arc::new(opened);
                self.open.insert(file, opened.clone());
                Ok(Some(opened))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(context("open", &path)(error)),
        }
    }

    fn created(&self, file: FileId) -> io::Result<Arc<File>> {
        if let Some(open) = self.existing(file)? {
            return Ok(open);
        }
        let (created, new_dir) = open_or_create(&self.dir, file)?;
        self.dirty.name(dir_of(file), new_dir);
        let created = Arc::new(created);
        self.open.insert(file, created.clone());
        Ok(created)
    }

    /// Lets an effect take place. It is marked dirty afterwards: marked before, a checkpoint could take the
    /// mark, sync, and miss the bytes.
    pub(super) fn perform(&self, file: FileId, effect: &Effect) -> io::Result<()> {
        match effect {
            Effect::Write { data, .. } if data.is_empty() => Ok(()),
            Effect::Write { offset, data } => {
                let open = self.created(file)?;
                open.write_all_at(data, *offset).map_err(self.context("write", file))?;
                self.dirty.file(file, &open, data.len() as u64);
                Ok(())
            }
            Effect::Truncate { len } => {
                let Some(open) = self.existing(file)? else {
                    return Ok(());
                };
                if open.metadata().map_err(self.context("stat", file))?.len() > *len {
                    open.set_len(*len).map_err(self.context("truncate", file))?;
                    self.dirty.file(file, &open, 0);
                }
                Ok(())
            }
        }
    }

    /// Fills the buffer's spare capacity from `offset` on, as far as the host file reaches.
    pub(super) fn read(&self, file: FileId, offset: u64, buffer: &mut Vec<u8>) -> io::Result<()> {
        if buffer.capacity() == 0 {
            return Ok(());
        }
        match self.existing(file)? {
            Some(open) => read_at(&open, offset, buffer).map_err(self.context("read", file)),
            None => Ok(()),
        }
    }

    pub(super) fn unlink(&self, file: FileId) -> io::Result<()> {
        self.open.remove(&file);
        let path = file_path(&self.dir, file);
        match std::fs::remove_file(&path) {
            Ok(()) => {
                self.dirty.name(dir_of(file), false);
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(context("remove", &path)(error)),
        }
    }

    /// The file's content need not be durable any more.
    pub(super) fn forget_dirty(&self, file: FileId) {
        self.dirty.forget(file);
    }

    pub(super) fn sync_dirty(&self) -> io::Result<()> {
        self.dirty.sync(&self.dir)
    }

    pub(super) fn dirty_bytes(&self) -> u64 {
        self.dirty.bytes()
    }

    #[cfg(test)]
    pub(super) fn is_dirty(&self, file: FileId) -> bool {
        self.dirty.knows(file)
    }

    #[cfg(test)]
    pub(super) fn open_files(&self) -> usize {
        self.open.len()
    }

    /// Puts verb and file before what the host said.
    pub(super) fn context(
        &self,
        what: &'static str,
        file: FileId,
    ) -> impl FnOnce(io::Error) -> io::Error + '_ {
        move |error| context(what, &file_path(&self.dir, file))(error)
    }
}

/// Fills the buffer's spare capacity from `offset` on; short where the file ends.
pub(super) fn read_at(file: &File, offset: u64, buffer: &mut Vec<u8>) -> io::Result<()> {
    while buffer.len() < buffer.capacity() {
        let at = offset.saturating_add(buffer.len() as u64);
        match rustix::io::pread(file, rustix::buffer::spare_capacity(buffer), at) {
            Ok(0) => break,
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// A file of the size that clients may make must fit the host: the first write past its limit would stop both
/// nodes.
fn check_file_size(dir: &Path) -> io::Result<()> {
    let path = dir.join("size-probe");
    let probe = OpenOptions::new().write(true).create(true).truncate(true).open(&path);
    let grown = probe.map_err(context("create", &path))?.set_len(FILE_SIZE_MAX);
    std::fs::remove_file(&path).map_err(context("remove", &path))?;
    grown.map_err(|error| {
        let what = format!(
            "make a sparse file of {FILE_SIZE_MAX} bytes in {}: {error}: put the data directory on a file \
             system that can hold it (ext4 with 4 KiB blocks, xfs), and check ulimit -f",
            dir.display()
        );
        io::Error::new(error.kind(), what)
    })
}
