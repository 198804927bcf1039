//! Who may use an export, and how: exports(5)'s access lists, and what they say about one address.
//!
//! An [`AccessList`] is what the administrator wrote; it never changes. [`Access`] is an export's list of the
//! moment, swapped by a reload, with the decisions made by it: a call costs two atomic loads and one look
//! into a hash map, no lock and no comparison of strings. Nothing here asks a name server; what is known of
//! names comes from [`Names`].
//!
//! The most exact rule decides: an address or a host's name before a network, a long prefix before a short
//! one, any network before a name with wildcards, and `*` last; among equals the first. Where the answer
//! hangs on a name that is not known yet the client is *undecided*, which is neither yes nor no; only clients
//! whom the list does not name by address can be, so that a dead name server keeps nobody out who is.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::exports::ExportPolicy;
use crate::names::{Known, Names, Proof};

/// Decisions kept per export; beyond it they are made anew. Four times `limits.connections`' default.
const DECISIONS_MAX: usize = 4096;
/// Ports from here on are anybody's on the client: `secure` wants one below (exports(5)).
const UNPRIVILEGED_PORT: u16 = 1024;

/// An IP network. IPv4 addresses in IPv6's form are IPv4's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Net {
    address: IpAddr,
    prefix_bits: u8,
}

impl Net {
    /// A network; `None` where the prefix is longer than the address. Bits past the prefix say nothing.
    pub fn new(address: IpAddr, prefix_bits: u8) -> Option<Self> {
        let (plain, bits) = (address.to_canonical(), bits_of(address));
        if prefix_bits > bits {
            return None;
        }
        // ::ffff:10.0.0.0/120 is 10.0.0.0/24; a shorter prefix than the 96 bits in front means more than
        // IPv4.
        match bits - bits_of(plain) {
            0 => Some(Self { address: plain, prefix_bits }),
            front => match prefix_bits.checked_sub(front) {
                Some(prefix_bits) => Some(Self { address: plain, prefix_bits }),
                None => Some(Self { address, prefix_bits }),
            },
        }
    }

    /// One address alone.
    pub fn host(address: IpAddr) -> Self {
        let address = address.to_canonical();
        Self { address, prefix_bits: bits_of(address) }
    }

    /// Is it one address alone?
    pub fn is_host(&self) -> bool {
        self.prefix_bits == bits_of(self.address)
    }

    /// Is the address, in its canonical form, one of the network's?
    pub fn contains(&self, ip: IpAddr) -> bool {
        let shift = u32::from(bits_of(self.address).saturating_sub(self.prefix_bits));
        match (self.address, ip) {
            (IpAddr::V4(net), IpAddr::V4(ip)) => {
                (net.to_bits() ^ ip.to_bits()).checked_shr(shift).unwrap_or(0) == 0
            }
            (IpAddr::V6(net), IpAddr::V6(ip)) => {
                (net.to_bits() ^ ip.to_bits()).checked_shr(shift).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

fn bits_of(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// Whom a rule means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// `*`: everybody.
    Any,
    /// An address or a network.
    Net(Net),
    /// A host's full name, in lower case; its addresses are looked up beforehand.
    Host(String),
    /// A name with `*` and `?`, in lower case. Both stand for dots too, as in exports(5).
    Wildcard(String),
}

/// What the clients that a rule means may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Whom it means.
    pub who: Who,
    /// The same, as it was written: what `showmount -e` shows.
    pub group: String,
    /// What they may do.
    pub policy: ExportPolicy,
    /// Only from a port below 1024.
    pub secure: bool,
}

/// What a list says about one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// This policy; `secure`: from a port below 1024 only.
    Policy(ExportPolicy, bool),
    /// No rule means it.
    Denied,
    /// A rule may, by a name that is not known yet.
    Undecided,
}

/// An export's access list. Without rules it admits nobody.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct AccessList {
    rules: Vec<Rule>,
}

impl FromIterator<Rule> for AccessList {
    fn from_iter<T: IntoIterator<Item = Rule>>(rules: T) -> Self {
        Self { rules: rules.into_iter().collect() }
    }
}

impl AccessList {
    /// The same for everybody.
    pub fn everybody(policy: ExportPolicy, secure: bool) -> Self {
        [Rule { who: Who::Any, group: "*".to_owned(), policy, secure }].into_iter().collect()
    }

    /// Whom it admits, for EXPORT; none: everybody (RFC 1813 section 5.2.5).
    pub fn groups(&self) -> impl Iterator<Item = &str> {
        let rules = if self.open().is_some() { &[][..] } else { &self.rules };
        rules.iter().map(|rule| rule.group.as_str())
    }

    /// Names whose addresses it wants to know.
    pub fn hosts(&self) -> impl Iterator<Item = &str> {
        self.rules.iter().filter_map(|rule| match &rule.who {
            Who::Host(name) => Some(name.as_str()),
            _ => None,
        })
    }

    /// Does it want to know clients' names?
    pub fn has_wildcards(&self) -> bool {
        self.rules.iter().any(|rule| matches!(rule.who, Who::Wildcard(_)))
    }

    /// The one rule of a list that makes no difference between clients.
    fn open(&self) -> Option<&Rule> {
        self.rules.first().filter(|rule| self.rules.len() == 1 && rule.who == Who::Any)
    }

    /// What the list says about an address, in its canonical form.
    pub fn decide(&self, ip: IpAddr, known: &Known) -> Decision {
        let mut best: Option<(u16, &Rule)> = None;
        let mut unknown = false;
        for rule in &self.rules {
            let rank = match &rule.who {
                Who::Net(net) if net.contains(ip) && net.is_host() => Some(RANK_EXACT),
                Who::Net(net) if net.contains(ip) => Some(RANK_NETWORK + u16::from(net.prefix_bits)),
                Who::Net(_) => None,
                // Where its address could not be looked up yet, the client's own confirmed names say it as well.
                Who::Host(name) => match known
                    .is_host(name, ip)
                    .or_else(|| known.names_of(ip)?.iter().any(|own| own == name).then_some(true))
                {
                    Some(is) => is.then_some(RANK_EXACT),
                    None => {
                        unknown = true;
                        None
                    }
                },
                Who::Wildcard(pattern) => match known.names_of(ip) {
                    Some(names) => names.iter().any(|name| matches(pattern, name)).then_some(RANK_WILDCARD),
                    None => {
                        unknown = true;
                        None
                    }
                },
                Who::Any => Some(RANK_ANY),
            };
            if let Some(rank) = rank
                && best.is_none_or(|(than, _)| rank > than)
            {
                best = Some((rank, rule));
            }
        }
        match best {
            Some((rank, rule)) if rank >= RANK_WILDCARD || !unknown => {
                Decision::Policy(rule.policy, rule.secure)
            }
            _ if unknown => Decision::Undecided,
            _ => Decision::Denied,
        }
    }
}

/// How exact a rule is; a network's prefix length is added to its rank.
const RANK_ANY: u16 = 0;
const RANK_WILDCARD: u16 = 1;
const RANK_NETWORK: u16 = 2;
const RANK_EXACT: u16 = RANK_NETWORK + 129;

/// Does a name match a pattern with `*` and `?`? Both in lower case. In time of the product of their lengths
/// at most: at a mismatch only the last `*` is tried anew.
fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    loop {
        match (pattern.get(p), name.get(n)) {
            (None, None) => return true,
            (Some(b'*'), _) => {
                star = Some((p, n));
                p += 1;
            }
            (Some(want), Some(is)) if *want == b'?' || want == is => {
                p += 1;
                n += 1;
            }
            _ => match star {
                Some((at, from)) if from < name.len() => {
                    star = Some((at, from + 1));
                    (p, n) = (at + 1, from + 1);
                }
                _ => return false,
            },
        }
    }
}

/// What one client may do with an export now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// This.
    Allowed(ExportPolicy),
    /// Nothing.
    Denied,
    /// It hangs on a name that is not known yet.
    Undecided,
}

/// An export's list of the moment and the decisions made by it.
pub struct Access {
    names: Arc<Names>,
    state: ArcSwap<State>,
}

/// Decisions hold for one list and one state of what is known of names; either one's change begins anew.
struct State {
    list: Arc<AccessList>,
    known: Arc<Known>,
    decisions: HashMap<IpAddr, Decision>,
}

impl Access {
    /// This list, with what is known of names.
    pub fn new(list: AccessList, names: Arc<Names>) -> Arc<Self> {
        let state = State { list: Arc::new(list), known: names.known(), decisions: HashMap::new() };
        Arc::new(Self { names, state: ArcSwap::from_pointee(state) })
    }

    /// The list of the moment.
    pub fn list(&self) -> Arc<AccessList> {
        self.state.load().list.clone()
    }

    /// Another list; clients that are connected meet it at their next call.
    pub fn replace(&self, list: AccessList) {
        let state = State { list: Arc::new(list), known: self.names.known(), decisions: HashMap::new() };
        self.state.store(Arc::new(state));
    }

    /// What a client may do. A decision about a proven address is remembered; nobody fills the memory with made-up ones.
    pub fn verdict(&self, client: SocketAddr, proof: Proof) -> Verdict {
        match self.decision(client.ip().to_canonical(), proof) {
            Decision::Policy(_, true) if client.port() >= UNPRIVILEGED_PORT => Verdict::Denied,
            Decision::Policy(policy, _) => Verdict::Allowed(policy),
            Decision::Denied => Verdict::Denied,
            Decision::Undecided => Verdict::Undecided,
        }
    }

    fn decision(&self, ip: IpAddr, proof: Proof) -> Decision {
        let state = self.state.load();
        if let Some(rule) = state.list.open() {
            return Decision::Policy(rule.policy, rule.secure);
        }
        let known = self.names.load();
        if Arc::ptr_eq(&state.known, &known)
            && let Some(decision) = state.decisions.get(&ip)
        {
            return *decision;
        }
        let decision = state.list.decide(ip, &known);
        match decision {
            Decision::Undecided => self.names.want(ip, proof),
            _ if proof == Proof::Proven => self.remember(ip),
            _ => {}
        }
        decision
    }

    /// Copies the decisions, with one more. Once per client's address and change of list or names.
    fn remember(&self, ip: IpAddr) {
        self.state.rcu(|state| {
            let known = self.names.known();
            let fresh = Arc::ptr_eq(&state.known, &known) && state.decisions.len() < DECISIONS_MAX;
            let mut decisions = if fresh { state.decisions.clone() } else { HashMap::new() };
            match state.list.decide(ip, &known) {
                Decision::Undecided => {}
                decision => drop(decisions.insert(ip, decision)),
            }
            State { list: state.list.clone(), known, decisions }
        });
    }

    /// Waits until the client, whose connection stands, is not undecided any more.
    pub async fn decided(&self, client: SocketAddr) {
        self.names.when(|| self.verdict(client, Proof::Proven) != Verdict::Undecided).await;
    }

    /// Begins to find out a client's name, where the list wants to know it. One that is known already is proven from now on
    /// if this says so.
    pub fn expect(&self, client: IpAddr, proof: Proof) {
        let ip = client.to_canonical();
        let news = proof == Proof::Proven || self.names.load().names_of(ip).is_none();
        if news && self.state.load().list.has_wildcards() {
            self.names.want(ip, proof);
        }
    }
}

#[cfg(test)]
#[path = "access_tests.rs"]
mod tests;
