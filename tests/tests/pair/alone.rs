//! Goal: a cluster of one node, and a pair with `durability = "memory"`, keep what they acknowledged when processes
//! are killed. Method: SIGKILL under load, restart, read back.

use hanfs::config::Durability;
use hanfs_tests::pair::cluster::ONE;
use hanfs_tests::pair::{Cluster, Load, Shape};

const ROUNDS: u64 = 60;

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_a_peer_serves_and_comes_back() {
    let mut cluster = Cluster::start(&Shape { nodes: 1, witness: false, ..Shape::default() }).await;
    let load = Load::start(&cluster.target(ONE), "load", 2).await;
    load.more(ROUNDS).await;
    let health = cluster.health().await;
    assert_eq!(health.line(), "OK: /one on a, not mirrored");
    // The server dies: its guardian starts it again, on the same listeners.
    cluster.node("a").kill_server();
    load.more(ROUNDS).await;
    cluster.kill_node("a");
    cluster.start_node("a");
    load.more(ROUNDS).await;
    let written = load.finish().await;
    assert!(written.verify().await > 0);
    // A clean stop, too, keeps all of it.
    assert!(cluster.stop_node("a").success());
    cluster.start_node("a");
    cluster.wait_served("a", ONE).await;
    written.verify().await;
    cluster.assert_calm_logs();
}

#[tokio::test(flavor = "multi_thread")]
async fn in_memory_mode_the_loss_of_either_node_loses_nothing() {
    let shape = Shape { durability: Durability::Memory, ..Shape::default() };
    let mut cluster = Cluster::start(&shape).await;
    let load = Load::start(&cluster.target(ONE), "load", 2).await;
    load.more(ROUNDS).await;
    for (lost, left) in [("a", "b"), ("b", "a")] {
        cluster.kill_node(lost);
        cluster.wait_served(left, ONE).await;
        load.more(ROUNDS).await;
        cluster.start_node(lost);
        cluster.wait_mirrored(left, ONE).await;
        load.more(ROUNDS).await;
    }
    let written = load.finish().await;
    assert!(written.verify().await > 0);
    cluster.assert_equal_digests("after both nodes were killed in turn").await;
    assert!(cluster.assert_same_on_disk() > 0);
    cluster.assert_calm_logs();
}
