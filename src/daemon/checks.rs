//! What speaks for and against this node serving an export: `takeover --check`, and what a drill and a drain ask first.
//!
//! Each check is one fact. What another program may change at any time (an interface, a port, the disk) is looked up when
//! it is asked; nothing is tried out, so that a check never disturbs what is served.

use std::net::IpAddr;
use std::path::Path;

use proto::admin::Check;

use super::admin::AdminService;
use super::export::Export;
use crate::config::model;

/// State of a listening socket in /proc/net/tcp (`TCP_LISTEN`, include/net/tcp_states.h).
const LISTEN: &str = "0A";

fn check(name: &str, ok: bool, detail: impl Into<String>) -> Check {
    Check { name: name.to_owned(), ok, detail: detail.into() }
}

/// Says why only where it is so.
fn unless(ok: bool, why: impl Into<String>) -> String {
    if ok { String::new() } else { why.into() }
}

/// All of them, for this node.
pub fn of(node: &AdminService, export: &Export) -> Vec<Check> {
    let mut checks = Vec::new();
    let raft = export.with_group(|g| g.node_status());
    checks.push(check("the export runs on this node", raft.is_some(), ""));
    checks.extend(links(node));
    let drained = node.drained.since_ns() != 0;
    let undrain = format!("`hanfs undrain {}` ends that", node.node);
    checks.push(check("this node is not drained", !drained, unless(!drained, undrain)));
    if let Some(raft) = raft {
        checks.push(check("somebody serves it now", raft.leader.is_some(), format!("term {}", raft.term)));
        checks.push(check(
            "this node does not serve it already",
            raft.leader != Some(export.me),
            String::new(),
        ));
        checks.push(check(
            "both copies are in sync",
            raft.in_sync,
            format!("applied {}, committed {}, last {}", raft.applied, raft.commit, raft.last),
        ));
        let why = "this host went down without a clean stop, and its copy is not complete yet";
        checks.push(check("this copy is complete", !raft.recovering, unless(!raft.recovering, why)));
        let room = export.with_group(replica::group::Group::has_room).unwrap_or(true);
        let dir = export.dir().display();
        checks.push(check(
            "the disk has room",
            room,
            unless(room, format!("less than 384 MiB are free at {dir}")),
        ));
    }
    checks.extend(address(&node.current.config(), &export.config()));
    checks
}

/// The other node, its guardian, the witness.
fn links(node: &AdminService) -> Vec<Check> {
    let mut checks = Vec::new();
    if let Some(peer) = &node.peer {
        let (session, theirs) = (peer.state(), peer.peer_version());
        checks.push(check("the nodes are connected", session.up, session.error));
        checks.push(versions(session.up, env!("CARGO_PKG_VERSION"), &theirs));
        let (ours, other) = (node.current.digest(), peer.peer_config());
        let same = other.is_empty() || ours == other;
        let differ = "see `hanfs status`";
        checks.push(check("both nodes have one configuration", same, unless(same, differ)));
        let guardian = node.view.lock().peer_guardian;
        let why = "without it, the virtual IP is released only when its lease is over";
        checks.push(check("the other node's guardian is connected", guardian, unless(guardian, why)));
    }
    if let Some(witness) = &node.witness {
        let state = witness.state();
        checks.push(check("the witness answers", state.up, state.error));
    }
    checks
}

/// One that says no version is of before they were said. Of one that was never connected nothing is known: that is said already.
fn versions(connected: bool, own: &str, theirs: &str) -> Check {
    let (same, differ) = match theirs {
        "" => (!connected, format!("{own} here, an older one than this there")),
        _ => (theirs == own, format!("{own} here, {theirs} there")),
    };
    check("both nodes run one version", same, unless(same, differ))
}

/// The virtual IP: an interface for it, and sockets on it. The loopback driver needs neither beforehand.
fn address(config: &model::Config, export: &model::Export) -> Vec<Check> {
    if config.network.driver == model::Driver::Loopback {
        return Vec::new();
    }
    let interface = interface(export);
    let (found, detail) = match &interface {
        Ok(name) => (true, name.clone()),
        Err(why) => (false, why.clone()),
    };
    let port = config.network.nfs_port;
    let table = if export.vip.address.is_ipv4() { "/proc/net/tcp" } else { "/proc/net/tcp6" };
    let listens = is_listening(&read(table), export.vip.address, port);
    let why = format!("nobody listens on {} port {port} here: see the guardian's log", export.vip.address);
    vec![
        check("the interface of the virtual IP is up", found, detail),
        check("the virtual IP's sockets are open", listens, unless(listens, why)),
    ]
}

fn read(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// The interface that would carry the address, if it is up.
fn interface(export: &model::Export) -> Result<String, String> {
    let ip = export.vip.address;
    let found = match (&export.interface, ip) {
        (Some(name), _) => Some(name.clone()),
        (None, IpAddr::V4(_)) => near_v4(&read("/proc/net/route"), ip),
        (None, IpAddr::V6(_)) => near_v6(&read("/proc/net/if_inet6"), ip),
    };
    let name = found.ok_or_else(|| format!("no interface has an address of the network of {ip}"))?;
    match read(Path::new("/sys/class/net").join(kernels_name(&name)).join("operstate")).trim() {
        "" => Err(format!("there is no interface {name}")),
        "down" | "lowerlayerdown" | "notpresent" => Err(format!("{name} is down")),
        // Of a tunnel or a dummy it is "unknown".
        _ => Ok(name),
    }
}

/// The name in /sys of an interface that may be configured by an alternative one. (One of more than 15 bytes cannot be asked
/// for like this.)
fn kernels_name(name: &str) -> String {
    use rustix::net::{AddressFamily, SocketType, netdevice, socket};
    let found = socket(AddressFamily::INET, SocketType::DGRAM, None)
        .and_then(|socket| netdevice::index_to_name(&socket, netdevice::name_to_index(&socket, name)?));
    found.unwrap_or_else(|_| name.to_owned())
}

/// The interface of the narrowest directly connected IPv4 network that has this address: lines of /proc/net/route,
/// numbers in the host's byte order.
fn near_v4(table: &str, ip: IpAddr) -> Option<String> {
    let IpAddr::V4(ip) = ip else { return None };
    let wanted = u32::from_ne_bytes(ip.octets());
    let mut best: Option<(u32, String)> = None;
    for line in table.lines().skip(1) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [name, to, gateway, _, _, _, _, mask, ..] = fields.as_slice() else { continue };
        let number = |text: &str| u32::from_str_radix(text, 16).ok();
        let (Some(to), Some(0), Some(mask)) = (number(to), number(gateway), number(mask)) else { continue };
        let narrower = best.as_ref().is_none_or(|(ones, _)| mask.count_ones() > *ones);
        if mask != 0 && wanted & mask == to && narrower {
            best = Some((mask.count_ones(), (*name).to_owned()));
        }
    }
    best.map(|(_, name)| name)
}

/// The same for IPv6, by the addresses in /proc/net/if_inet6: address, index, prefix's length (hexadecimal), scope, flags,
/// name.
fn near_v6(table: &str, ip: IpAddr) -> Option<String> {
    let IpAddr::V6(ip) = ip else { return None };
    let near = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [address, _, bits, _, _, name] = fields.as_slice() else { return None };
        let address = u128::from_str_radix(address, 16).ok()?;
        let bits = u32::from_str_radix(bits, 16).ok().filter(|bits| (1..=128).contains(bits))?;
        let mask = u128::MAX.checked_shl(128 - bits)?;
        (address & mask == ip.to_bits() & mask && address != ip.to_bits()).then(|| (bits, (*name).to_owned()))
    };
    table.lines().filter_map(near).max_by_key(|(bits, _)| *bits).map(|(_, name)| name)
}

/// Does a socket listen on exactly this address and port? Lines of /proc/net/tcp or tcp6.
fn is_listening(table: &str, ip: IpAddr, port: u16) -> bool {
    let words: Vec<u32> = match ip {
        IpAddr::V4(ip) => vec![u32::from_ne_bytes(ip.octets())],
        IpAddr::V6(ip) => {
            let chunks = ip.octets();
            chunks.as_chunks::<4>().0.iter().map(|word| u32::from_ne_bytes(*word)).collect()
        }
    };
    let address: String = words.iter().map(|word| format!("{word:08X}")).collect();
    let local = format!("{address}:{port:04X}");
    table.lines().any(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        matches!(fields.as_slice(), [_, at, _, state, ..] if *at == local && *state == LISTEN)
    })
}

#[cfg(test)]
mod tests {
    //! Goal: what the kernel's tables say is read right. Method: tables as a little-endian host shows them.

    use super::*;

    const ROUTES: &str = "\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t01004D0A\t0003\t0\t0\t0\t00000000\t0\t0\t0
eth0\t00004D0A\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0
eth1\t00004D0A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
eth2\t00014D0A\t01004D0A\t0003\t0\t0\t0\t00FFFFFF\t0\t0\t0
";
    const ADDRESSES: &str = "\
fd000000000000000000000000000011 02 40 00 80     eth0
00000000000000000000000000000001 01 80 10 80       lo
";
    const SOCKETS: &str = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0A004D0A:0801 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0
   1: 0B004D0A:0801 00000000:0000 01 00000000:00000000 00:00000000 00000000     0        0 1 1 0
";

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_node_that_says_no_version_is_an_older_one() {
        let ok = |connected, theirs| versions(connected, "1.2", theirs).ok;
        assert_eq!([ok(true, "1.2"), ok(false, "1.2"), ok(false, "")], [true; 3]);
        assert_eq!([ok(true, "1.1"), ok(false, "1.1"), ok(true, "")], [false; 3]);
        assert_eq!(versions(true, "1.2", "").detail, "1.2 here, an older one than this there");
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn the_kernels_tables_are_read() {
        assert_eq!(near_v4(ROUTES, ip("10.77.0.10")).as_deref(), Some("eth1"), "the narrowest");
        assert_eq!(near_v4(ROUTES, ip("10.77.1.10")).as_deref(), Some("eth0"), "not behind a gateway");
        assert_eq!(near_v4(ROUTES, ip("10.78.0.10")), None, "a default route is no network");
        assert_eq!(near_v6(ADDRESSES, ip("fd00::10")).as_deref(), Some("eth0"));
        assert_eq!(near_v6(ADDRESSES, ip("fd00:1::10")), None);
        assert!(is_listening(SOCKETS, ip("10.77.0.10"), 2049));
        assert!(!is_listening(SOCKETS, ip("10.77.0.10"), 111));
        assert!(!is_listening(SOCKETS, ip("10.77.0.11"), 2049), "that one is connected");
    }
}
