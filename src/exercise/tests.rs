//! Goal: an exercise never says PASS for what a client would have lost. Method: reports made by hand.

use std::time::{Duration, Instant};

use super::report::{Report, verdict};
use super::target;
use crate::client::{Pause, StatsSnapshot};

fn seen(began: Instant, calls: u64, took_ms: u64) -> StatsSnapshot {
    let pause = Pause { from: began + Duration::from_secs(3), took: Duration::from_millis(took_ms) };
    StatsSnapshot { calls, reconnects: 1, retransmissions: 1, longest: Some(pause) }
}

#[test]
fn exports_are_named_as_mount_names_them() {
    let v4 = target("10.77.0.10:/export", 2049).unwrap();
    assert_eq!((v4.address.to_string(), v4.path.as_str()), ("10.77.0.10".to_owned(), "/export"));
    let v6 = target("[fd00::10]:/a/b", 2049).unwrap();
    assert_eq!((v6.address.to_string(), v6.path.as_str()), ("fd00::10".to_owned(), "/a/b"));
    let error = target("nas:/export", 2049).unwrap_err().to_string();
    assert_eq!(error, "\"nas:/export\": expected ADDRESS:/EXPORT, as in 10.77.0.10:/export");
}

#[test]
fn the_longest_pause_of_all_is_told_whenever_it_was() {
    let began = Instant::now();
    let mut report = Report::new("/one");
    report.written = 1;
    assert_eq!(report.interval(began, seen(began, 100, 7)), "/one: 100 calls, slowest 7 ms, 1 reconnected");
    assert_eq!(report.interval(began, seen(began, 150, 812)), "/one: 50 calls, slowest 812 ms");
    report.interval(began, seen(began, 200, 9));
    let silent = StatsSnapshot { longest: None, ..seen(began, 200, 0) };
    assert_eq!(report.interval(began, silent), "/one: no answer");
    assert!(report.text().contains("longest pause 812 ms, 3.0 s after the beginning"), "{}", report.text());
    assert!(verdict(&[report]).starts_with("PASS: no error, longest pause 812 ms"));
}

#[test]
fn nothing_done_and_anything_wrong_are_failures() {
    assert!(!Report::new("/one").passed());
    let mut report = Report::new("/one");
    report.written = 10;
    report.failures.push("worker0/file0001 is not what was written".to_owned());
    assert!(report.text().ends_with("\n  worker0/file0001 is not what was written"));
    let mut fine = Report::new("/two");
    fine.written = 10;
    assert_eq!(verdict(&[fine, report]), "FAIL: 1 errors and differences");
}
