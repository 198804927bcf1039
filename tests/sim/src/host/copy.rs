//! A full copy of an export from the other node: the product's own source and receiver, part by part, while everything else
//! goes on.

use replica::group::LogPin;
use replica::image::{self, Place, Receiver, Sending, Sent};
use replica::node::Input;

use super::server::export_dir;
use crate::queue::Event;
use crate::world::{MS, World};

/// After a copy that failed, no other before this.
const RETRY_NS: u64 = 2_000 * MS;
/// A receiver that does not take part so long after its copy's end must be copied again.
const JOIN_NS: u64 = 120_000 * MS;

/// A copy on its way.
pub struct Copy {
    sending: Sending,
    receiver: Option<Receiver>,
    /// Processes: of the receiving host, of the source.
    lives: [u64; 2],
}

/// Log that is kept for a receiver after its copy's end.
pub struct Kept {
    /// Up to here it must have come.
    pub end: u64,
    /// Not longer than that.
    pub until: u64,
    _pin: LogPin,
}

impl World {
    /// Where an export's directory is on a host.
    pub fn place(&self, h: usize, export: usize) -> Place {
        let disk = std::sync::Arc::new(self.hosts[h].disk.clone());
        Place::new(disk, export_dir(export), self.wal_options())
    }

    /// A node that needs a copy asks for it; or the next part comes.
    pub fn copy(&mut self, h: usize, export: usize) {
        if self.copies.contains_key(&(h, export)) {
            return self.copy_goes_on(h, export);
        }
        let now = self.now;
        let connected = self.session.number % 2 == 1 && !self.session.silent;
        let Some(process) = self.hosts[h].process.as_ref() else { return };
        if !connected || now < process.copy_not_before || now < self.hosts[h].paused_until {
            return;
        }
        let serves = |run: &mut super::server::Run| run.parts.group.node_status().serving;
        if self.group(h, export).is_none_or(serves) {
            return;
        }
        self.hosts[1 - h].set_clock(now);
        let Some(run) = self.group(1 - h, export) else { return };
        if !serves(run) {
            return self.copy_failed(h, "the other node does not serve the export");
        }
        let sending = match Sending::begin(run.parts.group.source()) {
            Ok(sending) => sending,
            Err(error) => return self.copy_failed(h, &error.to_string()),
        };
        self.say(format!("host {h}: a copy of export {export} begins"));
        *self.stats.faults.entry("copies made").or_default() += 1;
        self.stop_group(h, export);
        let lives = [self.hosts[h].life, self.hosts[1 - h].life];
        self.copies.insert((h, export), Copy { sending, receiver: None, lives });
        self.at(2 * MS, Event::Copy(h, export));
    }

    fn copy_failed(&mut self, h: usize, why: &str) {
        self.say(format!("host {h}: the copy failed: {why}"));
        let until = self.now + RETRY_NS;
        if let Some(process) = self.hosts[h].process.as_mut() {
            process.copy_not_before = until;
        }
    }

    /// The next part.
    fn copy_goes_on(&mut self, h: usize, export: usize) {
        let Some(mut copy) = self.copies.remove(&(h, export)) else { return };
        if copy.lives[0] != self.hosts[h].life || self.hosts[h].process.is_none() {
            return;
        }
        let source = 1 - h;
        let cut = !self.net.nodes_reach(self.now);
        if cut || copy.lives[1] != self.hosts[source].life || self.hosts[source].process.is_none() {
            return self.copy_ends(h, export, Err("the other node is gone".into()));
        }
        let paused = self.hosts[h].paused_until.max(self.hosts[source].paused_until);
        if self.now < paused {
            self.copies.insert((h, export), copy);
            self.queue.push(paused, Event::Copy(h, export));
            return;
        }
        self.hosts[source].set_clock(self.now);
        let sent = copy.sending.next_part();
        self.hosts[h].set_clock(self.now);
        let whole = match sent {
            Ok(Sent::Wait) => Ok(false),
            Ok(Sent::Part(part)) => match &mut copy.receiver {
                Some(receiver) => receiver.part(part).map(|_| false),
                None => {
                    let place = self.place(h, export);
                    let old = image::old_vote(&place);
                    Receiver::begin(&place, &old, part).map(|receiver| {
                        copy.receiver = Some(receiver);
                        false
                    })
                }
            },
            Ok(Sent::Done(end, pin)) => {
                let until = self.now + JOIN_NS;
                if let Some(run) = self.group(source, export) {
                    run.kept.push(Kept { end, until, _pin: pin });
                }
                Ok(true)
            }
            Err(error) => Err(error),
        };
        match whole {
            Ok(true) => self.copy_ends(h, export, Ok(())),
            Ok(false) => {
                self.copies.insert((h, export), copy);
                let delay = self.rng.between(1, 15) * MS;
                self.at(delay, Event::Copy(h, export));
            }
            Err(error) => self.copy_ends(h, export, Err(error.to_string())),
        }
    }

    fn copy_ends(&mut self, h: usize, export: usize, outcome: Result<(), String>) {
        match outcome {
            Ok(()) => self.say(format!("host {h}: the copy of export {export} is complete")),
            Err(why) => self.copy_failed(h, &why),
        }
        let run = self.open_group(h, export);
        if let Some(process) = self.hosts[h].process.as_mut() {
            process.groups[export] = run;
        }
        if std::mem::take(&mut self.checks.doomed[h]) {
            return self.kill_server(h, true);
        }
        // The group that runs now has not heard of the session.
        self.disconnect();
        self.wake(h, MS);
    }

    /// A group stops cleanly.
    pub fn stop_group(&mut self, h: usize, export: usize) {
        self.hosts[h].set_clock(self.now);
        let Some(run) = self.group(h, export) else { return };
        run.parts.group.input(Input::Stop);
        for _ in 0..1000 {
            let parts = &mut run.parts;
            parts.driver.turn();
            parts.logger.append_gathered();
            parts.logger.sync_if_due();
            parts.applier.turn(usize::MAX);
            parts.keeper.turn();
            if parts.driver.is_stopped()
                && parts.logger.is_stopped()
                && parts.applier.is_stopped()
                && parts.keeper.is_stopped()
            {
                break;
            }
        }
        if let Some(process) = self.hosts[h].process.as_mut() {
            process.groups[export] = None;
        }
    }

    /// Before a group starts: a whole copy that is there takes the old one's place.
    pub fn install(&mut self, h: usize, export: usize) -> Result<(), String> {
        image::install(&self.place(h, export)).map(|_| ()).map_err(|e| e.to_string())
    }
}
