//! The directories of a simulated disk, and the changes to them that may or may not survive a crash.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::Inode;

pub(super) type Node = Arc<Mutex<Inode>>;

/// A directory's number; it keeps it wherever it is moved.
pub(super) type DirId = u64;

/// The one that is always there.
const ROOT: DirId = 0;

/// What a name stands for.
#[derive(Clone)]
pub(super) enum Entry {
    Dir(DirId),
    File(Node),
}

impl Entry {
    pub fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Dir(a), Self::Dir(b)) => a == b,
            (Self::File(a), Self::File(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }
}

/// A name in a directory.
pub(super) type Place = (DirId, OsString);

/// All directories. One that no name leads to is gone.
#[derive(Clone, Default)]
pub(super) struct Names {
    dirs: BTreeMap<DirId, BTreeMap<OsString, Entry>>,
}

impl Names {
    pub fn dir(&self, path: &Path) -> io::Result<DirId> {
        path.components().try_fold(ROOT, |dir, name| match self.at(&(dir, name.as_os_str().to_owned())) {
            Some(Entry::Dir(dir)) => Ok(*dir),
            Some(Entry::File(_)) => Err(ErrorKind::NotADirectory.into()),
            None => Err(ErrorKind::NotFound.into()),
        })
    }

    /// The place that a path names, whether anything is there or not; its directory is.
    pub fn place(&self, path: &Path) -> io::Result<Place> {
        let name = path.file_name().ok_or(ErrorKind::InvalidInput)?;
        Ok((self.dir(path.parent().unwrap_or(Path::new("")))?, name.to_owned()))
    }

    pub fn at(&self, (dir, name): &Place) -> Option<&Entry> {
        self.dirs.get(dir)?.get(name)
    }

    pub fn file(&self, path: &Path) -> io::Result<Node> {
        match self.at(&self.place(path)?) {
            Some(Entry::File(node)) => Ok(node.clone()),
            Some(Entry::Dir(_)) => Err(ErrorKind::IsADirectory.into()),
            None => Err(ErrorKind::NotFound.into()),
        }
    }

    /// What is in a directory, by name.
    pub fn list(&self, dir: DirId) -> impl Iterator<Item = (&OsStr, &Entry)> {
        self.dirs.get(&dir).into_iter().flatten().map(|(name, entry)| (name.as_os_str(), entry))
    }

    /// Every file with its path, in order.
    pub fn files(&self) -> Vec<(PathBuf, Node)> {
        let mut found = Vec::new();
        let mut todo = vec![(PathBuf::new(), ROOT)];
        while let Some((path, dir)) = todo.pop() {
            for (name, entry) in self.list(dir) {
                match entry {
                    Entry::Dir(dir) => todo.push((path.join(name), *dir)),
                    Entry::File(node) => found.push((path.join(name), node.clone())),
                }
            }
        }
        found.sort_by(|a, b| a.0.cmp(&b.0));
        found
    }
}

/// A change of names.
#[derive(Clone)]
pub(super) struct NameOp {
    pub kind: NameOpKind,
    pub entry: Entry,
}

#[derive(Clone)]
pub(super) enum NameOpKind {
    Create(Place),
    Rename(Place, Place),
    Remove(Place),
}

impl NameOp {
    /// Where an earlier operation did not survive, what rests on it has no effect.
    pub fn apply(&self, names: &mut Names) {
        let is_mine = |names: &Names, place| names.at(place).is_some_and(|found| found.is(&self.entry));
        match &self.kind {
            NameOpKind::Create(to) => insert(names, to, &self.entry),
            NameOpKind::Rename(from, to) if is_mine(names, from) => {
                remove(names, from);
                insert(names, to, &self.entry);
            }
            NameOpKind::Remove(place) if is_mine(names, place) => remove(names, place),
            NameOpKind::Rename(..) | NameOpKind::Remove(..) => {}
        }
    }

    pub fn touches(&self, dir: DirId) -> bool {
        match &self.kind {
            NameOpKind::Create(place) | NameOpKind::Remove(place) => place.0 == dir,
            NameOpKind::Rename(from, to) => from.0 == dir || to.0 == dir,
        }
    }
}

fn insert(names: &mut Names, (dir, name): &Place, entry: &Entry) {
    names.dirs.entry(*dir).or_default().insert(name.clone(), entry.clone());
}

fn remove(names: &mut Names, (dir, name): &Place) {
    if let Some(names) = names.dirs.get_mut(dir) {
        names.remove(name);
    }
}
