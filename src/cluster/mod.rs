//! A whole cluster as processes of this machine, on loopback addresses, without root: what `hanfs demo` and
//! `hanfs bench` work on.
//!
//! `layout` says what is in it and where, `run` makes its files, starts it and asks how it is, `process` is one
//! process with its children. Whatever was started is killed, by its id, when it is dropped.

mod layout;
mod process;
mod run;
#[cfg(test)]
mod tests;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

pub use layout::Layout;
pub use run::Cluster;

/// A new directory, `NAME-PID`, in `base`, else among the temporary files. Its path is absolute: other processes
/// get it by name.
pub fn new_dir(base: Option<&Path>, name: &str) -> anyhow::Result<PathBuf> {
    let base = base.map_or_else(std::env::temp_dir, Path::to_owned);
    let dir = std::path::absolute(base.join(format!("{name}-{}", std::process::id())));
    let dir = dir.with_context(|| format!("use {}", base.display()))?;
    fs::create_dir(&dir)
        .with_context(|| format!("make {}; or name another place with --dir", dir.display()))?;
    Ok(dir)
}
