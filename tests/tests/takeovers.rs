//! Goal: whatever way a primary goes, and however often, the pause that a real kernel client sees is short and costs it nothing.
//! Method: in the lab, takeovers of every kind one after the other under a load of fsync'ed writes, renames and removals; what the
//! client was told is compared with what is there, and the pauses are printed as a table.
//!
//! HANFS_TAKEOVERS=50 says how often each kind (1 where HANFS_TEST_LAB is set and it is not). HANFS_TAKEOVER_KINDS=killed,planned
//! chooses among them. Needs root.

use hanfs_tests::lab::{Kind, Lab, kinds};

/// The load runs for so long around each event, seconds.
const LOAD_S: u32 = 10;

#[test]
fn takeovers_of_every_kind_cost_a_kernel_client_a_pause_and_nothing_else() {
    let Some(times) = hanfs_tests::lab::times(1) else { return };
    let mut lab = Lab::up();
    lab.start_all();
    lab.mount_all(&["c1"]);
    let mut table = String::from(
        "| event | times | p50 ms | p99 ms | longest ms | giveback, longest ms |\n| --- | --- | --- | --- | --- | --- |\n",
    );
    for kind in kinds() {
        let mut there = Vec::new();
        let mut back = Vec::new();
        for i in 0..times {
            there.push(takeover(&mut lab, kind, i));
            back.push(giveback(&mut lab, kind, i));
            println!("{} {i}: {} ms, giveback {} ms", kind.name, there[i], back[i]);
        }
        lab.assert_replicas_equal(kind.what);
        there.sort_unstable();
        let rank = |percent: usize| there[(there.len() * percent).div_ceil(100).max(1) - 1];
        let longest_back = back.iter().max().copied().unwrap_or_default();
        table += &format!(
            "| {} | {times} | {} | {} | {} | {longest_back} |\n",
            kind.what,
            rank(50),
            rank(99),
            rank(100)
        );
    }
    println!("{table}");
    lab.client(120, "umount /mnt/one /mnt/two");
}

/// Node a goes under load and comes back; the longest pause of the client, ms.
fn takeover(lab: &mut Lab, kind: &Kind, i: usize) -> u64 {
    let pause = lab.under_load(&format!("{}-{i}", kind.name), LOAD_S, |lab| {
        (kind.happen)(lab);
        lab.wait_served("/one", "b", false);
        (kind.mend)(lab);
    });
    lab.wait_served("/one", "b", true);
    lab.wait_served("/two", "b", true);
    pause
}

/// Both exports go home under load.
fn giveback(lab: &mut Lab, kind: &Kind, i: usize) -> u64 {
    lab.under_load(&format!("{}-{i}-back", kind.name), LOAD_S, |lab| lab.give_back())
}
