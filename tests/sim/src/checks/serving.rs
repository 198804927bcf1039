//! One server answers for an export at any instant, and its address is on one host, but for what fencing takes.

use crate::world::{MS, World};

/// Two hosts may have an address for this long: the one that must lose it sees its lease end no later than the other may
/// be elected, and acts on a timer.
const TWO_ADDRESSES_NS: u64 = 50 * MS;

impl World {
    /// At most one process may answer for an export, at any instant of the world's time.
    pub fn check_leases(&mut self) {
        for export in 0..self.setup.exports {
            let mut holders = Vec::new();
            for h in 0..2 {
                let local = self.hosts[h].local(self.now);
                let until = self.group(h, export).map_or(0, |run| run.parts.group.lease_until_ns());
                if local < until {
                    holders.push(h);
                }
            }
            if holders.len() > 1 {
                self.fail(format!("both hosts may answer for export {export}"));
            }
            self.check_addresses(export);
        }
    }

    /// An address on two hosts.
    pub fn check_addresses(&mut self, export: usize) {
        let both = self.hosts.iter().all(|h| h.on && h.guardian.addresses[export].up);
        let since = &mut self.checks.two_addresses_since[export];
        if !both {
            *since = None;
            return;
        }
        let since = *since.get_or_insert(self.now);
        if self.now > since + TWO_ADDRESSES_NS {
            self.fail(format!(
                "the address of export {export} is on both hosts for {} ms",
                (self.now - since) / MS
            ));
        }
    }

    /// An answer goes out.
    pub fn check_answer(&mut self, h: usize, export: usize) {
        let local = self.hosts[h].local(self.now);
        let until = self.group(h, export).map_or(0, |run| run.parts.group.lease_until_ns());
        self.stats.answers += 1;
        if local >= until + MS {
            self.fail(format!("host {h} answers for export {export} without a lease"));
        }
    }
}
