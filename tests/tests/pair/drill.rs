//! Goal: what an administrator uses to try and to prepare a takeover does what it says: a drill tells what clients saw and
//! leaves nothing, a drained node gets nothing by itself, and the figures are there. Method: the command line and HTTP
//! against real processes.

use std::io::{Read, Write};
use std::net::TcpStream;

use hanfs_tests::pair::cluster::{ONE, TWO, text};
use hanfs_tests::pair::load::mount;
use hanfs_tests::pair::{Cluster, Load, Shape};
use serde_json::Value;

/// Rounds of the load around each event.
const ROUNDS: u64 = 40;
/// Where the figures are, of each node's own address.
const METRICS_PORT: u16 = 9049;

/// Runs a drill from node a; its exit code and what it found.
fn drill(cluster: &Cluster, args: &[&str]) -> (Option<i32>, Value) {
    let all: Vec<&str> = ["drill", ONE, "--json"].iter().chain(args).copied().collect();
    let out = cluster.hanfs("a", &all);
    let found = serde_json::from_slice(&out.stdout).unwrap_or_else(|_| Value::String(text(&out)));
    (out.status.code(), found)
}

async fn assert_nothing_is_left(cluster: &Cluster) {
    let mut session = mount(&cluster.target(ONE), &Default::default()).await.expect("mount");
    let root = session.root();
    let names: Vec<String> = session.list(&root).await.expect("list").into_iter().map(|e| e.name).collect();
    assert!(!names.iter().any(|name| name.contains("drill")), "{names:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_planned_drill_tells_what_clients_saw() {
    let mut cluster = Cluster::start(&Shape::default()).await;
    // Generous: this machine does other things too.
    let (code, found) = drill(&cluster, &["--max-pause-ms", "20000"]);
    assert_eq!((code, &found["verdict"]), (Some(0), &Value::from("PASS")), "{found:#}");
    let moves = found["moves"].as_array().expect("moves");
    assert_eq!(moves.len(), 2, "{found:#}");
    for seen in moves {
        let phases = &seen["phases"];
        assert_eq!(seen["cause"], "planned");
        assert_eq!(seen["lock_held"], true, "{found:#}");
        let us = |phase: &str| phases[phase].as_u64().expect(phase);
        assert!(us("elected_us") <= us("vip_us") && us("vip_us") <= us("first_reply_us"), "{found:#}");
        assert!(us("pause_us") > 0 && us("tickled") >= us("returned") && us("returned") > 0, "{found:#}");
    }
    assert!(found["written"].as_u64() > Some(0) && found["compared"].as_u64() > found["written"].as_u64());
    cluster.wait_mirrored("a", ONE).await;
    assert_nothing_is_left(&cluster).await;
    let counts = cluster.export("b", ONE).await.and_then(|e| e.planned_takeovers).expect("counts");
    assert_eq!((counts.takeovers, counts.pauses.iter().sum::<u64>()), (1, 1));

    // The same with a limit that nobody keeps is a failure, and still everything is back and clean.
    let (code, found) = drill(&cluster, &["--max-pause-ms", "0"]);
    assert_eq!((code, &found["verdict"]), (Some(1), &Value::from("FAIL")), "{found:#}");
    assert!(found["failures"][0].as_str().is_some_and(|why| why.contains("more than 0 ms")), "{found:#}");
    cluster.wait_mirrored("a", ONE).await;
    assert_nothing_is_left(&cluster).await;

    // The counts outlive the process.
    assert!(cluster.stop_node("b").success());
    let (code, why) = drill(&cluster, &[]);
    assert_eq!(code, Some(2), "{why:#}");
    assert!(why.as_str().is_some_and(|why| why.contains("the drill was not run: node b")), "{why:#}");
    cluster.start_node("b");
    cluster.wait_mirrored("a", ONE).await;
    let counts = cluster.export("b", ONE).await.and_then(|e| e.planned_takeovers).expect("counts");
    assert_eq!(counts.takeovers, 2);
    cluster.assert_calm_logs();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_drill_kills_and_brings_back() {
    let mut cluster = Cluster::start(&Shape { exports: 2, ..Shape::default() }).await;
    let server = cluster.node("a").server();
    let (code, why) = drill(&cluster, &["--crash"]);
    assert!(code == Some(2) && why.as_str().is_some_and(|why| why.contains("with --yes")), "{why:#}");
    assert_eq!(cluster.node("a").server(), server, "nothing was killed");

    cluster.expect_in_logs(&["an administrator's drill kills this server"]);
    let limits = ["--max-pause-ms", "20000", "--max-crash-pause-ms", "20000"];
    let (code, found) = drill(&cluster, &[&["--crash", "--yes"], &limits[..]].concat());
    assert_eq!((code, &found["verdict"]), (Some(0), &Value::from("PASS")), "{found:#}");
    assert_ne!(cluster.node("a").server(), server, "the server was killed");
    assert_eq!(
        (&found["moves"][0]["cause"], &found["moves"][1]["cause"]),
        (&"crash".into(), &"planned".into())
    );
    let phases = &found["moves"][0]["phases"];
    assert!(phases["pause_us"].as_u64() >= phases["first_reply_us"].as_u64(), "{found:#}");
    let counts = cluster.export("b", ONE).await.and_then(|e| e.crash_takeovers).expect("counts");
    assert_eq!((counts.takeovers, counts.pauses.iter().sum::<u64>()), (1, 1));
    cluster.wait_mirrored("a", ONE).await;
    cluster.wait_mirrored("b", TWO).await;
    assert_nothing_is_left(&cluster).await;
    cluster.assert_calm_logs();
}

/// An order and what it said; true: it was obeyed.
fn order(cluster: &Cluster, node: &str, args: &[&str]) -> (bool, String) {
    let out = cluster.hanfs(node, args);
    (out.status.success(), text(&out))
}

async fn is_drained(cluster: &Cluster, node: &str) -> bool {
    let problems = cluster.status(node).await.map(|s| s.problems).unwrap_or_default();
    problems.iter().any(|p| p.text.starts_with(&format!("node {node} is drained")))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_node_gets_nothing_by_itself() {
    let mut cluster = Cluster::files(&Shape { exports: 2, ..Shape::default() });
    cluster.own_files();
    cluster.start_all();
    cluster.bring_home().await;
    let (ok, said) = order(&cluster, "a", &["export", "set", ONE, "giveback_after_s=1"]);
    assert!(ok, "{said}");
    let load = Load::start(&cluster.target(ONE), "load", 2).await;
    load.more(ROUNDS).await;

    let (ok, said) = order(&cluster, "b", &["drain", "a"]);
    assert!(ok && said.contains("/one: moved") && said.contains("a is drained"), "{said}");
    cluster.wait_mirrored("b", ONE).await;
    load.more(ROUNDS).await;
    assert!(is_drained(&cluster, "a").await && !is_drained(&cluster, "b").await);
    let (ok, said) = order(&cluster, "a", &["takeover", ONE]);
    assert!(!ok && said.contains("node a is drained: `hanfs undrain a` first"), "{said}");
    let (ok, said) = order(&cluster, "b", &["giveback", ONE]);
    assert!(!ok && said.contains("node a is drained"), "{said}");
    let (ok, said) = order(&cluster, "a", &["takeover", ONE, "--check"]);
    assert!(!ok && said.contains("FAIL  this node is not drained: `hanfs undrain a` ends that"), "{said}");
    let (ok, said) = order(&cluster, "b", &["drain"]);
    assert!(!ok && said.contains("node a is drained"), "both would serve nothing: {said}");

    // The mark outlives the process, and three times the delay after which it would be given back.
    assert!(cluster.stop_node("a").success());
    cluster.start_node("a");
    cluster.wait_mirrored("b", ONE).await;
    assert!(is_drained(&cluster, "a").await);
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    cluster.wait_mirrored("b", ONE).await;

    // Where the other node fails it serves all the same.
    cluster.node("b").kill_server();
    cluster.wait_served("a", ONE).await;
    cluster.wait_served("a", TWO).await;
    load.more(ROUNDS).await;
    cluster.wait_mirrored("a", ONE).await;
    cluster.wait_mirrored("a", TWO).await;
    let (ok, said) = order(&cluster, "a", &["drain"]);
    assert!(ok && said.contains("/one: moved") && said.contains("/two: moved"), "{said}");
    cluster.wait_mirrored("b", ONE).await;

    // Then it is given back by itself again, as configured.
    let (ok, said) = order(&cluster, "a", &["undrain"]);
    assert!(ok && said.contains("a is not drained"), "{said}");
    cluster.wait_mirrored("a", ONE).await;
    load.more(ROUNDS).await;

    // By an order, where nothing is configured; and nothing is drained into a node that is not in sync.
    cluster.wait_mirrored("b", TWO).await;
    let (ok, said) = order(&cluster, "b", &["drain", "--wait"]);
    assert!(ok && said.contains("/two: moved"), "{said}");
    cluster.wait_mirrored("a", TWO).await;
    let (ok, said) = order(&cluster, "a", &["undrain", "b", "--giveback", "--wait", "60"]);
    assert!(ok && said.contains("/two: moved"), "{said}");
    cluster.wait_mirrored("b", TWO).await;
    cluster.kill_node("b");
    cluster.wait_served("a", TWO).await;
    let (ok, said) = order(&cluster, "a", &["drain"]);
    assert!(!ok && said.contains("node b is not in sync") && said.contains("nothing was changed"), "{said}");
    assert!(!is_drained(&cluster, "a").await);
    load.more(ROUNDS).await;
    assert!(load.finish().await.verify().await > 0);
    cluster.assert_calm_logs();
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_drains_at_once_one_is_refused() {
    let cluster = Cluster::start(&Shape { exports: 2, ..Shape::default() }).await;
    for _ in 0..3 {
        let said = std::thread::scope(|both| {
            let drains = ["a", "b"].map(|node| both.spawn(|| order(&cluster, node, &["drain"])));
            drains.map(|drain| drain.join().expect("a drain"))
        });
        let drained = ["a", "b"].map(|node| said[usize::from(node == "b")].0.then_some(node));
        let (node, other) = match drained {
            [Some(_), None] => ("a", "b"),
            [None, Some(_)] => ("b", "a"),
            _ => panic!("{said:?}"),
        };
        assert!(is_drained(&cluster, node).await && !is_drained(&cluster, other).await, "{said:?}");
        cluster.wait_mirrored(other, ONE).await;
        cluster.wait_mirrored(other, TWO).await;
        let (ok, said) = order(&cluster, node, &["undrain", "--giveback", "--wait", "60"]);
        assert!(ok, "{said}");
        cluster.wait_mirrored("a", ONE).await;
        cluster.wait_mirrored("b", TWO).await;
    }
    cluster.assert_calm_logs();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_that_goes_home_by_itself_is_drilled_too() {
    let mut cluster = Cluster::files(&Shape::default());
    cluster.own_files();
    cluster.start_all();
    cluster.bring_home().await;
    let (ok, said) = order(&cluster, "a", &["export", "set", ONE, "giveback_after_s=0"]);
    assert!(ok, "{said}");
    let (code, found) = drill(&cluster, &["--max-pause-ms", "20000", "--seconds", "60"]);
    assert_eq!((code, &found["verdict"]), (Some(0), &Value::from("PASS")), "{found:#}");
    assert!(found["moves"][1]["phases"]["pause_us"].as_u64() > Some(0), "{found:#}");
    cluster.wait_mirrored("a", ONE).await;
    assert_nothing_is_left(&cluster).await;
    cluster.assert_calm_logs();
}

/// The answer to a request line.
fn http(cluster: &Cluster, node: &str, request: &str) -> String {
    let ip = cluster.config.node(node).expect("a node of the cluster").address.ip();
    let mut stream = TcpStream::connect((ip, METRICS_PORT)).expect("connect to the figures");
    write!(stream, "{request} HTTP/1.1\r\nHost: hanfs\r\nConnection: close\r\n\r\n").expect("send a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("read the answer");
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn figures_are_served_where_configured() {
    let cluster = Cluster::files(&Shape::default());
    let file = cluster.config.path.clone();
    let written = std::fs::read_to_string(&file).expect("read the configuration");
    let listen = format!("[metrics]\nlisten = \":{METRICS_PORT}\"\n");
    std::fs::write(&file, written.replace("[metrics]\n", &listen)).expect("write the configuration");
    let mut cluster = cluster;
    cluster.start_all();
    cluster.bring_home().await;
    let load = Load::start(&cluster.target(ONE), "load", 1).await;
    load.more(ROUNDS).await;
    let result = cluster.take_over("b", ONE).await;
    assert!(result.ok, "{result:?}");
    load.more(ROUNDS).await;
    cluster.wait_mirrored("b", ONE).await;
    cluster
        .wait("the pause is counted", async || {
            let counted = "hanfs_takeover_pause_seconds_count{export=\"/one\",cause=\"planned\"} 1";
            http(&cluster, "b", "GET /metrics").contains(counted)
        })
        .await;
    let (a, b) = (http(&cluster, "a", "GET /metrics"), http(&cluster, "b", "GET /metrics"));
    assert!(b.starts_with("HTTP/1.1 200") && b.contains("application/openmetrics-text"), "{b}");
    for (node, line) in [
        (&a, "hanfs_role{export=\"/one\",role=\"backup\"} 1.0"),
        (&b, "hanfs_role{export=\"/one\",role=\"primary\"} 1.0"),
        (&b, "hanfs_serving{export=\"/one\"} 1.0"),
        (&b, "hanfs_in_sync{export=\"/one\"} 1.0"),
        (&b, "hanfs_takeovers_total{export=\"/one\",cause=\"planned\"} 1"),
        (&b, "hanfs_peer_connected 1.0"),
        (&b, "hanfs_witness_connected 1.0"),
    ] {
        assert!(node.lines().any(|l| l == line), "{line:?} is not in\n{node}");
    }
    assert!(http(&cluster, "a", "GET /").starts_with("HTTP/1.1 404"));
    assert!(http(&cluster, "a", "POST /metrics").starts_with("HTTP/1.1 405"));
    assert!(load.finish().await.verify().await > 0);
    cluster.assert_calm_logs();
}
