//! The data-less voter of one group, sans-IO: `step(now, request) -> (state to make durable first, reply)`.
//!
//! It never campaigns, never leads and holds no data. Invariants: a state that is returned is durable before the reply
//! leaves; term and pair never decrease, the pair in (term, index) order; one vote a term; it answers "unknown" for a
//! group of which it has no state, and gets one only by adoption; it votes for nobody within a promise of a leader's last
//! ping or of its own start, and never for a candidate that may have lost its tail.

use crate::node::promise_covers;
use proto::peer::{
    Ping, Pong, VoteReply, Vouch, VouchReply, WitnessReply, WitnessRequest, WitnessVote, witness_reply,
    witness_request,
};

use crate::log::{LogIndex, Term};
use crate::planted::{Planted, planted};

/// Terms and indexes beyond this are a bug or a lie: after one, the group could never go on.
const COUNTER_MAX: u64 = 1 << 62;

/// What a witness must never forget of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct WitnessState {
    /// Current term.
    pub term: Term,
    /// Whom it voted for in it; 0: nobody.
    pub vote: u64,
    /// The last entry that it vouches for: its term ..
    pub entry_term: Term,
    /// .. and its index.
    pub index: LogIndex,
}

/// See the module.
#[derive(Debug)]
pub struct WitnessVoter {
    identity: u64,
    promise_ns: u64,
    /// None: no state of this group.
    state: Option<WitnessState>,
    /// No vote before this: what was promised before the start is not known.
    hold_until: u64,
    promised_until: u64,
}

impl WitnessVoter {
    /// As it was when the process stopped. `promise_ns`: the cluster's.
    pub fn new(now: u64, identity: u64, promise_ns: u64, state: Option<WitnessState>) -> Self {
        // Planted: nothing was promised before the start.
        let hold_ns = if planted(Planted::ForgetPromise) { 0 } else { promise_ns };
        Self { identity, promise_ns, state, hold_until: now.saturating_add(hold_ns), promised_until: 0 }
    }

    /// What it knows of the group.
    pub fn state(&self) -> Option<WitnessState> {
        self.state
    }

    /// Answers a request. Where a state comes with the reply, make it durable first; if that fails, drop both and answer
    /// nothing any more. `now` is this host's monotonic clock, ns.
    pub fn step(&mut self, now: u64, request: &WitnessRequest) -> (Option<WitnessState>, WitnessReply) {
        let before = self.state;
        let kind = match &request.kind {
            Some(witness_request::Kind::Vote(vote)) => self.vote(now, request.from, vote),
            Some(witness_request::Kind::Ping(ping)) => self.ping(now, request.from, ping),
            Some(witness_request::Kind::Vouch(vouch)) => self.vouch(now, request.from, vouch),
            None => None,
        };
        let reply = WitnessReply {
            identity: self.identity,
            unknown_group: self.state.is_none(),
            term: self.state.map_or(0, |s| s.term),
            kind,
        };
        (self.state.filter(|_| self.state != before), reply)
    }

    fn vote(&mut self, now: u64, from: u64, request: &WitnessVote) -> Option<witness_reply::Kind> {
        let state = self.state.as_mut()?;
        // Planted: a promise does not hold.
        let promised = now < self.promised_until.max(self.hold_until) && !planted(Planted::VoteWithinPromise);
        let free = request.lease_void || request.transfer || !promised;
        let refusal = if request.term > COUNTER_MAX {
            Some("no group has such a term")
        } else if request.recovering {
            Some("the candidate may have lost its tail")
        } else if !free {
            Some("a leader was heard lately")
        } else if (request.last_term, request.last_index) < (state.entry_term, state.index) {
            Some("the candidate lacks an entry that this witness vouches for")
        } else if request.term < state.term || (request.pre_vote && request.term == state.term) {
            Some("the term is not new")
        } else if request.term == state.term && state.vote != from && state.vote != 0 {
            Some("voted for the other node in this term")
        } else {
            None
        };
        if refusal.is_none() && !request.pre_vote {
            state.term = request.term;
            state.vote = from;
        }
        Some(witness_reply::Kind::Vote(VoteReply {
            granted: refusal.is_none(),
            reason: refusal.unwrap_or_default().to_owned(),
            term: request.term,
            pre_vote: request.pre_vote,
        }))
    }

    fn ping(&mut self, now: u64, from: u64, ping: &Ping) -> Option<witness_reply::Kind> {
        let state = self.state.as_mut()?;
        if !follow(state, from, ping.term) {
            return None;
        }
        if !promise_covers(self.promise_ns, ping.lease_ns) {
            return None;
        }
        self.promised_until = now.saturating_add(self.promise_ns);
        Some(witness_reply::Kind::Pong(Pong { term: ping.term, sent_ns: ping.sent_ns, ..Pong::default() }))
    }

    fn vouch(&mut self, now: u64, from: u64, vouch: &Vouch) -> Option<witness_reply::Kind> {
        let sound = vouch.entry_term <= vouch.term && vouch.index <= COUNTER_MAX;
        if vouch.adopt && sound && vouch.term <= COUNTER_MAX {
            self.state.get_or_insert(WitnessState { term: vouch.term, vote: from, entry_term: 0, index: 0 });
        }
        let state = self.state.as_mut()?;
        // Planted: the pair follows whoever speaks.
        let later = (vouch.entry_term, vouch.index) >= (state.entry_term, state.index)
            || planted(Planted::WitnessPairDecreases);
        let accepted = sound && follow(state, from, vouch.term);
        if accepted {
            self.promised_until = now.saturating_add(self.promise_ns);
            if later {
                (state.entry_term, state.index) = (vouch.entry_term, vouch.index);
            }
        }
        let (index, entry_term) = (state.index, state.entry_term);
        accepted.then_some(witness_reply::Kind::Vouch(VouchReply { accepted: later, index, entry_term }))
    }
}

/// A leader of this term speaks. False: it is deposed, or the term cannot be.
fn follow(state: &mut WitnessState, from: u64, term: Term) -> bool {
    if term < state.term || term > COUNTER_MAX {
        return false;
    }
    if term > state.term {
        // Elected without this voter; whoever asks for a vote in that term comes too late.
        *state = WitnessState { term, vote: from, ..*state };
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROMISE: u64 = 550;
    const START: u64 = 10_000;
    const LATER: u64 = START + PROMISE;

    fn request(from: u64, kind: witness_request::Kind) -> WitnessRequest {
        WitnessRequest { from, kind: Some(kind), ..WitnessRequest::default() }
    }

    fn vote(term: u64, last_term: u64, last_index: u64) -> WitnessVote {
        WitnessVote { term, last_term, last_index, ..WitnessVote::default() }
    }

    fn granted(w: &mut WitnessVoter, now: u64, from: u64, v: WitnessVote) -> bool {
        match w.step(now, &request(from, witness_request::Kind::Vote(v))).1.kind {
            Some(witness_reply::Kind::Vote(reply)) => reply.granted,
            other => panic!("no answer to a vote request: {other:?}"),
        }
    }

    fn vouch(w: &mut WitnessVoter, now: u64, from: u64, v: Vouch) -> (Option<WitnessState>, WitnessReply) {
        w.step(now, &request(from, witness_request::Kind::Vouch(v)))
    }

    fn adopted() -> WitnessVoter {
        WitnessVoter::new(
            START,
            7,
            PROMISE,
            Some(WitnessState { term: 3, vote: 1, entry_term: 3, index: 20 }),
        )
    }

    /// Goal: a witness that lost its memory cannot elect anybody or acknowledge a lease. Method: ask an empty one for
    /// everything, then adopt it.
    #[test]
    fn an_empty_witness_takes_no_part_until_it_is_adopted() {
        let mut w = WitnessVoter::new(START, 7, PROMISE, None);
        for kind in [
            witness_request::Kind::Vote(vote(9, 9, 9)),
            witness_request::Kind::Ping(Ping { term: 9, ..Ping::default() }),
            witness_request::Kind::Vouch(Vouch { term: 9, index: 9, entry_term: 9, adopt: false }),
        ] {
            let (state, reply) = w.step(LATER, &request(1, kind));
            assert_eq!((state, reply.unknown_group, reply.kind), (None, true, None));
        }
        let (state, reply) =
            vouch(&mut w, LATER, 1, Vouch { term: 4, index: 30, entry_term: 4, adopt: true });
        assert_eq!(state, Some(WitnessState { term: 4, vote: 1, entry_term: 4, index: 30 }));
        assert!(
            !reply.unknown_group && matches!(reply.kind, Some(witness_reply::Kind::Vouch(v)) if v.accepted)
        );
        assert!(!granted(&mut w, LATER + PROMISE, 2, vote(4, 4, 30)), "its vote in term 4 is the leader's");
    }

    /// Goal: a backup that missed an entry is never elected. Method: candidates just below and at the pair.
    #[test]
    fn only_a_log_that_has_the_pair_gets_a_vote() {
        assert!(!granted(&mut adopted(), LATER, 2, vote(4, 3, 19)));
        assert!(!granted(&mut adopted(), LATER, 2, vote(4, 2, 99)));
        assert!(granted(&mut adopted(), LATER, 2, vote(4, 3, 20)));
        assert!(granted(&mut adopted(), LATER, 2, vote(4, 4, 1)));
    }

    /// Goal: no two leaders in one term. Method: two candidates, and again after a restart from the durable state.
    #[test]
    fn one_vote_a_term_also_after_a_restart() {
        let mut w = adopted();
        let (state, _) = w.step(LATER, &request(2, witness_request::Kind::Vote(vote(4, 3, 20))));
        assert_eq!(state.map(|s| (s.term, s.vote)), Some((4, 2)));
        assert!(!granted(&mut w, LATER, 1, vote(4, 3, 25)));
        assert!(granted(&mut w, LATER, 2, vote(4, 3, 20)), "a repeated request gets the same answer");
        let mut w = WitnessVoter::new(LATER, 7, PROMISE, state);
        assert!(!granted(&mut w, LATER + PROMISE, 1, vote(4, 3, 25)));
    }

    /// Goal: a leader's lease is not overtaken. Method: votes just before and at the end of the promise, after a ping and
    /// after a start; a transfer and a void lease go through.
    #[test]
    fn a_promise_holds_after_a_ping_and_after_a_start() {
        let mut w = adopted();
        assert!(!granted(&mut w, LATER - 1, 2, vote(4, 3, 20)), "it may have promised before its restart");
        let ping = request(1, witness_request::Kind::Ping(Ping { term: 3, sent_ns: 5, ..Ping::default() }));
        assert!(matches!(w.step(LATER, &ping).1.kind, Some(witness_reply::Kind::Pong(p)) if p.sent_ns == 5));
        assert!(!granted(&mut w, LATER + PROMISE - 1, 2, vote(4, 3, 20)));
        let pre = WitnessVote { pre_vote: true, ..vote(4, 3, 20) };
        assert!(!granted(&mut w, LATER + PROMISE - 1, 2, pre));
        assert!(granted(&mut w, LATER + PROMISE, 2, pre));
        let mut w = adopted();
        assert!(granted(&mut w, START, 2, WitnessVote { transfer: true, ..vote(4, 3, 20) }));
        assert!(granted(&mut w, START, 2, WitnessVote { lease_void: true, ..vote(5, 3, 20) }));
    }

    /// Goal: a node that may have lost its tail is not elected by the witness. Method: the same request, with and without.
    #[test]
    fn a_recovering_candidate_gets_no_vote() {
        assert!(!granted(&mut adopted(), LATER, 2, WitnessVote { recovering: true, ..vote(4, 3, 20) }));
        assert!(!granted(
            &mut adopted(),
            LATER,
            2,
            WitnessVote { recovering: true, lease_void: true, ..vote(4, 3, 20) }
        ));
    }

    /// Goal: what was vouched for stays, and a deposed leader commits nothing. Method: late, reordered and foreign vouches.
    #[test]
    fn the_pair_never_decreases_and_a_deposed_leader_is_refused() {
        let mut w = adopted();
        let old = Vouch { term: 3, index: 10, entry_term: 3, adopt: false };
        let (state, reply) = vouch(&mut w, LATER, 1, old);
        assert_eq!(state, None);
        assert!(matches!(reply.kind, Some(witness_reply::Kind::Vouch(v)) if !v.accepted && v.index == 20));
        let (state, _) = vouch(&mut w, LATER, 2, Vouch { term: 5, index: 8, entry_term: 5, adopt: false });
        assert_eq!(state, Some(WitnessState { term: 5, vote: 2, entry_term: 5, index: 8 }));
        let (state, reply) = vouch(&mut w, LATER, 1, Vouch { index: 50, ..old });
        assert_eq!((state, reply.kind, reply.term), (None, None, 5));
        let lie = Vouch { term: u64::MAX, index: 9, entry_term: 9, adopt: false };
        assert_eq!(
            vouch(&mut w, LATER, 1, lie).1.kind,
            None,
            "a term at the end of the numbers would end the group"
        );
    }
}
