//! Goal: what is wrong with a box, short of its death, costs no client an error: the node that is better off serves, says why, and
//! nothing goes to and fro. Method: data directories on file systems of their own, filled and frozen under load.

use std::time::{Duration, Instant};

use hanfs_tests::pair::cluster::{ONE, TWO, text};
use hanfs_tests::pair::disk::{self, OwnDisk};
use hanfs_tests::pair::{Cluster, Load, Shape};

const ROUNDS: u64 = 60;
/// Two exports' logs with their spares, what the server keeps free, and some more.
const DISK_MIB: u64 = 1536;
/// A server that must not be started again (EX_CONFIG, sysexits.h); its guardian ends with the same.
const EXIT_FATAL: i32 = 78;
/// An administrator is answered at once, or after 15 s.
const AT_ONCE: Duration = Duration::from_secs(7);

async fn problems(cluster: &Cluster, node: &str) -> Vec<String> {
    let status = cluster.status(node).await;
    status.map(|s| s.problems.into_iter().map(|p| p.text).collect()).unwrap_or_default()
}

async fn wait_problem(cluster: &Cluster, node: &str, words: &str) {
    cluster
        .wait(&format!("{node} says {words:?}"), async || {
            problems(cluster, node).await.iter().any(|p| p.contains(words))
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fails_ends_its_node_and_the_other_one_says_why() {
    if !disk::may_mount() {
        return;
    }
    let mut cluster = Cluster::files(&Shape { exports: 2, ..Shape::default() });
    let disk = OwnDisk::memory(cluster.data("a"), DISK_MIB);
    cluster.start_all();
    cluster.bring_home().await;
    let one = Load::start(&cluster.target(ONE), "load", 1).await;
    let two = Load::start(&cluster.target(TWO), "load", 1).await;
    one.more(ROUNDS).await;
    // Not "no space" to a client: somebody else took the last byte, in the middle of a write.
    disk.fill_up_to(0);
    cluster.expect_in_logs(&[
        "No space left on device",
        "the server cannot run",
        "its disk has no room left",
        "is better off",
        "stopped: /",
        "the other node's server process died",
        "this node goes on alone",
    ]);
    assert_eq!(cluster.wait_end("a").code(), Some(EXIT_FATAL));
    for (load, path) in [(&one, ONE), (&two, TWO)] {
        load.more(ROUNDS).await;
        cluster.wait_served("b", path).await;
    }
    wait_problem(&cluster, "b", "node a stopped: /").await;
    let history = text(&cluster.hanfs("b", &["events"]));
    let line = history.lines().find(|line| line.contains("node a stopped: /")).expect("in the history");
    assert!(line.contains("No space left on device"), "{line}");
    assert!(one.finish().await.verify().await > 0 && two.finish().await.verify().await > 0);
    cluster.assert_calm_logs();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_without_room_hands_over_to_one_that_has_some() {
    if !disk::may_mount() {
        return;
    }
    let mut cluster = Cluster::files(&Shape::default());
    let disk = OwnDisk::memory(cluster.data("a"), DISK_MIB);
    cluster.start_all();
    cluster.bring_home().await;
    let load = Load::start(&cluster.target(ONE), "load", 1).await;
    load.more(ROUNDS).await;
    cluster.expect_in_logs(&["its disk has no room left"]);
    disk.fill_up_to(330);
    cluster.wait_served("b", ONE).await;
    load.more(ROUNDS).await;
    wait_problem(&cluster, "a", "/one: node a: its disk has no room left").await;
    let handed_over = text(&cluster.hanfs("a", &["events"]));
    assert!(handed_over.contains("handed over to node b, which is better off"), "{handed_over}");
    let began = Instant::now();
    let result = cluster.take_over("a", ONE).await;
    assert!(!result.ok && result.message.contains("its disk has no room left"), "{result:?}");
    assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
    cluster.wait_mirrored("b", ONE).await;
    assert!(load.finish().await.verify().await > 0);
    cluster.assert_calm_logs();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_whose_disk_hangs_hands_over_and_a_refusal_is_heard() {
    if !disk::may_mount() {
        return;
    }
    let mut cluster = Cluster::files(&Shape::default());
    let disks = ["a", "b"].map(|node| OwnDisk::ext4(cluster.data(node), DISK_MIB));
    cluster.start_all();
    cluster.bring_home().await;
    let load = Load::start(&cluster.target(ONE), "load", 1).await;
    load.more(ROUNDS).await;
    cluster.expect_in_logs(&["its disk", "this node's disk", "this node goes on alone", "not handed over"]);

    let began = Instant::now();
    disks[0].freeze();
    cluster.wait_served("b", ONE).await;
    println!("served by the other node {:?} after the disk hung", began.elapsed());
    // While it hangs: nothing waits for that copy.
    load.more(ROUNDS).await;
    wait_problem(&cluster, "a", "/one: node a: its disk hangs").await;
    disks[0].thaw();
    cluster.wait_mirrored("b", ONE).await;
    cluster
        .wait("a's disk counts as sound again", async || {
            problems(&cluster, "a").await.iter().all(|p| !p.contains("its disk hangs"))
        })
        .await;

    // The backup's disk hangs, not long enough for it to know: the primary goes on alone, and refuses to hand over.
    load.more(ROUNDS).await;
    disks[0].freeze();
    cluster
        .wait("b goes on alone", async || {
            cluster.export("b", ONE).await.is_some_and(|e| e.solo_since_ns != 0 && !e.backup_in_sync)
        })
        .await;
    let began = Instant::now();
    let result = cluster.take_over("a", ONE).await;
    disks[0].thaw();
    assert!(!result.ok, "{result:?}");
    assert!(result.message.contains("node b does not hand it over: the backup is not in sync"), "{result:?}");
    assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
    cluster.wait_mirrored("b", ONE).await;
    assert!(load.finish().await.verify().await > 0);
    cluster.assert_equal_digests("after the disks were thawed").await;
    cluster.assert_calm_logs();
}
