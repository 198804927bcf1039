//! Goal: a mistake in the configuration costs its author one look: the message has file, line, key, what was
//! expected, and the likely word. Method: the smallest correct file, one mistake at a time, exact messages.

use std::path::Path;

use super::model::{ArbiterKind, Driver, Durability, Metrics, Squash};
use super::{Config, ConfigError};
use crate::tls::Principal;

const BASE: &str = r#"cluster = "0b5c6a6e-0f5e-4a53-9f0e-0d6f6c1f7a10"

[nodes.a]
address = "10.77.0.11:7400"

[nodes.b]
address = "10.77.0.12:7400"
replication = "10.78.0.12:7400"

[witness]
address = "10.77.0.13:7400"

[[exports]]
path = "/export"
id = "6d0f1b52-6a8a-4d64-8d4b-0a3c1f2e9b01"
home = "a"
vip = "10.77.0.10/24"

[[exports]]
path = "/two"
id = "6d0f1b52-6a8a-4d64-8d4b-0a3c1f2e9b02"
home = "b"
vip = "10.77.0.20/24"
"#;

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(Path::new("/etc/hanfs/hanfs.toml"), text)
}

/// The message after replacing a part of the file, its name cut off each line.
fn message(old: &str, new: &str) -> String {
    assert!(BASE.contains(old), "the case changes nothing: {old:?}");
    let error = parse(&BASE.replacen(old, new, 1)).expect_err("this has to be refused").to_string();
    error.replace("/etc/hanfs/hanfs.toml:", "")
}

#[test]
fn defaults_are_what_the_documentation_says() {
    let config = parse(BASE).unwrap();
    let a = config.node("a").unwrap();
    assert_eq!(a.data, Path::new("/var/lib/hanfs"));
    assert_eq!(a.peer_address(), "10.77.0.11:7400".parse().unwrap());
    assert_eq!(config.node("b").unwrap().peer_address(), "10.78.0.12:7400".parse().unwrap());
    assert_eq!(config.peer_of("a").unwrap().name, "b");
    assert_eq!(config.arbiter.kind, ArbiterKind::Witness);
    let export = config.export("/export").unwrap();
    assert_eq!((export.durability, export.squash, export.read_only), (Durability::Disk, Squash::Root, false));
    assert_eq!((export.anon_uid, export.anon_gid, export.giveback_after_s), (65_534, 65_534, None));
    assert_eq!(export.vip.to_string(), "10.77.0.10/24");
    assert_eq!(config.mirror_of(export).unwrap().name, "b");
    assert_eq!(config.export("6d0f1b52-6a8a-4d64-8d4b-0a3c1f2e9b02").unwrap().path, "/two");
    let network = config.network;
    assert_eq!((network.driver, network.nfs_port, network.portmap_port), (Driver::Netlink, 2049, 111));
    let t = config.timing;
    assert_eq!((t.ping_ms, t.lease_ms, t.promise_ms, t.detect_ms), (50, 500, 550, 600));
    let files = config.tls_files(&Principal::Node("a".to_owned()));
    assert_eq!(files.ca, Path::new("/etc/hanfs/keys/ca.pem"));
    assert_eq!(files.cert, Path::new("/etc/hanfs/keys/a.pem"));
    assert_eq!(files.key, Path::new("/etc/hanfs/keys/a.key"));
}

/// `clients` and `quota` of the second export, in lines 24 on.
fn with_keys(keys: &str) -> String {
    BASE.replace("vip = \"10.77.0.20/24\"\n", &format!("vip = \"10.77.0.20/24\"\n{keys}\n"))
}

#[test]
fn access_lists_and_quotas_are_read() {
    let config = parse(BASE).unwrap();
    let export = config.export("/two").unwrap();
    assert_eq!((&export.clients, export.secure), (&None, false), "everybody, from any port");
    assert_eq!((export.quota_bytes, export.quota_inodes), (0, 0), "no limit");

    let keys = "clients = [\"10.0.0.0/24\", \"*.example.com(ro,insecure)\"]\nread_only = false\nsquash = \"none\"\n\
                secure = true\nquota = \"500G\"\nquota_inodes = 1000000";
    let config = parse(&with_keys(keys)).unwrap();
    let export = config.export("/two").unwrap();
    assert_eq!((export.quota_bytes, export.quota_inodes), (500 << 30, 1_000_000));
    let clients = export.clients.as_ref().unwrap();
    let said: Vec<_> = clients.iter().map(|c| (c.group.as_str(), c.access)).collect();
    let own = export.access();
    assert_eq!((own.squash, own.secure), (Squash::None, true));
    let names = super::Access { read_only: true, secure: false, ..own };
    assert_eq!(said, [("10.0.0.0/24", own), ("*.example.com", names)]);

    for (text, bytes) in [("0", 0), ("4096", 4096), ("1k", 1 << 10), ("3M", 3 << 20), ("2T", 2 << 40)] {
        let config = parse(&with_keys(&format!("quota = \"{text}\""))).unwrap();
        assert_eq!(config.export("/two").unwrap().quota_bytes, bytes, "{text}");
    }
}

#[test]
fn mistakes_in_access_lists_and_quotas_name_their_line() {
    let size = "expected a number of bytes with K, M, G or T (powers of 1024) behind it, as in \"500G\", at most 1048576T";
    let cases = [
        (
            "clients = []",
            "24: exports[1].clients: nobody is named: expected at least one client, or no such key for everybody".into(),
        ),
        (
            "clients = [\n  \"10.0.0.0/24\",\n  \"10.0.0.9/24\",\n]",
            "26: exports[1].clients[1]: \"10.0.0.9/24\" has ones past its prefix: expected 10.0.0.0/24, or 10.0.0.9 alone"
                .into(),
        ),
        (
            "clients = [\"10.0.0.0/24\", \"10.0.0.0/255.255.255.0(ro)\"]",
            "24: exports[1].clients[1]: \"10.0.0.0/255.255.255.0\" is also \"10.0.0.0/24\"; expected each client once".into(),
        ),
        (
            "client = [\"*\"]",
            "24: exports[1].client: unknown key client; expected one of path, id, home, vip, interface, durability, \
             read_only, squash, anon_uid, anon_gid, secure, clients, quota, quota_inodes, giveback_after_s; did you mean \
             clients?"
                .to_owned(),
        ),
        ("quota = \"5X\"", format!("24: exports[1].quota: \"5X\": {size}")),
        ("quota = \"1.5G\"", format!("24: exports[1].quota: \"1.5G\": {size}")),
        ("quota = \"G\"", format!("24: exports[1].quota: \"G\": {size}")),
        ("quota = \"-1G\"", format!("24: exports[1].quota: \"-1G\": {size}")),
        ("quota = \"1048577T\"", format!("24: exports[1].quota: \"1048577T\": {size}")),
        ("quota = \"99999999999999999999\"", format!("24: exports[1].quota: \"99999999999999999999\": {size}")),
    ];
    for (keys, expected) in cases {
        let error = parse(&with_keys(keys)).expect_err(keys).to_string();
        assert_eq!(error.replace("/etc/hanfs/hanfs.toml:", ""), expected, "{keys}");
    }
}

#[test]
fn keys_may_be_elsewhere() {
    let config = parse(&format!("{BASE}\n[tls]\nca = \"/pki/ca.pem\"\nkey = \"my.key\"\n")).unwrap();
    let files = config.tls_files(&Principal::Witness);
    assert_eq!(files.ca, Path::new("/pki/ca.pem"));
    assert_eq!(files.cert, Path::new("/etc/hanfs/keys/witness.pem"));
    assert_eq!(files.key, Path::new("/etc/hanfs/my.key"));
}

#[test]
fn mistakes_of_form_name_line_key_and_what_was_expected() {
    let cases = [
        (
            "address = \"10.77.0.11",
            "adress = \"10.77.0.11",
            "4: nodes.a.adress: unknown key adress; expected one of address, replication, data; did you mean address?",
        ),
        (
            "[witness]",
            "[witnes]",
            "10: witnes: unknown key witnes; expected one of cluster, nodes, witness, arbiter, exports, network, timing, \
          limits, metrics, tls; did you mean witness?",
        ),
        (
            "home = \"b\"",
            "home = \"b\"\ndurability = \"dsk\"",
            "23: exports[1].durability: unknown value \"dsk\"; expected one of \"disk\", \"memory\"; did you mean \"disk\"?",
        ),
        (
            "home = \"b\"",
            "home = \"b\"\nsquash = \"everybody\"",
            "23: exports[1].squash: unknown value \"everybody\"; expected one of \"root\", \"all\", \"none\"",
        ),
        ("home = \"a\"\n", "", "13: exports[0].home: this key is required"),
        ("[nodes.b]\naddress = \"10.77.0.12:7400\"", "[nodes.b]", "6: nodes.b.address: this key is required"),
        (
            "home = \"b\"",
            "home = \"b\"\nread_only = \"no\"",
            "23: exports[1].read_only: invalid type: string \"no\", expected true or false",
        ),
        (
            "[[exports]]",
            "[network]\nnfs_port = 99999\n[[exports]]",
            "14: network.nfs_port: invalid value: integer `99999`, expected a whole number from 0 to 65535",
        ),
        (
            "[[exports]]",
            "[timing]\nlease_ms = \"500\"\n[[exports]]",
            "14: timing.lease_ms: invalid type: string \"500\", expected a whole number from 0",
        ),
        ("home = \"a\"", "home = \"a", "16: exports[0].home: invalid basic string, expected `\"`"),
    ];
    for (old, new, expected) in cases {
        assert_eq!(message(old, new), expected, "{old:?} -> {new:?}");
    }
}

#[test]
fn mistakes_of_meaning_name_line_key_and_what_was_expected() {
    let cases = [
        (
            "0b5c6a6e-",
            "0b5c6a6",
            "1: cluster: \"0b5c6a60f5e-4a53-9f0e-0d6f6c1f7a10\": expected a UUID, as `hanfs init` and \
          `uuidgen` make them",
        ),
        (
            "10.77.0.11:7400",
            "10.77.0.11",
            "4: nodes.a.address: \"10.77.0.11\": expected an IP address and a port, as in \"10.77.0.11:7400\"; names are \
          not looked up, so that a takeover never waits for DNS",
        ),
        (
            "[nodes.a]",
            "[nodes.witness]",
            "3: nodes.witness: this name is taken: it is one of the key files'; choose another\n\
          16: exports[0].home: \"a\" is no node; expected one of b, witness; did you mean \"b\"?",
        ),
        (
            "[nodes.a]",
            "[nodes.A]",
            "3: nodes.A: expected a name of a-z, 0-9 and -, at most 32 long\n\
          16: exports[0].home: \"a\" is no node; expected one of A, b; did you mean \"A\"?",
        ),
        ("[witness]", "[nodes.c]", "3: nodes: 3 nodes: expected one or two"),
        (
            "10.77.0.12:7400",
            "10.77.0.11:7400",
            "7: nodes.b.address: \"10.77.0.11:7400\" is also nodes.a.address; expected an address of its own",
        ),
        (
            "[witness]",
            "[arbiter]\nkind = \"none\"\n[witness]",
            "11: arbiter.kind: a [witness] is configured: expected \"witness\", or no [witness] table",
        ),
        (
            "[witness]\naddress = \"10.77.0.13:7400\"",
            "[arbiter]\nkind = \"fence\"",
            "10: arbiter.command: \"fence\" needs a command: expected a list whose first word is a program's absolute path",
        ),
        (
            "[witness]\naddress = \"10.77.0.13:7400\"",
            "[arbiter]\nkind = \"witness\"",
            "11: arbiter.kind: \"witness\" needs a [witness] table with its address",
        ),
        (
            "\"/two\"",
            "\"/two/\"",
            "20: exports[1].path: \"/two/\": expected a name such as \"/export\": absolute, no spaces, no . or .., no / at \
          the end",
        ),
        ("\"/two\"", "\"/export\"", "20: exports[1].path: \"/export\" is exported twice"),
        ("9b02", "9b01", "21: exports[1].id: 6d0f1b52-6a8a-4d64-8d4b-0a3c1f2e9b01 is also the id of /export"),
        (
            "10.77.0.20/24",
            "10.77.0.10/24",
            "23: exports[1].vip: 10.77.0.10 is also the address of /export; expected an address of its own, for each \
          export moves alone",
        ),
        (
            "10.77.0.20/24",
            "10.77.0.12/24",
            "23: exports[1].vip: 10.77.0.12 is a node's own address; expected one that no host has",
        ),
        (
            "10.77.0.20/24",
            "10.77.0.20",
            "23: exports[1].vip: \"10.77.0.20\": expected an address and its network's prefix length, as in \
          \"10.77.0.10/24\"",
        ),
        (
            "[witness]",
            "[timing]\nlease_ms = 150\n[witness]",
            "11: timing.lease_ms: 150: expected more than three times ping_ms (50), so that two lost pings cost no lease",
        ),
        (
            "[witness]",
            "[timing]\npromise_ms = 524\n[witness]",
            "11: timing.promise_ms: 524: expected at least 525, lease_ms and 5% for clocks that drift apart",
        ),
        (
            "[witness]",
            "[timing]\ndetect_ms = 550\n[witness]",
            "11: timing.detect_ms: 550: expected more than promise_ms (550): nobody may vote before",
        ),
        (
            "[witness]",
            "[limits]\nwal_mb = 100\n[witness]",
            "11: limits.wal_mb: 100: expected at least twice checkpoint_mb (128), for the log is cut only at a checkpoint",
        ),
    ];
    for (old, new, expected) in cases {
        assert_eq!(message(old, new), expected, "{old:?} -> {new:?}");
    }
}

#[test]
fn figures_are_off_or_at_an_address_or_at_the_nodes_own() {
    let metrics = |line: &str| parse(&format!("{BASE}\n[metrics]\n{line}\n")).map(|config| config.metrics);
    assert_eq!(parse(BASE).unwrap().metrics, None);
    assert_eq!(metrics("").unwrap(), None);
    let own = Metrics { ip: None, port: 9049 };
    assert_eq!(metrics("listen = \":9049\"").unwrap(), Some(own));
    let loopback = Metrics { ip: Some(std::net::Ipv4Addr::LOCALHOST.into()), port: 1 };
    assert_eq!(metrics("listen = \"127.0.0.1:1\"").unwrap(), Some(loopback));
    for wrong in ["9049", ":0", "localhost:9049", ":", ""] {
        let error = metrics(&format!("listen = {wrong:?}")).expect_err(wrong).to_string();
        assert!(error.contains("metrics.listen") && error.contains("as in \"127.0.0.1:9049\""), "{error}");
    }
}

/// One run of `config check` shows all there is to mend.
#[test]
fn all_mistakes_of_meaning_are_told_at_once() {
    let text = BASE.replace("home = \"a\"", "home = \"c\"").replace("10.77.0.20/24", "nowhere");
    let Err(ConfigError::Invalid { issues, .. }) = parse(&text) else { panic!("this has to be refused") };
    let keys: Vec<(usize, &str)> = issues.iter().map(|issue| (issue.line, issue.key.as_str())).collect();
    assert_eq!(keys, [(16, "exports[0].home"), (23, "exports[1].vip")]);
}

/// Garbage must not do more than be refused.
#[test]
fn garbage_is_refused_with_a_line() {
    for text in
        ["", "\0", "[", "[[exports]]\n[[exports", "cluster = 1979-05-27T07:32:00Z", "= = =", "\u{feff}x"]
    {
        let error = parse(text).expect_err(text).to_string();
        assert!(
            error.starts_with("/etc/hanfs/hanfs.toml:1: ") || error.starts_with("/etc/hanfs/hanfs.toml:2: "),
            "{error}"
        );
    }
}

#[test]
fn a_missing_file_names_the_remedy() {
    let error = Config::load(Path::new("/nowhere/hanfs.toml")).unwrap_err().to_string();
    assert!(error.starts_with("read /nowhere/hanfs.toml: "), "{error}");
    assert!(error.contains("hanfs init") && error.contains("--config"), "{error}");
}
