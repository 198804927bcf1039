//! A slot makes one call at a time: first it mounts and makes its places, then it works.

use crate::checks::objects::Place;
use crate::checks::private::{Private, Step};
use crate::ops::{Answer, BLOCKS, Fh, Op};
use crate::rng::Rng;

/// Names in the shared directory.
const SHARED_NAMES: u64 = 3;
/// Files that everybody writes.
const SHARED_FILES: usize = 2;

/// What a slot works on.
#[derive(Debug)]
enum Work {
    /// It mounts.
    Mounting,
    /// It looks for the shared directory, or makes it: MKDIR, which may fail, then LOOKUP.
    Making {
        root: Fh,
    },
    Finding {
        root: Fh,
    },
    /// It makes the shared files, then its own directory.
    Files {
        root: Fh,
        shared: Fh,
        files: Vec<Fh>,
    },
    /// It works in its own directory and on what is shared.
    Busy {
        private: Box<Private>,
        shared: Fh,
        files: Vec<Fh>,
    },
    /// It reads back what it made, and ends.
    ReadBack {
        private: Box<Private>,
        left: Vec<Op>,
    },
    /// Done.
    Over,
}

/// See the module.
#[derive(Debug)]
pub struct Slot {
    /// Unique over all clients: names its directory, owns its locks, begins its numbers.
    pub number: u32,
    path: String,
    work: Work,
    /// The operation under way is of a shared object, and there in its history.
    pub place: Option<Place>,
    values: u64,
    /// Where it works by a script: the steps that are left, the next one last.
    script: Option<Vec<Step>>,
}

impl Slot {
    /// It has not begun.
    pub fn new(number: u32, path: String) -> Self {
        let values = u64::from(number) << 32;
        Self { number, path, work: Work::Mounting, place: None, values, script: None }
    }

    /// From now on it works by this script, and on nothing else.
    pub fn give(&mut self, steps: &[Step]) {
        self.script = Some(steps.iter().rev().copied().collect());
    }

    /// Has it done what it was given?
    pub fn is_idle(&self) -> bool {
        self.script.as_ref().is_some_and(Vec::is_empty)
    }

    /// Has it read everything back?
    pub fn is_over(&self) -> bool {
        matches!(self.work, Work::Over)
    }

    /// Is it past its preparations?
    pub fn is_busy(&self) -> bool {
        matches!(self.work, Work::Busy { .. })
    }

    /// No more work: what it made is read back.
    pub fn wind_up(&mut self) {
        self.work = match std::mem::replace(&mut self.work, Work::Over) {
            Work::Busy { private, .. } => {
                let mut left = private.read_back();
                left.reverse();
                Work::ReadBack { private, left }
            }
            other => other,
        };
    }

    /// The next operation; true: on a shared object, whose history it belongs to.
    pub fn next(&mut self, rng: &mut Rng) -> Option<(Op, bool)> {
        match &mut self.work {
            Work::Mounting => Some((Op::Mount(self.path.clone()), false)),
            Work::Making { root } => Some((Op::Mkdir(root.clone(), "shared".into()), false)),
            Work::Finding { root } => Some((Op::Lookup(root.clone(), "shared".into()), false)),
            Work::Files { root, files, .. } if files.len() >= SHARED_FILES => {
                Some((Op::Mkdir(root.clone(), format!("slot{}", self.number)), false))
            }
            Work::Files { root, files, .. } => {
                Some((Op::CreateAnyhow(root.clone(), format!("file{}", files.len())), false))
            }
            Work::Busy { private, .. } if self.script.is_some() => loop {
                let step = self.script.as_mut().and_then(Vec::pop)?;
                if let Some(op) = private.step(step) {
                    return Some((op, false));
                }
            },
            Work::Busy { private, shared, files } => {
                if rng.between(0, 9) < 5 {
                    return Some((private.next(rng), false));
                }
                self.values += 1;
                Some((common(rng, shared, files, self.number, self.values | 1 << 31), true))
            }
            Work::ReadBack { left, .. } => left.last().cloned().map(|op| (op, false)),
            Work::Over => None,
        }
    }

    /// An answer came.
    pub fn answered(&mut self, op: &Op, answer: &Answer) -> Result<(), String> {
        if let Answer::Nonsense(why) = answer {
            return Err(why.clone());
        }
        let wrong = || Err(format!("{op:?} is answered by {answer:?}"));
        self.work = match std::mem::replace(&mut self.work, Work::Over) {
            Work::Mounting => {
                let Answer::Object(root, _) = answer else { return wrong() };
                Work::Making { root: root.clone() }
            }
            Work::Making { root } => Work::Finding { root },
            Work::Finding { root } => {
                let Answer::Object(shared, _) = answer else { return wrong() };
                Work::Files { root, shared: shared.clone(), files: Vec::new() }
            }
            Work::Files { root, shared, mut files } => {
                let Answer::Object(file, _) = answer else { return wrong() };
                if matches!(op, Op::Mkdir(..)) {
                    let private = Box::new(Private::new(file.clone(), self.values));
                    Work::Busy { private, shared, files }
                } else {
                    files.push(file.clone());
                    Work::Files { root, shared, files }
                }
            }
            Work::Busy { mut private, shared, files } => {
                // What is shared is looked at in the end, all of it together.
                let outcome = if self.place.is_some() { Ok(()) } else { private.answered(op, answer) };
                self.work = Work::Busy { private, shared, files };
                return outcome;
            }
            Work::ReadBack { mut private, mut left } => {
                left.pop();
                let outcome = private.answered(op, answer);
                self.work = if left.is_empty() { Work::Over } else { Work::ReadBack { private, left } };
                return outcome;
            }
            Work::Over => Work::Over,
        };
        Ok(())
    }
}

/// An operation on what everybody shares.
fn common(rng: &mut Rng, shared: &Fh, files: &[Fh], owner: u32, value: u64) -> Op {
    let name = format!("s{}", rng.between(1, SHARED_NAMES));
    let other = format!("s{}", rng.between(1, SHARED_NAMES));
    let (dir, file) = (shared.clone(), rng.pick(files).clone());
    match rng.between(0, 12) {
        0 => Op::Create(dir, name),
        1 => Op::CreateExclusive(dir, name, value),
        2 | 3 => Op::Remove(dir, name),
        4 if name != other => Op::Rename(dir, name, other),
        5 => Op::Lookup(dir, name),
        6 => Op::ReadDir(dir),
        7 => Op::Read(file),
        8 => Op::Truncate(file, rng.between(0, BLOCKS)),
        9 => Op::Lock(file, owner),
        10 => Op::Unlock(file, owner),
        _ => Op::Write(file, rng.between(0, BLOCKS - 1), value),
    }
}
