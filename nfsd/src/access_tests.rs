//! Goal: each client gets what the most exact rule says, whatever the order of the list and the form of its
//! address; nobody gets in by a name that nobody confirmed, and nobody whom the list names by address waits
//! for a name. Method: tables of lists, addresses and expected decisions, with names known and unknown.

use std::sync::Arc;

use parking_lot::Mutex;

use super::*;
use crate::exports::Squash;

fn ip(text: &str) -> IpAddr {
    text.parse::<IpAddr>().unwrap().to_canonical()
}

fn net(text: &str) -> Who {
    let (address, bits) = text.split_once('/').unwrap();
    Who::Net(Net::new(address.parse().unwrap(), bits.parse().unwrap()).unwrap())
}

fn who(text: &str) -> Who {
    match text {
        "*" => Who::Any,
        _ if text.contains('/') => net(text),
        _ if text.contains(['*', '?']) => Who::Wildcard(text.to_owned()),
        _ => text.parse().map_or_else(|_| Who::Host(text.to_owned()), |ip| Who::Net(Net::host(ip))),
    }
}

/// Rule number n has n as its anonymous user, to be told by.
fn list(groups: &[&str]) -> AccessList {
    let rule = |(n, group): (u32, &&str)| Rule {
        who: who(group),
        group: (*group).to_owned(),
        policy: policy(n),
        secure: false,
    };
    (0..).zip(groups).map(rule).collect()
}

fn policy(n: u32) -> ExportPolicy {
    ExportPolicy { read_only: false, squash: Squash::All, anon_uid: n, anon_gid: n }
}

fn known() -> Known {
    let mut known = Known::default();
    known.hosts.insert("db1.example.com".into(), vec![ip("10.0.0.7"), ip("2001:db8::7")]);
    known.hosts.insert("gone.example.com".into(), vec![]);
    known.addresses.insert(ip("10.0.0.7"), vec!["db1.example.com".to_owned()].into());
    known.addresses.insert(ip("10.9.0.1"), vec!["a.b.example.com".to_owned(), "other.org".to_owned()].into());
    known.addresses.insert(ip("10.9.0.2"), vec![].into());
    known
}

const DENIED: i64 = -1;
const UNDECIDED: i64 = -2;

/// The number of the rule that decides.
fn decide(groups: &[&str], client: &str, known: &Known) -> i64 {
    match list(groups).decide(ip(client), known) {
        Decision::Policy(policy, _) => i64::from(policy.anon_uid),
        Decision::Denied => DENIED,
        Decision::Undecided => UNDECIDED,
    }
}

#[test]
fn the_most_exact_rule_decides() {
    let all = ["*", "*.example.com", "10.0.0.0/8", "10.0.0.0/24", "0.0.0.0/0", "10.0.0.7", "2001:db8::/32"];
    let cases: &[(&[&str], &str, i64)] = &[
        (&all, "10.0.0.7", 5),
        (&all, "10.0.0.8", 3),
        (&all, "10.1.0.8", 2),
        (&all, "11.0.0.1", 4),
        (&all, "2001:db8:1::9", 6),
        // No rule but the last names it, and its name is not known: it may be *.example.com.
        (&all, "2001:db9::1", UNDECIDED),
        (&["*.example.com", "*"], "10.9.0.1", 0),
        (&["*", "*.example.com"], "10.9.0.1", 1),
        (&["*.example.com", "*"], "10.9.0.2", 1),
        (&["*.example.com"], "10.9.0.2", DENIED),
        (&["*.other.com", "other.or?"], "10.9.0.1", 1),
        // A host's name is as exact as an address; the first of equals decides.
        (&["db1.example.com", "10.0.0.7", "10.0.0.0/24"], "10.0.0.7", 0),
        (&["10.0.0.7", "db1.example.com"], "10.0.0.7", 0),
        (&["10.0.0.0/24", "db1.example.com"], "10.0.0.7", 1),
        (&["10.0.0.0/24", "db1.example.com"], "10.0.0.8", 0),
        (&["*", "db1.example.com"], "2001:db8::7", 1),
        (&["gone.example.com"], "10.0.0.9", DENIED),
        (&["10.0.0.0/25", "10.0.0.0/25"], "10.0.0.1", 0),
        (&["10.0.0.0/25"], "10.0.0.128", DENIED),
        (&["10.0.0.0/31"], "10.0.0.2", DENIED),
        (&["10.0.0.0/8"], "::1", DENIED),
        (&["::/0"], "10.0.0.1", DENIED),
        (&[], "10.0.0.1", DENIED),
    ];
    for (groups, client, expected) in cases {
        assert_eq!(decide(groups, client, &known()), *expected, "{client} and {groups:?}");
    }
}

#[test]
fn an_ipv4_address_in_ipv6s_form_is_ipv4s() {
    for (group, client) in [
        ("10.0.0.0/24", "::ffff:10.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("::ffff:10.0.0.0/120", "10.0.0.1"),
        ("::ffff:10.0.0.0/120", "::ffff:10.0.0.1"),
    ] {
        assert_eq!(decide(&[group], client, &Known::default()), 0, "{client} is in {group}");
    }
    assert_eq!(decide(&["::ffff:10.0.0.0/120"], "10.0.1.1", &Known::default()), DENIED);
    assert!(Net::new(ip("10.0.0.0"), 33).is_none());
    assert!(Net::new(ip("::"), 129).is_none());
}

/// A dead name server keeps out only those whom the list does not name by address, and those not for good.
#[test]
fn only_who_is_not_named_by_address_waits_for_a_name() {
    let groups = ["db1.example.com", "10.0.0.0/24", "192.168.0.9", "*.example.com", "*"];
    for (client, expected) in [("10.0.0.7", 1), ("192.168.0.9", 2), ("172.16.0.1", UNDECIDED)] {
        assert_eq!(decide(&groups, client, &Known::default()), expected, "{client}");
    }
    assert_eq!(decide(&["db1.example.com"], "10.0.0.7", &Known::default()), UNDECIDED);
    assert_eq!(decide(&["db1.example.com"], "10.0.0.8", &known()), DENIED);
}

#[test]
fn wildcards_stand_for_dots_too_and_for_nothing() {
    for (pattern, name, expected) in [
        ("*.example.com", "a.example.com", true),
        ("*.example.com", "a.b.example.com", true),
        ("*.example.com", "example.com", false),
        ("*.example.com", "a.example.com.evil.org", false),
        ("*example.com", "badexample.com", true),
        ("node?.lan", "node7.lan", true),
        ("node?.lan", "node77.lan", false),
        ("n*e*.l?n", "node.e.lan", true),
        ("*", "", true),
        ("?", "", false),
        ("a*b*c", "abcbc", true),
        ("a*b*c", "abcb", false),
    ] {
        assert_eq!(matches(pattern, name), expected, "{pattern} and {name}");
    }
    let stars = "*a".repeat(60) + "b";
    assert!(!matches(&stars, &"a".repeat(250)), "and it takes no exponential time");
}

fn at(client: &str, port: u16) -> SocketAddr {
    SocketAddr::new(client.parse().unwrap(), port)
}

#[test]
fn a_secure_rule_wants_a_privileged_port() {
    let mut rules = list(&["10.0.0.0/8"]).rules;
    rules[0].secure = true;
    for list in [rules.clone(), vec![Rule { who: Who::Any, ..rules[0].clone() }]] {
        let access = Access::new(list.into_iter().collect(), Names::nobody());
        assert_eq!(access.verdict(at("10.0.0.1", 1023), Proof::Proven), Verdict::Allowed(policy(0)));
        assert_eq!(access.verdict(at("10.0.0.1", 1024), Proof::Proven), Verdict::Denied);
        assert_eq!(access.verdict(at("10.0.0.1", 1023), Proof::Proven), Verdict::Allowed(policy(0)));
    }
}

/// What is remembered must not outlive the list, or what was known of names, that it was decided by.
#[test]
fn a_changed_list_and_a_changed_name_count_at_the_next_call() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = asked.clone();
    let names = Names::new(Box::new(move |ip, _| log.lock().push(ip)));
    let access = Access::new(list(&["10.0.0.0/24", "*.example.com", "db1.example.com"]), names.clone());
    let inside = at("10.0.0.1", 900);
    let named = at("::ffff:10.9.0.1", 900);
    assert_eq!(access.verdict(inside, Proof::Proven), Verdict::Allowed(policy(0)));
    assert_eq!(access.verdict(inside, Proof::Proven), Verdict::Allowed(policy(0)));
    assert_eq!(access.verdict(named, Proof::Proven), Verdict::Undecided);
    assert_eq!(*asked.lock(), [ip("10.9.0.1")], "only the name that decides is asked for");

    names.learn(known());
    assert_eq!(access.verdict(named, Proof::Proven), Verdict::Allowed(policy(1)));
    assert_eq!(access.verdict(named, Proof::Proven), Verdict::Allowed(policy(1)));
    names.learn(Known { addresses: [(ip("10.9.0.1"), Arc::from([]))].into(), ..known() });
    assert_eq!(access.verdict(named, Proof::Proven), Verdict::Denied, "the name has gone");

    access.replace(list(&["10.9.0.0/24"]));
    assert_eq!(access.verdict(inside, Proof::Proven), Verdict::Denied);
    assert_eq!(access.verdict(named, Proof::Proven), Verdict::Allowed(policy(0)));
}

#[test]
fn decisions_are_bounded() {
    let access = Access::new(list(&["10.0.0.0/8", "192.168.0.0/16"]), Names::nobody());
    let client = |n: usize| SocketAddr::new(IpAddr::from((0x0a00_0000 + n as u32).to_be_bytes()), 700);
    let known = access.names.known();
    let decisions =
        (0..DECISIONS_MAX - 1).map(|n| (client(n).ip(), Decision::Policy(policy(0), false))).collect();
    access.state.store(Arc::new(State { list: access.list(), known, decisions }));
    let kept = || access.state.load().decisions.len();
    for n in DECISIONS_MAX - 1..DECISIONS_MAX + 10 {
        assert_eq!(access.verdict(client(n), Proof::Proven), Verdict::Allowed(policy(0)));
        assert!(kept() <= DECISIONS_MAX, "{}", kept());
    }
    let before = kept();
    let datagram = SocketAddr::new([192, 168, 0, 1].into(), 700);
    assert_eq!(access.verdict(datagram, Proof::Claimed), Verdict::Allowed(policy(1)));
    assert_eq!(kept(), before, "a datagram's sender was remembered");
}

#[test]
fn showmount_sees_the_groups() {
    let shown = |groups: &[&str]| list(groups).groups().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(shown(&["10.0.0.0/24", "*.example.com", "*"]), ["10.0.0.0/24", "*.example.com", "*"]);
    assert!(shown(&["*"]).is_empty(), "everybody");
}
