//! Entries of `clients`, in exports(5)'s words: `WHO` or `WHO(option,option)`.
//!
//! Options that change nothing here are taken where they say what is true anyway, so that a line of
//! /etc/exports can be pasted; those that ask for something else are refused with the reason, so that nobody
//! relies on them. Nothing is looked up here: a name is only checked for its form.

use std::net::{IpAddr, Ipv4Addr};

use nfsd::access::{Net, Who};

use super::locate::did_you_mean;
use super::model::{Access, Client, Squash};

/// Longest host name, bytes, and longest part of one (RFC 1035 section 2.3.4).
const NAME_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;

/// Options that have a meaning, for suggestions.
const OPTIONS: [&str; 10] = [
    "ro",
    "rw",
    "root_squash",
    "no_root_squash",
    "all_squash",
    "no_all_squash",
    "anonuid",
    "anongid",
    "secure",
    "insecure",
];

/// What is anyway so.
const ANYWAY: [&str; 4] = ["sync", "no_subtree_check", "no_wdelay", "sec=sys"];

/// exports(5)'s other options, and why they cannot be had.
const REFUSED: [(&str, &str); 17] = [
    ("async", "hanfs never answers before a change is as safe as `durability` says"),
    ("wdelay", "hanfs gathers writes by itself and delays none"),
    ("subtree_check", "an export is a file system of its own, there is nothing to check"),
    ("fsid", "the export's `id` is its identity, the same on both nodes"),
    ("crossmnt", "an export has no other file systems below it"),
    ("hide", "an export has no other file systems below it"),
    ("nohide", "an export has no other file systems below it"),
    ("mountpoint", "an export is no directory of the host"),
    ("mp", "an export is no directory of the host"),
    ("sec", "only AUTH_SYS is spoken: expected sec=sys, or nothing"),
    ("xprtsec", "NFS is not encrypted here"),
    ("acl", "access control lists are not spoken"),
    ("no_acl", "access control lists are not spoken"),
    ("refer", "a virtual IP moves by itself, clients are sent nowhere"),
    ("replicas", "a virtual IP moves by itself, clients are sent nowhere"),
    ("pnfs", "that is of NFSv4"),
    ("security_label", "that is of NFSv4"),
];

/// One entry. `defaults`: what the export's own keys say, for options that are not there. The error says what
/// was found and what was expected.
pub fn parse(text: &str, defaults: &Access) -> Result<Client, String> {
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(format!("{text:?}: expected no spaces, as in \"10.0.0.0/24(rw)\""));
    }
    let (group, options) = match text.split_once('(') {
        None => (text, ""),
        Some((group, rest)) => match rest.strip_suffix(')') {
            Some(options) if !options.contains(['(', ')']) => (group, options),
            _ => {
                return Err(format!(
                    "{text:?}: expected one list of options, as in \"10.0.0.0/24(rw,secure)\""
                ));
            }
        },
    };
    let who = who(group)?;
    let access = options.split(',').filter(|o| !o.is_empty()).try_fold(Options::default(), Options::with)?;
    Ok(Client { who, group: group.to_owned(), access: access.over(defaults) })
}

/// The part before the options.
fn who(text: &str) -> Result<Who, String> {
    let expected =
        "expected an address, a network such as 10.0.0.0/24, a host's name, a name with * or ?, or *";
    match text {
        "" => Err(format!("nobody is named: {expected}")),
        "*" => Ok(Who::Any),
        _ if text.starts_with('@') => Err(format!("{text:?}: netgroups are not looked up; {expected}")),
        _ if text.starts_with("gss/") => Err(format!("{text:?}: only AUTH_SYS is spoken; {expected}")),
        _ if text.contains('/') => network(text),
        _ => match text.parse::<IpAddr>() {
            Ok(address) => Ok(Who::Net(Net::host(address))),
            Err(_) => name(text).ok_or_else(|| format!("{text:?}: {}", hint(text).unwrap_or(expected))),
        },
    }
}

/// What somebody meant who wrote numbers and dots that are no address.
fn hint(text: &str) -> Option<&'static str> {
    if text.contains(['[', ']']) {
        return Some("lists of characters are not understood; expected * or ? in their place");
    }
    let numbers = text.bytes().all(|b| b.is_ascii_digit() || b".*?:".contains(&b));
    numbers.then_some(
        "expected an address or a network, as in 10.0.0.7 or 10.0.0.0/24: * stands for parts of names",
    )
}

fn network(text: &str) -> Result<Who, String> {
    let expected = "expected a network, as in 10.0.0.0/24, 10.0.0.0/255.255.255.0 or 2001:db8::/32";
    let refuse = || format!("{text:?}: {expected}");
    let (address, mask) = text.split_once('/').ok_or_else(refuse)?;
    let address: IpAddr = address.parse().map_err(|_| refuse())?;
    let bits = match mask.parse::<Ipv4Addr>() {
        Ok(mask) if address.is_ipv4() && mask.to_bits().leading_ones() == mask.to_bits().count_ones() => {
            u8::try_from(mask.to_bits().leading_ones()).unwrap_or(32)
        }
        Ok(_) => return Err(format!("{text:?}: a netmask has its ones in front and is IPv4's; {expected}")),
        Err(_) => mask.parse().map_err(|_| refuse())?,
    };
    let net = Net::new(address, bits).ok_or_else(refuse)?;
    let first = first_of(address, bits);
    if first != address {
        return Err(format!(
            "{text:?} has ones past its prefix: expected {first}/{bits}, or {address} alone"
        ));
    }
    Ok(Who::Net(net))
}

/// A network's first address.
fn first_of(address: IpAddr, bits: u8) -> IpAddr {
    match address {
        IpAddr::V4(ip) => {
            let mask = u32::MAX.checked_shl(32_u32.saturating_sub(bits.into())).unwrap_or(0);
            IpAddr::from((ip.to_bits() & mask).to_be_bytes())
        }
        IpAddr::V6(ip) => {
            let mask = u128::MAX.checked_shl(128_u32.saturating_sub(bits.into())).unwrap_or(0);
            IpAddr::from((ip.to_bits() & mask).to_be_bytes())
        }
    }
}

/// A host's name, or a pattern, in lower case and without the dot at the end.
fn name(text: &str) -> Option<Who> {
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let letters = |label: &str| label.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_*?".contains(&b));
    let form = name.len() <= NAME_BYTES_MAX
        && name
            .split('.')
            .all(|l| !l.is_empty() && l.len() <= LABEL_BYTES_MAX && !l.starts_with('-') && letters(l));
    // No top-level domain is a number (RFC 3696 section 2): what ends with one is an address with a mistake
    // in it.
    let last = name.rsplit('.').next().unwrap_or_default();
    let address = last.bytes().all(|b| b.is_ascii_digit())
        || !name.bytes().any(|b| b.is_ascii_alphabetic() || b == b'_');
    if !form || address {
        return None;
    }
    Some(if name.contains(['*', '?']) { Who::Wildcard(name) } else { Who::Host(name) })
}

/// What an entry's options say; `None`: nothing.
#[derive(Default)]
struct Options {
    read_only: Option<bool>,
    squash_root: Option<bool>,
    squash_all: Option<bool>,
    anon_uid: Option<u32>,
    anon_gid: Option<u32>,
    secure: Option<bool>,
}

impl Options {
    fn with(mut self, option: &str) -> Result<Self, String> {
        let (word, value) = match option.split_once('=') {
            Some((word, value)) => (word, Some(value)),
            None => (option, None),
        };
        match (word, value) {
            ("ro", None) => set(&mut self.read_only, true, option)?,
            ("rw", None) => set(&mut self.read_only, false, option)?,
            ("root_squash", None) => set(&mut self.squash_root, true, option)?,
            ("no_root_squash", None) => set(&mut self.squash_root, false, option)?,
            ("all_squash", None) => set(&mut self.squash_all, true, option)?,
            ("no_all_squash", None) => set(&mut self.squash_all, false, option)?,
            ("secure", None) => set(&mut self.secure, true, option)?,
            ("insecure", None) => set(&mut self.secure, false, option)?,
            ("anonuid", value) => set(&mut self.anon_uid, id(option, value)?, option)?,
            ("anongid", value) => set(&mut self.anon_gid, id(option, value)?, option)?,
            _ if ANYWAY.contains(&option) => {}
            _ => return Err(refuse(option, word)),
        }
        Ok(self)
    }

    fn over(self, defaults: &Access) -> Access {
        let all = self.squash_all.unwrap_or(defaults.squash == Squash::All);
        let root = self.squash_root.unwrap_or(defaults.squash != Squash::None);
        Access {
            read_only: self.read_only.unwrap_or(defaults.read_only),
            squash: match (all, root) {
                (true, _) => Squash::All,
                (false, true) => Squash::Root,
                (false, false) => Squash::None,
            },
            anon_uid: self.anon_uid.unwrap_or(defaults.anon_uid),
            anon_gid: self.anon_gid.unwrap_or(defaults.anon_gid),
            secure: self.secure.unwrap_or(defaults.secure),
        }
    }
}

/// Said once, or twice the same.
fn set<T: PartialEq>(field: &mut Option<T>, value: T, option: &str) -> Result<(), String> {
    match field {
        Some(before) if *before != value => Err(format!("{option} contradicts what is said before it")),
        _ => {
            *field = Some(value);
            Ok(())
        }
    }
}

fn id(option: &str, value: Option<&str>) -> Result<u32, String> {
    value
        .and_then(|value| value.parse().ok())
        .ok_or_else(|| format!("{option:?}: expected a number from 0 to 4294967295, as in anonuid=99"))
}

fn refuse(option: &str, word: &str) -> String {
    if let Some((_, why)) = REFUSED.iter().find(|(known, _)| *known == word) {
        return format!("option {option}: {why}; leave it out");
    }
    let mut text = format!("unknown option {option}; expected some of {}", OPTIONS.join(", "));
    if let Some(meant) = did_you_mean(word, OPTIONS) {
        text.push_str(&format!("; did you mean {meant}?"));
    }
    text
}

#[cfg(test)]
#[path = "clients_tests.rs"]
mod tests;
