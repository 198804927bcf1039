//! Goal: `hanfs bench` measures what it says: every workload, on one node and on a pair, every call answered and right, no
//! process and no file left. Method: the real program with the shortest of runs; how fast it is, is nobody's business here.

use std::process::{Command, Stdio};

use hanfs_tests::binary;
use serde_json::Value;

#[test]
fn every_workload_succeeds_on_one_node_and_on_a_pair() {
    let dir = tempfile::tempdir().expect("make a directory");
    let out = Command::new(binary::hanfs())
        .args(["bench", "--json", "--seconds", "0.1", "--rounds", "1", "--dir"])
        .arg(dir.path())
        .stdin(Stdio::null())
        .output()
        .expect("start hanfs");
    let stderr = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{}\n{stderr}\n{}", out.status, String::from_utf8_lossy(&out.stdout));
    let report: Value = serde_json::from_slice(&out.stdout).expect("JSON");
    assert_eq!(report["failures"], Value::Array(Vec::new()));
    let rows = report["rows"].as_array().expect("rows");
    assert_eq!(rows.len(), 28, "14 workloads, busy and one call at a time");
    for row in rows {
        let done = |side: &str| row[side]["rate"].as_f64().is_some_and(|rate| rate > 0.0);
        assert!(done("unreplicated") && done("replicated"), "{row}");
        assert!(row["replicated"]["backup_cpu"].is_number(), "the backup's CPU time counts: {row}");
    }
    let left: Vec<_> = std::fs::read_dir(dir.path()).expect("read the directory").collect();
    assert!(left.is_empty(), "left behind: {left:?}");
}
