//! Clusters of real processes on loopback: what is killed, cut, filled and damaged, and what a client keeps of it.
//!
//! One test at a time (`--test-threads=1`): leases are real time, and the machine is one.

mod alone;
mod arbiter;
mod copy;
mod damage;
mod drill;
mod full;
mod kill;
mod memory;
mod reload;
mod strangers;
