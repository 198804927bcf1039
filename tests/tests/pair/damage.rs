//! Goal: what is wrong on a node's disk is said with the file and the remedy, nothing is overwritten, the other node
//! goes on, and what was acknowledged survives. Method: data directories and logs of killed processes, changed by hand.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hanfs_tests::pair::cluster::ONE;
use hanfs_tests::pair::process::Process;
use hanfs_tests::pair::{Cluster, Load, Shape, disk, logs};

const ROUNDS: u64 = 60;
/// A server that must not be started again (EX_CONFIG, sysexits.h); its guardian ends with the same.
const EXIT_FATAL: i32 = 78;
/// Where records begin in a segment, bytes.
const HEADER_BYTES: u64 = 4096;

/// Starts a node that has to refuse, and returns what it says.
fn refused(cluster: &mut Cluster, node: &str, config: &Path) -> String {
    let log = cluster.dir.join("refused.log");
    let _ = fs::remove_file(&log);
    let config = config.display().to_string();
    let process = Process::start(&["--config", &config, "--node", node, "serve"], &log);
    let status = process.wait(Duration::from_secs(30));
    let said = logs::read(&log);
    assert_eq!(status.code(), Some(EXIT_FATAL), "{said}");
    said
}

/// The configuration with something replaced, beside the real one (and its keys).
fn variant(cluster: &Cluster, from: &str, to: &str) -> PathBuf {
    let text = fs::read_to_string(&cluster.config.path).expect("read the configuration");
    assert!(text.contains(from), "{from} in the configuration");
    let path = cluster.dir.join("variant.toml");
    fs::write(&path, text.replacen(from, to, 1)).expect("write a configuration");
    path
}

fn says(said: &str, all: &[&str]) {
    for words in all {
        assert!(said.contains(words), "{words:?} in {said:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_that_is_not_this_nodes_is_left_alone() {
    let mut cluster = Cluster::start(&Shape::default()).await;
    let load = Load::start(&cluster.target(ONE), "load", 1).await;
    load.more(ROUNDS).await;
    let owner = cluster.data("a").join("node.toml");
    let before = fs::read_to_string(&owner).expect("read node.toml");
    let data_a = cluster.data("a").display().to_string();
    let config = cluster.config.path.clone();

    // A second daemon, while the first one serves.
    let said = refused(&mut cluster, "a", &config);
    says(&said, &[&data_a, "is in use by another hanfs process", "stop that one first"]);
    load.more(ROUNDS).await;
    let export = cluster.export("a", ONE).await.expect("a answers");
    assert!(export.serving && export.backup_in_sync, "{export:?}");

    // The rest on the directory of a node that is down, while the other one serves.
    cluster.kill_node("a");
    cluster.wait_served("b", ONE).await;
    let cluster_id = cluster.config.cluster.to_string();
    let other = "7d5e0000-0000-4000-8000-000000000001";
    let foreign = variant(&cluster, &cluster_id, other);
    let said = refused(&mut cluster, "a", &foreign);
    says(&said, &[&data_a, "belongs to cluster", &cluster_id, other, "correct `cluster` or `data`"]);

    cluster.stop_node("b");
    let data_b = cluster.data("b").display().to_string();
    let swapped = variant(&cluster, &format!("data = {data_b:?}"), &format!("data = {data_a:?}"));
    let said = refused(&mut cluster, "b", &swapped);
    says(&said, &[&data_a, "belongs to node a, this is node b", "correct `data` or --node"]);

    let future = before.replace("format = 1", "format = 99");
    fs::write(&owner, &future).expect("write node.toml");
    let said = refused(&mut cluster, "a", &config);
    says(
        &said,
        &[
            "node.toml says format 99, this hanfs reads format 1",
            "use the hanfs that made it, or a newer one",
        ],
    );
    assert_eq!(fs::read_to_string(&owner).expect("read node.toml"), future);

    fs::write(&owner, &before).expect("write node.toml");
    cluster.start_all();
    load.more(ROUNDS).await;
    assert!(load.finish().await.verify().await > 0);
    cluster.assert_calm_logs();
}

/// Where a segment's last record ends, or a little before: nothing but zeros follows in a log that was never recycled.
fn records_end(segment: &Path) -> u64 {
    let bytes = fs::read(segment).expect("read a segment");
    let last = bytes.iter().rposition(|byte| *byte != 0).expect("a segment has a header") as u64;
    (last + 1).next_multiple_of(8)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_torn_tail_is_cut_and_a_flipped_bit_is_refused() {
    let mut cluster = Cluster::start(&Shape::default()).await;
    let load = Load::start(&cluster.target(ONE), "load", 2).await;
    load.more(2 * ROUNDS).await;
    cluster.kill_all();

    // A power cut in the middle of a write: garbage behind the last record, and a file that ends early.
    let [a, b] =
        ["a", "b"].map(|node| disk::wal_segments(&cluster.export_dir(node, ONE)).pop().expect("a segment"));
    let garbage: Vec<u8> = (1..=5000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let file = File::options().write(true).open(&a).expect("open a segment");
    file.write_all_at(&garbage, records_end(&a)).expect("write garbage");
    let file = File::options().write(true).open(&b).expect("open a segment");
    file.set_len(records_end(&b)).expect("cut a segment");
    cluster.start_all();
    load.more(ROUNDS).await;
    for node in ["a", "b"] {
        cluster
            .wait(&format!("the group runs on {node}"), async || {
                cluster.export(node, ONE).await.is_some_and(|e| e.role != "stopped")
            })
            .await;
    }
    cluster.bring_home().await;
    load.more(ROUNDS).await;

    // A bit that is not as it was written, with durable records behind it.
    cluster.kill_node("a");
    let segment = disk::wal_segments(&cluster.export_dir("a", ONE)).remove(0);
    let at = HEADER_BYTES + (records_end(&segment) - HEADER_BYTES) / 2;
    let file = File::options().read(true).write(true).open(&segment).expect("open a segment");
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("read a byte");
    file.write_all_at(&[byte[0] ^ 4], at).expect("flip a bit");
    let damaged = fs::read(&segment).expect("read the segment");
    cluster.expect_in_logs(&["is damaged at offset"]);
    cluster.start_node("a");
    cluster.wait_log("a", "is damaged at offset").await;
    let name = segment.display().to_string();
    cluster
        .wait("a says that the export is stopped", async || {
            cluster
                .export("a", ONE)
                .await
                .is_some_and(|e| e.role == "stopped" && e.stopped_reason.contains(&name))
        })
        .await;
    let export = cluster.export("a", ONE).await.expect("a answers");
    says(&export.stopped_reason, &["Nothing was changed", "Move this export's directory aside"]);
    let health = cluster.health().await.line();
    assert!(health.starts_with("CRITICAL: ") && health.contains(&name), "{health}");
    assert!(fs::read(&segment).expect("read the segment") == damaged, "nothing was changed");
    load.more(ROUNDS).await;
    cluster.wait_served("b", ONE).await;

    // The remedy, as it was said.
    cluster.kill_node("a");
    let dir = cluster.export_dir("a", ONE);
    fs::rename(&dir, cluster.dir.join("aside")).expect("move the directory aside");
    cluster.start_node("a");
    cluster.wait_mirrored("b", ONE).await;
    let result = cluster.take_over("a", ONE).await;
    assert!(result.ok, "{result:?}");
    load.more(ROUNDS).await;
    assert!(load.finish().await.verify().await > 0);
    cluster.assert_equal_digests("after the repair").await;
    assert!(cluster.assert_same_on_disk() > 0);
    cluster.assert_calm_logs();
}
