//! What this node says of itself: the facts of [`StatusReply`], and what is wrong, in sentences.

use std::sync::Arc;

use failover::policy::Fault;
use proto::admin::problem::Severity;
use proto::admin::{ExportStatus, LinkStatus, Problem, StatusReply};
use replica::clock::{monotonic_ns, wall_ns};
use replica::group::Group;
use replica::ids::voter;
use replica::node::{NodeStatus, Role};

use super::admin::AdminService;
use super::divergent::Tail;
use super::export::{Export, State};
use super::reload;
use super::session::LinkState;
use crate::config::ArbiterKind;

/// The whole reply; `saved` is what [`super::saved`] knows.
pub fn reply(node: &AdminService, saved: &[Tail]) -> StatusReply {
    let mut problems = Vec::new();
    let config = node.current.config();
    let peer = link(
        config.peer_of(&node.node).map(|p| (p.name.clone(), p.peer_address().to_string())),
        node.peer.as_ref().map(|l| l.state()),
    );
    let witness = link(
        config.witness.as_ref().map(|w| ("witness".to_owned(), w.address.to_string())),
        node.witness.as_ref().map(|l| l.state()),
    );
    for (link, severity) in [(&peer, Severity::Warning), (&witness, Severity::Warning)] {
        if link.configured && !link.connected {
            let name =
                if link.name == "witness" { "the witness".to_owned() } else { format!("node {}", link.name) };
            let why =
                if link.last_error.is_empty() { String::new() } else { format!(": {}", link.last_error) };
            problems.push(problem(severity, format!("{name} is not connected{why}"), link.since_ns));
        }
    }
    if let Some(text) = node.view.lock().peer_says.clone() {
        problems.push(problem(Severity::Warning, format!("node {} stopped: {text}", peer.name), 0));
    }
    problems.extend(node.portmapper.problem().map(|text| problem(Severity::Warning, text, 0)));
    let (ours, theirs) =
        (node.current.digest(), node.peer.as_ref().map(|l| l.peer_config()).unwrap_or_default());
    if !theirs.is_empty() && ours != theirs {
        problems.push(problem(Severity::Warning, configurations_differ(&node.node, &peer.name), 0));
    }
    problems.extend(drained(node));
    let exports = node.exports.all().iter().map(|export| one(node, export, &mut problems)).collect();
    problems.extend(saved.iter().map(|tail| problem(Severity::Warning, tail.problem(), tail.info.saved_ns)));
    StatusReply {
        cluster: config.cluster.to_string(),
        node: node.node.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started_ns: node.started_ns,
        exports,
        problems,
        peer: Some(peer),
        witness: Some(witness),
        resident_bytes: resident_bytes(),
        portmapper: node.portmapper.status(),
        config_digest: ours,
        peer_config_digest: theirs,
        drained_since_ns: node.drained.since_ns(),
        peer_drained_since_ns: node.peer.as_ref().map_or(0, |l| l.peer_drained_ns()),
        peer_version: node.peer.as_ref().map(|l| l.peer_version()).unwrap_or_default(),
    }
}

fn problem(severity: Severity, text: String, since_ns: u64) -> Problem {
    Problem { severity: severity.into(), text, since_ns }
}

/// A drained node is on purpose, and easily forgotten.
fn drained(node: &AdminService) -> Option<Problem> {
    let since_ns = node.drained.since_ns();
    let name = &node.node;
    let text = format!(
        "node {name} is drained: nothing is given back to it by itself; `hanfs undrain {name}` ends that"
    );
    (since_ns != 0).then(|| problem(Severity::Warning, text, since_ns))
}

/// In the order of the names, so that both nodes say the same.
fn configurations_differ(one: &str, other: &str) -> String {
    let (first, second) = if one < other { (one, other) } else { (other, one) };
    format!(
        "the configurations of {first} and {second} differ: see which file is right, and say `hanfs reload --push` on that \
         node"
    )
}

fn link(who: Option<(String, String)>, state: Option<LinkState>) -> LinkStatus {
    let Some((name, address)) = who else { return LinkStatus::default() };
    let state = state.unwrap_or(LinkState { up: false, since_ns: 0, error: String::new() });
    LinkStatus {
        name,
        address,
        configured: true,
        connected: state.up,
        since_ns: state.since_ns,
        last_error: state.error,
    }
}

fn one(node: &AdminService, export: &Arc<Export>, problems: &mut Vec<Problem>) -> ExportStatus {
    let config = export.config();
    let cluster = node.current.config();
    let mut status = ExportStatus {
        path: config.path.clone(),
        id: config.id.to_string(),
        vip: config.vip.to_string(),
        home: config.home.clone(),
        mirror: cluster.mirror_of(&config).map(|n| n.name.clone()).unwrap_or_default(),
        durability: config.durability.as_str().to_owned(),
        options: reload::options(&config),
        ..ExportStatus::default()
    };
    {
        let view = node.view.lock();
        status.vip_held = view.vip.get(&config.id).copied().unwrap_or(false);
        status.connections = view.connections.get(&config.id).copied().unwrap_or(0);
        status.last_takeover = view.takeovers.get(&config.id).cloned();
        status.checkpoint_at_ns = view.checkpoints.get(&config.id).map_or(0, |(_, at)| *at);
        if let Some(fault) = view.faults.get(&config.id) {
            let text = format!("{}: node {}: {fault}", config.path, node.node);
            // Nothing is less protected by a slow disk.
            let slow = *fault == Fault::SlowDisk;
            problems.push(problem(if slow { Severity::Ok } else { Severity::Warning }, text, 0));
        }
    }
    let counts = node.pauses.of(config.id);
    status.crash_takeovers = Some(counts.crash);
    status.planned_takeovers = Some(counts.planned);
    export.with(|state| match state {
        State::Running(group) => {
            let raft = group.node_status();
            running(&mut status, group, &raft);
            if status.role == "candidate" {
                status.stopped_reason = undecided(node, export);
            }
            judge(node, &status, &raft, problems);
        }
        State::Copying(progress) => {
            status.role = "copying".to_owned();
            status.copy_bytes = progress.bytes;
            status.copy_bytes_done = progress.bytes_done;
            problems.push(problem(
                Severity::Warning,
                format!(
                    "{} is being copied to this node: it is not protected until that is done",
                    config.path
                ),
                0,
            ));
        }
        State::Stopped(why) => {
            status.role = "stopped".to_owned();
            status.stopped_reason.clone_from(why);
            problems.push(problem(
                Severity::Critical,
                format!("{} does not run on this node: {why}", config.path),
                0,
            ));
        }
    });
    status
}

/// Why this node does not serve an export that it knows no primary of.
fn undecided(node: &AdminService, export: &Export) -> String {
    let refused = node.view.lock().verdicts.get(&export.id()).cloned();
    match (refused, node.current.config().arbiter.kind) {
        (Some(why), _) => why,
        (None, ArbiterKind::None) if node.peer.is_some() => {
            let config = export.config();
            let path = &config.path;
            format!(
                "no arbiter is configured: it waits for the other node, or for `hanfs takeover --force {path}`"
            )
        }
        (None, _) => "no node is elected".to_owned(),
    }
}

fn running(status: &mut ExportStatus, group: &Group, raft: &NodeStatus) {
    let fs = group.progress();
    let (first, last) = group.log_range();
    status.role = match raft.role {
        Role::Leader => "primary",
        Role::Follower if raft.leader.is_some() => "backup",
        Role::Follower | Role::Candidate => "candidate",
    }
    .to_owned();
    status.primary = match raft.leader {
        Some(voter::HOME) => status.home.clone(),
        Some(voter::MIRROR) => status.mirror.clone(),
        _ => String::new(),
    };
    status.serving = raft.serving && monotonic_ns() < group.lease_until_ns();
    status.term = raft.term;
    status.first_index = first;
    status.last_index = last;
    status.commit_index = raft.commit;
    status.applied_index = fs.applied;
    status.durable_index = raft.durable;
    status.checkpoint_index = fs.checkpoint;
    status.backup_in_sync = raft.in_sync;
    status.backup_index = raft.peer_match;
    status.solo_since_ns = raft.solo_since_ns.map_or(0, since_wall);
    status.recovering = raft.recovering;
    status.digest_index = fs.digest_index;
    status.digest = fs.digest_at_index;
    status.files = fs.files;
    status.bytes_used = fs.bytes_used;
    status.wal_bytes = group.wal_bytes();
    status.reply_cache_entries = fs.reply_cache_entries;
    status.reply_cache_bytes = fs.reply_cache_bytes;
    status.replies_evicted = fs.replies_evicted;
    status.replies_evicted_early = fs.replies_evicted_early;
    status.last_evicted_age_s = fs.last_evicted_age_s;
    (status.locks_held, status.lock_waiters) = group.lock_counts();
    if raft.role == Role::Leader && !status.mirror.is_empty() {
        status.lag_bytes = group.log_bytes_after(raft.peer_match);
    }
}

/// A monotonic instant as wall time.
fn since_wall(at_ns: u64) -> u64 {
    wall_ns().saturating_sub(monotonic_ns().saturating_sub(at_ns))
}

fn judge(node: &AdminService, status: &ExportStatus, raft: &NodeStatus, problems: &mut Vec<Problem>) {
    let path = &status.path;
    let paired = node.peer.is_some();
    if raft.divergent {
        problems.push(problem(
            Severity::Critical,
            format!(
                "{path}: both nodes went on without each other, and neither yields by itself. Choose whose changes are \
                 given up; stop hanfs there, move its DATA/exports/UUID to DATA/divergent/NAME/copy, and start it: the \
                 other node's copy replaces it"
            ),
            0,
        ));
    } else if status.role == "candidate" {
        problems.push(problem(
            Severity::Critical,
            format!("{path} is served by nobody that this node knows of: {}", status.stopped_reason),
            0,
        ));
    } else if status.role == "primary" && !status.serving {
        problems.push(problem(Severity::Critical, format!("{path}: the primary has no lease"), 0));
    }
    if status.solo_since_ns != 0 {
        problems.push(problem(
            Severity::Warning,
            format!("{path} runs solo on {}: there is one copy only", node.node),
            status.solo_since_ns,
        ));
    } else if paired && status.role == "primary" && !status.backup_in_sync {
        problems.push(problem(Severity::Warning, format!("{path}: the backup is not in sync"), 0));
    }
    if raft.recovering {
        problems.push(problem(
            Severity::Warning,
            format!("{path}: this host went down without a clean stop; its copy waits to be completed by the other node"),
            0,
        ));
    }
}

/// This process's resident memory, bytes; 0 where the kernel does not say.
fn resident_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = text.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
    // SAFETY: sysconf has no preconditions and touches no memory of ours.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    pages * u64::try_from(page).unwrap_or(4096)
}
