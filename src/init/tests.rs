//! Goal: what `init` writes works as it is, is as private as keys have to be, and never replaces anything.
//! Method: real files in a temporary directory, parsed by the real parser.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use uuid::Uuid;

use super::{InitError, Plan, instructions, render, write};
use crate::config::{ArbiterKind, Config, Driver};
use crate::tls::{Credentials, Principal};

fn strings(list: &[&str]) -> Vec<String> {
    list.iter().map(|s| (*s).to_owned()).collect()
}

fn pair() -> Plan {
    let nodes = strings(&["a=10.77.0.11", "b=10.77.0.12:7401"]);
    let exports = strings(&["/export:a:10.77.0.10/24", "/two:b:10.77.0.20/24"]);
    Plan::from_options(&nodes, Some("10.77.0.13"), &exports).unwrap()
}

#[test]
fn the_configuration_says_what_was_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("etc/hanfs");
    let written = write(&pair(), &target).unwrap();
    let config = Config::load(&written.config).unwrap();
    assert_eq!(config.node("a").unwrap().address, "10.77.0.11:7400".parse().unwrap());
    assert_eq!(config.node("b").unwrap().address, "10.77.0.12:7401".parse().unwrap());
    assert_eq!(config.witness.as_ref().unwrap().address, "10.77.0.13:7400".parse().unwrap());
    assert_eq!(config.arbiter.kind, ArbiterKind::Witness);
    assert_eq!(config.network.driver, Driver::Netlink);
    let paths: Vec<_> = config.exports.iter().map(|e| (e.path.as_str(), e.home.as_str())).collect();
    assert_eq!(paths, [("/export", "a"), ("/two", "b")]);
    for who in
        [Principal::Node("a".into()), Principal::Node("b".into()), Principal::Witness, Principal::Admin]
    {
        Credentials::load(&config.tls_files(&who)).unwrap();
    }
    let text = instructions(&written);
    assert!(text.contains("to box a: hanfs.toml keys/ca.pem keys/a.pem keys/a.key\n"), "{text}");
    assert!(text.contains("keys/ca.key signs new certificates and no box needs it"), "{text}");
}

#[test]
fn nobody_else_can_read_the_keys() {
    let dir = tempfile::tempdir().unwrap();
    let written = write(&pair(), dir.path()).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&written.keys), 0o700);
    let mut keys = 0;
    for entry in fs::read_dir(&written.keys).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "key") {
            assert_eq!(mode(&path), 0o600, "{}", path.display());
            keys += 1;
        }
    }
    assert_eq!(keys, 5, "ca, a, b, witness, admin");
}

/// A second `init` would make the cluster's members strangers to each other.
#[test]
fn nothing_is_ever_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let written = write(&pair(), dir.path()).unwrap();
    let before = fs::read(written.keys.join("ca.key")).unwrap();
    assert!(matches!(write(&pair(), dir.path()), Err(InitError::Exists(path)) if path == written.config));
    fs::remove_file(&written.config).unwrap();
    assert!(matches!(write(&pair(), dir.path()), Err(InitError::Exists(path)) if path == written.keys));
    assert_eq!(fs::read(written.keys.join("ca.key")).unwrap(), before);
    assert!(!written.config.exists(), "a refused init leaves nothing behind");
}

#[test]
fn a_plan_that_cannot_work_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("new");
    let nodes = strings(&["a=10.77.0.11", "b=10.77.0.12"]);
    let plan = Plan::from_options(&nodes, None, &strings(&["/export:c:10.77.0.10/24"])).unwrap();
    let error = write(&plan, &target).unwrap_err().to_string();
    assert!(error.contains("home: \"c\" is no node; expected one of a, b"), "{error}");
    assert!(!target.exists());
}

#[test]
fn options_of_the_wrong_form_say_which() {
    let one = strings(&["a=10.77.0.11"]);
    let export = strings(&["/e:a:10.0.0.1/8"]);
    let cases = [
        (
            Plan::from_options(&strings(&["a"]), None, &export),
            "--node \"a\": expected NAME=ADDRESS or NAME=ADDRESS:PORT, as in a=10.77.0.11",
        ),
        (
            Plan::from_options(&one, Some("host"), &export),
            "--witness \"host\": expected ADDRESS or ADDRESS:PORT, as in 10.77.0.13",
        ),
        (
            Plan::from_options(&one, None, &strings(&["/e:a"])),
            "--export \"/e:a\": expected PATH:HOME:VIP/PREFIX, as in /export:a:10.77.0.10/24",
        ),
    ];
    for (plan, expected) in cases {
        assert_eq!(plan.unwrap_err().to_string(), expected);
    }
}

/// A plan for one node has no witness and is still complete.
#[test]
fn one_node_alone_is_a_cluster() {
    let plan =
        Plan::from_options(&strings(&["a=[fd00::1]:7400"]), None, &strings(&["/e:a:fd00::10/64"])).unwrap();
    let config = Config::parse(Path::new("/x/hanfs.toml"), &render(&plan)).unwrap();
    assert_eq!((config.arbiter.kind, config.nodes.len()), (ArbiterKind::None, 1));
    assert!(config.mirror_of(&config.exports[0]).is_none());
    assert_eq!(config.exports[0].vip.to_string(), "fd00::10/64");
}

/// The sample that is shipped is what `init` writes, so that neither can go stale. To bring it up to date:
/// `HANFS_WRITE_SAMPLE=1 cargo test -p hanfs the_sample`.
#[test]
fn the_sample_is_what_init_writes() {
    let mut plan = pair();
    plan.nodes[1].address.set_port(7400);
    plan.cluster = Uuid::from_u128(0x3f1d_2c7a_5e0b_4d1c_9a64_71b0_c2d9_e8f5);
    plan.exports[0].id = Uuid::from_u128(0x8a6e_1d0f_94b3_4c5e_b7a2_0d3f_6c1e_5b91);
    plan.exports[1].id = Uuid::from_u128(0x8a6e_1d0f_94b3_4c5e_b7a2_0d3f_6c1e_5b92);
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/hanfs.toml");
    let text = render(&plan);
    if std::env::var_os("HANFS_WRITE_SAMPLE").is_some() {
        fs::write(&sample, &text).unwrap();
    }
    assert_eq!(fs::read_to_string(&sample).unwrap(), text);
    Config::load(&sample).unwrap();
}

/// Each key that the sample shows commented out is a real one, and its value is the default.
#[test]
fn commented_defaults_in_the_sample_are_the_defaults() {
    let text = render(&pair());
    let timing = "# ping_ms = 50                # between";
    assert!(text.contains(timing));
    let keys = [
        "ping_ms",
        "lease_ms",
        "promise_ms",
        "detect_ms",
        "stall_ms",
        "cache_mb",
        "connections",
        "in_flight_mb",
        "checkpoint_mb",
        "wal_mb",
        "read_only",
        "anon_uid",
        "anon_gid",
        "secure",
    ];
    let mut live = text.clone();
    for key in keys {
        assert!(live.contains(&format!("# {key} = ")), "{key} is not shown");
        live = live.replace(&format!("# {key} = "), &format!("{key} = "));
    }
    let path = Path::new("/x/hanfs.toml");
    let (said, default) = (Config::parse(path, &live).unwrap(), Config::parse(path, &text).unwrap());
    assert_eq!((said.timing, said.limits), (default.timing, default.limits));
    assert_eq!(said.exports, default.exports);
}
