//! Goal: whatever happens to the server process, no client is refused, no address stays where nobody may serve,
//! and the peer hears of it at once.
//! Method: a real guardian process over the loopback driver with a fake server under it, and a fake peer that
//! speaks the real protocol; processes are killed and stopped with signals.

mod common;

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use common::peer::{FakePeer, gone, tuple, up};
use common::{EXPORT, Guardian, HANDOVER, LEASE, PORT, alive, signal, state, until};
use proto::peer::guardian_order::Kind as Order;
use rustix::process::Signal;

#[test]
fn role() {
    common::role();
}

fn connect(vip: IpAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&SocketAddr::new(vip, PORT), Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(15)))?;
    Ok(stream)
}

/// Asks over this connection which server answers.
fn ask(stream: &mut TcpStream) -> std::io::Result<u64> {
    stream.write_all(b"?")?;
    let mut id = [0; 8];
    stream.read_exact(&mut id)?;
    Ok(u64::from_be_bytes(id))
}

fn served(vip: IpAddr) -> TcpStream {
    let mut found = None;
    until("the server answers", || {
        found = connect(vip).ok().filter(|s| ask(&mut s.try_clone().unwrap()).is_ok());
        found.is_some()
    });
    found.unwrap()
}

fn refused(vip: IpAddr) -> bool {
    connect(vip).is_err_and(|e| e.kind() == ErrorKind::ConnectionRefused)
}

/// The way of a crash: the peer hears of it, a client that comes meanwhile is not refused and is reported, the
/// address goes on the peer's order, and the server comes back afterwards.
#[test]
fn killed_server_is_reported_its_clients_wait_and_the_peer_takes_over() {
    let vip: IpAddr = "127.7.0.1".parse().unwrap();
    let peer = FakePeer::start();
    let guardian = Guardian::start("loopback", vip, Some(peer.uri.clone()), &["raise"]);
    let first = peer.wait("server up", up);
    let mut old = served(vip);
    let (pid, id) = guardian.servers()[0];
    assert_eq!(id, first);
    std::fs::remove_file(guardian.path("raise")).unwrap();

    let killed = Instant::now();
    signal(pid, Signal::KILL);
    assert_eq!(peer.wait("server gone", gone), first);
    let noticed = killed.elapsed();
    println!("the peer heard of the death after {noticed:?}");
    assert!(ask(&mut old).is_err(), "the old connection is dead");
    let mut parked = connect(vip).expect("a client is never refused while the address is up");
    let tuple = peer.wait("the new connection", tuple);
    assert_eq!(tuple.client_port, u32::from(parked.local_addr().unwrap().port()));
    assert_eq!((&tuple.client[..], tuple.server_port), (&[127, 0, 0, 1][..], u32::from(PORT)));

    assert!(peer.release(), "it held the address");
    assert!(refused(vip), "the address is gone");
    parked.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let waiting = parked.read(&mut [0]).unwrap_err().kind();
    assert!(
        matches!(waiting, ErrorKind::WouldBlock | ErrorKind::TimedOut),
        "nothing closed yet: {waiting:?}"
    );
    peer.order(Order::Taken(EXPORT.0.to_vec().into()));
    let again = peer.wait("server up again", up);
    assert_ne!(again, first);
    until(
        "the parked connection is closed",
        || !matches!(parked.read(&mut [0]), Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)),
    );
    assert!(refused(vip));
    assert!(killed.elapsed() < HANDOVER, "the restart waited for nothing");
}

/// The peer never gets ready: the server is started again on the same listeners, and whoever waited is told to
/// reconnect and is served.
#[test]
fn without_an_order_the_server_is_started_again_on_the_same_listeners() {
    let vip: IpAddr = "127.7.0.2".parse().unwrap();
    let peer = FakePeer::start();
    let guardian = Guardian::start("loopback", vip, Some(peer.uri.clone()), &["raise"]);
    peer.wait("server up", up);
    drop(served(vip));
    signal(guardian.servers()[0].0, Signal::KILL);
    peer.wait("server gone", gone);
    let mut parked = connect(vip).unwrap();
    let start = Instant::now();
    let error =
        ask(&mut parked).expect_err("a parked connection is never served: its calls may be half read");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
    assert!(start.elapsed() + Duration::from_millis(500) > HANDOVER, "the peer had its time");
    assert_eq!(ask(&mut connect(vip).unwrap()).unwrap(), guardian.servers()[1].1);
}

/// Nobody to take over: at once, and no SYN is refused at any instant.
#[test]
fn without_a_peer_the_server_is_back_at_once_and_nobody_is_refused() {
    let vip: IpAddr = "127.7.0.3".parse().unwrap();
    let guardian = Guardian::start("loopback", vip, None, &["raise"]);
    drop(served(vip));
    let start = Instant::now();
    signal(guardian.servers()[0].0, Signal::KILL);
    until("another server answers", || {
        let mut stream = connect(vip).expect("never refused");
        ask(&mut stream).is_ok_and(|id| guardian.servers().get(1).is_some_and(|s| s.1 == id))
    });
    println!("served again after {:?}", start.elapsed());
}

/// A stopped server's kernel would go on accepting; the guardian's own deadline ends that.
#[test]
fn stopped_server_loses_its_address_at_the_lease_deadline() {
    let vip: IpAddr = "127.7.0.4".parse().unwrap();
    let peer = FakePeer::start();
    let guardian = Guardian::start("loopback", vip, Some(peer.uri.clone()), &["raise"]);
    peer.wait("server up", up);
    drop(served(vip));
    let pid = guardian.servers()[0].0;
    signal(pid, Signal::STOP);
    let took = until("the address is gone", || refused(vip));
    println!("gone {took:?} after SIGSTOP with a lease of {LEASE:?}");
    assert!(took < LEASE + Duration::from_secs(1), "{took:?}");
    assert!(!peer.release(), "nothing left to release");
    signal(pid, Signal::CONT);
    until("the server hears of it", || guardian.log().contains("VipLost"));
}

/// A living server that is deposed: the peer's order is obeyed whatever the server thinks.
#[test]
fn release_takes_the_address_from_a_living_server() {
    let vip: IpAddr = "127.7.0.5".parse().unwrap();
    let peer = FakePeer::start();
    let guardian = Guardian::start("loopback", vip, Some(peer.uri.clone()), &["raise"]);
    peer.wait("server up", up);
    drop(served(vip));
    assert!(peer.release());
    assert!(refused(vip));
    until("the server hears of it", || guardian.log().contains("Released"));
    assert!(!peer.release(), "once is enough");
    assert!(alive(guardian.servers()[0].0));
}

#[test]
fn sigterm_ends_both_cleanly() {
    let vip: IpAddr = "127.7.0.6".parse().unwrap();
    let mut guardian = Guardian::start("loopback", vip, None, &["raise"]);
    drop(served(vip));
    signal(guardian.process.id() as i32, Signal::TERM);
    assert_eq!(guardian.process.wait().unwrap().code(), Some(0));
    assert!(guardian.log().contains("terminated"));
    assert_eq!(guardian.servers().len(), 1);
    assert!(refused(vip));
}

/// Exports that come and go while a server runs: their addresses follow, and nobody else's connection ends. A server that is
/// started again finds what the last one had.
#[test]
fn exports_come_and_go_while_others_are_served() {
    let (one, two): (IpAddr, IpAddr) = ("127.7.0.9".parse().unwrap(), "127.7.0.10".parse().unwrap());
    let guardian = Guardian::start("loopback", one, None, &["raise"]);
    let mut stays = served(one);
    assert!(refused(two));
    guardian.exports(&format!("7 {one}\n8 {two}\n"));
    let mut goes = served(two);
    ask(&mut stays).expect("the first export's connection is the same");

    signal(guardian.servers()[0].0, Signal::KILL);
    let end = Instant::now() + Duration::from_secs(20);
    while guardian.servers().len() < 2 || ask(&mut connect(two).expect("never refused")).is_err() {
        assert!(Instant::now() < end, "the second export is not served by the next server");
    }
    assert!(ask(&mut goes).is_err());
    let mut stays = served(one);
    let mut goes = served(two);

    guardian.exports(&format!("7 {one}\n"));
    until("the second export's address is gone", || refused(two));
    ask(&mut stays).expect("the first export's connection is the same");
    assert!(alive(guardian.servers()[1].0));
    drop(ask(&mut goes));

    // A list with another address for the same export is another export.
    guardian.exports(&format!("7 {two}\n"));
    until("the first export's address is gone", || refused(one));
}

/// SIGHUP is for the server, by a message that cannot come too early for it.
#[test]
fn sighup_is_passed_on_and_ends_nobody() {
    let vip: IpAddr = "127.7.0.11".parse().unwrap();
    let mut guardian = Guardian::start("loopback", vip, None, &["raise"]);
    let mut stays = served(vip);
    signal(guardian.process.id() as i32, Signal::HUP);
    until("the server hears of it", || guardian.log().contains("Reload"));
    ask(&mut stays).expect("nothing else happened");
    assert!(guardian.process.try_wait().unwrap().is_none());
}

#[test]
fn server_that_must_not_be_restarted_is_not() {
    let vip: IpAddr = "127.7.0.7".parse().unwrap();
    let mut guardian = Guardian::start("loopback", vip, None, &["fatal"]);
    assert_eq!(guardian.process.wait().unwrap().code(), Some(78));
    assert_eq!(guardian.servers().len(), 1);
}

/// A server without its guardian would keep an address that nobody takes away.
#[test]
fn server_never_outlives_its_guardian() {
    let vip: IpAddr = "127.7.0.8".parse().unwrap();
    let mut guardian = Guardian::start("loopback", vip, None, &["raise"]);
    drop(served(vip));
    let pid = guardian.servers()[0].0;
    // Stopped, it cannot notice by itself and end.
    signal(pid, Signal::STOP);
    until("the server is stopped", || state(pid) == Some('T'));
    guardian.process.kill().unwrap();
    guardian.process.wait().unwrap();
    until("the server is dead, although it was stopped", || !alive(pid));
}
