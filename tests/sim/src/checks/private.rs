//! A directory that one slot of one client has for itself, one operation at a time: every answer is known beforehand.
//!
//! A lost operation, one done twice, a reply of another call, a stale read: each shows as an answer that is not the
//! expected one.

use std::collections::BTreeMap;

use crate::ops::{self, Answer, BLOCKS, Fh, Op};
use crate::rng::Rng;

/// Names in the directory, at most.
const NAMES: u64 = 4;

/// An object: its handle and id as first told, and a file's blocks; a directory has none.
#[derive(Clone, Debug)]
struct Thing {
    fh: Fh,
    id: u64,
    /// Which content; names that are links to one file share it. `None`: a directory.
    content: Option<usize>,
}

/// A step of a script, by names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// CREATE, guarded.
    Create(&'static str),
    /// MKDIR.
    Mkdir(&'static str),
    /// WRITE of a block.
    Write(&'static str),
    /// SETATTR: a shorter file.
    Cut(&'static str),
    /// REMOVE.
    Remove(&'static str),
    /// RMDIR.
    Rmdir(&'static str),
    /// RENAME.
    Rename(&'static str, &'static str),
    /// LINK.
    Link(&'static str, &'static str),
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Private {
    dir: Fh,
    names: BTreeMap<String, Thing>,
    contents: Vec<Vec<u64>>,
    /// Every id that was ever told for a new object.
    ids: std::collections::BTreeSet<u64>,
    next_value: u64,
}

impl Private {
    /// An empty directory. `values`: where this slot's unique numbers begin.
    pub fn new(dir: Fh, values: u64) -> Self {
        Self {
            dir,
            names: BTreeMap::new(),
            contents: Vec::new(),
            ids: std::collections::BTreeSet::new(),
            next_value: values,
        }
    }

    /// A step of a script as an operation; `None` where it names nothing that is there.
    pub fn step(&mut self, step: Step) -> Option<Op> {
        let dir = self.dir.clone();
        let file = |names: &BTreeMap<String, Thing>, name: &str| {
            names.get(name).filter(|t| t.content.is_some()).map(|t| t.fh.clone())
        };
        Some(match step {
            Step::Create(name) => Op::Create(dir, name.into()),
            Step::Mkdir(name) => Op::Mkdir(dir, name.into()),
            Step::Write(name) => Op::Write(file(&self.names, name)?, 1, self.value()),
            Step::Cut(name) => Op::Truncate(file(&self.names, name)?, 1),
            Step::Remove(name) => {
                file(&self.names, name)?;
                Op::Remove(dir, name.into())
            }
            Step::Rmdir(name) => {
                self.names.get(name).filter(|t| t.content.is_none())?;
                Op::Rmdir(dir, name.into())
            }
            Step::Rename(from, to) => {
                file(&self.names, from)?;
                Op::Rename(dir, from.into(), to.into())
            }
            Step::Link(from, to) => Op::Link(file(&self.names, from)?, dir, to.into()),
        })
    }

    fn value(&mut self) -> u64 {
        self.next_value += 1;
        self.next_value
    }

    /// What to do next.
    pub fn next(&mut self, rng: &mut Rng) -> Op {
        let dir = self.dir.clone();
        let name = format!("n{}", rng.between(1, NAMES));
        let other = format!("n{}", rng.between(1, NAMES));
        let there = self.names.get(&name).cloned();
        let is_file = |thing: &Thing| thing.content.is_some();
        match (rng.between(0, 11), there) {
            (0, _) => Op::ReadDir(dir),
            (1, _) => Op::Lookup(dir, name),
            (2, None) => Op::Mkdir(dir, name),
            (3, None) => Op::CreateExclusive(dir, name, self.value()),
            // What must fail, fails: also when it is sent twice.
            (4, _) => Op::Create(dir, name),
            (_, None) => Op::Create(dir, name),
            (5, Some(thing)) if is_file(&thing) => Op::Remove(dir, name),
            (6, Some(thing)) => {
                let target = self.names.get(&other);
                let fits =
                    name != other && target.is_none_or(|t| is_file(t) && is_file(&thing) && t.id != thing.id);
                if fits { Op::Rename(dir, name, other) } else { Op::GetAttr(thing.fh) }
            }
            (7, Some(thing)) if is_file(&thing) && name != other => Op::Link(thing.fh, dir, other),
            (8, Some(thing)) if is_file(&thing) => Op::Truncate(thing.fh, rng.between(0, BLOCKS)),
            (9, Some(thing)) if is_file(&thing) => Op::Read(thing.fh),
            (_, Some(thing)) if is_file(&thing) => {
                Op::Write(thing.fh, rng.between(0, BLOCKS - 1), self.value())
            }
            (_, Some(_)) => Op::Rmdir(dir, name),
        }
    }

    /// The operation was answered: is that what had to come? Whatever it was, it is done now.
    pub fn answered(&mut self, op: &Op, answer: &Answer) -> Result<(), String> {
        let wrong = |expected: String| Err(format!("{op:?} is answered by {answer:?}, not by {expected}"));
        let expected = match op {
            Op::Create(_, name) | Op::CreateExclusive(_, name, _) | Op::Mkdir(_, name) => {
                if self.names.contains_key(name) {
                    Answer::Failed(ops::EXIST)
                } else {
                    let Answer::Object(fh, id) = answer else { return wrong("a new object".into()) };
                    if !self.ids.insert(*id) {
                        return wrong("an id that was never used before".into());
                    }
                    let content = (!matches!(op, Op::Mkdir(..))).then(|| {
                        self.contents.push(Vec::new());
                        self.contents.len() - 1
                    });
                    self.names.insert(name.clone(), Thing { fh: fh.clone(), id: *id, content });
                    return Ok(());
                }
            }
            Op::Lookup(_, name) => match self.names.get(name) {
                Some(thing) => Answer::Object(thing.fh.clone(), thing.id),
                None => Answer::Failed(ops::NOENT),
            },
            Op::GetAttr(fh) => match self.names.values().find(|t| t.fh == *fh) {
                Some(thing) => Answer::Object(thing.fh.clone(), thing.id),
                None => Answer::Failed(ops::STALE),
            },
            Op::Remove(_, name) | Op::Rmdir(_, name) => {
                self.names.remove(name);
                Answer::Done
            }
            Op::Rename(_, from, to) => self.renamed(from, to),
            Op::Link(fh, _, name) => {
                if self.names.contains_key(name) {
                    Answer::Failed(ops::EXIST)
                } else {
                    if let Some(thing) = self.names.values().find(|t| t.fh == *fh).cloned() {
                        self.names.insert(name.clone(), thing);
                    }
                    Answer::Done
                }
            }
            Op::Write(fh, block, value) => {
                if let Some(content) = self.content(fh) {
                    let at = usize::try_from(*block).unwrap_or(0);
                    if content.len() <= at {
                        content.resize(at + 1, 0);
                    }
                    content[at] = *value;
                }
                Answer::Done
            }
            Op::Truncate(fh, blocks) => {
                if let Some(content) = self.content(fh) {
                    content.resize(usize::try_from(*blocks).unwrap_or(0), 0);
                }
                Answer::Done
            }
            Op::Read(fh) => Answer::Blocks(self.content(fh).cloned().unwrap_or_default()),
            Op::ReadDir(_) => return self.listed(op, answer),
            Op::Mount(_) | Op::CreateAnyhow(..) | Op::Lock(..) | Op::Unlock(..) => {
                return wrong("nothing".into());
            }
        };
        if *answer == expected { Ok(()) } else { wrong(format!("{expected:?}")) }
    }

    /// A file's name, as the callers take care; RFC 1813 section 3.3.14.
    fn renamed(&mut self, from: &str, to: &str) -> Answer {
        let (file, target) = (self.names.get(from).cloned(), self.names.get(to));
        let is_dir = |thing: Option<&Thing>| thing.is_some_and(|t| t.content.is_none());
        match file {
            Some(thing) if thing.content.is_some() && is_dir(target) => Answer::Failed(ops::ISDIR),
            // Two names of one file: nothing happens.
            Some(thing) if target.is_some_and(|t| t.id == thing.id) => Answer::Done,
            Some(thing) => {
                self.names.remove(from);
                self.names.insert(to.to_owned(), thing);
                Answer::Done
            }
            None => Answer::Failed(ops::NOENT),
        }
    }

    fn content(&mut self, fh: &Fh) -> Option<&mut Vec<u64>> {
        let content = self.names.values().find(|t| t.fh == *fh)?.content?;
        self.contents.get_mut(content)
    }

    fn listed(&mut self, op: &Op, answer: &Answer) -> Result<(), String> {
        let Answer::Names(names) = answer else { return Err(format!("{op:?} is answered by {answer:?}")) };
        let seen: Vec<(&String, u64)> = names.iter().map(|(name, id, _)| (name, *id)).collect();
        let expected: Vec<(&String, u64)> = self.names.iter().map(|(name, thing)| (name, thing.id)).collect();
        if seen != expected {
            return Err(format!("a listing says {seen:?}, not {expected:?}"));
        }
        let mut cookies = std::collections::BTreeSet::new();
        if !names.iter().all(|(_, _, cookie)| cookies.insert(*cookie)) {
            return Err(format!("one cookie for two entries: {names:?}"));
        }
        Ok(())
    }

    /// What reads the whole directory back, operation by operation: for the end of a run.
    pub fn read_back(&self) -> Vec<Op> {
        let reads = self.names.values().filter(|t| t.content.is_some()).map(|t| Op::Read(t.fh.clone()));
        std::iter::once(Op::ReadDir(self.dir.clone())).chain(reads).collect()
    }
}
