//! Where the third vote comes from: a witness process, or a verdict that lets this node play the witness.
//!
//! A verdict is only ever *asked for* by the node's state machine, under its own conditions. This module knows
//! the ways to get one and never judges whether it may be used.

use std::pin::pin;
use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;

/// Environment of the fence command: name of the node to be fenced.
pub const ENV_PEER: &str = "HANFS_PEER";

/// How much of a fence command's output is kept, in bytes: enough for an error, bounded whatever it prints.
const OUTPUT_BYTES_MAX: usize = 4096;

/// How long the output of a command that has ended is waited for: whoever inherited its pipes may keep them open
/// for ever, and only the command's own exit counts.
const OUTPUT_GRACE: Duration = Duration::from_millis(100);

/// How a node that lost its peer comes to a majority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arbiter {
    /// A witness process votes; no verdict is ever needed.
    Witness,
    /// A command that makes sure that the peer is off (power switch, hypervisor) must succeed.
    Fence {
        /// Program and arguments.
        command: Vec<String>,
        /// It is killed after this, and the peer counts as not fenced.
        timeout: Duration,
    },
    /// Every path to the peer dead for this long counts as its death. Wrong where both boxes live but cannot
    /// hear each other: then both serve, and one history has to be given up.
    FailStop {
        /// How long every path must have been dead.
        timeout: Duration,
    },
    /// Wait for the peer or for an administrator's `--force`.
    None,
}

/// What came of a fence command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FenceReport {
    /// The peer is off.
    pub fenced: bool,
    /// The command's exit code; `None`: it did not run, was killed by a signal, or ran out of time.
    pub code: Option<i32>,
    /// How long it took.
    pub took: Duration,
    /// The first 4 KiB of what it wrote to standard output and standard error, or why it did not run.
    pub output: String,
}

/// Runs a fence command, with the name of the peer as its last argument. Success is exit code 0 within the time,
/// nothing else.
pub async fn fence(command: &[String], timeout: Duration, peer: &str) -> FenceReport {
    let start = Instant::now();
    let report = |code: Option<i32>, output: String| FenceReport {
        fenced: code == Some(0),
        code,
        took: start.elapsed(),
        output,
    };
    let Some((program, args)) = command.split_first() else {
        return report(None, "the fence command is empty: set it in the configuration".into());
    };
    let child = Command::new(program)
        .args(args)
        .arg(peer)
        .env(ENV_PEER, peer)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(e) => return report(None, format!("start {program}: {e}; check its path and permissions")),
    };
    let mut out = Vec::new();
    let mut err = Vec::new();
    let status = {
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let readers = async { tokio::join!(keep(stdout, &mut out), keep(stderr, &mut err)) };
        let mut readers = pin!(readers);
        let mut deadline = pin!(tokio::time::sleep(timeout));
        let mut read = false;
        let status = loop {
            tokio::select! {
                status = child.wait() => break status.map(Some),
                _ = &mut readers, if !read => read = true,
                () = &mut deadline => break Ok(None),
            }
        };
        if !read {
            let _ = tokio::time::timeout(OUTPUT_GRACE, readers).await;
        }
        status
    };
    out.extend_from_slice(&err);
    out.truncate(OUTPUT_BYTES_MAX);
    let output = String::from_utf8_lossy(&out).into_owned();
    match status {
        Ok(Some(status)) => report(status.code(), output),
        Ok(None) => report(None, format!("killed after {} s; {output}", timeout.as_secs_f32())),
        Err(e) => report(None, format!("wait for {program}: {e}")),
    }
}

/// Reads to the end, keeping the first part: a command that writes much must not block on a full pipe.
async fn keep(from: Option<impl AsyncRead + Unpin>, into: &mut Vec<u8>) {
    let Some(mut from) = from else { return };
    let mut buf = [0; 1024];
    while let Ok(n @ 1..) = from.read(&mut buf).await {
        let room = OUTPUT_BYTES_MAX.saturating_sub(into.len()).min(n);
        into.extend_from_slice(buf.get(..room).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    //! Goal: a peer counts as fenced only if the command said so in time, and a wild command harms nobody.
    //! Method: real commands of a shell.
    use super::*;

    async fn sh(script: &str, timeout_ms: u64) -> FenceReport {
        let command = ["sh", "-c", script].map(String::from);
        fence(&command, Duration::from_millis(timeout_ms), "bravo").await
    }

    #[tokio::test]
    async fn only_exit_code_zero_in_time_counts() {
        // After `sh -c SCRIPT`, the next argument is $0.
        let good = sh("echo fencing $HANFS_PEER, $0", 20_000).await;
        assert!(good.fenced && good.output.contains("fencing bravo, bravo"), "{good:?}");
        let bad = sh("echo no power switch >&2; exit 3", 20_000).await;
        assert_eq!((bad.fenced, bad.code), (false, Some(3)));
        assert!(bad.output.contains("no power switch"));
        let signal = sh("kill -9 $$", 20_000).await;
        assert_eq!((signal.fenced, signal.code), (false, None));
        let late = sh("sleep 60", 100).await;
        assert!(!late.fenced && late.output.contains("killed after"), "{late:?}");
        let missing = fence(&["/no/such/program".into()], Duration::from_secs(1), "bravo").await;
        assert!(!missing.fenced && missing.output.contains("/no/such/program"));
        assert!(!fence(&[], Duration::from_secs(1), "bravo").await.fenced);
    }

    #[tokio::test]
    async fn output_is_bounded_and_a_background_child_does_not_hold_it_up() {
        let much = sh("head -c 1000000 /dev/zero | tr '\\0' x", 20_000).await;
        assert!(much.fenced && much.output.len() == OUTPUT_BYTES_MAX, "{}", much.output.len());
        let start = Instant::now();
        assert!(sh("sleep 30 & exit 0", 20_000).await.fenced);
        assert!(start.elapsed() < Duration::from_secs(10));
    }
}
