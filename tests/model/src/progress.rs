//! That no state is a dead end: from each, some path leads to a primary that serves.
//!
//! The path is looked for, not proved to be taken: faults end, everything that is down starts, and the two nodes stand in
//! turn. Each step on it is one that the model allows; only the bound on terms is lifted, since it is the checker's and
//! not the protocol's.

use stateright::Model;

use crate::Action;
use crate::config::{Budget, Config};
use crate::log::TERM_MAX;
use crate::message::QUEUE_MAX;
use crate::state::{State, other};

/// Elections on the path, at most.
const ROUNDS: usize = 4;
/// Messages that one round delivers, at most.
const STEPS_MAX: usize = 60;

pub fn some_path_leads_to_serving(cfg: &Config, state: &State) -> bool {
    if needs_a_person(state) {
        return true;
    }
    let mut path = Path::new(cfg, state);
    path.everything_is_there();
    (0..ROUNDS).any(|round| path.leads_to_serving(round % 2))
}

/// What was committed is on no disk any more, or one copy is all that is left and nobody may vote for it. (Then
/// `hanfs takeover --force` decides.)
fn needs_a_person(state: &State) -> bool {
    let pair = state.witness.state.map_or((0, 0), |s| s.pair);
    let whole = |id: usize| {
        let log = state.nodes[id].disk.log;
        log.starts_with(state.seen.committed) && log.end() >= pair
    };
    let nobody_votes = |id: usize| {
        let no_witness =
            state.witness.state.is_none() || state.nodes[id].disk.witness != state.witness.identity;
        state.nodes[other(id)].disk.blank && (no_witness || state.nodes[id].disk.recovering)
    };
    (0..2).all(|id| !whole(id) || nobody_votes(id))
}

/// A copy that lacks nothing can go on with the witness alone, unless the other one is marked solo.
pub fn either_copy_can_go_on(cfg: &Config, state: &State) -> bool {
    (0..2).all(|id| !lacks_nothing(state, id) || goes_on_alone(cfg, state, id))
}

fn lacks_nothing(state: &State, id: usize) -> bool {
    let (own, peer) = (&state.nodes[id].disk, &state.nodes[other(id)].disk);
    let whole = own.log.starts_with(state.seen.committed) && !own.recovering && !own.blank;
    let witness_counts = state.witness.state.is_some() && state.witness.identity == own.witness;
    whole && witness_counts && !peer.solo && !peer.blank
}

fn goes_on_alone(cfg: &Config, state: &State, id: usize) -> bool {
    let mut path = Path::new(cfg, state);
    path.cfg.addresses = false;
    path.state.reset();
    path.state.nodes[other(id)].process = None;
    path.state.left.gates = 1;
    path.alone = true;
    path.step(Action::Start(id));
    (0..ROUNDS).any(|_| path.leads_to_serving(id))
}

struct Path {
    cfg: Config,
    state: State,
    actions: Vec<Action>,
    /// The other node is gone for good.
    alone: bool,
}

impl Path {
    fn new(cfg: &Config, state: &State) -> Self {
        let cfg = Config { terms: TERM_MAX, queue: QUEUE_MAX, ..cfg.clone() };
        let mut state = state.clone();
        // Calls to the witness that are on their way are lost.
        state.requests.clear();
        state.replies.clear();
        state.left = Budget::default();
        Self { cfg, state, actions: Vec::new(), alone: false }
    }

    fn serves(&self) -> bool {
        self.state.nodes.iter().any(crate::state::Node::serves)
    }

    /// Takes a step if the model allows it here.
    fn step(&mut self, action: Action) -> bool {
        self.actions.clear();
        self.cfg.actions(&self.state, &mut self.actions);
        let next = self.actions.contains(&action).then(|| self.cfg.next_state(&self.state, action));
        match next.flatten() {
            Some(next) => {
                self.state = next;
                true
            }
            None => false,
        }
    }

    fn everything_is_there(&mut self) {
        self.step(Action::MendLink);
        for id in 0..2 {
            self.step(Action::Start(id));
        }
        self.step(Action::Connect);
    }

    fn leads_to_serving(&mut self, first: usize) -> bool {
        self.drain();
        for id in [first, other(first)] {
            if self.state.nodes[id].process.is_none() {
                continue;
            }
            if self.serves() {
                return true;
            }
            let leads = self.state.nodes[id].tenure().is_some();
            if leads {
                self.step(Action::GiveUp(id));
            } else {
                for _ in 0..=self.cfg.promise {
                    self.step(Action::Tick);
                }
                self.step(Action::Stand(id));
            }
            self.drain();
        }
        self.serves()
    }

    /// Delivers all that is on its way and what follows from it.
    fn drain(&mut self) {
        for _ in 0..STEPS_MAX {
            let moved = (0..2).any(|id| self.step(Action::Sync(id)) || self.step(Action::Hear(id)))
                || self.step(Action::WitnessHears(0))
                || self.step(Action::HearWitness(0))
                || (!self.serves() && (0..2).any(|id| self.lead(id)));
            if !moved {
                return;
            }
        }
    }

    fn lead(&mut self, id: usize) -> bool {
        let last = self.state.nodes[id].disk.log.len();
        self.step(Action::Append(id, last))
            || self.step(Action::Ping(id))
            || (self.alone
                && (self.step(Action::OpenGate(id))
                    || self.step(Action::Reopen(id))
                    || self.step(Action::Vouch(id))))
    }
}
