//! Goal: without a witness, a survivor goes on if and only if its arbiter allows it, and says so; nothing acknowledged is
//! lost by it. Method: kill the primary's processes under load, with each kind of arbiter.

use std::time::{Duration, Instant};

use hanfs_tests::pair::cluster::{ONE, serves, text};
use hanfs_tests::pair::load::mount;
use hanfs_tests::pair::{Cluster, Load, Shape};
use tempfile::TempDir;

/// A verdict is for people to know; a node that missed one is rebuilt, whatever it holds.
const WORDS_OF_A_VERDICT: [&str; 5] = [
    "verdict: ",
    "this node goes on alone",
    "the peer went on without this node",
    "it is to be copied anew",
    "that only this node had",
];
const ROUNDS: u64 = 60;

/// Kills `a`, which serves; `b` goes on after its verdict; `a` comes back as its backup.
async fn survive(shape: &Shape, after_takeover: impl Fn(&Cluster)) {
    let mut cluster = Cluster::start(shape).await;
    cluster.expect_in_logs(&WORDS_OF_A_VERDICT);
    let load = Load::start(&cluster.target(ONE), "load", 2).await;
    load.more(ROUNDS).await;
    cluster.kill_node("a");
    cluster.wait_served("b", ONE).await;
    after_takeover(&cluster);
    load.more(ROUNDS).await;
    cluster.start_node("a");
    cluster.wait_mirrored("b", ONE).await;
    load.more(2 * ROUNDS).await;
    let result = cluster.take_over("a", ONE).await;
    assert!(result.ok, "{result:?}");
    let written = load.finish().await;
    assert!(written.verify().await > 0);
    cluster.assert_equal_digests("after the reunion").await;
    assert!(cluster.assert_same_on_disk() > 0);
    cluster.assert_calm_logs();
}

#[tokio::test(flavor = "multi_thread")]
async fn fenced_the_other_goes_on() {
    let dir = TempDir::new().expect("make a directory");
    let marker = dir.path().join("fenced");
    let command = format!("command = [\"/bin/sh\", \"-c\", \"echo $1 >> {}\", \"fence\"]", marker.display());
    let shape = Shape::with_arbiter(format!("kind = \"fence\"\n{command}\ntimeout_ms = 10000"));
    survive(&shape, |_| {
        let said = std::fs::read_to_string(&marker).expect("the command has run");
        assert!(said.lines().all(|line| line == "a"), "the node to fence is the last argument: {said:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_path_to_the_peer_for_the_whole_time_the_other_goes_on() {
    survive(&Shape::with_arbiter("kind = \"fail-stop\"\ntimeout_ms = 3000"), |_| {}).await;
}

/// Kills `a`; `b` may not serve. Returns what its status says.
async fn stranded(cluster: &mut Cluster, why: &str) {
    cluster.kill_node("a");
    cluster
        .wait("the status is CRITICAL and says why", async || {
            let line = cluster.health().await.line();
            line.starts_with("CRITICAL: ") && line.contains(why)
        })
        .await;
    let export = cluster.export("b", ONE).await.expect("b answers");
    assert!(!serves(&export) && !export.serving, "{export:?}");
    let status = cluster.hanfs("b", &["status"]);
    assert_eq!(status.status.code(), Some(2), "{}", text(&status));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fence_that_fails_leaves_the_survivor_waiting() {
    let command = "command = [\"/bin/sh\", \"-c\", \"echo no power switch; exit 3\"]";
    let shape = Shape::with_arbiter(format!("kind = \"fence\"\n{command}\ntimeout_ms = 10000"));
    let mut cluster = Cluster::start(&shape).await;
    cluster.expect_in_logs(&["not served: node a could not be fenced (exit code 3"]);
    let load = Load::start(&cluster.target(ONE), "load", 1).await;
    load.more(ROUNDS).await;
    stranded(&mut cluster, "could not be fenced").await;
    cluster.start_node("a");
    load.more(ROUNDS).await;
    assert!(load.finish().await.verify().await > 0);
    cluster.assert_calm_logs();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_arbiter_a_person_decides() {
    let mut cluster = Cluster::start(&Shape::with_arbiter("kind = \"none\"")).await;
    cluster.expect_in_logs(&WORDS_OF_A_VERDICT);
    let load = Load::start(&cluster.target(ONE), "load", 1).await;
    load.more(ROUNDS).await;
    stranded(&mut cluster, "no arbiter is configured").await;

    let asked = cluster.hanfs("b", &["takeover", "--force", ONE]);
    let said = text(&asked);
    assert_eq!(asked.status.code(), Some(1), "{said}");
    assert!(said.contains("forced takeover by b") && said.contains("Nothing was done"), "{said}");
    assert!(said.contains("as of entry"), "{said}");
    assert!(cluster.export("b", ONE).await.is_some_and(|e| !e.serving));

    let done = cluster.hanfs("b", &["takeover", "--force", "--yes", ONE]);
    assert_eq!(done.status.code(), Some(0), "{}", text(&done));
    cluster.wait_served("b", ONE).await;
    load.more(ROUNDS).await;
    cluster.start_node("a");
    cluster.wait_mirrored("b", ONE).await;
    load.more(2 * ROUNDS).await;
    assert!(load.finish().await.verify().await > 0);
    cluster.assert_equal_digests("after the reunion").await;
    cluster.assert_calm_logs();
}

/// Index of the last entry, which both nodes have applied.
async fn at_rest(cluster: &Cluster) -> u64 {
    let mut last = 0;
    cluster
        .wait("both nodes have everything", async || {
            let (a, b) = (cluster.export("a", ONE).await, cluster.export("b", ONE).await);
            let (Some(a), Some(b)) = (a, b) else { return false };
            last = a.last_index;
            [a.applied_index, b.last_index, b.applied_index].iter().all(|index| *index == last)
        })
        .await;
    last
}

/// Without its backup the primary still writes down what it is asked for, as long as its lease lasts: about half a second. Kills
/// `b`, then asks. Returns the last entry that both have, and the last one that `a` has.
async fn written_for_nobody(cluster: &mut Cluster) -> (u64, u64) {
    for attempt in 0..5 {
        let mut session = mount(&cluster.target(ONE), &Default::default()).await.expect("mount");
        let known = at_rest(cluster).await;
        cluster.kill_node("b");
        let root = session.root();
        let call = tokio::spawn(async move { session.create_new(&root, "late").await.map(drop) });
        let until = Instant::now() + Duration::from_secs(3);
        while Instant::now() < until {
            let last = cluster.export("a", ONE).await.map_or(0, |e| e.last_index);
            if last > known {
                call.abort();
                return (known, last);
            }
        }
        println!("attempt {attempt}: the lease was over before the call came");
        call.abort();
        cluster.start_node("b");
        cluster.wait_mirrored("a", ONE).await;
    }
    panic!("this machine is too slow for a lease");
}

/// The loser's last entries: written into its log, acknowledged to nobody, and lost to the winner. They are not deleted with its
/// copy: both nodes show them, the status says so, and they go on an order.
#[tokio::test(flavor = "multi_thread")]
async fn what_only_the_loser_had_is_saved_until_it_is_removed() {
    let mut cluster = Cluster::start(&Shape::with_arbiter("kind = \"none\"")).await;
    cluster.expect_in_logs(&WORDS_OF_A_VERDICT);
    let load = Load::start(&cluster.target(ONE), "load", 2).await;
    load.more(ROUNDS).await;
    let written = load.finish().await;
    let (known, lost) = written_for_nobody(&mut cluster).await;
    cluster.kill_node("a");
    cluster.start_node("b");
    cluster
        .wait("b answers", async || cluster.export("b", ONE).await.is_some_and(|e| e.role == "candidate"))
        .await;
    let done = cluster.hanfs("b", &["takeover", "--force", "--yes", ONE]);
    assert_eq!(done.status.code(), Some(0), "{}", text(&done));
    cluster.wait_served("b", ONE).await;
    let none = cluster.hanfs("b", &["divergent", "list"]);
    assert_eq!(none.status.code(), Some(1), "node a may have something: {}", text(&none));
    cluster.start_node("a");
    cluster.wait_mirrored("b", ONE).await;

    let list = cluster.hanfs("b", &["divergent", "list", "--json"]);
    let list: serde_json::Value = serde_json::from_slice(&list.stdout).expect("JSON");
    let [tail] = &list.as_array().expect("a list")[..] else { panic!("{list}") };
    assert_eq!((&tail["node"], &tail["export"]), (&"a".into(), &ONE.into()), "{list}");
    assert_eq!((&tail["last"], &tail["whole_copy"]), (&lost.into(), &false.into()), "{list}");
    assert_eq!((&tail["first"], &tail["committed"]), (&(known + 1).into(), &known.into()), "nobody was told");
    let id = tail["id"].as_str().expect("an id");
    let health = cluster.health().await.line();
    assert!(health.starts_with("WARNING: ") && health.contains("hanfs divergent show"), "{health}");
    let shown = cluster.hanfs("b", &["divergent", "show", id]);
    let lines = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(lines.contains("CREATE \"late\" in directory"), "{lines}");
    assert!(lines.lines().any(|line| line.starts_with(&format!("{lost} "))), "{lines}");

    let removed = cluster.hanfs("b", &["divergent", "remove", id]);
    assert_eq!(removed.status.code(), Some(0), "{}", text(&removed));
    assert_eq!(cluster.hanfs("b", &["divergent", "show", id]).status.code(), Some(3));
    assert!(!cluster.data("a").join("divergent").join(id).exists());
    assert_eq!(cluster.health().await.line().split(':').next(), Some("OK"));
    assert!(written.verify().await > 0);
    assert!(cluster.assert_same_on_disk() > 0);
    cluster.assert_calm_logs();
}
