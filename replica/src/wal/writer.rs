//! The log's owner: appends, syncs, moves on to the next segment, cuts.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::RwLock;

use super::batch::{Batch, Record};
use super::error::WalError;
use super::format::{
    BOOT_ID_BYTES_MAX, HEADER_BYTES, Position, STATE_FIXED_BYTES, SegmentHeader, Use, record_bytes,
};
use super::index::{Index, Segment};
use super::reader::WalReader;
use super::recovery::{recover, segment_name, segment_seq};
use super::spares::{Spares, disk_error, zero};
use crate::disk::{Disk, File};
use crate::log::{Entry, LogIndex, StableState, Term};

/// An entry's op and payload together, bytes: eight of the largest WRITEs that a client may send (1 MiB).
pub const ENTRY_BYTES_MAX: usize = 8 << 20;
/// A header and one small record must fit.
const SEGMENT_BYTES_MIN: u64 = 8 << 10;
/// Offsets are kept in memory as 32 bits.
const SEGMENT_BYTES_MAX: u64 = 1 << 30;
/// A log whose creation has not finished.
const NEW: &str = "new";

const _: () =
    assert!(record_bytes((STATE_FIXED_BYTES + BOOT_ID_BYTES_MAX) as u64) <= SEGMENT_BYTES_MIN - HEADER_BYTES);

/// How a log uses its disk.
#[derive(Clone, Debug)]
pub struct WalOptions {
    /// A segment's size. Segments of another size that are there stay in use until they are cut.
    pub segment_bytes: u64,
    /// Zeroed or recycled segments kept ready: what a log costs beyond its entries.
    pub spare_segments: usize,
}

impl Default for WalOptions {
    fn default() -> Self {
        Self { segment_bytes: 64 << 20, spare_segments: 2 }
    }
}

/// A log that is ready, and what it holds.
#[derive(Debug)]
pub struct Opened {
    /// The owner's end.
    pub wal: Wal,
    /// Everybody else's end.
    pub reader: WalReader,
    /// The voter's state. Its commit index lies within base and last entry.
    pub state: StableState,
    /// The entry before the first one.
    pub base: (LogIndex, Term),
    /// The last entry; the base where there is none.
    pub last: (LogIndex, Term),
    /// First index of each run of entries of one term.
    pub terms: Vec<(LogIndex, Term)>,
    /// Bytes of unsynced records that a power cut had torn and that were dropped.
    pub torn_bytes: u64,
}

/// The log of one group. See the module's description.
#[derive(Debug)]
pub struct Wal {
    disk: Arc<dyn Disk>,
    options: WalOptions,
    index: Arc<RwLock<Index>>,
    active: Active,
    state: StableState,
    spares: Spares,
    is_poisoned: bool,
}

/// The segment that is appended to.
#[derive(Debug)]
pub(super) struct Active {
    pub used: Use,
    pub name: PathBuf,
    pub file: Arc<dyn File>,
    pub bytes: u64,
    pub end: u64,
    pub durable: u64,
}

impl Wal {
    /// Opens the log in the disk's root directory, or creates an empty one at base (0, 0) where none is. What
    /// is returned is durable. On [`WalError::Damaged`] and [`WalError::Version`] nothing was changed.
    pub fn open(disk: Arc<dyn Disk>, options: WalOptions) -> Result<Opened, WalError> {
        check_options(&options)?;
        let files = Files::list(&disk)?;
        let Some(found) = recover(&disk, &files.segments)? else {
            if let Some(spare) = files.spares.first() {
                return Err(WalError::Damaged {
                    file: disk.locate(spare),
                    offset: 0,
                    what: "there are spare segments but no log".into(),
                });
            }
            return Self::found(disk, options, random_id()?, (0, 0), &StableState::default());
        };
        let mut spares = Spares::new(disk.clone(), options.segment_bytes);
        files.spares.into_iter().try_for_each(|name| spares.adopt(name, options.spare_segments))?;
        let (used, Segment { name, file, bytes, .. }) = (found.used, found.active);
        let active = Active { used, name, file, bytes, end: found.end, durable: found.end };
        let index = Arc::new(RwLock::new(found.index));
        let mut wal = Self { disk, options, index, active, state: found.state, spares, is_poisoned: false };
        wal.begin_session(found.is_commit_cut)?;
        Ok(wal.opened(found.torn_bytes))
    }

    /// Creates a log for a node that got an image: `base` is the last entry that it covers.
    /// [`WalError::Exists`] where one is.
    pub fn create(
        disk: Arc<dyn Disk>,
        options: WalOptions,
        base: (LogIndex, Term),
        state: &StableState,
    ) -> Result<Opened, WalError> {
        Self::create_with_id(disk, options, random_id()?, base, state)
    }

    pub(super) fn create_with_id(
        disk: Arc<dyn Disk>,
        options: WalOptions,
        wal_id: u64,
        base: Position,
        state: &StableState,
    ) -> Result<Opened, WalError> {
        check_options(&options)?;
        let files = Files::list(&disk)?;
        if !files.segments.is_empty() || !files.spares.is_empty() {
            return Err(WalError::Exists { dir: disk.locate(Path::new("")) });
        }
        Self::found(disk, options, wal_id, base, state)
    }

    /// What a power cut left behind the end must not come to count when its place is written again. A commit
    /// index beyond the log must not come to cover entries that are appended from now on.
    fn begin_session(&mut self, is_commit_cut: bool) -> Result<(), WalError> {
        let state = self.state.clone();
        let mut batch = Batch::new(&self.active);
        self.put(&mut batch, Record::Session)?;
        if is_commit_cut {
            self.put(&mut batch, Record::State(&state))?;
        }
        self.flush(&mut batch)?;
        self.sync_active()
    }

    fn found(
        disk: Arc<dyn Disk>,
        options: WalOptions,
        wal_id: u64,
        base: Position,
        state: &StableState,
    ) -> Result<Opened, WalError> {
        check_state(state)?;
        let name = Path::new(NEW);
        let file = disk.open(name, true).map_err(disk_error(&disk, "create", name))?;
        let filled = file.set_len(0).and_then(|()| zero(&*file, 0, options.segment_bytes));
        filled.map_err(disk_error(&disk, "zero", name))?;
        let header = SegmentHeader {
            used: Use::new(wal_id, 1),
            segment_bytes: options.segment_bytes,
            base,
            previous_end: 0,
            state: state.clone(),
        };
        let active = activate(&disk, name, &header)?;
        let mut index = Index::new(base);
        index.segments.push_back(active.segment());
        let spares = Spares::new(disk.clone(), options.segment_bytes);
        let index = Arc::new(RwLock::new(index));
        let state = state.clone();
        let wal = Self { disk, options, index, active, state, spares, is_poisoned: false };
        Ok(wal.opened(0))
    }

    fn opened(self, torn_bytes: u64) -> Opened {
        let (base, last, terms) = {
            let index = self.index.read();
            (index.base, index.last, index.terms.clone())
        };
        Opened { reader: self.reader(), state: self.state.clone(), base, last, terms, torn_bytes, wal: self }
    }

    /// Writes, without syncing, a state and entries that follow on each other and on the log. Where the first
    /// one's index is there already, the suffix from it on is removed.
    pub fn append(&mut self, state: Option<&StableState>, entries: &[Entry]) -> Result<(), WalError> {
        self.guarded(|wal| {
            wal.check(state, entries)?;
            let mut batch = Batch::new(&wal.active);
            if let Some(kept) = wal.truncation(entries) {
                wal.put(&mut batch, Record::Truncation(kept))?;
            }
            if let Some(state) = state {
                wal.state = state.clone();
                wal.put(&mut batch, Record::State(state))?;
            }
            for entry in entries {
                wal.put(&mut batch, Record::Entry(entry))?;
            }
            wal.flush(&mut batch)
        })
    }

    /// Makes everything appended so far durable: one fdatasync, none where nothing is new.
    pub fn sync(&mut self) -> Result<(), WalError> {
        self.guarded(Self::sync_active)
    }

    /// Entries up to and including `upto` are not needed any more. Syncs, then gives up the segments that
    /// hold nothing else.
    pub fn cut(&mut self, upto: LogIndex) -> Result<(), WalError> {
        self.guarded(|wal| {
            wal.sync_active()?;
            loop {
                let cut = wal.index.write().cut_one(upto);
                let Some(segment) = cut else { return Ok(()) };
                wal.retire(&segment)?;
            }
        })
    }

    /// To be called when there is nothing to append: does one short step (4 MiB zeroed and synced) towards the
    /// spare segments that are to be ready. True: there is more to do. A full disk is no error here.
    pub fn prepare_spare(&mut self) -> Result<bool, WalError> {
        self.guarded(|wal| {
            if wal.spares.count() >= wal.options.spare_segments {
                return Ok(false);
            }
            match wal.spares.step() {
                Ok(()) => Ok(wal.spares.count() < wal.options.spare_segments),
                Err(WalError::Disk { source, .. }) if is_full(&source) => {
                    wal.spares.abandon()?;
                    Ok(false)
                }
                Err(error) => Err(error),
            }
        })
    }

    /// Disk space in use, spare segments included.
    pub fn bytes(&self) -> u64 {
        self.index.read().bytes().saturating_add(self.spares.bytes())
    }

    /// A reader of this log.
    pub fn reader(&self) -> WalReader {
        WalReader::new(self.disk.clone(), self.index.clone())
    }

    fn guarded<T>(&mut self, body: impl FnOnce(&mut Self) -> Result<T, WalError>) -> Result<T, WalError> {
        if self.is_poisoned {
            return Err(WalError::Poisoned);
        }
        let result = body(self);
        self.is_poisoned = matches!(result, Err(WalError::Disk { .. }));
        result
    }

    /// Before anything is written: a refusal leaves the log as it was.
    fn check(&self, state: Option<&StableState>, entries: &[Entry]) -> Result<(), WalError> {
        state.map_or(Ok(()), check_state)?;
        let room = self.options.segment_bytes - HEADER_BYTES - record_bytes(0);
        let max = ENTRY_BYTES_MAX.min(usize::try_from(room).unwrap_or(usize::MAX));
        let index = self.index.read();
        let (first, last) = (index.first(), index.last.0);
        let mut wanted = entries.first().map_or(0, |e| e.index.clamp(first, last.saturating_add(1)));
        for entry in entries {
            let bytes = entry.op.len().saturating_add(entry.payload.len());
            if bytes > max {
                return Err(WalError::TooLarge { bytes, max });
            }
            if entry.index != wanted {
                return Err(WalError::NotContiguous { index: entry.index, first, last });
            }
            wanted = wanted.saturating_add(1);
        }
        Ok(())
    }

    /// What is kept of a log that the first of these entries contradicts.
    fn truncation(&self, entries: &[Entry]) -> Option<Position> {
        let index = self.index.read();
        let first = entries.first().filter(|e| e.index <= index.last.0)?;
        let kept = first.index.checked_sub(1)?;
        Some((kept, index.term_at(kept)?))
    }

    fn put<'a>(&mut self, batch: &mut Batch<'a>, record: Record<'a>) -> Result<(), WalError> {
        if !batch.fits(&record) {
            self.flush(batch)?;
            self.roll()?;
            *batch = Batch::new(&self.active);
        }
        batch.add(record);
        Ok(())
    }

    /// Writes the batch; what it says counts, and readers see it, from then on.
    fn flush(&mut self, batch: &mut Batch<'_>) -> Result<(), WalError> {
        let start = self.active.end;
        let written = self.active.file.write_at(&batch.parts(), start);
        written.map_err(disk_error(&self.disk, "write", &self.active.name))?;
        self.active.end = batch.end();
        self.active.used = batch.used();
        let mut index = self.index.write();
        for change in batch.take_changes() {
            let applied = index.apply(change);
            assert!(applied.is_some(), "a checked batch follows on the log: {change:?}");
        }
        Ok(())
    }

    fn sync_active(&mut self) -> Result<(), WalError> {
        let active = &mut self.active;
        if active.end > active.durable {
            active.file.sync().map_err(disk_error(&self.disk, "fdatasync", &active.name))?;
            active.durable = active.end;
        }
        Ok(())
    }

    /// Goes on in a new segment; the old one is durable and final before that exists.
    fn roll(&mut self) -> Result<(), WalError> {
        self.sync_active()?;
        let spare = self.spares.take()?;
        let Use { wal_id, seq, .. } = self.active.used;
        let header = SegmentHeader {
            used: Use::new(wal_id, seq.saturating_add(1)),
            segment_bytes: self.options.segment_bytes,
            base: self.index.read().last,
            previous_end: self.active.end,
            state: self.state.clone(),
        };
        self.active = activate(&self.disk, &spare, &header)?;
        self.index.write().segments.push_back(self.active.segment());
        Ok(())
    }

    fn retire(&mut self, segment: &Segment) -> Result<(), WalError> {
        let is_wanted = self.spares.count() < self.options.spare_segments;
        if is_wanted && segment.bytes == self.options.segment_bytes {
            return self.spares.recycle(&segment.name);
        }
        let dir = Path::new("");
        self.disk.remove(&segment.name).map_err(disk_error(&self.disk, "remove", &segment.name))?;
        self.disk.sync_dir(dir).map_err(disk_error(&self.disk, "sync directory", dir))
    }
}

impl Active {
    fn segment(&self) -> Segment {
        Segment::new(self.used, self.name.clone(), self.file.clone(), self.bytes)
    }
}

/// The log's files, as listed.
struct Files {
    segments: Vec<u64>,
    spares: Vec<PathBuf>,
}

impl Files {
    fn list(disk: &Arc<dyn Disk>) -> Result<Self, WalError> {
        let dir = Path::new("");
        disk.create_dir(dir).map_err(disk_error(disk, "create directory", dir))?;
        // A rename that an earlier process had not come to sync must not come undone later.
        disk.sync_dir(dir).map_err(disk_error(disk, "sync directory", dir))?;
        let names = disk.list(dir).map_err(disk_error(disk, "list", dir))?;
        let segments = names.iter().filter_map(|n| segment_seq(n)).collect();
        let spares = names.into_iter().filter(|n| Spares::is_name(n)).collect();
        Ok(Self { segments, spares })
    }
}

/// Makes a prepared file the segment of this header: durable when it returns.
fn activate(disk: &Arc<dyn Disk>, spare: &Path, header: &SegmentHeader) -> Result<Active, WalError> {
    let name = segment_name(header.used.seq);
    let dir = Path::new("");
    let file = disk.open(spare, false).map_err(disk_error(disk, "open", spare))?;
    file.write_at(&[&header.encode()], 0).map_err(disk_error(disk, "write", spare))?;
    file.sync().map_err(disk_error(disk, "fdatasync", spare))?;
    disk.rename(spare, &name).map_err(disk_error(disk, "rename", spare))?;
    disk.sync_dir(dir).map_err(disk_error(disk, "sync directory", dir))?;
    let (end, durable) = (HEADER_BYTES, HEADER_BYTES);
    Ok(Active { used: header.used, name, file, bytes: header.segment_bytes, end, durable })
}

fn check_options(options: &WalOptions) -> Result<(), WalError> {
    let given = options.segment_bytes;
    if (SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&given) {
        return Ok(());
    }
    Err(WalError::SegmentBytes { given, min: SEGMENT_BYTES_MIN, max: SEGMENT_BYTES_MAX })
}

fn check_state(state: &StableState) -> Result<(), WalError> {
    let bytes = state.dirty_boot.len();
    if bytes <= BOOT_ID_BYTES_MAX {
        Ok(())
    } else {
        Err(WalError::TooLarge { bytes, max: BOOT_ID_BYTES_MAX })
    }
}

fn is_full(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded)
}

fn random_id() -> Result<u64, WalError> {
    crate::random::random_u64().map_err(|error| WalError::Disk {
        action: "draw an id from",
        file: "/dev/urandom".into(),
        source: std::io::Error::other(error.to_string()),
    })
}
