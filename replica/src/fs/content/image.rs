//! A full copy of the content: read from a running store, written as a new one elsewhere.
//!
//! The copy is fuzzy. It holds effects up to some entry after the image's metadata, in any mixture, which
//! replay from the metadata's index puts right (see the module above).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use rustix::fs::SeekFrom;
use rustix::io::Errno;

use super::context;
use super::host::{HostFiles, open_or_create, read_at};
use super::parts::{HostDir, PART_BYTES, Part, dir_of, stretches};
use super::removed::Removed;
use crate::ids::FileId;

/// Host directories that content is spread over.
pub const DIRS: usize = 256;

/// A file's content, as an image lists it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentFile {
    /// Whose content.
    pub file: FileId,
    /// Where its last host file ends, bytes.
    pub len: u64,
}

/// A piece of a file's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Where it starts.
    pub offset: u64,
    /// Never empty. The next call's offset is `offset + data.len()`.
    pub data: Bytes,
}

/// What [`super::Content::list_files`] does.
pub(super) fn list_files(host: &HostFiles, removed: &Removed, dir: u8) -> io::Result<Vec<ContentFile>> {
    let mut files = list_first_parts(host, dir)?;
    for part in host.large().in_dir(dir) {
        match std::fs::metadata(part.path(host.dir())) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            metadata => {
                let len = metadata.map_err(host.context("stat", part))?.len();
                let end = part.number.saturating_mul(host.part_bytes()).saturating_add(len);
                let known = files.entry(part.file).or_default();
                *known = (*known).max(if len > 0 { end } else { 0 });
            }
        }
    }
    // Looked at after the listing: whatever was removed by then is left out.
    let removed = removed.in_dir(dir);
    let there = files.into_iter().filter(|(file, _)| !removed.contains(file));
    Ok(there.map(|(file, len)| ContentFile { file, len }).collect())
}

fn list_first_parts(host: &HostFiles, dir: u8) -> io::Result<BTreeMap<FileId, u64>> {
    let path = HostDir::First(dir).path(host.dir());
    let mut files = BTreeMap::new();
    let entries = match std::fs::read_dir(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(files),
        read => read.map_err(context("list", &path))?,
    };
    for entry in entries {
        let entry = entry.map_err(context("list", &path))?;
        let Some(file) = entry.file_name().to_str().and_then(parse_name).filter(|file| dir_of(*file) == dir)
        else {
            continue;
        };
        match entry.metadata() {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            metadata => {
                files.insert(file, metadata.map_err(host.context("stat", Part::first(file)))?.len());
            }
        }
    }
    Ok(files)
}

fn parse_name(name: &str) -> Option<FileId> {
    let id = (name.len() == 16).then(|| u64::from_str_radix(name, 16).ok())??;
    Some(FileId(id))
}

/// What [`super::Content::read_chunk`] does.
pub(super) fn read_chunk(
    host: &HostFiles,
    file: FileId,
    offset: u64,
    bytes_max: usize,
) -> io::Result<Option<Chunk>> {
    let (mut number, mut at) = (offset / host.part_bytes(), offset % host.part_bytes());
    loop {
        if let Some(chunk) = read_part(host, Part { file, number }, at, bytes_max)? {
            let before = number.saturating_mul(host.part_bytes());
            return Ok(Some(Chunk { offset: before.saturating_add(chunk.offset), data: chunk.data }));
        }
        let Some(next) = host.large().next(file, number) else { return Ok(None) };
        (number, at) = (next, 0);
    }
}

/// The same of one part; the chunk's offset is the part's.
fn read_part(host: &HostFiles, part: Part, offset: u64, bytes_max: usize) -> io::Result<Option<Chunk>> {
    let Some(open) = host.existing(part)? else {
        return Ok(None);
    };
    let seek = |from| match rustix::fs::seek(&*open, from) {
        Ok(at) => Ok(Some(at)),
        // Past the end, or only a hole follows.
        Err(Errno::NXIO) => Ok(None),
        Err(error) => Err(host.context("seek", part)(error.into())),
    };
    // The position is this descriptor's, shared by threads: only what each call returns counts.
    let Some(start) = seek(SeekFrom::Data(offset))? else {
        return Ok(None);
    };
    let Some(end) = seek(SeekFrom::Hole(start))? else {
        return Ok(None);
    };
    let len = usize::try_from(end.saturating_sub(start)).unwrap_or(usize::MAX).min(bytes_max);
    if len == 0 {
        return Ok(None);
    }
    let mut data = Vec::with_capacity(len);
    read_at(&open, start, &mut data).map_err(host.context("read", part))?;
    Ok((!data.is_empty()).then(|| Chunk { offset: start, data: data.into() }))
}

/// Builds a new content directory from an image's chunks.
pub struct ContentWriter {
    dir: PathBuf,
    /// Open since the start: syncfs then reports every failed write-back.
    root: File,
    part_bytes: u64,
    /// Where the last chunk went: chunks of a file come in a row.
    current: Option<(Part, File)>,
}

impl ContentWriter {
    /// A new or empty directory; one with something in it is an error.
    pub fn create(dir: &Path) -> io::Result<Self> {
        Self::with_parts(dir, PART_BYTES)
    }

    pub(super) fn with_parts(dir: &Path, part_bytes: u64) -> io::Result<Self> {
        std::fs::create_dir_all(dir).map_err(context("create", dir))?;
        if std::fs::read_dir(dir).map_err(context("list", dir))?.next().is_some() {
            let what =
                format!("{} is not empty: move it aside, the peer then fills a new one", dir.display());
            return Err(io::Error::new(ErrorKind::DirectoryNotEmpty, what));
        }
        let root = File::open(dir).map_err(context("open", dir))?;
        Ok(Self { dir: dir.to_owned(), root, part_bytes, current: None })
    }

    /// One chunk.
    pub fn write(&mut self, file: FileId, offset: u64, data: &Bytes) -> io::Result<()> {
        for stretch in stretches(self.part_bytes, offset, data.len()) {
            let part = Part { file, number: stretch.number };
            let open = match self.current.take() {
                Some((current, open)) if current == part => open,
                _ => open_or_create(&self.dir, part)?.0,
            };
            let bytes = data.get(stretch.skip..).and_then(|rest| rest.get(..stretch.len));
            let written = open.write_all_at(bytes.unwrap_or_default(), stretch.at);
            written.map_err(|e| context("write", &part.path(&self.dir))(e))?;
            self.current = Some((part, open));
        }
        Ok(())
    }

    /// All of it is durable on return.
    pub fn finish(self) -> io::Result<()> {
        rustix::fs::syncfs(&self.root).map_err(|e| context("syncfs", &self.dir)(e.into()))?;
        let parent = self.dir.parent().filter(|parent| !parent.as_os_str().is_empty());
        let parent = parent.unwrap_or(Path::new("."));
        File::open(parent).and_then(|d| d.sync_all()).map_err(context("fsync", parent))
    }
}
