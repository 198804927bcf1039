//! The configuration that this node runs with, and the digest of its text. It changes with a reload, as a whole.

use std::sync::Arc;

use parking_lot::RwLock;

use crate::config::{Config, edit};

/// See the module.
pub struct Current {
    now: RwLock<(Arc<Config>, bytes::Bytes)>,
}

impl Current {
    /// At the start.
    pub fn new(config: Config, text: &str) -> Arc<Self> {
        Arc::new(Self { now: RwLock::new((Arc::new(config), digest(text))) })
    }

    /// The whole of it.
    pub fn config(&self) -> Arc<Config> {
        self.now.read().0.clone()
    }

    /// Digest of the text that it was read from.
    pub fn digest(&self) -> bytes::Bytes {
        self.now.read().1.clone()
    }

    /// It is another one from now on.
    pub fn set(&self, config: Config, text: &str) {
        *self.now.write() = (Arc::new(config), digest(text));
    }
}

fn digest(text: &str) -> bytes::Bytes {
    bytes::Bytes::copy_from_slice(&edit::digest(text))
}
