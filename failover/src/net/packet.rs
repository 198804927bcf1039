//! Packets built by hand: gratuitous ARP, unsolicited neighbour advertisements, and the tickle. Pure functions
//! with no sockets; checksums included.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// An Ethernet address.
pub type Mac = [u8; 6];

/// All stations of the segment.
pub const MAC_BROADCAST: Mac = [0xff; 6];
/// ff02::1, all nodes (RFC 2464 section 7).
const MAC_ALL_NODES: Mac = [0x33, 0x33, 0, 0, 0, 1];

const ETHERTYPE_ARP: u16 = 0x0806;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const PROTO_TCP: u8 = 6;
const PROTO_ICMPV6: u8 = 58;
const NEIGHBOR_ADVERTISEMENT: u8 = 136;
/// Neighbour advertisements count only with hop limit 255 (RFC 4861 section 7.1.2).
const HOPS_ND: u8 = 255;
const HOPS: u8 = 64;
/// Length of a TCP header without options.
const TCP_LEN: u16 = 20;
const TCP_SYN_ACK: u8 = 0x12;
/// Advertised window of a tickle. No connection comes of it; 0 would look like a probe to a firewall.
const TICKLE_WINDOW: u16 = 1024;

/// Which of the two gratuitous forms of ARP: some stacks update their cache on one only (RFC 5227 section 3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ArpForm {
    /// An "ARP announcement": a request.
    Request,
    /// A reply that nobody asked for.
    Reply,
}

/// Sums 16-bit words for the Internet checksum (RFC 1071); an odd last byte is padded with zero.
fn sum(acc: u32, data: &[u8]) -> u32 {
    data.chunks(2).fold(acc, |acc, pair| {
        let word = match pair {
            [a, b] => u16::from_be_bytes([*a, *b]),
            [a] => u16::from_be_bytes([*a, 0]),
            _ => 0,
        };
        acc.wrapping_add(u32::from(word))
    })
}

/// Folds and complements (RFC 1071).
fn finish(mut acc: u32) -> u16 {
    while acc > 0xffff {
        acc = (acc & 0xffff) + (acc >> 16);
    }
    !(acc as u16)
}

/// Pseudo-header of IPv4 (RFC 9293 section 3.1) and IPv6 (RFC 8200 section 8.1) in one: zero words add nothing.
fn pseudo_header(src: &[u8], dst: &[u8], proto: u8, len: u16) -> u32 {
    sum(sum(u32::from(proto) + u32::from(len), src), dst)
}

/// An Ethernet frame with a gratuitous ARP for `vip`.
pub fn gratuitous_arp(mac: Mac, vip: Ipv4Addr, form: ArpForm) -> Vec<u8> {
    let mut p = Vec::with_capacity(42);
    p.extend_from_slice(&MAC_BROADCAST);
    p.extend_from_slice(&mac);
    p.extend_from_slice(&ETHERTYPE_ARP.to_be_bytes());
    // Hardware type Ethernet, protocol IPv4, address lengths 6 and 4.
    p.extend_from_slice(&[0, 1, 8, 0, 6, 4]);
    let (operation, target): (u16, Mac) = match form {
        ArpForm::Request => (1, [0; 6]),
        ArpForm::Reply => (2, mac),
    };
    p.extend_from_slice(&operation.to_be_bytes());
    p.extend_from_slice(&mac);
    p.extend_from_slice(&vip.octets());
    p.extend_from_slice(&target);
    p.extend_from_slice(&vip.octets());
    p
}

/// An Ethernet frame with an unsolicited neighbour advertisement for `vip`, override flag set (RFC 4861
/// section 4.4).
pub fn unsolicited_na(mac: Mac, vip: Ipv6Addr) -> Vec<u8> {
    let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    let mut icmp = vec![NEIGHBOR_ADVERTISEMENT, 0, 0, 0, 0x20, 0, 0, 0];
    icmp.extend_from_slice(&vip.octets());
    // Target link-layer address option, length in units of 8 bytes.
    icmp.extend_from_slice(&[2, 1]);
    icmp.extend_from_slice(&mac);
    let len = icmp.len() as u16;
    let check = finish(sum(pseudo_header(&vip.octets(), &all_nodes.octets(), PROTO_ICMPV6, len), &icmp));
    icmp[2..4].copy_from_slice(&check.to_be_bytes());

    let mut p = Vec::with_capacity(14 + 40 + icmp.len());
    p.extend_from_slice(&MAC_ALL_NODES);
    p.extend_from_slice(&mac);
    p.extend_from_slice(&ETHERTYPE_IPV6.to_be_bytes());
    p.extend_from_slice(&ipv6_header(vip, all_nodes, PROTO_ICMPV6, len, HOPS_ND));
    p.extend_from_slice(&icmp);
    p
}

/// The tickle as an IP packet: SYN|ACK, sequence 0, acknowledgement 0, VIP to client. An established client
/// answers with a challenge ACK (RFC 5961 section 4.2), to which this host, knowing no such connection, sends
/// the RST that matches exactly. `None` where the two are not of one family.
pub fn tickle(vip: SocketAddr, client: SocketAddr) -> Option<Vec<u8>> {
    let tcp = |src: &[u8], dst: &[u8]| {
        let mut tcp = Vec::with_capacity(usize::from(TCP_LEN));
        tcp.extend_from_slice(&vip.port().to_be_bytes());
        tcp.extend_from_slice(&client.port().to_be_bytes());
        tcp.extend_from_slice(&[0; 8]);
        tcp.extend_from_slice(&[(TCP_LEN as u8 / 4) << 4, TCP_SYN_ACK]);
        tcp.extend_from_slice(&TICKLE_WINDOW.to_be_bytes());
        tcp.extend_from_slice(&[0; 4]);
        let check = finish(sum(pseudo_header(src, dst, PROTO_TCP, TCP_LEN), &tcp));
        tcp[16..18].copy_from_slice(&check.to_be_bytes());
        tcp
    };
    let (mut packet, tcp) = match (vip.ip(), client.ip().to_canonical()) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            (ipv4_header(src, dst, TCP_LEN).to_vec(), tcp(&src.octets(), &dst.octets()))
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            (ipv6_header(src, dst, PROTO_TCP, TCP_LEN, HOPS).to_vec(), tcp(&src.octets(), &dst.octets()))
        }
        _ => return None,
    };
    packet.extend_from_slice(&tcp);
    Some(packet)
}

/// RFC 791 section 3.1, protocol TCP, no options, don't fragment.
fn ipv4_header(src: Ipv4Addr, dst: Ipv4Addr, payload_len: u16) -> [u8; 20] {
    let mut h = [0; 20];
    h[0] = 0x45;
    h[2..4].copy_from_slice(&(20 + payload_len).to_be_bytes());
    h[6] = 0x40;
    h[8] = HOPS;
    h[9] = PROTO_TCP;
    h[12..16].copy_from_slice(&src.octets());
    h[16..20].copy_from_slice(&dst.octets());
    let check = finish(sum(0, &h));
    h[10..12].copy_from_slice(&check.to_be_bytes());
    h
}

/// RFC 8200 section 3.
fn ipv6_header(src: Ipv6Addr, dst: Ipv6Addr, next: u8, payload_len: u16, hops: u8) -> [u8; 40] {
    let mut h = [0; 40];
    h[0] = 0x60;
    h[4..6].copy_from_slice(&payload_len.to_be_bytes());
    h[6] = next;
    h[7] = hops;
    h[8..24].copy_from_slice(&src.octets());
    h[24..40].copy_from_slice(&dst.octets());
    h
}

#[cfg(test)]
mod tests {
    //! Goal: no switch and no client drops what we send because a byte or a checksum is wrong.
    //! Method: against packets taken from other stacks and textbooks, byte for byte.
    use super::*;

    const MAC: Mac = [2, 0, 0, 0xaa, 0xbb, 0xcc];

    fn hex(s: &str) -> Vec<u8> {
        let s: String = s.split_whitespace().collect();
        (0..s.len()).step_by(2).map(|i| u8::from_str_radix(&s[i..i + 2], 16).unwrap()).collect()
    }

    /// The worked example of RFC 1071 section 3, and a well-known IPv4 header.
    #[test]
    fn checksum_matches_known_packets() {
        assert_eq!(finish(sum(0, &hex("0001 f203 f4f5 f6f7"))), !0xddf2);
        let header = hex("4500 0073 0000 4000 4011 0000 c0a8 0001 c0a8 00c7");
        assert_eq!(finish(sum(0, &header)), 0xb861);
        assert_eq!(finish(sum(0, &[1])), !0x0100, "an odd byte is the high one");
    }

    #[test]
    fn gratuitous_arp_is_right_in_both_forms() {
        let vip = Ipv4Addr::new(10, 0, 0, 9);
        assert_eq!(
            gratuitous_arp(MAC, vip, ArpForm::Request),
            hex(
                "ffffffffffff 020000aabbcc 0806 0001 0800 06 04 0001 020000aabbcc 0a000009 000000000000 0a000009"
            )
        );
        assert_eq!(
            gratuitous_arp(MAC, vip, ArpForm::Reply),
            hex(
                "ffffffffffff 020000aabbcc 0806 0001 0800 06 04 0002 020000aabbcc 0a000009 020000aabbcc 0a000009"
            )
        );
    }

    /// A receiver sums pseudo-header and message, checksum included, to 0xffff.
    #[test]
    fn neighbour_advertisement_sums_up_and_has_hop_limit_255() {
        let vip: Ipv6Addr = "fd00::9".parse().unwrap();
        let p = unsolicited_na(MAC, vip);
        assert_eq!(p.len(), 14 + 40 + 32);
        assert_eq!(p[14 + 7], 255);
        let icmp = &p[54..];
        assert_eq!(&icmp[..2], [136, 0]);
        assert_eq!(icmp[4], 0x20, "override, not solicited");
        assert_eq!(finish(sum(pseudo_header(&p[22..38], &p[38..54], 58, 32), icmp)), 0);
    }

    /// Bytes as python's independent `struct` arithmetic gives them for the same fields.
    #[test]
    fn tickle_v4_byte_for_byte() {
        let p = tickle("10.0.0.9:2049".parse().unwrap(), "10.0.0.7:800".parse().unwrap()).unwrap();
        assert_eq!(
            p,
            hex("4500 0028 0000 4000 4006 26c1 0a00 0009 0a00 0007
                 0801 0320 0000 0000 0000 0000 5012 0400 8ca2 0000")
        );
    }

    #[test]
    fn tickle_v6_sums_up_and_families_do_not_mix() {
        let p = tickle("[fd00::9]:2049".parse().unwrap(), "[fd00::7]:800".parse().unwrap()).unwrap();
        assert_eq!(p.len(), 60);
        assert_eq!(finish(sum(pseudo_header(&p[8..24], &p[24..40], 6, 20), &p[40..])), 0);
        assert_eq!(tickle("10.0.0.9:1".parse().unwrap(), "[fd00::7]:1".parse().unwrap()), None);
        let mapped = tickle("10.0.0.9:1".parse().unwrap(), "[::ffff:10.0.0.7]:1".parse().unwrap());
        assert!(mapped.is_some(), "a v4 client of a v6 socket is a v4 client");
    }
}
