//! Goal: nobody without the cluster's certificate gets anywhere, garbage harms nobody, and a mistake in the
//! configuration is named by its line. Method: bytes and foreign keys at the ports of a pair under load.

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use hanfs::cli::AdminLink;
use hanfs_tests::pair::cluster::{ONE, text};
use hanfs_tests::pair::load::bytes_of;
use hanfs_tests::pair::process::Process;
use hanfs_tests::pair::{Cluster, Load, Shape, logs};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const ROUNDS: u64 = 60;

/// Sends bytes, then reads until the other side closes or says nothing more for a while.
async fn throw(address: SocketAddr, bytes: &[u8]) {
    let mut stream = TcpStream::connect(address).await.expect("connect");
    // It may close before it has read everything.
    let _ = stream.write_all(bytes).await;
    let mut reply = Vec::new();
    let _ = tokio::time::timeout(Duration::from_millis(200), stream.read_to_end(&mut reply)).await;
}

/// Records that are none (RFC 5531 section 11): random, too large, a fragment that never ends, a million empty fragments, a call
/// that is cut off, a reply instead of a call.
fn garbage() -> Vec<Vec<u8>> {
    let call = |words: &[u32]| -> Vec<u8> {
        let body: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
        let mark = 0x8000_0000 | body.len() as u32;
        [mark.to_be_bytes().to_vec(), body].concat()
    };
    vec![
        bytes_of(1, 100_000),
        [vec![0xff; 4], bytes_of(2, 5_000_000)].concat(),
        [vec![0x7f, 0xff, 0xff, 0xff], vec![0; 1 << 20]].concat(),
        vec![0; 4 << 20],
        [vec![0x80, 0, 0x10, 0], vec![0; 100]].concat(),
        call(&[1, 1, 0, 0, 0, 0]),
        call(&[2, 0, 7, 100_003, 3, 0]),
        call(&[3, 0, 2, 100_003, 3, 1, 0, 0xffff_ffff]),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_and_foreign_certificates_harm_nobody() {
    let mut cluster = Cluster::start(&Shape::default()).await;
    let load = Load::start(&cluster.target(ONE), "load", 1).await;
    load.more(ROUNDS).await;
    let servers = ["a", "b"].map(|node| cluster.node(node).server());
    let nfs = SocketAddr::new(cluster.target(ONE).address, cluster.target(ONE).port);
    let mut ports: Vec<SocketAddr> = cluster.config.nodes.iter().map(|node| node.address).collect();
    ports.push(nfs);
    ports.extend(cluster.config.witness.as_ref().map(|witness| witness.address));
    for port in ports {
        for bytes in garbage() {
            throw(port, &bytes).await;
        }
    }
    load.more(ROUNDS).await;

    // A node of another cluster, and an administrator of another cluster: other certificates.
    let mut foreign = Cluster::files(&Shape::default());
    let link = {
        let mut config = foreign.config.clone();
        config.nodes[0].address = cluster.config.nodes[0].address;
        AdminLink::new(config, "a".to_owned()).expect("read the foreign keys")
    };
    let error =
        format!("{:#}", link.status_of("a").await.expect_err("no answer without the cluster's certificate"));
    assert!(error.to_lowercase().contains("certificate"), "{error}");
    let address = |c: &Cluster, i: usize| c.config.nodes[i].address.to_string();
    let text_of = fs::read_to_string(&foreign.config.path).expect("read the configuration");
    let aimed = text_of.replace(&address(&foreign, 1), &address(&cluster, 1));
    fs::write(&foreign.config.path, aimed).expect("write the configuration");
    foreign.start_node("a");
    foreign.wait_log("a", "certificate").await;
    load.more(ROUNDS).await;
    foreign.kill_node("a");

    // The right keys, but a configuration with another cluster's id.
    cluster.kill_node("b");
    let other = "7d5e0000-0000-4000-8000-000000000001";
    let text_of = fs::read_to_string(&cluster.config.path).expect("read the configuration");
    let data = format!("data = {:?}", cluster.data("b"));
    let text_of = text_of
        .replace(&cluster.config.cluster.to_string(), other)
        .replace(&data, &format!("data = {:?}", cluster.dir.join("elsewhere")));
    let config = cluster.dir.join("other.toml");
    fs::write(&config, text_of).expect("write a configuration");
    let log = cluster.dir.join("other.log");
    let stray = Process::start(&["--config", &config.display().to_string(), "--node", "b", "serve"], &log);
    let difference = "the `cluster` line of the two configurations differs";
    cluster
        .wait("one of the two says what differs", async || {
            let said = [logs::read(&cluster.log("a")), logs::read(&log)];
            let status = cluster.status("a").await;
            let error = status.and_then(|s| s.peer).map(|p| p.last_error).unwrap_or_default();
            said.iter().any(|text| text.contains(difference)) || error.contains(difference)
        })
        .await;
    drop(stray);
    load.more(ROUNDS).await;
    cluster.start_node("b");
    cluster.wait_mirrored("a", ONE).await;

    assert_eq!(cluster.node("a").server(), servers[0], "the server of a has not been restarted");
    assert!(load.finish().await.verify().await > 0);
    cluster.assert_calm_logs();
}

#[test]
fn a_mistake_in_the_configuration_is_named_by_its_line() {
    let cluster = Cluster::files(&Shape::default());
    let good = fs::read_to_string(&cluster.config.path).expect("read the configuration");
    let check = || cluster.hanfs("a", &["config", "check"]);
    assert_eq!(check().status.code(), Some(0), "{}", text(&check()));
    for (from, to, said) in [
        ("durability = ", "durabilty = ", "did you mean durability?"),
        ("home = \"a\"", "home = \"c\"", "\"c\" is no node"),
        ("lease_ms = 1500", "lease_ms = 100", "expected more than three times ping_ms"),
        ("driver = \"loopback\"", "driver = \"loopbak\"", "did you mean \"loopback\"?"),
        ("[network]", "[network", "unclosed table"),
    ] {
        let line = 1 + good.lines().position(|line| line.starts_with(from)).expect("a line to change");
        fs::write(&cluster.config.path, good.replacen(&format!("\n{from}"), &format!("\n{to}"), 1))
            .expect("write the configuration");
        let out = check();
        let all = text(&out);
        assert_eq!(out.status.code(), Some(3), "{to}: {all}");
        assert!(
            all.contains(said) && all.contains(&format!("hanfs.toml:{line}: ")),
            "{to} in line {line}: {all}"
        );
        let file = cluster.config.path.display().to_string();
        assert!(all.contains(&file), "{to}: names the file: {all}");
    }
}
