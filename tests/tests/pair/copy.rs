//! Goal: a backup that was away is whole again before anybody needs it, from the log or by a full copy, and an
//! administrator knows all along what is unprotected since when. Method: kill the backup under load, watch the
//! status, start it again (once with an empty data directory), then kill the primary and read everything back.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hanfs_tests::pair::cluster::{ONE, text};
use hanfs_tests::pair::load::{bytes_of, mount};
use hanfs_tests::pair::{Cluster, Load, Shape, logs};

const ROUNDS: u64 = 60;
/// An instant is kept by one clock and shown by another, ns.
const CLOCKS_NS: u64 = 100_000_000;

fn now_ns() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(now.as_nanos()).expect("a date before 2554")
}

/// Writes more than a segment of the log holds, and waits until a checkpoint has let it go.
async fn outgrow_log(cluster: &Cluster) {
    let mut session = mount(&cluster.target(ONE), &Default::default()).await.expect("mount");
    let root = session.root();
    let file = session.create_new(&root, "bulk").await.expect("CREATE");
    for piece in 0..100 {
        session.write(&file, (piece % 10) << 20, &bytes_of(piece, 1 << 20)).await.expect("WRITE");
    }
    cluster
        .wait("the log is cut", async || cluster.export("a", ONE).await.is_some_and(|e| e.first_index > 1))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_was_away_is_made_whole_again() {
    let shape = Shape { limits: "cache_mb = 16\ncheckpoint_mb = 8", ..Shape::default() };
    let mut cluster = Cluster::start(&shape).await;
    let load = Load::start(&cluster.target(ONE), "load", 2).await;
    load.more(ROUNDS).await;

    let killed_ns = now_ns();
    cluster.kill_node("b");
    cluster
        .wait("a runs solo", async || {
            cluster.export("a", ONE).await.is_some_and(|e| e.solo_since_ns != 0 && e.serving)
        })
        .await;
    let solo = cluster.export("a", ONE).await.expect("a answers");
    assert!((killed_ns..=now_ns()).contains(&solo.solo_since_ns), "solo since {}", solo.solo_since_ns);
    let health = cluster.health().await.line();
    assert!(
        health.starts_with("WARNING: /one runs solo on a since ") && health.contains("node b is down"),
        "{health}"
    );
    let status = cluster.hanfs("a", &["status"]);
    assert_eq!(status.status.code(), Some(1), "{}", text(&status));
    let json = cluster.status_json("a");
    assert_eq!(json["health"]["level"], "WARNING", "{json}");
    let since = json["exports"][0]["solo_since_ns"].as_u64().expect("a number");
    assert!(since.abs_diff(solo.solo_since_ns) < CLOCKS_NS, "{json}");
    load.more(ROUNDS).await;
    let later = cluster.export("a", ONE).await.expect("a answers");
    assert!(later.applied_index > solo.applied_index, "the log grows without a backup");
    assert!(later.solo_since_ns.abs_diff(solo.solo_since_ns) < CLOCKS_NS, "the same since");

    cluster.start_node("b");
    cluster.wait_mirrored("a", ONE).await;
    let copies = |cluster: &Cluster| logs::read(&cluster.log("b")).matches("the copy is complete").count();
    assert_eq!(copies(&cluster), 0, "what it missed was in the log");
    load.more(ROUNDS).await;
    cluster.assert_equal_digests_under_load("after it caught up").await;

    // The same with a new, empty disk, while the load goes on, when the log does not begin at the beginning any more.
    outgrow_log(&cluster).await;
    cluster.kill_node("b");
    std::fs::remove_dir_all(cluster.data("b")).expect("empty the data directory");
    load.more(ROUNDS).await;
    cluster.start_node("b");
    cluster.expect_in_logs(&["this node's copy must be replaced", "entries that it had acknowledged"]);
    cluster.wait_mirrored("a", ONE).await;
    assert_eq!(copies(&cluster), 1);
    load.more(ROUNDS).await;
    cluster.kill_node("a");
    cluster.wait_served("b", ONE).await;
    load.more(ROUNDS).await;
    let written = load.finish().await;
    assert!(written.verify().await > 0);
    cluster.start_node("a");
    cluster.wait_mirrored("b", ONE).await;
    cluster.assert_equal_digests("after the copy took over").await;
    assert!(cluster.assert_same_on_disk() > 0);
    cluster.assert_calm_logs();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_witness_is_told_and_costs_nothing() {
    let mut cluster = Cluster::start(&Shape::default()).await;
    let load = Load::start(&cluster.target(ONE), "load", 1).await;
    cluster.kill_witness();
    cluster
        .wait("the loss is in the status", async || {
            cluster.health().await.line().contains("the witness does not answer")
        })
        .await;
    let health = cluster.health().await.line();
    assert!(health.starts_with("WARNING: "), "{health}");
    load.more(ROUNDS).await;
    let export = cluster.export("a", ONE).await.expect("a answers");
    assert!(export.serving && export.backup_in_sync && export.solo_since_ns == 0, "{export:?}");
    cluster.start_witness();
    cluster.wait("all is well again", async || cluster.health().await.line().starts_with("OK: ")).await;
    assert!(load.finish().await.verify().await > 0);
    cluster.assert_calm_logs();
}
