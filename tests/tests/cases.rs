//! Goal: the four cases in which a kernel client could wait far longer than the takeover takes, do not: a call that was
//! acknowledged by TCP and never answered, firewalls that drop what conntrack calls invalid, a connection attempt under way, and an
//! outstanding lock call. Method: the lab; one small operation after the other on the client, so that one is under way when
//! it happens. The outage is what a probe on the new node's own host sees: from the event until that node answers there, with no
//! network and no old connection in between. The client's stall is to be no more than 0.3 s longer; the table says what it was,
//! the assertion is looser, for the machine is emulated and shared.
//!
//! Needs root; runs where HANFS_TEST_LAB is set.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use hanfs_tests::lab::{Lab, text};
use hanfs_tests::probe::{Board, Probe, VipWatch, within};
use serde_json::Value;

const VIP: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 100);
const HOST_B: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 12);
/// After SIGSTOP: the next call has left and its acknowledgement, which a kernel may delay by 40 ms, is there.
const ACKED: Duration = Duration::from_millis(100);
/// A firewall that knows only connections that it saw beginning or going on.
const FIREWALL: &str = "table inet firewall { chain i { type filter hook input priority 0; \
                        ct state invalid counter drop; ct state established counter accept; }; }";

struct Case {
    name: &'static str,
    /// What the client does all the time; see pulse.py.
    pulse: &'static str,
    prepare: fn(&Lab),
    happen: fn(&mut Lab),
    /// Afterwards: the premise held, as the client saw it.
    premise: fn(&Lab, &Value),
    /// All is as before.
    mend: fn(&mut Lab),
}

const CASES: [Case; 4] = [
    Case {
        name: "call acknowledged, not answered",
        pulse: "write",
        prepare: |_| (),
        happen: stop_and_lose,
        premise: |_, _| (),
        mend: |lab| lab.host_returns("a"),
    },
    Case {
        name: "ct state invalid drop on client and new node",
        pulse: "write",
        prepare: |lab| {
            lab.client(60, &format!("nft '{FIREWALL}'"));
            lab.in_node("b", &["nft", FIREWALL]);
        },
        happen: |lab| lab.lose_host("a"),
        premise: |lab, _| {
            let list = "nft list table inet firewall";
            for (who, rules) in [
                ("the client", lab.client(60, list)),
                ("b", lab.in_node("b", &list.split(' ').collect::<Vec<_>>())),
            ] {
                let lines: Vec<&str> =
                    rules.lines().filter(|line| line.contains("counter")).map(str::trim).collect();
                println!("firewall of {who}: {lines:?}");
                let passed = lines.iter().any(|l| l.contains("established") && !l.contains("packets 0 "));
                assert!(passed, "conntrack knows no connection on {who}: {rules}");
            }
        },
        mend: |lab| {
            lab.client(60, "nft delete table inet firewall");
            lab.in_node("b", &["nft", "delete", "table", "inet", "firewall"]);
            lab.host_returns("a");
        },
    },
    Case {
        name: "client in SYN_SENT",
        pulse: "write",
        prepare: |_| (),
        // The reset of a killed server gets through, the client's new SYN does not.
        happen: |lab| {
            lab.net(&["block", "a", "clients", "in"]);
            lab.kill_server("a");
        },
        premise: |_, saw| {
            assert!(saw["states"].to_string().contains("SYN_SENT"), "no SYN was under way: {saw}")
        },
        mend: |lab| lab.net(&["heal"]),
    },
    Case {
        name: "NLM call outstanding",
        pulse: "lock",
        prepare: |_| (),
        happen: stop_and_lose,
        premise: |_, _| (),
        mend: |lab| lab.host_returns("a"),
    },
];

/// The server reads nothing any more and its kernel goes on acknowledging; a moment later the host is gone.
fn stop_and_lose(lab: &mut Lab) {
    lab.stop_server("a");
    std::thread::sleep(ACKED);
    lab.lose_host("a");
}

#[test]
fn a_client_waits_no_longer_than_the_takeover_takes() {
    if hanfs_tests::lab::times(1).is_none() {
        return;
    }
    let mut lab = Lab::up();
    lab.start_all();
    lab.mount_all(&["c1"]);
    lab.put("c1", "pulse.py");
    let board = within("net", || Board::new("/one", VIP, &["on-b"])).expect("mount");
    let _probe = Probe::start(&board, 0, "b", Some(HOST_B));
    let vip = VipWatch::start(VIP);
    let mut table =
        "| case | address on the new node ms | outage ms | stall of the client ms | beyond the outage ms |\n\
                     | --- | --- | --- | --- | --- |\n"
            .to_owned();
    for (number, case) in CASES.iter().enumerate() {
        (case.prepare)(&lab);
        let pulse = start(&lab, case.pulse, number);
        let event = Instant::now();
        (case.happen)(&mut lab);
        lab.wait_served("/one", "b", false);
        lab.wait("the new node answers on its own host", || !board.acks_since(0, event).is_empty());
        let outage =
            board.acks_since(0, event).iter().map(|ack| ack.answered - event).min().unwrap_or_default();
        let raised = vip.on_b_since(event).map_or(Duration::ZERO, |at| at - event);
        let saw = stop(&lab, pulse, number);
        (case.premise)(&lab, &saw);
        let slow = saw["slow"].as_array().cloned().unwrap_or_default();
        let stall_ms = slow.iter().filter_map(|pair| pair[1].as_u64()).max().unwrap_or_default();
        let outage_ms = outage.as_millis() as u64;
        let beyond = stall_ms as i64 - outage_ms as i64;
        let row = format!("| {} | {} | {outage_ms} | {stall_ms} | {beyond} |", case.name, raised.as_millis());
        println!("{row} {saw}");
        table += &format!("{row}\n");
        assert!(stall_ms > 0, "{}: the client noticed nothing: {saw}", case.name);
        assert!(
            stall_ms <= 3 * outage_ms + 2000,
            "{}: the client waited for {stall_ms} ms, the outage was {outage_ms} ms\n{}",
            case.name,
            lab.describe()
        );
        (case.mend)(&mut lab);
        lab.wait_served("/one", "b", true);
        lab.wait_served("/two", "b", true);
        lab.give_back();
    }
    assert!(board.wrong().is_empty(), "{:?}", board.wrong());
    lab.assert_replicas_equal("at the end");
    println!("{table}");
    lab.client(120, "umount /mnt/one /mnt/two");
}

/// The client is at it.
fn start(lab: &Lab, what: &str, number: usize) -> std::thread::JoinHandle<std::process::Output> {
    let client = lab.access("c1");
    let script = format!(
        "rm -f /root/ready /root/stop; python3 /root/pulse.py {what} /mnt/one/pulse{number} /root/ready /root/stop"
    );
    lab.client(30, "rm -f /root/ready");
    let pulse = std::thread::spawn(move || client.run(300, &script));
    lab.client(60, "until [ -e /root/ready ]; do sleep 0.1; done");
    pulse
}

/// It ends; what it says.
fn stop(lab: &Lab, pulse: std::thread::JoinHandle<std::process::Output>, number: usize) -> Value {
    lab.client(60, "touch /root/stop");
    let out = pulse.join().expect("it ran");
    assert!(out.status.success(), "pulse {number}: {}\n{}", text(&out), lab.describe());
    serde_json::from_slice(&out.stdout).expect("JSON")
}
