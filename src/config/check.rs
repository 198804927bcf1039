//! From the file to the model: every default, every rule, every refusal. Shape errors (TOML, types, unknown
//! keys) stop at the first; rules are all checked, so that one run shows everything there is to mend.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use replica::ids::ExportId;
use uuid::Uuid;

use super::clients;
use super::error::{ConfigError, Issue};
use super::locate::{KeyPath, Source, did_you_mean};
use super::model::{
    Access, Arbiter, ArbiterKind, Client, Config, Driver, Durability, Export, Limits, Metrics, Network, Node,
    Squash, Timing, Tls, Vip, Witness,
};
use super::raw::{
    RawArbiter, RawConfig, RawExport, RawLimits, RawMetrics, RawNetwork, RawNode, RawTiming, RawTls,
    RawWitness,
};

/// Longest path of an export: MNTPATHLEN of RFC 1813 section 5.1.3.
const PATH_BYTES_MAX: usize = 1024;
/// Exports of a cluster: each has threads, a log and a store of its own on both nodes.
const EXPORTS_MAX: usize = 64;
/// Bytes in a node's name: it becomes part of a DNS name (63) and of file names.
const NODE_NAME_BYTES_MAX: usize = 32;
/// The `nobody` of most systems.
const ANON_ID: u32 = 65_534;
/// Entries of `clients` of an export: each is compared with a client's address once per connection or so.
const CLIENTS_MAX: usize = 256;
/// Largest quota, bytes: 1 EiB, so that sums of a few do not overflow.
const QUOTA_BYTES_MAX: u64 = 1 << 60;
/// Longest configuration read; a full one has some 10 KiB.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// A lease may be shorter than the promise by this part of itself at least: how far clocks drift apart, with
/// a wide margin (5%; crystals differ by 0.02%).
const DRIFT_DIVISOR: u64 = 20;

impl Config {
    /// Reads and checks a file.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::parse(path, &Self::read(path)?)
    }

    /// The text of a file, unchecked.
    pub fn read(path: &Path) -> Result<String, ConfigError> {
        let fail = |source| ConfigError::Read { path: path.to_owned(), source };
        let bytes = std::fs::metadata(path).map_err(fail)?.len();
        if bytes > FILE_BYTES_MAX {
            let text = format!("it has {bytes} bytes, more than {FILE_BYTES_MAX}");
            return Err(fail(std::io::Error::new(std::io::ErrorKind::InvalidData, text)));
        }
        std::fs::read_to_string(path).map_err(fail)
    }

    /// Checks a text; `path` is for messages and for finding `keys/`.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let invalid = |issues| ConfigError::Invalid { path: path.to_owned(), issues };
        let source = Source::new(text);
        let raw: RawConfig =
            toml::from_str(text).map_err(|e| invalid(vec![shape_issue(&source, text.len(), &e)]))?;
        let mut checker = Checker { source: &source, issues: Vec::new() };
        let config = checker.config(path, raw);
        match config {
            Some(config) if checker.issues.is_empty() => Ok(config),
            _ => {
                let mut issues = checker.issues;
                issues.sort_by_key(|issue| issue.line);
                Err(invalid(issues))
            }
        }
    }
}

/// An error of TOML or serde, in our words.
fn shape_issue(source: &Source<'_>, text_bytes: usize, error: &toml::de::Error) -> Issue {
    let span = error.span().unwrap_or(text_bytes..text_bytes);
    let line = source.line_at(span.start);
    let key = source.key_at(&span);
    let message = error.message();
    if let Some(rest) = message.strip_prefix("unknown field ") {
        let (word, known) = quoted(rest);
        return Issue { line, key: key.to_string(), text: unknown("key", &word, &known, false) };
    }
    if let Some(rest) = message.strip_prefix("unknown variant ") {
        let (word, known) = quoted(rest);
        return Issue { line, key: key.to_string(), text: unknown("value", &word, &known, true) };
    }
    if let Some(rest) = message.strip_prefix("missing field ") {
        let (word, _) = quoted(rest);
        return Issue { line, key: key.name(&word).to_string(), text: "this key is required".to_owned() };
    }
    let text = message
        .replace("expected u64", "expected a whole number from 0")
        .replace("expected u32", "expected a whole number from 0 to 4294967295")
        .replace("expected u16", "expected a whole number from 0 to 65535")
        .replace("expected path string", "expected a string")
        .replace("expected a boolean", "expected true or false");
    Issue { line, key: key.to_string(), text }
}

/// The first word in backticks, and all that follow it.
fn quoted(text: &str) -> (String, Vec<String>) {
    let mut words = text.split('`').skip(1).step_by(2).map(str::to_owned);
    (words.next().unwrap_or_default(), words.collect())
}

fn unknown(what: &str, word: &str, known: &[String], quote: bool) -> String {
    let show = |s: &str| if quote { format!("{s:?}") } else { s.to_owned() };
    let list: Vec<String> = known.iter().map(|k| show(k)).collect();
    let mut text = format!("unknown {what} {}; expected one of {}", show(word), list.join(", "));
    if let Some(meant) = did_you_mean(word, known.iter().map(String::as_str)) {
        text.push_str(&format!("; did you mean {}?", show(meant)));
    }
    text
}

struct Checker<'a> {
    source: &'a Source<'a>,
    issues: Vec<Issue>,
}

impl Checker<'_> {
    fn issue(&mut self, key: &KeyPath, text: impl Display) {
        let issue = Issue { line: self.source.line_of(key), key: key.to_string(), text: text.to_string() };
        self.issues.push(issue);
    }

    fn config(&mut self, path: &Path, raw: RawConfig) -> Option<Config> {
        let cluster = self.uuid(&KeyPath::root("cluster"), &raw.cluster);
        // Also of nodes that are wrong otherwise: one mistake is told once.
        let names: Vec<String> = raw.nodes.keys().cloned().collect();
        let nodes = self.nodes(raw.nodes);
        let witness = raw.witness.and_then(|w| self.witness(w));
        self.addresses_differ(&nodes, witness.as_ref());
        let arbiter = self.arbiter(raw.arbiter, witness.is_some());
        let network = self.network(&raw.network);
        let exports = self.exports(raw.exports, &nodes, &names);
        let timing = self.timing(&raw.timing);
        let limits = self.limits(&raw.limits);
        let metrics = raw.metrics.and_then(|raw| self.metrics(&raw));
        let tls = tls(path, raw.tls);
        Some(Config {
            path: path.to_owned(),
            cluster: cluster?,
            nodes,
            witness,
            arbiter: arbiter?,
            exports,
            network,
            timing,
            limits,
            metrics,
            tls,
        })
    }

    fn uuid(&mut self, key: &KeyPath, text: &str) -> Option<Uuid> {
        match Uuid::try_parse(text) {
            Ok(uuid) if !uuid.is_nil() => Some(uuid),
            _ => {
                self.issue(
                    key,
                    format!("{text:?}: expected a UUID, as `hanfs init` and `uuidgen` make them"),
                );
                None
            }
        }
    }

    fn address(&mut self, key: &KeyPath, text: &str) -> Option<SocketAddr> {
        match text.parse::<SocketAddr>() {
            Ok(address) if address.port() != 0 && !address.ip().is_unspecified() => Some(address),
            _ => {
                self.issue(
                    key,
                    format!(
                        "{text:?}: expected an IP address and a port, as in \"10.77.0.11:7400\"; names \
                             are not looked up, so that a takeover never waits for DNS"
                    ),
                );
                None
            }
        }
    }

    fn directory(&mut self, key: &KeyPath, given: Option<PathBuf>, default: &str) -> PathBuf {
        let path = given.unwrap_or_else(|| default.into());
        if !path.is_absolute() {
            self.issue(key, format!("\"{}\": expected an absolute path", path.display()));
        }
        path
    }

    fn nodes(&mut self, raw: BTreeMap<String, RawNode>) -> Vec<Node> {
        let key = KeyPath::root("nodes");
        if raw.is_empty() || raw.len() > 2 {
            self.issue(&key, format!("{} nodes: expected one or two", raw.len()));
        }
        let mut nodes = Vec::new();
        for (name, node) in raw {
            let key = key.name(&name);
            let plain = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
            if name.is_empty() || name.len() > NODE_NAME_BYTES_MAX || !plain || name.starts_with('-') {
                self.issue(
                    &key,
                    format!("expected a name of a-z, 0-9 and -, at most {NODE_NAME_BYTES_MAX} long"),
                );
            } else if ["ca", "witness", "admin"].contains(&name.as_str()) {
                self.issue(&key, "this name is taken: it is one of the key files'; choose another");
            }
            let address = self.address(&key.name("address"), &node.address);
            let replication = node.replication.and_then(|text| self.address(&key.name("replication"), &text));
            let data = self.directory(&key.name("data"), node.data, "/var/lib/hanfs");
            if let Some(address) = address {
                nodes.push(Node { name, address, replication, data });
            }
        }
        nodes
    }

    fn witness(&mut self, raw: RawWitness) -> Option<Witness> {
        let key = KeyPath::root("witness");
        let address = self.address(&key.name("address"), &raw.address);
        let data = self.directory(&key.name("data"), raw.data, "/var/lib/hanfs-witness");
        Some(Witness { address: address?, data })
    }

    fn addresses_differ(&mut self, nodes: &[Node], witness: Option<&Witness>) {
        let mut seen: Vec<(SocketAddr, String)> = Vec::new();
        let nodes_key = KeyPath::root("nodes");
        let mut all = Vec::new();
        for node in nodes {
            let key = nodes_key.name(&node.name);
            all.push((key.name("address"), Some(node.address)));
            all.push((key.name("replication"), node.replication));
        }
        all.push((KeyPath::root("witness").name("address"), witness.map(|w| w.address)));
        for (key, address) in all {
            let Some(address) = address else { continue };
            if let Some((_, other)) = seen.iter().find(|(known, _)| *known == address) {
                self.issue(&key, format!("\"{address}\" is also {other}; expected an address of its own"));
            }
            seen.push((address, key.to_string()));
        }
    }

    fn arbiter(&mut self, raw: Option<RawArbiter>, has_witness: bool) -> Option<Arbiter> {
        let key = KeyPath::root("arbiter");
        let default = if has_witness { ArbiterKind::Witness } else { ArbiterKind::None };
        let (kind, command, timeout_ms) = match raw {
            Some(raw) => (raw.kind, raw.command, raw.timeout_ms),
            None => (default, None, None),
        };
        let fence = kind == ArbiterKind::Fence;
        if kind == ArbiterKind::Witness && !has_witness {
            self.issue(&key.name("kind"), "\"witness\" needs a [witness] table with its address");
        }
        if has_witness && kind != ArbiterKind::Witness {
            self.issue(
                &key.name("kind"),
                "a [witness] is configured: expected \"witness\", or no [witness] table",
            );
        }
        if fence && command.as_ref().is_none_or(|c| c.first().is_none_or(|p| !p.starts_with('/'))) {
            let text =
                "\"fence\" needs a command: expected a list whose first word is a program's absolute path";
            self.issue(&key.name("command"), text);
        }
        if !fence && command.is_some() {
            self.issue(&key.name("command"), "only kind = \"fence\" runs a command");
        }
        let timeout_ms = timeout_ms.unwrap_or(10_000);
        self.range(&key.name("timeout_ms"), timeout_ms, 1_000, 600_000, "ms");
        Some(Arbiter { kind, command: command.unwrap_or_default(), timeout_ms })
    }

    fn range(&mut self, key: &KeyPath, value: u64, low: u64, high: u64, unit: &str) {
        if !(low..=high).contains(&value) {
            self.issue(key, format!("{value}: expected {low} to {high} {unit}"));
        }
    }

    fn exports(&mut self, raw: Vec<RawExport>, nodes: &[Node], names: &[String]) -> Vec<Export> {
        let key = KeyPath::root("exports");
        if raw.is_empty() {
            self.issue(&key, "expected at least one [[exports]] table");
        }
        if raw.len() > EXPORTS_MAX {
            self.issue(&key, format!("{} exports: expected at most {EXPORTS_MAX}", raw.len()));
        }
        let mut exports: Vec<Export> = Vec::new();
        for (i, raw) in raw.into_iter().enumerate() {
            let key = key.index(i);
            let Some(export) = self.export(&key, raw, names) else { continue };
            for other in &exports {
                if other.path == export.path {
                    self.issue(&key.name("path"), format!("{:?} is exported twice", export.path));
                }
                if other.id == export.id {
                    self.issue(&key.name("id"), format!("{} is also the id of {}", export.id, other.path));
                }
                if other.vip.address == export.vip.address {
                    let text = format!(
                        "{} is also the address of {}; expected an address of its own, for each export moves alone",
                        export.vip.address, other.path
                    );
                    self.issue(&key.name("vip"), text);
                }
            }
            if nodes.iter().any(|n| n.address.ip() == export.vip.address) {
                let text =
                    format!("{} is a node's own address; expected one that no host has", export.vip.address);
                self.issue(&key.name("vip"), text);
            }
            exports.push(export);
        }
        exports
    }

    fn export(&mut self, key: &KeyPath, raw: RawExport, nodes: &[String]) -> Option<Export> {
        self.export_path(&key.name("path"), &raw.path);
        let id = self.uuid(&key.name("id"), &raw.id);
        let vip = self.vip(&key.name("vip"), &raw.vip);
        let names = || nodes.iter().map(String::as_str);
        if !names().any(|name| name == raw.home) {
            let mut text = format!(
                "{:?} is no node; expected one of {}",
                raw.home,
                names().collect::<Vec<_>>().join(", ")
            );
            if let Some(meant) = did_you_mean(&raw.home, names()) {
                text.push_str(&format!("; did you mean {meant:?}?"));
            }
            self.issue(&key.name("home"), text);
        }
        let quota_bytes = raw.quota.map_or(0, |text| self.size(&key.name("quota"), &text));
        let own = Access {
            read_only: raw.read_only.unwrap_or(false),
            squash: raw.squash.unwrap_or(Squash::Root),
            anon_uid: raw.anon_uid.unwrap_or(ANON_ID),
            anon_gid: raw.anon_gid.unwrap_or(ANON_ID),
            secure: raw.secure.unwrap_or(false),
        };
        let clients = raw.clients.map(|list| self.clients(&key.name("clients"), &list, &own));
        Some(Export {
            path: raw.path,
            id: ExportId(id?.into_bytes()),
            home: raw.home,
            vip: vip?,
            interface: raw.interface,
            durability: raw.durability.unwrap_or(Durability::Disk),
            read_only: own.read_only,
            squash: own.squash,
            anon_uid: own.anon_uid,
            anon_gid: own.anon_gid,
            secure: own.secure,
            clients,
            quota_bytes,
            quota_inodes: raw.quota_inodes.unwrap_or(0),
            giveback_after_s: raw.giveback_after_s,
        })
    }

    fn clients(&mut self, key: &KeyPath, list: &[String], defaults: &Access) -> Vec<Client> {
        if list.is_empty() {
            self.issue(key, "nobody is named: expected at least one client, or no such key for everybody");
        }
        if list.len() > CLIENTS_MAX {
            self.issue(key, format!("{} clients: expected at most {CLIENTS_MAX}", list.len()));
        }
        let mut clients: Vec<Client> = Vec::new();
        for (i, text) in list.iter().enumerate().take(CLIENTS_MAX) {
            match clients::parse(text, defaults) {
                Ok(client) => {
                    if let Some(other) = clients.iter().find(|other| other.who == client.who) {
                        let text = format!(
                            "{:?} is also {:?}; expected each client once",
                            client.group, other.group
                        );
                        self.issue(&key.index(i), text);
                    }
                    clients.push(client);
                }
                Err(text) => self.issue(&key.index(i), text),
            }
        }
        clients
    }

    /// Bytes: a number, and K, M, G or T for powers of 1,024. 0 is no limit.
    fn size(&mut self, key: &KeyPath, text: &str) -> u64 {
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let shift = match text.get(digits.len()..).unwrap_or_default() {
            "" => Some(0),
            "K" | "k" => Some(10),
            "M" | "m" => Some(20),
            "G" | "g" => Some(30),
            "T" | "t" => Some(40),
            _ => None,
        };
        let plain = digits.bytes().all(|b| b.is_ascii_digit());
        let number = digits.parse::<u64>().ok().filter(|_| plain);
        let bytes = shift.and_then(|shift| number?.checked_mul(1 << shift)).filter(|b| *b <= QUOTA_BYTES_MAX);
        bytes.unwrap_or_else(|| {
            let text = format!(
                "{text:?}: expected a number of bytes with K, M, G or T (powers of 1024) behind it, as in \"500G\", \
                 at most 1048576T"
            );
            self.issue(key, text);
            0
        })
    }

    fn export_path(&mut self, key: &KeyPath, path: &str) {
        let mut parts = path.split('/').skip(1);
        let clean = path.starts_with('/')
            && path != "/"
            && path.len() <= PATH_BYTES_MAX
            && !path.chars().any(|c| c.is_control() || c.is_whitespace())
            && parts.all(|part| !part.is_empty() && part != "." && part != "..");
        if !clean {
            self.issue(key, format!("{path:?}: expected a name such as \"/export\": absolute, no spaces, no . or .., no / at the end"));
        }
    }

    fn vip(&mut self, key: &KeyPath, text: &str) -> Option<Vip> {
        let parsed = text.split_once('/').and_then(|(address, bits)| {
            let vip = Vip { address: address.parse().ok()?, prefix_bits: bits.parse().ok()? };
            let bits_max = if vip.address.is_ipv4() { 32 } else { 128 };
            let usable = !vip.address.is_unspecified() && !vip.address.is_multicast();
            (usable && (1..=bits_max).contains(&vip.prefix_bits)).then_some(vip)
        });
        if parsed.is_none() {
            let text = format!(
                "{text:?}: expected an address and its network's prefix length, as in \"10.77.0.10/24\""
            );
            self.issue(key, text);
        }
        parsed
    }

    fn network(&mut self, raw: &RawNetwork) -> Network {
        let key = KeyPath::root("network");
        let network = Network {
            driver: raw.driver.unwrap_or(Driver::Netlink),
            nfs_port: raw.nfs_port.unwrap_or(2049),
            portmap_port: raw.portmap_port.unwrap_or(111),
        };
        if network.nfs_port == 0 {
            self.issue(&key.name("nfs_port"), "0: expected 1 to 65535");
        }
        if network.nfs_port == network.portmap_port {
            self.issue(
                &key.name("portmap_port"),
                "the same port as nfs_port; expected another, or 0 for none",
            );
        }
        network
    }

    fn timing(&mut self, raw: &RawTiming) -> Timing {
        let key = KeyPath::root("timing");
        let timing = Timing {
            ping_ms: raw.ping_ms.unwrap_or(50),
            lease_ms: raw.lease_ms.unwrap_or(500),
            promise_ms: raw.promise_ms.unwrap_or(550),
            detect_ms: raw.detect_ms.unwrap_or(600),
        };
        let all = [
            ("ping_ms", timing.ping_ms),
            ("lease_ms", timing.lease_ms),
            ("promise_ms", timing.promise_ms),
            ("detect_ms", timing.detect_ms),
        ];
        let before = self.issues.len();
        for (name, value) in all {
            self.range(&key.name(name), value, 5, 60_000, "ms");
        }
        if self.issues.len() > before {
            return timing;
        }
        let Timing { ping_ms, lease_ms, promise_ms, detect_ms } = timing;
        if ping_ms * 3 >= lease_ms {
            let text = format!(
                "{lease_ms}: expected more than three times ping_ms ({ping_ms}), so that two lost pings cost no lease"
            );
            self.issue(&key.name("lease_ms"), text);
        }
        let promise_min = lease_ms + lease_ms.div_ceil(DRIFT_DIVISOR);
        if promise_ms < promise_min {
            let text = format!(
                "{promise_ms}: expected at least {promise_min}, lease_ms and 5% for clocks that drift apart"
            );
            self.issue(&key.name("promise_ms"), text);
        }
        if detect_ms <= promise_ms {
            let text =
                format!("{detect_ms}: expected more than promise_ms ({promise_ms}): nobody may vote before");
            self.issue(&key.name("detect_ms"), text);
        }
        timing
    }

    fn metrics(&mut self, raw: &RawMetrics) -> Option<Metrics> {
        let text = raw.listen.as_deref()?;
        let parsed = match text.strip_prefix(':') {
            Some(port) => port.parse().ok().map(|port| Metrics { ip: None, port }),
            None => text.parse::<SocketAddr>().ok().map(|a| Metrics { ip: Some(a.ip()), port: a.port() }),
        };
        let parsed = parsed.filter(|metrics| metrics.port != 0);
        if parsed.is_none() {
            let key = KeyPath::root("metrics").name("listen");
            self.issue(
                &key,
                format!(
                    "{text:?}: expected an IP address and a port, as in \"127.0.0.1:9049\", or \":9049\" for that port \
                     of the node's own address"
                ),
            );
        }
        parsed
    }

    fn limits(&mut self, raw: &RawLimits) -> Limits {
        let key = KeyPath::root("limits");
        let limits = Limits {
            cache_mb: raw.cache_mb.unwrap_or(256),
            connections: raw.connections.unwrap_or(1024),
            in_flight_mb: raw.in_flight_mb.unwrap_or(64),
            checkpoint_mb: raw.checkpoint_mb.unwrap_or(128),
            wal_mb: raw.wal_mb.unwrap_or(1024),
        };
        self.range(&key.name("cache_mb"), limits.cache_mb, 16, 1 << 20, "MB");
        self.range(&key.name("connections"), limits.connections, 1, 65_536, "connections");
        self.range(&key.name("in_flight_mb"), limits.in_flight_mb, 4, 65_536, "MB");
        self.range(&key.name("checkpoint_mb"), limits.checkpoint_mb, 8, 65_536, "MB");
        self.range(&key.name("wal_mb"), limits.wal_mb, 64, 1 << 20, "MB");
        if limits.wal_mb < limits.checkpoint_mb.saturating_mul(2) {
            let text = format!(
                "{}: expected at least twice checkpoint_mb ({}), for the log is cut only at a checkpoint",
                limits.wal_mb, limits.checkpoint_mb
            );
            self.issue(&key.name("wal_mb"), text);
        }
        limits
    }
}

/// Relative paths are relative to the configuration.
fn tls(config: &Path, raw: RawTls) -> Tls {
    let dir = config.parent().unwrap_or_else(|| Path::new("."));
    let ca = raw.ca.unwrap_or_else(|| "keys/ca.pem".into());
    Tls { ca: dir.join(ca), cert: raw.cert.map(|p| dir.join(p)), key: raw.key.map(|p| dir.join(p)) }
}
