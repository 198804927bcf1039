//! The bytes of one simulated file, sparse, and the changes that may or may not survive a crash.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// Unit of allocation, bytes.
pub(super) const BLOCK: u64 = 4096;
/// Unit of survival, bytes: what disks promise to write wholly or not at all.
const SECTOR: u64 = 512;

/// A sparse file. Bytes at and beyond `len` are zero.
#[derive(Clone, Default)]
pub(super) struct Image {
    blocks: BTreeMap<u64, Box<[u8; BLOCK as usize]>>,
    len: u64,
}

impl Image {
    pub fn len(&self) -> u64 {
        self.len
    }

    pub fn allocated(&self) -> u64 {
        self.blocks.len() as u64 * BLOCK
    }

    pub fn read(&self, buf: &mut [u8], offset: u64) -> usize {
        let there = self.len.saturating_sub(offset).min(buf.len() as u64) as usize;
        let mut done = 0;
        while done < there {
            let (block, at) = place(offset + done as u64);
            let part = (there - done).min(BLOCK as usize - at);
            match self.blocks.get(&block) {
                Some(data) => buf[done..done + part].copy_from_slice(&data[at..at + part]),
                None => buf[done..done + part].fill(0),
            }
            done += part;
        }
        there
    }

    fn write(&mut self, data: &[u8], offset: u64) {
        let mut done = 0;
        while done < data.len() {
            let (block, at) = place(offset + done as u64);
            let part = (data.len() - done).min(BLOCK as usize - at);
            let target = self.blocks.entry(block).or_insert_with(|| Box::new([0; BLOCK as usize]));
            target[at..at + part].copy_from_slice(&data[done..done + part]);
            done += part;
        }
        if !data.is_empty() {
            self.len = self.len.max(offset + data.len() as u64);
        }
    }

    fn set_len(&mut self, len: u64) {
        let (block, at) = place(len);
        self.blocks.split_off(&len.div_ceil(BLOCK));
        if let Some(data) = self.blocks.get_mut(&block) {
            data[at..].fill(0);
        }
        self.len = len;
    }

    /// The next allocated bytes at or after `offset`.
    pub fn data_after(&self, offset: u64) -> Option<Range<u64>> {
        if offset >= self.len {
            return None;
        }
        let mut blocks = self.blocks.range(offset / BLOCK..).map(|(block, _)| *block);
        let first = blocks.next()?;
        let mut last = first;
        for block in blocks {
            if block != last + 1 {
                break;
            }
            last = block;
        }
        let start = (first * BLOCK).max(offset);
        let end = ((last + 1) * BLOCK).min(self.len);
        (start < end).then_some(start..end)
    }

    /// Where one of the allocated blocks begins: `pick(n)` chooses one of `0..n`.
    pub fn allocated_block(&self, mut pick: impl FnMut(usize) -> usize) -> Option<u64> {
        self.blocks.keys().nth(pick(self.blocks.len())).map(|block| block * BLOCK)
    }

    pub fn flip(&mut self, offset: u64, bit: u8) {
        let (block, at) = place(offset);
        if let Some(data) = self.blocks.get_mut(&block) {
            data[at] ^= 1 << (bit % 8);
        }
    }
}

fn place(offset: u64) -> (u64, usize) {
    (offset / BLOCK, (offset % BLOCK) as usize)
}

/// A change that no sync has covered yet.
#[derive(Clone)]
pub(super) enum Pending {
    Write { offset: u64, data: Vec<u8> },
    SetLen(u64),
}

impl Pending {
    /// Bytes that it wrote.
    pub fn apply(&self, image: &mut Image) -> u64 {
        match self {
            Self::Write { offset, data } => {
                image.write(data, *offset);
                data.len() as u64
            }
            Self::SetLen(len) => {
                image.set_len(*len);
                0
            }
        }
    }

    /// Whether it changes this sector's bytes.
    fn touches(&self, sector: u64) -> bool {
        let (start, end) = (sector * SECTOR, (sector + 1) * SECTOR);
        match self {
            Self::Write { offset, data } => *offset < end && start < *offset + data.len() as u64,
            Self::SetLen(len) => *len < end,
        }
    }

    fn apply_to_sector(&self, sector: u64, bytes: &mut [u8; SECTOR as usize]) {
        let start = sector * SECTOR;
        match self {
            Self::Write { offset, data } => {
                let from = start.max(*offset);
                let until = (start + SECTOR).min(*offset + data.len() as u64);
                let source = &data[(from - offset) as usize..(until - offset) as usize];
                bytes[(from - start) as usize..(until - start) as usize].copy_from_slice(source);
            }
            Self::SetLen(len) => bytes[len.saturating_sub(start) as usize..].fill(0),
        }
    }
}

/// What a crash leaves on the platter: `pick(n)` chooses one of `0..n`.
pub(super) fn survive(durable: &mut Image, pending: &[Pending], mut pick: impl FnMut(usize) -> usize) {
    if pending.is_empty() {
        return;
    }
    let mut lens = vec![durable.len];
    let mut sectors = BTreeSet::new();
    let per_block = BLOCK / SECTOR;
    for change in pending {
        let last = lens.last().copied().unwrap_or(0);
        match change {
            Pending::Write { data, .. } if data.is_empty() => {}
            Pending::Write { offset, data } => {
                let end = offset + data.len() as u64;
                sectors.extend(offset / SECTOR..end.div_ceil(SECTOR));
                lens.push(last.max(end));
            }
            Pending::SetLen(len) => {
                let cut = durable.blocks.range(len / BLOCK..).map(|(b, _)| *b);
                sectors.extend(cut.flat_map(|b| b * per_block..(b + 1) * per_block));
                lens.push(*len);
            }
        }
    }
    for sector in sectors {
        let touching: Vec<&Pending> = pending.iter().filter(|p| p.touches(sector)).collect();
        let survivors = pick(touching.len() + 1);
        let mut bytes = [0; SECTOR as usize];
        durable.read(&mut bytes, sector * SECTOR);
        for change in touching.into_iter().take(survivors) {
            change.apply_to_sector(sector, &mut bytes);
        }
        durable.write(&bytes, sector * SECTOR);
    }
    durable.set_len(lens.get(pick(lens.len())).copied().unwrap_or(0));
}
