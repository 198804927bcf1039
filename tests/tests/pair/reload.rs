//! Goal: exports come, change and go while clients of other exports notice nothing, and no mistake in a file changes
//! anything. Method: real nodes with a file each, orders as an administrator gives them, clients under load.

use std::net::IpAddr;
use std::path::Path;

use hanfs_tests::pair::cluster::{ONE, text};
use hanfs_tests::pair::load::mount;
use hanfs_tests::pair::{Cluster, Load, Shape};

/// Rounds of the load around each event.
const ROUNDS: u64 = 40;
const THREE: &str = "/three";

/// An address of the cluster's that nobody has; see `shape::addresses`.
fn free_vip(cluster: &Cluster) -> String {
    let one = cluster.config.export(ONE).expect("the first export").vip.address;
    let IpAddr::V4(one) = one else { panic!("{one} is no address of the loopback network") };
    format!("{}/8", std::net::Ipv4Addr::from(u32::from(one) + 2))
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).expect("read a configuration")
}

/// An order that is obeyed; returns what it said.
fn obeyed(cluster: &Cluster, node: &str, args: &[&str]) -> String {
    let out = cluster.hanfs(node, args);
    assert!(out.status.success(), "hanfs {args:?} on {node}: {}", text(&out));
    text(&out)
}

/// An order that is refused; returns why.
fn refused(cluster: &Cluster, node: &str, args: &[&str]) -> String {
    let out = cluster.hanfs(node, args);
    assert!(!out.status.success(), "hanfs {args:?} on {node}: {}", text(&out));
    text(&out)
}

async fn differ(cluster: &Cluster) -> [bool; 2] {
    let mut seen = [false; 2];
    for (seen, node) in seen.iter_mut().zip(["a", "b"]) {
        let problems = cluster.status(node).await.map(|s| s.problems).unwrap_or_default();
        *seen = problems.iter().any(|p| p.text.starts_with("the configurations of a and b differ"));
    }
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn reload_adds_changes_and_removes_an_export_while_others_are_served() {
    let mut cluster = Cluster::files(&Shape::default());
    cluster.own_files();
    cluster.start_all();
    cluster.bring_home().await;
    let one = Load::start(&cluster.target(ONE), "load", 2).await;
    one.more(ROUNDS).await;
    let before = read(&cluster.config_of("a"));

    // Ordered from the node that is not its home.
    let vip = free_vip(&cluster);
    let said = obeyed(&cluster, "b", &["export", "add", THREE, "--home", "a", "--vip", &vip, "squash=none"]);
    assert!(said.contains("a: added /three") && said.contains("b: added /three"), "{said}");
    assert_eq!(read(&cluster.config_of("a")), read(&cluster.config_of("b")), "both nodes have one text");
    assert_eq!(read(&cluster.config_of("a").with_extension("toml.1")), before, "the previous text is kept");
    cluster.wait("both say that the files are one", async || differ(&cluster).await == [false; 2]).await;
    cluster.reread();
    cluster.wait_mirrored("a", THREE).await;
    let three = Load::start(&cluster.target(THREE), "three", 1).await;
    three.more(ROUNDS).await;

    // The other node has all of it, and the server that comes back has read the new file.
    cluster.node("a").kill_server();
    cluster.wait_served("b", THREE).await;
    three.more(ROUNDS).await;
    one.more(ROUNDS).await;
    for path in [ONE, THREE] {
        cluster.wait_mirrored("b", path).await;
        let result = cluster.take_over("a", path).await;
        assert!(result.ok, "giveback: {result:?}");
    }
    three.more(ROUNDS).await;
    let written = three.finish().await;
    assert!(written.verify().await > 0);
    drop(written);

    obeyed(&cluster, "a", &["export", "set", THREE, "read_only=true"]);
    let mut session = mount(&cluster.target(THREE), &Default::default()).await.expect("mount it read-only");
    let root = session.root();
    let error = session.mkdir(&root, "no").await.expect_err("nobody may change anything").to_string();
    assert!(error.contains("ROFS"), "{error}");
    session.lookup(&root, "three-0").await.expect("it can be read");
    obeyed(&cluster, "b", &["export", "set", THREE, "read_only="]);
    session.mkdir(&root, "yes").await.expect("the client that was connected may write again");

    // Not under a client's feet.
    cluster
        .wait("the client is counted", async || {
            cluster.export("a", THREE).await.is_some_and(|e| e.connections > 0)
        })
        .await;
    let why = refused(&cluster, "b", &["export", "remove", THREE]);
    assert!(why.contains("client connections on node a") && why.contains("nothing was changed"), "{why}");
    assert!(read(&cluster.config_of("b")).contains(THREE));
    drop(session);
    cluster
        .wait("the client is gone", async || {
            cluster.export("a", THREE).await.is_some_and(|e| e.connections == 0)
        })
        .await;
    let dirs = ["a", "b"].map(|node| cluster.export_dir(node, THREE));
    obeyed(&cluster, "b", &["export", "remove", THREE]);
    for (node, dir) in ["a", "b"].iter().zip(&dirs) {
        assert!(cluster.export(node, THREE).await.is_none(), "{node} still has it");
        assert!(!dir.exists() && dir.with_extension("removed").exists(), "{node}: {}", dir.display());
        assert_eq!(read(&cluster.config_of(node)), before, "{node}: the file is as it was");
    }
    let target = cluster.target(THREE);
    let gone = std::net::TcpStream::connect((target.address, target.port));
    assert!(gone.is_err(), "somebody answers for it");
    cluster.reread();

    one.more(ROUNDS).await;
    let one = one.finish().await;
    assert!(one.verify().await > 0);
    cluster.assert_equal_digests("at the end").await;
    cluster.assert_calm_logs();
}

#[tokio::test(flavor = "multi_thread")]
async fn reload_of_a_wrong_file_changes_nothing_and_two_files_are_noticed() {
    let mut cluster = Cluster::files(&Shape::default());
    cluster.own_files();
    cluster.start_all();
    cluster.bring_home().await;
    let load = Load::start(&cluster.target(ONE), "load", 1).await;
    let file = cluster.config_of("a");
    let right = read(&file);

    // A typo: by hand, and over the signal.
    std::fs::write(&file, right.replacen("home =", "hom =", 1)).expect("write the file");
    let why = refused(&cluster, "a", &["reload"]);
    assert!(why.contains("exports[0].hom: unknown key hom") && why.contains("did you mean home?"), "{why}");
    cluster.expect_in_logs(&["the configuration is not reloaded"]);
    cluster.node("a").hang_up();
    cluster.wait_log("a", "the configuration is not reloaded").await;

    // A correct file that takes a restart.
    std::fs::write(&file, right.replacen("ping_ms = 50", "ping_ms = 51", 1)).expect("write the file");
    let why = refused(&cluster, "a", &["reload"]);
    assert!(why.contains("timing.ping_ms cannot change") && why.contains("restart both nodes"), "{why}");

    // Two texts: nothing is done on top of them until somebody says which one is right.
    std::fs::write(&file, format!("{right}\n# only here\n")).expect("write the file");
    assert!(obeyed(&cluster, "a", &["reload"]).contains("a: nothing differs"));
    cluster.wait("both nodes say that the files differ", async || differ(&cluster).await == [true; 2]).await;
    let vip = free_vip(&cluster);
    let why = refused(&cluster, "b", &["export", "add", THREE, "--home", "a", "--vip", &vip]);
    assert!(why.contains("another text") && why.contains("hanfs reload --push"), "{why}");
    assert_eq!(read(&cluster.config_of("b")), right, "nothing was changed");
    obeyed(&cluster, "a", &["reload", "--push"]);
    cluster.wait("the files are one again", async || differ(&cluster).await == [false; 2]).await;
    assert_eq!(read(&cluster.config_of("b")), read(&file));

    // Half of a pair is not enough.
    load.more(ROUNDS).await;
    cluster.kill_node("b");
    let why = refused(&cluster, "a", &["export", "set", ONE, "read_only=true"]);
    assert!(why.contains("node b is not reachable") && why.contains("nothing was changed"), "{why}");
    assert!(!read(&file).contains("\nread_only = true"));
    load.more(ROUNDS).await;
    assert!(load.finish().await.verify().await > 0);
    cluster.assert_calm_logs();
}

#[tokio::test(flavor = "multi_thread")]
async fn reload_works_in_a_cluster_of_one_and_brings_a_removed_export_back() {
    let mut cluster = Cluster::start(&Shape { nodes: 1, witness: false, ..Shape::default() }).await;
    let vip = free_vip(&cluster);
    obeyed(&cluster, "a", &["export", "add", THREE, "--home", "a", "--vip", &vip, "squash=none"]);
    cluster.reread();
    cluster.wait_served("a", THREE).await;
    let id = cluster.config.export(THREE).expect("the new export").id.to_string();
    let load = Load::start(&cluster.target(THREE), "three", 1).await;
    load.more(ROUNDS).await;
    let written = load.finish().await;
    obeyed(&cluster, "a", &["export", "remove", THREE, "--force"]);
    let back = ["export", "add", THREE, "--home", "a", "--vip", &vip, "--id", &id, "squash=none"];
    assert!(obeyed(&cluster, "a", &back).contains("added, with the data that was set aside, /three"));
    cluster.wait_served("a", THREE).await;
    assert!(written.verify().await > 0, "the same files, under the same handles");

    let dir = cluster.export_dir("a", THREE);
    obeyed(&cluster, "a", &["export", "remove", THREE, "--force", "--destroy-data"]);
    assert!(!dir.exists() && !dir.with_extension("removed").exists());
    cluster.assert_calm_logs();
}
