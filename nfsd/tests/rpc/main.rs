//! Goal: what an RPC client is owed, whatever the other clients do: each call answered once or the connection
//! closed, in any order, with bounded memory. Method: real loopback sockets, a program made for the test.

mod bench;
mod limits;
mod rpcbind;

use std::net::UdpSocket;
use std::sync::Arc;
use std::time::Duration;

use bench::*;
use nfsd::server::{Limits, Tuple};
use parking_lot::Mutex;

#[test]
fn pipelined_calls_are_answered_out_of_order() {
    let bench = Bench::new(Limits::default());
    let mut client = bench.client();
    client.send(&[call(1, HOLD, b""), call(2, HOLD, b""), call(3, ECHO, b"abcd")].concat());
    assert_eq!(client.success(), (3, b"abcd".to_vec()), "a slow call holds up a fast one");
    bench.tester.release(1);
    assert_eq!(client.success(), (2, 2u32.to_be_bytes().to_vec()));
    bench.tester.release(0);
    assert_eq!(client.success(), (1, 1u32.to_be_bytes().to_vec()));
    until("nothing in flight", || bench.service.counts().calls_in_flight == 0);
    assert_eq!(bench.server.bytes_in_flight(), 0, "bytes are not given back");
}

#[test]
fn thousands_of_calls_in_one_stream_are_all_answered() {
    let bench = Bench::new(Limits::default());
    let mut client = bench.client();
    let mut writer = Client(client.0.try_clone().unwrap());
    let sender = std::thread::spawn(move || {
        for batch in 0..20 {
            let calls: Vec<u8> = (0..500).flat_map(|i| call(batch * 500 + i, ECHO, &[i as u8; 8])).collect();
            writer.send(&calls);
        }
    });
    for xid in 0..10_000 {
        assert_eq!(client.success(), (xid, vec![(xid % 500) as u8; 8]));
    }
    sender.join().unwrap();
}

#[test]
fn large_records_and_replies_go_through_whole() {
    let bench = Bench::new(Limits::default());
    let mut client = bench.client();
    let data: Vec<u8> = (0..1 << 20).map(|i| (i % 251) as u8).collect();
    for xid in 0..8 {
        client.send(&call(xid, ECHO, &data));
        client.send(&call(xid + 100, NULL, b""));
        assert_eq!(client.success(), (xid, data.clone()));
        client.success();
    }
}

#[test]
fn a_record_in_fragments_of_one_byte_is_one_call() {
    let bench = Bench::new(Limits::default());
    let mut client = bench.client();
    let whole = message(9, PROGRAM, 3, ECHO, b"xyz!");
    let last = whole.len() - 1;
    for (i, byte) in whole.iter().enumerate() {
        let mark: u32 = 1 | if i == last { 1 << 31 } else { 0 };
        client.send(&[&mark.to_be_bytes()[..], &[*byte]].concat());
    }
    assert_eq!(client.success(), (9, b"xyz!".to_vec()));
}

#[test]
fn streams_that_are_not_rpc_are_closed_and_hurt_nobody() {
    let limits = Limits { record_bytes_max: 100_000, fragments_max: 50, ..Limits::default() };
    let bench = Bench::new(limits);
    let mut bystander = bench.client();
    let mut reply = message(1, PROGRAM, 3, NULL, b"");
    reply[7] = 1;
    let cases: [(&str, Vec<u8>); 6] = [
        ("oversized record", (100_001u32 | 1 << 31).to_be_bytes().to_vec()),
        ("fragment bomb", [0u8; 4].repeat(51)),
        ("garbage", b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n".to_vec()),
        ("empty record", (1u32 << 31).to_be_bytes().to_vec()),
        ("a reply", record(&reply)),
        ("half a header", record(&message(1, PROGRAM, 3, NULL, b"")[..20])),
    ];
    for (what, bytes) in cases {
        let mut client = bench.client();
        client.send(&bytes);
        assert!(client.is_closed(), "{what} was answered");
        bystander.null(5);
    }
    let mut client = bench.client();
    client.send(&call(1, NULL, b"")[..30]);
    client.0.shutdown(std::net::Shutdown::Write).unwrap();
    assert!(client.is_closed(), "a truncated record was answered");
    until("only the bystander is left", || bench.service.counts().connections == 1);
    assert_eq!(bench.server.bytes_in_flight(), 0);
}

#[test]
fn what_is_not_served_is_refused_as_rfc_5531_says() {
    let bench = Bench::new(Limits::default());
    let mut client = bench.client();
    let mut ask = |message: &[u8]| {
        client.send(&record(message));
        words(&client.reply().expect("closed instead of refused"))
    };
    assert_eq!(ask(&message(1, 100_227, 3, 0, b"")), [1, 1, 0, 0, 0, 1], "PROG_UNAVAIL");
    assert_eq!(ask(&message(2, PROGRAM, 5, 0, b"")), [2, 1, 0, 0, 0, 2, 2, 4], "PROG_MISMATCH");
    assert_eq!(ask(&message(3, PROGRAM, 1, 0, b"")), [3, 1, 0, 0, 0, 2, 2, 4], "PROG_MISMATCH");
    assert_eq!(ask(&message(4, PROGRAM, 3, 99, b"")), [4, 1, 0, 0, 0, 3], "PROC_UNAVAIL");
    assert_eq!(ask(&message(5, PROGRAM, 3, BULK, b"")), [5, 1, 0, 0, 0, 4], "GARBAGE_ARGS");
    let mut other = message(6, PROGRAM, 3, 0, b"");
    other[11] = 3;
    assert_eq!(ask(&other), [6, 1, 1, 0, 2, 2], "RPC_MISMATCH");
    let mut flavour = message(7, PROGRAM, 3, 0, b"");
    flavour[27] = 6;
    assert_eq!(ask(&flavour), [7, 1, 1, 1, 5], "AUTH_TOOWEAK");
    flavour[27] = 1;
    assert_eq!(ask(&flavour), [7, 1, 1, 1, 1], "AUTH_BADCRED");
    assert_eq!(ask(&message(8, PROGRAM, 3, 0, b"")), [8, 1, 0, 0, 0, 0], "the connection goes on");
}

#[test]
fn a_call_whose_responder_is_dropped_closes_the_connection() {
    let bench = Bench::new(Limits::default());
    let (mut client, mut other) = (bench.client(), bench.client());
    other.null(1);
    client.send(&call(1, FORGET, b""));
    assert!(client.is_closed());
    other.null(2);
    let mut client = bench.client();
    client.send(&call(1, HOLD, b""));
    until("the call is held", || !bench.tester.held.lock().is_empty());
    let (_, responder) = bench.tester.held.lock().remove(0);
    std::thread::spawn(move || drop(responder)).join().unwrap();
    assert!(client.is_closed(), "dropped on another thread, while the connection's task slept");
}

#[test]
fn beyond_its_calls_in_flight_a_connection_is_not_read() {
    let bench = Bench::new(Limits { calls_in_flight_max: 4, ..Limits::default() });
    let mut client = bench.client();
    let calls: Vec<u8> = (0..40).flat_map(|xid| call(xid, HOLD, b"")).collect();
    client.send(&calls);
    until("the limit is reached", || bench.tester.calls() == 4);
    // Another connection's calls go through the same runtime: by the time they are answered, a fifth call
    // would have been taken.
    let mut other = bench.client();
    (0..100).for_each(|xid| other.null(xid));
    assert_eq!(bench.tester.held.lock().len(), 4, "more calls in flight than the limit");
    for xid in 0..40 {
        until("the next call is held", || !bench.tester.held.lock().is_empty());
        bench.tester.release(0);
        assert_eq!(client.success().0, xid);
    }
}

#[test]
fn a_client_that_never_reads_costs_what_the_limit_says_and_stops_nobody() {
    let (reply, limit) = (1 << 20, 4 << 20);
    let limits = Limits { connection_bytes_max: limit, total_bytes_max: 2 * limit, ..Limits::default() };
    let bench = Bench::new(limits);
    let mut deaf: Vec<Client> = (0..6).map(|_| bench.client()).collect();
    for client in &mut deaf {
        let calls: Vec<u8> =
            (0..100).flat_map(|xid| call(xid, BULK, &(reply as u32).to_be_bytes())).collect();
        client.send(&calls);
    }
    until("the limit is reached", || bench.server.bytes_in_flight() >= 2 * limit);
    let mut other = bench.client();
    (0..200).for_each(|xid| other.null(xid));
    let bytes = bench.server.bytes_in_flight();
    assert!(bytes <= 2 * limit + 7 * (reply + 4096), "{bytes} bytes in memory");
    let first = &mut deaf[0];
    for xid in 0..100 {
        let (got, data) = first.success();
        assert_eq!((got, data.len()), (xid, reply + 4), "a reply is lost once it reads again");
    }
    drop(deaf);
    until("everything is given back", || bench.server.bytes_in_flight() == 0);
}

#[test]
fn beyond_the_connection_limit_the_longest_idle_one_makes_room() {
    let bench = Bench::new(Limits { connections_max: 3, ..Limits::default() });
    let mut clients: Vec<Client> = (0..3).map(|_| bench.client()).collect();
    for i in [1, 0, 2] {
        clients[i].null(1);
    }
    let mut fourth = bench.client();
    fourth.null(4);
    assert!(clients[1].is_closed(), "not the longest idle one was closed");
    clients[0].null(5);
    clients[2].null(6);
    assert_eq!(bench.service.counts().evicted, 1);
}

#[test]
fn busy_connections_are_not_closed_for_a_new_one_which_waits() {
    let bench = Bench::new(Limits { connections_max: 2, ..Limits::default() });
    let mut busy: Vec<Client> = (0..2).map(|_| bench.client()).collect();
    for client in &mut busy {
        client.send(&call(1, HOLD, b""));
    }
    until("both are busy", || bench.tester.held.lock().len() == 2);
    let mut third = bench.client();
    third.send(&call(3, NULL, b""));
    third.0.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    assert!(third.0.peek(&mut [0]).is_err(), "served beyond the limit");
    bench.tester.release(0);
    bench.tester.release(0);
    third.0.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(third.success().0, 3);
}

#[test]
fn nothing_is_read_before_the_tuple_is_known() {
    let seen: Arc<Mutex<Option<Tuple>>> = Arc::default();
    let (open, gate) = tokio::sync::watch::channel(false);
    let on_accept = {
        let seen = seen.clone();
        Arc::new(move |tuple| {
            *seen.lock() = Some(tuple);
            let mut gate = gate.clone();
            let wait = async move {
                _ = gate.wait_for(|open| *open).await;
            };
            Box::pin(wait) as nfsd::server::BoxFuture
        })
    };
    let bench = Bench::with(Limits::default(), on_accept);
    let mut client = bench.client();
    client.send(&call(1, NULL, b""));
    until("the tuple is reported", || seen.lock().is_some());
    let tuple = Tuple { client: client.0.local_addr().unwrap(), server: bench.tcp };
    assert_eq!(*seen.lock(), Some(tuple));
    assert_eq!(bench.tester.calls(), 0, "a call was taken before its tuple was known");
    open.send(true).unwrap();
    assert_eq!(client.success().0, 1);
}

#[test]
fn draining_answers_what_was_taken_and_takes_no_more() {
    let bench = Bench::new(Limits::default());
    let mut client = bench.client();
    client.send(&[call(1, HOLD, b""), call(2, HOLD, b"")].concat());
    until("both are held", || bench.tester.held.lock().len() == 2);
    let short = bench.runtime.block_on(bench.service.drain(Duration::from_millis(1)));
    assert_eq!(short.unwrap_err().calls, 2);
    client.send(&call(3, NULL, b""));
    bench.tester.release(0);
    bench.tester.release(0);
    bench.runtime.block_on(bench.service.drain(PATIENCE)).unwrap();
    assert_eq!(client.success().0, 1);
    assert_eq!(client.success().0, 2);
    assert_eq!(bench.tester.calls(), 2, "a call was taken while draining");
    bench.service.resume();
    assert_eq!(client.success().0, 3, "a call is lost when a takeover is called off");
    bench.client().null(4);
}

#[test]
fn a_call_behind_the_last_one_taken_is_not_lost_by_draining() {
    let bench = Bench::new(Limits::default());
    let mut client = bench.client();
    let gate = bench.tester.gate.lock();
    client.send(&[call(1, BLOCK, b""), call(2, NULL, b"")].concat());
    until("the first call is taken", || bench.tester.calls() == 1);
    bench.runtime.block_on(bench.service.drain(Duration::from_millis(1))).unwrap_err();
    drop(gate);
    bench.runtime.block_on(bench.service.drain(PATIENCE)).unwrap();
    assert_eq!(client.success().0, 1);
    assert_eq!(bench.tester.calls(), 1, "a call was taken after draining had begun");
    bench.service.resume();
    assert_eq!(client.success().0, 2);
}

#[test]
fn draining_under_load_loses_no_reply() {
    let bench = Bench::new(Limits::default());
    let addr = bench.tcp;
    let clients: Vec<_> = (0..4)
        .map(|_| {
            std::thread::spawn(move || {
                let mut client = Client::connect(addr);
                let mut answered = 0;
                client.0.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
                loop {
                    let calls: Vec<u8> = (0..16).flat_map(|i| call(i, ECHO, &[1; 64])).collect();
                    client.send(&calls);
                    for _ in 0..16 {
                        // No answer for so long: the drain has begun.
                        if client.0.peek(&mut [0]).is_err() {
                            return answered;
                        }
                        client.success();
                        answered += 1;
                    }
                }
            })
        })
        .collect();
    until("load is on", || bench.tester.calls() > 2000);
    bench.runtime.block_on(bench.service.drain(PATIENCE)).unwrap();
    let taken = bench.tester.calls();
    let answered: usize = clients.into_iter().map(|c| c.join().unwrap()).sum();
    assert_eq!(answered, taken, "a call was taken and its reply never came");
    assert_eq!(bench.tester.calls(), taken, "a call was taken after draining");
}

#[test]
fn a_reset_is_heard_at_once_by_clients_with_calls_outstanding() {
    let bench = Bench::new(Limits::default());
    let mut client = bench.client();
    client.send(&call(1, HOLD, b""));
    until("the call is held", || bench.tester.held.lock().len() == 1);
    bench.service.reset();
    let error = std::io::Read::read(&mut client.0, &mut [0]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    bench.runtime.block_on(bench.service.ended());
    bench.tester.release(0);
    assert_eq!(bench.server.bytes_in_flight(), 0, "a late answer's bytes are not given back");
    until("the listener is closed", || std::net::TcpStream::connect(bench.tcp).is_err());
}

#[test]
fn a_silent_close_is_not_an_end_of_stream() {
    let bench = Bench::new(Limits::default());
    let mut client = bench.client();
    client.null(1);
    bench.service.close_silently();
    bench.runtime.block_on(bench.service.ended());
    client.0.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    // Nothing with CAP_NET_ADMIN, RST without; a FIN would make the client wait for an answer to its own.
    let error = std::io::Read::read(&mut client.0, &mut [0]).expect_err("the client heard a FIN");
    let (nothing, reset) = (std::io::ErrorKind::WouldBlock, std::io::ErrorKind::ConnectionReset);
    assert!([nothing, reset].contains(&error.kind()), "{error}");
}

#[test]
fn idle_connections_are_closed_where_the_limits_say_so_and_busy_ones_are_not() {
    let bench = Bench::new(Limits { idle_s: 1, ..Limits::default() });
    let (mut idle, mut busy) = (bench.client(), bench.client());
    idle.null(1);
    busy.send(&call(2, HOLD, b""));
    assert!(idle.is_closed());
    bench.tester.release(0);
    assert_eq!(busy.success().0, 2);
}

#[test]
fn udp_answers_from_the_address_it_was_asked_at_and_ignores_what_is_no_call() {
    let bench = Bench::new(Limits::default());
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.connect(bench.udp).unwrap();
    let ask = |bytes: &[u8]| {
        client.send(bytes).unwrap();
        let mut buf = [0; 2048];
        let n = client.recv(&mut buf).unwrap();
        buf[..n].to_vec()
    };
    let mut reply = message(1, PROGRAM, 3, NULL, b"");
    reply[7] = 1;
    client.send(&reply).unwrap();
    client.send(b"?").unwrap();
    client.send(b"").unwrap();
    client.send(&message(2, PROGRAM, 3, FORGET, b"")).unwrap();
    let answer = ask(&message(3, PROGRAM, 3, ECHO, b"over udp"));
    assert_eq!(words(&answer[..24]), [3, 1, 0, 0, 0, 0]);
    assert_eq!(&answer[24..], b"over udp");
    assert_eq!(words(&ask(&message(4, 100_227, 3, 0, b""))), [4, 1, 0, 0, 0, 1]);
    until("nothing in flight", || bench.server.bytes_in_flight() == 0);
}
