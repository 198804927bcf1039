//! Files ready to become the next segment: zeroed in small steps, or recycled from segments no longer needed.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::WalError;
use crate::disk::{Disk, File};

/// Zeroed and fdatasync'ed at once, bytes: bounds how long an append may have to wait for a step (some ms).
const STEP_BYTES: u64 = 4 << 20;
const PREFIX: &str = "spare-";
const ZEROS: &[u8] = &[0; 1 << 16];

/// The spare segments of one log.
#[derive(Debug)]
pub(super) struct Spares {
    pub disk: Arc<dyn Disk>,
    pub segment_bytes: u64,
    ready: Vec<PathBuf>,
    making: Option<Making>,
    next: u64,
}

/// A file that is being zeroed.
#[derive(Debug)]
struct Making {
    name: PathBuf,
    file: Arc<dyn File>,
    done: u64,
}

/// Maps an error of the disk to ours.
pub(super) fn disk_error<'a>(
    disk: &'a Arc<dyn Disk>,
    action: &'static str,
    name: &'a Path,
) -> impl FnOnce(std::io::Error) -> WalError + 'a {
    move |source| WalError::Disk { action, file: disk.locate(name), source }
}

impl Spares {
    pub fn new(disk: Arc<dyn Disk>, segment_bytes: u64) -> Self {
        Self { disk, segment_bytes, ready: Vec::new(), making: None, next: 0 }
    }

    pub fn is_name(name: &Path) -> bool {
        number(name).is_some()
    }

    pub fn count(&self) -> usize {
        self.ready.len()
    }

    pub fn bytes(&self) -> u64 {
        let making = self.making.as_ref().map_or(0, |m| m.done);
        self.segment_bytes.saturating_mul(self.ready.len() as u64).saturating_add(making)
    }

    /// Takes over a spare found at start; removes it where it is unfinished, of another size, or one too many.
    pub fn adopt(&mut self, name: PathBuf, count_max: usize) -> Result<(), WalError> {
        let len = self
            .disk
            .open(&name, false)
            .and_then(|f| f.len())
            .map_err(disk_error(&self.disk, "open", &name))?;
        self.next = self.next.max(number(&name).map_or(0, |n| n.saturating_add(1)));
        if len == self.segment_bytes && self.ready.len() < count_max {
            self.ready.push(name);
            return Ok(());
        }
        self.disk.remove(&name).map_err(disk_error(&self.disk, "remove", &name))
    }

    /// Turns a segment that is no longer needed into a spare, durably.
    pub fn recycle(&mut self, segment: &Path) -> Result<(), WalError> {
        let name = self.new_name();
        self.disk.rename(segment, &name).map_err(disk_error(&self.disk, "recycle", segment))?;
        self.sync_dir()?;
        self.ready.push(name);
        Ok(())
    }

    /// A file of full size: ready, or made here and now.
    pub fn take(&mut self) -> Result<PathBuf, WalError> {
        loop {
            if let Some(name) = self.ready.pop() {
                return Ok(name);
            }
            self.step()?;
        }
    }

    /// One step towards one more spare.
    pub fn step(&mut self) -> Result<(), WalError> {
        let mut making = match self.making.take() {
            Some(making) => making,
            None => self.begin()?,
        };
        let end = making.done.saturating_add(STEP_BYTES).min(self.segment_bytes);
        let result = zero(&*making.file, making.done, end);
        let result = result.map_err(disk_error(&self.disk, "zero", &making.name));
        making.done = end;
        if result.is_ok() && end == self.segment_bytes {
            self.sync_dir()?;
            self.ready.push(making.name);
        } else {
            self.making = Some(making);
        }
        result
    }

    /// Gives up the half-made spare and its space.
    pub fn abandon(&mut self) -> Result<(), WalError> {
        let Some(making) = self.making.take() else { return Ok(()) };
        self.disk.remove(&making.name).map_err(disk_error(&self.disk, "remove", &making.name))
    }

    fn begin(&mut self) -> Result<Making, WalError> {
        let name = self.new_name();
        let file = self.disk.open(&name, true).map_err(disk_error(&self.disk, "create", &name))?;
        Ok(Making { name, file, done: 0 })
    }

    fn new_name(&mut self) -> PathBuf {
        let name = format!("{PREFIX}{:016x}", self.next);
        self.next = self.next.saturating_add(1);
        name.into()
    }

    fn sync_dir(&self) -> Result<(), WalError> {
        let dir = Path::new("");
        self.disk.sync_dir(dir).map_err(disk_error(&self.disk, "sync directory", dir))
    }
}

/// Writes zeros, so that the blocks are allocated and written, and syncs them.
pub(super) fn zero(file: &dyn File, from: u64, to: u64) -> std::io::Result<()> {
    let mut at = from;
    while at < to {
        let step = (to - at).min(STEP_BYTES);
        let whole = usize::try_from(step / ZEROS.len() as u64).unwrap_or(0);
        let mut parts = vec![ZEROS; whole];
        parts.push(&ZEROS[..(step % ZEROS.len() as u64) as usize]);
        file.write_at(&parts, at)?;
        at += step;
    }
    file.sync()
}

fn number(name: &Path) -> Option<u64> {
    u64::from_str_radix(name.to_str()?.strip_prefix(PREFIX)?, 16).ok()
}
