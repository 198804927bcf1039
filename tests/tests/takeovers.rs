//! Goal: whatever way a primary goes, and however often, the pause that a client sees is short and costs it nothing.
//! Method: in the lab, takeovers of every kind one after the other under a load of fsync'ed writes, renames and removals by a real
//! kernel client, and of the same by a native one, which has no pauses of its own. What both were told is compared with what is
//! there, and the pauses of both are printed as a table.
//!
//! HANFS_TAKEOVERS=50 says how often each kind (1 where HANFS_TEST_LAB is set and it is not). HANFS_TAKEOVER_KINDS=killed,planned
//! chooses among them. Needs root.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use hanfs_tests::lab::{Kind, Lab, PAUSE_MS_MAX, kinds, wall_s};
use hanfs_tests::native::Native;

const PATH: &str = "/one";
const VIP: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 100);
/// After each event: a pause belongs to the event that it began with.
const SETTLE: Duration = Duration::from_millis(500);

/// When something happened, and until when its pauses count; [`wall_s`].
struct Window {
    from: f64,
    to: f64,
    native_ms: u64,
}

/// What both clients saw of one kind of event, ms.
#[derive(Default)]
struct Pauses {
    kernel: Vec<u64>,
    native: Vec<u64>,
}

impl Pauses {
    /// p50, p99 and the longest of both.
    fn cells(&mut self) -> String {
        let rank = |pauses: &mut Vec<u64>| {
            pauses.sort_unstable();
            let at = |percent: usize| pauses[(pauses.len() * percent).div_ceil(100).max(1) - 1];
            format!("{} / {} / {}", at(50), at(99), at(100))
        };
        format!("{} | {}", rank(&mut self.kernel), rank(&mut self.native))
    }
}

/// What was done and found in all.
#[derive(Default)]
struct Totals {
    events: usize,
    rounds: u64,
    calls: u64,
    sent_again: u64,
    files: usize,
}

#[test]
fn takeovers_of_every_kind_cost_clients_a_pause_and_nothing_else() {
    let Some(times) = hanfs_tests::lab::times(1) else { return };
    let mut lab = Lab::up();
    lab.start_all();
    lab.mount_all(&["c1"]);
    let mut table = String::from(
        "pauses in ms: p50 / p99 / longest\n\
         | event | times | kernel client | native client | giveback, kernel | giveback, native |\n\
         | --- | --- | --- | --- | --- | --- |\n",
    );
    let (mut totals, began) = (Totals::default(), Instant::now());
    for kind in kinds() {
        let [mut there, mut back] = repeat(&mut lab, kind, times, &mut totals);
        lab.assert_replicas_equal(kind.what);
        table += &format!("| {} | {times} | {} | {} |\n", kind.what, there.cells(), back.cells());
    }
    println!("{table}");
    println!(
        "{} takeovers and givebacks in {} s: 0 errors in programs of the kernel client ({} rounds of some ten operations); 0 of {} \
         calls of the native client failed, were lost or had a second effect ({} were sent again); {} files read back as acknowledged",
        totals.events,
        began.elapsed().as_secs(),
        totals.rounds,
        totals.calls,
        totals.sent_again,
        totals.files,
    );
    lab.client(120, "umount /mnt/one /mnt/two");
}

/// Node a goes under load and comes back, then both exports go home, again and again. The pauses of the takeovers, and those of the
/// givebacks. Fails the test if a program saw an error, or if something acknowledged is not there.
fn repeat(lab: &mut Lab, kind: &Kind, times: usize, totals: &mut Totals) -> [Pauses; 2] {
    let native = Native::start(PATH, VIP, kind.name);
    let load = lab.start_load(kind.name);
    let mut windows = Vec::new();
    for i in 0..times {
        let there = watch(&native, || {
            (kind.happen)(lab);
            lab.wait_served("/one", "b", false);
            (kind.mend)(lab);
            lab.wait_served("/one", "b", true);
            lab.wait_served("/two", "b", true);
        });
        let back = watch(&native, || lab.give_back());
        println!(
            "{} {i}: native client {} ms, giveback {} ms; {:.1} s in all",
            kind.name,
            there.native_ms,
            back.native_ms,
            back.to - there.from
        );
        windows.push([there, back]);
    }
    let kernel = lab.stop_load(load);
    let native = native.finish();
    totals.events += 2 * times;
    totals.rounds += kernel.rounds;
    totals.calls += native.stats.calls;
    totals.sent_again += native.stats.retransmissions;
    totals.files += native.files;
    [0, 1].map(|which| {
        let mut pauses = Pauses::default();
        for window in windows.iter().map(|pair| &pair[which]) {
            let kernel_ms = kernel.longest_ms(window.from, window.to);
            for ms in [kernel_ms, window.native_ms] {
                assert!(ms < PAUSE_MS_MAX, "{}: a client stalled for {ms} ms\n{}", kind.name, lab.describe());
            }
            pauses.kernel.push(kernel_ms);
            pauses.native.push(window.native_ms);
        }
        println!(
            "{}, {}: kernel client {:?} ms",
            kind.name,
            ["takeovers", "givebacks"][which],
            pauses.kernel
        );
        pauses
    })
}

/// Something happens, and what the native client sees of it.
fn watch(native: &Native, event: impl FnOnce()) -> Window {
    native.longest_ms();
    let from = wall_s();
    event();
    std::thread::sleep(SETTLE);
    Window { from, to: wall_s(), native_ms: native.longest_ms() }
}
