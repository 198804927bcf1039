//! Goal: the rules by which a group elects, commits, goes on alone and serves lose nothing and end nowhere; and each of them
//! is needed.
//! Method: a checker looks at every state that is reachable within small bounds (`hanfs_model::quick`), and how many there
//! are is committed, so that a model which says less than it did is noticed. Then the same with one rule broken at a time,
//! where the checker must find what that leads to.

use hanfs_model::{Rule, breakages, quick};
use stateright::{Checker, HasDiscoveries, Model};

/// Every state of a run, and how many.
fn explore(name: &str) {
    let run = quick().into_iter().find(|run| run.name == name).expect("a run of that name");
    let checker = run.checker().spawn_bfs().join();
    checker.assert_properties();
    assert_eq!(checker.unique_state_count(), run.states, "different states of {name}: the model has changed");
}

/// The shortest way to what a broken rule leads to.
fn breaks(rule: Rule) {
    let (_, config, property) = breakages().into_iter().find(|b| b.0 == rule).expect("a run for that rule");
    let checker = config.checker().finish_when(HasDiscoveries::AnyOf([property].into())).spawn_bfs().join();
    let path = checker.discovery(property).unwrap_or_else(|| panic!("{rule:?} broken, and nothing is wrong"));
    println!("{rule:?}: {:?}", path.into_actions());
}

macro_rules! runs {
    ($($test:ident: $name:literal;)*) => { $(#[test] fn $test() { explore($name); })* };
}

macro_rules! rules {
    ($($test:ident: $rule:ident;)*) => { $(#[test] fn $test() { breaks(Rule::$rule); })* };
}

runs! {
    a_server_is_killed: "kill";
    the_session_is_reset: "reset";
    a_host_loses_power: "power";
    one_copy_goes_on_alone: "gate";
    the_leadership_is_handed_over: "transfer";
    the_witness_is_replaced: "witness";
    a_disk_is_replaced: "disk";
    a_group_is_founded: "cold";
    the_address_moves: "address";
}

rules! {
    a_wiped_witness_that_votes: WitnessIdentity;
    votes_in_the_page_cache: VotesSynced;
    a_recovering_node_with_the_witnesss_vote: RecoveringNotByWitness;
    recovering_that_ends_at_the_commit_index: RecoveringToTheLastEntry;
    a_gate_that_closes_at_what_was_acknowledged: GateClosesAboveSent;
    a_solo_mark_that_stays: MarkGoesBeforeGateCloses;
    a_pair_that_decreases: PairNeverDecreases;
    a_witness_that_hears_of_what_is_not_durable: DurableBeforeWitness;
    a_lease_from_the_receive_time: LeaseFromSendTime;
    a_promise_forgotten_at_a_restart: PromiseAfterRestart;
    a_transfer_that_keeps_the_lease: TransferGivesLeaseUp;
    a_blank_node_that_votes: BlankVotesForNobody;
    an_address_that_outlives_the_lease: AddressGoesWithLease;
    an_address_parked_without_anybody_to_order_it_down: ParkOnlyWhileConnected;
}
