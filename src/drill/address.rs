//! Where the probe's connections come from.
//!
//! On a node they must not come from the virtual IP, which goes away with the takeover and is what the kernel chooses for a
//! connection to it: so from the node's own address. Elsewhere the kernel chooses.

use std::net::{IpAddr, Ipv6Addr};

use crate::config::{Config, Driver};

/// The address of the node that this is, of the same family as the virtual IP; `None`: the kernel chooses.
pub fn own(config: &Config, vip: IpAddr) -> Option<IpAddr> {
    if config.network.driver == Driver::Loopback {
        return None;
    }
    let (v4, v6) = (read("/proc/net/fib_trie"), read("/proc/net/if_inet6"));
    let mut nodes = config.nodes.iter().map(|node| node.address.ip());
    nodes.find(|ip| ip.is_ipv4() == vip.is_ipv4() && is_here(*ip, &v4, &v6))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// Is it an address of this host, by the kernel's tables? (That one can bind to it says little: `ip_nonlocal_bind`.)
fn is_here(ip: IpAddr, v4: &str, v6: &str) -> bool {
    match ip {
        // Leaves of the routing tables, each an address and below it what it is.
        IpAddr::V4(ip) => {
            let (leaf, mut of_it) = (format!("|-- {ip}"), false);
            v4.lines().map(str::trim).any(|line| {
                if !line.starts_with('/') {
                    of_it = line == leaf;
                }
                of_it && line == "/32 host LOCAL"
            })
        }
        // Address (hexadecimal), index, prefix's length, scope, flags, name.
        IpAddr::V6(ip) => v6.lines().any(|line| {
            let number = line.split(' ').next().and_then(|text| u128::from_str_radix(text, 16).ok());
            number.map(Ipv6Addr::from_bits) == Some(ip)
        }),
    }
}

#[cfg(test)]
mod tests {
    //! Goal: a node knows itself, and nobody else does. Method: the kernel's tables of a host, as text.

    use super::*;

    const V4: &str = "\
Main:
  +-- 0.0.0.0/0 3 0 4
     |-- 0.0.0.0
        /0 universe UNICAST
     +-- 10.77.0.0/24 2 0 2
        |-- 10.77.0.0
           /24 link UNICAST
        |-- 10.77.0.2
           /32 host LOCAL
        |-- 10.77.0.10
           /32 link UNICAST
        |-- 10.77.0.255
           /32 link BROADCAST
";
    const V6: &str = "\
00000000000000000000000000000001 01 80 10 80       lo
fd000000000000000000000000000002 02 40 00 00     eth0
";

    #[test]
    fn only_what_an_interface_has_is_here() {
        let here = |ip: &str| is_here(ip.parse().unwrap(), V4, V6);
        assert!(here("10.77.0.2") && here("fd00::2") && here("::1"));
        for other in
            ["10.77.0.0", "10.77.0.1", "10.77.0.10", "10.77.0.255", "10.77.0.20", "fd00::20", "fd00::"]
        {
            assert!(!here(other), "{other}");
        }
        assert!(!is_here("10.77.0.2".parse().unwrap(), "", ""), "the tables cannot be read");
    }
}
