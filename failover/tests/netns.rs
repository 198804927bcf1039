//! Goal: addresses really come, expire and go; the segment hears of it; and a client whose server vanished without a
//! word finds out at the tickle.
//! Method: the real netlink driver in network namespaces of its own, against the kernel itself. Each test
//! starts itself anew under `unshare -n`; without root it is skipped with a message.

mod common;

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::process::Command;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use common::peer::{FakePeer, gone, tuple, up};
use common::{EXPORT, Guardian, LEASE, PORT, alive, signal, state, until};
use failover::net::carrier::Carrier;
use failover::net::listen::{Listeners, reset};
use failover::net::netlink::{LIFETIME_S, NetlinkVip, VipConfig};
use failover::net::packet::{ArpForm, Mac, gratuitous_arp, unsolicited_na};
use failover::net::{Port, Tuple, Vip, VipError};
use proto::peer::guardian_order::Kind as Order;
use rustix::process::Signal;
use socket2::{Domain, Protocol, Socket, Type};

const V4: &str = "10.9.0.100";
const V6: &str = "fd09::100";
const ENV_INSIDE: &str = "FAKE_NETNS";

#[test]
fn role() {
    common::role();
}

/// True inside a new network namespace with the pair v0 (10.9.0.1, fd09::1) and v1; false: the test ran there.
fn inside(test: &str) -> bool {
    if std::env::var_os(ENV_INSIDE).is_some() {
        for line in [
            "link set lo up",
            "link add v0 type veth peer name v1",
            "link set v0 up",
            "link set v1 up",
            "addr add 10.9.0.1/24 dev v0",
            "addr add fd09::1/64 dev v0 nodad",
        ] {
            ip(line);
        }
        return true;
    }
    if !rustix::process::geteuid().is_root() {
        eprintln!("{test}: SKIPPED, it needs root for a network namespace");
        return false;
    }
    let exe = std::env::current_exe().unwrap();
    let status = Command::new("unshare")
        .args(["-n", "--"])
        .arg(exe)
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(ENV_INSIDE, "1")
        .status()
        .unwrap();
    assert!(status.success(), "{test} failed in its namespace: {status}");
    false
}

fn ip(arguments: &str) -> String {
    let out = Command::new("ip").args(arguments.split(' ')).output().unwrap();
    assert!(out.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

/// What the kernel says about the address, or nothing.
fn shown(vip: IpAddr) -> String {
    let all = ip("-o addr show");
    all.lines().find(|l| l.contains(&format!(" {vip}/"))).unwrap_or_default().to_owned()
}

fn vips() -> [IpAddr; 2] {
    [V4.parse().unwrap(), V6.parse().unwrap()]
}

fn driver() -> NetlinkVip {
    NetlinkVip::open(vips().map(|vip| VipConfig { vip, interface: None })).unwrap()
}

fn mac() -> Mac {
    let link = ip("-o link show v0");
    let text = link.split("link/ether ").nth(1).unwrap().split(' ').next().unwrap();
    let bytes: Vec<u8> = text.split(':').map(|b| u8::from_str_radix(b, 16).unwrap()).collect();
    bytes.try_into().unwrap()
}

fn run<F: Future>(f: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(f)
}

#[test]
fn address_comes_stays_while_renewed_and_expires_by_itself() {
    if !inside("address_comes_stays_while_renewed_and_expires_by_itself") {
        return;
    }
    run(async {
        let mut driver = driver();
        let vips = vips();
        for vip in vips {
            driver.add(vip).await.unwrap();
            let line = shown(vip);
            assert!(line.contains(" v0 "), "on the interface of its subnet: {line}");
            assert!(line.contains("valid_lft") && !line.contains("valid_lft forever"), "{line}");
            assert!(!line.contains("tentative"), "usable at once: {line}");
        }
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(u64::from(LIFETIME_S) + 2) {
            tokio::time::sleep(Duration::from_millis(500)).await;
            for vip in vips {
                assert!(!shown(vip).is_empty(), "renewed, so {vip} stays");
                driver.add(vip).await.unwrap();
            }
        }
        // Now as if the guardian had been killed.
        drop(driver);
        let took = until("the kernel takes both away", || vips.iter().all(|v| shown(*v).is_empty()));
        println!("expired after {took:?}");
        assert!(took < Duration::from_secs(u64::from(LIFETIME_S) + 2), "{took:?}");
    });
}

#[test]
fn address_goes_on_demand_and_leftovers_go_at_start() {
    if !inside("address_goes_on_demand_and_leftovers_go_at_start") {
        return;
    }
    run(async {
        let mut driver = driver();
        for vip in vips() {
            assert!(!driver.delete(vip).await.unwrap(), "not there yet");
            driver.add(vip).await.unwrap();
            assert!(driver.delete(vip).await.unwrap());
            assert_eq!(shown(vip), "");
        }
        // From an earlier life, on another interface and with another prefix.
        ip(&format!("addr add {V4}/24 dev v1"));
        ip(&format!("addr add {V6}/64 dev v1 nodad"));
        assert_eq!(driver.clear_stale().await.unwrap().len(), 2);
        assert!(vips().iter().all(|v| shown(*v).is_empty()));
        assert!(ip("-o addr show").contains("10.9.0.1/24"), "nothing else is touched");

        let far: IpAddr = "192.0.2.1".parse().unwrap();
        let named = VipConfig { vip: far, interface: Some("nosuch".into()) };
        let mut other = NetlinkVip::open([named]).unwrap();
        assert!(matches!(other.add(far).await, Err(VipError::UnknownInterface { .. })));
        let mut other = NetlinkVip::open([VipConfig { vip: far, interface: None }]).unwrap();
        assert!(matches!(other.add(far).await, Err(VipError::NoInterface { .. })));
        let mut other = NetlinkVip::open([VipConfig { vip: far, interface: Some("v0".into()) }]).unwrap();
        other.add(far).await.unwrap();
        assert!(shown(far).contains(" v0 "), "a named interface needs no subnet");
    });
}

/// The loss of a client network is known at once, for each address by its own interface.
#[test]
fn a_lost_carrier_is_seen() {
    if !inside("a_lost_carrier_is_seen") {
        return;
    }
    run(async {
        let [v4, v6] = vips();
        ip("link add w0 type veth peer name w1");
        ip("link set w1 up");
        ip("link set w0 up");
        let mut carrier = Carrier::open().unwrap();
        let mut see = async |what: &str, wanted: [bool; 4]| {
            let until = Instant::now() + Duration::from_secs(10);
            loop {
                let seen = carrier.look().await.unwrap();
                let far = "192.0.2.1".parse().unwrap();
                let is = [
                    seen.is_connected(v4, None),
                    seen.is_connected(v6, None),
                    seen.is_connected(v4, Some("w0")),
                    seen.is_connected(far, None),
                ];
                if is == wanted {
                    break;
                }
                assert!(Instant::now() < until, "{what}: {is:?}, not {wanted:?}");
                // A change must say so itself: nothing is looked at again by the clock.
                let _ = tokio::time::timeout(Duration::from_secs(11), carrier.changed()).await;
            }
        };
        see("all is well; nothing carries what is in no subnet", [true, true, true, false]).await;
        ip("link set v1 down");
        see("the other end is down", [false, false, true, false]).await;
        ip("link set v1 up");
        see("it is back", [true, true, true, false]).await;
        ip("link set w0 down");
        see("a named interface", [true, true, false, false]).await;
        ip("link set v0 down");
        see("this end is down", [false, false, false, false]).await;
        ip("link del v0");
        see("it is gone", [false, false, false, false]).await;
    });
}

#[test]
fn the_segment_hears_of_the_address() {
    if !inside("the_segment_hears_of_the_address") {
        return;
    }
    const ETH_P_ALL: u16 = 3;
    let wire =
        Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(i32::from(ETH_P_ALL.to_be())))).unwrap();
    wire.bind_device(Some(b"v1")).unwrap();
    wire.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    run(async {
        let mut driver = driver();
        for vip in vips() {
            driver.forget(vip).await.unwrap();
            driver.add(vip).await.unwrap();
            driver.announce(vip).await.unwrap();
        }
    });
    let mut missing = vec![
        gratuitous_arp(mac(), V4.parse().unwrap(), ArpForm::Request),
        gratuitous_arp(mac(), V4.parse().unwrap(), ArpForm::Reply),
        unsolicited_na(mac(), V6.parse().unwrap()),
    ];
    let mut buf = [0; 2048];
    while !missing.is_empty() {
        let n = (&wire).read(&mut buf).expect("every announcement arrives at the other end");
        missing.retain(|frame| buf[..n] != frame[..]);
    }
}

/// Moves this thread to a namespace of its own, where v1 arrives when `go` says so.
fn move_out(ready: &mpsc::Sender<i32>, go: &mpsc::Receiver<()>) {
    // SAFETY: only this thread moves to a new network namespace; nothing else here depends on which one it is.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET) }.unwrap();
    ready.send(rustix::thread::gettid().as_raw_nonzero().get()).unwrap();
    go.recv().unwrap();
    for line in ["link set v1 up", "addr add 10.9.0.2/24 dev v1", "addr add fd09::2/64 dev v1 nodad"] {
        ip(line);
    }
}

/// Connects however long it takes the link to come up.
fn reach(vip: IpAddr) -> TcpStream {
    let mut stream = None;
    until("the VIP can be reached", || {
        stream = TcpStream::connect_timeout(&SocketAddr::new(vip, PORT), Duration::from_secs(2)).ok();
        stream.is_some()
    });
    let stream = stream.unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
    stream
}

/// Runs in a namespace of its own on this thread: connects to each VIP, and says how reading ends.
fn client(
    ready: &mpsc::Sender<i32>,
    go: &mpsc::Receiver<()>,
    tuples: &mpsc::Sender<Tuple>,
) -> Vec<ErrorKind> {
    move_out(ready, go);
    let mut streams = Vec::new();
    for vip in vips() {
        let mut stream = reach(vip);
        stream.write_all(b"a call that is acknowledged and not answered").unwrap();
        tuples.send(Tuple { client: stream.local_addr().unwrap(), server_port: PORT }).unwrap();
        streams.push(stream);
    }
    let ends =
        streams.iter_mut().map(|s| s.read(&mut [0]).map_or_else(|e| e.kind(), |_| ErrorKind::UnexpectedEof));
    ends.collect()
}

/// The whole point of a tickle: without it this client waits 60 s.
#[test]
fn tickle_resets_a_connection_whose_server_vanished_silently() {
    if inside("tickle_resets_a_connection_whose_server_vanished_silently") {
        server_vanishes(reset);
    }
}

/// The same where the old server was killed: its kernel says goodbye when the address is off already, and keeps
/// the half-closed connection. If that stays, it swallows the answer to the tickle.
#[test]
fn tickle_works_where_the_killed_server_left_half_closed_connections() {
    if inside("tickle_works_where_the_killed_server_left_half_closed_connections") {
        server_vanishes(drop);
    }
}

fn server_vanishes(close: fn(TcpStream)) {
    let (ready_tx, ready) = mpsc::channel();
    let (go, go_rx) = mpsc::channel();
    let (tuple_tx, tuples) = mpsc::channel();
    let client = std::thread::spawn(move || client(&ready_tx, &go_rx, &tuple_tx));
    let tid = ready.recv().unwrap();
    ip(&format!("link set v1 netns {tid}"));
    run(async {
        let mut driver = driver();
        // Bound before the addresses exist.
        let listeners = vips().map(|vip| Listeners::open(vip, &[Port::tcp(PORT)]).unwrap());
        for vip in vips() {
            driver.add(vip).await.unwrap();
        }
        go.send(()).unwrap();
        let mut found = Vec::new();
        while found.len() < 2 {
            driver.add(vips()[0]).await.unwrap();
            driver.add(vips()[1]).await.unwrap();
            tokio::time::sleep(Duration::from_millis(100)).await;
            found.extend(tuples.try_recv());
        }
        // The server vanishes: address off, then everything closed, of which nothing reaches the client.
        for vip in vips() {
            driver.delete(vip).await.unwrap();
        }
        for listener in &listeners {
            let (stream, _) = listener.tcp[0].accept().unwrap();
            close(stream);
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(!client.is_finished(), "the client must not have noticed yet");
        let start = Instant::now();
        for vip in vips() {
            driver.add(vip).await.unwrap();
            driver.announce(vip).await.unwrap();
            let ours: Vec<Tuple> =
                found.iter().filter(|t| t.client.is_ipv4() == vip.is_ipv4()).copied().collect();
            assert_eq!(driver.tickle(vip, &ours).await.unwrap(), 1);
        }
        let ends = tokio::task::spawn_blocking(|| client.join().unwrap()).await.unwrap();
        println!("the client noticed {:?} after the tickle", start.elapsed());
        assert_eq!(ends, [ErrorKind::ConnectionReset; 2], "IPv4 and IPv6");
        assert!(start.elapsed() < Duration::from_secs(2));
    });
}

#[test]
fn guardian_takes_the_address_from_a_stopped_server_and_a_killed_guardian_leaves_none() {
    if !inside("guardian_takes_the_address_from_a_stopped_server_and_a_killed_guardian_leaves_none") {
        return;
    }
    let vip = vips()[0];
    let mut guardian = Guardian::start("netlink", vip, None, &["raise"]);
    until("the address is up", || !shown(vip).is_empty());
    let mut stream = TcpStream::connect(SocketAddr::new(vip, PORT)).unwrap();
    stream.write_all(b"?").unwrap();
    stream.read_exact(&mut [0; 8]).unwrap();
    // Longer than a lifetime: the guardian renews it.
    std::thread::sleep(Duration::from_secs(u64::from(LIFETIME_S) + 1));
    assert!(!shown(vip).is_empty());
    let pid = guardian.servers()[0].0;
    signal(pid, Signal::STOP);
    let took = until("the address is gone", || shown(vip).is_empty());
    println!("gone {took:?} after SIGSTOP with a lease of {LEASE:?}");
    assert!(took < LEASE + Duration::from_secs(1));
    // Back with another server, then everything is killed, the sentinel not to be waited for.
    signal(pid, Signal::KILL);
    until("the address is up again", || !shown(vip).is_empty());
    let (pid, sentinel) = (guardian.servers()[1].0, sentinel(&guardian, 0));
    signal(sentinel, Signal::STOP);
    until("the sentinel stands still", || state(sentinel) == Some('T'));
    guardian.process.kill().unwrap();
    guardian.process.wait().unwrap();
    until("the server is dead", || !alive(pid));
    let took = until("the kernel takes the address", || shown(vip).is_empty());
    println!("gone {took:?} after SIGKILL of the guardian");
    assert!(took < Duration::from_secs(u64::from(LIFETIME_S) + 2));
    signal(sentinel, Signal::KILL);
}

/// The sentinel with this number, when it has begun to watch.
fn sentinel(guardian: &Guardian, number: usize) -> i32 {
    let mut found = None;
    until("the sentinel watches", || {
        found = guardian.sentinels().get(number).copied();
        // The name of a thread: here it is a test's.
        let threads = found.and_then(|pid| std::fs::read_dir(format!("/proc/{pid}/task")).ok());
        let mut names = threads.into_iter().flatten().flatten().map(|t| std::fs::read(t.path().join("comm")));
        names.any(|name| name.is_ok_and(|name| name == b"hanfs-sentinel\n"))
    });
    found.unwrap()
}

/// Guardian and server, by SIGKILL; not the sentinel.
fn kill_both(guardian: &mut Guardian, server: i32) {
    guardian.process.kill().unwrap();
    signal(server, Signal::KILL);
    guardian.process.wait().unwrap();
    until("the server is dead", || !alive(server));
}

/// Both processes of a node are killed while its host lives. What happens within milliseconds is looked at in slow motion: the
/// sentinel is stopped meanwhile.
#[test]
fn killed_together_they_refuse_nobody_and_leave_no_address() {
    if !inside("killed_together_they_refuse_nobody_and_leave_no_address") {
        return;
    }
    let vip = vips()[0];
    let added: IpAddr = "10.9.0.101".parse().unwrap();
    let mut guardian = Guardian::start("netlink", vip, None, &["raise"]);
    until("the address is up", || !shown(vip).is_empty());
    signal(sentinel(&guardian, 0), Signal::KILL);
    let watching = sentinel(&guardian, 1);
    signal(watching, Signal::TERM);
    guardian.exports(&format!("{} {vip}\n8 {added}\n", EXPORT.0[0]));
    until("the added address is up", || !shown(added).is_empty());
    let (ready_tx, ready) = mpsc::channel();
    let (go, go_rx) = mpsc::channel();
    let (tuples_tx, tuples) = mpsc::channel();
    let client = std::thread::spawn(move || crash_client(&ready_tx, &go_rx, &tuples_tx));
    ip(&format!("link set v1 netns {}", ready.recv().unwrap()));
    go.send(()).unwrap();
    tuples.recv().unwrap();

    signal(watching, Signal::STOP);
    until("the sentinel stands still, not ended by SIGTERM", || state(watching) == Some('T'));
    let server = guardian.servers()[0].0;
    kill_both(&mut guardian, server);
    assert!(!shown(vip).is_empty(), "nobody to take it down");
    let waits = tuples.recv().expect("a client that comes now is not refused");
    TcpStream::connect(SocketAddr::new(added, PORT)).expect("nor at an address that came later");
    signal(watching, Signal::CONT);
    let took = until("the addresses are gone", || shown(vip).is_empty() && shown(added).is_empty());
    println!("gone {took:?} after SIGCONT of the sentinel");
    assert!(took < Duration::from_millis(500));
    until("the sentinel has ended", || !alive(watching));
    assert!(!client.is_finished(), "its connection was reset, and nothing of that got out");

    let start = Instant::now();
    run(async {
        let mut driver = driver();
        driver.add(vip).await.unwrap();
        driver.announce(vip).await.unwrap();
        driver.tickle(vip, &[waits]).await.unwrap();
    });
    assert_eq!(client.join().unwrap(), ErrorKind::ConnectionReset);
    assert!(start.elapsed() < Duration::from_secs(2));
}

/// At full speed, again and again: the next guardian has the ports and the address at once.
#[test]
fn a_sentinel_is_done_before_the_next_guardian_and_says_nothing_after_a_goodbye() {
    if !inside("a_sentinel_is_done_before_the_next_guardian_and_says_nothing_after_a_goodbye") {
        return;
    }
    let vip = vips()[0];
    let start = || {
        let guardian = Guardian::start("netlink", vip, None, &["raise"]);
        until("the address is up", || !shown(vip).is_empty() && !guardian.servers().is_empty());
        let watching = sentinel(&guardian, 0);
        (guardian, watching)
    };
    for _ in 0..5 {
        let (mut guardian, watching) = start();
        let server = guardian.servers()[0].0;
        guardian.process.kill().unwrap();
        let took = until("the address is gone", || shown(vip).is_empty());
        println!("gone {took:?} after SIGKILL of the guardian");
        assert!(took < Duration::from_millis(500));
        until("the server is dead", || !alive(server));
        until("the sentinel has ended", || !alive(watching));
    }
    let (mut guardian, watching) = start();
    let pid = i32::try_from(guardian.process.id()).unwrap();
    signal(pid, Signal::TERM);
    assert!(guardian.process.wait().unwrap().success());
    assert!(shown(vip).is_empty() && !alive(watching), "both went with the guardian");
}

/// A client through a crash: served, cut off, parked, and then nothing at all until the tickle.
/// Its tuples are sent on as they come to be.
fn crash_client(
    ready: &mpsc::Sender<i32>,
    go: &mpsc::Receiver<()>,
    tuples: &mpsc::Sender<Tuple>,
) -> ErrorKind {
    let tell = |s: &TcpStream| {
        let _ = tuples.send(Tuple { client: s.local_addr().unwrap(), server_port: PORT });
    };
    move_out(ready, go);
    let mut stream = reach(vips()[0]);
    stream.write_all(b"?").unwrap();
    stream.read_exact(&mut [0; 8]).unwrap();
    tell(&stream);
    let cut = stream.read(&mut [0]);
    assert!(matches!(cut, Ok(0) | Err(_)), "the dead server's connection ends");
    let mut parked = TcpStream::connect(SocketAddr::new(vips()[0], PORT)).expect("a SYN is never refused");
    tell(&parked);
    parked.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
    parked.write_all(b"a call that is acknowledged and not answered").unwrap();
    parked.read(&mut [0]).map_or_else(|e| e.kind(), |_| ErrorKind::UnexpectedEof)
}

/// The sequence "process dead, host alive", with the test as the node that takes over.
#[test]
fn crash_takeover_is_silent_until_the_tickle() {
    if !inside("crash_takeover_is_silent_until_the_tickle") {
        return;
    }
    let vip = vips()[0];
    let peer = FakePeer::start();
    let guardian = Guardian::start("netlink", vip, Some(peer.uri.clone()), &["raise"]);
    peer.wait("server up", up);
    until("the address is up", || !shown(vip).is_empty());
    let (ready_tx, ready) = mpsc::channel();
    let (go, go_rx) = mpsc::channel();
    let (served_tx, served) = mpsc::channel();
    let client = std::thread::spawn(move || crash_client(&ready_tx, &go_rx, &served_tx));
    ip(&format!("link set v1 netns {}", ready.recv().unwrap()));
    go.send(()).unwrap();
    served.recv().unwrap();
    std::fs::remove_file(guardian.path("raise")).unwrap();

    signal(guardian.servers()[0].0, Signal::KILL);
    peer.wait("server gone", gone);
    let found = peer.wait("the parked connection", tuple);
    assert!(peer.release());
    assert_eq!(shown(vip), "", "released means off this host");
    peer.order(Order::Taken(EXPORT.0.to_vec().into()));
    peer.wait("server up again", up);
    std::thread::sleep(Duration::from_millis(300));
    assert!(!client.is_finished(), "the parked connection was closed, and nothing of that got out");

    let port = u16::try_from(found.client_port).unwrap();
    let client_address: [u8; 4] = found.client[..].try_into().unwrap();
    let start = Instant::now();
    run(async {
        let mut driver = driver();
        driver.add(vip).await.unwrap();
        driver.announce(vip).await.unwrap();
        let tuple = Tuple { client: (client_address, port).into(), server_port: PORT };
        driver.tickle(vip, &[tuple]).await.unwrap();
    });
    assert_eq!(client.join().unwrap(), ErrorKind::ConnectionReset);
    println!("the client noticed {:?} after the raise", start.elapsed());
    assert!(start.elapsed() < Duration::from_secs(2));
}
