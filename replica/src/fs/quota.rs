//! Quota: what an export may hold, and what it holds.
//!
//! Both are replicated state. The totals move with the inodes in the entry that changes them, so they are exact at
//! every index, after replay and in an image; nothing is ever counted anew. An entry that made a total grow past its
//! limit is dropped as a whole: NFS3ERR_DQUOT, and no effect. What makes no total grow (removal, truncation, RENAME,
//! LINK, a WRITE over what is there) succeeds also where the export already holds more than a lowered quota allows.

use super::meta::Meta;
use super::{Fs, FsStat, Quota, Status, Usage};

impl Usage {
    /// What these totals say.
    pub(super) fn of(meta: &Meta) -> Self {
        Self { bytes: meta.bytes, inodes: meta.files }
    }
}

impl Quota {
    /// May the totals move like this?
    fn allows(&self, before: Usage, after: Usage) -> bool {
        let fits = |limit: u64, before: u64, after: u64| limit == 0 || after <= before || after <= limit;
        fits(self.bytes, before.bytes, after.bytes) && fits(self.inodes, before.inodes, after.inodes)
    }

    /// The host's figures as a client may see them: never more than the quota, never more than the host has.
    pub(super) fn limit(&self, usage: Usage, host: FsStat) -> FsStat {
        let total = |limit: u64, host: u64| if limit == 0 { host } else { host.min(limit) };
        let free = |limit: u64, used: u64, host: u64| {
            if limit == 0 { host } else { host.min(limit.saturating_sub(used)) }
        };
        FsStat {
            total_bytes: total(self.bytes, host.total_bytes),
            free_bytes: free(self.bytes, usage.bytes, host.free_bytes),
            total_files: total(self.inodes, host.total_files),
            free_files: free(self.inodes, usage.inodes, host.free_files),
        }
    }
}

/// NFS3ERR_DQUOT where an operation made a total grow past its limit.
pub(super) fn check(before: &Meta, after: &Meta) -> Result<(), Status> {
    if after.quota.allows(Usage::of(before), Usage::of(after)) { Ok(()) } else { Err(Status::DQuot) }
}

impl Fs {
    /// The limits in force.
    pub fn quota(&self) -> Quota {
        self.view.read().meta.quota
    }

    /// What the export holds.
    pub fn usage(&self) -> Usage {
        Usage::of(&self.view.read().meta)
    }
}
