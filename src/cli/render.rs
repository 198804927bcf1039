//! What `hanfs status` says, out of what the nodes said. Pure: the same views make the same text.
//!
//! The first line is the health: how bad, and why. An export's state is its primary's word; where the
//! primary does not answer, what the other node knows about it. Each wrong thing is said once.

use std::collections::BTreeMap;

use proto::admin::problem::Severity as ProblemSeverity;
use proto::admin::{ExportStatus, LinkStatus, StatusReply};

use super::admin::Severity;
use super::time::{Moment, bytes, millis};
use crate::daemon::pauses::quantile_us;

/// What a node said, or why it said nothing.
#[derive(Debug)]
pub struct View {
    /// The node that was asked.
    pub node: String,
    /// Its answer.
    pub status: Result<StatusReply, String>,
}

/// One line, and its weight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// How bad.
    pub severity: Severity,
    /// Why, without the severity's word.
    pub reason: String,
}

impl Health {
    /// `WARNING: /export runs solo on b ...`
    pub fn line(&self) -> String {
        format!("{}: {}", self.severity.as_str(), self.reason)
    }
}

/// An export in every view that has it, by path.
type Exports<'a> = BTreeMap<&'a str, Vec<(&'a StatusReply, &'a ExportStatus)>>;

fn answers(views: &[View]) -> impl Iterator<Item = &StatusReply> {
    views.iter().filter_map(|view| view.status.as_ref().ok())
}

fn exports(views: &[View]) -> Exports<'_> {
    let mut all = Exports::new();
    for reply in answers(views) {
        for export in &reply.exports {
            all.entry(&export.path).or_default().push((reply, export));
        }
    }
    all
}

/// The word of the one who leads, by the highest term; a deposed primary may not know yet.
fn primary<'a>(views: &[(&'a StatusReply, &'a ExportStatus)]) -> Option<(&'a StatusReply, &'a ExportStatus)> {
    views.iter().copied().filter(|(_, e)| e.role == "primary").max_by_key(|(_, e)| e.term)
}

/// The health line of the cluster.
pub fn health(views: &[View], moment: &Moment) -> Health {
    let mut found: Vec<(Severity, String)> = Vec::new();
    for (path, views) in &exports(views) {
        found.push(match primary(views) {
            Some((reply, export)) => led(reply, export, moment),
            None => not_led(path, views),
        });
    }
    if answers(views).next().is_none() {
        let why: Vec<&str> =
            views.iter().filter_map(|v| v.status.as_ref().err().map(String::as_str)).collect();
        return Health { severity: Severity::Unknown, reason: why.join("; ") };
    }
    if found.is_empty() {
        found.push((Severity::Warning, "no exports are configured".to_owned()));
    }
    let exports_worst = found.iter().map(|(s, _)| *s).max().unwrap_or(Severity::Ok);
    found.extend(around(views, exports_worst, moment));

    let worst = found.iter().map(|(s, _)| *s).max().unwrap_or(Severity::Ok);
    if worst > Severity::Ok {
        found.retain(|(s, _)| *s > Severity::Ok);
        found.sort_by_key(|(severity, _)| std::cmp::Reverse(*severity));
    }
    let mut reasons: Vec<String> = found.into_iter().map(|(_, text)| text).collect();
    reasons.dedup();
    Health { severity: worst, reason: reasons.join("; ") }
}

/// Of an export that somebody leads.
fn led(reply: &StatusReply, export: &ExportStatus, moment: &Moment) -> (Severity, String) {
    let (path, node) = (&export.path, &reply.node);
    if !export.stopped_reason.is_empty() {
        return (Severity::Critical, format!("{path} is stopped on {node}: {}", export.stopped_reason));
    }
    if !export.serving {
        return (Severity::Critical, format!("{path} is not served: {node} leads it and has no majority"));
    }
    if !export.vip_held {
        return (
            Severity::Critical,
            format!("{path} is not reachable: {node} leads it without {}", export.vip),
        );
    }
    let away = if *node == export.home { String::new() } else { format!(" (home {})", export.home) };
    let Some(backup) = other(export, node) else {
        return (Severity::Ok, format!("{path} on {node}, not mirrored"));
    };
    if export.solo_since_ns != 0 {
        let why = why_alone(reply, export, backup);
        let since = moment.since(export.solo_since_ns);
        return (Severity::Warning, format!("{path} runs solo on {node} {since}: {why}"));
    }
    if !export.backup_in_sync {
        let why = why_alone(reply, export, backup);
        return (Severity::Warning, format!("{path} on {node}{away} is not mirrored: {why}"));
    }
    (Severity::Ok, format!("{path} on {node}{away}, mirrored by {backup}"))
}

/// The data node that does not lead.
fn other<'a>(export: &'a ExportStatus, node: &str) -> Option<&'a str> {
    [export.home.as_str(), export.mirror.as_str()].into_iter().find(|name| !name.is_empty() && *name != node)
}

fn why_alone(reply: &StatusReply, export: &ExportStatus, backup: &str) -> String {
    if !reply.peer.as_ref().is_some_and(|peer| peer.connected) {
        return format!("node {backup} is down");
    }
    let behind = export.last_index.saturating_sub(export.backup_index);
    if export.copy_files > 0 {
        return format!("node {backup} gets a new copy, {}", copied(export));
    }
    format!("node {backup} is catching up, {behind} operations behind")
}

fn copied(export: &ExportStatus) -> String {
    format!(
        "{} of {} files, {} of {}",
        export.copy_files_done,
        export.copy_files,
        bytes(export.copy_bytes_done),
        bytes(export.copy_bytes)
    )
}

/// Of an export that nobody who answers leads.
fn not_led(path: &str, views: &[(&StatusReply, &ExportStatus)]) -> (Severity, String) {
    let known = views.iter().find(|(_, e)| !e.primary.is_empty());
    if let Some((reply, export)) = known {
        let text = format!("{path} is on {}, says {}; it does not answer here", export.primary, reply.node);
        return (Severity::Warning, text);
    }
    let why = views.iter().map(|(_, e)| e.stopped_reason.as_str()).find(|reason| !reason.is_empty());
    (Severity::Critical, format!("{path} is served by nobody: {}", why.unwrap_or("no node is elected")))
}

/// What is wrong beside the exports: links and what the nodes complain about, unless the exports say as much.
fn around(views: &[View], exports_worst: Severity, moment: &Moment) -> Vec<(Severity, String)> {
    let mut found = Vec::new();
    for view in views {
        if view.status.is_err() && exports_worst == Severity::Ok {
            found.push((Severity::Warning, format!("node {} does not answer", view.node)));
        }
    }
    for reply in answers(views) {
        if let Some(link) = reply.witness.as_ref().filter(|link| link.configured && !link.connected) {
            let since =
                if link.since_ns == 0 { String::new() } else { format!(" {}", moment.since(link.since_ns)) };
            found.push((Severity::Warning, format!("the witness does not answer {}{since}", reply.node)));
        }
        for problem in &reply.problems {
            let severity = problem_severity(problem.severity());
            if severity > exports_worst {
                found.push((severity, problem.text.clone()));
            }
        }
    }
    found
}

fn problem_severity(severity: ProblemSeverity) -> Severity {
    match severity {
        ProblemSeverity::Ok => Severity::Ok,
        ProblemSeverity::Warning => Severity::Warning,
        ProblemSeverity::Critical => Severity::Critical,
    }
}

/// Everything `hanfs status` shows.
pub fn page(views: &[View], health: &Health, moment: &Moment) -> String {
    let mut text = format!("{}\n\n", health.line());
    text.push_str(&table(&rows(views)));
    text.push('\n');
    for view in views {
        text.push_str(&node_line(view, moment));
    }
    for takeover in last_takeovers(views, moment) {
        text.push_str(&format!("{takeover}\n"));
    }
    let problems = problems(views, moment);
    if !problems.is_empty() {
        text.push_str("\nproblems:\n");
        text.push_str(&problems);
    }
    text
}

const TITLES: [&str; 9] =
    ["EXPORT", "PRIMARY", "BACKUP", "STATE", "VIP", "INDEX", "FILES", "USED", "CLIENTS"];

fn rows(views: &[View]) -> Vec<[String; 9]> {
    let mut rows = Vec::new();
    for (path, views) in exports(views) {
        let lead = primary(&views);
        let Some((reply, export)) = lead.or_else(|| views.first().copied()) else { continue };
        let backup = match lead {
            Some(_) => other(export, &reply.node).unwrap_or("-"),
            None => "-",
        };
        let led_by = if lead.is_some() { reply.node.as_str() } else { export.primary.as_str() };
        rows.push([
            path.to_owned(),
            if led_by.is_empty() { "-".to_owned() } else { led_by.to_owned() },
            backup.to_owned(),
            state(lead.is_some(), export),
            export.vip.clone(),
            export.applied_index.to_string(),
            export.files.to_string(),
            bytes(export.bytes_used),
            export.connections.to_string(),
        ]);
    }
    rows
}

fn state(led: bool, export: &ExportStatus) -> String {
    let word = if !led {
        export.role.as_str()
    } else if !export.serving {
        "not serving"
    } else if export.solo_since_ns != 0 {
        "solo"
    } else if !export.mirror.is_empty() && !export.backup_in_sync {
        "catching up"
    } else if export.mirror.is_empty() {
        "alone"
    } else {
        "in sync"
    };
    word.to_owned()
}

/// Columns as wide as they have to be; nothing after the last.
fn table(rows: &[[String; 9]]) -> String {
    let titles = TITLES.map(str::to_owned);
    let all: Vec<&[String; 9]> = std::iter::once(&titles).chain(rows).collect();
    let mut text = String::new();
    for row in &all {
        let mut line = String::new();
        for (i, cell) in row.iter().enumerate() {
            let width = all.iter().filter_map(|r| r.get(i)).map(|c| c.chars().count()).max().unwrap_or(0);
            line.push_str(&format!("{cell:width$}  "));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn node_line(view: &View, moment: &Moment) -> String {
    let reply = match &view.status {
        Ok(reply) => reply,
        Err(error) => return format!("node {}: {error}\n", view.node),
    };
    let links: Vec<String> = [("peer", &reply.peer), ("witness", &reply.witness)]
        .iter()
        .filter_map(|(what, l)| link(what, l.as_ref(), moment))
        .collect();
    // Of an older server there is none.
    let portmapper = match reply.portmapper.as_str() {
        "" => String::new(),
        who => format!("; portmapper: {who}"),
    };
    format!(
        "node {}: hanfs {}, up {}, {} of memory{}{portmapper}\n",
        reply.node,
        reply.version,
        moment.age(reply.started_ns),
        bytes(reply.resident_bytes),
        links.concat()
    )
}

fn link(what: &str, link: Option<&LinkStatus>, moment: &Moment) -> Option<String> {
    let link = link.filter(|link| link.configured)?;
    let name = if link.name.is_empty() || link.name == what {
        what.to_owned()
    } else {
        format!("{what} {}", link.name)
    };
    let since = if link.since_ns == 0 { String::new() } else { format!(" {}", moment.since(link.since_ns)) };
    Some(if link.connected {
        format!("; {name} connected{since}")
    } else if link.last_error.is_empty() {
        format!("; {name} NOT connected{since}")
    } else {
        format!("; {name} NOT connected{since}: {}", link.last_error)
    })
}

fn last_takeovers(views: &[View], moment: &Moment) -> Vec<String> {
    let mut lines = Vec::new();
    for reply in answers(views) {
        for export in &reply.exports {
            lines.extend(takeover_line(&reply.node, export, moment));
            lines.extend(pauses_line(&reply.node, export));
        }
    }
    lines
}

/// The last takeover that ended on a node, with what it was made of.
pub fn takeover_line(node: &str, export: &ExportStatus, moment: &Moment) -> Option<String> {
    let report = export.last_takeover.as_ref().filter(|r| r.at_ns != 0 && r.cause != "start")?;
    let phases = [
        ("elected", report.elected_us),
        ("released", report.released_us),
        ("virtual IP", report.vip_us),
        ("first reply", report.first_reply_us),
    ];
    let phases: Vec<String> = phases
        .iter()
        .filter(|(_, us)| *us != 0)
        .map(|(name, us)| format!("{name} {}", millis(*us)))
        .collect();
    let pause = match report.pause_us {
        0 => String::new(),
        us => format!(", clients paused for {}", millis(us)),
    };
    let back = match report.returned {
        0 => String::new(),
        back => format!(", {back} came back"),
    };
    Some(format!(
        "takeover of {} by {node} at {} ({}): {}{}; {} connections tickled{}",
        export.path,
        moment.clock(report.at_ns),
        report.cause,
        phases.join(", "),
        pause,
        report.tickled,
        back
    ))
}

/// All takeovers of an export by a node, and how long clients waited.
fn pauses_line(node: &str, export: &ExportStatus) -> Option<String> {
    let kinds = [("crash", &export.crash_takeovers), ("planned", &export.planned_takeovers)];
    let seen: Vec<String> = kinds
        .into_iter()
        .filter_map(|(kind, counts)| {
            let counts = counts.as_ref().filter(|counts| counts.takeovers > 0)?;
            let seconds = |us: u64| format!("{:.2} s", us as f64 / 1e6);
            let pauses = match quantile_us(counts, 0.5) {
                Some(median) => format!("p50 {}, longest {}", seconds(median), seconds(counts.longest_us)),
                None => "no client waited".to_owned(),
            };
            Some(format!("{} {kind} ({pauses})", counts.takeovers))
        })
        .collect();
    (!seen.is_empty()).then(|| format!("takeovers of {} by {node}: {}", export.path, seen.join(", ")))
}

fn problems(views: &[View], moment: &Moment) -> String {
    let mut text = String::new();
    for reply in answers(views) {
        for problem in &reply.problems {
            let severity = problem_severity(problem.severity()).as_str();
            let since = if problem.since_ns == 0 {
                String::new()
            } else {
                format!(" {}", moment.since(problem.since_ns))
            };
            text.push_str(&format!("  {severity} (node {}): {}{since}\n", reply.node, problem.text));
        }
    }
    text
}
