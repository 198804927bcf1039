//! The data-less voter: `replica::witness` again, in small.

use crate::config::{Config, Rule};
use crate::message::{Candidacy, Reply, Request};
use crate::state::{State, Vouched, Witness};

impl State {
    /// One of the requests on their way arrives, whichever.
    pub(crate) fn witness_hears(&mut self, cfg: &Config, at: usize) {
        let (from, request) = self.requests.remove(at);
        let reply = match request {
            Request::Stand(candidacy) => self.witness.vote(cfg, from, &candidacy),
            Request::Ping { term, age } => self.witness.ping(cfg, from, term, age),
            Request::Vouch { term, pair, adopt } => {
                let reply = self.witness.vouch(cfg, from, term, pair, adopt);
                if matches!(reply, Some(Reply::Vouched { .. })) {
                    self.seen.vouched = self.seen.vouched.max(pair);
                }
                reply
            }
        };
        if let Some(reply) = reply {
            self.answer(from, reply);
        }
        // A request of a term that is over could only be refused; whoever sent it learns that by its next one.
        let term = self.witness.state.map_or(0, |s| s.term);
        self.requests.retain(|(_, request)| request.term() >= term);
    }
}

impl Witness {
    fn vote(&mut self, cfg: &Config, from: u8, c: &Candidacy) -> Option<Reply> {
        let state = self.state.as_mut()?;
        let free = c.lease_void || c.transfer || self.promise == 0;
        if c.recovering && cfg.holds(Rule::RecoveringNotByWitness) || !free || c.end < state.pair {
            return None;
        }
        if c.term < state.term {
            return Some(Reply::Later { term: state.term });
        }
        if c.term == state.term && state.vote != from + 1 && state.vote != 0 {
            return None;
        }
        (state.term, state.vote) = (c.term, from + 1);
        Some(Reply::Vote { term: c.term })
    }

    fn ping(&mut self, cfg: &Config, from: u8, term: u8, age: u8) -> Option<Reply> {
        let state = self.state.as_mut()?;
        if !state.follow(from, term) {
            return Some(Reply::Later { term: state.term });
        }
        self.promise = cfg.promise;
        Some(Reply::Pong { term, age })
    }

    fn vouch(&mut self, cfg: &Config, from: u8, term: u8, pair: (u8, u8), adopt: bool) -> Option<Reply> {
        if adopt {
            self.state.get_or_insert(Vouched { term, vote: from + 1, pair: (0, 0) });
        }
        let state = self.state.as_mut()?;
        if !state.follow(from, term) {
            return Some(Reply::Later { term: state.term });
        }
        self.promise = cfg.promise;
        if pair >= state.pair || !cfg.holds(Rule::PairNeverDecreases) {
            state.pair = pair;
        }
        Some(Reply::Vouched { term, pair: state.pair })
    }

    pub fn restart(&mut self, cfg: &Config) {
        self.promise = if cfg.holds(Rule::PromiseAfterRestart) { cfg.promise } else { 0 };
    }

    /// Its directory is gone. The next process there is another witness.
    pub fn wipe(&mut self, cfg: &Config) {
        if cfg.holds(Rule::WitnessIdentity) {
            self.identity += 1;
            self.state = None;
        } else {
            self.state = Some(Vouched::default());
        }
        self.restart(cfg);
    }
}

impl Vouched {
    /// A leader of this term speaks. False: it is deposed.
    fn follow(&mut self, from: u8, term: u8) -> bool {
        if term < self.term {
            return false;
        }
        if term > self.term {
            (self.term, self.vote) = (term, from + 1);
        }
        true
    }
}
