//! Goal: a client that has restarted holds nothing, another one keeps what it has; strangers' orders are refused; where
//! lock state was lost, clients hear of it and get their locks back. Method: hosts that lock, notify, are notified.

use proto::op::Incarnation;
use proto::op::op::Kind;

use crate::client::*;
use crate::harness::*;
use crate::xdr::*;

const NOTIFY: u32 = 6;

fn notify(client: &Client, by: By, name: &str, state: u32) {
    let args = Out::default().bytes(name.as_bytes()).u32(state).0;
    assert_eq!(client.call(by, NSM, 1, NOTIFY, &args), (0, vec![]));
}

/// A lock of ten bytes of its own.
fn lock(bench: &Bench, client: &Client, offset: u64) {
    let mut want = client.want(4, &bench.fh(b"f"));
    want.lock.offset = offset;
    assert_eq!(client.lock(&want), GRANTED);
}

#[test]
fn a_restart_frees_the_clients_own_locks() {
    for by in [By::Udp, By::Tcp] {
        let bench = Bench::new();
        let (a, b) = (Client::deaf(&bench, 2), Client::deaf(&bench, 3));
        lock(&bench, &a, 0);
        lock(&bench, &b, 100);
        notify(&a, by, "whatever", 5);
        assert_eq!(bench.held(), [(3, 1, true, 100, 10)]);
        notify(&Client::deaf(&bench, 7), by, "stranger", 5);
        assert_eq!(bench.held(), [(3, 1, true, 100, 10)], "a stranger frees nothing");
    }
}

#[test]
fn a_restart_lets_who_waited_have_the_lock() {
    let bench = Bench::new();
    let (a, b) = (Client::deaf(&bench, 2), Client::new(&bench, 3));
    lock(&bench, &a, 0);
    let of_b = Want { block: true, ..b.want(4, &bench.fh(b"f")) };
    assert_eq!(b.lock(&of_b), BLOCKED);
    notify(&a, By::Udp, "host2", 5);
    b.hears_granted(&of_b);
}

#[test]
fn a_late_notification_does_not_free_what_was_locked_after_the_restart() {
    let bench = Bench::new();
    let a = Client::deaf(&bench, 2);
    // Wants carry state 3: this is the notification of the restart before.
    lock(&bench, &a, 0);
    notify(&a, By::Udp, "host2", 3);
    assert_eq!(bench.held(), [(2, 1, true, 0, 10)]);
}

#[test]
fn a_host_that_notifies_from_another_address_is_known_by_its_name() {
    let bench = Bench::new();
    let (a, b) = (Client::deaf(&bench, 2), Client::deaf(&bench, 3).named("localhost"));
    lock(&bench, &a, 0);
    lock(&bench, &b, 100);
    let elsewhere = Client::deaf(&bench, 8);
    notify(&elsewhere, By::Udp, "localhost", 5);
    assert_eq!(bench.held().len(), 2, "everybody's name is nobody's");
    notify(&elsewhere, By::Udp, "host2", 5);
    assert_eq!(bench.held(), [(3, 1, true, 100, 10)]);
}

#[test]
fn strangers_orders_are_refused() {
    let bench = Bench::new();
    let client = Client::deaf(&bench, 2);
    lock(&bench, &client, 0);
    let name = Out::default().bytes(b"victim");
    let me = |out: Out| out.bytes(b"me").u32(NLM).u32(4).u32(16);
    let mut mon = me(name.clone());
    mon.0.extend([0; 16]);
    let call = |procedure, args: &[u8]| client.call(By::Udp, NSM, 1, procedure, args);
    assert_eq!(call(1, &name.0), (0, Out::default().u32(1).u32(1).0), "STAT: stat_fail, up");
    assert_eq!(call(2, &mon.0), (0, Out::default().u32(1).u32(u32::MAX).0), "MON: stat_fail");
    assert_eq!(call(3, &me(name).0), (0, Out::default().u32(1).0), "UNMON");
    assert_eq!(call(4, &me(Out::default()).0), (0, Out::default().u32(1).0), "UNMON_ALL");
    assert_eq!(call(5, &[]), (0, vec![]), "SIMU_CRASH");
    assert_eq!(call(7, &[]).0, 3);
    for procedure in [1, 2, 3, 4, 6] {
        assert_eq!(call(procedure, &[0, 0]).0, 4, "GARBAGE_ARGS");
    }
    assert_eq!(bench.held().len(), 1);
}

#[test]
fn lost_locks_are_claimed_again_and_nobody_comes_first() {
    let bench = Bench::with(false, std::time::Duration::from_secs(4));
    let (a, b) = (Client::new(&bench, 2), Client::new(&bench, 3));
    lock(&bench, &a, 0);
    bench.propose(Kind::Incarnation(Incarnation { verifier: 8, node: "other".into(), locks_lost: true }));
    assert!(bench.fs.in_grace());
    let heard = a.hear();
    assert_eq!((heard.program, heard.procedure, heard.from.ip()), (NSM, NOTIFY, VIP.into()));
    let mut d = In(&heard.args);
    assert_eq!(d.bytes(), VIP.to_string().as_bytes(), "the name by which the client monitors the server");
    assert_eq!(d.u32() % 2, 1, "up");
    d.end();
    assert_eq!(b.lock(&b.want(4, &bench.fh(b"f"))), GRACE);
    let reclaim = Want { reclaim: true, ..a.want(4, &bench.fh(b"f")) };
    assert_eq!(a.lock(&reclaim), GRANTED);
    until("the grace ends", || !bench.fs.in_grace());
    assert_eq!(b.lock(&b.want(4, &bench.fh(b"f"))), DENIED);
    assert_eq!(
        a.lock(&Want { reclaim: true, lock: a.want(4, &bench.fh(b"g")).lock, ..reclaim }),
        GRACE,
        "too late"
    );
    b.hears_nothing();
}
