//! A naive file system: plain vectors and maps, everything counted anew each time it is asked for. The oracle
//! of `random`. It knows no permissions (all is done by the superuser) and no times.

use std::collections::BTreeMap;

use crate::fs::{Status, ftype};

/// Number of a node, in the order of creation; never reused.
pub type Id = usize;

#[derive(Clone, Debug, PartialEq)]
pub enum Node {
    File(Vec<u8>),
    Dir(BTreeMap<String, Id>),
    Symlink(String),
    Fifo,
}

pub struct Model {
    /// `None`: gone.
    pub nodes: Vec<Option<Node>>,
}

/// What is compared of one path: type, nlink, size, content or target, entries.
pub type Seen = (u32, u32, u64, Vec<u8>);

impl Model {
    pub fn new() -> Self {
        Self { nodes: vec![Some(Node::Dir(BTreeMap::new()))] }
    }

    fn dir(&self, id: Id) -> Result<&BTreeMap<String, Id>, Status> {
        match &self.nodes[id] {
            None => Err(Status::Stale),
            Some(Node::Dir(entries)) => Ok(entries),
            Some(_) => Err(Status::NotDir),
        }
    }

    fn entries(&mut self, id: Id) -> &mut BTreeMap<String, Id> {
        match &mut self.nodes[id] {
            Some(Node::Dir(entries)) => entries,
            _ => panic!("not a directory"),
        }
    }

    fn is_dir(&self, id: Id) -> bool {
        matches!(self.nodes[id], Some(Node::Dir(_)))
    }

    fn names(&self, id: Id) -> u32 {
        let dirs = self.nodes.iter().filter_map(|node| match node {
            Some(Node::Dir(entries)) => Some(entries),
            _ => None,
        });
        dirs.flat_map(|entries| entries.values()).filter(|named| **named == id).count() as u32
    }

    fn nlink(&self, id: Id) -> u32 {
        match &self.nodes[id] {
            Some(Node::Dir(entries)) => 2 + entries.values().filter(|id| self.is_dir(**id)).count() as u32,
            _ => self.names(id),
        }
    }

    fn below(&self, top: Id, id: Id) -> bool {
        if top == id {
            return true;
        }
        match &self.nodes[top] {
            Some(Node::Dir(entries)) => entries.values().any(|child| self.below(*child, id)),
            _ => false,
        }
    }

    fn collect(&mut self, id: Id) {
        if !self.is_dir(id) && self.names(id) == 0 {
            self.nodes[id] = None;
        }
    }

    pub fn make(&mut self, dir: Id, name: &str, node: Node) -> Result<Id, Status> {
        if self.dir(dir)?.contains_key(name) {
            return Err(Status::Exist);
        }
        self.nodes.push(Some(node));
        let id = self.nodes.len() - 1;
        self.entries(dir).insert(name.to_owned(), id);
        Ok(id)
    }

    /// CREATE UNCHECKED with a size of 0 where `truncate`.
    pub fn open(&mut self, dir: Id, name: &str, truncate: bool) -> Result<Id, Status> {
        let Some(id) = self.dir(dir)?.get(name).copied() else {
            return self.make(dir, name, Node::File(Vec::new()));
        };
        match &mut self.nodes[id] {
            Some(Node::File(data)) => {
                if truncate {
                    data.clear();
                }
                Ok(id)
            }
            _ => Err(Status::Exist),
        }
    }

    pub fn link(&mut self, file: Id, dir: Id, name: &str) -> Result<(), Status> {
        if self.nodes[dir].is_none() || self.nodes[file].is_none() {
            return Err(Status::Stale);
        }
        if self.is_dir(file) {
            return Err(Status::IsDir);
        }
        if self.dir(dir)?.contains_key(name) {
            return Err(Status::Exist);
        }
        self.entries(dir).insert(name.to_owned(), file);
        Ok(())
    }

    pub fn remove(&mut self, dir: Id, name: &str) -> Result<(), Status> {
        let id = *self.dir(dir)?.get(name).ok_or(Status::NoEnt)?;
        if self.is_dir(id) {
            return Err(Status::IsDir);
        }
        self.entries(dir).remove(name);
        self.collect(id);
        Ok(())
    }

    pub fn rmdir(&mut self, dir: Id, name: &str) -> Result<(), Status> {
        let id = *self.dir(dir)?.get(name).ok_or(Status::NoEnt)?;
        if !self.dir(id)?.is_empty() {
            return Err(Status::NotEmpty);
        }
        self.entries(dir).remove(name);
        self.nodes[id] = None;
        Ok(())
    }

    pub fn rename(&mut self, from: Id, from_name: &str, to: Id, to_name: &str) -> Result<(), Status> {
        if self.nodes[from].is_none() || self.nodes[to].is_none() {
            return Err(Status::Stale);
        }
        self.dir(to)?;
        let id = *self.dir(from)?.get(from_name).ok_or(Status::NoEnt)?;
        let target = self.dir(to)?.get(to_name).copied();
        if self.is_dir(id) && self.below(id, to) {
            return Err(Status::Inval);
        }
        if let Some(target) = target {
            if from != to && self.is_dir(target) && self.below(target, from) {
                return Err(Status::NotEmpty);
            }
            if target == id {
                return Ok(());
            }
            match (self.is_dir(id), self.is_dir(target)) {
                (true, false) => return Err(Status::NotDir),
                (false, true) => return Err(Status::IsDir),
                (true, true) if !self.dir(target)?.is_empty() => return Err(Status::NotEmpty),
                _ => {}
            }
        }
        self.entries(from).remove(from_name);
        self.entries(to).insert(to_name.to_owned(), id);
        if let Some(target) = target {
            if self.is_dir(target) {
                self.nodes[target] = None;
            }
            if self.nodes[target].is_some() {
                self.collect(target);
            }
        }
        Ok(())
    }

    fn data(&mut self, file: Id) -> Result<&mut Vec<u8>, Status> {
        match &mut self.nodes[file] {
            None => Err(Status::Stale),
            Some(Node::File(data)) => Ok(data),
            Some(Node::Dir(_)) => Err(Status::IsDir),
            Some(_) => Err(Status::Inval),
        }
    }

    pub fn write(&mut self, file: Id, offset: usize, bytes: &[u8]) -> Result<(), Status> {
        let data = self.data(file)?;
        if bytes.is_empty() {
            return Ok(());
        }
        if data.len() < offset + bytes.len() {
            data.resize(offset + bytes.len(), 0);
        }
        data[offset..offset + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    pub fn set_size(&mut self, file: Id, size: usize) -> Result<(), Status> {
        self.data(file)?.resize(size, 0);
        Ok(())
    }

    /// Every path and what is to be seen there.
    pub fn tree(&self) -> Vec<(String, Seen)> {
        let mut all = Vec::new();
        self.walk(0, "/", &mut all);
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }

    fn walk(&self, id: Id, path: &str, all: &mut Vec<(String, Seen)>) {
        let nlink = self.nlink(id);
        let Some(node) = &self.nodes[id] else { panic!("{path} names nothing") };
        let seen = match node {
            Node::File(data) => (ftype::REG, nlink, data.len() as u64, data.clone()),
            Node::Dir(_) => (ftype::DIR, nlink, 4096, Vec::new()),
            Node::Symlink(target) => (ftype::LNK, nlink, target.len() as u64, target.clone().into_bytes()),
            Node::Fifo => (ftype::FIFO, nlink, 0, Vec::new()),
        };
        all.push((path.to_owned(), seen));
        if let Node::Dir(entries) = node {
            for (name, child) in entries {
                let slash = if path.ends_with('/') { "" } else { "/" };
                self.walk(*child, &format!("{path}{slash}{name}"), all);
            }
        }
    }
}
