//! What a drill has shown, and what that is worth. Pure: the same figures make the same verdict and the same text.

use std::time::Duration;

use proto::admin::TakeoverReport;
use serde_json::{Value, json};

/// Findings of a kind that are told; more are counted.
const TOLD_MAX: usize = 5;

/// One move of the export, and what the probe saw of it.
#[derive(Debug, Default)]
pub struct Move {
    /// As in "takeover by b".
    pub what: String,
    /// The old primary's server was killed.
    pub crash: bool,
    /// What clients may have to wait.
    pub pause_max: Duration,
    /// The longest that a call of the probe took; `None`: it was not measured.
    pub pause: Option<Duration>,
    /// What the new primary says of it.
    pub report: Option<TakeoverReport>,
    /// The node says that it has happened.
    pub obeyed: bool,
    /// Why it did not happen, or not in time.
    pub failure: Option<String>,
    /// The probe's lock was held for others afterwards; `None`: it has none, or it could not be asked.
    pub lock_held: Option<bool>,
}

/// What the probe did and found.
#[derive(Debug, Default)]
pub struct Findings {
    /// Calls answered.
    pub calls: u64,
    /// Connections made anew.
    pub reconnects: u64,
    /// Calls that were sent again.
    pub retransmissions: u64,
    /// Files written and acknowledged.
    pub written: u64,
    /// Comparisons of a file with what was acknowledged.
    pub compared: u64,
    /// What an application would have been told.
    pub errors: Vec<String>,
    /// Calls that were executed twice, by what they were answered.
    pub duplicates: Vec<String>,
    /// Acknowledged writes that are not there.
    pub lost: Vec<String>,
    /// What the probe left behind, and why.
    pub leftover: Option<String>,
    /// Why it had no lock.
    pub no_lock: Option<String>,
}

/// All of a drill.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The export's path.
    pub export: String,
    /// In their order.
    pub moves: Vec<Move>,
    /// Of the probe.
    pub findings: Findings,
    /// What else went wrong, and which exports are not where they were.
    pub others: Vec<String>,
}

impl Move {
    fn failures(&self) -> Vec<String> {
        let mut found = Vec::new();
        found.extend(self.failure.iter().map(|why| format!("{}: {why}", self.what)));
        match self.pause {
            Some(pause) if pause > self.pause_max => found.push(format!(
                "{}: the longest pause was {} ms, more than {} ms",
                self.what,
                pause.as_millis(),
                self.pause_max.as_millis()
            )),
            None if self.failure.is_none() => {
                found.push(format!("{}: the pause was not measured", self.what));
            }
            _ => {}
        }
        if self.lock_held == Some(false) {
            found.push(format!("{}: the probe's lock was lost", self.what));
        }
        found
    }

    fn text(&self) -> String {
        let kind = if self.crash { "crash" } else { "planned" };
        let mut text = format!("{} ({kind})\n", self.what);
        for (name, value) in self.phases() {
            text.push_str(&format!("  {name:<14}{value}\n"));
        }
        if let Some(pause) = self.pause {
            text.push_str(&format!(
                "  {:<14}{} ms as the probe saw it\n",
                "longest pause",
                pause.as_millis()
            ));
        }
        if let Some(held) = self.lock_held {
            text.push_str(&format!("  {:<14}{}\n", "lock", if held { "held" } else { "LOST" }));
        }
        text
    }

    /// In the order in which they happen. Times count from when the failure was noticed or the order came, but for
    /// the first.
    fn phases(&self) -> Vec<(&'static str, String)> {
        let Some(report) = &self.report else { return Vec::new() };
        let ms = |us: u64| format!("{:.1} ms", us as f64 / 1000.0);
        let happened = |us: u64| if us == 0 { "-".to_owned() } else { ms(us) };
        let detected = if self.crash {
            format!("{} after the old primary's last word", ms(report.detected_us))
        } else {
            "on order".to_owned()
        };
        vec![
            ("detected", detected),
            ("fenced", happened(report.released_us)),
            ("elected", happened(report.elected_us)),
            ("virtual IP", happened(report.vip_us)),
            ("tickled", format!("{} connections, {} came back", report.tickled, report.returned)),
            ("first reply", happened(report.first_reply_us)),
        ]
    }

    fn json(&self) -> Value {
        json!({
            "what": self.what,
            "cause": if self.crash { "crash" } else { "planned" },
            "pause_ms": self.pause.map(|p| p.as_secs_f64() * 1e3),
            "pause_max_ms": self.pause_max.as_millis() as u64,
            "lock_held": self.lock_held,
            "failure": self.failure,
            "phases": self.report.as_ref().map(|r| json!({
                "detected_us": r.detected_us,
                "fenced_us": r.released_us,
                "elected_us": r.elected_us,
                "vip_us": r.vip_us,
                "first_reply_us": r.first_reply_us,
                "pause_us": r.pause_us,
                "tickled": r.tickled,
                "returned": r.returned,
            })),
        })
    }
}

impl Outcome {
    /// Everything that makes it a failure, the worst first; empty: it passed.
    pub fn failures(&self) -> Vec<String> {
        let f = &self.findings;
        let mut found = Vec::new();
        let kinds = [("lost write", &f.lost), ("duplicate", &f.duplicates), ("error", &f.errors)];
        for (kind, all) in kinds.iter().filter(|(_, all)| !all.is_empty()) {
            found.push(format!("{} {kind}{}", all.len(), if all.len() == 1 { "" } else { "s" }));
        }
        found.extend(self.moves.iter().flat_map(Move::failures));
        found.extend(self.others.iter().cloned());
        if self.moves.len() != 2 && self.moves.iter().all(|m| m.failure.is_none()) {
            found.push("the drill did not come to its end".to_owned());
        }
        if f.written == 0 || f.compared == 0 {
            found.push("the probe wrote nothing".to_owned());
        }
        found.extend(f.leftover.clone());
        found
    }

    /// Nothing speaks against it.
    pub fn passed(&self) -> bool {
        self.failures().is_empty()
    }

    /// For people.
    pub fn text(&self) -> String {
        let f = &self.findings;
        let mut text: String = self.moves.iter().map(Move::text).collect();
        if let Some(why) = &f.no_lock {
            text.push_str(&format!("no lock was held: {why}\n"));
        }
        text.push_str(&format!(
            "{} calls, {} sent again over {} new connections; {} files written, {} comparisons\n",
            f.calls, f.retransmissions, f.reconnects, f.written, f.compared
        ));
        for (kind, all) in [("lost writes", &f.lost), ("duplicates", &f.duplicates), ("errors", &f.errors)] {
            text.push_str(&format!("{kind}: {}\n", all.len()));
            for one in all.iter().take(TOLD_MAX) {
                text.push_str(&format!("  {one}\n"));
            }
        }
        text.push_str(&format!("\n{}\n", self.verdict()));
        text
    }

    /// One line.
    fn verdict(&self) -> String {
        let failures = self.failures();
        if !failures.is_empty() {
            return format!("FAIL: {}", failures.join("; "));
        }
        let longest = self.moves.iter().filter_map(|m| m.pause).max().unwrap_or_default();
        format!(
            "PASS: {} moved and came back, longest pause {} ms, no error, no duplicate, every acknowledged write is there",
            self.export,
            longest.as_millis()
        )
    }

    /// For programs. Keys are stable: they are only ever added to.
    pub fn json(&self) -> Value {
        let f = &self.findings;
        json!({
            "export": self.export,
            "verdict": if self.passed() { "PASS" } else { "FAIL" },
            "failures": self.failures(),
            "moves": self.moves.iter().map(Move::json).collect::<Vec<_>>(),
            "calls": f.calls,
            "reconnects": f.reconnects,
            "retransmissions": f.retransmissions,
            "written": f.written,
            "compared": f.compared,
            "errors": f.errors,
            "duplicates": f.duplicates,
            "lost_writes": f.lost,
            "leftover": f.leftover,
            "no_lock": f.no_lock,
        })
    }
}

#[cfg(test)]
mod tests {
    //! Goal: a drill never passes where a client would have noticed more than a pause within its limit. Method: outcomes
    //! made by hand, one flaw at a time.

    use super::*;

    fn moved(pause_ms: u64) -> Move {
        Move {
            what: "takeover by b".to_owned(),
            pause_max: Duration::from_secs(1),
            pause: Some(Duration::from_millis(pause_ms)),
            report: Some(TakeoverReport {
                elected_us: 57_000,
                tickled: 2,
                returned: 1,
                ..TakeoverReport::default()
            }),
            ..Move::default()
        }
    }

    fn sound() -> Outcome {
        let findings = Findings { calls: 100, written: 10, compared: 20, ..Findings::default() };
        Outcome { export: "/one".to_owned(), moves: vec![moved(75), moved(80)], findings, others: Vec::new() }
    }

    #[test]
    fn a_sound_one_passes() {
        let outcome = sound();
        assert_eq!(outcome.failures(), Vec::<String>::new());
        assert!(outcome.text().ends_with(
            "\nPASS: /one moved and came back, longest pause 80 ms, no error, no duplicate, every acknowledged write is there\n"
        ));
        assert_eq!(outcome.json()["verdict"], "PASS");
        assert_eq!(outcome.json()["moves"][1]["pause_ms"], 80.0);
    }

    #[test]
    fn every_flaw_is_a_failure_and_says_which() {
        type Flaw = fn(&mut Outcome);
        let flaws: [(Flaw, &str); 11] = [
            (|o| o.findings.lost.push("f".to_owned()), "1 lost write"),
            (|o| o.findings.duplicates.extend(["f".to_owned(), "g".to_owned()]), "2 duplicates"),
            (|o| o.findings.errors.push("f".to_owned()), "1 error"),
            (|o| o.findings.leftover = Some("/.x stays".to_owned()), "/.x stays"),
            (|o| o.findings.written = 0, "the probe wrote nothing"),
            (|o| o.findings.compared = 0, "the probe wrote nothing"),
            (
                |o| o.moves[0].pause = Some(Duration::from_millis(1001)),
                "takeover by b: the longest pause was 1001 ms, more than 1000 ms",
            ),
            (|o| o.moves[1].pause = None, "takeover by b: the pause was not measured"),
            (|o| o.moves[1].lock_held = Some(false), "takeover by b: the probe's lock was lost"),
            (|o| o.moves.truncate(1), "the drill did not come to its end"),
            (|o| o.others.push("/two: it stayed".to_owned()), "/two: it stayed"),
        ];
        for (flaw, expected) in flaws {
            let mut outcome = sound();
            flaw(&mut outcome);
            assert_eq!(outcome.failures(), [expected]);
            assert!(outcome.text().contains(&format!("FAIL: {expected}")), "{}", outcome.text());
            assert_eq!(outcome.json()["verdict"], "FAIL");
        }
    }

    #[test]
    fn a_move_that_failed_is_said_once() {
        let mut outcome = sound();
        outcome.moves.truncate(1);
        outcome.moves[0] =
            Move { what: "takeover by b".to_owned(), failure: Some("refused".to_owned()), ..Move::default() };
        assert_eq!(outcome.failures(), ["takeover by b: refused"]);
    }

    #[test]
    fn the_phases_are_shown_in_their_order() {
        let mut crash = moved(500);
        crash.crash = true;
        crash.lock_held = Some(true);
        if let Some(report) = &mut crash.report {
            report.detected_us = 612_400;
            report.first_reply_us = 60_100;
        }
        assert_eq!(
            crash.text(),
            "takeover by b (crash)\n  detected      612.4 ms after the old primary's last word\n  fenced        -\n  \
             elected       57.0 ms\n  virtual IP    -\n  tickled       2 connections, 1 came back\n  \
             first reply   60.1 ms\n  longest pause 500 ms as the probe saw it\n  lock          held\n"
        );
        assert!(moved(1).text().contains("detected      on order\n"));
    }
}
