//! Goal: a real Linux kernel client that mounted an export with no options never sees an error, a lost file or a stale handle,
//! whatever single failure hits the pair. Method: the lab (`tests/lab`): two nodes and a witness in namespaces, a client VM,
//! real kills; what the client's programs were told is compared with what is there afterwards. `takeovers.rs` has the ways in
//! which a primary goes.
//!
//! Needs root and a few minutes: runs where HANFS_TEST_LAB is set (`tests/run` sets it).

use std::time::Duration;

use hanfs_tests::lab::Lab;

#[test]
fn a_kernel_client_survives_everything() {
    if hanfs_tests::lab::times(1).is_none() {
        return;
    }
    let mut lab = Lab::up();
    lab.start_all();
    lab.mount_all(&["c1"]);
    ordinary_work(&lab);
    lab.assert_replicas_equal("after ordinary work");

    lab.under_load("witness", 8, |lab| lab.kill_witness());
    lab.wait("the status says that the witness is gone", || {
        lab.status("a").is_some_and(|s| s["problems"].to_string().contains("witness"))
    });
    lab.start_witness();

    lab.under_load("backup", 15, |lab| {
        lab.lose_host("b");
        lab.wait_served("/two", "a", false);
        lab.wait("the status says solo, and since when", || {
            lab.export("a", "/one").is_some_and(|e| e["solo_since_ns"].as_u64().is_some_and(|t| t > 0))
        });
    });
    lab.host_returns("b");
    lab.wait_served("/one", "a", true);
    lab.wait_served("/two", "a", true);
    lab.assert_replicas_equal("after host b was lost");
    lab.give_back();

    client_network_lost(&mut lab);
    everything_killed(&mut lab);
    lab.client(120, "umount /mnt/one /mnt/two");
}

fn ordinary_work(lab: &Lab) {
    lab.client(
        300,
        "set -e; cd /mnt/one
        cp -r /usr/share/perl5 tree; diff -r /usr/share/perl5 tree
        mkdir repo; cd repo; git init -q .; git config user.email a@b; git config user.name n
        for i in $(seq 40); do echo $i >f$i; done; git add .; git commit -qm one; git gc -q; git fsck --strict; cd ..
        dd if=/dev/urandom of=big bs=64k count=100 conv=fsync 2>/dev/null; cp big big2; cmp big big2
        mv big2 big3; ln big3 hard; ln -s big3 soft; cmp soft hard; [ $(stat -c %h hard) = 2 ]; rm big3; cmp big hard
        mkfifo pipe; truncate -s 1G sparse; [ $(stat -c %s sparse) = 1073741824 ]
        exec 7>deleted; rm deleted; echo still >&7; exec 7>&-
        rm -r tree repo; [ ! -e tree ]; ls -la >/dev/null",
    );
    lab.client(120, "set -e; cd /mnt/two; mkdir d; for i in $(seq 50); do echo $i >d/$i; done; [ $(ls d | wc -l) = 50 ]; rm -r d");
}

/// The primary's link to its clients is dead and everything else lives, then it comes back: the other node serves, and an order
/// brings the export home when the link has been sound for a while. The link between the nodes alone moves nothing.
fn client_network_lost(lab: &mut Lab) {
    lab.under_load("repl", 10, |lab| {
        lab.net(&["cut", "repl"]);
        lab.wait("both go on solo where they were", || {
            let solo = |path: &str, node: &str| {
                lab.export(node, path).is_some_and(|e| {
                    e["role"] == "primary" && e["solo_since_ns"].as_u64().is_some_and(|t| t > 0)
                })
            };
            solo("/one", "a") && solo("/two", "b")
        });
        lab.net(&["heal", "repl"]);
    });
    lab.wait_served("/one", "a", true);
    lab.wait_served("/two", "b", true);

    lab.under_load("link", 10, |lab| {
        lab.net(&["link", "a", "eth0", "down"]);
        lab.wait_served("/one", "b", false);
        lab.net(&["link", "a", "eth0", "up"]);
    });
    lab.wait_served("/one", "b", true);
    lab.wait("node a may serve again", || lab.hanfs("a", &["giveback", "/one"]).status.success());
    lab.wait_served("/one", "a", true);
    lab.assert_replicas_equal("after the client network was lost");
}

/// kill -9 of all three at once: what was acknowledged as stable is there.
fn everything_killed(lab: &mut Lab) {
    lab.under_load("all", 30, |lab| {
        lab.kill_node("a");
        lab.kill_node("b");
        lab.kill_witness();
        std::thread::sleep(Duration::from_secs(2));
        lab.start_witness();
        lab.start_node("a");
        lab.start_node("b");
    });
    lab.assert_replicas_equal("after everything was killed");
}
