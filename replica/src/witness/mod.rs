//! The third voter, which carries no data: for each group a term, a vote, and the last entry that it vouches for.
//!
//! `state` is the voter of one group, sans-IO; `store` keeps its state, one small file per group. Whoever answers for a
//! witness makes the state durable first. One group's answer never waits for another's disk.

mod state;
mod store;

pub use state::{WitnessState, WitnessVoter};
pub use store::{WitnessFile, WitnessStore, WitnessStoreError};
