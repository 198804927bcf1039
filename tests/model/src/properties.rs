//! What must hold in every state, and what must be possible at all.

use stateright::Property;

use crate::config::Config;
use crate::state::{Gate, State, other};

/// At most one leader a term.
pub const TERM: &str = "one leader a term";
/// Of two nodes at most one holds a lease and serves.
pub const LEASE: &str = "one node serves";
/// What a leader committed is in every primary that serves later, and applied there.
pub const COMMITTED: &str = "what was committed is never lost";
/// Who lacks an entry that a witness vouched for is not elected.
pub const ELECTED: &str = "who lacks a vouched entry is not elected";
/// A copy that lacks something committed is known to: it is recovering or blank, or the other one is marked solo.
pub const SOLO: &str = "a copy that goes on alone is known to";
/// The address is on both hosts for a lease at most.
pub const ADDRESS: &str = "an address on both hosts goes within a lease";
/// An address without a lease is a dead server's, and the peer can order it down.
pub const PARKED: &str = "an address without a lease can be ordered down";
/// From every state some path leads to serving again.
pub const PROGRESS: &str = "some path leads to serving again";
/// The loss of either box is survived while neither copy is known to be alone.
pub const EITHER: &str = "a copy that lacks nothing can go on with the witness";

pub fn all(cfg: &Config) -> Vec<Property<Config>> {
    let mut all = vec![
        Property::always(TERM, |_, state: &State| !state.seen.two_leaders),
        Property::always(LEASE, |_, state: &State| state.nodes.iter().filter(|n| n.serves()).count() < 2),
        Property::always(COMMITTED, |_, state: &State| nothing_is_lost(state)),
        Property::always(ELECTED, |_, state: &State| leaders_have_what_is_vouched_for(state)),
        Property::always(SOLO, |_, state: &State| lone_copies_are_known(state)),
    ];
    if cfg.addresses {
        all.push(Property::always(ADDRESS, |cfg: &Config, state: &State| state.seen.both_up <= cfg.lease));
        all.push(Property::always(PARKED, |_, state: &State| {
            let parked = |g: &crate::state::Guardian| g.lease == 0 && g.up;
            state.link || !state.nodes.iter().any(|n| parked(&n.guardian))
        }));
    }
    if cfg.progress {
        all.push(Property::always(PROGRESS, crate::progress::some_path_leads_to_serving));
        all.push(Property::always(EITHER, crate::progress::either_copy_can_go_on));
    }
    if cfg.broken.is_none() {
        all.extend(possible(cfg));
    }
    all
}

/// That a run shows nothing because nothing can happen in it, it would say here.
fn possible(cfg: &Config) -> Vec<Property<Config>> {
    let mut all = vec![
        Property::sometimes("the other node takes over", |_, state: &State| state.nodes[1].serves()),
        Property::sometimes("an entry of the last term is committed", |cfg: &Config, state: &State| {
            state.seen.committed.last_term() == cfg.terms
        }),
    ];
    let budget = &cfg.budget;
    if budget.gates > 0 {
        all.push(Property::sometimes("the witness and one copy commit", |_, state: &State| {
            state.nodes.iter().any(|n| n.tenure().is_some_and(|t| t.vouched > t.matched && n.serves()))
        }));
        all.push(Property::sometimes("the gate is closed again", |cfg: &Config, state: &State| {
            let closed = |t: &crate::state::Tenure| t.gate == Gate::Closed && t.sent > 0;
            state.left.gates < cfg.budget.gates && state.nodes.iter().any(|n| n.tenure().is_some_and(closed))
        }));
    }
    if budget.power > 0 && cfg.durability == crate::Durability::Memory {
        all.push(Property::sometimes(
            "a recovering copy is complete again",
            |cfg: &Config, state: &State| {
                let whole =
                    state.nodes.iter().all(|n| n.process.is_some() && !n.disk.recovering && !n.disk.solo);
                state.left.power < cfg.budget.power && state.left.gates == cfg.budget.gates && whole
            },
        ));
    }
    if budget.witness_wipes > 0 || cfg.cold {
        all.push(Property::sometimes(
            "a new witness is adopted and has the group's state",
            |_, state: &State| {
                state.witness.identity == crate::state::NEW_WITNESS && state.witness.state.is_some()
            },
        ));
    }
    all
}

fn nothing_is_lost(state: &State) -> bool {
    let committed = state.seen.committed;
    let has_all = |n: &crate::state::Node| {
        n.disk.log.starts_with(committed) && n.process.is_some_and(|p| p.commit >= committed.len())
    };
    !state.seen.two_histories && state.nodes.iter().filter(|n| n.serves()).all(has_all)
}

fn leaders_have_what_is_vouched_for(state: &State) -> bool {
    let (term, index) = state.seen.vouched;
    let leaders = state.nodes.iter().filter(|n| n.tenure().is_some() && n.disk.term >= term);
    index == 0 || leaders.into_iter().all(|n| n.disk.log.term(index) == Some(term))
}

fn lone_copies_are_known(state: &State) -> bool {
    (0..state.nodes.len()).all(|id| {
        let disk = &state.nodes[id].disk;
        disk.log.starts_with(state.seen.committed)
            || disk.recovering
            || disk.blank
            || state.nodes[other(id)].disk.solo
    })
}
