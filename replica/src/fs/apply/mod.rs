//! `apply`: one entry's effect on the state, and its reply.
//!
//! An operation is planned on a [`Tx`] and becomes visible at once or, where it fails, not at all; its failure is
//! a reply like any other. Which row is written in which order follows from the operation alone.

mod create;
mod lock;
mod mount;
mod remove;
mod rename;
mod setattr;
mod tx;
mod write;

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use proto::op::op::Kind;
use proto::op::{Cred, LockReply, OP_VERSION, Op, Reply};

use self::tx::{Effect, Tx};
use super::checkpoint::disk;
use super::kv::StoreError;
use super::locks::Locks;
use super::machine::{Machine, View};
use super::meta::Meta;
use super::reply_cache::{self, Key};
use super::{ApplyError, Fs, Quota, Status};
use crate::ids::FileId;
use crate::log::{LogIndex, Term};
use crate::planted::{Planted, planted};

/// Why an operation ends early.
pub(super) enum Stop {
    /// It fails, and this is its reply's status.
    Status(Status),
    /// A store failed: no replica can say what the reply is, this one stops.
    Store(io::Error),
}

impl From<Status> for Stop {
    fn from(status: Status) -> Self {
        Self::Status(status)
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Store(error)
    }
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Store(error.into())
    }
}

/// What a successful operation's reply says beyond attributes around it.
#[derive(Default)]
pub(super) struct Done {
    /// The object that was made or linked.
    pub object: Option<FileId>,
    /// Bytes written.
    pub count: u32,
    /// What came of an operation on locks.
    pub lock: Option<LockReply>,
}

impl Done {
    /// This object was made or linked.
    pub(super) fn object(file: FileId) -> Self {
        Self { object: Some(file), ..Self::default() }
    }
}

/// Who has no credentials: nobody, by the number that Linux uses.
const NOBODY: u32 = 65_534;

impl Fs {
    /// Applies the next entry. `index` follows the last one; anything else is a bug and panics. An entry with
    /// an empty op (raft-rs's own) only moves the index. After an error nothing more may be applied.
    pub fn apply(
        &self,
        index: LogIndex,
        term: Term,
        op: Option<&Op>,
        payload: &Bytes,
    ) -> Result<Arc<Reply>, ApplyError> {
        let mut machine = self.machine.lock();
        let mut meta = self.view.read().meta;
        assert_eq!(index, meta.applied + 1, "entries are applied in order");
        meta.applied = index;
        meta.term = term;
        let Some(op) = op else { return Ok(self.move_on(&mut machine, meta)) };
        check_version(op, index)?;
        let key = op.call.as_ref().map(Key::new);
        if let Some(key) = &key {
            let kept = machine.reply_cache.get(&self.kv, key).map_err(read_failed)?;
            if let Some(kept) = kept {
                return self.answer_again(&mut machine, meta, kept);
            }
        }
        // Planted: each replica's own clock.
        let local = planted(Planted::LocalClockInApply);
        let clock_ns = if local { crate::clock::wall_ns() } else { op.clock_ns };
        let mut tx = Tx::new(&self.kv, meta, clock_ns);
        let reply = match run(&mut tx, &self.locks, op, payload) {
            Ok(done) => tx.reply(&done),
            Err(Stop::Status(status)) => tx.failure(status),
            Err(Stop::Store(error)) => return Err(read_failed(error)),
        };
        self.commit(&mut machine, tx, key, &reply, payload)?;
        Ok(Arc::new(reply))
    }

    /// An entry that changes nothing.
    fn move_on(&self, machine: &mut Machine, mut meta: Meta) -> Arc<Reply> {
        machine.digest.start(meta.applied, meta.term);
        machine.digest.finish(&mut meta);
        self.view.write().meta = meta;
        Arc::new(Reply::default())
    }

    /// A retransmission: the first answer, and no second effect.
    fn answer_again(
        &self,
        machine: &mut Machine,
        mut meta: Meta,
        kept: Bytes,
    ) -> Result<Arc<Reply>, ApplyError> {
        machine.digest.start(meta.applied, meta.term);
        machine.digest.reply(&kept);
        machine.digest.finish(&mut meta);
        self.view.write().meta = meta;
        let reply = reply_cache::decode(kept).map_err(read_failed)?;
        Ok(Arc::new(reply))
    }

    /// Makes an entry's effects visible: content before the size that shows it, rows and meta at once, what
    /// takes content away last.
    fn commit(
        &self,
        machine: &mut Machine,
        tx: Tx<'_>,
        key: Option<Key>,
        reply: &Reply,
        payload: &Bytes,
    ) -> Result<(), ApplyError> {
        let calls_back = tx.calls_back();
        let (mut meta, mut rows, effect) = tx.finish();
        let index = meta.applied;
        machine.digest.start(index, meta.term);
        if let Some(Effect::Write { file, offset }) = effect {
            machine.digest.content(file, offset, payload);
            let written = self.content.write(index, file, offset, payload);
            written.map_err(|error| disk("write content", error))?;
        }
        let encoded = reply.encode_to_vec();
        if let Some(key) = key {
            let insertion = machine.reply_cache.insert(&key, &encoded);
            rows.push((Bytes::copy_from_slice(&insertion.key), Some(insertion.row)));
            rows.extend(insertion.evicted.iter().map(|key| (Bytes::copy_from_slice(key), None)));
        }
        for (key, value) in &rows {
            machine.digest.row(key, value.as_ref());
        }
        machine.digest.totals(&meta);
        machine.digest.reply(&encoded);
        machine.digest.finish(&mut meta);
        {
            let mut view = self.view.write();
            for (key, value) in rows {
                match value {
                    Some(value) => self.kv.put(key, value),
                    None => self.kv.delete(key),
                }
            }
            let cuts = matches!(effect, Some(Effect::Truncate { .. } | Effect::Remove { .. }));
            *view = View {
                meta,
                replies: machine.reply_cache.entries(),
                reply_bytes: machine.reply_cache.bytes(),
                cuts: view.cuts + u64::from(cuts),
            };
        }
        if calls_back {
            self.locks.announce();
        }
        match effect {
            Some(Effect::Truncate { file, len }) => self.content.truncate(index, file, len),
            Some(Effect::Remove { file }) => self.content.remove(index, file),
            Some(Effect::Write { .. }) | None => Ok(()),
        }
        .map_err(|error| disk("cut content", error))
    }
}

fn read_failed(error: io::Error) -> ApplyError {
    disk("read metadata", error)
}

/// Refuses what a newer hanfs made: to skip it would be to diverge.
fn check_version(op: &Op, index: LogIndex) -> Result<(), ApplyError> {
    if op.version > OP_VERSION || op.kind.is_none() {
        return Err(ApplyError::Version { index, version: op.version });
    }
    Ok(())
}

/// One operation, planned.
fn run(tx: &mut Tx<'_>, locks: &Locks, op: &Op, payload: &Bytes) -> Result<Done, Stop> {
    let nobody = Cred { uid: NOBODY, gid: NOBODY, gids: Vec::new() };
    let cred = op.cred.as_ref().unwrap_or(&nobody);
    if let Some(done) = lock::run(tx, locks, cred, op)? {
        return Ok(done);
    }
    let done = run_on_files(tx, cred, op, payload)?;
    tx.check_growth(op)?;
    lock::follow(tx, locks, op);
    Ok(done)
}

fn run_on_files(tx: &mut Tx<'_>, cred: &Cred, op: &Op, payload: &Bytes) -> Result<Done, Stop> {
    match &op.kind {
        // Planted: each replica draws its own.
        Some(Kind::Incarnation(_)) if planted(Planted::RandomInApply) => {
            tx.start_incarnation(crate::random::random_u64().unwrap_or_default())
        }
        Some(Kind::Incarnation(new)) => tx.start_incarnation(new.verifier),
        Some(Kind::AdoptWitness(new)) => {
            tx.meta.witness = new.identity;
            Ok(Done::default())
        }
        Some(Kind::SetAttr(op)) => setattr::setattr(tx, cred, op),
        Some(Kind::Write(op)) => write::write(tx, cred, op, payload.len()),
        Some(Kind::Create(op)) => create::create(tx, cred, op),
        Some(Kind::Mkdir(op)) => create::mkdir(tx, cred, op),
        Some(Kind::Symlink(op)) => create::symlink(tx, cred, op),
        Some(Kind::Mknod(op)) => create::mknod(tx, cred, op),
        Some(Kind::Remove(op)) => remove::remove(tx, cred, op),
        Some(Kind::Rmdir(op)) => remove::rmdir(tx, cred, op),
        Some(Kind::Rename(op)) => rename::rename(tx, cred, op),
        Some(Kind::Link(op)) => create::link(tx, cred, op),
        Some(Kind::SetQuota(new)) => {
            tx.meta.quota = Quota { bytes: new.bytes, inodes: new.inodes };
            Ok(Done::default())
        }
        Some(Kind::MountAdd(op)) => mount::add(tx, op),
        Some(Kind::MountRemove(op)) => mount::remove(tx, op),
        // Operations on locks have had their turn.
        _ => Err(Status::ServerFault.into()),
    }
}
