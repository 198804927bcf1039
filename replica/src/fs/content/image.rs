//! A full copy of the content: read from a running store, written as a new one elsewhere.
//!
//! The copy is fuzzy. It holds effects up to some entry after the image's metadata, in any mixture, which
//! replay from the metadata's index puts right (see the module above).

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::context;
use super::host::{HostFiles, open_or_create};
use super::parts::{HostDir, PART_BYTES, Part, dir_of, stretches};
use super::removed::Removed;
use crate::disk::{Disk, File, Volume};
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
        match host.disk().file_len(&part.path()) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            len => {
                let len = len.map_err(host.context("stat", part))?;
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
    let path = HostDir::First(dir).path();
    let mut files = BTreeMap::new();
    let names = match host.disk().list(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(files),
        listed => listed.map_err(context("list", host.disk(), &path))?,
    };
    for file in names.iter().filter_map(|name| parse_name(name.to_str()?)).filter(|file| dir_of(*file) == dir)
    {
        let part = Part::first(file);
        match host.disk().file_len(&part.path()) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            len => {
                files.insert(file, len.map_err(host.context("stat", part))?);
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
    let Some(there) = open.data_after(offset).map_err(host.context("seek", part))? else {
        return Ok(None);
    };
    let (start, end) = (there.start, there.end);
    let len = usize::try_from(end.saturating_sub(start)).unwrap_or(usize::MAX).min(bytes_max);
    if len == 0 {
        return Ok(None);
    }
    let mut data = Vec::with_capacity(len);
    open.read_into(&mut data, start).map_err(host.context("read", part))?;
    Ok((!data.is_empty()).then(|| Chunk { offset: start, data: data.into() }))
}

/// Builds a new content directory from an image's chunks.
pub struct ContentWriter {
    disk: Arc<dyn Disk>,
    /// Open since the start: syncfs then reports every failed write-back.
    volume: Arc<dyn Volume>,
    part_bytes: u64,
    /// Where the last chunk went: chunks of a file come in a row.
    current: Option<(Part, Arc<dyn File>)>,
}

impl ContentWriter {
    /// In a new or empty directory; something in it is an error.
    pub fn create(disk: Arc<dyn Disk>) -> io::Result<Self> {
        Self::with_parts(disk, PART_BYTES)
    }

    pub(super) fn with_parts(disk: Arc<dyn Disk>, part_bytes: u64) -> io::Result<Self> {
        let root = Path::new("");
        disk.create_dir(root).map_err(context("create", &*disk, root))?;
        if !disk.list(root).map_err(context("list", &*disk, root))?.is_empty() {
            let dir = disk.locate(root);
            let what =
                format!("{} is not empty: move it aside, the peer then fills a new one", dir.display());
            return Err(io::Error::new(ErrorKind::DirectoryNotEmpty, what));
        }
        let volume = disk.volume().map_err(context("open", &*disk, root))?;
        Ok(Self { disk, volume, part_bytes, current: None })
    }

    /// One chunk.
    pub fn write(&mut self, file: FileId, offset: u64, data: &Bytes) -> io::Result<()> {
        for stretch in stretches(self.part_bytes, offset, data.len()) {
            let part = Part { file, number: stretch.number };
            let open = match self.current.take() {
                Some((current, open)) if current == part => open,
                _ => open_or_create(&*self.disk, part)?.0,
            };
            let bytes = data.get(stretch.skip..).and_then(|rest| rest.get(..stretch.len));
            let written = open.write_at(&[bytes.unwrap_or_default()], stretch.at);
            written.map_err(|e| context("write", &*self.disk, &part.path())(e))?;
            self.current = Some((part, open));
        }
        Ok(())
    }

    /// All of it is durable on return.
    pub fn finish(self) -> io::Result<()> {
        self.volume.sync().map_err(context("syncfs", &*self.disk, Path::new("")))
    }
}
