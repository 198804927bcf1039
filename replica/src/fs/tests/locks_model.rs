//! Goal: never two owners whose locks exclude each other, no lock lost, no waiter lost, whatever the order of
//! operations. Method: random operations of a few owners on few bytes, against a model that knows for each byte who has
//! it; on two exports, one of which takes checkpoints and crashes. An owner that waits does nothing but ask again or
//! give up, as a process with one thread. In the end everybody releases what it has: then everyone who waited must have
//! been granted. A second test lets waiters be overtaken until they bar others; there the model does not know who is
//! granted, but the rest must hold.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proto::op::op::Kind;
use proto::op::{self};

use super::harness::Export;
use super::locks::{cancel, file, lock, stat, unlock};
use crate::fs::locks::{LockStatus, OVERTAKEN_MAX};
use crate::ids::Handle;

const OWNERS: [&str; 5] = ["a", "a2", "b", "b2", "c"];
/// Bytes that the model knows; the last one stands for all after it.
const BYTES: usize = 12;

#[derive(Clone, Debug)]
enum Step {
    Lock { who: usize, file: usize, at: usize, len: usize, exclusive: bool, block: bool },
    Unlock { who: usize, file: usize, at: usize, len: usize },
    Again { who: usize },
    GiveUp { who: usize },
    Answer { who: usize, refused: bool },
    Hammer { who: usize, file: usize, at: usize },
    Reboot { client: usize },
    Crash { checkpoint: bool },
}

fn steps(hammer: u32) -> impl Strategy<Value = Vec<Step>> {
    let who = || 0..OWNERS.len();
    let (file, at, len) = (|| 0usize..2, || 0..BYTES, || 1..=BYTES);
    let yes = || proptest::bool::ANY;
    let step = prop_oneof![
        8 => (who(), file(), at(), len(), yes(), yes()).prop_map(|(who, file, at, len, exclusive, block)| {
            Step::Lock { who, file, at, len, exclusive, block }
        }),
        6 => (who(), file(), at(), len()).prop_map(|(who, file, at, len)| Step::Unlock { who, file, at, len }),
        1 => who().prop_map(|who| Step::Again { who }),
        1 => who().prop_map(|who| Step::GiveUp { who }),
        3 => (who(), yes()).prop_map(|(who, refused)| Step::Answer { who, refused }),
        hammer => (who(), file(), at()).prop_map(|(who, file, at)| Step::Hammer { who, file, at }),
        1 => (0usize..3).prop_map(|client| Step::Reboot { client }),
        1 => yes().prop_map(|checkpoint| Step::Crash { checkpoint }),
    ];
    proptest::collection::vec(step, 1..100)
}

/// What somebody wants.
#[derive(Clone, Debug, PartialEq)]
struct Wish {
    who: usize,
    file: usize,
    at: usize,
    len: usize,
    exclusive: bool,
}

impl Wish {
    fn bytes(&self) -> std::ops::Range<usize> {
        self.at..(self.at + self.len).min(BYTES)
    }
}

/// Who has a byte, and how.
type Byte = BTreeMap<usize, bool>;

#[derive(Clone, Default)]
struct Model {
    files: [[Byte; BYTES]; 2],
    waiters: Vec<Wish>,
    /// Granted, not confirmed; and what the owner had before.
    granted: Vec<(Wish, Vec<Option<bool>>)>,
    /// It knows who is granted; else it learns that from the export.
    exact: bool,
}

impl Model {
    fn in_the_way(&self, wish: &Wish) -> BTreeSet<usize> {
        let bytes = &self.files[wish.file][wish.bytes()];
        let others = bytes.iter().flatten().filter(|(who, exclusive)| {
            **who != wish.who && (**exclusive || wish.exclusive)
        });
        others.map(|(who, _)| *who).collect()
    }

    fn waiting(&self, who: usize) -> Option<&Wish> {
        self.waiters.iter().find(|wish| wish.who == who)
    }

    fn deadlock(&self, wish: &Wish) -> bool {
        let mut next: Vec<usize> = self.in_the_way(wish).into_iter().collect();
        let mut seen = BTreeSet::new();
        while let Some(who) = next.pop() {
            if who == wish.who {
                return true;
            }
            if seen.insert(who) {
                next.extend(self.waiting(who).into_iter().flat_map(|wish| self.in_the_way(wish)));
            }
        }
        false
    }

    fn set(&mut self, who: usize, file: usize, byte: usize, kind: Option<bool>) {
        match kind {
            Some(exclusive) => self.files[file][byte].insert(who, exclusive),
            None => self.files[file][byte].remove(&who),
        };
    }

    fn had(&self, wish: &Wish) -> Vec<Option<bool>> {
        self.files[wish.file][wish.bytes()].iter().map(|byte| byte.get(&wish.who).copied()).collect()
    }

    fn take(&mut self, wish: &Wish) {
        wish.bytes().for_each(|byte| self.set(wish.who, wish.file, byte, Some(wish.exclusive)));
    }

    /// Grants, oldest first, until nobody can be.
    fn settle(&mut self) {
        if !self.exact {
            return;
        }
        while let Some(n) = self.waiters.iter().position(|wish| self.in_the_way(wish).is_empty()) {
            let wish = self.waiters.remove(n);
            self.granted.push((wish.clone(), self.had(&wish)));
            self.take(&wish);
        }
    }

    fn undo(&mut self, n: usize) {
        let (wish, before) = self.granted.remove(n);
        for (byte, kind) in wish.bytes().zip(before) {
            let kind = kind.map(|exclusive| exclusive && wish.exclusive);
            self.set(wish.who, wish.file, byte, kind);
        }
        self.settle();
    }
}

struct World {
    exports: [Export; 2],
    files: [Handle; 2],
    model: Model,
}

impl World {
    fn new(exact: bool) -> Self {
        let mut exports = [Export::new(), Export::new()];
        let files = exports.each_mut().map(|export| [file(export, "f"), file(export, "g")]);
        assert_eq!(files[0], files[1]);
        Self { exports, files: files[0], model: Model { exact, ..Model::default() } }
    }

    fn run(&mut self, kind: Kind) -> LockStatus {
        let [plain, shaken] = self.exports.each_mut().map(|export| stat(export, kind.clone()));
        assert_eq!(plain, shaken, "both replicas answer alike");
        plain
    }

    fn range(at: usize, len: usize) -> (u64, u64) {
        (at as u64, if at + len >= BYTES { 0 } else { len as u64 })
    }

    fn ask(&mut self, wish: &Wish, block: bool) -> LockStatus {
        let range = Self::range(wish.at, wish.len);
        let asked = lock(self.files[wish.file], OWNERS[wish.who], range, wish.exclusive, block);
        self.run(Kind::Lock(asked))
    }

    /// Waits, or was granted and did not confirm: by what the export says.
    fn is_busy(&self, who: usize) -> bool {
        let owner = super::locks::owner(OWNERS[who]);
        let all = self.exports[0].fs.locks();
        all.waiters.iter().any(|w| w.lock.owner.client == owner.client && w.lock.owner.svid == owner.svid)
    }

    fn lock(&mut self, wish: Wish, block: bool) {
        if self.is_busy(wish.who) {
            return;
        }
        let said = self.ask(&wish, block);
        let model = &mut self.model;
        let expected = if model.in_the_way(&wish).is_empty() {
            LockStatus::Granted
        } else if !block {
            LockStatus::Denied
        } else if model.deadlock(&wish) {
            LockStatus::Deadlock
        } else {
            LockStatus::Blocked
        };
        if model.exact {
            assert_eq!(said, expected);
        } else {
            let barred = matches!(said, LockStatus::Denied | LockStatus::Blocked);
            assert!(said == expected || (expected == LockStatus::Granted && barred), "{said:?}, {expected:?}");
        }
        match said {
            LockStatus::Granted => model.take(&wish),
            LockStatus::Blocked => model.waiters.push(wish),
            _ => {}
        }
        self.model.settle();
    }

    fn unlock(&mut self, who: usize, file: usize, at: usize, len: usize) {
        if self.is_busy(who) {
            return;
        }
        let said = self.run(unlock(self.files[file], OWNERS[who], Self::range(at, len)));
        assert_eq!(said, LockStatus::Granted);
        (at..(at + len).min(BYTES)).for_each(|byte| self.model.set(who, file, byte, None));
        self.model.settle();
    }

    fn again(&mut self, who: usize) {
        if let Some(wish) = self.model.waiting(who).cloned() {
            assert_eq!(self.ask(&wish, true), LockStatus::Blocked);
        } else if let Some(n) = self.model.granted.iter().position(|(wish, _)| wish.who == who) {
            let wish = self.model.granted.remove(n).0;
            assert_eq!(self.ask(&wish, true), LockStatus::Granted);
        }
    }

    fn give_up(&mut self, who: usize) {
        let waits = self.model.waiters.iter().position(|wish| wish.who == who);
        let granted = self.model.granted.iter().position(|(wish, _)| wish.who == who);
        let wish = match (waits, granted) {
            (Some(n), _) => self.model.waiters.remove(n),
            (None, Some(n)) => {
                let wish = self.model.granted[n].0.clone();
                self.model.undo(n);
                wish
            }
            (None, None) => return,
        };
        let range = Self::range(wish.at, wish.len);
        let said = self.run(cancel(self.files[wish.file], OWNERS[who], range, wish.exclusive));
        assert_eq!(said, LockStatus::Granted);
    }

    fn answer(&mut self, who: usize, refused: bool) {
        let Some(n) = self.model.granted.iter().position(|(wish, _)| wish.who == who) else { return };
        let owner = super::locks::owner(OWNERS[who]);
        let grants = self.exports[0].fs.pending_grants();
        let mut of = grants.iter().filter(|g| {
            g.lock.owner.client == owner.client && g.lock.owner.svid == owner.svid
        });
        let id = of.next().expect("a pending grant").id;
        if refused {
            self.model.undo(n);
        } else {
            self.model.granted.remove(n);
        }
        assert_eq!(self.run(Kind::LockCallback(op::LockCallback { id, refused })), LockStatus::Granted);
    }

    fn reboot(&mut self, client: usize) {
        let of = |who: usize| OWNERS[who].starts_with(["a", "b", "c"][client]);
        self.model.waiters.retain(|wish| !of(wish.who));
        self.model.granted.retain(|(wish, _)| !of(wish.who));
        self.model.files.iter_mut().flatten().for_each(|byte| byte.retain(|who, _| !of(*who)));
        self.model.settle();
        let client = super::locks::owner(["a", "b", "c"][client]).client;
        self.run(Kind::FreeAll(op::FreeAll { client, nsm_state: 0 }));
    }

    /// Takes the same byte and gives it back until whoever waits for it bars.
    fn hammer(&mut self, who: usize, file: usize, at: usize) {
        for _ in 0..OVERTAKEN_MAX {
            self.lock(Wish { who, file, at, len: 1, exclusive: false }, false);
            self.learn();
            self.unlock_plain(who, file, at);
            self.learn();
        }
    }

    fn unlock_plain(&mut self, who: usize, file: usize, at: usize) {
        if !self.is_busy(who) {
            self.run(unlock(self.files[file], OWNERS[who], Self::range(at, 1)));
        }
    }

    fn crash(&mut self, checkpoint: bool) {
        let [_, shaken] = &mut self.exports;
        if checkpoint {
            shaken.fs.checkpoint().unwrap();
        }
        let digest = shaken.fs.progress().digest;
        let export = std::mem::replace(shaken, Export::new());
        *shaken = export.crash();
        assert_eq!(shaken.fs.progress().digest, digest);
        assert_eq!(shaken.fs.locks(), self.exports[0].fs.locks());
    }

    /// What the export says, byte by byte.
    fn held(&self) -> [[Byte; BYTES]; 2] {
        let mut files: [[Byte; BYTES]; 2] = Default::default();
        for lock in self.exports[0].fs.locks().held {
            let file = self.files.iter().position(|file| *file == lock.file).unwrap();
            let who = OWNERS.iter().position(|name| {
                let owner = super::locks::owner(name);
                (owner.client, owner.svid) == (lock.owner.client.clone(), lock.owner.svid)
            });
            let start = lock.offset as usize;
            let end = if lock.length == 0 { BYTES } else { start + lock.length as usize };
            for byte in start..end {
                let before = files[file][byte].insert(who.unwrap(), lock.exclusive);
                assert_eq!(before, None, "ranges of one owner never overlap");
            }
        }
        for byte in files.iter().flatten() {
            let exclusive = byte.values().any(|exclusive| *exclusive);
            assert!(!exclusive || byte.len() == 1, "nobody shares what is exclusive: {byte:?}");
        }
        files
    }

    /// Where bars play a part: the model learns from the export who was granted.
    fn learn(&mut self) {
        self.model.files = self.held();
        let waits = |wish: &Wish| {
            let owner = super::locks::owner(OWNERS[wish.who]);
            let all = self.exports[0].fs.locks().waiters;
            all.iter().any(|w| !w.granted && w.lock.owner.client == owner.client && w.lock.owner.svid == owner.svid)
        };
        let (wait, granted): (Vec<_>, Vec<_>) = self.model.waiters.drain(..).partition(waits);
        self.model.waiters = wait;
        self.model.granted.extend(granted.into_iter().map(|wish| (wish, Vec::new())));
    }

    fn compare(&mut self) {
        if !self.model.exact {
            return self.learn();
        }
        assert_eq!(self.held(), self.model.files);
        let all = self.exports[0].fs.locks();
        let waits = all.waiters.iter().filter(|waiter| !waiter.granted).count();
        assert_eq!(waits, self.model.waiters.len());
        assert_eq!(all.waiters.len() - waits, self.model.granted.len());
    }

    /// Everybody who does not wait accepts and releases; in the end nobody waits.
    fn drain(&mut self) {
        while !self.model.waiters.is_empty() {
            let before = self.model.waiters.len();
            for who in 0..OWNERS.len() {
                self.again_granted(who);
                for file in 0..2 {
                    if self.model.waiting(who).is_none() {
                        let said = self.run(unlock(self.files[file], OWNERS[who], (0, 0)));
                        assert_eq!(said, LockStatus::Granted);
                        (0..BYTES).for_each(|byte| self.model.set(who, file, byte, None));
                        if self.model.exact { self.model.settle() } else { self.learn() }
                    }
                }
            }
            assert!(self.model.waiters.len() < before, "they wait for ever: {:?}", self.model.waiters);
        }
        self.compare();
    }

    fn again_granted(&mut self, who: usize) {
        if self.model.waiting(who).is_none() {
            self.again(who);
        }
    }
}

fn check(steps: &[Step], exact: bool) {
    let mut world = World::new(exact);
    for step in steps {
        match *step {
            Step::Lock { who, file, at, len, exclusive, block } => {
                world.lock(Wish { who, file, at, len, exclusive }, block);
            }
            Step::Unlock { who, file, at, len } => world.unlock(who, file, at, len),
            Step::Again { who } => world.again(who),
            Step::GiveUp { who } => world.give_up(who),
            Step::Answer { who, refused } => world.answer(who, refused),
            Step::Hammer { who, file, at } => world.hammer(who, file, at),
            Step::Reboot { client } => world.reboot(client),
            Step::Crash { checkpoint } => world.crash(checkpoint),
        }
        world.compare();
    }
    world.drain();
    let [plain, shaken] = &world.exports;
    assert_eq!(plain.fs.progress().digest, shaken.fs.progress().digest);
    assert_eq!(plain.rows(), shaken.rows());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn locks_and_model_agree(steps in steps(0)) {
        check(&steps, true);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn bars_never_shut_anybody_in(steps in steps(3)) {
        check(&steps, false);
    }
}
