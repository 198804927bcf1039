//! A disk in memory that behaves as badly as a real one may, from a seed.
//!
//! Each file has two images: what the running system sees, and what is on the platter. [`File::sync`] brings
//! the second up to the first; [`SimDisk::crash`] makes the first what the second is, after letting any mixture
//! of the unsynced changes through: each 512-byte sector ends up in one of the states that it had since the
//! last sync, independently of all others, and so does the file's length. Creating, renaming and removing, of files and
//! directories, survive or not one by one, unless [`Disk::sync_dir`] covered them (of either directory, as in the journals
//! of ext4 and xfs). A failed sync leaves what it should have written unwritten for good although later ones
//! succeed, as Linux does: whoever retries loses.
//!
//! It never sleeps, starts no thread, reads no clock, and draws nothing but from the seed it was given. What a real disk
//! would have taken is counted ([`SimDisk::take_latency`]): to let that time pass is the world's business.

mod image;
mod names;

use std::fmt;
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::{Disk, File, Space, Volume};
use image::{Image, Pending};
use names::{DirId, Entry, NameOp, NameOpKind, Names, Node};

/// A simulated disk. Clones are the same disk, and so is what [`Disk::below`] gives.
#[derive(Clone, Default)]
pub struct SimDisk {
    world: Arc<Mutex<World>>,
    /// Where this one's paths begin.
    root: PathBuf,
}

/// How long a simulated disk takes, ns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Speed {
    /// A sync that has something to write.
    pub sync_ns: u64,
    /// Each KiB that is written to the platter.
    pub kib_ns: u64,
}

#[derive(Default)]
struct World {
    names: Names,
    durable: Names,
    pending: Vec<NameOp>,
    last_dir: DirId,
    /// Counts crashes: a handle from before one belongs to a process that is gone.
    life: u64,
    sync_fails: bool,
    read_fails: bool,
    write_room: Option<u64>,
    changes_left: Option<u64>,
    /// Changes and syncs so far.
    changes: u64,
    speed: Speed,
    latency_ns: u64,
}

#[derive(Default)]
struct Inode {
    now: Image,
    durable: Image,
    pending: Vec<Pending>,
    /// A sync failed: the system takes its pages for written, the platter never saw them.
    forsaken: bool,
    /// Who has it locked: life of the process, and number of the opening.
    lock: Option<(u64, usize)>,
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
        world.begin_life();
        for op in std::mem::take(&mut world.pending) {
            if dice.pick(2) == 1 {
                op.apply(&mut world.durable);
            }
        }
        world.names = world.durable.clone();
        for (_, node) in world.names.files() {
            node.lock().crash(&mut dice);
        }
    }

    /// The process dies, the machine goes on: nothing is lost, and every file open until now fails. Without this a store that
    /// is dropped would still write what a clean end writes.
    pub fn kill(&self) {
        self.world.lock().begin_life();
    }

    /// The next sync of a file or directory fails with EIO, and what it covered is lost at a crash.
    pub fn fail_next_sync(&self) {
        self.world.lock().sync_fails = true;
    }

    /// The next read of a file fails with EIO.
    pub fn fail_next_read(&self) {
        self.world.lock().read_fails = true;
    }

    /// Writes fail with ENOSPC once this many more bytes were written; `None` lifts the limit.
    pub fn limit_writes(&self, bytes: Option<u64>) {
        self.world.lock().write_room = bytes;
    }

    /// After this many more changes and syncs all of them fail and do nothing, until [`SimDisk::crash`] or
    /// [`SimDisk::kill`]: to lose power in the middle of an operation, at each point of it in turn.
    pub fn halt_after(&self, changes: u64) {
        self.world.lock().changes_left = Some(changes);
    }

    /// Changes and syncs so far: what [`SimDisk::halt_after`] counts.
    pub fn changes(&self) -> u64 {
        self.world.lock().changes
    }

    /// From now on it is this fast.
    pub fn set_speed(&self, speed: Speed) {
        self.world.lock().speed = speed;
    }

    /// The time, ns, that what was done since the last call would have taken.
    pub fn take_latency(&self) -> u64 {
        std::mem::take(&mut self.world.lock().latency_ns)
    }

    /// Flips one bit of what is on the platter and in the page cache.
    pub fn flip_bit(&self, path: &Path, offset: u64, bit: u8) -> io::Result<()> {
        let node = self.world.lock().names.file(&self.full(path))?;
        let mut inode = node.lock();
        inode.now.flip(offset, bit);
        inode.durable.flip(offset, bit);
        Ok(())
    }

    /// Bit rot: flips a bit somewhere in the files below `path`, and says where. None: there is no byte.
    pub fn rot(&self, path: &Path, seed: u64) -> Option<(PathBuf, u64)> {
        let mut dice = Dice(seed);
        let root = self.full(path);
        let files = self.world.lock().names.files();
        let mut there: Vec<(PathBuf, Node)> =
            files.into_iter().filter(|(p, _)| p.starts_with(&root)).collect();
        there.retain(|(_, node)| node.lock().now.allocated() > 0);
        let (path, node) = there.get(dice.pick(there.len()))?;
        let mut inode = node.lock();
        let block = inode.now.allocated_block(|n| dice.pick(n))?;
        let offset = block + dice.pick(image::BLOCK as usize) as u64;
        let bit = dice.pick(8) as u8;
        inode.now.flip(offset, bit);
        inode.durable.flip(offset, bit);
        Some((path.clone(), offset))
    }

    /// The disk is replaced by an empty one.
    pub fn wipe(&self) {
        let mut world = self.world.lock();
        world.begin_life();
        world.names = Names::default();
        world.durable = Names::default();
        world.pending.clear();
    }

    fn full(&self, path: &Path) -> PathBuf {
        // Joining an empty path would add a slash, which would be another name.
        if path.as_os_str().is_empty() { self.root.clone() } else { self.root.join(path) }
    }
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.world.lock().names.files().iter().map(|(path, _)| path)).finish()
    }
}

impl World {
    fn begin_life(&mut self) {
        self.life += 1;
        self.sync_fails = false;
        self.read_fails = false;
        self.write_room = None;
        self.changes_left = None;
    }

    /// To be asked before anything is changed.
    fn tick(&mut self) -> io::Result<()> {
        match &mut self.changes_left {
            Some(0) => return Err(io::Error::other("the machine has halted")),
            Some(left) => *left -= 1,
            None => {}
        }
        self.changes += 1;
        Ok(())
    }

    fn change(&mut self, kind: NameOpKind, entry: Entry) {
        let op = NameOp { kind, entry };
        op.apply(&mut self.names);
        self.pending.push(op);
    }

    fn new_dir(&mut self) -> Entry {
        self.last_dir += 1;
        Entry::Dir(self.last_dir)
    }

    fn sync_result(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.sync_fails) { Err(eio()) } else { Ok(()) }
    }

    fn took(&mut self, written: u64) {
        let Speed { sync_ns, kib_ns } = self.speed;
        self.latency_ns += sync_ns + written / 1024 * kib_ns;
    }

    /// The part of `wanted` bytes that fits on the disk.
    fn room(&mut self, wanted: usize) -> usize {
        let Some(room) = &mut self.write_room else { return wanted };
        let granted = wanted.min(usize::try_from(*room).unwrap_or(usize::MAX));
        *room -= granted as u64;
        granted
    }

    fn sync_names(&mut self, dir: DirId) {
        // Backwards: what an operation to be made durable rests on (same file, earlier) goes with it.
        let mut entries: Vec<Entry> = Vec::new();
        let mut kept = Vec::new();
        let mut now = Vec::new();
        for op in std::mem::take(&mut self.pending).into_iter().rev() {
            if op.touches(dir) || entries.iter().any(|e| e.is(&op.entry)) {
                entries.push(op.entry.clone());
                now.push(op);
            } else {
                kept.push(op);
            }
        }
        now.iter().rev().for_each(|op| op.apply(&mut self.durable));
        kept.reverse();
        self.pending = kept;
    }

    fn remove_all(&mut self, dir: DirId) -> io::Result<()> {
        let inside: Vec<_> =
            self.names.list(dir).map(|(name, entry)| (name.to_owned(), entry.clone())).collect();
        for (name, entry) in inside {
            if let Entry::Dir(below) = &entry {
                self.remove_all(*below)?;
            }
            self.tick()?;
            self.change(NameOpKind::Remove((dir, name)), entry);
        }
        Ok(())
    }
}

impl Disk for SimDisk {
    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn File>> {
        let path = self.full(path);
        let mut world = self.world.lock();
        let place = world.names.place(&path)?;
        let node = match world.names.at(&place) {
            Some(Entry::File(node)) => node.clone(),
            Some(Entry::Dir(_)) => return Err(ErrorKind::IsADirectory.into()),
            None if create => {
                world.tick()?;
                let node = Node::default();
                world.change(NameOpKind::Create(place), Entry::File(node.clone()));
                node
            }
            None => return Err(ErrorKind::NotFound.into()),
        };
        Ok(Arc::new(SimFile { disk: self.clone(), life: world.life, node, path, me: Arc::new(()) }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut world = self.world.lock();
        let (from, to) = (world.names.place(&self.full(from))?, world.names.place(&self.full(to))?);
        let entry = world.names.at(&from).ok_or(ErrorKind::NotFound)?.clone();
        match (&entry, world.names.at(&to)) {
            (_, None) | (Entry::File(_), Some(Entry::File(_))) => {}
            (Entry::File(_), Some(Entry::Dir(_))) => return Err(ErrorKind::IsADirectory.into()),
            (Entry::Dir(_), Some(_)) => return Err(ErrorKind::DirectoryNotEmpty.into()),
        }
        world.tick()?;
        world.change(NameOpKind::Rename(from, to), entry);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let path = self.full(path);
        let mut world = self.world.lock();
        let node = world.names.file(&path)?;
        let place = world.names.place(&path)?;
        world.tick()?;
        world.change(NameOpKind::Remove(place), Entry::File(node));
        Ok(())
    }

    fn remove_tree(&self, path: &Path) -> io::Result<()> {
        let path = self.full(path);
        let mut world = self.world.lock();
        let place = world.names.place(&path)?;
        let dir = match world.names.dir(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            other => other?,
        };
        world.remove_all(dir)?;
        world.tick()?;
        world.change(NameOpKind::Remove(place), Entry::Dir(dir));
        Ok(())
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let path = self.full(path);
        let mut missing: Vec<&Path> = path.ancestors().filter(|a| !a.as_os_str().is_empty()).collect();
        missing.reverse();
        let mut world = self.world.lock();
        for path in missing {
            let place = world.names.place(path)?;
            if world.names.at(&place).is_none() {
                let entry = world.new_dir();
                let dir = place.0;
                world.change(NameOpKind::Create(place), entry);
                world.sync_names(dir);
            }
        }
        Ok(())
    }

    fn make_dir(&self, path: &Path) -> io::Result<()> {
        let mut world = self.world.lock();
        let place = world.names.place(&self.full(path))?;
        if world.names.at(&place).is_none() {
            world.tick()?;
            let entry = world.new_dir();
            world.change(NameOpKind::Create(place), entry);
        }
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        let world = self.world.lock();
        let dir = world.names.dir(&self.full(path))?;
        Ok(world.names.list(dir).map(|(name, _)| PathBuf::from(name)).collect())
    }

    fn file_len(&self, path: &Path) -> io::Result<u64> {
        let node = self.world.lock().names.file(&self.full(path))?;
        let len = node.lock().now.len();
        Ok(len)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut world = self.world.lock();
        let dir = world.names.dir(&self.full(path))?;
        world.tick()?;
        world.sync_result()?;
        world.took(0);
        world.sync_names(dir);
        Ok(())
    }

    fn volume(&self) -> io::Result<Arc<dyn Volume>> {
        let world = self.world.lock();
        Ok(Arc::new(SimVolume { disk: self.clone(), life: world.life }))
    }

    fn space(&self) -> io::Result<Space> {
        let free_bytes = self.world.lock().write_room.unwrap_or(TOTAL_BYTES / 2);
        Ok(Space { total_bytes: TOTAL_BYTES, free_bytes, free_files: None })
    }

    fn below(&self, path: &Path) -> Arc<dyn Disk> {
        Arc::new(Self { world: self.world.clone(), root: self.full(path) })
    }

    fn locate(&self, path: &Path) -> PathBuf {
        Path::new("sim:").join(self.full(path))
    }
}

/// What a simulated disk says it holds, bytes.
const TOTAL_BYTES: u64 = 1 << 40;

struct SimVolume {
    disk: SimDisk,
    life: u64,
}

impl fmt::Debug for SimVolume {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SimVolume")
    }
}

impl Volume for SimVolume {
    fn sync(&self) -> io::Result<()> {
        let mut world = self.disk.world.lock();
        check_life(&world, self.life)?;
        world.tick()?;
        let result = world.sync_result();
        let mut written = 0;
        for (_, node) in world.names.files() {
            let mut inode = node.lock();
            inode.forsaken |= result.is_err();
            written += inode.sync();
        }
        world.took(written);
        if result.is_ok() {
            let World { pending, durable, .. } = &mut *world;
            pending.drain(..).for_each(|op| op.apply(durable));
        }
        result
    }
}

fn check_life(world: &World, life: u64) -> io::Result<()> {
    if world.life == life {
        return Ok(());
    }
    Err(io::Error::other("the process that opened it is gone"))
}

impl Inode {
    /// Bytes that it wrote.
    fn sync(&mut self) -> u64 {
        if self.forsaken {
            return 0;
        }
        let changes = self.pending.drain(..);
        changes.map(|change| change.apply(&mut self.durable)).sum()
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
    /// This opening: no two have the same address.
    me: Arc<()>,
}

impl fmt::Debug for SimFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimFile({})", self.path.display())
    }
}

impl SimFile {
    fn number(&self) -> usize {
        Arc::as_ptr(&self.me).addr()
    }

    fn with<T>(&self, body: impl FnOnce(&mut World, &mut Inode) -> io::Result<T>) -> io::Result<T> {
        let mut world = self.disk.world.lock();
        check_life(&world, self.life)?;
        body(&mut world, &mut self.node.lock())
    }
}

impl File for SimFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.with(|world, inode| {
            if std::mem::take(&mut world.read_fails) { Err(eio()) } else { Ok(inode.now.read(buf, offset)) }
        })
    }

    fn read_into(&self, buf: &mut Vec<u8>, offset: u64) -> io::Result<()> {
        let had = buf.len();
        buf.resize(buf.capacity(), 0);
        let read = self.read_at(&mut buf[had..], offset);
        buf.truncate(had + read.as_ref().map_or(0, |n| *n));
        read.map(drop)
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

    fn data_after(&self, offset: u64) -> io::Result<Option<Range<u64>>> {
        self.with(|_, inode| Ok(inode.now.data_after(offset)))
    }

    fn sync(&self) -> io::Result<()> {
        self.with(|world, inode| {
            world.tick()?;
            let result = world.sync_result();
            inode.forsaken |= result.is_err();
            let written = inode.sync();
            world.took(written);
            result
        })
    }

    fn try_lock(&self) -> io::Result<bool> {
        self.with(|world, inode| {
            let mine = (world.life, self.number());
            // A lock of a process that is gone is gone with it.
            let taken = inode.lock.is_some_and(|lock| lock.0 == mine.0 && lock != mine);
            if !taken {
                inode.lock = Some(mine);
            }
            Ok(!taken)
        })
    }

    fn unlock(&self) -> io::Result<()> {
        self.with(|_, inode| {
            if inode.lock.is_some_and(|(life, number)| (life, number) == (self.life, self.number())) {
                inode.lock = None;
            }
            Ok(())
        })
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        // Of a process that is gone nothing is left to be unlocked.
        let _ = self.unlock();
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
