//! Goal: after any history of appends, truncations, syncs, cuts, kills and power cuts, the log is a prefix of what
//! was appended, and no shorter than what was synced; the state likewise; opening again changes nothing.
//! Method: random histories, with power cuts between and in the middle of operations, on a simulated disk against a list of all states the log went through since it
//! was last synced; whatever recovery returns must be one of them.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Append {
        back: u64,
        sizes: Vec<usize>,
        with_state: bool,
    },
    Sync,
    Cut {
        percent: u64,
    },
    PrepareSpare,
    Kill,
    Crash {
        seed: u64,
    },
    /// The machine halts after so many disk operations of the next step, and crashes.
    HaltNext {
        changes: u64,
        seed: u64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    // Few sizes: records of the same length land on the places of torn ones.
    let size = prop::sample::select(vec![0_usize, 8, 450, 974, 2000, 7000]);
    let append = (prop_oneof![3 => Just(0_u64), 1 => 1..6_u64], vec(size, 0..5), any::<bool>());
    prop_oneof![
        8 => append.prop_map(|(back, sizes, with_state)| Step::Append { back, sizes, with_state }),
        4 => Just(Step::Sync),
        2 => (0..=100_u64).prop_map(|percent| Step::Cut { percent }),
        1 => Just(Step::PrepareSpare),
        1 => Just(Step::Kill),
        3 => any::<u64>().prop_map(|seed| Step::Crash { seed }),
        2 => (0..12_u64, any::<u64>()).prop_map(|(changes, seed)| Step::HaltNext { changes, seed }),
    ]
}

/// The log from entry 1 on, and the state.
#[derive(Clone, Debug, PartialEq, Default)]
struct Snapshot {
    entries: Vec<Entry>,
    state: StableState,
}

struct Model {
    disk: SimDisk,
    wal: Wal,
    now: Snapshot,
    /// From the last one known durable to `now`.
    possible: Vec<Snapshot>,
    cut: LogIndex,
    term: Term,
    votes: u64,
    halt: Option<(u64, u64)>,
}

impl Model {
    fn new() -> Self {
        let disk = SimDisk::new();
        let wal = open(&disk).expect("create").wal;
        let possible = vec![Snapshot::default()];
        Self { disk, wal, now: Snapshot::default(), possible, cut: 0, term: 1, votes: 0, halt: None }
    }

    fn last(&self) -> LogIndex {
        self.now.entries.len() as u64
    }

    fn run(&mut self, step: Step) {
        let Some((changes, seed)) = self.halt.take() else { return self.step(step, false) };
        if let Step::Crash { seed } = step {
            self.disk.crash(seed);
        }
        self.disk.halt_after(changes);
        self.step(step, true);
        self.disk.crash(seed);
        self.reopen();
    }

    fn step(&mut self, step: Step, may_halt: bool) {
        let done = |result: Result<(), WalError>| {
            assert!(may_halt || result.is_ok(), "{result:?}");
            result.is_ok()
        };
        match step {
            Step::Append { back, sizes, with_state } => {
                done(self.append(back, &sizes, with_state));
            }
            Step::Sync => {
                if done(self.wal.sync()) {
                    self.possible = vec![self.now.clone()];
                }
            }
            Step::Cut { percent } => {
                self.cut = self.cut.max(self.last() * percent / 100);
                if done(self.wal.cut(self.cut)) {
                    self.possible = vec![self.now.clone()];
                }
            }
            Step::PrepareSpare => {
                done(self.wal.prepare_spare().map(|_| ()));
            }
            Step::Kill | Step::Crash { .. } if may_halt => {
                done(open(&self.disk).map(|_| ()));
            }
            Step::Kill => {
                self.possible = vec![self.now.clone()];
                self.reopen();
            }
            Step::Crash { seed } => {
                self.disk.crash(seed);
                self.reopen();
            }
            Step::HaltNext { changes, seed } => self.halt = Some((changes, seed)),
        }
    }

    fn append(&mut self, back: u64, sizes: &[usize], with_state: bool) -> Result<(), WalError> {
        let floor = self.cut.max(self.now.state.commit);
        let kept = self.last().saturating_sub(back).max(floor);
        let is_contradiction = kept < self.last() && !sizes.is_empty();
        if is_contradiction {
            self.term += 1;
        }
        let kept = if is_contradiction { kept } else { self.last() };
        let entries: Vec<Entry> =
            (kept + 1..).zip(sizes).map(|(index, size)| entry(index, self.term, *size)).collect();
        let state = with_state.then(|| {
            self.votes += 1;
            let (term, commit) = (self.term, kept + entries.len() as u64 / 2);
            let (vote, dirty_boot) = (self.votes, format!("boot {}", self.votes));
            StableState {
                term,
                vote,
                commit: commit.max(floor),
                solo: true,
                dirty_boot,
                ..Default::default()
            }
        });
        let result = self.wal.append(state.as_ref(), &entries);

        self.now.entries.truncate(kept as usize);
        self.possible.push(self.now.clone());
        if let Some(state) = state {
            self.now.state = state;
            self.possible.push(self.now.clone());
        }
        for entry in entries {
            self.now.entries.push(entry);
            self.possible.push(self.now.clone());
        }
        result
    }

    fn reopen(&mut self) {
        let opened = open(&self.disk).expect("a crash is no damage");
        let base = opened.base.0;
        assert!(base <= self.cut, "entries up to {base} are gone, {} was cut", self.cut);
        let tail = all(&opened.reader);
        let found = self.possible.iter().rev().find(|s| is_seen_as(s, &opened, &tail));
        let found = found.unwrap_or_else(|| {
            panic!(
                "recovered {:?} {:?} base {:?}, which the log never was since {:?}",
                opened.last,
                opened.state,
                opened.base,
                self.possible.first().map(|s| (s.entries.len(), s.state.clone()))
            )
        });
        self.now = Snapshot { entries: found.entries.clone(), state: opened.state.clone() };
        let base_term = base.checked_sub(1).map_or(0, |i| found.entries[i as usize].term);
        assert_eq!(opened.base.1, base_term, "term of the base");
        assert_eq!(opened.terms, runs(&tail));

        let again = open(&self.disk).expect("open again");
        assert_eq!(again.torn_bytes, 0, "a torn tail is dropped once");
        assert_eq!(again.state, opened.state);
        assert_eq!((again.base, again.last), (opened.base, opened.last));
        assert_eq!(all(&again.reader), tail);
        self.possible = vec![self.now.clone()];
        self.wal = again.wal;
    }
}

fn is_seen_as(snapshot: &Snapshot, opened: &Opened, tail: &[Entry]) -> bool {
    let (base, last) = (opened.base.0, opened.last.0);
    let mut state = snapshot.state.clone();
    state.commit = state.commit.min(last).max(base);
    last == (snapshot.entries.len() as u64).max(base)
        && snapshot.entries.get(base as usize..).unwrap_or_default() == tail
        && state == opened.state
}

fn runs(entries: &[Entry]) -> Vec<(LogIndex, Term)> {
    let mut runs: Vec<(LogIndex, Term)> = Vec::new();
    for entry in entries {
        if runs.last().is_none_or(|(_, term)| *term != entry.term) {
            runs.push((entry.index, entry.term));
        }
    }
    runs
}

proptest! {
    #[test]
    fn recovery_returns_a_prefix_and_all_that_was_synced(steps in vec(step(), 1..50)) {
        let mut model = Model::new();
        for step in steps {
            model.run(step);
        }
        model.run(Step::Crash { seed: 7 });
    }
}
