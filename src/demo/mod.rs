//! `hanfs demo`: a whole cluster on loopback addresses, without root, that loses a node and carries on.
//!
//! The cluster is [`crate::cluster`]'s, as separate processes; `content` says what is to be written, `load`
//! writes it through the built-in NFS client, `verify` reads it back, `story` is the order of things. Each
//! process is killed by its id at the end, whatever the end is.

pub(crate) mod content;
mod load;
mod story;
#[cfg(test)]
mod tests;
mod verify;

use std::path::PathBuf;
use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};

use crate::cli::Severity;

/// `hanfs demo`'s options.
#[derive(Debug)]
pub struct Options {
    /// Leave the cluster running.
    pub keep: bool,
    /// Where its files go; none: a new directory for temporary files.
    pub dir: Option<PathBuf>,
}

/// Tells the story, or stops it where it is.
pub async fn run(options: Options) -> anyhow::Result<ExitCode> {
    let mut terminated = signal(SignalKind::terminate())?;
    let mut hung_up = signal(SignalKind::hangup())?;
    tokio::select! {
        code = story::tell(&options) => code,
        _ = tokio::signal::ctrl_c() => stopped(),
        _ = terminated.recv() => stopped(),
        _ = hung_up.recv() => stopped(),
    }
}

fn stopped() -> anyhow::Result<ExitCode> {
    println!("Stopped; all processes of the demo are ended.");
    Ok(Severity::Unknown.into())
}
