//! Goal: who serves what in each kind of failure is written down, readable in a review, and stays so.
//! Method: golden transcripts in `tests/transcripts/*.txt`: inputs at the left margin, what the policy says
//! indented below. `UPDATE=1 cargo test -p hanfs-failover --test policy` rewrites the indented lines.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use failover::policy::{
    Fault, Order, Policy, PolicyConfig, PolicyExport, PolicyInput as In, PolicyOutput as Out, PolicyTiming,
    Side,
};
use replica::ids::ExportId;

const MS: u64 = 1_000_000;

fn export(name: &str) -> ExportId {
    let letter =
        name.bytes().next().filter(u8::is_ascii_uppercase).unwrap_or_else(|| panic!("export {name:?}"));
    ExportId([letter; 16])
}

fn name(id: ExportId) -> char {
    char::from(id.0[0])
}

fn side(word: &str) -> Side {
    match word {
        "own" => Side::Own,
        "peer" => Side::Peer,
        other => panic!("{other:?} is neither own nor peer"),
    }
}

fn fault(word: &str) -> Option<Fault> {
    match word {
        "none" => None,
        "slow-disk" => Some(Fault::SlowDisk),
        "no-room" => Some(Fault::NoRoom),
        "disk-hangs" => Some(Fault::DiskHangs),
        "no-client-network" => Some(Fault::NoClientNetwork),
        "network-back" => Some(Fault::NetworkBack),
        "stopping" => Some(Fault::Stopping),
        other => panic!("{other:?} is no fault"),
    }
}

fn input(words: &[&str]) -> In {
    match words {
        ["peer-guardian-up"] => In::PeerGuardianUp,
        ["peer-guardian-down"] => In::PeerGuardianDown,
        ["peer-guardian-heard"] => In::PeerGuardianHeard,
        ["peer-server-up"] => In::PeerServerUp,
        ["peer-server-gone"] => In::PeerServerGone,
        ["serving", e, term] => In::GroupServing { export: export(e), term: term.parse().unwrap() },
        ["not-serving", e] => In::GroupNotServing { export: export(e) },
        ["leader", e, "none"] => In::GroupRole { export: export(e), leader: None },
        ["leader", e, who] => In::GroupRole { export: export(e), leader: Some(side(who)) },
        ["in-sync", e] => In::InSync { export: export(e), in_sync: true },
        ["out-of-sync", e] => In::InSync { export: export(e), in_sync: false },
        ["released", e] => In::PeerReleased { export: export(e), held: true },
        ["raised", e] => In::Raised { export: export(e), ok: true },
        ["raise-failed", e] => In::Raised { export: export(e), ok: false },
        ["vip-lost", e] => In::VipLost { export: export(e) },
        ["order-takeover", e] => In::Order(Order::Takeover { export: export(e) }),
        ["order-hand-over", e] => In::Order(Order::HandOver { export: export(e) }),
        ["order-giveback", e] => In::Order(Order::Giveback { export: export(e) }),
        ["drained", e] => In::Drained { export: export(e) },
        ["transfer-coming", e] => In::TransferComing { export: export(e), for_fault: false },
        ["transfer-coming", e, "for-fault"] => In::TransferComing { export: export(e), for_fault: true },
        ["refused", e] => In::HandOverRefused { export: export(e) },
        ["own-fault", e, what] => In::OwnFault { export: export(e), fault: fault(what) },
        ["peer-fault", e, what] => In::PeerFault { export: export(e), fault: fault(what) },
        ["transfer-failed", e] => In::TransferFailed { export: export(e) },
        other => panic!("unknown input {other:?}"),
    }
}

fn say(out: &Out) -> String {
    match *out {
        Out::Campaign { export, lease_void } => {
            format!("campaign {}{}", name(export), if lease_void { " lease-void" } else { "" })
        }
        Out::ReleaseAtPeer { export } => format!("release-at-peer {}", name(export)),
        Out::Raise { export } => format!("raise {}", name(export)),
        Out::StartServing { export } => format!("start-serving {}", name(export)),
        Out::AnnounceTaken { export } => format!("announce-taken {}", name(export)),
        Out::Repeat { export } => format!("repeat {}", name(export)),
        Out::Drop { export } => format!("drop {}", name(export)),
        Out::StopServing { export, silently } => {
            format!("stop-serving {}{}", name(export), if silently { " silently" } else { "" })
        }
        Out::Drain { export } => format!("drain {}", name(export)),
        Out::Resume { export } => format!("resume {}", name(export)),
        Out::Transfer { export, fault_for_ns: None } => format!("transfer {}", name(export)),
        Out::Transfer { export, fault_for_ns: Some(ns) } => {
            format!("transfer {}, a fault for {} ms", name(export), ns / MS)
        }
        Out::SayFault { export, fault } => match fault {
            Some(fault) => format!("say {}: {fault}", name(export)),
            None => format!("say {}: sound", name(export)),
        },
        Out::Yields { export, fault } => format!("yields {}, for {fault}", name(export)),
        Out::RefuseHandOver { export } => format!("refuse-hand-over {}", name(export)),
        Out::AskHandOver { export } => format!("ask-hand-over {}", name(export)),
        Out::GivebackWithheld { export, failures } => {
            format!("giveback-withheld {} after {failures} failures", name(export))
        }
        Out::Report { export, report } => format!(
            "report {} {}: elected {} us, released {} us, vip {} us",
            name(export),
            report.cause.as_str(),
            report.elected_us,
            report.released_us,
            report.vip_us
        ),
    }
}

struct Run {
    policy: Policy,
    text: String,
}

impl Run {
    fn step(&mut self, at: u64, input: In) {
        let mut out = Vec::new();
        self.policy.step(at, input, &mut out);
        for o in &out {
            writeln!(self.text, "    {}", say(o)).unwrap();
        }
    }

    /// Runs every deadline up to then; says so where it leads to something.
    fn due(&mut self, until: u64) {
        while let Some(at) = self.policy.deadline().filter(|at| *at <= until) {
            writeln!(self.text, "  at {} due", at / MS).unwrap();
            self.step(at, In::Tick);
            assert!(self.policy.deadline() != Some(at), "the deadline at {at} does not pass");
        }
    }
}

/// The transcript anew, from the lines at its left margin.
fn render(script: &str) -> String {
    let mut timing = PolicyTiming::default();
    let mut exports: Vec<PolicyExport> = Vec::new();
    let mut header = true;
    let mut run =
        Run { policy: Policy::new(PolicyConfig { exports: Vec::new(), timing }), text: String::new() };
    // Comments and blank lines belong to what follows them.
    let mut ahead = String::new();
    for line in script.lines().filter(|l| !l.starts_with(' ')) {
        let words: Vec<&str> = line.split_whitespace().collect();
        if header && matches!(words.first(), Some(&"at")) {
            header = false;
            run.policy = Policy::new(PolicyConfig { exports: exports.clone(), timing });
        }
        match words.as_slice() {
            ["at", at, rest @ ..] => {
                let at = at.parse::<u64>().unwrap() * MS;
                run.due(at.saturating_sub(1));
                writeln!(run.text, "{}{line}", std::mem::take(&mut ahead)).unwrap();
                run.step(at, input(rest));
                continue;
            }
            ["until", at] => run.due(at.parse::<u64>().unwrap() * MS),
            ["export", e, "home", who] => {
                exports.push(PolicyExport { id: export(e), home: side(who), giveback_delay_ns: None })
            }
            ["giveback-delay", ms] => {
                let delay = Some(ms.parse::<u64>().unwrap() * MS);
                exports.iter_mut().for_each(|e| e.giveback_delay_ns = delay);
            }
            ["failures-max", n] => timing.failures_max = n.parse().unwrap(),
            [] => {
                writeln!(ahead).unwrap();
                continue;
            }
            [word, ..] if word.starts_with('#') => {
                writeln!(ahead, "{line}").unwrap();
                continue;
            }
            other => panic!("unknown line {other:?}"),
        }
        writeln!(run.text, "{}{line}", std::mem::take(&mut ahead)).unwrap();
    }
    run.text + &ahead
}

fn check(scenario: &str) {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts").join(format!("{scenario}.txt"));
    let expected = fs::read_to_string(&path).unwrap();
    let got = render(&expected);
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&path, &got).unwrap();
    } else {
        assert_eq!(got, expected, "\n{} differs; rerun with UPDATE=1 and read the diff", path.display());
    }
}

macro_rules! transcripts {
    ($($name:ident),* $(,)?) => {
        $(
            #[test]
            fn $name() {
                check(stringify!($name));
            }
        )*
    };
}

transcripts!(
    start,
    process_crash,
    host_death,
    planned_takeover,
    handed_over,
    giveback,
    given_back_here,
    automatic_giveback,
    raise_failure,
    guardian_silent,
    guardian_unheard,
    transfer_failed,
    deposed,
    disk_hangs,
    disk_hangs_on_both,
    disk_slow,
    disk_failed,
    no_room,
    client_network_lost,
    client_network_lost_on_both,
    peer_link_lost,
    one_way_cut,
    stopped_and_continued,
    flapping_home,
    to_and_fro,
    hand_over_refused,
    stopping,
    giveback_refused,
    client_network_back_on_the_other,
    crash_after_a_refused_hand_over,
    hand_over_for_a_fault_fails,
);

/// Every transcript is run: a forgotten one would prove nothing.
#[test]
fn no_transcript_is_forgotten() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts");
    let source = include_str!("policy.rs");
    for entry in fs::read_dir(dir).unwrap() {
        let name = entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned();
        assert!(source.contains(&format!("    {name},\n")), "{name}.txt is not in the list");
    }
}
