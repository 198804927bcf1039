//! Effects of entries that are applied but not durable yet: in memory, in order, over the host files.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};

use super::host::HostFiles;
use crate::ids::FileId;
use crate::log::LogIndex;

/// Effects let through under one look at the queue.
const DRAIN_BATCH: usize = 64;
/// Memory of a waiting effect besides its data.
const EFFECT_OVERHEAD_BYTES: u64 = 128;

/// What an entry does to a file's content. Cloning it copies no data.
#[derive(Clone, Debug)]
pub(super) enum Effect {
    Write { offset: u64, data: Bytes },
    Truncate { len: u64 },
}

impl Effect {
    fn cost(&self) -> u64 {
        match self {
            Self::Write { data, .. } => EFFECT_OVERHEAD_BYTES + data.len() as u64,
            Self::Truncate { .. } => EFFECT_OVERHEAD_BYTES,
        }
    }

    /// The bytes that it covers, as a range of offsets.
    fn covers(&self) -> (u64, u64) {
        match self {
            Self::Write { offset, data } => (*offset, offset.saturating_add(data.len() as u64)),
            Self::Truncate { len } => (*len, u64::MAX),
        }
    }

    /// Puts the part that falls into `buffer`, which starts at `start` of the file, over what is there.
    pub(super) fn put_over(&self, start: u64, buffer: &mut [u8]) {
        let end = start.saturating_add(buffer.len() as u64);
        let (from, to) = self.covers();
        let (from, to) = (from.max(start), to.min(end));
        if from >= to {
            return;
        }
        // Both lie within the buffer, so the differences fit.
        let Some(target) = buffer.get_mut((from - start) as usize..(to - start) as usize) else {
            return;
        };
        match self {
            Self::Write { offset, data } => {
                let skip = (from - offset) as usize;
                target.copy_from_slice(&data[skip..skip + target.len()]);
            }
            Self::Truncate { .. } => target.fill(0),
        }
    }
}

/// The waiting effects of all files.
#[derive(Default)]
pub(super) struct Pending {
    queue: RwLock<Queue>,
    /// One drains at a time, so that effects reach the host in order.
    draining: Mutex<()>,
    bytes: AtomicU64,
}

#[derive(Default)]
struct Queue {
    durable: LogIndex,
    waiting: VecDeque<(LogIndex, FileId, Effect)>,
    /// How many effects have left the queue: number of its front.
    first: u64,
    /// Numbers of each file's waiting effects.
    by_file: HashMap<FileId, VecDeque<u64>>,
}

impl Pending {
    /// Takes an effect of the apply thread: at once where its entry is durable and nothing is before it.
    pub(super) fn submit(
        &self,
        host: &HostFiles,
        index: LogIndex,
        file: FileId,
        effect: Effect,
    ) -> io::Result<()> {
        let durable = {
            let mut queue = self.queue.write();
            let durable = index <= queue.durable;
            if durable && queue.waiting.is_empty() {
                // Only this thread adds, and an effect leaves the queue after it took place: no other is due.
                drop(queue);
                return host.perform(file, &effect);
            }
            self.bytes.fetch_add(effect.cost(), Ordering::Relaxed);
            queue.push(index, file, effect);
            durable
        };
        if durable { self.drain(host) } else { Ok(()) }
    }

    /// Entries up to `index` are durable.
    pub(super) fn durable(&self, host: &HostFiles, index: LogIndex) -> io::Result<()> {
        if self.note_durable(index) { self.drain(host) } else { Ok(()) }
    }

    /// True: effects wait.
    pub(super) fn note_durable(&self, index: LogIndex) -> bool {
        let mut queue = self.queue.write();
        queue.durable = queue.durable.max(index);
        !queue.waiting.is_empty()
    }

    fn drain(&self, host: &HostFiles) -> io::Result<()> {
        let _one = self.draining.lock();
        loop {
            let batch = self.queue.read().due();
            if batch.is_empty() {
                return Ok(());
            }
            for (file, effect) in &batch {
                host.perform(*file, effect)?;
            }
            self.queue.write().pop(batch.len());
            let bytes: u64 = batch.iter().map(|(_, effect)| effect.cost()).sum();
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    /// A file's waiting effects that touch these bytes, in order.
    pub(super) fn of(&self, file: FileId, offset: u64, len: usize) -> Vec<Effect> {
        let end = offset.saturating_add(len as u64);
        let queue = self.queue.read();
        let Some(numbers) = queue.by_file.get(&file) else {
            return Vec::new();
        };
        let effects = numbers.iter().filter_map(|number| queue.effect(*number));
        let touches = |effect: &&Effect| {
            let (from, to) = effect.covers();
            from < end && to > offset
        };
        effects.filter(touches).cloned().collect()
    }

    /// The entry of the first effect that waits.
    pub(super) fn first_waiting(&self) -> Option<LogIndex> {
        self.queue.read().waiting.front().map(|(index, ..)| *index)
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

impl Queue {
    fn push(&mut self, index: LogIndex, file: FileId, effect: Effect) {
        let number = self.first + self.waiting.len() as u64;
        self.waiting.push_back((index, file, effect));
        self.by_file.entry(file).or_default().push_back(number);
    }

    fn effect(&self, number: u64) -> Option<&Effect> {
        let place = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.waiting.get(place).map(|(.., effect)| effect)
    }

    /// The next effects whose entries are durable.
    fn due(&self) -> Vec<(FileId, Effect)> {
        let due = self.waiting.iter().take(DRAIN_BATCH).take_while(|(index, ..)| *index <= self.durable);
        due.map(|(_, file, effect)| (*file, effect.clone())).collect()
    }

    fn pop(&mut self, count: usize) {
        for (_, file, _) in self.waiting.drain(..count) {
            self.first += 1;
            if let Some(numbers) = self.by_file.get_mut(&file) {
                numbers.pop_front();
                if numbers.is_empty() {
                    self.by_file.remove(&file);
                }
            }
        }
    }
}
