//! Parts of the log that must not be cut yet because a copy of the export is being made.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::log::LogIndex;

/// All pins of one group.
#[derive(Clone, Debug, Default)]
pub struct Pins(Arc<Mutex<BTreeMap<LogIndex, usize>>>);

/// Keeps every entry after its index in the log for as long as it lives.
#[derive(Debug)]
pub struct LogPin {
    pins: Pins,
    after: LogIndex,
}

impl Pins {
    /// Pins every entry after this index.
    pub fn pin(&self, after: LogIndex) -> LogPin {
        *self.0.lock().entry(after).or_default() += 1;
        LogPin { pins: self.clone(), after }
    }

    /// The log may be cut up to and with this index, as far as copies are concerned.
    pub fn lowest(&self) -> LogIndex {
        self.0.lock().keys().next().copied().unwrap_or(LogIndex::MAX)
    }
}

impl Drop for LogPin {
    fn drop(&mut self) {
        let mut pins = self.pins.0.lock();
        if let Some(count) = pins.get_mut(&self.after) {
            *count -= 1;
            if *count == 0 {
                pins.remove(&self.after);
            }
        }
    }
}
