//! What may happen in a state. Whatever is listed may happen next, in any order: that is what delay means here.

use stateright::{Model, Property};

use crate::config::{Config, Rule};
use crate::message::{QUEUE_MAX, Reply, Request};
use crate::state::{Gate, Node, Role, State, other};

/// One step. Nodes are 0 and 1; 0 leads at the beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Time passes.
    Tick,
    /// A node receives the session's next message.
    Hear(usize),
    /// The witness receives a request on its way.
    WitnessHears(usize),
    /// A node receives one of the witness's answers.
    HearWitness(usize),
    /// A node fdatasyncs what it wrote.
    Sync(usize),
    /// A node stands for election.
    Stand(usize),
    /// A node hears that the other's server is gone.
    HearGone(usize),
    /// A leader sends its log up to this entry, and a ping.
    Append(usize, u8),
    /// A leader pings the witness.
    Ping(usize),
    /// A client's operation is proposed.
    Propose(usize),
    /// A leader takes its backup for lost.
    OpenGate(usize),
    /// It tells the witness what is durable.
    Vouch(usize),
    /// It stops doing so, for the backup is nearly level.
    Closing(usize),
    /// The backup is lost again.
    Reopen(usize),
    /// The gate is closed.
    CloseGate(usize),
    /// A leader hands over.
    Transfer(usize),
    /// The transfer came to nothing.
    GiveUp(usize),
    /// A leader logs that the witness which answers is adopted.
    Adopt(usize),
    /// The group's state on the witness is born.
    Birth(usize),
    /// A node's server process is killed.
    Kill(usize),
    /// A node's host loses its power.
    LosePower(usize),
    /// A node's disk is replaced.
    LoseDisk(usize),
    /// A node's server starts.
    Start(usize),
    /// The session is reset.
    Reset,
    /// A new session.
    Connect,
    /// The witness restarts.
    RestartWitness,
    /// The witness's directory is lost.
    WipeWitness,
    /// The stream of guardian and peer breaks.
    BreakLink,
    /// It is there again.
    MendLink,
    /// A primary raises the address.
    Raise(usize),
    /// A primary's order takes the address down at the other node.
    Release(usize),
    /// A server that does not serve takes its own address down.
    Lower(usize),
}

impl Model for Config {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        assert!(self.queue <= QUEUE_MAX);
        vec![State::first(self)]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        actions.push(Action::Tick);
        actions.extend((0..state.requests.len()).map(Action::WitnessHears));
        actions.extend((0..state.replies.len()).map(Action::HearWitness));
        for id in 0..state.nodes.len() {
            match &state.nodes[id].process {
                None => actions.push(Action::Start(id)),
                Some(_) => {
                    self.of_a_node(state, id, actions);
                    self.of_a_leader(state, id, actions);
                    self.of_an_address(state, id, actions);
                }
            }
            self.faults_of_a_node(state, id, actions);
        }
        self.faults(state, actions);
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        state.take(self, action);
        state.report_leases();
        state.forget_what_says_nothing(self);
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        crate::properties::all(self)
    }
}

fn when(possible: bool, action: Action, actions: &mut Vec<Action>) {
    if possible {
        actions.push(action);
    }
}

impl Config {
    fn of_a_node(&self, state: &State, id: usize, actions: &mut Vec<Action>) {
        let node = &state.nodes[id];
        let gone = node.process.is_some_and(|p| p.gone);
        let unsynced = node.disk.durable < node.disk.log.len()
            || node.disk.synced_vote != (node.disk.term, node.disk.vote);
        when(state.queues[id].len() > 0, Action::Hear(id), actions);
        when(unsynced, Action::Sync(id), actions);
        when(state.may_stand(self, id), Action::Stand(id), actions);
        when(gone, Action::HearGone(id), actions);
    }

    fn of_a_leader(&self, state: &State, id: usize, actions: &mut Vec<Action>) {
        let node = &state.nodes[id];
        let Some(tenure) = node.tenure() else { return };
        let last = node.disk.log.len();
        let room = state.session && state.queues[other(id)].len() < self.queue;
        // A ping or an append that tells nothing new is as good as one that was lost.
        let renews = tenure.lease < self.lease && !tenure.void;
        if room && (renews || state.peer_lacks(self, id)) {
            actions.push(Action::Append(id, last));
            when(tenure.matched + 1 < last, Action::Append(id, tenure.matched + 1), actions);
        }
        let adopted = node.disk.witness == state.witness.identity;
        when(adopted && renews && !state.is_pinging(id), Action::Ping(id), actions);
        when(node.serves() && state.left.entries > 0, Action::Propose(id), actions);
        let may_open = !tenure.void && !node.disk.recovering && adopted && state.witness.state.is_some();
        let budget = state.left.gates > 0 || node.disk.solo;
        when(tenure.gate == Gate::Closed && may_open && budget, Action::OpenGate(id), actions);
        let vouches = state.to_vouch(self, id).is_some_and(|index| !state.is_vouching(id, index));
        when(vouches && may_open, Action::Vouch(id), actions);
        when(tenure.gate == Gate::Open && state.session && tenure.matched > 0, Action::Closing(id), actions);
        when(tenure.gate == Gate::Closing && !state.session, Action::Reopen(id), actions);
        when(state.may_close(self, id), Action::CloseGate(id), actions);
        let level = state.in_sync(id) && tenure.matched == last && !tenure.peer_recovering;
        when(level && room && !tenure.void && state.left.transfers > 0, Action::Transfer(id), actions);
        when(tenure.void, Action::GiveUp(id), actions);
        let adopts = node.serves()
            && state.in_sync(id)
            && node.disk.witness != state.witness.identity
            && !node.disk.log.adopts_up_to(last);
        when(adopts, Action::Adopt(id), actions);
        let births = state.to_birth(id).is_some_and(|index| !state.is_vouching(id, index));
        when(births, Action::Birth(id), actions);
    }

    fn of_an_address(&self, state: &State, id: usize, actions: &mut Vec<Action>) {
        if !self.addresses {
            return;
        }
        let (own, peer) = (&state.nodes[id], &state.nodes[other(id)]);
        when(own.serves() && !own.guardian.up, Action::Raise(id), actions);
        when(own.serves() && peer.guardian.up && state.link, Action::Release(id), actions);
        when(!own.serves() && own.guardian.up, Action::Lower(id), actions);
    }

    fn faults_of_a_node(&self, state: &State, id: usize, actions: &mut Vec<Action>) {
        let up = state.nodes[id].process.is_some();
        when(up && state.left.kills > 0, Action::Kill(id), actions);
        when(state.left.power > 0, Action::LosePower(id), actions);
        when(state.left.wipes > 0, Action::LoseDisk(id), actions);
    }

    fn faults(&self, state: &State, actions: &mut Vec<Action>) {
        let both = state.nodes.iter().all(|n| n.process.is_some());
        when(state.session && state.left.resets > 0, Action::Reset, actions);
        when(!state.session && both, Action::Connect, actions);
        when(state.left.witness_restarts > 0, Action::RestartWitness, actions);
        when(state.left.witness_wipes > 0, Action::WipeWitness, actions);
        when(state.link && state.left.links > 0, Action::BreakLink, actions);
        when(!state.link, Action::MendLink, actions);
    }
}

impl State {
    fn take(&mut self, cfg: &Config, action: Action) {
        match action {
            Action::Tick => self.tick(cfg),
            Action::Hear(id) => self.hear(cfg, id),
            Action::WitnessHears(at) => self.witness_hears(cfg, at),
            Action::HearWitness(at) => {
                let (id, identity, reply) = self.replies.remove(at);
                self.hear_witness(cfg, usize::from(id), identity, reply);
            }
            Action::Sync(id) => self.sync(cfg, id),
            Action::Stand(id) => self.stand(cfg, id, false),
            Action::HearGone(id) => {
                if let Some(process) = &mut self.nodes[id].process {
                    process.hear_gone();
                }
            }
            Action::MendLink => self.link = true,
            Action::Connect => self.connect(),
            Action::Start(id) => self.start(cfg, id),
            Action::Raise(id) => self.raise(id),
            Action::Release(id) => self.lower(other(id)),
            Action::Lower(id) => self.lower(id),
            _ if self.lead(cfg, action) => {}
            _ => self.fail(cfg, action),
        }
    }

    /// What a leader does. False: it is not that.
    fn lead(&mut self, cfg: &Config, action: Action) -> bool {
        match action {
            Action::Append(id, upto) => self.send_append(cfg, id, upto),
            Action::Ping(id) => self.ask(id, Request::Ping { term: self.nodes[id].disk.term, age: 0 }),
            Action::Propose(id) => {
                self.left.entries -= 1;
                let disk = &mut self.nodes[id].disk;
                disk.log.push(disk.term, false);
                self.count(cfg, id);
            }
            Action::OpenGate(id) => {
                self.left.gates -= u8::from(!self.nodes[id].disk.solo);
                self.open_gate(id);
            }
            Action::Vouch(id) => {
                let index = self.to_vouch(cfg, id).unwrap_or(0);
                self.send_vouch(id, index, false);
            }
            Action::Closing(id) => self.move_gate(id, Gate::Closing),
            Action::Reopen(id) => self.move_gate(id, Gate::Open),
            Action::CloseGate(id) => self.close_gate(cfg, id),
            Action::Transfer(id) => {
                self.left.transfers -= 1;
                self.transfer(cfg, id);
            }
            Action::GiveUp(id) => self.give_up(id),
            Action::Adopt(id) => self.adopt(cfg, id),
            Action::Birth(id) => {
                let index = self.to_birth(id).unwrap_or(0);
                self.send_vouch(id, index, true);
            }
            _ => return false,
        }
        true
    }

    fn fail(&mut self, cfg: &Config, action: Action) {
        match action {
            Action::Kill(id) => {
                self.left.kills -= 1;
                self.kill(cfg, id);
            }
            Action::LosePower(id) => {
                self.left.power -= 1;
                self.lose_power(cfg, id);
            }
            Action::LoseDisk(id) => {
                self.left.wipes -= 1;
                self.lose_disk(id);
            }
            Action::Reset => {
                self.left.resets -= 1;
                self.reset();
            }
            Action::RestartWitness => {
                self.left.witness_restarts -= 1;
                self.witness.restart(cfg);
            }
            Action::WipeWitness => {
                self.left.witness_wipes -= 1;
                self.witness.wipe(cfg);
            }
            Action::BreakLink => {
                self.left.links -= 1;
                self.break_link(cfg);
            }
            other => unreachable!("{other:?} is carried out elsewhere"),
        }
    }

    fn move_gate(&mut self, id: usize, gate: Gate) {
        if let Some(tenure) = self.nodes[id].tenure_mut() {
            tenure.gate = gate;
        }
    }

    fn is_pinging(&self, id: usize) -> bool {
        let ping = Request::Ping { term: self.nodes[id].disk.term, age: 0 };
        self.requests.contains(&(id as u8, ping))
    }

    fn is_vouching(&self, id: usize, index: u8) -> bool {
        let mine = |(from, request): &(u8, Request)| {
            usize::from(*from) == id
                && matches!(request, Request::Vouch { term, pair, .. }
                    if *term == self.nodes[id].disk.term && pair.1 == index)
        };
        self.requests.iter().any(mine)
    }

    /// An answer of the witness that would change nothing, now or later, need not be told apart from none.
    fn forget_what_says_nothing(&mut self, cfg: &Config) {
        let nodes = &self.nodes;
        self.replies.retain(|(to, _, reply)| nodes[usize::from(*to)].may_learn_from(cfg, reply));
    }
}

impl Node {
    fn may_learn_from(&self, cfg: &Config, reply: &Reply) -> bool {
        let candidate = self.process.is_some_and(|p| p.role == Role::Candidate);
        let vouched = self.tenure().map(|t| t.vouched);
        let stale_counts = !cfg.holds(Rule::LeaseFromSendTime);
        match *reply {
            Reply::Vote { term } => candidate && term == self.disk.term,
            Reply::Pong { term, age } => {
                vouched.is_some() && term == self.disk.term && (age < cfg.lease || stale_counts)
            }
            Reply::Vouched { term, pair } => {
                term == self.disk.term && pair.0 == term && vouched.is_some_and(|v| v < pair.1)
            }
            Reply::Later { term } => self.process.is_some() && term > self.disk.term,
        }
    }
}
