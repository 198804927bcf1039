//! The exports that a listener shows, and what their clients may do.
//!
//! Which exports an [`Exports`] has is fixed for the life of its service: each virtual IP has one of its own,
//! so a handle of an export that lives behind another address finds nothing here. Whom they admit may change
//! at any time (see `access`); [`Exports::admit`] is the one place where every program asks.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use replica::handle::GroupHandle;
use replica::ids::ExportId;

use crate::access::{Access, AccessList, Verdict};
use crate::names::{Names, Proof};
use crate::rpc::{Call, Cred, Transport};

/// Whose identity is taken away from a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Squash {
    /// uid 0 and gid 0 become the anonymous ones (root_squash).
    #[default]
    Root,
    /// Everybody is anonymous (all_squash).
    All,
    /// Nobody; the client's root is root here (no_root_squash).
    None,
}

/// How long a call waits for its client's name.
const NAME_WAIT: Duration = Duration::from_secs(2);

/// nobody and nogroup of most systems.
pub const ANONYMOUS_ID: u32 = 65_534;

/// What the clients of an export may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExportPolicy {
    /// Everything that changes the file system is refused with NFS3ERR_ROFS.
    pub read_only: bool,
    /// Whose identity is taken away.
    pub squash: Squash,
    /// The anonymous user.
    pub anon_uid: u32,
    /// The anonymous group.
    pub anon_gid: u32,
}

impl Default for ExportPolicy {
    fn default() -> Self {
        Self { read_only: false, squash: Squash::Root, anon_uid: ANONYMOUS_ID, anon_gid: ANONYMOUS_ID }
    }
}

impl ExportPolicy {
    /// Whom the file system sees. AUTH_NONE is always anonymous. Under root_squash the ids are taken away one
    /// by one, as knfsd does: uid 0, gid 0, and each supplementary 0.
    pub fn squash(&self, cred: &Cred) -> proto::op::Cred {
        let anonymous = || proto::op::Cred { uid: self.anon_uid, gid: self.anon_gid, gids: Vec::new() };
        match cred {
            Cred::AuthNone => anonymous(),
            Cred::AuthSys { uid, gid, gids, .. } => {
                let map = |id: u32, anon: u32| if id == 0 { anon } else { id };
                match self.squash {
                    Squash::All => anonymous(),
                    Squash::None => proto::op::Cred { uid: *uid, gid: *gid, gids: gids.clone() },
                    Squash::Root => proto::op::Cred {
                        uid: map(*uid, self.anon_uid),
                        gid: map(*gid, self.anon_gid),
                        gids: gids.iter().map(|g| map(*g, self.anon_gid)).collect(),
                    },
                }
            }
        }
    }
}

/// One export and what one client may do with it; put into a server, what everybody may. Cheap to clone.
#[derive(Clone)]
pub struct ExportEntry {
    /// The replicated file system.
    pub handle: GroupHandle,
    /// What may be done.
    pub policy: ExportPolicy,
}

/// One export behind a listener. Cheap to clone.
#[derive(Clone)]
pub struct Shown {
    /// The replicated file system.
    pub handle: GroupHandle,
    /// Whom it admits.
    pub access: Arc<Access>,
}

impl From<ExportEntry> for Shown {
    fn from(entry: ExportEntry) -> Self {
        let access = Access::new(AccessList::everybody(entry.policy, false), Names::nobody());
        Self { handle: entry.handle, access }
    }
}

/// Why a client gets nothing of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no such export here.
    Unknown,
    /// The access list does not admit the client.
    Denied,
    /// It hangs on the client's name, which is not known yet.
    Undecided,
    /// Nothing may be said for an export without its lease.
    NotServing,
}

impl Shown {
    /// What the caller may do here.
    pub fn admit(&self, call: &Call) -> Result<ExportEntry, Refusal> {
        let proof = if call.transport == Transport::Tcp { Proof::Proven } else { Proof::Claimed };
        let refusal = match self.access.verdict(call.client, proof) {
            Verdict::Allowed(policy) => return Ok(ExportEntry { handle: self.handle.clone(), policy }),
            Verdict::Denied => Refusal::Denied,
            Verdict::Undecided => Refusal::Undecided,
        };
        // A "no" is an answer like any other: only who holds the lease gives it.
        Err(if self.handle.serving() { refusal } else { Refusal::NotServing })
    }
}

/// The exports of one service, by id.
#[derive(Clone, Default)]
pub struct Exports {
    by_id: HashMap<ExportId, Shown>,
}

impl<E: Into<Shown>> FromIterator<E> for Exports {
    fn from_iter<T: IntoIterator<Item = E>>(entries: T) -> Self {
        Self { by_id: entries.into_iter().map(Into::into).map(|e| (e.handle.id(), e)).collect() }
    }
}

impl Exports {
    /// What the caller may do with an export.
    pub fn admit(&self, id: ExportId, call: &Call) -> Result<ExportEntry, Refusal> {
        self.by_id.get(&id).ok_or(Refusal::Unknown)?.admit(call)
    }

    /// Why the caller may use none of them, so that it is not told what exists; `None` where it may.
    pub fn refusal_by_all(&self, call: &Call) -> Option<Refusal> {
        let refusals: Vec<_> = self.by_id.values().map(|shown| shown.admit(call).err()).collect();
        if refusals.iter().any(Option::is_none) {
            return None;
        }
        let first = |wanted: Refusal| refusals.iter().flatten().copied().find(|r| *r == wanted);
        first(Refusal::Undecided).or(first(Refusal::Denied)).or(first(Refusal::NotServing))
    }

    /// Waits until all know what the client may do, `NAME_WAIT` at most. Its call is taken anew then, and
    /// finds out whether it was long enough.
    pub async fn decided(&self, call: &Call) {
        let all = async {
            for shown in self.by_id.values() {
                shown.access.decided(call.client).await;
            }
        };
        _ = tokio::time::timeout(NAME_WAIT, all).await;
    }

    /// All of them, in the order of their paths.
    pub fn all(&self) -> Vec<&Shown> {
        let mut all: Vec<_> = self.by_id.values().collect();
        all.sort_by(|a, b| a.handle.path().cmp(b.handle.path()));
        all
    }
}

#[cfg(test)]
mod tests {
    //! Goal: a client's root is nobody here unless the administrator says otherwise. Method: each policy
    //! against root and an ordinary user.

    use super::*;

    fn sys(uid: u32, gid: u32, gids: &[u32]) -> Cred {
        Cred::AuthSys { stamp: 1, machine: bytes::Bytes::new(), uid, gid, gids: gids.to_vec() }
    }

    fn seen(squash: Squash, cred: &Cred) -> (u32, u32, Vec<u32>) {
        let cred = ExportPolicy { squash, anon_uid: 91, anon_gid: 92, ..Default::default() }.squash(cred);
        (cred.uid, cred.gid, cred.gids)
    }

    #[test]
    fn ids_are_taken_away_as_the_policy_says() {
        assert_eq!(seen(Squash::Root, &sys(0, 0, &[0, 5])), (91, 92, vec![92, 5]));
        assert_eq!(seen(Squash::Root, &sys(1000, 100, &[27])), (1000, 100, vec![27]));
        assert_eq!(seen(Squash::None, &sys(0, 0, &[0])), (0, 0, vec![0]));
        assert_eq!(seen(Squash::All, &sys(1000, 100, &[27])), (91, 92, vec![]));
        assert_eq!(seen(Squash::None, &Cred::AuthNone), (91, 92, vec![]));
    }
}
