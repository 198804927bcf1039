//! Goal: what a client writes costs neither node memory or disk space without end. Method: 2 GiB in WRITEs of 1 MiB
//! to the same few offsets of sparse files, with small limits; the servers' peak memory and the logs' disk space
//! from outside. Then more than the log may keep while the backup is away: it gets a copy, and serves it.

use hanfs_tests::pair::cluster::{ONE, PATIENCE};
use hanfs_tests::pair::load::{bytes_of, mount};
use hanfs_tests::pair::{Cluster, Shape, disk, logs};
use nfs3_types::nfs3::nfs_fh3;

const MIB: u64 = 1 << 20;
/// Clients, each with a file of its own.
const WRITERS: u64 = 4;
/// Where a client writes, again and again: every other MiB.
const PLACES: u64 = 8;
/// Peak resident memory of a server. The limits below allow 16 MiB of metadata and 16 MiB of calls in progress; the
/// rest is what the log, the peer's stream and the allocator hold of 1 MiB WRITEs under way, and the program.
const PEAK_BYTES_MAX: u64 = 256 * MIB;
/// Disk space of an export's log at rest: `wal_mb`, and four segments of 64 MiB (the active one, a partly cut one, two
/// spares).
const WAL_BYTES_MAX: u64 = (64 + 4 * 64) * MIB;

/// Writes `mib` MiB in all; pass `round` decides the bytes.
async fn write(cluster: &Cluster, files: &[nfs_fh3], mib: u64, round: u64) {
    let mut writers = Vec::new();
    for (writer, file) in (0..).zip(files.to_vec()) {
        let target = cluster.target(ONE);
        writers.push(tokio::spawn(async move {
            let mut session = mount(&target, &Default::default()).await.expect("mount");
            for n in 0..mib / WRITERS {
                let place = n % PLACES;
                let data = piece(writer, place, round);
                let stable = session.write(&file, place * 2 * MIB, &data).await.expect("WRITE");
                assert!(stable);
            }
        }));
    }
    for writer in writers {
        writer.await.expect("a writer ends");
    }
}

fn piece(writer: u64, place: u64, round: u64) -> Vec<u8> {
    bytes_of(round << 16 | writer << 8 | place, MIB)
}

async fn verify(cluster: &Cluster, files: &[nfs_fh3], round: u64) {
    let mut session = mount(&cluster.target(ONE), &Default::default()).await.expect("mount");
    for (writer, file) in (0..).zip(files) {
        for place in 0..PLACES {
            let (read, _) = session.read(file, place * 2 * MIB, MIB as u32).await.expect("READ");
            assert!(read == piece(writer, place, round), "file {writer}, MiB {}", place * 2);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_gib_written_leave_memory_and_log_within_bounds() {
    let limits = "cache_mb = 16\nin_flight_mb = 16\ncheckpoint_mb = 16\nwal_mb = 64";
    let mut cluster = Cluster::start(&Shape { limits, ..Shape::default() }).await;
    let mut session = mount(&cluster.target(ONE), &Default::default()).await.expect("mount");
    let root = session.root();
    let mut files = Vec::new();
    for writer in 0..WRITERS {
        files.push(session.create_new(&root, &format!("file{writer}")).await.expect("CREATE"));
    }
    let wal_bytes = |node: &str| disk::used_bytes(&cluster.export_dir(node, ONE).join("wal"));
    let began = std::time::Instant::now();
    write(&cluster, &files, 2048, 1).await;
    println!("2 GiB in {:.1} s", began.elapsed().as_secs_f64());
    for node in ["a", "b"] {
        let peak = cluster.node(node).server_peak_bytes();
        println!("node {node}: peak {} MiB, log {} MiB", peak / MIB, wal_bytes(node) / MIB);
        assert!(peak < PEAK_BYTES_MAX, "node {node} used {} MiB of memory", peak / MIB);
        cluster.wait(&format!("the log of {node} shrinks"), async || wal_bytes(node) <= WAL_BYTES_MAX).await;
    }
    verify(&cluster, &files, 1).await;
    cluster.wait_mirrored("a", ONE).await;

    cluster.kill_node("b");
    let wal_bytes = |node: &str| disk::used_bytes(&cluster.export_dir(node, ONE).join("wal"));
    write(&cluster, &files, 512, 2).await;
    cluster.wait("the log is cut without the backup", async || wal_bytes("a") <= WAL_BYTES_MAX).await;
    cluster.expect_in_logs(&["this node's copy must be replaced"]);
    cluster.start_node("b");
    cluster.wait_mirrored("a", ONE).await;
    assert!(logs::read(&cluster.log("b")).contains("the copy is complete"), "a copy within {PATIENCE:?}");
    let result = cluster.take_over("b", ONE).await;
    assert!(result.ok, "{result:?}");
    verify(&cluster, &files, 2).await;
    cluster.wait_mirrored("b", ONE).await;
    cluster.assert_equal_digests("after the copy").await;
    assert_eq!(cluster.assert_same_on_disk() as u64, WRITERS);
    cluster.assert_calm_logs();
}
