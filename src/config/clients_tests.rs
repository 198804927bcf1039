//! Goal: a line of /etc/exports means here what it means there, or is refused with what to write instead.
//! Method: tables of entries, and exact messages.

use super::*;

const DEFAULTS: Access =
    Access { read_only: false, squash: Squash::Root, anon_uid: 65_534, anon_gid: 65_534, secure: false };

fn client(text: &str) -> Client {
    parse(text, &DEFAULTS).unwrap()
}

fn net(address: &str, bits: u8) -> Who {
    Who::Net(Net::new(address.parse().unwrap(), bits).unwrap())
}

#[test]
fn whom_an_entry_means() {
    for (text, expected) in [
        ("*", Who::Any),
        ("10.0.0.7", net("10.0.0.7", 32)),
        ("::ffff:10.0.0.7", net("10.0.0.7", 32)),
        ("2001:db8::1", net("2001:db8::1", 128)),
        ("10.0.0.0/24", net("10.0.0.0", 24)),
        ("10.0.0.0/255.255.255.0", net("10.0.0.0", 24)),
        ("0.0.0.0/0", net("0.0.0.0", 0)),
        ("0.0.0.0/0.0.0.0", net("0.0.0.0", 0)),
        ("2001:db8::/32", net("2001:db8::", 32)),
        ("::/0", net("::", 0)),
        ("DB1.Example.com.", Who::Host("db1.example.com".into())),
        ("db1", Who::Host("db1".into())),
        ("*.Example.com", Who::Wildcard("*.example.com".into())),
        ("node??.lan", Who::Wildcard("node??.lan".into())),
        ("10-0-0-7.dyn.example.com", Who::Host("10-0-0-7.dyn.example.com".into())),
    ] {
        assert_eq!(client(text).who, expected, "{text}");
        assert_eq!(client(&format!("{text}(ro)")).group, text);
    }
}

#[test]
fn what_the_options_say() {
    let all = Access { squash: Squash::All, ..DEFAULTS };
    let none = Access { squash: Squash::None, ..DEFAULTS };
    for (text, expected) in [
        ("*", DEFAULTS),
        ("*()", DEFAULTS),
        ("*(rw,sync,no_subtree_check,no_wdelay,sec=sys)", DEFAULTS),
        ("*(ro)", Access { read_only: true, ..DEFAULTS }),
        ("*(rw,no_root_squash)", none),
        ("*(all_squash,anonuid=99,anongid=98)", Access { anon_uid: 99, anon_gid: 98, ..all }),
        ("*(no_root_squash,all_squash)", all),
        ("*(secure,ro,ro)", Access { secure: true, read_only: true, ..DEFAULTS }),
    ] {
        assert_eq!(client(text).access, expected, "{text}");
    }
    // The export's own keys are the defaults, and each can be taken back.
    let own = Access { read_only: true, squash: Squash::All, anon_uid: 1, anon_gid: 2, secure: true };
    for (text, expected) in [
        ("*", own),
        ("*(rw,insecure)", Access { read_only: false, secure: false, ..own }),
        ("*(no_all_squash)", Access { squash: Squash::Root, ..own }),
        ("*(no_all_squash,no_root_squash)", Access { squash: Squash::None, ..own }),
        ("*(anongid=0)", Access { anon_gid: 0, ..own }),
    ] {
        assert_eq!(parse(text, &own).unwrap().access, expected, "{text}");
    }
}

#[test]
fn mistakes_say_what_was_expected() {
    let who = "expected an address, a network such as 10.0.0.0/24, a host's name, a name with * or ?, or *";
    let network = "expected a network, as in 10.0.0.0/24, 10.0.0.0/255.255.255.0 or 2001:db8::/32";
    let numbers =
        "expected an address or a network, as in 10.0.0.7 or 10.0.0.0/24: * stands for parts of names";
    let some = "expected some of ro, rw, root_squash, no_root_squash, all_squash, no_all_squash, anonuid, anongid, \
                secure, insecure";
    for (text, expected) in [
        ("", format!("nobody is named: {who}")),
        ("(rw)", format!("nobody is named: {who}")),
        ("db1 (rw)", "\"db1 (rw)\": expected no spaces, as in \"10.0.0.0/24(rw)\"".into()),
        ("db1(rw", "\"db1(rw\": expected one list of options, as in \"10.0.0.0/24(rw,secure)\"".into()),
        (
            "db1(rw)(ro)",
            "\"db1(rw)(ro)\": expected one list of options, as in \"10.0.0.0/24(rw,secure)\"".into(),
        ),
        ("@hosts(rw)", format!("\"@hosts\": netgroups are not looked up; {who}")),
        ("gss/krb5(rw)", format!("\"gss/krb5\": only AUTH_SYS is spoken; {who}")),
        ("10.0.0.0/33", format!("\"10.0.0.0/33\": {network}")),
        ("10.0.0/24", format!("\"10.0.0/24\": {network}")),
        ("db1/24", format!("\"db1/24\": {network}")),
        (
            "10.0.0.0/255.0.255.0",
            format!("\"10.0.0.0/255.0.255.0\": a netmask has its ones in front and is IPv4's; {network}"),
        ),
        (
            "10.0.0.7/24",
            "\"10.0.0.7/24\" has ones past its prefix: expected 10.0.0.0/24, or 10.0.0.7 alone".into(),
        ),
        ("10.0.0.256", format!("\"10.0.0.256\": {numbers}")),
        ("192.168.*", format!("\"192.168.*\": {numbers}")),
        (
            "node[1-4].lan",
            "\"node[1-4].lan\": lists of characters are not understood; expected * or ? in their place"
                .into(),
        ),
        ("a..b", format!("\"a..b\": {who}")),
        ("db$", format!("\"db$\": {who}")),
        ("*(rw,ro)", "ro contradicts what is said before it".into()),
        ("*(anonuid=1,anonuid=2)", "anonuid=2 contradicts what is said before it".into()),
        ("*(anonuid)", "\"anonuid\": expected a number from 0 to 4294967295, as in anonuid=99".into()),
        ("*(anongid=-2)", "\"anongid=-2\": expected a number from 0 to 4294967295, as in anonuid=99".into()),
        ("*(no_rootsquash)", format!("unknown option no_rootsquash; {some}; did you mean no_root_squash?")),
        ("*(xyzzy)", format!("unknown option xyzzy; {some}")),
        (
            "*(async)",
            "option async: hanfs never answers before a change is as safe as `durability` says; leave it out"
                .into(),
        ),
        (
            "*(fsid=0)",
            "option fsid=0: the export's `id` is its identity, the same on both nodes; leave it out".into(),
        ),
        (
            "*(sec=krb5p)",
            "option sec=krb5p: only AUTH_SYS is spoken: expected sec=sys, or nothing; leave it out".into(),
        ),
    ] {
        assert_eq!(parse(text, &DEFAULTS).unwrap_err(), expected, "{text}");
    }
}
