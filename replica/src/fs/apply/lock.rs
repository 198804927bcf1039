//! Operations on locks: the file that they name is looked up here, the rest is `fs/locks`.
//!
//! Their failures are answers of their own (nlm4_stats), and change nothing.

use proto::op::op::Kind;
use proto::op::{Cred, Handle, LockReply, Op};

use super::tx::{Effect, Tx};
use super::{Done, Stop};
use crate::fs::Status;
use crate::fs::inode::Inode;
use crate::fs::locks::{LockStatus, Locks, Plan, Target, check_file};

/// An operation on locks; `None` where it is of another kind.
pub(super) fn run(tx: &mut Tx<'_>, locks: &Locks, cred: &Cred, op: &Op) -> Result<Option<Done>, Stop> {
    let reply = match &op.kind {
        Some(Kind::Lock(op)) => {
            let check = |inode: &Inode| check_file(inode, cred, op.exclusive);
            on_file(tx, locks, op.file.as_ref(), check, |plan, file| plan.lock(file, op))?
        }
        // Whoever has it may give it up, whatever the file's mode is by now.
        Some(Kind::Unlock(op)) => {
            on_file(tx, locks, op.file.as_ref(), is_file, |plan, file| plan.unlock(file, op))?
        }
        Some(Kind::LockCancel(op)) => {
            on_file(tx, locks, op.file.as_ref(), is_file, |plan, file| plan.cancel(file, op))?
        }
        Some(Kind::Share(op)) => {
            let check = |inode: &Inode| check_file(inode, cred, op.access & FSA_W != 0);
            on_file(tx, locks, op.file.as_ref(), check, |plan, file| plan.share(file, op))?
        }
        Some(Kind::Unshare(op)) => {
            on_file(tx, locks, op.file.as_ref(), is_file, |plan, file| plan.unshare(file, op))?
        }
        Some(Kind::LockCallback(op)) => plan(tx, locks, |plan| plan.callback(op)),
        Some(Kind::FreeAll(op)) => plan(tx, locks, |plan| plan.free_all(op)),
        Some(Kind::ReleaseClient(op)) => plan(tx, locks, |plan| plan.release_client(op)),
        Some(Kind::GraceEnd(_)) => plan(tx, locks, |plan| plan.end_grace()),
        _ => return Ok(None),
    };
    Ok(Some(Done { lock: Some(reply), ..Done::default() }))
}

/// fsa_W, the bit of fsh4_access that writes.
const FSA_W: u32 = 2;

/// What another operation's success means for locks.
pub(super) fn follow(tx: &mut Tx<'_>, locks: &Locks, op: &Op) {
    if let Some(Kind::Incarnation(op)) = &op.kind {
        plan(tx, locks, |plan| {
            plan.start_incarnation();
            // Nobody known is nobody who could be told to claim a lock again.
            if op.locks_lost && plan.knows_clients() {
                plan.start_grace();
            }
        });
    }
    if let Some(Effect::Remove { file }) = tx.planned_effect()
        && locks.concern(file)
    {
        plan(tx, locks, |plan| plan.drop_file(file));
    }
}

fn plan<T>(tx: &mut Tx<'_>, locks: &Locks, run: impl FnOnce(&mut Plan<'_>) -> T) -> T {
    let mut table = locks.write();
    let mut plan = Plan::new(&mut table, tx.meta.applied, tx.clock_ns());
    let reply = run(&mut plan);
    let (rows, granted) = plan.finish();
    tx.add_rows(rows, granted);
    reply
}

fn is_file(inode: &Inode) -> Result<(), LockStatus> {
    if inode.is_file() { Ok(()) } else { Err(LockStatus::Failed) }
}

fn on_file(
    tx: &mut Tx<'_>,
    locks: &Locks,
    handle: Option<&Handle>,
    check: impl FnOnce(&Inode) -> Result<(), LockStatus>,
    run: impl FnOnce(&mut Plan<'_>, Target) -> LockReply,
) -> Result<LockReply, Stop> {
    let inode = match tx.resolve(handle) {
        Ok(inode) => check(&inode).map(|()| inode),
        Err(Stop::Status(Status::Stale | Status::BadHandle)) => Err(LockStatus::Stale),
        Err(stop) => return Err(stop),
    };
    Ok(match inode {
        Ok(Inode { file, generation, .. }) => plan(tx, locks, |plan| run(plan, Target { file, generation })),
        Err(status) => LockReply { stat: status as u32, freed: 0 },
    })
}
