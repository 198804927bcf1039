//! What an exercise saw on one export.

use std::time::{Duration, Instant};

use crate::client::StatsSnapshot;

/// Errors and differences that are told; more are counted.
const TOLD_MAX: usize = 5;

/// See the module.
#[derive(Debug, Default)]
pub struct Report {
    path: String,
    /// Calls answered until the last line.
    calls: u64,
    reconnects: u64,
    retransmissions: u64,
    /// The longest pause, and when after the beginning it began.
    longest: Option<(Duration, Duration)>,
    /// Files written, those that were replaced later included.
    pub written: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Files read back.
    pub read: u64,
    /// What an application would have been told, or would have found.
    pub failures: Vec<String>,
}

impl Report {
    /// Of an export.
    pub fn new(path: &str) -> Self {
        Self { path: path.to_owned(), ..Self::default() }
    }

    /// Takes in what happened since the last time, and says it in a few words.
    pub fn interval(&mut self, began: Instant, now: StatsSnapshot) -> String {
        let (calls, reconnects) = (now.calls - self.calls, now.reconnects - self.reconnects);
        self.calls = now.calls;
        self.reconnects = now.reconnects;
        self.retransmissions = now.retransmissions;
        let Some(slowest) = now.longest else { return format!("{}: no answer", self.path) };
        if self.longest.is_none_or(|(took, _)| took < slowest.took) {
            self.longest = Some((slowest.took, slowest.from.saturating_duration_since(began)));
        }
        let again = if reconnects == 0 { String::new() } else { format!(", {reconnects} reconnected") };
        format!("{}: {calls} calls, slowest {} ms{again}", self.path, slowest.took.as_millis())
    }

    /// Nothing was wrong, and something was done.
    pub fn passed(&self) -> bool {
        self.failures.is_empty() && self.written > 0
    }

    fn pause(&self) -> String {
        match self.longest {
            Some((took, at)) => {
                format!("{} ms, {:.1} s after the beginning", took.as_millis(), at.as_secs_f64())
            }
            None => "unknown, for nothing was answered".to_owned(),
        }
    }

    /// All of it, in a few lines.
    pub fn text(&self) -> String {
        let mut text = format!(
            "{}: {} files, {} MiB written; longest pause {}; {} connections made anew, {} calls sent again; \
             {} files read back",
            self.path,
            self.written,
            self.bytes >> 20,
            self.pause(),
            self.reconnects,
            self.retransmissions,
            self.read,
        );
        for failure in self.failures.iter().take(TOLD_MAX) {
            text.push_str(&format!("\n  {failure}"));
        }
        let more = self.failures.len().saturating_sub(TOLD_MAX);
        if more > 0 {
            text.push_str(&format!("\n  and {more} more"));
        }
        text
    }
}

/// One line for all exports.
pub fn verdict(reports: &[Report]) -> String {
    let failures: usize = reports.iter().map(|r| r.failures.len()).sum();
    if !reports.iter().all(Report::passed) {
        return format!("FAIL: {failures} errors and differences");
    }
    let longest = reports.iter().filter_map(|r| r.longest).map(|(took, _)| took).max().unwrap_or_default();
    let read: u64 = reports.iter().map(|r| r.read).sum();
    format!(
        "PASS: no error, longest pause {} ms, every byte of {read} files as it was written",
        longest.as_millis()
    )
}
