//! Goal: a cluster on this machine leaves no process behind, and a process that ends by itself is noticed.
//! Method: real processes, found again in /proc.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use super::process::{Process, descendants};

fn alive(id: u32) -> bool {
    // A process that nobody has waited for yet is dead all the same.
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}

fn wait_until(what: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(20);
    while !what() {
        assert!(Instant::now() < until, "this takes too long");
        std::thread::yield_now();
    }
}

fn family(dir: &Path) -> Process {
    let script = "sleep 600 & (sleep 600 & wait) & wait";
    let args = ["-c".to_owned(), script.to_owned()];
    let process = Process::start_program(Path::new("/bin/sh"), "a family", &args, &dir.join("log")).unwrap();
    let id = process.id().unwrap();
    wait_until(|| descendants(id).len() == 3);
    process
}

#[test]
fn killing_a_process_kills_its_children_too() {
    let dir = tempfile::tempdir().unwrap();
    let mut process = family(dir.path());
    let id = process.id().unwrap();
    let victims = process.kill();
    assert_eq!((victims[0], victims.len()), (id, 4));
    wait_until(|| !victims.iter().any(|id| alive(*id)));
    assert!(process.kill().is_empty(), "only once: the id may be somebody else's by then");
}

#[test]
fn nothing_outlives_a_cluster_that_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let process = family(dir.path());
    let id = process.id().unwrap();
    let mut all = descendants(id);
    all.push(id);
    drop(process);
    wait_until(|| !all.iter().any(|id| alive(*id)));
}

#[test]
fn a_process_that_ends_by_itself_is_reported_with_its_last_words() {
    let dir = tempfile::tempdir().unwrap();
    let args = ["-c".to_owned(), "echo the disk is full >&2; exit 3".to_owned()];
    let mut process =
        Process::start_program(Path::new("/bin/sh"), "node a", &args, &dir.path().join("log")).unwrap();
    let until = Instant::now() + Duration::from_secs(20);
    let error = loop {
        if let Err(error) = process.check() {
            break error.to_string();
        }
        assert!(Instant::now() < until);
        std::thread::yield_now();
    };
    assert_eq!(error, "node a ended (exit status: 3); its last words:\nthe disk is full");
}
