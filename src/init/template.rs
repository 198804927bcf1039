//! The commented configuration. `deploy/hanfs.toml` is what this makes of a sample plan.

use std::fmt::Write as _;
use std::path::Path;

use super::plan::Plan;
use crate::config::Driver;

/// A string as TOML writes it.
fn quote(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn quote_path(path: &Path) -> String {
    quote(&path.display().to_string())
}

/// The file as text.
pub fn render(plan: &Plan) -> String {
    let mut out = String::from(HEAD);
    // Writing to a String cannot fail.
    let _ = writeln!(out, "cluster = {}\n", quote(&plan.cluster.to_string()));
    nodes(&mut out, plan);
    arbiter(&mut out, plan);
    exports(&mut out, plan);
    network(&mut out, plan);
    out.push_str(TAIL);
    out
}

fn nodes(out: &mut String, plan: &Plan) {
    out.push_str(NODES);
    for node in &plan.nodes {
        let _ = writeln!(out, "[nodes.{}]", node.name);
        let _ = writeln!(out, "address = {}", quote(&node.address.to_string()));
        out.push_str("# replication = \"IP:PORT\"\n");
        let _ = writeln!(out, "data = {}\n", quote_path(&node.data));
    }
}

fn arbiter(out: &mut String, plan: &Plan) {
    out.push_str(WITNESS);
    match &plan.witness {
        Some((address, data)) => {
            let _ = writeln!(
                out,
                "[witness]\naddress = {}\ndata = {}\n",
                quote(&address.to_string()),
                quote_path(data)
            );
        }
        None => out.push_str("# [witness]\n# address = \"IP:PORT\"\n# data = \"/var/lib/hanfs-witness\"\n\n"),
    }
    out.push_str(ARBITER);
    let kind = if plan.witness.is_some() { "witness" } else { "none" };
    let _ = writeln!(out, "[arbiter]\nkind = \"{kind}\"");
    out.push_str("# command = [\"/usr/local/sbin/fence\", \"--off\"]\n# timeout_ms = 10000\n\n");
}

fn exports(out: &mut String, plan: &Plan) {
    out.push_str(EXPORTS);
    for export in &plan.exports {
        let _ = writeln!(out, "[[exports]]");
        let _ = writeln!(out, "path = {}", quote(&export.path));
        let _ = writeln!(out, "id = {}", quote(&export.id.to_string()));
        let _ = writeln!(out, "home = {}", quote(&export.home));
        let _ = writeln!(out, "vip = {}", quote(&export.vip));
        out.push_str(INTERFACE);
        let durability = quote(export.durability.as_str());
        let _ = writeln!(out, "durability = {durability:<17}{DURABILITY}");
        out.push_str(EXPORT_OPTIONS);
    }
}

fn network(out: &mut String, plan: &Plan) {
    out.push_str(NETWORK);
    let driver = match plan.driver {
        Driver::Netlink => "netlink",
        Driver::Loopback => "loopback",
    };
    let _ = writeln!(out, "driver = \"{driver}\"");
    let _ = writeln!(out, "nfs_port = {}", plan.nfs_port);
    let _ = writeln!(out, "portmap_port = {}\n", plan.portmap_port);
}

const HEAD: &str = "\
# hanfs: one file for the whole cluster, the same on both nodes and on the witness.
# `hanfs config check` says what is wrong with it. Keys that are commented out show their defaults.

# The cluster's identity. A node of another cluster is refused.
";

const NODES: &str = "\
# One or two boxes. `address`: where the other node, the witness's answers and `hanfs status` reach it.
# `replication`: a second address, on a link of its own, for what the nodes say to each other.
";

const WITNESS: &str = "\
# A third voter that stores no data: any small machine that fails independently of both nodes.
";

const ARBITER: &str = "\
# Who decides that a node is gone:
#   \"witness\"    the witness votes (recommended)
#   \"fence\"      `command` has powered the other node off; it is run with the node's name appended
#   \"fail-stop\"  every path to the other node has been dead for `timeout_ms`: if both nodes run on while
#                all paths between them are cut, both serve, and one side's changes are lost
#   \"none\"       a person, by `hanfs takeover --force`
";

const EXPORTS: &str = "\
# The replicated file systems. Each is served by its home node at its virtual IP and mirrored by the other.
";

const INTERFACE: &str = "\
# interface = \"eth0\"          # default: the one that has an address of the same network
";

const DURABILITY: &str = "# \"memory\": faster; if both boxes lose power at once, the last moments may go";

const EXPORT_OPTIONS: &str = "\
squash = \"none\"               # \"root\" (the default): uid 0 becomes nobody; \"all\": everybody does
# read_only = false
# anon_uid = 65534
# anon_gid = 65534
# secure = false              # true: only from ports below 1024, which only a client's root can use
# Who may mount, in the words of exports(5); the keys above are the defaults. Without this key: whoever gets here.
# clients = [\"10.77.0.0/24(rw)\", \"*.example.com(ro)\", \"2001:db8::/32(rw,root_squash)\"]
# quota = \"500G\"              # what its files may hold; K, M, G, T are powers of 1024; default: no limit
# quota_inodes = 1000000      # files, directories and all else; default: no limit
# giveback_after_s = 60       # default: only `hanfs giveback` gives it back

";

const NETWORK: &str = "\
# How clients get here. All programs answer on nfs_port; a firewall opens that and portmap_port (0: none).
# `netlink` adds and removes the virtual IPs; `loopback` only binds to 127.x.x.x, for trying things out.
[network]
";

const TAIL: &str = "\
# How fast a failure is noticed, in ms. 3 x ping < lease, lease + 5% <= promise < detect.
[timing]
# ping_ms = 50                # between two signs of life
# lease_ms = 500              # a node serves this long after a majority has answered
# promise_ms = 550            # a voter that heard a leader votes for nobody else this long
# detect_ms = 600             # without a sign of life this long: lost

# Bounds on what a node uses.
[limits]
# cache_mb = 256              # metadata in memory, per node
# connections = 1024          # client connections, per node
# in_flight_mb = 64           # calls in progress, per node
# checkpoint_mb = 128         # log until a checkpoint, per export
# wal_mb = 1024               # log kept for a node that lags, per export; past it, it gets a new copy

# Figures for Prometheus, at http://ADDRESS:PORT/metrics of each node, to whoever asks. By default nowhere.
[metrics]
# listen = \"127.0.0.1:9049\"   # \":9049\": that port of the node's own address

# Keys. By default they are next to this file: keys/ca.pem, keys/NAME.pem, keys/NAME.key.
[tls]
# ca = \"keys/ca.pem\"
# cert = \"/etc/hanfs/keys/a.pem\"
# key = \"/etc/hanfs/keys/a.key\"
";
