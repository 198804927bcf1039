//! What differs between the configuration that a node runs with and a new one, and what of that can change online.
//!
//! Exports come and go, and their options change, while a node runs. Everything else (who the nodes are, where they
//! listen, what an export *is*) was decided when the processes started: changing it takes a restart of both nodes,
//! one after the other, and each such key is named.

use super::model::{Config, Export};

/// What can be applied to a running node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Diff {
    /// Exports that are new, in the order of the new file.
    pub added: Vec<Export>,
    /// Exports that are gone, as they were.
    pub removed: Vec<Export>,
    /// Exports with other options than before: as they were, as they are to be.
    pub changed: Vec<(Export, Export)>,
}

impl Diff {
    /// Does nothing differ?
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty()
    }

    /// From `old` to `new`. The error names every key that cannot change while a node runs, one sentence each.
    pub fn between(old: &Config, new: &Config) -> Result<Self, Vec<String>> {
        let mut fixed = fixed_keys(old, new);
        let mut diff = Self::default();
        for export in &new.exports {
            match old.exports.iter().find(|e| e.id == export.id) {
                None => diff.added.push(export.clone()),
                Some(before) => {
                    fixed.extend(identity_keys(before, export));
                    if before != export {
                        diff.changed.push((before.clone(), export.clone()));
                    }
                }
            }
        }
        let gone = |e: &&Export| !new.exports.iter().any(|n| n.id == e.id);
        diff.removed = old.exports.iter().filter(gone).cloned().collect();
        for export in &diff.added {
            // Its address and its place among the mounts are free only when the other one is gone, on both nodes.
            let before = diff.removed.iter().find(|r| r.path == export.path || r.vip == export.vip);
            if let Some(before) = before {
                fixed.push(format!(
                    "{}: the id of an export cannot change while its path or address stays: remove {} first, add the new \
                     one then",
                    export.path, before.path
                ));
            }
        }
        if fixed.is_empty() { Ok(diff) } else { Err(fixed) }
    }
}

fn refusal(key: &str) -> String {
    format!(
        "{key} cannot change while the nodes run: take it back, or put the new file on both nodes and restart both \
         nodes one after the other"
    )
}

/// Keys outside of `[[exports]]` that differ.
fn fixed_keys(old: &Config, new: &Config) -> Vec<String> {
    let mut keys: Vec<(String, bool)> = vec![
        ("cluster".to_owned(), old.cluster == new.cluster),
        (
            "[nodes]: the nodes' names".to_owned(),
            old.nodes.iter().map(|n| &n.name).eq(new.nodes.iter().map(|n| &n.name)),
        ),
    ];
    for (before, now) in old.nodes.iter().zip(&new.nodes).filter(|(a, b)| a.name == b.name) {
        let key = |name: &str| format!("nodes.{}.{name}", now.name);
        keys.push((key("address"), before.address == now.address));
        keys.push((key("replication"), before.replication == now.replication));
        keys.push((key("data"), before.data == now.data));
    }
    let same = |name: &str, same: bool| (name.to_owned(), same);
    let (timing, was) = (new.timing, old.timing);
    keys.extend([
        same("[witness]", old.witness == new.witness),
        same("[arbiter]", old.arbiter == new.arbiter),
        same("network.driver", old.network.driver == new.network.driver),
        same("network.nfs_port", old.network.nfs_port == new.network.nfs_port),
        same("network.portmap_port", old.network.portmap_port == new.network.portmap_port),
        same("timing.ping_ms", was.ping_ms == timing.ping_ms),
        same("timing.lease_ms", was.lease_ms == timing.lease_ms),
        same("timing.promise_ms", was.promise_ms == timing.promise_ms),
        same("timing.detect_ms", was.detect_ms == timing.detect_ms),
        same("[limits]", old.limits == new.limits),
        same("[metrics]", old.metrics == new.metrics),
        same("[tls]", old.tls == new.tls),
    ]);
    // What the keys above may not cover: nothing is ignored in silence.
    let rest = old.network == new.network && was == timing;
    if !rest && keys.iter().all(|(_, same)| *same) {
        keys.push(same("[network] or [timing]", false));
    }
    keys.into_iter().filter(|(_, same)| !same).map(|(key, _)| refusal(&key)).collect()
}

/// Keys that make an export what it is.
fn identity_keys(old: &Export, new: &Export) -> Vec<String> {
    let keys = [
        ("path", old.path == new.path),
        ("home", old.home == new.home),
        ("vip", old.vip == new.vip),
        ("interface", old.interface == new.interface),
        ("durability", old.durability == new.durability),
    ];
    let differ = keys.into_iter().filter(|(_, same)| !same);
    differ.map(|(key, _)| refusal(&format!("{} of export {}", key, old.path))).collect()
}

#[cfg(test)]
mod tests {
    //! Goal: a reload does all of what can be done online, and nothing of a file that asks for more. Method: one
    //! change at a time to the smallest file.

    use std::path::Path;

    use super::*;

    const BASE: &str = r#"cluster = "0b5c6a6e-0f5e-4a53-9f0e-0d6f6c1f7a10"
[nodes.a]
address = "10.77.0.11:7400"
[nodes.b]
address = "10.77.0.12:7400"
[timing]
lease_ms = 500
[[exports]]
path = "/one"
id = "6d0f1b52-6a8a-4d64-8d4b-0a3c1f2e9b01"
home = "a"
vip = "10.77.0.10/24"
"#;
    const TWO: &str = r#"[[exports]]
path = "/two"
id = "6d0f1b52-6a8a-4d64-8d4b-0a3c1f2e9b02"
home = "b"
vip = "10.77.0.20/24"
"#;

    fn parse(text: &str) -> Config {
        Config::parse(Path::new("/etc/hanfs/hanfs.toml"), text).unwrap()
    }

    fn between(old: &str, new: &str) -> Result<Diff, Vec<String>> {
        Diff::between(&parse(old), &parse(new))
    }

    #[test]
    fn exports_come_and_go_and_change_their_options() {
        let both = format!("{BASE}{TWO}");
        assert!(between(BASE, BASE).unwrap().is_empty());
        let diff = between(BASE, &both).unwrap();
        assert_eq!(diff.added.iter().map(|e| e.path.as_str()).collect::<Vec<_>>(), ["/two"]);
        assert!(diff.removed.is_empty() && diff.changed.is_empty());
        let diff = between(&both, BASE).unwrap();
        assert_eq!(diff.removed.iter().map(|e| e.path.as_str()).collect::<Vec<_>>(), ["/two"]);
        let diff =
            between(BASE, &format!("{BASE}read_only = true\nsquash = \"all\"\ngiveback_after_s = 5\n"))
                .unwrap();
        let [(old, new)] = diff.changed.as_slice() else { panic!("{diff:?}") };
        assert!(!old.read_only && new.read_only && new.giveback_after_s == Some(5));
    }

    #[test]
    fn what_takes_a_restart_is_refused_by_name() {
        let cases = [
            ("0b5c6a6e", "1b5c6a6e", "cluster"),
            ("[nodes.b]", "[nodes.c]", "[nodes]: the nodes' names"),
            ("10.77.0.12:7400", "10.77.0.13:7400", "nodes.b.address"),
            ("[nodes.b]", "[nodes.b]\ndata = \"/other\"", "nodes.b.data"),
            ("[timing]", "[witness]\naddress = \"10.77.0.14:7400\"\n[timing]", "[witness]"),
            ("[timing]", "[network]\nnfs_port = 2050\n[timing]", "network.nfs_port"),
            ("[timing]", "[limits]\ncache_mb = 99\n[timing]", "[limits]"),
            ("[timing]", "[metrics]\nlisten = \":9049\"\n[timing]", "[metrics]"),
            ("[timing]", "[tls]\nca = \"x.pem\"\n[timing]", "[tls]"),
            ("lease_ms = 500", "lease_ms = 501", "timing.lease_ms"),
            ("\"/one\"", "\"/uno\"", "path of export /one"),
            ("home = \"a\"", "home = \"b\"", "home of export /one"),
            ("10.77.0.10/24", "10.77.0.30/24", "vip of export /one"),
            ("home = \"a\"", "home = \"a\"\ndurability = \"memory\"", "durability of export /one"),
            ("home = \"a\"", "home = \"a\"\ninterface = \"eth9\"", "interface of export /one"),
        ];
        for (old, new, key) in cases {
            assert!(BASE.contains(old), "the case changes nothing: {old:?}");
            let said = between(BASE, &BASE.replacen(old, new, 1)).expect_err(key);
            assert!(said.iter().any(|s| s.starts_with(&format!("{key} cannot change"))), "{key}: {said:?}");
            assert!(said.iter().all(|s| s.contains("restart both nodes one after the other")), "{said:?}");
        }
    }

    /// The old one holds the address until it is gone on both nodes.
    #[test]
    fn an_export_is_not_replaced_by_another_in_one_step() {
        let said = between(BASE, &BASE.replace("9b01", "9b09")).expect_err("the id changed");
        assert!(said[0].contains("remove /one first"), "{said:?}");
    }
}
