//! The state machine itself.

use std::collections::{BTreeMap, VecDeque};

use replica::ids::ExportId;

use super::health::Health;
use super::types::{
    Cause, Fault, Order, PolicyConfig, PolicyExport, PolicyInput as In, PolicyOutput as Out, PolicyTiming,
    Report, Side,
};

/// Failures of a home that are remembered; more than any sensible limit.
const FAILURES_KEPT: usize = 64;

/// How long an order explains why the other node stopped leading: draining, transfer and room for a slow disk.
const PLAN_NS: u64 = 10_000_000_000;

/// Where an export stands on this node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// Not served here.
    Idle,
    /// Waiting for the other guardian's word, not longer than until then.
    Releasing { until_ns: u64 },
    /// Waiting for the own guardian.
    Raising,
    /// The address did not come up; again at that time.
    Failed { again_ns: u64 },
    /// Served here.
    Up { since_ns: u64, repeats: usize },
    /// Served here, but nothing new is read.
    Draining { until_ns: u64 },
    /// Leadership is on its way to the other node; `up`: the address is still here.
    Transferring { until_ns: u64, up: bool },
}

/// One export.
#[derive(Debug)]
struct Export {
    home: Side,
    giveback_delay_ns: Option<u64>,
    leader: Option<Side>,
    /// The other node led it at some time since this process started.
    led_by_peer: bool,
    serving: bool,
    phase: Phase,
    /// When the failure was noticed or the order came.
    began: Option<(u64, Cause)>,
    elected_ns: u64,
    released_ns: u64,
    raise_failures: u32,
    in_sync_since: Option<u64>,
    /// It does not go home by itself before this: a transfer has come to nothing.
    giveback_not_before_ns: u64,
    /// Crashes of its home that led to a takeover, the recent ones.
    failures: VecDeque<u64>,
    withheld: bool,
    health: Health,
    /// What the other node says is wrong with it.
    peer_fault: Option<Fault>,
}

/// See the module `policy`.
#[derive(Debug)]
pub struct Policy {
    timing: PolicyTiming,
    exports: BTreeMap<ExportId, Export>,
    peer_guardian: bool,
    /// When the connected one was last heard, if ever.
    guardian_heard_ns: Option<u64>,
    peer_server: bool,
}

/// What is known of the other guardian when an export begins to be served.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Guardian {
    Gone,
    /// Connected as far as this kernel knows, and silent.
    Silent,
    Answers,
}

impl Policy {
    /// Nothing is served and nobody is there.
    pub fn new(config: PolicyConfig) -> Self {
        let exports = config.exports.iter().map(|e| (e.id, Export::new(*e))).collect();
        Self {
            timing: config.timing,
            exports,
            peer_guardian: false,
            guardian_heard_ns: None,
            peer_server: false,
        }
    }

    /// When [`In::Tick`] is due.
    pub fn deadline(&self) -> Option<u64> {
        self.exports.values().filter_map(|e| e.deadline(&self.timing, self.peer())).min()
    }

    /// Is the export's address up here, as far as the policy knows?
    pub fn is_up(&self, export: ExportId) -> bool {
        self.exports.get(&export).is_some_and(|e| e.phase.is_up())
    }

    /// There is one more export from now on; one that is known already stays as it is.
    pub fn add(&mut self, export: PolicyExport) {
        self.exports.entry(export.id).or_insert_with(|| Export::new(export));
    }

    /// An export is gone: nothing is asked for any more on its account, and nothing is undone either.
    pub fn remove(&mut self, export: ExportId) {
        self.exports.remove(&export);
    }

    /// Is this one of the exports?
    pub fn knows(&self, export: ExportId) -> bool {
        self.exports.contains_key(&export)
    }

    /// What is wrong with this node for an export, as it counts.
    pub fn own_fault(&self, export: ExportId) -> Option<Fault> {
        self.exports.get(&export).and_then(|e| e.health.counts())
    }

    /// The export is about to be where there is room: it is being handed over, or will be as soon as there is none here. No more
    /// so after a hand-over for a fault that came to nothing.
    pub fn room_elsewhere(&self, export: ExportId) -> bool {
        let Some(e) = self.exports.get(&export).filter(|e| Fault::NoRoom.yields_to(e.peer_fault)) else {
            return false;
        };
        match e.phase {
            Phase::Draining { .. } | Phase::Transferring { .. } => true,
            Phase::Up { .. } => self.peer() && e.in_sync_since.is_some() && !e.health.has_yielded(),
            _ => false,
        }
    }

    /// What the other node says is wrong with it.
    pub fn peer_fault(&self, export: ExportId) -> Option<Fault> {
        self.exports.get(&export).and_then(|e| e.peer_fault)
    }

    /// Changes when an export goes home by itself; takes effect with the next [`Self::step`].
    pub fn set_giveback(&mut self, export: ExportId, delay_ns: Option<u64>) {
        self.with(export, |e| e.giveback_delay_ns = delay_ns);
    }

    fn peer(&self) -> bool {
        self.peer_guardian && self.peer_server
    }

    /// Something happened at `now_ns`; says what to do about it. Unknown exports are ignored.
    pub fn step(&mut self, now_ns: u64, input: In, out: &mut Vec<Out>) {
        match input {
            In::PeerServerGone => {
                self.peer_server = false;
                for (id, e) in &mut self.exports {
                    e.peer_server_gone(now_ns, *id, out);
                }
            }
            In::PeerServerUp => self.peer_server = true,
            In::PeerGuardianUp => self.peer_guardian_up(out),
            In::PeerGuardianDown => {
                self.peer_guardian = false;
                self.guardian_heard_ns = None;
                self.peer_server = false;
                for (id, e) in &mut self.exports {
                    if matches!(e.phase, Phase::Releasing { .. }) {
                        e.raise(*id, out);
                    }
                }
            }
            In::PeerGuardianHeard => self.guardian_heard_ns = Some(now_ns),
            In::Tick => {}
            In::GroupServing { export, .. } => {
                let (timing, guardian) = (self.timing, self.guardian(now_ns));
                self.with(export, |e| e.serving(now_ns, export, &timing, guardian, out));
            }
            In::GroupNotServing { export } => self.with(export, |e| e.not_serving(export, out)),
            In::GroupRole { export, leader } => self.with(export, |e| e.role(now_ns, leader)),
            In::InSync { export, in_sync } => self.with(export, |e| e.in_sync(now_ns, in_sync)),
            In::PeerReleased { export, .. } => self.with(export, |e| {
                if matches!(e.phase, Phase::Releasing { .. }) {
                    e.released_ns = now_ns;
                    e.raise(export, out);
                }
            }),
            In::Raised { export, ok } => {
                let (timing, peer) = (self.timing, self.peer());
                self.with(export, |e| e.raised(now_ns, export, ok, &timing, peer, out));
            }
            In::VipLost { export } => {
                let again_ns = now_ns.saturating_add(self.timing.raise_again_ns);
                self.with(export, |e| e.vip_lost(export, again_ns, out));
            }
            In::Order(order) => self.order(now_ns, order, out),
            In::Drained { export } => {
                let until_ns = now_ns.saturating_add(self.timing.transfer_wait_ns);
                self.with(export, |e| e.drained(export, until_ns, out));
            }
            In::TransferComing { export, for_fault } => {
                self.with(export, |e| e.transfer_coming(now_ns, for_fault));
            }
            In::HandOverRefused { export } => self.with(export, Export::refused),
            In::OwnFault { export, fault } => self.with(export, |e| e.health.seen(now_ns, fault)),
            In::PeerFault { export, fault } => self.with(export, |e| e.peer_fault(now_ns, fault)),
            In::TransferFailed { export } => {
                let timing = self.timing;
                self.with(export, |e| e.resume(now_ns, export, &timing, out));
            }
        }
        let peer = self.peer();
        for (id, e) in &mut self.exports {
            e.time(now_ns, *id, &self.timing, peer, out);
        }
    }

    fn guardian(&self, now_ns: u64) -> Guardian {
        let silent = |at: u64| now_ns.saturating_sub(at) >= self.timing.guardian_silent_ns;
        match self.peer_guardian {
            false => Guardian::Gone,
            true if self.guardian_heard_ns.is_some_and(silent) => Guardian::Silent,
            true => Guardian::Answers,
        }
    }

    fn with(&mut self, export: ExportId, f: impl FnOnce(&mut Export)) {
        if let Some(e) = self.exports.get_mut(&export) {
            f(e);
        }
    }

    /// What is up here is not up there: a guardian that was out of reach may still hold connections.
    fn peer_guardian_up(&mut self, out: &mut Vec<Out>) {
        self.peer_guardian = true;
        self.guardian_heard_ns = None;
        for (id, _) in self.exports.iter().filter(|(_, e)| e.phase.is_up()) {
            out.push(Out::ReleaseAtPeer { export: *id });
            out.push(Out::AnnounceTaken { export: *id });
        }
    }

    fn order(&mut self, now_ns: u64, order: Order, out: &mut Vec<Out>) {
        let (export, to) = match order {
            Order::Takeover { export } => (export, Some(Side::Own)),
            Order::HandOver { export } => (export, Some(Side::Peer)),
            Order::Giveback { export } => (export, self.exports.get(&export).map(|e| e.home)),
        };
        let until_ns = now_ns.saturating_add(self.timing.drain_wait_ns);
        self.with(export, |e| match to {
            Some(Side::Own) if !e.serving => {
                // What has begun without an order is not explained by one.
                e.began =
                    e.began.filter(|(_, cause)| *cause != Cause::Planned).or(Some((now_ns, Cause::Planned)));
                out.push(Out::AskHandOver { export });
            }
            Some(Side::Peer) => e.drain(export, until_ns, out),
            _ => {}
        });
    }
}

impl Phase {
    /// Clients can reach this node under the address.
    fn is_up(self) -> bool {
        matches!(self, Self::Up { .. } | Self::Draining { .. } | Self::Transferring { up: true, .. })
    }
}

impl Export {
    fn new(config: PolicyExport) -> Self {
        Self {
            home: config.home,
            giveback_delay_ns: config.giveback_delay_ns,
            leader: None,
            led_by_peer: false,
            serving: false,
            phase: Phase::Idle,
            began: None,
            elected_ns: 0,
            released_ns: 0,
            raise_failures: 0,
            in_sync_since: None,
            giveback_not_before_ns: 0,
            failures: VecDeque::new(),
            withheld: false,
            health: Health::default(),
            peer_fault: None,
        }
    }

    fn role(&mut self, now_ns: u64, leader: Option<Side>) {
        if self.leader == Some(Side::Peer) && leader.is_none() {
            // A plan that came to nothing long ago is no explanation.
            let recent = |at: u64| at.saturating_add(PLAN_NS) > now_ns;
            self.began = self.began.filter(|(at, _)| recent(*at)).or(Some((now_ns, Cause::Crash)));
        }
        if leader == Some(Side::Peer) {
            self.led_by_peer = true;
            // It came back, or never was away. An order's answer is still to come.
            self.began = self.began.filter(|(_, cause)| matches!(cause, Cause::Planned | Cause::Fault));
        }
        self.leader = leader;
    }

    /// A fault explains more than an order that was given meanwhile.
    fn transfer_coming(&mut self, now_ns: u64, for_fault: bool) {
        let told = if for_fault { Cause::Fault } else { Cause::Planned };
        let (_, cause) = self.began.get_or_insert((now_ns, told));
        if *cause == Cause::Planned {
            *cause = told;
        }
    }

    /// What follows now is no hand-over, unless one has come about all the same.
    fn refused(&mut self) {
        if self.leader != Some(Side::Own) {
            self.began = self.began.filter(|(_, cause)| *cause == Cause::Crash);
        }
    }

    fn peer_server_gone(&mut self, now_ns: u64, export: ExportId, out: &mut Vec<Out>) {
        self.in_sync_since = None;
        if self.leader == Some(Side::Peer) {
            self.leader = None;
            self.began = Some((now_ns, Cause::Crash));
            out.push(Out::Campaign { export, lease_void: true });
        }
    }

    fn serving(
        &mut self,
        now_ns: u64,
        export: ExportId,
        timing: &PolicyTiming,
        guardian: Guardian,
        out: &mut Vec<Out>,
    ) {
        self.leader = Some(Side::Own);
        if std::mem::replace(&mut self.serving, true) {
            return;
        }
        let unknown = if self.led_by_peer { Cause::Crash } else { Cause::Start };
        let (_, cause) = *self.began.get_or_insert((now_ns, unknown));
        // A home that gave it away for a fault failed as well.
        let failed = self.peer_fault.is_some_and(|fault| fault.yields_to(None));
        if (cause == Cause::Crash || failed) && self.home == Side::Peer {
            if self.failures.len() >= FAILURES_KEPT {
                self.failures.pop_front();
            }
            self.failures.push_back(now_ns);
        }
        self.elected_ns = now_ns;
        self.released_ns = 0;
        self.raise_failures = 0;
        if guardian != Guardian::Gone {
            out.push(Out::ReleaseAtPeer { export });
        }
        if guardian == Guardian::Answers {
            self.phase = Phase::Releasing { until_ns: now_ns.saturating_add(timing.release_wait_ns) };
        } else {
            self.raise(export, out);
        }
    }

    fn not_serving(&mut self, export: ExportId, out: &mut Vec<Out>) {
        self.serving = false;
        self.in_sync_since = None;
        if self.leader == Some(Side::Own) {
            self.leader = None;
        }
        if std::mem::replace(&mut self.phase, Phase::Idle) != Phase::Idle {
            self.began = None;
            out.push(Out::Drop { export });
            out.push(Out::StopServing { export, silently: true });
        }
    }

    fn in_sync(&mut self, now_ns: u64, in_sync: bool) {
        if !in_sync {
            self.in_sync_since = None;
        } else if self.in_sync_since.is_none() {
            self.in_sync_since = Some(now_ns);
            self.withheld = false;
        }
    }

    fn raise(&mut self, export: ExportId, out: &mut Vec<Out>) {
        self.phase = Phase::Raising;
        out.push(Out::Raise { export });
    }

    fn raised(
        &mut self,
        now_ns: u64,
        export: ExportId,
        ok: bool,
        timing: &PolicyTiming,
        peer: bool,
        out: &mut Vec<Out>,
    ) {
        if self.phase != Phase::Raising {
            // Too late: it does not serve any more.
            if ok && !self.phase.is_up() {
                out.push(Out::Drop { export });
                out.push(Out::StopServing { export, silently: true });
            }
            return;
        }
        if ok {
            self.raise_failures = 0;
            self.phase = Phase::Up { since_ns: now_ns, repeats: 0 };
            out.push(Out::StartServing { export });
            out.push(Out::AnnounceTaken { export });
            if let Some((began_ns, cause)) = self.began.take() {
                let us = |at: u64| at.saturating_sub(began_ns) / 1000;
                let report = Report {
                    cause,
                    elected_us: us(self.elected_ns),
                    released_us: us(self.released_ns),
                    vip_us: us(now_ns),
                };
                out.push(Out::Report { export, report });
            }
            return;
        }
        self.raise_failures = self.raise_failures.saturating_add(1);
        if self.raise_failures >= timing.raise_failures_max && self.peer_may_take(peer) {
            self.raise_failures = 0;
            self.phase =
                Phase::Transferring { until_ns: now_ns.saturating_add(timing.transfer_wait_ns), up: false };
            out.push(Out::Transfer { export, fault_for_ns: None });
        } else {
            self.phase = Phase::Failed { again_ns: now_ns.saturating_add(timing.raise_again_ns) };
        }
    }

    fn vip_lost(&mut self, export: ExportId, again_ns: u64, out: &mut Vec<Out>) {
        if self.phase.is_up() {
            out.push(Out::StopServing { export, silently: true });
            self.phase = Phase::Failed { again_ns };
        }
    }

    fn drain(&mut self, export: ExportId, until_ns: u64, out: &mut Vec<Out>) {
        match self.phase {
            Phase::Up { .. } => {
                self.phase = Phase::Draining { until_ns };
                out.push(Out::Drain { export });
            }
            // It is on its way.
            Phase::Draining { .. } | Phase::Transferring { .. } => {}
            Phase::Idle | Phase::Releasing { .. } | Phase::Raising | Phase::Failed { .. } => {
                out.push(Out::RefuseHandOver { export });
            }
        }
    }

    /// Being in sync counts anew from the end of a fault on: so long a home must have been sound to get its export back.
    fn peer_fault(&mut self, now_ns: u64, fault: Option<Fault>) {
        let before = std::mem::replace(&mut self.peer_fault, fault);
        if before.is_some() && fault.is_none() {
            self.in_sync_since = self.in_sync_since.map(|_| now_ns);
        }
    }

    /// Hands over to a node that is better off. What would have to be answered first cannot be, where a disk hangs or clients
    /// are out of reach.
    fn yields(
        &mut self,
        now_ns: u64,
        export: ExportId,
        timing: &PolicyTiming,
        peer: bool,
        out: &mut Vec<Out>,
    ) {
        let Some(fault) = self.yields_for(peer) else { return };
        if now_ns < self.health.may_yield_ns(timing) {
            return;
        }
        self.health.yielded(now_ns, timing);
        out.push(Out::Yields { export, fault });
        if fault == Fault::NoRoom {
            self.drain(export, now_ns.saturating_add(timing.drain_wait_ns), out);
        } else {
            let until_ns = now_ns.saturating_add(timing.transfer_wait_ns);
            self.phase = Phase::Transferring { until_ns, up: true };
            out.push(Out::Transfer { export, fault_for_ns: Some(self.health.seen_for_ns(now_ns)) });
        }
    }

    /// The other node is there, has what this one has, and does not end.
    fn peer_may_take(&self, peer: bool) -> bool {
        peer && self.in_sync_since.is_some() && self.peer_fault != Some(Fault::Stopping)
    }

    /// For which fault this node is to hand over, if for any.
    fn yields_for(&self, peer: bool) -> Option<Fault> {
        let can = matches!(self.phase, Phase::Up { .. }) && self.peer_may_take(peer);
        self.health.acute().filter(|fault| can && fault.yields_to(self.peer_fault))
    }

    fn drained(&mut self, export: ExportId, until_ns: u64, out: &mut Vec<Out>) {
        if matches!(self.phase, Phase::Draining { .. }) {
            self.phase = Phase::Transferring { until_ns, up: true };
            out.push(Out::Transfer { export, fault_for_ns: None });
        }
    }

    /// The transfer failed while this node still serves. Being in sync counts anew, and there is a pause, so that a giveback is
    /// not tried again in a loop: each drains.
    fn resume(&mut self, now_ns: u64, export: ExportId, timing: &PolicyTiming, out: &mut Vec<Out>) {
        self.giveback_not_before_ns = now_ns.saturating_add(timing.yield_again_ns);
        match self.phase {
            Phase::Draining { .. } | Phase::Transferring { up: true, .. } => {
                self.phase = Phase::Up { since_ns: now_ns, repeats: usize::MAX };
                self.in_sync_since = self.in_sync_since.map(|_| now_ns);
                out.push(Out::Resume { export });
            }
            Phase::Transferring { up: false, .. } => self.raise(export, out),
            _ => {}
        }
    }

    /// When this export is to be given back by itself. Not by a node that cannot answer what is in flight: it hands over
    /// without draining, or not at all.
    fn giveback_ns(&self, peer: bool) -> Option<u64> {
        let up = matches!(self.phase, Phase::Up { .. });
        let may_drain = self.health.acute() < Some(Fault::DiskHangs);
        if self.home != Side::Peer || !up || !peer || self.withheld || self.peer_fault.is_some() || !may_drain
        {
            return None;
        }
        let at = self.in_sync_since?.saturating_add(self.giveback_delay_ns?);
        Some(at.max(self.giveback_not_before_ns))
    }

    fn deadline(&self, timing: &PolicyTiming, peer: bool) -> Option<u64> {
        let phase = match self.phase {
            Phase::Idle | Phase::Raising => None,
            Phase::Releasing { until_ns }
            | Phase::Draining { until_ns }
            | Phase::Transferring { until_ns, .. } => Some(until_ns),
            Phase::Failed { again_ns } => Some(again_ns),
            Phase::Up { since_ns, repeats } => {
                timing.repeat_after_ns.get(repeats).map(|after| since_ns.saturating_add(*after))
            }
        };
        let yields = self.yields_for(peer).map(|_| self.health.may_yield_ns(timing));
        phase
            .into_iter()
            .chain(self.giveback_ns(peer))
            .chain(self.health.deadline(timing))
            .chain(yields)
            .min()
    }

    /// What is due.
    fn time(&mut self, now_ns: u64, export: ExportId, timing: &PolicyTiming, peer: bool, out: &mut Vec<Out>) {
        if self.health.settle(now_ns, timing) {
            out.push(Out::SayFault { export, fault: self.health.counts() });
        }
        self.yields(now_ns, export, timing, peer, out);
        if self.giveback_ns(peer).is_some_and(|at| at <= now_ns) {
            self.give_back(now_ns, export, timing, out);
        }
        let due = |at: u64| at <= now_ns;
        match self.phase {
            Phase::Releasing { until_ns } if due(until_ns) => self.raise(export, out),
            Phase::Failed { again_ns } if due(again_ns) => self.raise(export, out),
            Phase::Draining { until_ns } if due(until_ns) => {
                self.drained(export, now_ns.saturating_add(timing.transfer_wait_ns), out);
            }
            Phase::Transferring { until_ns, .. } if due(until_ns) => self.resume(now_ns, export, timing, out),
            Phase::Up { since_ns, repeats } => {
                let next = timing.repeat_after_ns.get(repeats);
                if next.is_some_and(|after| due(since_ns.saturating_add(*after))) {
                    self.phase = Phase::Up { since_ns, repeats: repeats.saturating_add(1) };
                    out.push(Out::Repeat { export });
                }
            }
            _ => {}
        }
    }

    fn give_back(&mut self, now_ns: u64, export: ExportId, timing: &PolicyTiming, out: &mut Vec<Out>) {
        let oldest = now_ns.saturating_sub(timing.failures_window_ns);
        while self.failures.front().is_some_and(|at| *at < oldest) {
            self.failures.pop_front();
        }
        let failures = u32::try_from(self.failures.len()).unwrap_or(u32::MAX);
        if failures > timing.failures_max {
            self.withheld = true;
            out.push(Out::GivebackWithheld { export, failures });
        } else {
            self.drain(export, now_ns.saturating_add(timing.drain_wait_ns), out);
        }
    }
}

#[cfg(test)]
mod tests {
    //! Goal: exports come and go without a word about the others. (All else is in the transcripts.) Method: a policy that
    //! learns of one, serves it, and forgets it.
    use super::*;
    use crate::policy::PolicyTiming;

    const ONE: ExportId = ExportId([1; 16]);
    const TWO: ExportId = ExportId([2; 16]);

    fn of(id: ExportId, home: Side) -> PolicyExport {
        PolicyExport { id, home, giveback_delay_ns: None }
    }

    fn step(policy: &mut Policy, now_ns: u64, input: In) -> Vec<Out> {
        let mut out = Vec::new();
        policy.step(now_ns, input, &mut out);
        out
    }

    fn raise(policy: &mut Policy, export: ExportId) {
        assert_eq!(step(policy, 1, In::GroupServing { export, term: 1 }), [Out::Raise { export }]);
        step(policy, 2, In::Raised { export, ok: true });
        assert!(policy.is_up(export));
    }

    #[test]
    fn exports_come_and_go() {
        let config = PolicyConfig { exports: vec![of(ONE, Side::Own)], timing: PolicyTiming::default() };
        let mut policy = Policy::new(config);
        raise(&mut policy, ONE);
        assert_eq!(
            step(&mut policy, 3, In::GroupServing { export: TWO, term: 1 }),
            [],
            "nobody knows it yet"
        );
        policy.add(of(TWO, Side::Peer));
        raise(&mut policy, TWO);
        policy.add(of(TWO, Side::Peer));
        assert!(policy.is_up(TWO), "known already: as it was");

        policy.remove(TWO);
        assert!(!policy.knows(TWO) && policy.is_up(ONE));
        for input in [In::GroupNotServing { export: TWO }, In::VipLost { export: TWO }] {
            assert_eq!(step(&mut policy, 4, input), [], "what is left of its group says nothing any more");
        }
    }

    #[test]
    fn a_giveback_delay_that_changes_counts_from_when_the_home_came_into_sync() {
        let config = PolicyConfig { exports: vec![of(ONE, Side::Peer)], timing: PolicyTiming::default() };
        let mut policy = Policy::new(config);
        raise(&mut policy, ONE);
        step(&mut policy, 5, In::PeerGuardianUp);
        step(&mut policy, 5, In::PeerServerUp);
        step(&mut policy, 100, In::InSync { export: ONE, in_sync: true });
        let late = 60_000_000_000;
        let drains = |out: Vec<Out>| out.contains(&Out::Drain { export: ONE });
        assert!(!drains(step(&mut policy, late, In::Tick)), "only on an order");
        policy.set_giveback(ONE, Some(1_000));
        assert!(drains(step(&mut policy, late, In::Tick)));
    }
}
