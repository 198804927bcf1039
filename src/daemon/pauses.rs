//! How long clients waited at takeovers, as the node that serves afterwards knows it.
//!
//! A pause begins with the last sign of life of the old primary (crash: the last frame of the session before the loss was
//! noticed; planned: when it began to drain; for a fault: when that began; both it says), and ends when the first client that was connected before has
//! its first NFS reply over TCP from this node. Who was idle asks late, so the figure is an upper bound; where nobody
//! asks within [`WATCH_NS`], the takeover is counted and has no pause.
//!
//! [`Watch`] is the state machine: no clock, no I/O. [`Pauses`] keeps the counts, also over restarts: in the history's
//! store, which may lose its end at a power cut.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use failover::net::Tuple;
use failover::policy::{Cause, Report};
use parking_lot::Mutex;
use prost::Message;
use proto::admin::{TakeoverCounts, TakeoverReport};
use replica::ids::ExportId;

/// Upper ends of the buckets of pauses, ms; one more bucket is for what was longer.
pub const BOUNDS_MS: [u64; 10] = [50, 100, 200, 300, 500, 1_000, 2_000, 5_000, 10_000, 30_000];
/// Who asks later than this after a takeover was not waiting for it: a Linux client sends a call again after 60 s at the
/// latest.
pub const WATCH_NS: u64 = 60_000_000_000;
/// What the old primary said of a planned takeover explains nothing after this long, ns.
const PLAN_NS: u64 = 10_000_000_000;
/// A fault that keeps clients waiting counts for no longer, ns: a day. Both nodes may be without a client network for hours.
const FAULT_NS: u64 = 86_400_000_000_000;

/// A takeover that ended here, until it is known how long it was for clients.
#[derive(Debug)]
struct Running {
    cause: Cause,
    /// What the report's times count from.
    began_ns: u64,
    /// When clients had their last answer, as far as it is known.
    paused_ns: u64,
    until_ns: u64,
    known: HashSet<IpAddr>,
    /// Tickled connections of each client, and how many it has made since.
    tickled: HashMap<IpAddr, (u32, u32)>,
    report: TakeoverReport,
}

/// What is known of an export's takeovers that have not ended.
#[derive(Debug, Default)]
struct Seen {
    /// The old primary was last heard then; its loss was noticed then.
    lost: Option<(u64, u64)>,
    /// The old primary has let its clients wait since then; that is known since then.
    planned: Option<(u64, u64)>,
    running: Option<Running>,
}

/// News of a takeover.
#[derive(Debug, PartialEq, Eq)]
pub struct News {
    /// What is known now.
    pub report: TakeoverReport,
    /// The pause became known with this: why there was one, and how long it was, us.
    pub pause: Option<(Cause, u64)>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Watch {
    exports: HashMap<ExportId, Seen>,
}

impl Watch {
    /// The old primary is lost; it was last heard at `heard_ns`. The first word counts until [`Self::led_by_peer`].
    pub fn lost(&mut self, export: ExportId, heard_ns: u64, now_ns: u64) {
        let seen = self.exports.entry(export).or_default();
        seen.lost.get_or_insert((heard_ns.min(now_ns), now_ns));
    }

    /// The other node leads it.
    pub fn led_by_peer(&mut self, export: ExportId) {
        if let Some(seen) = self.exports.get_mut(&export) {
            seen.lost = None;
            seen.running = None;
        }
    }

    /// The other node is handing it over, and has been letting its clients wait for that long.
    pub fn handed_over(&mut self, export: ExportId, waited_ns: u64, for_fault: bool, now_ns: u64) {
        let from = now_ns.saturating_sub(waited_ns.min(if for_fault { FAULT_NS } else { PLAN_NS }));
        self.exports.entry(export).or_default().planned = Some((from, now_ns));
    }

    /// It does not hand it over after all.
    pub fn not_handed_over(&mut self, export: ExportId) {
        if let Some(seen) = self.exports.get_mut(&export) {
            seen.planned = None;
        }
    }

    /// The virtual IP is up here and these connections are tickled. Returns what is known so far.
    pub fn raised(
        &mut self,
        export: ExportId,
        report: Report,
        tuples: &[Tuple],
        now_ns: u64,
        wall_ns: u64,
    ) -> TakeoverReport {
        let seen = self.exports.entry(export).or_default();
        let began_ns = now_ns.saturating_sub(report.vip_us.saturating_mul(1000));
        let recent = |(_, since): &(u64, u64)| since.saturating_add(PLAN_NS) > now_ns;
        let (lost, planned) = (seen.lost.take(), seen.planned.take().filter(recent));
        let mut tickled: HashMap<IpAddr, (u32, u32)> = HashMap::new();
        for tuple in tuples {
            let count = &mut tickled.entry(tuple.client.ip().to_canonical()).or_default().0;
            *count = count.saturating_add(1);
        }
        let mut shown = report.to_proto(wall_ns, 0, u32::try_from(tuples.len()).unwrap_or(u32::MAX));
        let paused_ns = match report.cause {
            Cause::Crash => {
                let (heard_ns, noticed_ns) = lost.unwrap_or((began_ns, began_ns));
                shown.detected_us = noticed_ns.saturating_sub(heard_ns) / 1000;
                heard_ns.min(began_ns)
            }
            Cause::Fault => {
                let (from_ns, told_ns) = planned.unwrap_or((began_ns, began_ns));
                shown.detected_us = told_ns.saturating_sub(from_ns) / 1000;
                from_ns.min(began_ns)
            }
            Cause::Planned => planned.map_or(began_ns, |(from, _)| from),
            Cause::Start => began_ns,
        };
        seen.running = Some(Running {
            cause: report.cause,
            began_ns,
            paused_ns,
            until_ns: now_ns.saturating_add(WATCH_NS),
            known: tickled.keys().copied().collect(),
            tickled,
            report: shown.clone(),
        });
        shown
    }

    /// A client has connected.
    pub fn accepted(&mut self, export: ExportId, client: IpAddr) {
        let running = self.exports.get_mut(&export).and_then(|seen| seen.running.as_mut());
        if let Some((_, back)) = running.and_then(|r| r.tickled.get_mut(&client.to_canonical())) {
            *back = back.saturating_add(1);
        }
    }

    /// It is not served here any more.
    pub fn ended(&mut self, export: ExportId) {
        if let Some(seen) = self.exports.get_mut(&export) {
            seen.running = None;
        }
    }

    /// The export is gone.
    pub fn forget(&mut self, export: ExportId) {
        self.exports.remove(&export);
    }

    /// Looks at every takeover under watch; `first_reply_ns` says when the first of some clients was answered.
    pub fn look(
        &mut self,
        now_ns: u64,
        first_reply_ns: impl Fn(ExportId, &HashSet<IpAddr>) -> Option<u64>,
    ) -> Vec<(ExportId, News)> {
        let mut news = Vec::new();
        for (id, seen) in &mut self.exports {
            let Some(running) = &mut seen.running else { continue };
            let replied_ns = (running.report.first_reply_us == 0)
                .then(|| first_reply_ns(*id, &running.known))
                .flatten()
                .filter(|at| *at < running.until_ns);
            news.extend(running.look(replied_ns).map(|n| (*id, n)));
            if now_ns >= running.until_ns {
                seen.running = None;
            }
        }
        news
    }
}

impl Running {
    fn look(&mut self, replied_ns: Option<u64>) -> Option<News> {
        let before = self.report.clone();
        let returned = self.tickled.values().map(|(tickled, back)| tickled.min(back));
        self.report.returned = returned.fold(0, |sum, n| sum.saturating_add(*n));
        let mut pause = None;
        if let Some(at) = replied_ns {
            // 0 is for what did not happen.
            self.report.first_reply_us = (at.saturating_sub(self.began_ns) / 1000).max(1);
            if self.cause != Cause::Start {
                self.report.pause_us = (at.saturating_sub(self.paused_ns) / 1000).max(1);
                pause = Some((self.cause, self.report.pause_us));
            }
        }
        (self.report != before).then(|| News { report: self.report.clone(), pause })
    }
}

/// Adds a takeover.
fn count_takeover(counts: &mut TakeoverCounts) {
    counts.takeovers = counts.takeovers.saturating_add(1);
}

/// Adds a pause.
fn count_pause(counts: &mut TakeoverCounts, pause_us: u64) {
    counts.pauses.resize(BOUNDS_MS.len() + 1, 0);
    let at = BOUNDS_MS.iter().position(|ms| pause_us <= ms * 1000).unwrap_or(BOUNDS_MS.len());
    if let Some(bucket) = counts.pauses.get_mut(at) {
        *bucket = bucket.saturating_add(1);
    }
    counts.longest_us = counts.longest_us.max(pause_us);
    counts.sum_us = counts.sum_us.saturating_add(pause_us);
}

/// The length that the given share (0 to 1) of the pauses does not exceed, us, as exactly as the buckets allow: within
/// one it is taken as evenly spread. `None` where there are none.
pub fn quantile_us(counts: &TakeoverCounts, share: f64) -> Option<u64> {
    let all: u64 = counts.pauses.iter().sum();
    let wanted = (share * all as f64).max(1.0);
    let (mut below, mut low_us) = (0.0, 0);
    for (i, bucket) in counts.pauses.iter().enumerate().filter(|_| all > 0) {
        let high_us = BOUNDS_MS.get(i).map_or(counts.longest_us, |ms| (ms * 1000).min(counts.longest_us));
        let count = *bucket as f64;
        if count > 0.0 && below + count >= wanted {
            let part = (wanted - below) / count;
            return Some(low_us + (part * high_us.saturating_sub(low_us) as f64) as u64);
        }
        below += count;
        low_us = high_us;
    }
    None
}

/// Both kinds of takeovers of an export.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counts {
    /// The old primary was lost, or of no use to its clients.
    pub crash: TakeoverCounts,
    /// On an order.
    pub planned: TakeoverCounts,
}

impl Counts {
    fn of(&mut self, cause: Cause) -> Option<&mut TakeoverCounts> {
        match cause {
            Cause::Crash | Cause::Fault => Some(&mut self.crash),
            Cause::Planned => Some(&mut self.planned),
            Cause::Start => None,
        }
    }
}

/// See the module.
pub struct Pauses {
    /// `None`: the counts are in memory alone.
    store: Option<sled::Tree>,
    counted: Mutex<HashMap<ExportId, Counts>>,
}

/// Rows: the export's id and a byte for the cause; an encoded [`TakeoverCounts`].
fn row_key(export: ExportId, cause: Cause) -> [u8; 17] {
    let mut key = [0; 17];
    for (to, from) in key.iter_mut().zip(export.0) {
        *to = from;
    }
    key[16] = match cause {
        Cause::Crash | Cause::Fault => b'c',
        Cause::Planned => b'p',
        Cause::Start => b's',
    };
    key
}

/// A row that does not decode counts as none. sled says the error of a damaged page again and again: it ends the reading.
fn read_rows(
    rows: impl Iterator<Item = sled::Result<(sled::IVec, sled::IVec)>>,
) -> HashMap<ExportId, Counts> {
    let mut counted: HashMap<ExportId, Counts> = HashMap::new();
    for row in rows {
        let (key, row) = match row {
            Ok(row) => row,
            Err(error) => {
                tracing::warn!(%error, "read the counts of takeovers; the rest of them is missing");
                break;
            }
        };
        let Some((id, cause)) = key.split_first_chunk::<16>() else { continue };
        let cause = if *cause == [b'c'] { Cause::Crash } else { Cause::Planned };
        let row = TakeoverCounts::decode(row.as_ref()).unwrap_or_default();
        if let Some(counts) = counted.entry(ExportId(*id)).or_default().of(cause) {
            *counts = row;
        }
    }
    counted
}

impl Pauses {
    /// With what the store has. A damaged one costs figures and nothing else: they are kept in memory then.
    pub fn new(store: sled::Result<sled::Tree>) -> Self {
        let store = store.inspect_err(|error| {
            tracing::warn!(%error, "open the counts of takeovers; they are kept until this process ends");
        });
        let counted = store.as_ref().map(|store| read_rows(store.iter())).unwrap_or_default();
        Self { store: store.ok(), counted: Mutex::new(counted) }
    }

    /// Of an export.
    pub fn of(&self, export: ExportId) -> Counts {
        self.counted.lock().get(&export).cloned().unwrap_or_default()
    }

    /// A takeover has ended here.
    pub fn takeover(&self, export: ExportId, cause: Cause) {
        self.change(export, cause, count_takeover);
    }

    /// A pause is known.
    pub fn pause(&self, export: ExportId, cause: Cause, pause_us: u64) {
        self.change(export, cause, |counts| count_pause(counts, pause_us));
    }

    fn change(&self, export: ExportId, cause: Cause, change: impl FnOnce(&mut TakeoverCounts)) {
        let mut counted = self.counted.lock();
        let Some(counts) = counted.entry(export).or_default().of(cause) else { return };
        change(counts);
        let Some(store) = &self.store else { return };
        // sled keeps it in memory and writes it within a second.
        if let Err(error) = store.insert(row_key(export, cause), counts.encode_to_vec()) {
            tracing::warn!(%error, "write the counts of takeovers; they are kept until this process ends");
        }
    }
}

#[cfg(test)]
mod tests {
    //! Goal: a pause is as long as clients saw it, in the right bucket, once, and outlives the process. Method: takeovers
    //! told by hand, in simulated time; a store in a directory.

    use super::*;

    const ONE: ExportId = ExportId([1; 16]);
    const MS: u64 = 1_000_000;
    const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));

    fn report(cause: Cause, vip_ms: u64) -> Report {
        Report { cause, elected_us: vip_ms * 500, released_us: 0, vip_us: vip_ms * 1000 }
    }

    fn tuples(ports: std::ops::Range<u16>) -> Vec<Tuple> {
        ports.map(|port| Tuple { client: (CLIENT, port).into(), server_port: 2049 }).collect()
    }

    fn never(_: ExportId, _: &HashSet<IpAddr>) -> Option<u64> {
        None
    }

    #[test]
    fn a_crash_is_counted_from_the_last_sign_of_life_to_the_first_reply() {
        let mut watch = Watch::default();
        watch.lost(ONE, 1000 * MS, 1600 * MS);
        watch.lost(ONE, 1650 * MS, 1700 * MS);
        let shown = watch.raised(ONE, report(Cause::Crash, 40), &tuples(1..4), 1640 * MS, 7);
        assert_eq!((shown.detected_us, shown.tickled, shown.returned, shown.at_ns), (600_000, 3, 0, 7));
        assert_eq!(watch.look(1650 * MS, never), []);
        watch.accepted(ONE, CLIENT);
        watch.accepted(ONE, "10.0.0.2".parse().unwrap());
        let replied = |_, known: &HashSet<IpAddr>| known.contains(&CLIENT).then_some(1660 * MS);
        let [(_, news)] = watch.look(1700 * MS, replied).try_into().unwrap();
        assert_eq!(news.pause, Some((Cause::Crash, 660_000)));
        assert_eq!(
            (news.report.first_reply_us, news.report.pause_us, news.report.returned),
            (60_000, 660_000, 1)
        );
        assert_eq!(watch.look(1800 * MS, replied), [], "each pause is told once");
        for _ in 0..9 {
            watch.accepted(ONE, CLIENT);
        }
        let [(_, news)] = watch.look(1900 * MS, replied).try_into().unwrap();
        assert_eq!((news.report.returned, news.pause), (3, None), "not more come back than there were");
    }

    #[test]
    fn a_planned_takeover_is_counted_from_the_drain() {
        let mut watch = Watch::default();
        watch.handed_over(ONE, 30 * MS, false, 1000 * MS);
        // The old one is not heard of as leader any more: that is the plan, no loss.
        watch.lost(ONE, 1000 * MS, 1001 * MS);
        let shown = watch.raised(ONE, report(Cause::Planned, 60), &tuples(1..2), 1040 * MS, 7);
        assert_eq!(shown.detected_us, 0);
        let [(_, news)] = watch.look(1050 * MS, |_, _| Some(1045 * MS)).try_into().unwrap();
        assert_eq!(news.pause, Some((Cause::Planned, 75_000)));
        assert_eq!(news.report.first_reply_us, 65_000, "since the order");
    }

    #[test]
    fn a_fault_is_counted_from_when_clients_were_not_answered_any_more() {
        let mut watch = Watch::default();
        // Longer than any plan: nobody could take it before.
        watch.handed_over(ONE, 15_000 * MS, true, 20_000 * MS);
        let shown = watch.raised(ONE, report(Cause::Fault, 40), &tuples(1..2), 20_040 * MS, 7);
        assert_eq!(shown.detected_us, 15_000_000);
        let [(_, news)] = watch.look(20_060 * MS, |_, _| Some(20_050 * MS)).try_into().unwrap();
        assert_eq!(news.pause, Some((Cause::Fault, 15_050_000)));
        let mut counts = Counts::default();
        count_takeover(counts.of(Cause::Fault).unwrap());
        assert_eq!((counts.crash.takeovers, counts.planned.takeovers), (1, 0));
    }

    #[test]
    fn a_crash_after_a_refused_hand_over_is_a_crash() {
        let mut watch = Watch::default();
        watch.handed_over(ONE, 500 * MS, false, 1000 * MS);
        watch.not_handed_over(ONE);
        // What an order counts from then is the order.
        let shown = watch.raised(ONE, report(Cause::Planned, 40), &tuples(1..2), 3000 * MS, 7);
        assert_eq!(shown.detected_us, 0);
        let [(_, news)] = watch.look(3050 * MS, |_, _| Some(3010 * MS)).try_into().unwrap();
        assert_eq!(news.pause, Some((Cause::Planned, 50_000)));
    }

    #[test]
    fn who_asks_late_or_after_the_next_move_was_not_waiting() {
        let mut watch = Watch::default();
        let begin = |watch: &mut Watch| {
            watch.raised(ONE, report(Cause::Planned, 10), &tuples(1..2), 1000 * MS, 7);
        };
        begin(&mut watch);
        let late = 1000 * MS + WATCH_NS;
        assert_eq!(watch.look(late, |_, _| Some(late)), []);
        assert_eq!(watch.look(late + 1, |_, _| Some(1001 * MS)), [], "it is not watched any more");
        for end in [Watch::ended, Watch::led_by_peer, Watch::forget] {
            begin(&mut watch);
            end(&mut watch, ONE);
            assert_eq!(watch.look(1002 * MS, |_, _| Some(1001 * MS)), []);
        }
    }

    #[test]
    fn pauses_are_kept_in_their_buckets_over_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let open = || {
            let db = sled::Config::new().path(dir.path()).open().unwrap();
            (Pauses::new(db.open_tree("pauses")), db)
        };
        let (pauses, db) = open();
        for ms in [50, 51, 400, 31_000] {
            pauses.takeover(ONE, Cause::Crash);
            pauses.pause(ONE, Cause::Crash, ms * 1000);
        }
        pauses.takeover(ONE, Cause::Planned);
        pauses.takeover(ONE, Cause::Start);
        let counts = pauses.of(ONE);
        assert_eq!(counts.crash.pauses, [1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1]);
        assert_eq!(
            (counts.crash.takeovers, counts.crash.longest_us, counts.crash.sum_us),
            (4, 31_000_000, 31_501_000)
        );
        assert_eq!((counts.planned.takeovers, counts.planned.pauses.len()), (1, 0), "nobody asked");
        drop((pauses, db));
        assert_eq!(open().0.of(ONE), counts);
    }

    #[test]
    fn a_damaged_store_costs_figures_and_nothing_else() {
        let damaged = || sled::Error::Unsupported("a damaged page".to_owned());
        let row =
            || (row_key(ONE, Cause::Crash), TakeoverCounts { takeovers: 3, ..TakeoverCounts::default() });
        let good = std::iter::once(row()).map(|(key, row)| Ok((key[..].into(), row.encode_to_vec().into())));
        let mut asked = 0;
        let again_and_again = std::iter::repeat_with(|| {
            asked += 1;
            Err(damaged())
        });
        let counted = read_rows(good.chain(again_and_again.take(1000)));
        assert_eq!((counted.get(&ONE).map(|c| c.crash.takeovers), asked), (Some(3), 1));

        let pauses = Pauses::new(Err(damaged()));
        pauses.takeover(ONE, Cause::Planned);
        assert_eq!(pauses.of(ONE).planned.takeovers, 1);
    }

    #[test]
    fn a_quantile_is_within_its_bucket_and_not_above_the_longest() {
        let mut counts = TakeoverCounts::default();
        assert_eq!(quantile_us(&counts, 0.5), None);
        count_pause(&mut counts, 420_000);
        assert_eq!(quantile_us(&counts, 0.5), Some(420_000));
        for _ in 0..2 {
            count_pause(&mut counts, 80_000);
        }
        let median = quantile_us(&counts, 0.5).unwrap();
        assert!((50_000..=100_000).contains(&median), "{median}");
        assert_eq!(quantile_us(&counts, 1.0), Some(420_000));
        count_pause(&mut counts, 90_000_000);
        assert_eq!(quantile_us(&counts, 1.0), Some(90_000_000));
    }
}
