//! The host's files: names, a bounded set of open ones, and effects upon them.

use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;

use quick_cache::UnitWeighter;
use quick_cache::sync::{Cache, DefaultLifecycle};

use super::context;
use super::dirty::Dirty;
use super::parts::{LargeParts, Part, stretches};
use super::pending::Effect;
use crate::disk::{Disk, File};
use crate::ids::FileId;
use crate::random::HashState;

/// One directory of content.
pub(super) struct HostFiles {
    disk: Arc<dyn Disk>,
    part_bytes: u64,
    open: Cache<Part, Arc<dyn File>, UnitWeighter, HashState>,
    large: LargeParts,
    dirty: Dirty,
}

/// Opens a part for reading and writing, making it (and its directory) where it is missing. True: the directory
/// may be new.
pub(super) fn open_or_create(disk: &dyn Disk, part: Part) -> io::Result<(Arc<dyn File>, bool)> {
    let path = part.path();
    match disk.open(&path, true) {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        opened => return Ok((opened.map_err(context("create", disk, &path))?, false)),
    }
    let dir = part.dir().path();
    disk.make_dir(&dir).map_err(context("create", disk, &dir))?;
    Ok((disk.open(&path, true).map_err(context("create", disk, &path))?, true))
}

impl HostFiles {
    pub(super) fn open(disk: Arc<dyn Disk>, open_files: usize, part_bytes: u64) -> io::Result<Self> {
        let root = Path::new("");
        disk.create_dir(root).map_err(context("create", &*disk, root))?;
        let volume = disk.volume().map_err(context("open", &*disk, root))?;
        check_file_size(&*disk, part_bytes)?;
        let large = LargeParts::open(&*disk)?;
        let (open_files, lifecycle) = (open_files.max(1), DefaultLifecycle::default());
        let open = Cache::with(open_files, open_files as u64, UnitWeighter, HashState::default(), lifecycle);
        Ok(Self { disk, part_bytes, open, large, dirty: Dirty::new(volume) })
    }

    pub(super) fn disk(&self) -> &dyn Disk {
        &*self.disk
    }

    pub(super) fn part_bytes(&self) -> u64 {
        self.part_bytes
    }

    /// Which parts there are besides each file's first.
    pub(super) fn large(&self) -> &LargeParts {
        &self.large
    }

    /// The open host file; `None` where there is none.
    pub(super) fn existing(&self, part: Part) -> io::Result<Option<Arc<dyn File>>> {
        if let Some(open) = self.open.get(&part) {
            return Ok(Some(open));
        }
        let path = part.path();
        match self.disk.open(&path, false) {
            Ok(opened) => {
                self.open.insert(part, opened.clone());
                Ok(Some(opened))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(context("open", self.disk(), &path)(error)),
        }
    }

    fn created(&self, part: Part) -> io::Result<Arc<dyn File>> {
        if let Some(open) = self.existing(part)? {
            return Ok(open);
        }
        let (created, new_dir) = open_or_create(self.disk(), part)?;
        if part.number > 0 {
            self.large.insert(part);
        }
        self.dirty.name(part.dir(), new_dir);
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
                    open.write_at(&[bytes], stretch.at).map_err(self.context("write", part))?;
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
        if open.len().map_err(self.context("stat", part))? > len {
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
                open.read_into(buffer, stretch.at).map_err(self.context("read", part))?;
            } else {
                // Across the end of a part: so rare that a copy does not matter.
                let mut piece = Vec::with_capacity(stretch.len);
                open.read_into(&mut piece, stretch.at).map_err(self.context("read", part))?;
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
        let path = part.path();
        match self.disk.remove(&path) {
            Ok(()) => {
                self.dirty.name(part.dir(), false);
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(context("remove", self.disk(), &path)(error)),
        }
    }

    /// The file's content need not be durable any more.
    pub(super) fn forget_dirty(&self, file: FileId) {
        self.dirty.forget(Part::first(file));
        self.large.of(file, 0).into_iter().for_each(|part| self.dirty.forget(part));
    }

    pub(super) fn sync_dirty(&self) -> io::Result<()> {
        self.dirty.sync(self.disk())
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
        move |error| context(what, self.disk(), &part.path())(error)
    }
}

/// A part's size must fit the host: the first write past its limit would stop both nodes.
fn check_file_size(disk: &dyn Disk, part_bytes: u64) -> io::Result<()> {
    let path = Path::new("size-probe");
    let probe = disk.open(path, true).map_err(context("create", disk, path))?;
    let grown = probe.set_len(part_bytes);
    disk.remove(path).map_err(context("remove", disk, path))?;
    grown.map_err(|error| {
        let what = format!(
            "make a sparse file of {part_bytes} bytes in {}: {error}: put the data directory on a file \
             system that can hold it (ext4 with 4 KiB blocks, xfs), and check ulimit -f",
            disk.locate(Path::new("")).display()
        );
        io::Error::new(error.kind(), what)
    })
}
