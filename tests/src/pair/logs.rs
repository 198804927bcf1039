//! What processes wrote: nothing at ERROR or WARN that the test did not expect.

use std::path::Path;

/// Lines at ERROR or WARN, panics, and what is no log line of ours but says that something broke.
fn alarming(line: &str) -> bool {
    let level = line.split_whitespace().nth(1);
    matches!(level, Some("WARN" | "ERROR")) || line.contains("panicked at") || line.contains("RUST_BACKTRACE")
}

/// Fails the test if a log has an alarming line that holds none of these.
pub fn assert_calm(log: &Path, expected: &[String]) {
    let text = read(log);
    let strange: Vec<&str> = text
        .lines()
        .filter(|line| alarming(line) && !expected.iter().any(|known| line.contains(known.as_str())))
        .collect();
    assert!(strange.is_empty(), "unexpected in {}:\n{}", log.display(), strange.join("\n"));
}

/// The whole log.
pub fn read(log: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(log).unwrap_or_default()).into_owned()
}

/// Its last lines.
pub fn tail(log: &Path) -> String {
    let text = read(log);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(25)..].join("\n")
}
