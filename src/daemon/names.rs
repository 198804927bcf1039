//! Host names in access lists: a task that asks name servers so that no call ever waits for one.
//!
//! Names that stand in a list are looked up at the start, after a reload and every minute. Names of clients'
//! addresses are looked up only where a list has a name with wildcards, when a client connects, and anew
//! every ten minutes; of those the ones count that lead back to the address, for whoever owns an address can
//! have it say any name. The last good answer stays until there is another: a name server that fails changes
//! nothing, and is told of once. That a name does not exist is an answer.
//!
//! `/etc/hosts` first, then the servers of `/etc/resolv.conf`; both are read anew every minute. Own code asks
//! them (hickory), not the C library's, which a static binary does not have.

use std::collections::{BTreeSet, HashMap};
use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::config::{ResolverConfig, ResolverOpts};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::op::Query;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::{Hosts, TokioResolver};
use nfsd::names::{Known, Names, Proof};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

/// A name in a list is looked up this often; an unanswered question is repeated sooner.
const HOST_EVERY: Duration = Duration::from_secs(60);
/// An address's names are looked up this often.
const ADDRESS_EVERY: Duration = Duration::from_secs(600);
/// After a failure: next try, and how often to look what is due.
const RETRY: Duration = Duration::from_secs(5);
/// One question and what follows from it.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// One packet's answer; below what a call waits (2 s), so that a second server gets its turn.
const PACKET_MAX: Duration = Duration::from_millis(900);
/// Questions under way.
const ASKING_MAX: usize = 64;
/// Of these about addresses that are only claimed: a flood of made-up ones keeps no real client waiting.
const ASKING_CLAIMED_MAX: usize = ASKING_MAX / 2;
/// Addresses that wait for their turn, of either kind; what finds no place is asked for again by the next call.
const WANTED_MAX: usize = 1024;
/// Addresses whose names are kept. A claimed one makes room first, and never takes a proven one's place; among equals
/// the one asked longest ago goes.
const ADDRESSES_MAX: usize = 4096;
/// Names of one address that are looked at, and addresses of one name.
const ANSWERS_MAX: usize = 64;

/// The name servers: the edge.
pub trait Dns: Clone + Send + Sync + 'static {
    /// Addresses of a name; none: it has none, or does not exist. The error says why nobody knows.
    fn addresses(&self, host: String) -> impl Future<Output = Result<Vec<IpAddr>, String>> + Send;
    /// Names of an address, as its owner says.
    fn names(&self, address: IpAddr) -> impl Future<Output = Result<Vec<String>, String>> + Send;
}

/// The host's own configuration, read at each question.
#[derive(Clone, Copy, Default)]
pub struct System;

impl System {
    fn resolver() -> Result<TokioResolver, NetError> {
        let provider = TokioRuntimeProvider::default;
        // Without name servers there is /etc/hosts.
        let mut builder = TokioResolver::builder_tokio().unwrap_or_else(|_| {
            let nobody = ResolverConfig::from_parts(None, Vec::new(), Vec::new());
            TokioResolver::builder_with_config(nobody, provider())
        });
        let options: &mut ResolverOpts = builder.options_mut();
        options.timeout = options.timeout.min(PACKET_MAX);
        options.cache_size = 0;
        builder.build()
    }
}

/// That there is nothing is an answer.
fn none_is_empty<T>(outcome: Result<Vec<T>, NetError>) -> Result<Vec<T>, String> {
    match outcome {
        Err(error) if error.is_no_records_found() => Ok(Vec::new()),
        outcome => outcome.map_err(|error| error.to_string()),
    }
}

fn addresses_of(found: &Lookup) -> Vec<IpAddr> {
    found.answers().iter().filter_map(|record| record.data.ip_addr()).collect()
}

/// A name's addresses in `/etc/hosts`; where there are some, name servers are not asked.
fn in_hosts_file(name: &Name) -> Vec<IpAddr> {
    let Ok(hosts) = Hosts::from_system() else { return Vec::new() };
    let of = |kind| hosts.lookup_static_host(&Query::query(name.clone(), kind));
    [RecordType::A, RecordType::AAAA]
        .into_iter()
        .filter_map(of)
        .flat_map(|found| addresses_of(&found))
        .collect()
}

impl Dns for System {
    async fn addresses(&self, host: String) -> Result<Vec<IpAddr>, String> {
        let name = Name::from_utf8(&host).map_err(|error| error.to_string())?;
        let in_file = in_hosts_file(&name);
        if !in_file.is_empty() {
            return Ok(in_file);
        }
        let resolver = Self::resolver().map_err(|error| error.to_string())?;
        // Half an answer is none: it would take the other half's clients away.
        let v4 = none_is_empty(resolver.ipv4_lookup(name.clone()).await.map(|found| addresses_of(&found)))?;
        let v6 = none_is_empty(resolver.ipv6_lookup(name).await.map(|found| addresses_of(&found)))?;
        Ok([v4, v6].concat())
    }

    async fn names(&self, address: IpAddr) -> Result<Vec<String>, String> {
        let resolver = Self::resolver().map_err(|error| error.to_string())?;
        let found = resolver.reverse_lookup(address).await;
        none_is_empty(found.map(|found| {
            let names = found.answers().iter().filter_map(|record| match &record.data {
                RData::PTR(name) => Some(name.0.to_utf8()),
                _ => None,
            });
            names.collect()
        }))
    }
}

/// The door to the task.
pub struct Resolver {
    /// What is known, for access lists.
    pub names: Arc<Names>,
    hosts: watch::Sender<BTreeSet<String>>,
}

impl Resolver {
    /// Starts the task. It ends when this is dropped.
    pub fn start(dns: impl Dns, runtime: &tokio::runtime::Handle) -> Self {
        let (claims, claimed) = mpsc::channel(WANTED_MAX);
        let (proofs, proven) = mpsc::channel(WANTED_MAX);
        let names = Names::new(Box::new(move |ip, proof| {
            let queue = if proof == Proof::Proven { &proofs } else { &claims };
            let _ = queue.try_send(ip);
        }));
        let (hosts, watched) = watch::channel(BTreeSet::new());
        let task = Task {
            dns,
            names: Arc::downgrade(&names),
            known: Known::default(),
            due: HashMap::new(),
            asked: HashMap::new(),
            failing: BTreeSet::new(),
            asking: JoinSet::new(),
        };
        runtime.spawn(task.run(watched, proven, claimed));
        Self { names, hosts }
    }

    /// From now on these names are looked up, and no others.
    pub fn watch(&self, hosts: BTreeSet<String>) {
        self.hosts.send_if_modified(|before| {
            let changed = *before != hosts;
            *before = hosts;
            changed
        });
    }
}

/// What was asked, and the answer.
enum Answer {
    Host(String, Result<Vec<IpAddr>, String>),
    Address(IpAddr, Result<Vec<String>, String>),
}

/// An address that is looked up.
struct Asked {
    /// When next, at the earliest.
    next: Instant,
    proof: Proof,
}

struct Task<D> {
    dns: D,
    names: std::sync::Weak<Names>,
    known: Known,
    /// Names that are looked up, and when next.
    due: HashMap<String, Instant>,
    /// Addresses that are looked up.
    asked: HashMap<IpAddr, Asked>,
    /// Names whose look-up failed, and that was told.
    failing: BTreeSet<String>,
    asking: JoinSet<Answer>,
}

impl<D: Dns> Task<D> {
    async fn run(
        mut self,
        mut hosts: watch::Receiver<BTreeSet<String>>,
        mut proven: mpsc::Receiver<IpAddr>,
        mut claimed: mpsc::Receiver<IpAddr>,
    ) {
        let mut look = interval(RETRY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                changed = hosts.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let hosts = hosts.borrow_and_update().clone();
                    self.watch(&hosts);
                    self.ask_due();
                }
                _ = look.tick() => self.ask_due(),
                Some(ip) = proven.recv(), if self.asking.len() < ASKING_MAX => self.wanted(ip, Proof::Proven),
                Some(ip) = claimed.recv(), if self.asking.len() < ASKING_CLAIMED_MAX => {
                    self.wanted(ip, Proof::Claimed);
                }
                Some(answer) = self.asking.join_next() => {
                    // A look-up that panicked is asked again when it is due.
                    if let Ok(answer) = answer {
                        self.take(answer);
                    }
                }
            }
        }
    }

    fn watch(&mut self, hosts: &BTreeSet<String>) {
        self.due.retain(|host, _| hosts.contains(host));
        self.failing.retain(|host| hosts.contains(host));
        self.known.hosts.retain(|host, _| hosts.contains(host));
        let now = Instant::now();
        for host in hosts {
            // A reload is a reason to look again.
            self.due.insert(host.clone(), now);
        }
        self.publish();
    }

    fn wanted(&mut self, ip: IpAddr, proof: Proof) {
        if !self.asked.contains_key(&ip) && !self.has_room(proof) {
            return;
        }
        let asked = self.asked.entry(ip).or_insert(Asked { next: Instant::now(), proof });
        asked.proof = asked.proof.max(proof);
        if asked.next <= Instant::now() {
            self.ask_address(ip);
        }
    }

    /// Room for one more address, if need be in another's place.
    fn has_room(&mut self, proof: Proof) -> bool {
        if self.asked.len() < ADDRESSES_MAX {
            return true;
        }
        let order = |asked: &Asked| (asked.proof, asked.next);
        let Some((ip, first)) = self.asked.iter().min_by_key(|(_, asked)| order(asked)) else { return true };
        let (ip, goes) = (*ip, first.proof <= proof);
        if goes {
            self.asked.remove(&ip);
            self.known.addresses.remove(&ip);
        }
        goes
    }

    fn ask_due(&mut self) {
        let now = Instant::now();
        let room = |asking: &JoinSet<_>| ASKING_MAX.saturating_sub(asking.len());
        let hosts: Vec<_> = self.due.iter().filter(|(_, n)| **n <= now).map(|(h, _)| h.clone()).collect();
        for host in hosts.into_iter().take(room(&self.asking)) {
            self.due.insert(host.clone(), now + HOST_EVERY);
            let dns = self.dns.clone();
            self.asking.spawn(async move {
                let found = within(dns.addresses(host.clone())).await;
                Answer::Host(host, found)
            });
        }
        let known = &self.known.addresses;
        let stale = |proof: Proof| {
            let due = self
                .asked
                .iter()
                .filter(move |(ip, a)| a.proof == proof && a.next <= now && known.contains_key(*ip));
            due.map(|(ip, _)| *ip)
        };
        let mut ask: Vec<_> = stale(Proof::Proven).take(room(&self.asking)).collect();
        let under_way = self.asking.len().saturating_add(ask.len());
        ask.extend(stale(Proof::Claimed).take(ASKING_CLAIMED_MAX.saturating_sub(under_way)));
        ask.into_iter().for_each(|ip| self.ask_address(ip));
    }

    /// About one that is in `asked`.
    fn ask_address(&mut self, ip: IpAddr) {
        self.again(ip, ADDRESS_EVERY);
        let dns = self.dns.clone();
        self.asking.spawn(async move { Answer::Address(ip, within(confirmed(dns, ip)).await) });
    }

    fn take(&mut self, answer: Answer) {
        match answer {
            Answer::Host(host, _) if !self.due.contains_key(&host) => {}
            Answer::Host(host, Ok(addresses)) => {
                if self.failing.remove(&host) {
                    tracing::info!(host, "the name can be looked up again");
                }
                let mut addresses: Vec<_> = addresses.iter().map(IpAddr::to_canonical).collect();
                addresses.sort();
                addresses.dedup();
                addresses.truncate(ANSWERS_MAX);
                if addresses.is_empty() && self.known.hosts.get(&host).is_none_or(|known| !known.is_empty()) {
                    tracing::warn!(host, "a name in `clients` has no address: nobody is admitted by it");
                }
                self.known.hosts.insert(host, addresses);
            }
            Answer::Host(host, Err(error)) => {
                self.due.insert(host.clone(), Instant::now() + RETRY);
                if self.failing.insert(host.clone()) {
                    let known = self.known.hosts.contains_key(&host);
                    let next = if known { "its last addresses stay" } else { "nobody is admitted by it yet" };
                    tracing::warn!(host, error, "look up a name in `clients`: {next}");
                }
            }
            Answer::Address(ip, Ok(names)) => {
                if self.asked.contains_key(&ip) {
                    self.known.addresses.insert(ip, names.into());
                }
            }
            Answer::Address(ip, Err(error)) => {
                tracing::debug!(client = %ip, error, "look up a client's name");
                self.again(ip, RETRY);
            }
        }
        self.publish();
    }

    fn again(&mut self, ip: IpAddr, after: Duration) {
        if let Some(asked) = self.asked.get_mut(&ip) {
            asked.next = Instant::now() + after;
        }
    }

    fn publish(&self) {
        if let Some(names) = self.names.upgrade() {
            names.learn(self.known.clone());
        }
    }
}

async fn within<T>(question: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    timeout(ANSWER_MAX, question).await.unwrap_or_else(|_| Err(format!("no answer within {ANSWER_MAX:?}")))
}

/// The names of an address that lead back to it, in lower case, without the dot at the end.
async fn confirmed<D: Dns>(dns: D, ip: IpAddr) -> Result<Vec<String>, String> {
    let mut names = Vec::new();
    let mut failed = None;
    for name in dns.names(ip).await?.into_iter().take(ANSWERS_MAX) {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        match dns.addresses(format!("{name}.")).await {
            Ok(addresses) if addresses.iter().any(|a| a.to_canonical() == ip) => names.push(name),
            Ok(_) => tracing::debug!(client = %ip, name, "a client's name does not lead back to it"),
            Err(error) => failed = Some(error),
        }
    }
    // One that is confirmed is enough; a failure may hide another only if there is none.
    match failed {
        Some(error) if names.is_empty() => Err(error),
        _ => Ok(names),
    }
}

#[cfg(test)]
#[path = "names_tests.rs"]
mod tests;
