//! Goal: an administrator adds, changes and removes an export while others are in use, and a kernel client sees just that: the new
//! export over IPv6, its data and locks through a takeover, a policy that changes under a mount, a list that keeps it out. Method:
//! the lab, `hanfs export`, and the client's own mount(8), showmount(8) and rpcinfo(8).
//!
//! Needs root; runs where HANFS_TEST_LAB is set.

use hanfs_tests::lab::{Lab, text};

const VIP: &str = "fd77::100";

#[test]
fn exports_come_change_and_go_under_a_kernel_client() {
    if hanfs_tests::lab::times(1).is_none() {
        return;
    }
    let mut lab = Lab::up();
    lab.start_all();
    lab.mount_all(&["c1"]);
    let pause = lab.under_load("others", 15, |lab| {
        order(lab, &["export", "add", "/six", "--home", "a", "--vip", &format!("{VIP}/64")]);
        order(lab, &["export", "set", "/six", "squash=none"]);
        lab.wait_served("/six", "a", true);
        an_export_over_ipv6(lab);
        order(lab, &["export", "remove", "/six", "--force"]);
    });
    println!("the other exports' longest pause meanwhile: {pause} ms");
    a_policy_changes_under_a_mount(&lab);
}

fn order(lab: &Lab, args: &[&str]) {
    let out = lab.hanfs("a", args);
    assert!(out.status.success(), "hanfs {args:?}: {}\n{}", text(&out), lab.describe());
}

fn an_export_over_ipv6(lab: &Lab) {
    lab.client(
        90,
        &format!(
            "set -e; rpcinfo -T tcp6 {VIP} 100003 3; mkdir -p /mnt/six; mount -t nfs '[{VIP}]:/six' /mnt/six
             grep -q ' /mnt/six nfs .*proto=tcp6' /proc/mounts; echo before >/mnt/six/file; flock /mnt/six/file true"
        ),
    );
    let out = lab.hanfs("b", &["takeover", "/six"]);
    assert!(out.status.success(), "{}\n{}", text(&out), lab.describe());
    lab.wait_served("/six", "b", true);
    lab.client(
        60,
        "set -e; [ $(cat /mnt/six/file) = before ]; echo after >>/mnt/six/file; timeout 20 flock /mnt/six/file true
         [ $(tail -1 /mnt/six/file) = after ]; umount /mnt/six",
    );
}

fn a_policy_changes_under_a_mount(lab: &Lab) {
    let seen = lab.client(60, "showmount -e 10.77.0.100; showmount -a 10.77.0.100");
    assert!(seen.contains("/one (everyone)") && seen.contains("10.77.0.21:/one"), "{seen}");
    lab.client(60, "echo kept >/mnt/one/kept");
    order(lab, &["export", "set", "/one", "read_only=true"]);
    lab.client(
        60,
        "set -e; [ $(cat /mnt/one/kept) = kept ]; ! touch /mnt/one/refused; [ ! -e /mnt/one/refused ]",
    );
    order(lab, &["export", "set", "/one", "read_only=false", "clients=10.77.0.99(rw)"]);
    let seen = lab.client(
        60,
        "! touch /mnt/one/outside || exit 1; umount /mnt/one
         ! mount -t nfs 10.77.0.100:/one /mnt/one || exit 1; showmount -e 10.77.0.100",
    );
    assert!(seen.contains("/one 10.77.0.99"), "{seen}");
    order(lab, &["export", "set", "/one", "clients=10.77.0.0/24(rw)"]);
    lab.client(60, "set -e; mount -t nfs 10.77.0.100:/one /mnt/one; [ $(cat /mnt/one/kept) = kept ]; touch /mnt/one/inside");
}
