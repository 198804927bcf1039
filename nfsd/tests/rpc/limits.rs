//! Goal: what one client holds back, or asks for in another's name, costs what the limits say and no other client its
//! service. Method: real loopback sockets; clients that stop in the middle of a record, come in crowds, or ask for
//! much over UDP.

use std::net::{Ipv6Addr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use nfsd::server::{Limits, Tuple};
use parking_lot::Mutex;

use crate::bench::*;

const MIB: usize = 1 << 20;

/// The first `bytes` of a call of 1 MiB, and the rest.
fn cut(xid: u32, bytes: usize) -> (Vec<u8>, Vec<u8>) {
    let mut head = call(xid, ECHO, &vec![9; MIB]);
    let tail = head.split_off(bytes);
    (head, tail)
}

#[test]
fn the_connection_limit_is_the_nodes_and_an_idle_one_of_any_service_makes_room() {
    let bench = Bench::new(Limits { connections_max: 3, ..Limits::default() });
    let (tester, service, at) = bench.another();
    let mut here: Vec<Client> = (0..2).map(|_| bench.client()).collect();
    here.iter_mut().for_each(|client| client.null(1));
    let mut there = Client::connect(at);
    there.null(1);
    let in_flight = || bench.service.counts().calls_in_flight + service.counts().calls_in_flight;
    until("all are idle", || in_flight() == 0);
    let mut fourth = Client::connect(at);
    fourth.null(2);
    assert!(here[0].is_closed(), "the longest idle one, of the other service, is still there");
    assert_eq!((bench.service.counts().evicted, service.counts().evicted), (0, 1));
    // All busy: the next one waits, on whichever service, until one is idle.
    here[1].send(&call(3, HOLD, b""));
    there.send(&call(3, HOLD, b""));
    fourth.send(&call(3, HOLD, b""));
    until("three are busy", || bench.tester.held.lock().len() + tester.held.lock().len() == 3);
    let mut fifth = bench.client();
    fifth.send(&call(4, NULL, b""));
    fifth.0.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    assert!(fifth.0.peek(&mut [0]).is_err(), "served beyond the node's limit");
    assert_eq!(bench.service.counts().connections + service.counts().connections, 3);
    tester.release(0);
    fifth.0.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(fifth.success().0, 4);
}

#[test]
fn half_records_count_and_stop_nobody() {
    let bench = Bench::new(Limits { total_bytes_max: MIB, ..Limits::default() });
    let mut halves: Vec<(Client, Vec<u8>)> = (0..4)
        .map(|xid| {
            let (head, tail) = cut(xid, 600_000);
            let mut client = bench.client();
            client.send(&head);
            (client, tail)
        })
        .collect();
    until("what came of them is counted", || bench.server.bytes_in_flight() >= 4 * 600_000);
    let mut other = bench.client();
    (0..100).for_each(|xid| other.null(xid));
    let gone = halves.pop();
    for (xid, (client, tail)) in (0..).zip(&mut halves) {
        client.send(tail);
        assert_eq!(client.success(), (xid, vec![9; MIB]));
    }
    drop(gone);
    until("everything is given back", || bench.server.bytes_in_flight() == 0);
}

#[test]
fn a_record_that_does_not_get_on_is_closed_and_a_slow_one_is_not() {
    let limits = Limits {
        record_stall_ms: 2000,
        record_step_bytes: 1000,
        calls_in_flight_max: 1,
        ..Limits::default()
    };
    let bench = Bench::new(limits);
    // Not read while its first call is in progress: that is not its fault.
    let (mut waiting, second) = (bench.client(), call(2, ECHO, &[3; 40_000]));
    waiting.send(&[call(1, HOLD, b""), second[..20_000].to_vec()].concat());
    until("the first call is held", || !bench.tester.held.lock().is_empty());
    let mut idle = bench.client();
    idle.null(7);
    let slow_addr = bench.tcp;
    let slow = std::thread::spawn(move || {
        let mut slow = Client::connect(slow_addr);
        for part in call(5, ECHO, &[5; 30_000]).chunks(2500) {
            slow.send(part);
            std::thread::sleep(Duration::from_millis(250));
        }
        slow.success()
    });
    let mut stalled = bench.client();
    stalled.send(&cut(4, 100_000).0);
    // A byte now and then is no progress.
    let mut dripping = bench.client();
    dripping.send(&cut(4, 100).0);
    let mut drips = Client(dripping.0.try_clone().unwrap());
    let drip = std::thread::spawn(move || {
        while std::io::Write::write_all(&mut drips.0, &[0]).is_ok() {
            std::thread::sleep(Duration::from_millis(100));
        }
    });
    assert!(stalled.is_closed());
    assert!(dripping.is_closed());
    drip.join().unwrap();
    assert_eq!(slow.join().unwrap(), (5, vec![5; 30_000]), "a slow client was closed");
    idle.null(8);
    bench.tester.release(0);
    assert_eq!(waiting.success().0, 1);
    waiting.send(&second[20_000..]);
    assert_eq!(waiting.success(), (2, vec![3; 40_000]), "closed for what the server did not read");
    until("everything is given back", || bench.server.bytes_in_flight() == 0);
}

#[test]
fn a_forged_sender_gets_little_more_than_it_sent_and_small_answers_always_come() {
    let bench = Bench::new(Limits { udp_excess_bytes_per_s: 3000, ..Limits::default() });
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.connect(bench.udp).unwrap();
    for xid in 0..40 {
        client.send(&message(xid, PROGRAM, 3, BULK, &1000u32.to_be_bytes())).unwrap();
    }
    client.send(&message(100, PROGRAM, 3, ECHO, b"small")).unwrap();
    let (mut large, mut buf) = (0, [0; 2048]);
    loop {
        let n = client.recv(&mut buf).expect("a small answer was held back");
        if words(&buf[..4]) == [100] {
            break;
        }
        assert!(n > 1000);
        large += 1;
    }
    assert!((1..10).contains(&large), "{large} answers of 1000 bytes where three are allowed a second");
}

#[test]
fn an_ipv6_client_is_served_over_both_transports_and_known_by_its_address() {
    let seen: Arc<Mutex<Vec<Tuple>>> = Arc::default();
    let on_accept = {
        let seen = seen.clone();
        Arc::new(move |tuple| {
            seen.lock().push(tuple);
            Box::pin(async {}) as nfsd::server::BoxFuture
        })
    };
    let here = Ipv6Addr::LOCALHOST;
    if UdpSocket::bind((here, 0)).is_err() {
        return; // This host has no IPv6.
    }
    let bench = Bench::at(here.into(), Limits::default(), on_accept);
    let mut client = bench.client();
    client.null(1);
    assert_eq!(*seen.lock(), [Tuple { client: client.0.local_addr().unwrap(), server: bench.tcp }]);
    // A connected socket hears only the address that it asked.
    let client = UdpSocket::bind((here, 0)).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.connect(bench.udp).unwrap();
    client.send(&message(2, PROGRAM, 3, ECHO, b"six!")).unwrap();
    let mut buf = [0; 64];
    let n = client.recv(&mut buf).unwrap();
    assert_eq!(&buf[24..n], b"six!");
}
