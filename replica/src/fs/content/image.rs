//! A full copy of the content: read from a running store, written as a new one elsewhere.
//!
//! The copy is fuzzy. It holds effects up to some entry after the image's metadata, in any mixture, which
//! replay from the metadata's index puts right (see the module above).

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use rustix::fs::SeekFrom;
use rustix::io::Errno;

use super::context;
use super::host::{HostFiles, dir_of, dir_path, file_path, open_or_create, read_at};
use super::removed::Removed;
use crate::ids::FileId;

/// Host directories that content is spread over.
pub const DIRS: usize = 256;

/// A host file, as an image lists it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentFile {
    /// Whose content.
    pub file: FileId,
    /// Host length, bytes.
    pub len: u64,
}

/// A piece of a host file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Where it starts.
    pub offset: u64,
    /// Never empty. The next call's offset is `offset + data.len()`.
    pub data: Bytes,
}

/// What [`super::Content::list_files`] does.
pub(super) fn list_files(host: &HostFiles, removed: &Removed, dir: u8) -> io::Result<Vec<ContentFile>> {
    let path = dir_path(host.dir(), dir);
    let entries = match std::fs::read_dir(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        read => read.map_err(context("list", &path))?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry.map_err(context("list", &path))?;
        let Some(file) = entry.file_name().to_str().and_then(parse_name).filter(|file| dir_of(*file) == dir)
        else {
            continue;
        };
        match entry.metadata() {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            metadata => {
                files.push(ContentFile { file, len: metadata.map_err(host.context("stat", file))?.len() })
            }
        }
    }
    // Looked at after the listing: whatever was removed by then is left out.
    let removed = removed.in_dir(dir);
    files.retain(|listed| !removed.contains(&listed.file));
    files.sort_unstable_by_key(|listed| listed.file);
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
    let Some(open) = host.existing(file)? else {
        return Ok(None);
    };
    let seek = |from| match rustix::fs::seek(&*open, from) {
        Ok(at) => Ok(Some(at)),
        // Past the end, or only a hole follows.
        Err(Errno::NXIO) => Ok(None),
        Err(error) => Err(host.context("seek", file)(error.into())),
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
    read_at(&open, start, &mut data).map_err(host.context("read", file))?;
    Ok((!data.is_empty()).then(|| Chunk { offset: start, data: data.into() }))
}

/// Builds a new content directory from an image's chunks.
pub struct ContentWriter {
    dir: PathBuf,
    /// Open since the start: syncfs then reports every failed write-back.
    root: File,
    /// The file of the last chunk: chunks of a file come in a row.
    current: Option<(FileId, File)>,
}

impl ContentWriter {
    /// A new or empty directory; one with something in it is an error.
    pub fn create(dir: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(dir).map_err(context("create", dir))?;
        if std::fs::read_dir(dir).map_err(context("list", dir))?.next().is_some() {
            let what =
                format!("{} is not empty: move it aside, the peer then fills a new one", dir.display());
            return Err(io::Error::new(ErrorKind::DirectoryNotEmpty, what));
        }
        let root = File::open(dir).map_err(context("open", dir))?;
        Ok(Self { dir: dir.to_owned(), root, current: None })
    }

    /// One chunk.
    pub fn write(&mut self, file: FileId, offset: u64, data: &Bytes) -> io::Result<()> {
        let open = match self.current.take() {
            Some((current, open)) if current == file => open,
            _ => open_or_create(&self.dir, file)?.0,
        };
        open.write_all_at(data, offset).map_err(|e| context("write", &file_path(&self.dir, file))(e))?;
        self.current = Some((file, open));
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
