//! `hanfs status --json`: the first answer's `StatusReply`, field by field under the names of admin.proto,
//! with `health` in front. Keys are stable: they are only ever added to.

use proto::admin::{ExportStatus, LinkStatus, Problem, StatusReply, TakeoverCounts, TakeoverReport};
use serde_json::{Value, json};

use super::render::{Health, View};

/// All of it, on one line.
pub fn status(views: &[View], health: &Health) -> Value {
    let mut out = json!({
        "health": { "level": health.severity.as_str(), "exit_code": health.severity as u8, "text": health.reason },
        "errors": views.iter().filter_map(|v| v.status.as_ref().err()).collect::<Vec<_>>(),
    });
    let first = views.iter().find_map(|v| v.status.as_ref().ok());
    if let (Some(out), Some(Value::Object(reply))) = (out.as_object_mut(), first.map(reply)) {
        out.extend(reply);
    }
    out
}

fn reply(r: &StatusReply) -> Value {
    json!({
        "cluster": r.cluster,
        "node": r.node,
        "version": r.version,
        "started_ns": r.started_ns,
        "exports": r.exports.iter().map(export).collect::<Vec<_>>(),
        "problems": r.problems.iter().map(problem).collect::<Vec<_>>(),
        "peer": r.peer.as_ref().map(link),
        "witness": r.witness.as_ref().map(link),
        "resident_bytes": r.resident_bytes,
        "portmapper": r.portmapper,
        "drained_since_ns": r.drained_since_ns,
        "peer_drained_since_ns": r.peer_drained_since_ns,
        "peer_version": r.peer_version,
        "config_digest": hex(&r.config_digest),
        "peer_config_digest": hex(&r.peer_config_digest),
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn problem(p: &Problem) -> Value {
    json!({ "severity": p.severity().as_str_name(), "text": p.text, "since_ns": p.since_ns })
}

fn link(l: &LinkStatus) -> Value {
    json!({
        "name": l.name,
        "address": l.address,
        "configured": l.configured,
        "connected": l.connected,
        "since_ns": l.since_ns,
        "last_error": l.last_error,
    })
}

fn export(e: &ExportStatus) -> Value {
    let mut out = json!({
        "path": e.path,
        "id": e.id,
        "vip": e.vip,
        "home": e.home,
        "mirror": e.mirror,
        "durability": e.durability,
        "role": e.role,
        "primary": e.primary,
        "serving": e.serving,
        "vip_held": e.vip_held,
        "backup_in_sync": e.backup_in_sync,
        "backup_index": e.backup_index,
        "solo_since_ns": e.solo_since_ns,
        "recovering": e.recovering,
        "last_takeover": e.last_takeover.as_ref().map(takeover),
        "crash_takeovers": e.crash_takeovers.as_ref().map(takeovers),
        "planned_takeovers": e.planned_takeovers.as_ref().map(takeovers),
        "stopped_reason": e.stopped_reason,
        "options": e.options,
    });
    if let (Some(out), Value::Object(counters)) = (out.as_object_mut(), counters(e)) {
        out.extend(counters);
    }
    out
}

fn counters(e: &ExportStatus) -> Value {
    json!({
        "term": e.term,
        "last_index": e.last_index,
        "commit_index": e.commit_index,
        "applied_index": e.applied_index,
        "durable_index": e.durable_index,
        "checkpoint_index": e.checkpoint_index,
        "first_index": e.first_index,
        "digest_index": e.digest_index,
        // As text: many JSON readers lose bits of a number this large.
        "digest": format!("{:016x}", e.digest),
        "files": e.files,
        "bytes_used": e.bytes_used,
        "wal_bytes": e.wal_bytes,
        "reply_cache_entries": e.reply_cache_entries,
        "reply_cache_bytes": e.reply_cache_bytes,
        "replies_evicted": e.replies_evicted,
        "replies_evicted_early": e.replies_evicted_early,
        "last_evicted_age_s": e.last_evicted_age_s,
        "locks_held": e.locks_held,
        "lock_waiters": e.lock_waiters,
        "checkpoint_at_ns": e.checkpoint_at_ns,
        "lag_bytes": e.lag_bytes,
        "connections": e.connections,
        "copy_files_done": e.copy_files_done,
        "copy_files": e.copy_files,
        "copy_bytes_done": e.copy_bytes_done,
        "copy_bytes": e.copy_bytes,
    })
}

fn takeover(t: &TakeoverReport) -> Value {
    json!({
        "at_ns": t.at_ns,
        "cause": t.cause,
        "elected_us": t.elected_us,
        "released_us": t.released_us,
        "vip_us": t.vip_us,
        "first_reply_us": t.first_reply_us,
        "tickled": t.tickled,
        "returned": t.returned,
        "detected_us": t.detected_us,
        "pause_us": t.pause_us,
    })
}

fn takeovers(t: &TakeoverCounts) -> Value {
    json!({
        "takeovers": t.takeovers,
        "pauses": t.pauses,
        "longest_us": t.longest_us,
        "sum_us": t.sum_us,
    })
}
