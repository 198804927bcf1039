//! Goal: a full disk is an error of the operation that needs room, not the end of the service: what is there stays, removing
//! works, and gives the room back. Method: a node whose data is on a small memory file system, filled over NFS.

use std::sync::Arc;

use hanfs::client::{ClientError, Stats};
use hanfs_tests::pair::cluster::ONE;
use hanfs_tests::pair::disk::{self, OwnDisk};
use hanfs_tests::pair::load::{bytes_of, mount};
use hanfs_tests::pair::{Cluster, Shape};
use nfs3_types::nfs3::nfsstat3;

/// Enough for the log and what the server keeps free, and some files.
const DISK_MIB: u64 = 900;
const FILE_MIB: u64 = 32;
const MIB: usize = 1 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_what_grows_and_recovers_when_something_goes() {
    if !disk::may_mount() {
        return;
    }
    let mut cluster = Cluster::files(&Shape { nodes: 1, witness: false, ..Shape::default() });
    let _disk = OwnDisk::memory(cluster.data("a"), DISK_MIB);
    cluster.expect_in_logs(&["its disk has no room left"]);
    cluster.start_all();
    cluster.wait_served("a", ONE).await;
    let stats = Arc::new(Stats::default());
    let mut client = mount(&cluster.target(ONE), &stats).await.expect("mount");
    let root = client.root();

    let kept = client.create_new(&root, "kept").await.expect("create");
    let data = bytes_of(7, MIB as u64);
    client.write(&kept, 0, &data).await.expect("write");
    let mut filled = 0;
    let refused = 'full: loop {
        let file = match client.create_new(&root, &format!("filler-{filled}")).await {
            Ok(file) => file,
            Err(error) => break error,
        };
        filled += 1;
        for i in 0..FILE_MIB {
            if let Err(error) = client.write(&file, i * MIB as u64, &data).await {
                break 'full error;
            }
        }
        assert!(filled * FILE_MIB < DISK_MIB, "more was written than there is room for");
    };
    assert!(
        matches!(refused, ClientError::Status { status: nfsstat3::NFS3ERR_NOSPC, .. }),
        "a full disk says so: {refused}"
    );
    assert!(filled > 1, "there was room for something");

    // All that was acknowledged is there, and the service goes on.
    let (read, _) = client.read(&kept, 0, MIB as u32).await.expect("read");
    assert_eq!(read, data, "what was written before is intact");
    for i in 0..filled {
        client.remove(&root, &format!("filler-{i}")).await.expect("removing always works");
    }
    cluster.wait("room for a new file", async || client.create_new(&root, "after").await.is_ok()).await;
    let after = client.lookup(&root, "after").await.expect("lookup");
    client.write(&after, 0, &data).await.expect("there is room again");
    assert_eq!(stats.snapshot().reconnects, 0, "the server never went away");
    cluster.assert_calm_logs();
}
