//! The replication protocol as a model that a checker explores: every order of messages, faults and steps within bounds.
//!
//! It says again, in small, what `replica::node`, `replica::witness` and the guardian's deadline do; it shares no code with
//! them, so that it can be wrong only by itself. `config` has the bounds and the rules that can be broken, `state` what a
//! state is, `actions` what may happen in one; `node`, `leader`, `witness`, `address` and `faults` carry that out; `properties`
//! is what must hold, `progress` that no state is a dead end. `docs/model.md` says what is left out.

mod actions;
mod address;
mod config;
mod faults;
mod leader;
mod log;
mod message;
mod node;
mod progress;
mod properties;
mod scenarios;
mod state;
mod witness;

pub use actions::Action;
pub use config::{Budget, Config, Durability, Rule};
pub use properties::{ADDRESS, COMMITTED, EITHER, ELECTED, LEASE, PARKED, PROGRESS, SOLO, TERM};
pub use scenarios::{Scenario, breakages, deep, quick};
pub use state::State;
