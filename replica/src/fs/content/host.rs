//! The host's files: names, a bounded set of open ones, and effects upon them.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use quick_cache::sync::Cache;

use super::context;
use super::dirty::Dirty;
use super::parts::{LargeParts, Part, stretches};
use super::pending::Effect;
use crate::ids::FileId;

/// One directory of content.
pub(super) struct HostFiles {
    dir: PathBuf,
    part_bytes: u64,
    open: Cache<Part, Arc<File>>,
    large: LargeParts,
    dirty: Dirty,
}

/// Opens a part for reading and writing, making it (and its directory) where it is missing. True: the directory
/// may be new.
pub(super) fn open_or_create(root: &Path, part: Part) -> io::Result<(File, bool)> {
    let path = part.path(root);
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    match options.open(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        opened => return Ok((opened.map_err(context("create", &path))?, false)),
    }
    let dir = part.dir().path(root);
    match std::fs::create_dir(&dir) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(context("create", &dir)(error)),
        _ => {}
    }
    Ok((options.open(&path).map_err(context("create", &path))?, true))
}

impl HostFiles {
    pub(super) fn open(dir: &Path, open_files: usize, part_bytes: u64) -> io::Result<Self> {
        std::fs::create_dir_all(dir).map_err(context("create", dir))?;
        let root = File::open(dir).map_err(context("open", dir))?;
        check_file_size(dir, part_bytes)?;
        let large = LargeParts::open(dir)?;
        let open = Cache::new(open_files.max(1));
        Ok(Self { dir: dir.to_owned(), part_bytes, open, large, dirty: Dirty::new(root) })
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn part_bytes(&self) -> u64 {
        self.part_bytes
    }

    /// Which parts there are besides each file's first.
    pub(super) fn large(&self) -> &LargeParts {
        &self.large
    }

    /// The open host file; `None` where there is none.
    pub(super) fn existing(&self, part: Part) -> io::Result<Option<Arc<File>>> {
        if let Some(open) = self.open.get(&part) {
            return Ok(Some(open));
        }
        let path = part.path(&self.dir);
        match OpenOptions::new().read(true).write(true).open(&path) {
            Ok(opened) => {
                let opened = Arc::new(opened);
                self.open.insert(part, opened.clone());
                Ok(Some(opened))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(context("open", &path)(error)),
        }
    }

    fn created(&self, part: Part) -> io::Result<Arc<File>> {
        if let Some(open) = self.existing(part)? {
            return Ok(open);
        }
        let (created, new_dir) = open_or_create(&self.dir, part)?;
        if part.number > 0 {
            self.large.insert(part);
        }
        self.dirty.name(part.dir(), new_dir);
        let created = Arc::new(created);
        self.open.insert(part, created.clone());
        Ok(created)
    }

    /// Lets an effect take place. It is marked dirty afterwards: marked before, a checkpoint could take the
    /// mark, sync, and miss the bytes.
    pub(super) fn perform(&self, file: FileId, effect: &Effect) -> io::Result<()> {
        match effect {
            Effect::Write { offset, data } => {
                for stretch in stretches(self.part_bytes, *offset, data.len()) {
                    let part = Part { file, number: stretch.number };
                    let open = self.created(part)?;
                    let bytes = data.get(stretch.skip..).and_then(|rest| rest.get(..stretch.len));
                    let bytes = bytes.unwrap_or_default();
                    open.write_all_at(bytes, stretch.at).map_err(self.context("write", part))?;
                    self.dirty.file(part, &open, bytes.len() as u64);
                }
                Ok(())
            }
            Effect::Truncate { len } => {
                let number = len / self.part_bytes;
                self.shrink(Part { file, number }, len % self.part_bytes)?;
                self.large.of(file, number).into_iter().try_for_each(|part| self.shrink(part, 0))
            }
        }
    }

    fn shrink(&self, part: Part, len: u64) -> io::Result<()> {
        let Some(open) = self.existing(part)? else {
            return Ok(());
        };
        if open.metadata().map_err(self.context("stat", part))?.len() > len {
            open.set_len(len).map_err(self.context("truncate", part))?;
            self.dirty.file(part, &open, 0);
        }
        Ok(())
    }

    /// Fills the buffer's spare capacity from `offset` on; short where only zeros follow.
    pub(super) fn read(&self, file: FileId, offset: u64, buffer: &mut Vec<u8>) -> io::Result<()> {
        let len = buffer.capacity();
        for stretch in stretches(self.part_bytes, offset, len) {
            let part = Part { file, number: stretch.number };
            let Some(open) = self.existing(part)? else { continue };
            if stretch.len == len {
                read_at(&open, stretch.at, buffer).map_err(self.context("read", part))?;
            } else {
                // Across the end of a part: so rare that a copy does not matter.
                let mut piece = Vec::with_capacity(stretch.len);
                read_at(&open, stretch.at, &mut piece).map_err(self.context("read", part))?;
                buffer.resize(stretch.skip, 0);
                buffer.extend_from_slice(piece.get(..stretch.len).unwrap_or(&piece));
            }
        }
        Ok(())
    }

    pub(super) fn unlink(&self, file: FileId) -> io::Result<()> {
        self.unlink_part(Part::first(file))?;
        for part in self.large.of(file, 0) {
            self.unlink_part(part)?;
            self.large.remove(part);
        }
        Ok(())
    }

    fn unlink_part(&self, part: Part) -> io::Result<()> {
        self.open.remove(&part);
        let path = part.path(&self.dir);
        match std::fs::remove_file(&path) {
            Ok(()) => {
                self.dirty.name(part.dir(), false);
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(context("remove", &path)(error)),
        }
    }

    /// The file's content need not be durable any more.
    pub(super) fn forget_dirty(&self, file: FileId) {
        self.dirty.forget(Part::first(file));
        self.large.of(file, 0).into_iter().for_each(|part| self.dirty.forget(part));
    }

    pub(super) fn sync_dirty(&self) -> io::Result<()> {
        self.dirty.sync(&self.dir)
    }

    pub(super) fn dirty_bytes(&self) -> u64 {
        self.dirty.bytes()
    }

    #[cfg(test)]
    pub(super) fn is_dirty(&self, file: FileId) -> bool {
        self.dirty.knows(Part::first(file))
    }

    #[cfg(test)]
    pub(super) fn open_files(&self) -> usize {
        self.open.len()
    }

    /// Puts verb and file before what the host said.
    pub(super) fn context(&self, what: &'static str, part: Part) -> impl FnOnce(io::Error) -> io::Error + '_ {
        move |error| context(what, &part.path(&self.dir))(error)
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

/// A part's size must fit the host: the first write past its limit would stop both nodes.
fn check_file_size(dir: &Path, part_bytes: u64) -> io::Result<()> {
    let path = dir.join("size-probe");
    let probe = OpenOptions::new().write(true).create(true).truncate(true).open(&path);
    let grown = probe.map_err(context("create", &path))?.set_len(part_bytes);
    std::fs::remove_file(&path).map_err(context("remove", &path))?;
    grown.map_err(|error| {
        let what = format!(
            "make a sparse file of {part_bytes} bytes in {}: {error}: put the data directory on a file \
             system that can hold it (ext4 with 4 KiB blocks, xfs), and check ulimit -f",
            dir.display()
        );
        io::Error::new(error.kind(), what)
    })
}
