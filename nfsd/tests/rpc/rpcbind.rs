//! Goal: whoever asks where NFS is, in whichever version and over whichever transport and family, hears the address
//! that it used; and nobody can make the server call others or change the table. Method: the server's own registry
//! on loopback of both families, messages made by hand.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use nfsd::rpcbind::{PROGRAM, uaddr};
use nfsd::server::{Limits, Server, Service};
use nfsd::xdr::{Decoder, Encoder};
use tokio::runtime::Runtime;

use crate::bench::{Client, PATIENCE, listen, message, record, runtime, words};

const NFS: u32 = 100_003;

struct Bench {
    ip: IpAddr,
    tcp: SocketAddr,
    udp: SocketAddr,
    _service: Service,
    _server: Server,
    _runtime: Runtime,
}

impl Bench {
    fn new(ip: IpAddr) -> Self {
        let (runtime, server) = (runtime(), Server::new(Limits::default()));
        let (listen, tcp, udp) = listen(ip, 2049, Arc::new(|_| Box::pin(async {})));
        let _service = server.serve(listen, runtime.handle()).unwrap();
        Self { ip, tcp, udp, _service, _server: server, _runtime: runtime }
    }

    /// Both families, where the host has both.
    fn all() -> Vec<Self> {
        let v6 = IpAddr::from(Ipv6Addr::LOCALHOST);
        let ips = [Some(Ipv4Addr::LOCALHOST.into()), UdpSocket::bind((v6, 0)).is_ok().then_some(v6)];
        ips.into_iter().flatten().map(Self::new).collect()
    }

    fn datagram(&self) -> UdpSocket {
        let socket = UdpSocket::bind((self.ip, 0)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.connect(self.udp).unwrap();
        socket
    }

    /// The accept_stat and the results, over TCP or UDP.
    fn ask(&self, udp: bool, version: u32, procedure: u32, args: &[u8]) -> (u32, Bytes) {
        let message = message(7, PROGRAM, version, procedure, args);
        let reply = if udp {
            let socket = self.datagram();
            socket.send(&message).unwrap();
            let mut buf = vec![0; 4096];
            let n = socket.recv(&mut buf).unwrap();
            buf[..n].to_vec()
        } else {
            let mut client = Client::connect(self.tcp);
            client.send(&record(&message));
            client.reply().expect("closed")
        };
        assert_eq!(words(&reply[..20]), [7, 1, 0, 0, 0], "not accepted");
        (words(&reply[20..24])[0], Bytes::copy_from_slice(&reply[24..]))
    }

    fn success(&self, udp: bool, version: u32, procedure: u32, args: &[u8]) -> Bytes {
        let (stat, results) = self.ask(udp, version, procedure, args);
        assert_eq!(stat, 0, "version {version} procedure {procedure}: accept_stat {stat}");
        results
    }

    fn netids(&self) -> [&'static str; 2] {
        if self.ip.is_ipv6() { ["tcp6", "udp6"] } else { ["tcp", "udp"] }
    }
}

fn rpcb(program: u32, version: u32, netid: &str) -> Vec<u8> {
    let mut e = Encoder::new();
    e.u32(program).u32(version).opaque(netid.as_bytes()).opaque(b"").opaque(b"me");
    e.as_slice().to_vec()
}

fn text(d: &mut Decoder<'_>) -> String {
    String::from_utf8(d.opaque(256).unwrap().to_vec()).unwrap()
}

#[test]
fn addresses_are_those_that_the_caller_used() {
    for bench in Bench::all() {
        let ours = format!("{}.8.1", bench.ip);
        for (udp, version) in [(false, 3), (true, 3), (false, 4), (true, 4)] {
            let get = |procedure, program, v, netid| {
                let results = bench.success(udp, version, procedure, &rpcb(program, v, netid));
                text(&mut Decoder::new(&results))
            };
            assert_eq!(get(3, NFS, 3, ""), ours, "{} udp {udp} version {version}", bench.ip);
            assert_eq!(get(3, 100_005, 3, "any"), ours, "the transport that brought the call counts");
            assert_eq!(get(3, PROGRAM, 4, ""), format!("{}.0.111", bench.ip));
            assert_eq!(get(3, NFS, 0, ""), ours, "rpcinfo asks for version 0");
            assert_eq!(get(3, 100_227, 3, ""), "", "NFSACL is not here");
            if version == 4 {
                assert_eq!(get(9, NFS, 3, ""), ours);
                assert_eq!(get(9, NFS, 4, ""), "", "GETVERSADDR is exact");
            }
        }
    }
}

#[test]
fn dump_and_getaddrlist_name_every_transport_of_this_family() {
    for bench in Bench::all() {
        let ours = format!("{}.8.1", bench.ip);
        let results = bench.success(true, 4, 4, b"");
        let (mut d, mut found) = (Decoder::new(&results), vec![]);
        while d.bool().unwrap() {
            let (program, version) = (d.u32().unwrap(), d.u32().unwrap());
            found.push((program, version, text(&mut d), text(&mut d)));
            assert_eq!(text(&mut d), "superuser");
        }
        assert_eq!(d.remaining(), 0);
        for netid in bench.netids() {
            for (program, version) in [(NFS, 3), (100_005, 3), (100_021, 4), (100_024, 1)] {
                assert!(found.contains(&(program, version, netid.into(), ours.clone())), "{found:?}");
            }
            for version in 2..=4 {
                assert!(found.contains(&(PROGRAM, version, netid.into(), format!("{}.0.111", bench.ip))));
            }
        }
        assert_eq!(found.len(), 18);

        let results = bench.success(false, 4, 11, &rpcb(NFS, 3, ""));
        let (mut d, mut list) = (Decoder::new(&results), vec![]);
        while d.bool().unwrap() {
            list.push((text(&mut d), text(&mut d), d.u32().unwrap(), text(&mut d), text(&mut d)));
        }
        let family = if bench.ip.is_ipv6() { "inet6" } else { "inet" };
        let [tcp, udp] = bench.netids();
        let expected = [(tcp, 3, "tcp"), (udp, 1, "udp")]
            .map(|(netid, semantics, p)| (ours.clone(), netid.into(), semantics, family.into(), p.into()));
        assert_eq!(list, expected);
        assert_eq!(bench.success(false, 4, 11, &rpcb(NFS, 4, ""))[..], [0; 4], "GETADDRLIST is exact");
    }
}

#[test]
fn addresses_are_translated_both_ways_and_the_time_is_told() {
    let bench = Bench::new(Ipv4Addr::LOCALHOST.into());
    for address in ["192.0.2.7:2049", "[2001:db8::7]:65535"] {
        let address: SocketAddr = address.parse().unwrap();
        let mut e = Encoder::new();
        e.opaque(uaddr::format(address).as_bytes());
        let netbuf = bench.success(false, 3, 7, e.as_slice());
        let mut d = Decoder::new(&netbuf);
        let (room, raw) = (d.u32().unwrap(), d.opaque(128).unwrap());
        assert_eq!((room as usize, uaddr::from_sockaddr(&raw)), (raw.len(), Some(address)));
        let back = bench.success(true, 4, 8, &netbuf);
        assert_eq!(text(&mut Decoder::new(&back)), uaddr::format(address));
    }
    let mut nonsense = Encoder::new();
    nonsense.opaque(b"\xffnowhere");
    assert_eq!(bench.success(false, 4, 7, nonsense.as_slice())[..], [0; 8], "an empty netbuf");
    let mut nonsense = Encoder::new();
    nonsense.u32(16).opaque(&[0xff; 16]);
    assert_eq!(bench.success(false, 4, 8, nonsense.as_slice())[..], [0; 4], "an empty text");
    let time = words(&bench.success(true, 3, 6, b""))[0];
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    assert!(now.abs_diff(time.into()) < 60);
}

#[test]
fn nobody_changes_the_table_or_makes_the_server_call_others() {
    let bench = Bench::new(Ipv4Addr::LOCALHOST.into());
    for version in [3, 4] {
        for procedure in [1, 2] {
            assert_eq!(bench.success(true, version, procedure, &rpcb(NFS, 3, "tcp"))[..], [0; 4]);
        }
        assert_eq!(
            text(&mut Decoder::new(&bench.success(false, version, 3, &rpcb(NFS, 3, "")))),
            "127.0.0.1.8.1"
        );
    }
    for (version, procedures) in [(2, 5..8), (3, 9..14), (4, 12..14)] {
        for procedure in procedures {
            let udp = procedure != 5;
            assert_eq!(bench.ask(udp, version, procedure, b"").0, 3, "{version} {procedure}: PROC_UNAVAIL");
        }
    }
    assert_eq!(bench.ask(true, 4, 10, b"").0, 3, "INDIRECT");
    // CALLIT and BCAST may be broadcast: over UDP there is no answer, and the next call has its own.
    let socket = bench.datagram();
    for version in [2, 3, 4] {
        assert_eq!(bench.ask(false, version, 5, b"").0, 3, "over TCP it is refused");
        socket.send(&message(20 + version, PROGRAM, version, 5, &rpcb(NFS, 3, ""))).unwrap();
    }
    socket.send(&message(30, PROGRAM, 3, 0, b"")).unwrap();
    let mut buf = [0; 64];
    socket.recv(&mut buf).unwrap();
    assert_eq!(words(&buf[..4]), [30]);
    socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    assert!(socket.recv(&mut buf).is_err());
}

#[test]
fn what_does_not_decode_is_garbage() {
    let bench = Bench::new(Ipv4Addr::LOCALHOST.into());
    let whole = rpcb(NFS, 3, "tcp");
    for (version, procedure) in [(3, 3), (4, 3), (4, 9), (4, 11)] {
        for cut in (0..whole.len()).step_by(4) {
            assert_eq!(bench.ask(true, version, procedure, &whole[..cut]).0, 4, "{procedure} cut at {cut}");
        }
    }
    let long = rpcb(NFS, 3, &"x".repeat(257));
    assert_eq!(bench.ask(false, 3, 3, &long).0, 4, "a network id of 257 bytes");
    for (version, procedure) in [(2, 3), (3, 7), (3, 8)] {
        assert_eq!(bench.ask(true, version, procedure, b"").0, 4);
    }
    let mut long = Encoder::new();
    long.u32(200).opaque(&[0; 132]);
    assert_eq!(bench.ask(false, 3, 8, long.as_slice()).0, 4, "an address of 132 bytes");
}
