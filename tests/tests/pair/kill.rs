//! Goal: whatever process dies, everything acknowledged is there, once, under the same handles, on both nodes.
//! Method: SIGKILL to real processes while clients change two exports, then read back, compare digests and disks.

use hanfs_tests::pair::cluster::{ONE, TWO};
use hanfs_tests::pair::tape::{Recording, Tape, send_again};
use hanfs_tests::pair::{Cluster, Load, Shape};
use nfs3_types::nfs3::{
    CREATE3args, MKDIR3args, Nfs3Result, REMOVE3args, RENAME3args, createhow3, diropargs3, filename3,
    nfs_fh3, sattr3,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Rounds of the load around each event; some six entries of the log each.
const ROUNDS: u64 = 60;

/// CREATE GUARDED, MKDIR, RENAME and REMOVE, answered once and kept on tape: done a second time, each would fail.
async fn once_only(cluster: &Cluster, label: &str) -> Vec<Tape> {
    let target = cluster.target(ONE);
    let root = hanfs_tests::pair::load::mount(&target, &Default::default()).await.expect("mount").root();
    let mut client = Recording::new(&target).await;
    let name = |what: &str| format!("{label}-{what}");
    fn at<'a>(dir: &nfs_fh3, name: &'a str) -> diropargs3<'a> {
        diropargs3 { dir: dir.clone(), name: filename3::from(name.as_bytes()) }
    }
    let (dir, file, moved, gone) = (name("dir"), name("file"), name("moved"), name("gone"));
    let mut tapes = Vec::new();
    for file in [&file, &gone] {
        let how = createhow3::GUARDED(sattr3::default());
        let made = client.nfs.create(&CREATE3args { where_: at(&root, file), how }).await.expect("CREATE");
        assert!(matches!(made, Nfs3Result::Ok(_)), "{made:?}");
        tapes.push(client.tape());
    }
    let attributes = sattr3::default();
    let made = client.nfs.mkdir(&MKDIR3args { where_: at(&root, &dir), attributes }).await.expect("MKDIR");
    assert!(matches!(made, Nfs3Result::Ok(_)), "{made:?}");
    tapes.push(client.tape());
    let rename = RENAME3args { from: at(&root, &file), to: at(&root, &moved) };
    let renamed = client.nfs.rename(&rename).await.expect("RENAME");
    assert!(matches!(renamed, Nfs3Result::Ok(_)), "{renamed:?}");
    tapes.push(client.tape());
    let removed = client.nfs.remove(&REMOVE3args { object: at(&root, &gone) }).await.expect("REMOVE");
    assert!(matches!(removed, Nfs3Result::Ok(_)), "{removed:?}");
    tapes.push(client.tape());
    tapes
}

/// The same calls again get the same replies, byte for byte.
async fn assert_answered_as_before(cluster: &Cluster, tapes: &[Tape], when: &str) {
    for (number, tape) in tapes.iter().enumerate() {
        let reply = send_again(&cluster.target(ONE), &tape.call).await.expect("a reply");
        assert_eq!(reply, tape.reply, "call {number} sent again {when}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_primary_costs_no_client_anything() {
    let mut cluster = Cluster::start(&Shape { exports: 2, ..Shape::default() }).await;
    let one = Load::start(&cluster.target(ONE), "load", 2).await;
    let two = Load::start(&cluster.target(TWO), "load", 1).await;
    let tapes = once_only(&cluster, "first").await;
    one.more(ROUNDS).await;

    // The server alone: its guardian tells the other node and gives the address away.
    cluster.node("a").kill_server();
    cluster.wait_served("b", ONE).await;
    assert_answered_as_before(&cluster, &tapes, "to the new primary").await;
    one.more(ROUNDS).await;
    two.more(ROUNDS).await;
    cluster.wait_mirrored("b", ONE).await;
    cluster.assert_equal_digests_under_load("after the server was killed").await;
    let result = cluster.take_over("a", ONE).await;
    assert!(result.ok, "giveback: {result:?}");
    cluster.wait_mirrored("a", ONE).await;
    assert_answered_as_before(&cluster, &tapes, "after the giveback").await;
    one.more(ROUNDS).await;

    // Guardian and server: only silence says that they are gone.
    cluster.kill_node("a");
    cluster.wait_served("b", ONE).await;
    cluster.wait_served("b", TWO).await;
    one.more(ROUNDS).await;
    two.more(ROUNDS).await;
    cluster.start_node("a");
    cluster.wait_mirrored("b", ONE).await;
    cluster.wait_mirrored("b", TWO).await;
    let result = cluster.take_over("a", ONE).await;
    assert!(result.ok, "giveback: {result:?}");
    one.more(ROUNDS).await;
    assert_answered_as_before(&cluster, &tapes, "after two takeovers").await;

    let (one, two) = (one.finish().await, two.finish().await);
    assert!(one.verify().await + two.verify().await > 0);
    cluster.assert_equal_digests("at the end").await;
    assert!(cluster.assert_same_on_disk() > 0);
    cluster.assert_calm_logs();
}

/// A FIN would leave the client closing its end just when the address moves, which costs a Linux client 3 s.
#[tokio::test(flavor = "multi_thread")]
async fn connections_of_a_killed_server_are_reset() {
    let cluster = Cluster::start(&Shape { exports: 2, ..Shape::default() }).await;
    let target = cluster.target(ONE);
    let mut idle = tokio::net::TcpStream::connect((target.address, target.port)).await.expect("connect");
    // Accepted by the server, not only by its kernel: NFS NULL is answered.
    let call: [u32; 11] = [0x8000_0028, 7, 0, 2, 100_003, 3, 0, 0, 0, 0, 0];
    let call: Vec<u8> = call.iter().flat_map(|word| word.to_be_bytes()).collect();
    idle.write_all(&call).await.expect("send NULL");
    let mut reply = [0; 28];
    idle.read_exact(&mut reply).await.expect("the reply of NULL");
    cluster.node("a").kill_server();
    let heard = idle.read(&mut reply).await.map_err(|e| e.kind());
    assert_eq!(heard, Err(std::io::ErrorKind::ConnectionReset));
    cluster.wait_served("b", ONE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_killed_at_once_keeps_what_was_acknowledged() {
    let mut cluster = Cluster::start(&Shape { exports: 2, ..Shape::default() }).await;
    let one = Load::start(&cluster.target(ONE), "load", 2).await;
    let two = Load::start(&cluster.target(TWO), "load", 1).await;
    let tapes = once_only(&cluster, "first").await;
    for _ in 0..2 {
        one.more(ROUNDS).await;
        cluster.kill_all();
        cluster.start_all();
        // Its calls under way are answered by whoever serves now.
        one.more(ROUNDS).await;
        two.more(2 * ROUNDS).await;
    }
    assert_answered_as_before(&cluster, &tapes, "after all were killed").await;
    let (one, two) = (one.finish().await, two.finish().await);
    assert!(one.verify().await + two.verify().await > 0);
    cluster.assert_equal_digests("after all were killed").await;
    assert!(cluster.assert_same_on_disk() > 0);
    cluster.assert_calm_logs();
}
