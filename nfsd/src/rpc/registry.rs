//! Programs by number and version, and the answers for calls that no program takes.

use std::ops::RangeInclusive;
use std::sync::Arc;

use super::call::Call;
use super::reply::Responder;

/// The versions of a program that are served, lowest and highest.
pub type Versions = RangeInclusive<u32>;

/// An RPC program.
pub trait Program: Send + Sync {
    /// Takes a call of one of the program's versions. It must not block; it may answer later, from any thread.
    fn call(&self, call: Call, responder: Responder);

    /// Does it answer whoever asks? False where the arguments prove that the caller has been let in before, as file
    /// handles do: then answers to datagrams may be as large as they like, for the sender is no forger's choice.
    fn answers_strangers(&self) -> bool {
        true
    }
}

struct Registered {
    number: u32,
    versions: Versions,
    program: Arc<dyn Program>,
}

/// What is served on a listener.
#[derive(Default)]
pub struct Registry {
    programs: Vec<Registered>,
}

impl Registry {
    /// Serves nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a program.
    #[must_use]
    pub fn with(mut self, number: u32, versions: Versions, program: Arc<dyn Program>) -> Self {
        self.programs.push(Registered { number, versions, program });
        self
    }

    /// May anybody, who need not be who he says, get answers of this program?
    pub(crate) fn answers_strangers(&self, program: u32) -> bool {
        self.programs.iter().find(|p| p.number == program).is_none_or(|p| p.program.answers_strangers())
    }

    /// Hands a call to its program; RFC 5531 section 9 where there is none: PROG_UNAVAIL, or PROG_MISMATCH
    /// with the versions that there are. (A Linux client that is asked for NFS v4 tries v3 after PROG_MISMATCH
    /// and gives up after PROG_UNAVAIL.)
    pub fn dispatch(&self, call: Call, responder: Responder) {
        match self.programs.iter().find(|p| p.number == call.program) {
            None => responder.prog_unavail(),
            Some(p) if p.versions.contains(&call.version) => p.program.call(call, responder),
            Some(p) => responder.prog_mismatch(*p.versions.start(), *p.versions.end()),
        }
    }
}
