//! A disk in memory that behaves as badly as a real one may, from a seed.
//!
//! Each file has two images: what the running system sees, and what is on the platter. [`File::sync`] brings
//! the second up to the first; [`SimDisk::crash`] makes the first what the second is, after letting any mixture
//! of the unsynced changes through: each 512-byte sector ends up in one of the states that it had since the
//! last sync, independently of all others, and so does the file's length. Creating, renaming and removing
//! survive or not one by one, unless [`Disk::sync_dir`] covered them (of either directory, as in the journals
//! of ext4 and xfs). A failed sync leaves what it should have written unwritten for good although later ones
//! succeed, as Linux does: whoever retries loses.
//!
//! It never sleeps, starts no thread, reads no clock, and draws nothing but from the seed it was given.

mod image;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::{Disk, File};
use image::{Image, Pending};

/// A simulated disk. Clones are the same disk, and so is what [`Disk::below`] gives.
#[derive(Clone, Default)]
pub struct SimDisk {
    world: Arc<Mutex<World>>,
    /// Where this one's paths begin.
    root: PathBuf,
}

#[derive(Default)]
struct World {
    names: Names,
    durable: Names,
    pending: Vec<NameOp>,
    dirs: BTreeSet<PathBuf>,
    /// Counts crashes: a handle from before one belongs to a process that is gone.
    life: u64,
    sync_fails: bool,
    write_room: Option<u64>,
    changes_left: Option<u64>,
}

type Names = BTreeMap<PathBuf, Node>;
type Node = Arc<Mutex<Inode>>;

#[derive(Default)]
struct Inode {
    now: Image,
    durable: Image,
    pending: Vec<Pending>,
    /// A sync failed: the system takes its pages for written, the platter never saw them.
    forsaken: bool,
}

#[derive(Clone)]
struct NameOp {
    kind: NameOpKind,
    node: Node,
}

#[derive(Clone)]
enum NameOpKind {
    Create(PathBuf),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
}

impl SimDisk {
    /// An empty disk.
    pub fn new() -> Self {
        Self::default()
    }

    /// The machine loses power: unsynced changes survive as `seed` says. Every file open until now fails.
    pub fn crash(&self, seed: u64) {
        let mut dice = Dice(seed);
        let mut world = self.world.lock();
        world.life += 1;
        world.sync_fails = false;
        world.write_room = None;
        world.changes_left = None;
        for op in std::mem::take(&mut world.pending) {
            if dice.pick(2) == 1 {
                op.apply(&mut world.durable);
            }
        }
        world.names = world.durable.clone();
        for node in world.names.values() {
            node.lock().crash(&mut dice);
        }
    }

    /// The next sync of a file or directory fails with EIO, and what it covered is lost at a crash.
    pub fn fail_next_sync(&self) {
        self.world.lock().sync_fails = true;
    }

    /// Writes fail with ENOSPC once this many more bytes were written; `None` lifts the limit.
    pub fn limit_writes(&self, bytes: Option<u64>) {
        self.world.lock().write_room = bytes;
    }

    /// After this many more changes and syncs all of them fail and do nothing, until [`SimDisk::crash`]: to lose
    /// power in the middle of an operation, at each point of it in turn.
    pub fn halt_after(&self, changes: u64) {
        self.world.lock().changes_left = Some(changes);
    }

    /// Flips one bit of what is on the platter and in the page cache.
    pub fn flip_bit(&self, path: &Path, offset: u64, bit: u8) -> io::Result<()> {
        let world = self.world.lock();
        let mut inode = world.names.get(&self.full(path)).ok_or(ErrorKind::NotFound)?.lock();
        inode.now.flip(offset, bit);
        inode.durable.flip(offset, bit);
        Ok(())
    }
}

impl SimDisk {
    fn full(&self, path: &Path) -> PathBuf {
        // Joining an empty path would add a slash, which would be another name.
        if path.as_os_str().is_empty() { self.root.clone() } else { self.root.join(path) }
    }
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.world.lock().names.keys()).finish()
    }
}

impl World {
    fn check_dir(&self, path: &Path) -> io::Result<()> {
        let known = path.as_os_str().is_empty() || self.dirs.contains(path);
        if known { Ok(()) } else { Err(ErrorKind::NotFound.into()) }
    }

    /// To be asked before anything is changed.
    fn tick(&mut self) -> io::Result<()> {
        match &mut self.changes_left {
            Some(0) => Err(io::Error::other("the machine has halted")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn change(&mut self, kind: NameOpKind, node: Node) {
        let op = NameOp { kind, node };
        op.apply(&mut self.names);
        self.pending.push(op);
    }

    fn sync_result(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.sync_fails) { Err(eio()) } else { Ok(()) }
    }

    /// The part of `wanted` bytes that fits on the disk.
    fn room(&mut self, wanted: usize) -> usize {
        let Some(room) = &mut self.write_room else { return wanted };
        let granted = wanted.min(usize::try_from(*room).unwrap_or(usize::MAX));
        *room -= granted as u64;
        granted
    }
}

impl Disk for SimDisk {
    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn File>> {
        let path = self.full(path);
        let mut world = self.world.lock();
        world.check_dir(path.parent().unwrap_or(Path::new("")))?;
        let node = match world.names.get(&path) {
            Some(node) => node.clone(),
            None if create => {
                world.tick()?;
                let node = Node::default();
                world.change(NameOpKind::Create(path.clone()), node.clone());
                node
            }
            None => return Err(ErrorKind::NotFound.into()),
        };
        Ok(Arc::new(SimFile { disk: self.clone(), life: world.life, node, path }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (self.full(from), self.full(to));
        let mut world = self.world.lock();
        world.check_dir(to.parent().unwrap_or(Path::new("")))?;
        let node = world.names.get(&from).ok_or(ErrorKind::NotFound)?.clone();
        world.tick()?;
        world.change(NameOpKind::Rename(from, to), node);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let path = self.full(path);
        let mut world = self.world.lock();
        let node = world.names.get(&path).ok_or(ErrorKind::NotFound)?.clone();
        world.tick()?;
        world.change(NameOpKind::Remove(path), node);
        Ok(())
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let path = self.full(path);
        let dirs = path.ancestors().filter(|a| !a.as_os_str().is_empty()).map(Path::to_owned);
        self.world.lock().dirs.extend(dirs);
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        let path = self.full(path);
        let world = self.world.lock();
        world.check_dir(&path)?;
        let inside = world.names.keys().chain(&world.dirs).filter(|p| p.parent() == Some(&*path));
        let names: BTreeSet<PathBuf> = inside.filter_map(|p| p.file_name().map(PathBuf::from)).collect();
        Ok(names.into_iter().collect())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let path = self.full(path);
        let mut world = self.world.lock();
        world.check_dir(&path)?;
        world.tick()?;
        world.sync_result()?;
        // Backwards: what an operation to be made durable rests on (same file, earlier) goes with it.
        let mut nodes: Vec<Node> = Vec::new();
        let mut kept = Vec::new();
        let mut now = Vec::new();
        for op in std::mem::take(&mut world.pending).into_iter().rev() {
            if op.touches(&path) || nodes.iter().any(|n| Arc::ptr_eq(n, &op.node)) {
                nodes.push(op.node.clone());
                now.push(op);
            } else {
                kept.push(op);
            }
        }
        now.iter().rev().for_each(|op| op.apply(&mut world.durable));
        kept.reverse();
        world.pending = kept;
        Ok(())
    }

    fn below(&self, path: &Path) -> Arc<dyn Disk> {
        Arc::new(Self { world: self.world.clone(), root: self.full(path) })
    }

    fn locate(&self, path: &Path) -> PathBuf {
        Path::new("sim:").join(self.full(path))
    }
}

impl NameOp {
    /// Where an earlier operation did not survive, what rests on it has no effect.
    fn apply(&self, names: &mut Names) {
        let is_mine = |found: Option<&Node>| found.is_some_and(|n| Arc::ptr_eq(n, &self.node));
        match &self.kind {
            NameOpKind::Create(path) => {
                names.insert(path.clone(), self.node.clone());
            }
            NameOpKind::Rename(from, to) if is_mine(names.get(from)) => {
                names.remove(from);
                names.insert(to.clone(), self.node.clone());
            }
            NameOpKind::Remove(path) if is_mine(names.get(path)) => {
                names.remove(path);
            }
            NameOpKind::Rename(..) | NameOpKind::Remove(..) => {}
        }
    }

    fn touches(&self, dir: &Path) -> bool {
        match &self.kind {
            NameOpKind::Create(path) | NameOpKind::Remove(path) => path.parent() == Some(dir),
            NameOpKind::Rename(from, to) => from.parent() == Some(dir) || to.parent() == Some(dir),
        }
    }
}

impl Inode {
    fn sync(&mut self) {
        if !self.forsaken {
            self.pending.drain(..).for_each(|change| change.apply(&mut self.durable));
        }
    }

    fn crash(&mut self, dice: &mut Dice) {
        image::survive(&mut self.durable, &self.pending, |n| dice.pick(n));
        self.pending.clear();
        self.forsaken = false;
        self.now = self.durable.clone();
    }

    fn change(&mut self, change: Pending) {
        change.apply(&mut self.now);
        self.pending.push(change);
    }
}

struct SimFile {
    disk: SimDisk,
    node: Node,
    life: u64,
    path: PathBuf,
}

impl fmt::Debug for SimFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimFile({})", self.path.display())
    }
}

impl SimFile {
    fn with<T>(&self, body: impl FnOnce(&mut World, &mut Inode) -> io::Result<T>) -> io::Result<T> {
        let mut world = self.disk.world.lock();
        if world.life != self.life {
            return Err(io::Error::other("the machine crashed since this file was opened"));
        }
        body(&mut world, &mut self.node.lock())
    }
}

impl File for SimFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.with(|_, inode| Ok(inode.now.read(buf, offset)))
    }

    fn write_at(&self, parts: &[&[u8]], offset: u64) -> io::Result<()> {
        let mut data = parts.concat();
        self.with(|world, inode| {
            world.tick()?;
            let room = world.room(data.len());
            let is_full = room < data.len();
            data.truncate(room);
            inode.change(Pending::Write { offset, data });
            if is_full { Err(ErrorKind::StorageFull.into()) } else { Ok(()) }
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.with(|world, inode| {
            world.tick()?;
            inode.change(Pending::SetLen(len));
            Ok(())
        })
    }

    fn len(&self) -> io::Result<u64> {
        self.with(|_, inode| Ok(inode.now.len()))
    }

    fn allocated(&self) -> io::Result<u64> {
        self.with(|_, inode| Ok(inode.now.allocated()))
    }

    fn sync(&self) -> io::Result<()> {
        self.with(|world, inode| {
            world.tick()?;
            let result = world.sync_result();
            inode.forsaken |= result.is_err();
            inode.sync();
            result
        })
    }
}

fn eio() -> io::Error {
    io::Error::from_raw_os_error(libc::EIO)
}

/// splitmix64.
struct Dice(u64);

impl Dice {
    /// One of `0..n`.
    fn pick(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % n.max(1) as u64) as usize
    }
}
