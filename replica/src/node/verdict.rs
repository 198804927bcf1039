//! Without a witness process: the arbiter's verdict, and the histories that keep apart what went on without each other.
//!
//! Each verdict begins a new history. By it this node plays the third vote itself, durably, until its peer is in sync
//! again: that vote is always this node's own vote, and it vouches for what is durable here. Nodes of different histories
//! exchange no Raft messages. Of two histories, the one that the other's verdict ended yields and is copied anew; where
//! both went on, neither yields by itself.

use proto::peer::GroupHello;

use super::io::{Output, Verdict, VerdictKind};
use super::voter::Node;

impl Node {
    /// The peer is silent for the detection time, and nobody stands in for it.
    pub(super) fn is_alone(&self) -> bool {
        let silent = self.now >= self.peer.silent_since().saturating_add(self.cfg.timing.detect_ns);
        self.cfg.peer.is_some() && !self.stable.stand_in && silent
    }

    /// Only a node that certainly has everything that was acknowledged may ask.
    pub(super) fn may_ask_verdict(&self) -> bool {
        self.is_alone()
            && self.peer.was_in_sync
            && !self.stable.recovering
            && !self.needs_image
            && !self.divergent
            && self.tenure.as_ref().is_none_or(|t| !t.void)
    }

    pub(super) fn verdict(&mut self, verdict: Verdict, out: &mut Vec<Output>) {
        let forced = verdict.kind == VerdictKind::Force;
        if self.unreplicated() || self.stable.stand_in || verdict.history == 0 {
            self.event(out, tracing::Level::WARN, "a verdict of the arbiter came where none is needed");
            return;
        }
        if !forced && !self.may_ask_verdict() {
            let text =
                "a verdict of the arbiter was not used: the peer is there, or this copy may lack something";
            self.event(out, tracing::Level::WARN, text);
            return;
        }
        self.stable.parent_history = self.stable.history;
        let last = self.last_index();
        self.stable.parent_end = (last, self.term_at(last).unwrap_or_default());
        self.stable.history = verdict.history;
        self.stable.stand_in = true;
        self.stable.solo = true;
        // What the other copy has and this one lacks is given up, locks among it.
        self.stable.locks_lost |= forced && self.tenure.as_ref().is_none_or(|tenure| tenure.locks_lost);
        self.stable.recovering &= !forced;
        self.stable.blank &= !forced;
        if forced {
            self.divergent = false;
            self.needs_image = self.mute;
        }
        if self.peer.talking {
            self.peer.ends_talk(self.now);
            out.push(Output::ResetPeer { why: "this node goes on without it".to_owned() });
        }
        let kind = match verdict.kind {
            VerdictKind::Fence => "the peer is fenced",
            VerdictKind::FailStop => "the peer is taken for dead",
            VerdictKind::Force => "an administrator said so",
        };
        let text = format!("{kind}: this node goes on alone, history {:016x}", verdict.history);
        self.event(out, tracing::Level::WARN, text);
        if self.is_leader() {
            self.open_gate(out);
        } else {
            self.persist_state(true, out);
            let term = self.term();
            self.election.lease_is_void(term, self.now);
        }
    }

    /// Of one history? If not: who yields.
    pub(super) fn same_history(&mut self, hello: &GroupHello, out: &mut Vec<Output>) -> bool {
        let mine = self.stable.history;
        if hello.history == mine {
            return !self.divergent;
        }
        if hello.needs_image {
            return false;
        }
        // Who began with nothing since never led a history of its own.
        let i_am_blank = self.stable.blank && !hello.blank;
        let peer_is_blank = hello.blank && !self.stable.blank;
        let peer_went_on = hello.parent_history == mine && self.stable.parent_history != hello.history;
        let i_went_on = self.stable.parent_history == hello.history && hello.parent_history != mine;
        if i_am_blank || (peer_went_on && !peer_is_blank) {
            let why = format!("the peer went on without this node, as history {:016x}", hello.history);
            self.be_mute();
            self.need_image(out, why);
        } else if peer_is_blank || i_went_on {
            self.peer.needs_image = true;
            // Whatever stood between the two copies: the peer's is going to be this one.
            self.divergent = false;
            self.event(
                out,
                tracing::Level::WARN,
                "the peer has the history that this node left: it is to be copied anew",
            );
            out.push(Output::PeerNeedsImage);
        } else {
            self.divergent = true;
            let text = format!(
                "both nodes went on without each other (histories {mine:016x} and {:016x}): an administrator must \
                 choose the copy that stays; on the other node stop hanfs, move its DATA/exports/UUID to \
                 DATA/divergent/NAME/copy and start it",
                hello.history
            );
            self.event(out, tracing::Level::ERROR, text);
        }
        false
    }
}
