//! What the daemon's hub does: it tells the policy what happens, and carries out what the policy decides.

use failover::policy::{Fault, Order, PolicyInput, PolicyOutput, Side};
use proto::peer::{GroupFrame, StateDigest};
use replica::group::GroupEvent;
use replica::node::{Input, OwnDisk, Third, Verdict, VerdictKind};

use super::server::{export_id, export_number, raft_id};
use crate::queue::{Event, FromGuardian, Local, PeerFrame, ToGuardian, Tuple};
use crate::world::{MS, World};

/// Calls in flight get this long before a transfer goes on.
const DRAIN_NS: u64 = 1_000 * MS;
/// Digests are compared so often.
const DIGESTS_NS: u64 = 1_000 * MS;

impl World {
    /// Something of this host comes back to its server after a while.
    pub fn local(&mut self, h: usize, what: Local) {
        let life = self.hosts[h].life;
        let delay = self.rng.between(20_000, 400_000);
        self.at(delay, Event::Local(h, life, what));
    }

    /// It has come.
    pub fn local_comes(&mut self, h: usize, life: u64, what: Local) {
        if !self.runs(h, life) || self.later(h, || Event::Local(h, life, what)) {
            return;
        }
        match what {
            Local::Raised(export, ok) => {
                self.server_input(h, PolicyInput::Raised { export: export_id(export), ok });
            }
            Local::Dropped(export) => {
                let Some(process) = self.hosts[h].process.as_mut() else { return };
                process.dropping[export] = process.dropping[export].saturating_sub(1);
                if process.dropping[export] == 0 && std::mem::take(&mut process.closing[export]) {
                    self.close_front(h, export);
                }
            }
            Local::VipLost(export) => {
                self.server_input(h, PolicyInput::VipLost { export: export_id(export) });
            }
            Local::DrainEnds(export) => {
                self.server_input(h, PolicyInput::Drained { export: export_id(export) });
            }
            Local::TupleWaited(conn) => self.tuple_known(h, conn),
        }
    }

    /// One input for the policy, and everything that follows from it.
    pub fn server_input(&mut self, h: usize, input: PolicyInput) {
        let local = self.hosts[h].local(self.now);
        let Some(process) = self.hosts[h].process.as_mut() else { return };
        let mut outputs = Vec::new();
        process.policy.step(local, input, &mut outputs);
        for output in outputs {
            self.carry_out(h, output);
        }
        self.wake(h, 20_000);
    }

    /// The policy's time.
    pub fn policy_time(&mut self, h: usize) {
        let local = self.hosts[h].local(self.now);
        let due = self.hosts[h].process.as_ref().and_then(|p| p.policy.deadline());
        if due.is_some_and(|at| at <= local) {
            self.server_input(h, PolicyInput::Tick);
        }
    }

    fn carry_out(&mut self, h: usize, output: PolicyOutput) {
        match output {
            PolicyOutput::Campaign { export, lease_void } => {
                self.group_input(h, export_number(export), Input::Campaign { lease_void });
            }
            PolicyOutput::ReleaseAtPeer { export } => {
                self.order(h, ToGuardian::Release(export_number(export)));
            }
            PolicyOutput::AnnounceTaken { export } => {
                self.order(h, ToGuardian::Taken(export_number(export)));
            }
            PolicyOutput::Raise { export } => {
                let export = export_number(export);
                let until = self.group(h, export).map(|run| run.parts.group.lease_until_ns());
                if let Some(until) = until {
                    self.guardian_leases(h, export, until);
                }
                let tuples = self.to_tickle(h, export);
                self.guardian_raises(h, export, &tuples);
            }
            PolicyOutput::Repeat { export } => {
                let export = export_number(export);
                let tuples = self.to_tickle(h, export);
                self.announce(h, export, &tuples);
            }
            PolicyOutput::StartServing { export } => {
                let export = export_number(export);
                if let Some(process) = self.hosts[h].process.as_mut() {
                    process.closing[export] = false;
                }
                self.stats.takeovers += 1;
                self.start_front(h, export);
            }
            PolicyOutput::StopServing { export, .. } => {
                let export = export_number(export);
                let Some(process) = self.hosts[h].process.as_mut() else { return };
                if process.dropping[export] > 0 {
                    process.closing[export] = true;
                } else {
                    self.close_front(h, export);
                }
            }
            PolicyOutput::Drop { export } => {
                let export = export_number(export);
                let Some(process) = self.hosts[h].process.as_mut() else { return };
                process.dropping[export] += 1;
                self.guardian_drops(h, export);
            }
            PolicyOutput::Drain { export } => {
                let export = export_number(export);
                if let Some(process) = self.hosts[h].process.as_mut()
                    && let Some(front) = process.fronts[export].as_mut()
                {
                    front.draining = true;
                }
                let life = self.hosts[h].life;
                self.at(DRAIN_NS, Event::Local(h, life, Local::DrainEnds(export)));
                self.drained(h);
            }
            PolicyOutput::Transfer { export, fault_for_ns } => {
                let export = export_number(export);
                let for_fault = fault_for_ns.is_some();
                self.frame(h, export, GroupFrame { handing_over: true, for_fault, ..GroupFrame::default() });
                self.group_input(h, export, Input::Transfer);
                self.stats.transfers += 1;
            }
            PolicyOutput::Resume { export } => {
                let export = export_number(export);
                if let Some(process) = self.hosts[h].process.as_mut()
                    && let Some(front) = process.fronts[export].as_mut()
                {
                    front.draining = false;
                }
                self.read_all(h);
            }
            PolicyOutput::SayFault { export, fault } => {
                let fault = Some(Fault::to_proto(fault));
                self.frame(h, export_number(export), GroupFrame { fault, ..GroupFrame::default() });
            }
            PolicyOutput::Yields { export, fault } => {
                let export = export_number(export);
                self.say(format!("host {h}, export {export}: hands over: {fault}"));
            }
            // Nobody waits for an answer.
            PolicyOutput::RefuseHandOver { .. } => {}
            PolicyOutput::AskHandOver { export } => {
                self.frame(h, export_number(export), GroupFrame { hand_over: true, ..GroupFrame::default() });
            }
            PolicyOutput::GivebackWithheld { .. } => {}
            PolicyOutput::Report { export, report } => {
                let export = export_number(export);
                self.say(format!(
                    "host {h} serves export {export} ({}): elected after {} us, released {} us, raised {} us",
                    report.cause, report.elected_us, report.released_us, report.vip_us
                ));
            }
        }
    }

    /// A drained export says so.
    pub fn drained(&mut self, h: usize) {
        let Some(process) = self.hosts[h].process.as_ref() else { return };
        let fronts = process.fronts.iter().enumerate();
        let empty = fronts.filter(|(_, f)| f.as_ref().is_some_and(|f| f.draining && f.in_flight == 0));
        let empty: Vec<usize> = empty.map(|(export, _)| export).collect();
        for export in empty {
            self.local(h, Local::DrainEnds(export));
        }
    }

    fn to_tickle(&self, h: usize, export: usize) -> Vec<Tuple> {
        let peers = self.hosts[h].process.as_ref().map(|p| p.peers.iter().copied()).into_iter().flatten();
        peers.filter(|tuple| tuple.export == export).collect()
    }

    fn order(&mut self, h: usize, what: ToGuardian) {
        let guardian = 1 - h;
        let link = self.hosts[guardian].guardian.link;
        if link % 2 == 1 {
            let delay = self.net.node_delay(&mut self.rng);
            self.at(delay, Event::GuardianHears { guardian, link, what });
        }
    }

    /// The other node's guardian speaks.
    pub fn guardian_said(&mut self, from: usize, link: u64, what: FromGuardian) {
        let h = 1 - from;
        if self.hosts[from].guardian.link != link || self.hosts[h].process.is_none() {
            return;
        }
        if self.later(h, || Event::GuardianSays { from, link, what }) {
            return;
        }
        match what {
            FromGuardian::ServerGone(process) => {
                let known = self.hosts[h].process.as_ref().map_or(0, |p| p.peer_process);
                if process == known {
                    self.server_input(h, PolicyInput::PeerServerGone);
                }
            }
            FromGuardian::ServerUp => self.server_input(h, PolicyInput::PeerServerUp),
            FromGuardian::Released(export, held) => {
                self.server_input(h, PolicyInput::PeerReleased { export: export_id(export), held });
            }
            FromGuardian::Tuple(tuple) => {
                if let Some(process) = self.hosts[h].process.as_mut() {
                    process.peers.insert(tuple);
                }
            }
        }
    }

    /// The stream from that guardian has ended.
    pub fn guardian_link_down(&mut self, guardian: usize, link: u64) {
        let h = 1 - guardian;
        if self.hosts[guardian].guardian.link == link && self.hosts[h].process.is_some() {
            self.server_input(h, PolicyInput::PeerGuardianDown);
        }
    }

    /// What a group says.
    pub fn group_event(&mut self, h: usize, export: usize, event: GroupEvent) {
        match event {
            GroupEvent::ToPeer(frame) => self.frame(h, export, frame),
            GroupEvent::ToWitness(mut request) => {
                request.from = raft_id(h, export);
                self.ask_witness(h, export, request);
            }
            GroupEvent::ResetPeer(why) => {
                self.say(format!("host {h}, export {export}: resets the session: {why}"));
                self.disconnect();
            }
            GroupEvent::PeerNeedsImage => {
                self.frame(h, export, GroupFrame { copy_from_me: true, ..GroupFrame::default() });
            }
            GroupEvent::Leader(leader) => {
                let me = raft_id(h, export);
                let leader = leader.map(|id| if id == me { Side::Own } else { Side::Peer });
                self.say(format!("host {h}, export {export}: the leader is {leader:?}"));
                if leader == Some(Side::Peer)
                    && let Some(process) = self.hosts[h].process.as_mut()
                {
                    let moved: Vec<Tuple> =
                        process.own.iter().filter(|t| t.export == export).copied().collect();
                    for tuple in moved {
                        process.own.remove(&tuple);
                        process.peers.insert(tuple);
                    }
                }
                self.server_input(h, PolicyInput::GroupRole { export: export_id(export), leader });
            }
            GroupEvent::Serving { term } => {
                self.say(format!("host {h}, export {export}: serves in term {term}"));
                self.check_serving(h, export, term);
                self.server_input(h, PolicyInput::GroupServing { export: export_id(export), term });
            }
            GroupEvent::NotServing => {
                self.say(format!("host {h}, export {export}: does not serve"));
                self.server_input(h, PolicyInput::GroupNotServing { export: export_id(export) });
            }
            GroupEvent::NeedImage(why) => {
                self.say(format!("host {h}, export {export}: needs a copy: {why}"));
                let delay = 10 * MS;
                self.at(delay, Event::Copy(h, export));
            }
            GroupEvent::AskVerdict => self.ask_verdict(h, export),
            GroupEvent::NoTransfer(why) => {
                self.say(format!("host {h}, export {export}: does not hand over: {why}"));
                self.server_input(h, PolicyInput::TransferFailed { export: export_id(export) });
            }
            GroupEvent::Log { level, text } => {
                self.say(format!("host {h}, export {export} [{level}] {text}"));
                if level == tracing::Level::ERROR && !self.setup.expects_errors() {
                    self.fail(format!("host {h}, export {export}: an error that nothing explains: {text}"));
                }
            }
            GroupEvent::Fatal(why) => {
                self.say(format!("host {h}, export {export}: fatal: {why}"));
                self.check_fatal(h, &why);
                if self.halting == Some(h) {
                    self.halted();
                } else {
                    self.kill_server(h, true);
                }
            }
        }
    }

    /// Fencing works: the other machine is off when the verdict comes.
    fn ask_verdict(&mut self, h: usize, export: usize) {
        if self.setup.third != Third::StandIn {
            return;
        }
        self.say(format!("host {h}, export {export}: asks for a verdict"));
        if self.net.fence_works {
            if self.hosts[1 - h].on {
                self.lose_power(1 - h);
                let delay = self.rng.between(2_000, 6_000) * MS;
                self.at(delay, Event::PowerOn(1 - h));
            }
            let history = self.rng.next() | 1;
            self.stats.verdicts += 1;
            self.group_input(h, export, Input::Verdict(Verdict { kind: VerdictKind::Fence, history }));
        }
    }

    /// Tells the policy which backups are in sync; compares digests.
    pub fn sync_states(&mut self, h: usize) {
        let digests = self.hosts[h].process.as_ref().is_some_and(|p| self.now >= p.digests_at);
        for export in 0..self.setup.exports {
            let Some(run) = self.group(h, export) else { continue };
            let (status, progress) = (run.parts.group.node_status(), run.parts.group.progress());
            if status.needs_image {
                self.at(MS, Event::Copy(h, export));
            }
            let Some(process) = self.hosts[h].process.as_mut() else { return };
            if process.in_sync[export].replace(status.in_sync) != Some(status.in_sync) {
                let input = PolicyInput::InSync { export: export_id(export), in_sync: status.in_sync };
                self.server_input(h, input);
            }
            let disk = match status.own_disk {
                OwnDisk::Sound => None,
                OwnDisk::Slow => Some(Fault::SlowDisk),
                OwnDisk::Hangs => Some(Fault::DiskHangs),
            };
            self.server_input(h, PolicyInput::OwnFault { export: export_id(export), fault: disk });
            if digests && progress.digest_index != 0 {
                let digest = StateDigest { index: progress.digest_index, digest: progress.digest_at_index };
                self.frame(h, export, GroupFrame { digest: Some(digest), ..GroupFrame::default() });
            }
        }
        if digests && let Some(process) = self.hosts[h].process.as_mut() {
            process.digests_at = self.now + DIGESTS_NS;
        }
    }

    /// A group's frame for the peer.
    pub fn frame(&mut self, h: usize, export: usize, mut frame: GroupFrame) {
        frame.export = bytes::Bytes::copy_from_slice(&export_id(export).0);
        self.to_peer(h, PeerFrame::Group(export, Box::new(frame)));
    }

    /// A frame of the peer's has come.
    pub fn frame_comes(&mut self, to: usize, session: u64, frame: PeerFrame) {
        if self.session.number != session || self.hosts[to].process.is_none() {
            return;
        }
        if self.now < self.hosts[to].paused_until {
            let until = self.hosts[to].paused_until;
            self.queue.push(until, Event::Frame { to, session, frame });
            return;
        }
        match frame {
            PeerFrame::Group(export, frame) => self.group_frame(to, export, *frame),
            PeerFrame::Tuple(tuple, number) => {
                if let Some(process) = self.hosts[to].process.as_mut() {
                    process.peers.insert(tuple);
                }
                if let Some(number) = number {
                    self.to_peer(to, PeerFrame::TupleKnown(number));
                }
            }
            PeerFrame::TupleKnown(number) => self.tuple_known(to, number),
        }
    }

    fn group_frame(&mut self, h: usize, export: usize, frame: GroupFrame) {
        let id = export_id(export);
        if frame.hand_over {
            let in_sync = self.hosts[h].process.as_ref().and_then(|p| p.in_sync[export]);
            if in_sync == Some(true) {
                self.server_input(h, PolicyInput::Order(Order::HandOver { export: id }));
            }
        } else if frame.handing_over {
            self.server_input(h, PolicyInput::TransferComing { export: id, for_fault: frame.for_fault });
        } else if frame.copy_from_me {
            self.at(MS, Event::Copy(h, export));
        } else if let Some(fault) = frame.fault {
            self.server_input(h, PolicyInput::PeerFault { export: id, fault: Fault::from_proto(fault) });
        } else if frame.digest.is_some() {
            // Compared by the checks, at every index.
        } else {
            self.group_input(h, export, Input::Peer(Box::new(frame)));
        }
    }

    /// An administrator orders an export to the other node.
    pub fn order_over(&mut self, h: usize, export: usize) {
        let process = self.hosts[h].process.as_ref();
        let ready =
            process.is_some_and(|p| p.in_sync[export] == Some(true) && p.policy.is_up(export_id(export)));
        if ready && self.now >= self.hosts[h].paused_until {
            self.say(format!("host {h}: an administrator hands export {export} over"));
            self.server_input(h, PolicyInput::Order(Order::HandOver { export: export_id(export) }));
        }
    }
}
