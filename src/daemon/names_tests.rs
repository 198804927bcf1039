//! Goal: a name admits exactly the addresses that it has; a name server that fails takes nobody's access
//! away, and an address's owner cannot give itself a name. Method: name servers made of tables, the task's
//! own steps.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use super::*;

/// Answers of the fake servers; what is not in it fails.
#[derive(Clone, Default)]
struct Fake {
    hosts: Arc<Mutex<BTreeMap<String, Vec<IpAddr>>>>,
    addresses: Arc<Mutex<BTreeMap<IpAddr, Vec<String>>>>,
}

impl Fake {
    fn with(hosts: &[(&str, &[&str])], addresses: &[(&str, &[&str])]) -> Self {
        let fake = Self::default();
        for (name, list) in hosts {
            fake.hosts.lock().insert((*name).to_owned(), list.iter().map(|a| ip(a)).collect());
        }
        for (address, list) in addresses {
            fake.addresses.lock().insert(ip(address), list.iter().map(|n| (*n).to_owned()).collect());
        }
        fake
    }
}

impl Dns for Fake {
    async fn addresses(&self, host: String) -> Result<Vec<IpAddr>, String> {
        let host = host.trim_end_matches('.');
        self.hosts.lock().get(host).cloned().ok_or_else(|| "SERVFAIL".to_owned())
    }

    async fn names(&self, address: IpAddr) -> Result<Vec<String>, String> {
        self.addresses.lock().get(&address).cloned().ok_or_else(|| "SERVFAIL".to_owned())
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn task(names: &Arc<Names>) -> Task<Fake> {
    Task {
        dns: Fake::default(),
        names: Arc::downgrade(names),
        known: Known::default(),
        due: HashMap::new(),
        asked: HashMap::new(),
        failing: BTreeSet::new(),
        asking: JoinSet::new(),
    }
}

fn failed<T>() -> Result<T, String> {
    Err("SERVFAIL".to_owned())
}

#[test]
fn a_server_that_fails_changes_nothing_and_is_told_of_once() {
    let names = Names::nobody();
    let mut task = task(&names);
    let db1 = || "db1.lab".to_owned();
    task.watch(&[db1()].into());
    assert_eq!(names.known().is_host("db1.lab", ip("10.0.0.1")), None, "unknown, which is not no");
    task.take(Answer::Host(db1(), Ok(vec![ip("10.0.0.1"), ip("::ffff:10.0.0.2")])));
    let admits = |address| names.known().is_host("db1.lab", ip(address));
    assert_eq!(
        (admits("10.0.0.1"), admits("10.0.0.2"), admits("10.0.0.3")),
        (Some(true), Some(true), Some(false))
    );

    for _ in 0..2 {
        task.take(Answer::Host(db1(), failed()));
        assert_eq!(admits("10.0.0.1"), Some(true));
        assert!(task.failing.contains("db1.lab"), "and so is not told of again");
        assert!(task.due["db1.lab"] <= Instant::now() + RETRY, "it is asked again soon");
    }
    task.take(Answer::Host(db1(), Ok(vec![ip("10.0.0.3")])));
    assert_eq!(
        (admits("10.0.0.1"), admits("10.0.0.3"), task.failing.is_empty()),
        (Some(false), Some(true), true)
    );
    task.take(Answer::Host(db1(), Ok(vec![])));
    assert_eq!(admits("10.0.0.3"), Some(false), "that a name is gone is an answer");

    // A name that a reload took away is forgotten, an answer that comes late included.
    task.watch(&BTreeSet::new());
    task.take(Answer::Host(db1(), Ok(vec![ip("10.0.0.3")])));
    assert_eq!(admits("10.0.0.3"), None);
}

#[test]
fn an_addresss_names_stay_while_nobody_answers() {
    let names = Names::nobody();
    let mut task = task(&names);
    let client = ip("10.0.0.1");
    task.asked.insert(client, Asked { next: Instant::now() + ADDRESS_EVERY, proof: Proof::Proven });
    task.take(Answer::Address(client, Ok(vec!["a.lab".to_owned()])));
    task.take(Answer::Address(client, failed()));
    assert_eq!(names.known().names_of(client), Some(&["a.lab".to_owned()][..]));
    assert!(task.asked[&client].next <= Instant::now() + RETRY);
    task.take(Answer::Address(client, Ok(vec![])));
    assert_eq!(names.known().names_of(client), Some(&[][..]));
}

#[tokio::test]
async fn only_names_that_lead_back_count() {
    let dns = Fake::with(
        &[("a.lab", &["10.0.0.9", "10.0.0.1"]), ("root.lab", &["10.0.0.2"]), ("gone.lab", &[])],
        &[
            ("10.0.0.1", &["A.Lab.", "root.lab.", "gone.lab."]),
            ("10.0.0.3", &[]),
            ("10.0.0.4", &["dead.lab."]),
            ("10.0.0.9", &["dead.lab.", "a.lab."]),
        ],
    );
    let names = |address| confirmed(dns.clone(), ip(address));
    assert_eq!(
        names("10.0.0.1").await,
        Ok(vec!["a.lab".to_owned()]),
        "its owner says that it is root.lab, too"
    );
    assert_eq!(names("10.0.0.3").await, Ok(vec![]));
    assert_eq!(names("10.0.0.4").await, failed(), "nobody knows whether it is dead.lab");
    assert_eq!(names("10.0.0.5").await, failed());
    assert_eq!(names("10.0.0.9").await, Ok(vec!["a.lab".to_owned()]));
}

#[tokio::test]
async fn addresses_are_bounded() {
    let names = Names::nobody();
    let mut task = task(&names);
    for n in 0..ADDRESSES_MAX as u32 + 10 {
        let client = IpAddr::from((0x0a00_0000 + n).to_be_bytes());
        task.wanted(client, Proof::Claimed);
        task.take(Answer::Address(client, Ok(vec![])));
    }
    assert!(task.asked.len() <= ADDRESSES_MAX);
    assert!(names.known().addresses.len() <= ADDRESSES_MAX);

    // Whoever is connected takes a claimed one's place, and none of the claimed takes theirs.
    let connected = [ip("192.0.2.1"), ip("10.0.0.0")];
    connected.iter().for_each(|client| task.wanted(*client, Proof::Proven));
    let all_claimed = 0x0b00_0000..0x0b00_0000 + 2 * ADDRESSES_MAX as u32;
    all_claimed.for_each(|n| task.wanted(IpAddr::from(n.to_be_bytes()), Proof::Claimed));
    assert!(connected.iter().all(|client| task.asked.contains_key(client)));
    for n in 0..ADDRESSES_MAX as u32 {
        task.wanted(IpAddr::from((0x0c00_0000 + n).to_be_bytes()), Proof::Proven);
    }
    task.wanted(ip("10.0.0.1"), Proof::Claimed);
    assert!(!task.asked.contains_key(&ip("10.0.0.1")) && task.asked.len() == ADDRESSES_MAX);
}

/// The whole task: what a list wants to know is known a moment later.
#[tokio::test]
async fn the_resolver_learns_what_it_is_asked() {
    let dns =
        Fake::with(&[("db1.lab", &["10.0.0.1"]), ("c.lab", &["10.0.0.7"])], &[("10.0.0.7", &["c.lab."])]);
    let resolver = Resolver::start(dns, &tokio::runtime::Handle::current());
    resolver.watch(["db1.lab".to_owned()].into());
    let names = resolver.names.clone();
    let rules = ["*.lab", "db1.lab"].map(|name| nfsd::access::Rule {
        who: match name.contains('*') {
            true => nfsd::access::Who::Wildcard(name.to_owned()),
            false => nfsd::access::Who::Host(name.to_owned()),
        },
        group: name.to_owned(),
        policy: nfsd::exports::ExportPolicy::default(),
        secure: false,
    });
    let access = nfsd::access::Access::new(rules.into_iter().collect(), names);
    let allowed = nfsd::access::Verdict::Allowed(nfsd::exports::ExportPolicy::default());
    for client in ["10.0.0.1", "10.0.0.7"] {
        let client = (ip(client), 700).into();
        timeout(Duration::from_secs(20), access.decided(client)).await.expect("the resolver answers");
        assert_eq!(access.verdict(client, Proof::Proven), allowed, "{client}");
    }
}
