//! Universal addresses: an IP address with its port as text, `h1.h2.h3.h4.p1.p2` or `x::y.p1.p2` (RFC 5665 section
//! 5.2.3), and what RFC 1833 calls a transport-specific address: here, as in libtirpc, Linux's `sockaddr_in` or
//! `sockaddr_in6`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

/// Family numbers at the front of a `sockaddr`, in the host's byte order.
const AF_INET: u16 = libc::AF_INET as u16;
const AF_INET6: u16 = libc::AF_INET6 as u16;

/// Bytes of a `sockaddr_in`.
const SOCKADDR_IN: usize = 16;

/// An address as text. A scope id is not part of it.
pub fn format(address: SocketAddr) -> String {
    let [high, low] = address.port().to_be_bytes();
    format!("{}.{high}.{low}", address.ip())
}

/// Reads what [`format()`] writes; `None` where it is no such address.
pub fn parse(text: &str) -> Option<SocketAddr> {
    let mut parts = text.rsplitn(3, '.');
    let (low, high, host) = (octet(parts.next()?)?, octet(parts.next()?)?, parts.next()?);
    Some(SocketAddr::new(host.parse().ok()?, u16::from_be_bytes([high, low])))
}

fn octet(text: &str) -> Option<u8> {
    // `parse` would take a sign.
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

/// The bytes of a `sockaddr`, as this host's kernel has them.
pub fn to_sockaddr(address: SocketAddr) -> Vec<u8> {
    let mut out = Vec::with_capacity(28);
    match address {
        SocketAddr::V4(v4) => {
            out.extend_from_slice(&AF_INET.to_ne_bytes());
            out.extend_from_slice(&v4.port().to_be_bytes());
            out.extend_from_slice(&v4.ip().octets());
            out.resize(SOCKADDR_IN, 0);
        }
        SocketAddr::V6(v6) => {
            out.extend_from_slice(&AF_INET6.to_ne_bytes());
            out.extend_from_slice(&v6.port().to_be_bytes());
            out.extend_from_slice(&v6.flowinfo().to_be_bytes());
            out.extend_from_slice(&v6.ip().octets());
            out.extend_from_slice(&v6.scope_id().to_ne_bytes());
        }
    }
    out
}

/// Reads what [`to_sockaddr`] writes; `None` where it is no such address.
pub fn from_sockaddr(bytes: &[u8]) -> Option<SocketAddr> {
    let (family, rest) = bytes.split_first_chunk::<2>()?;
    let (port, rest) = rest.split_first_chunk::<2>()?;
    let port = u16::from_be_bytes(*port);
    match u16::from_ne_bytes(*family) {
        AF_INET => Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::from(*rest.first_chunk::<4>()?)), port)),
        AF_INET6 => {
            let (flowinfo, rest) = rest.split_first_chunk::<4>()?;
            let (ip, rest) = rest.split_first_chunk::<16>()?;
            let scope = u32::from_ne_bytes(*rest.first_chunk::<4>()?);
            let flowinfo = u32::from_be_bytes(*flowinfo);
            Some(SocketAddrV6::new(Ipv6Addr::from(*ip), port, flowinfo, scope).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    //! Goal: an address that is given out is the one that was meant, in each of its spellings.
    //! Method: a table there and back; each cut and each malformed text refused.
    use super::*;

    const TABLE: [(&str, &str); 4] = [
        ("192.0.2.7:2049", "192.0.2.7.8.1"),
        ("0.0.0.0:111", "0.0.0.0.0.111"),
        ("[2001:db8::7]:2049", "2001:db8::7.8.1"),
        ("[::]:65535", "::.255.255"),
    ];

    #[test]
    fn addresses_survive_the_way_there_and_back() {
        for (address, text) in TABLE {
            let address: SocketAddr = address.parse().unwrap();
            assert_eq!(format(address), text);
            assert_eq!(parse(text), Some(address));
            let raw = to_sockaddr(address);
            assert_eq!(raw.len(), if address.is_ipv4() { 16 } else { 28 });
            assert_eq!(from_sockaddr(&raw), Some(address));
            let needed = if address.is_ipv4() { 8 } else { 28 };
            for cut in 0..needed {
                assert_eq!(from_sockaddr(&raw[..cut]), None, "{text} cut at {cut}");
            }
        }
    }

    #[test]
    fn what_is_no_address_is_none() {
        for text in
            ["", "1", ".", "..", "192.0.2.7", "192.0.2.7.8", "192.0.2.7.8.256", "192.0.2.7.+8.1", "x.8.1"]
        {
            assert_eq!(parse(text), None, "{text}");
        }
        assert_eq!(from_sockaddr(&[0xff; 28]), None);
    }
}
