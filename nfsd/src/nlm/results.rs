//! Statuses and results, and the arguments of the one procedure that we call ourselves (GRANTED).

use replica::fs::locks::{LockStatus, LockView};

use super::args::Version;
use crate::xdr::Encoder;

/// A status's number in a version: those before 4 end at DENIED_GRACE_PERIOD. As knfsd translates: a deadlock is a
/// denial, everything else is "no locks", after which the client gives up.
pub(super) fn number(version: Version, stat: LockStatus) -> u32 {
    let known = match stat {
        _ if version == Version::V4 => stat,
        LockStatus::Deadlock => LockStatus::Denied,
        LockStatus::ReadOnly | LockStatus::Stale | LockStatus::TooBig | LockStatus::Failed => {
            LockStatus::NoLocks
        }
        _ => stat,
    };
    known as u32
}

/// nlm_res, nlm4_res.
pub(super) fn res(version: Version, cookie: &[u8], stat: LockStatus) -> Encoder {
    let mut e = Encoder::with_capacity(cookie.len().saturating_add(12));
    e.opaque(cookie).u32(number(version, stat));
    e
}

/// nlm_testres, nlm4_testres. A denial always tells who is in the way; without, it would not decode.
pub(super) fn test_res(
    version: Version,
    cookie: &[u8],
    found: Result<Option<&LockView>, LockStatus>,
) -> Encoder {
    match found {
        Ok(None) => res(version, cookie, LockStatus::Granted),
        Ok(Some(holder)) => {
            let mut e = res(version, cookie, LockStatus::Denied);
            e.bool(holder.exclusive).u32(holder.owner.svid).opaque(&holder.owner.oh);
            range(&mut e, version, holder.offset, holder.length);
            e
        }
        Err(LockStatus::Denied | LockStatus::Deadlock) => res(version, cookie, LockStatus::NoLocks),
        Err(stat) => res(version, cookie, stat),
    }
}

/// nlm_shareres. The sequence is of no use to anybody: 0, as in every other server.
pub(super) fn share_res(version: Version, cookie: &[u8], stat: LockStatus) -> Encoder {
    let mut e = res(version, cookie, stat);
    e.u32(0);
    e
}

/// nlm_testargs: what GRANTED is called with. Handle and range are those of the request: clients compare them.
pub(super) fn granted_args(version: Version, cookie: &[u8], fh: &[u8], lock: &LockView) -> Encoder {
    let mut e = Encoder::new();
    e.opaque(cookie).bool(lock.exclusive).opaque(&lock.caller_name).opaque(fh);
    e.opaque(&lock.owner.oh).u32(lock.owner.svid);
    range(&mut e, version, lock.offset, lock.length);
    e
}

/// Offset and length. A 32-bit client hears of what lies past its world as of the last byte of it, to the end.
fn range(e: &mut Encoder, version: Version, offset: u64, length: u64) {
    if version == Version::V4 {
        e.u64(offset).u64(length);
        return;
    }
    let end = offset.saturating_add(length);
    let narrow = if end > u64::from(u32::MAX) { 0 } else { length };
    e.u32(u32::try_from(offset).unwrap_or(u32::MAX)).u32(u32::try_from(narrow).unwrap_or(0));
}

#[cfg(test)]
mod tests {
    //! Goal: what an old client is told means the same as what a new one is told, as far as it has words for it.
    //! Method: each status and the edges of a 32-bit range, against bytes written by hand.

    use super::*;

    #[test]
    fn old_versions_have_five_statuses() {
        use LockStatus::*;
        for (stat, told) in [(Granted, 0), (Denied, 1), (NoLocks, 2), (Blocked, 3), (Grace, 4), (Deadlock, 1)]
        {
            assert_eq!(number(Version::V1, stat), told);
        }
        for stat in [ReadOnly, Stale, TooBig, Failed] {
            assert_eq!(number(Version::V3, stat), 2);
            assert_eq!(number(Version::V4, stat), stat as u32);
        }
    }

    #[test]
    fn ranges_are_narrowed_without_getting_smaller() {
        let narrow = |offset, length| {
            let mut e = Encoder::new();
            range(&mut e, Version::V3, offset, length);
            e.as_slice().to_vec()
        };
        assert_eq!(narrow(5, 7), [0, 0, 0, 5, 0, 0, 0, 7]);
        assert_eq!(narrow(5, 0), [0, 0, 0, 5, 0, 0, 0, 0]);
        assert_eq!(narrow(5, 1 << 33), [0, 0, 0, 5, 0, 0, 0, 0]);
        assert_eq!(narrow(1 << 40, 1), [255, 255, 255, 255, 0, 0, 0, 0]);
    }

    #[test]
    fn a_denied_test_always_has_a_holder() {
        let e = test_res(Version::V4, b"c", Err(LockStatus::Denied));
        assert_eq!(e.as_slice(), [0, 0, 0, 1, b'c', 0, 0, 0, 0, 0, 0, 2]);
    }
}
