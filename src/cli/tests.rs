//! Goal: the first line of `status` tells a person (and a monitor, by the exit code) the truth and the reason;
//! a dead node does not blind it; a forced takeover says what it costs. Method: fixed answers, exact text; a
//! real server with real certificates where the connection matters.

use std::path::Path;

use proto::admin::problem::Severity as ProblemSeverity;
use proto::admin::{
    Check, Event, ExportStatus, LinkStatus, Problem, StatusReply, TakeoverCounts, TakeoverReply,
    TakeoverReport, TakeoverResult,
};

use super::admin::Severity;
use super::render::{View, health, page};
use super::setup::choose_node;
use super::time::{Moment, bytes, duration, millis};
use super::{events, json, operate, run};
use crate::config::Config;

/// 2026-11-22 12:07:11 UTC.
const NOW_NS: u64 = 1_795_349_231_000_000_000;
const S: u64 = 1_000_000_000;

fn moment() -> Moment {
    Moment { now_ns: NOW_NS, utc_offset_s: 0 }
}

fn export(path: &str, home: &str, role: &str, primary: &str) -> ExportStatus {
    let leads = role == "primary";
    ExportStatus {
        path: path.to_owned(),
        vip: "10.77.0.10/24".to_owned(),
        home: home.to_owned(),
        mirror: if home == "a" { "b" } else { "a" }.to_owned(),
        role: role.to_owned(),
        primary: primary.to_owned(),
        serving: leads,
        vip_held: leads,
        term: 3,
        last_index: 1500,
        applied_index: 1500,
        backup_in_sync: leads,
        backup_index: 1500,
        files: 640,
        bytes_used: 3 << 20,
        connections: if leads { 2 } else { 0 },
        ..ExportStatus::default()
    }
}

fn link(name: &str, connected: bool) -> Option<LinkStatus> {
    let (name, since_ns) = (name.to_owned(), NOW_NS - 240 * S);
    Some(LinkStatus { name, configured: true, connected, since_ns, ..LinkStatus::default() })
}

fn reply(node: &str, exports: Vec<ExportStatus>) -> StatusReply {
    StatusReply {
        node: node.to_owned(),
        version: "0.1.0".to_owned(),
        started_ns: NOW_NS - 3 * 86_400 * S,
        exports,
        peer: link(if node == "a" { "b" } else { "a" }, true),
        witness: link("witness", true),
        resident_bytes: 48 << 20,
        portmapper: "own".to_owned(),
        ..StatusReply::default()
    }
}

fn view(reply: StatusReply) -> View {
    View { node: reply.node.clone(), status: Ok(reply) }
}

fn dead(node: &str) -> View {
    View {
        node: node.to_owned(),
        status: Err(format!("node {node} at 10.77.0.11:7400 does not answer: refused")),
    }
}

fn well() -> [StatusReply; 2] {
    [
        reply("a", vec![export("/export", "a", "primary", "a"), export("/two", "b", "backup", "b")]),
        reply("b", vec![export("/export", "a", "backup", "a"), export("/two", "b", "primary", "b")]),
    ]
}

fn line(views: &[View]) -> String {
    health(views, &moment()).line()
}

#[test]
fn all_is_well() {
    let views = well().map(view);
    assert_eq!(line(&views), "OK: /export on a, mirrored by b; /two on b, mirrored by a");
    assert_eq!(health(&views, &moment()).severity as u8, 0);
}

#[test]
fn a_dead_node_is_a_warning_with_since_when_and_why() {
    let mut b = well()[1].clone();
    b.peer = link("a", false);
    b.exports[0] = ExportStatus {
        solo_since_ns: NOW_NS - 240 * S,
        backup_in_sync: false,
        ..export("/export", "a", "primary", "b")
    };
    b.exports[1] =
        ExportStatus { solo_since_ns: NOW_NS - 240 * S, backup_in_sync: false, ..b.exports[1].clone() };
    let views = [dead("a"), view(b)];
    assert_eq!(
        line(&views),
        "WARNING: /export runs solo on b since 12:03:11 (4 min): node a is down; /two runs solo on b since \
         12:03:11 (4 min): node a is down"
    );
    assert_eq!(health(&views, &moment()).severity as u8, 1);
}

/// The deposed primary may still believe in itself; the higher term is right.
#[test]
fn of_two_that_say_they_lead_the_newer_term_counts() {
    let [a, mut b] = well();
    b.exports[0] = ExportStatus { term: 4, ..export("/export", "a", "primary", "b") };
    assert_eq!(
        line(&[view(a), view(b)]),
        "OK: /export on b (home a), mirrored by a; /two on b, mirrored by a"
    );
}

#[test]
fn one_cause_one_line_and_the_worst_comes_first() {
    type Change = fn(&mut StatusReply);
    let cases: [(&str, Change, &str); 8] = [
        (
            "catching up",
            |a| {
                a.exports[0].backup_in_sync = false;
                a.exports[0].backup_index = 1400
            },
            "WARNING: /export on a is not mirrored: node b is catching up, 100 operations behind",
        ),
        (
            "copy",
            |a| {
                let e = &mut a.exports[0];
                (e.backup_in_sync, e.copy_files, e.copy_files_done, e.copy_bytes, e.copy_bytes_done) =
                    (false, 640, 64, 3 << 20, 1 << 20);
            },
            "WARNING: /export on a is not mirrored: node b gets a new copy, 64 of 640 files, 1.0 MiB of 3.0 MiB",
        ),
        (
            "no majority",
            |a| a.exports[0].serving = false,
            "CRITICAL: /export is not served: a leads it and has no majority",
        ),
        (
            "no VIP",
            |a| a.exports[0].vip_held = false,
            "CRITICAL: /export is not reachable: a leads it without 10.77.0.10/24",
        ),
        (
            "stopped",
            |a| a.exports[0].stopped_reason = "the disk is full".to_owned(),
            "CRITICAL: /export is stopped on a: the disk is full",
        ),
        (
            "no leader",
            |a| (a.exports[0].role, a.exports[0].primary) = ("candidate".to_owned(), String::new()),
            "WARNING: /export is on a, says b; it does not answer here",
        ),
        (
            "witness",
            |a| a.witness = link("witness", false),
            "WARNING: the witness does not answer a since 12:03:11 (4 min)",
        ),
        (
            "problem",
            |a| {
                a.problems = vec![Problem {
                    severity: ProblemSeverity::Warning.into(),
                    text: "2% of the disk are free".to_owned(),
                    since_ns: 0,
                }]
            },
            "WARNING: 2% of the disk are free",
        ),
    ];
    for (case, change, expected) in cases {
        let [mut a, b] = well();
        change(&mut a);
        assert_eq!(line(&[view(a), view(b)]), expected, "{case}");
    }
    let [mut a, mut b] = well();
    a.exports[0].serving = false;
    b.exports[1].backup_in_sync = false;
    assert_eq!(
        line(&[view(a), view(b)]),
        "CRITICAL: /export is not served: a leads it and has no majority; /two on b is not mirrored: node a is \
         catching up, 0 operations behind"
    );
}

#[test]
fn nobody_leads_or_nobody_answers() {
    let [mut a, mut b] = well();
    for e in [&mut a.exports[0], &mut b.exports[0]] {
        (e.role, e.primary) = ("candidate".to_owned(), String::new());
    }
    assert_eq!(line(&[view(a), view(b)]), "CRITICAL: /export is served by nobody: no node is elected");
    let nobody = [dead("a"), dead("b")];
    assert!(line(&nobody).starts_with("UNKNOWN: node a at "), "{}", line(&nobody));
    assert_eq!(health(&nobody, &moment()).severity as u8, 3);
}

#[test]
fn a_silent_node_is_told_even_if_the_exports_are_well() {
    let [a, _] = well();
    assert_eq!(line(&[view(a), dead("b")]), "WARNING: /two is on b, says a; it does not answer here");
}

#[test]
fn the_whole_page() {
    let [mut a, b] = well();
    a.exports[0].last_takeover = Some(TakeoverReport {
        at_ns: NOW_NS - 86_400 * S,
        cause: "crash".to_owned(),
        elected_us: 612_400,
        released_us: 0,
        vip_us: 640_000,
        first_reply_us: 655_900,
        tickled: 3,
        returned: 2,
        detected_us: 580_000,
        pause_us: 1_235_900,
    });
    a.exports[0].crash_takeovers = Some(TakeoverCounts {
        takeovers: 3,
        pauses: vec![0, 0, 0, 0, 1],
        longest_us: 420_000,
        sum_us: 420_000,
    });
    a.exports[0].planned_takeovers = Some(TakeoverCounts { takeovers: 1, ..TakeoverCounts::default() });
    a.problems = vec![Problem {
        severity: ProblemSeverity::Warning.into(),
        text: "2% of the disk are free".to_owned(),
        since_ns: NOW_NS - 60 * S,
    }];
    let views = [view(a), view(b)];
    let expected = "\
WARNING: 2% of the disk are free

EXPORT   PRIMARY  BACKUP  STATE    VIP            INDEX  FILES  USED     CLIENTS
/export  a        b       in sync  10.77.0.10/24  1500   640    3.0 MiB  2
/two     b        a       in sync  10.77.0.10/24  1500   640    3.0 MiB  2

node a: hanfs 0.1.0, up 3 days, 48.0 MiB of memory; peer b connected since 12:03:11 (4 min); witness connected since 12:03:11 (4 min); portmapper: own
node b: hanfs 0.1.0, up 3 days, 48.0 MiB of memory; peer a connected since 12:03:11 (4 min); witness connected since 12:03:11 (4 min); portmapper: own
takeover of /export by a at 2026-11-21 12:07:11 (crash): elected 612 ms, virtual IP 640 ms, first reply 655 ms, clients paused for 1235 ms; 3 connections tickled, 2 came back
takeovers of /export by a: 3 crash (p50 0.42 s, longest 0.42 s), 1 planned (no client waited)

problems:
  WARNING (node a): 2% of the disk are free since 12:06:11 (60 s)
";
    assert_eq!(page(&views, &health(&views, &moment()), &moment()), expected);
}

/// Scripts read these; a key that goes away breaks them.
#[test]
fn json_has_every_field_under_its_name() {
    let [mut a, b] = well();
    a.exports[0].last_takeover = Some(TakeoverReport::default());
    a.exports[0].digest = u64::MAX;
    a.exports[0].crash_takeovers = Some(TakeoverCounts::default());
    a.exports[0].planned_takeovers = Some(TakeoverCounts::default());
    a.problems = vec![Problem::default()];
    let views = [view(a), view(b)];
    let json = json::status(&views, &health(&views, &moment()));
    let proto = include_str!("../../proto/hanfs/admin.proto");
    for (message, object) in [
        ("StatusReply", &json),
        ("ExportStatus", &json["exports"][0]),
        ("Problem", &json["problems"][0]),
        ("LinkStatus", &json["peer"]),
        ("TakeoverReport", &json["exports"][0]["last_takeover"]),
        ("TakeoverCounts", &json["exports"][0]["crash_takeovers"]),
    ] {
        let body = proto.split(&format!("message {message} {{")).nth(1).unwrap();
        let fields = body.lines().take_while(|l| *l != "}").filter(|l| !l.trim_start().starts_with("//"));
        let names: Vec<&str> = fields
            .filter_map(|l| l.split_once(" = ")?.0.trim().split(' ').next_back())
            .filter(|n| !["OK", "WARNING", "CRITICAL"].contains(n))
            .collect();
        assert!(names.len() >= 3, "{message}: {names:?}");
        for name in names {
            assert!(!object[name].is_null(), "{message}.{name}");
        }
    }
    assert_eq!(json["health"]["level"], "OK");
    assert_eq!(json["health"]["exit_code"], 0);
    assert_eq!(json["node"], "a");
    assert_eq!(json["exports"][0]["digest"], "ffffffffffffffff");
}

#[test]
fn a_forced_takeover_says_what_it_discards() {
    let result = |export: &str, discard: &str| TakeoverResult {
        export: export.to_owned(),
        would_discard: discard.to_owned(),
        ..TakeoverResult::default()
    };
    let lost = "every change after entry 1488 that only a has is discarded";
    let results = vec![result("/export", lost), result("/two", "")];
    assert_eq!(
        operate::discards(&TakeoverReply { results }, "b"),
        "/export: forced takeover by b: every change after entry 1488 that only a has is discarded\n\
         /two: forced takeover by b: discards nothing that this node knows of\n"
    );
}

#[test]
fn a_check_lists_what_passes_and_what_fails() {
    let check = |name: &str, ok, detail: &str| Check { name: name.to_owned(), ok, detail: detail.to_owned() };
    let result = TakeoverResult {
        export: "/export".to_owned(),
        ok: false,
        message: "the backup lags".to_owned(),
        checks: vec![
            check("majority", true, "b and the witness"),
            check("in sync", false, "100 operations behind"),
        ],
        ..TakeoverResult::default()
    };
    let reply = TakeoverReply { results: vec![result] };
    assert_eq!(
        operate::checks(&reply, "b"),
        "/export: b cannot take it over: the backup lags\n  pass  majority: b and the witness\n  FAIL  in sync: 100 \
         operations behind\n"
    );
    assert_eq!(
        operate::results(&reply),
        "/export: FAILED: the backup lags\n  FAIL  in sync: 100 operations behind\n"
    );
    assert_eq!(operate::results(&TakeoverReply::default()), "no export is concerned\n");
    let done = |message: &str, took_us| {
        let result = TakeoverResult {
            export: "/two".to_owned(),
            ok: true,
            message: message.to_owned(),
            took_us,
            ..TakeoverResult::default()
        };
        operate::results(&TakeoverReply { results: vec![result] })
    };
    assert_eq!(done("done", 6_700), "/two: done (6.7 ms)\n");
    assert_eq!(done("it is there already", 0), "/two: it is there already\n");
}

#[test]
fn an_event_is_one_line() {
    let event = Event {
        id: 7,
        at_ns: NOW_NS - 240 * S,
        level: "warning".to_owned(),
        export: "/export".to_owned(),
        text: "runs solo: node a is down".to_owned(),
    };
    assert_eq!(
        events::line(&event, &moment()),
        "2026-11-22 12:03:11 WARNING /export: runs solo: node a is down\n"
    );
    let event = Event { export: String::new(), level: "info".to_owned(), ..event };
    assert_eq!(events::line(&event, &moment()), "2026-11-22 12:03:11 INFO    runs solo: node a is down\n");
}

#[test]
fn times_and_sizes_are_readable() {
    let summer = Moment { now_ns: NOW_NS, utc_offset_s: 2 * 3600 };
    assert_eq!(summer.full(NOW_NS), "2026-11-22 14:07:11");
    assert_eq!(summer.full(951_782_400 * S), "2000-02-29 02:00:00");
    assert_eq!(moment().full(0), "1970-01-01 00:00:00");
    assert_eq!([0, 119, 120, 7200, 172_800].map(duration), ["0 s", "119 s", "2 min", "2 h", "2 days"]);
    assert_eq!(
        [0, 1023, 1536, 200 << 20, u64::MAX].map(bytes),
        ["0 B", "1023 B", "1.5 KiB", "200 MiB", "16777216 TiB"]
    );
    assert_eq!([1500, 655_900].map(millis), ["1.5 ms", "655 ms"]);
}

fn pair(dir: &Path) -> Config {
    let text = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
    let nodes = text(&["a=127.0.0.1:1", "b=127.0.0.1:2"]);
    let plan = crate::init::Plan::from_options(&nodes, None, &text(&["/e:a:127.0.0.9/8"])).unwrap();
    Config::load(&crate::init::write(&plan, dir).unwrap().config).unwrap()
}

#[test]
fn which_node_this_is() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = pair(dir.path());
    let choose = |config: &Config, option, env, host| {
        choose_node(config, option, env, host).map_err(|e| e.to_string())
    };
    assert_eq!(choose(&config, Some("b"), Some("a"), Some("a")).unwrap(), "b");
    assert_eq!(choose(&config, None, Some("b"), Some("a")).unwrap(), "b");
    assert_eq!(choose(&config, None, None, Some("a")).unwrap(), "a");
    assert_eq!(choose(&config, None, None, Some("b.example.org")).unwrap(), "b");
    let error = choose(&config, None, None, Some("laptop")).unwrap_err();
    assert_eq!(
        error,
        "which node is this? The host's name (laptop) is none of a, b: give --node NAME or set HANFS_NODE"
    );
    let error = choose(&config, Some("c"), None, None).unwrap_err();
    assert!(
        error.starts_with("--node c: ") && error.ends_with("has no such node; expected one of a, b"),
        "{error}"
    );
    config.nodes.truncate(1);
    assert_eq!(choose(&config, None, None, Some("laptop")).unwrap(), "a");
}

fn exit(args: &[&str]) -> String {
    let args = std::iter::once("hanfs").chain(args.iter().copied());
    format!("{:?}", run(args.map(Into::into)))
}

/// 3 is what a monitor takes for "could not find out"; 0 would be a lie and 2 a false alarm.
#[test]
fn exit_codes_are_those_of_monitoring_plugins() {
    let code = |n: u8| format!("{:?}", std::process::ExitCode::from(n));
    let dir = tempfile::tempdir().unwrap();
    let config = pair(dir.path()).path.display().to_string();
    assert_eq!(exit(&["--help"]), code(0));
    assert_eq!(exit(&["no-such-command"]), code(3));
    assert_eq!(exit(&["takeover"]), code(3));
    assert_eq!(exit(&["takeover", "--all", "--yes"]), code(3));
    assert_eq!(exit(&["--config", "/nowhere/hanfs.toml", "status"]), code(3));
    assert_eq!(exit(&["--config", &config, "--node", "a", "status"]), code(3));
    assert_eq!(exit(&["--config", &config, "--node", "a", "giveback", "--all"]), code(3));
    assert_eq!(exit(&["--config", &config, "--node", "a", "config", "check"]), code(0));
    assert_eq!(Severity::Critical as u8, 2);
}
