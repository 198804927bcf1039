//! The sequential objects that several clients share, and their histories: blocks of files, a directory, locks.

use std::collections::BTreeMap;

use super::linear::{self, Event, Object};
use crate::ops::{self, Answer, Fh, Op};

/// A file's blocks and length: of one shared file.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
struct File(Vec<u64>);

impl File {
    fn write(&mut self, block: u64, value: u64) {
        let at = usize::try_from(block).unwrap_or(usize::MAX);
        if self.0.len() <= at {
            self.0.resize(at + 1, 0);
        }
        self.0[at] = value;
    }
}

impl Object for File {
    type Ask = Op;
    type Answer = Answer;

    fn step(&mut self, ask: &Op, answer: Option<&Answer>) -> bool {
        let right = match ask {
            Op::Write(_, block, value) => {
                self.write(*block, *value);
                Answer::Done
            }
            Op::Truncate(_, blocks) => {
                self.0.resize(usize::try_from(*blocks).unwrap_or(0), 0);
                Answer::Done
            }
            Op::Read(_) => Answer::Blocks(self.0.clone()),
            _ => return false,
        };
        answer.is_none_or(|a| *a == right)
    }
}

/// The shared directory: names, and which operation made the object behind each.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
struct Dir(BTreeMap<String, usize>);

/// An operation on the directory and its number in the history.
#[derive(Debug)]
struct DirAsk {
    number: usize,
    op: Op,
    /// The objects that operations are known to have made.
    known: std::rc::Rc<BTreeMap<usize, u64>>,
}

impl DirAsk {
    /// May the object that this operation made have that id?
    fn is(&self, maker: usize, id: u64) -> bool {
        match self.known.get(&maker) {
            Some(known) => *known == id,
            None => !self.known.values().any(|known| *known == id),
        }
    }
}

impl Object for Dir {
    type Ask = DirAsk;
    type Answer = Answer;

    fn step(&mut self, ask: &DirAsk, answer: Option<&Answer>) -> bool {
        let failed = |status| answer.is_none_or(|a| *a == Answer::Failed(status));
        let done = answer.is_none_or(|a| *a == Answer::Done);
        match &ask.op {
            Op::Create(_, name) | Op::CreateExclusive(_, name, _) => {
                if self.0.contains_key(name) {
                    return failed(ops::EXIST);
                }
                self.0.insert(name.clone(), ask.number);
                answer.is_none_or(|a| matches!(a, Answer::Object(..)))
            }
            Op::Remove(_, name) => match self.0.remove(name) {
                Some(_) => done,
                None => failed(ops::NOENT),
            },
            Op::Rename(_, from, to) => match self.0.remove(from) {
                Some(object) => {
                    self.0.insert(to.clone(), object);
                    done
                }
                None => failed(ops::NOENT),
            },
            Op::Lookup(_, name) => match (self.0.get(name), answer) {
                (_, None) => true,
                (Some(maker), Some(Answer::Object(_, id))) => ask.is(*maker, *id),
                (None, Some(answer)) => *answer == Answer::Failed(ops::NOENT),
                _ => false,
            },
            Op::ReadDir(_) => match answer {
                None => true,
                Some(Answer::Names(names)) => {
                    names.len() == self.0.len()
                        && names.iter().all(|(name, id, _)| self.0.get(name).is_some_and(|m| ask.is(*m, *id)))
                }
                Some(_) => false,
            },
            _ => false,
        }
    }
}

/// A lock of a whole file, and who has it.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
struct Lock(Option<u32>);

impl Object for Lock {
    type Ask = Op;
    type Answer = Answer;

    fn step(&mut self, ask: &Op, answer: Option<&Answer>) -> bool {
        let right = match ask {
            Op::Lock(_, owner) if self.0.is_none_or(|has| has == *owner) => {
                self.0 = Some(*owner);
                Answer::Done
            }
            Op::Lock(..) => Answer::Failed(ops::DENIED),
            Op::Unlock(_, owner) => {
                self.0.take_if(|has| has == owner);
                Answer::Done
            }
            _ => return false,
        };
        answer.is_none_or(|a| *a == right)
    }
}

type History = Vec<Event<Op, Answer>>;

/// What all clients did to what they share, in one export.
#[derive(Default)]
pub struct Shared {
    files: BTreeMap<Fh, History>,
    locks: BTreeMap<Fh, History>,
    dir: History,
    /// The product said that locks may be lost, as it may in this run: what they were before says nothing any more.
    pub locks_lost: bool,
}

/// Where an operation is in its history.
#[derive(Clone, Debug)]
pub enum Place {
    /// Of a file.
    File(Fh, usize),
    /// Of a lock.
    Lock(Fh, usize),
    /// Of the directory.
    Dir(usize),
}

impl Shared {
    /// A client asks.
    pub fn asked(&mut self, now: u64, op: &Op) -> Place {
        let event = Event { asked: now, answered: None, ask: op.clone() };
        match op {
            Op::Write(file, ..) | Op::Truncate(file, _) | Op::Read(file) => {
                let history = self.files.entry(file.clone()).or_default();
                history.push(event);
                Place::File(file.clone(), history.len() - 1)
            }
            Op::Lock(file, _) | Op::Unlock(file, _) => {
                let history = self.locks.entry(file.clone()).or_default();
                history.push(event);
                Place::Lock(file.clone(), history.len() - 1)
            }
            _ => {
                self.dir.push(event);
                Place::Dir(self.dir.len() - 1)
            }
        }
    }

    /// It is answered.
    pub fn answered(&mut self, now: u64, place: &Place, answer: Answer) {
        let event = match place {
            Place::File(file, at) => self.files.get_mut(file).and_then(|h| h.get_mut(*at)),
            Place::Lock(file, at) => self.locks.get_mut(file).and_then(|h| h.get_mut(*at)),
            Place::Dir(at) => self.dir.get_mut(*at),
        };
        if let Some(event) = event {
            event.answered = Some((now, answer));
        }
    }

    /// Is every history explained by some order?
    pub fn check(&self) -> Result<(), String> {
        for (file, history) in &self.files {
            linear::check(File::default(), history).map_err(|why| format!("file {file:?}: {why}"))?;
        }
        for (file, history) in self.locks.iter().filter(|_| !self.locks_lost) {
            linear::check(Lock::default(), history).map_err(|why| format!("lock of {file:?}: {why}"))?;
        }
        let made = self.dir.iter().enumerate().filter_map(|(number, event)| match &event.answered {
            Some((_, Answer::Object(_, id)))
                if matches!(event.ask, Op::Create(..) | Op::CreateExclusive(..)) =>
            {
                Some((number, *id))
            }
            _ => None,
        });
        let known = std::rc::Rc::new(made.collect::<BTreeMap<_, _>>());
        let ids: std::collections::BTreeSet<_> = known.values().collect();
        if ids.len() != known.len() {
            return Err(format!("one file id for two files that were made: {known:?}"));
        }
        let history = self.dir.iter().enumerate();
        let history: Vec<_> = history
            .map(|(number, e)| Event {
                asked: e.asked,
                answered: e.answered.clone(),
                ask: DirAsk { number, op: e.ask.clone(), known: known.clone() },
            })
            .collect();
        linear::check(Dir::default(), &history).map_err(|why| format!("the shared directory: {why}"))
    }
}
